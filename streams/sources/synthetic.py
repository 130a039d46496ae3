"""A seeded synthetic market: minute bars of any number of symbols, fast and always the same.

A symbol's session depends on (seed, symbol, session) alone, not on what else is asked for, nor on
how the range is cut. Prices walk continuously over sessions on a grid of 0.01; within a session a
path is a mix of two of ``PATTERNS`` Brownian bridges that the whole market shares (as the factors
of a market), pinned to the walk's values at the session's two ends. That costs a few passes over
the columns and no random number a bar. Only +, -, *, / and roots touch a bar, all exact in IEEE
754, so the bars are the same on every machine and for every number of symbols together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Self

import numpy as np

from schemas.records import BarBlock, Floats, Longs
from streams.calendar import Session
from streams.intervals import MINUTE_NS
from streams.sources.dice import ALL_BITS, Hashes, keys_of, mix, share_of
from streams.sources.options import Options
from streams.sources.protocol import Answer, Part
from streams.sources.rows import bar_block
from streams.sources.spans import sessions_in

__all__ = ["SyntheticSource"]

PATTERNS = 32
BLOCK_ROWS = 13_500
"""Rows of a block: what fits in one message, and in the cache while it is made."""
CYCLE = 256
"""Sessions between the fixed points of the walk by the day: over years a price comes back."""
OPTIONS = ("symbols", "seed", "calendar", "hours", "missing", "bad", "late", "vouch", "delay_ms")


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    """The market.

    Attributes
    ----------
    count
        Number of symbols, named SYN0001, SYN0002, …
    seed
        Two seeds give two markets.
    calendar, hours
        Whose sessions have bars, half-days included; see ``streams.calendar``.
    missing
        Share of minutes without a bar, 0 to 1.
    bad
        Share of bars that make no sense (in turn: NaN, high below low, a negative price).
    late
        Share of bars given out of order: behind all others of the load.
    vouch
        Whether it vouches that there was no trade in the minutes without a bar; else it can't say.
    delay_ms
        Wait before each session, to stand for a slow source.
    """

    count: int = 500
    seed: int = 0
    calendar: str = "XNYS"
    hours: str = "regular"
    missing: float = 0.0
    bad: float = 0.0
    late: float = 0.0
    vouch: bool = True
    delay_ms: float = 0.0
    name: str = "synthetic"
    streams: ClassVar[tuple[str, ...]] = ("bars",)

    @classmethod
    def open(cls, text: str) -> Self:
        """Return the market that ``text`` (``key=value,key=value``) describes."""
        options = Options("synthetic", text, OPTIONS, ",")
        return cls(
            count=options.whole("symbols", 500, 1, 100_000),
            seed=options.whole("seed", 0, 0, 2**53),
            calendar=options.text("calendar", "XNYS"),
            hours=options.text("hours", "regular"),
            missing=options.number("missing", 0.0, 0.0, 1.0),
            bad=options.number("bad", 0.0, 0.0, 1.0),
            late=options.number("late", 0.0, 0.0, 1.0),
            vouch=bool(options.whole("vouch", 1, 0, 1)),
            delay_ms=options.number("delay_ms", 0.0, 0.0, 3_600_000.0),
        )

    def symbols(self) -> tuple[str, ...]:
        """Return all symbols, sorted."""
        return tuple(sorted(f"SYN{number:04d}" for number in range(1, self.count + 1)))

    def sessions(self) -> tuple[str, str] | None:
        """Return None: it has every session of its calendar."""
        return None

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give the minute bars; of other streams, intervals and symbols it can't say."""
        known = _members(self.count)
        mine = tuple(s for s in symbols if s in known)
        others = tuple(s for s in symbols if s not in known)
        if stream != "bars" or interval_ns != MINUTE_NS:
            mine, others = (), tuple(symbols)
        if others:
            yield Answer(others, "cannot_say")
        if not mine:
            return
        late: list[BarBlock] = []
        sessions = sessions_in(self.calendar, self.hours, start_ns, end_ns)
        for session in sessions:
            if self.delay_ms:
                time.sleep(self.delay_ms / 1000)
            for block in self._session(session, mine, start_ns, end_ns):
                yield self._spoil(block, late)
        yield from late
        yield Answer(mine, "rows" if sessions else "nothing", vouched=self.vouch)

    def _session(
        self, session: Session, symbols: tuple[str, ...], start_ns: int, end_ns: int
    ) -> Iterator[BarBlock]:
        starts = session.starts(MINUTE_NS)
        first, last = (int(n) for n in np.searchsorted(starts, (start_ns, end_ns)))
        if first == last:
            return
        number = _ordinal(session.label, self.calendar)
        patterns = _patterns(self.seed, number, len(starts))
        paths = _Paths.of(self.seed, symbols, number)
        step = max(1, BLOCK_ROWS // len(starts))
        for low in range(0, len(symbols), step):
            part = slice(low, low + step)
            *prices, volume = _draw(patterns, paths, part, first, last)
            names = symbols[part]
            minutes = last - first
            yield bar_block(
                names,
                np.repeat(np.arange(len(names), dtype=np.int32), minutes),
                np.tile(starts[first:last], len(names)),
                interval_ns=MINUTE_NS,
                prices=prices,
                volume=volume,
            )

    def _spoil(self, block: BarBlock, late: list[BarBlock]) -> BarBlock:
        """Take minutes away, hold late bars back in ``late``, make bars senseless."""
        if not (self.missing or self.bad or self.late):
            return block
        minutes = (block.ts_ns // MINUTE_NS).view(np.uint64)
        dice = mix(keys_of(self.seed, block.symbols)[block.symbol] ^ mix(minutes))
        if self.missing:
            kept = share_of(dice) >= self.missing
            block, dice = block.take(kept), dice[kept]
        if self.bad:
            dice = mix(dice)
            for kind, column in enumerate((block.close, block.high, block.low)):
                hit = (share_of(dice) < self.bad) & (dice % np.uint64(3) == kind)
                column[hit] = (np.nan, 0.0, -1.0)[kind]
        if self.late:
            held = share_of(mix(dice)) < self.late
            if held.any():
                late.append(block.take(held))
                block = block.take(~held)
        return block


def _draw(
    patterns: _Patterns, paths: _Paths, part: slice, first: int, last: int
) -> tuple[Floats, ...]:
    """Return open, high, low, close, volume of minutes [first, last), flat, symbol by symbol."""
    one, two = paths.one[part], paths.two[part]
    # One more boundary than minutes: a bar closes where the next one opens.
    ticks = patterns.bridges[one, first : last + 1]
    ticks *= paths.swing_one[part, None]
    other = patterns.bridges[two, first : last + 1]
    other *= paths.swing_two[part, None]
    ticks += other
    np.multiply(paths.change[part, None], patterns.elapsed[first : last + 1], out=other)
    ticks += other
    ticks += paths.open[part, None]
    np.rint(ticks, out=ticks)
    np.maximum(ticks, 1.0, out=ticks)
    opens, closes = ticks[:, :-1], ticks[:, 1:]
    highs = _whole(patterns.wicks[one, first:last], paths.swing[part, None])
    highs += np.maximum(opens, closes)
    lows = _whole(patterns.wicks[two, first:last], paths.swing[part, None])
    np.subtract(np.minimum(opens, closes), lows, out=lows)
    np.maximum(lows, 1.0, out=lows)
    volumes = _whole(patterns.volumes[two, first:last], paths.volume[part, None])
    np.maximum(volumes, 1.0, out=volumes)
    for cents in (ticks, highs, lows):
        # A division by 100 gives the float nearest to the price.
        np.divide(cents, 100.0, out=cents)
    return opens.ravel(), highs.ravel(), lows.ravel(), closes.ravel(), volumes.ravel()


def _whole(share: Floats, unit: Floats) -> Floats:
    share *= unit
    return np.rint(share, out=share)


@dataclass(frozen=True, slots=True, eq=False)
class _Patterns:
    """What the market shares in one session of M minutes.

    ``bridges`` (PATTERNS, M + 1) are 0 at both ends, of unit variance a session; ``wicks`` and
    ``volumes`` (PATTERNS, M) are not negative; ``elapsed`` (M + 1) runs from 0 to 1.
    """

    bridges: Floats
    wicks: Floats
    volumes: Floats
    elapsed: Floats


@lru_cache(maxsize=8)
def _patterns(seed: int, session: int, minutes: int) -> _Patterns:
    # Trading is busiest at the open and the close: the U of every intraday volume study; a
    # market that never closes is flatter.
    middle = (2.0 * np.arange(minutes) + 1.0 - minutes) / minutes
    busy = 1.0 + (4.0 if minutes < 1200 else 0.5) * middle * middle * middle * middle
    weight = busy / (busy.sum() / minutes)
    elapsed = np.concatenate(([0.0], np.cumsum(weight)))
    elapsed /= elapsed[-1]
    raw = np.random.Philox(key=np.array([seed, session & ALL_BITS], np.uint64)).random_raw(
        3 * PATTERNS * minutes
    )
    steps, wicks, trades = raw.reshape(3, PATTERNS, minutes)
    scale = np.sqrt(np.diff(elapsed))
    walk = np.zeros((PATTERNS, minutes + 1))
    np.cumsum(_normal(steps) * scale, axis=1, out=walk[:, 1:])
    walk -= walk[:, -1:] * elapsed
    burst = share_of(trades)
    return _Patterns(
        bridges=walk,
        wicks=np.abs(_normal(wicks)) * (scale * 0.5),
        volumes=(0.25 + 2.25 * burst * burst) * weight / minutes,
        elapsed=elapsed,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Paths:
    """What is a symbol's own in one session, each of shape (symbols,).

    ``open`` and ``change`` (to the close) and the swings are in cents; ``swing_one`` and
    ``swing_two`` mix the patterns ``one`` and ``two``; ``volume`` is that of the whole session.
    """

    open: Floats
    change: Floats
    swing: Floats
    swing_one: Floats
    swing_two: Floats
    one: Longs
    two: Longs
    volume: Floats

    @classmethod
    def of(cls, seed: int, symbols: tuple[str, ...], session: int) -> Self:
        keys = keys_of(seed, symbols)
        sigma = 0.008 + 0.017 * share_of(mix(keys + np.uint64(1)))
        opens = _level(keys, sigma, session)
        swing = opens * sigma
        today = mix(keys ^ mix(np.full(len(keys), session & ALL_BITS, np.uint64)))
        first = 2.0 * share_of(today) - 1.0
        second = np.sqrt(1.0 - first * first)
        return cls(
            open=opens,
            change=_level(keys, sigma, session + 1) - opens,
            swing=swing,
            swing_one=swing * first,
            swing_two=swing * second,
            one=(today % np.uint64(PATTERNS)).astype(np.int64),
            two=(mix(today) % np.uint64(PATTERNS)).astype(np.int64),
            volume=_turnover(keys) * (0.6 + 0.8 * share_of(mix(today + np.uint64(1)))),
        )


def _turnover(keys: Hashes) -> Floats:
    """Return a usual session's volume by symbol: from 40,000 to 30 million shares."""
    share = share_of(mix(keys + np.uint64(2)))
    return 40_000.0 + 30e6 * share * share * share * share


def _level(keys: Hashes, sigma: Floats, session: int) -> Floats:
    """Return prices in cents at the open of a session: a walk that can be entered anywhere.

    Fixed points stand every CYCLE sessions; between them midpoints are filled in, each with the
    variance that a Brownian bridge has there (Lévy's construction).
    """
    block, at = divmod(session, CYCLE)
    low, high, length = block * CYCLE, (block + 1) * CYCLE, CYCLE
    left, right = _at(keys, low) * math.sqrt(CYCLE / 4), _at(keys, high) * math.sqrt(CYCLE / 4)
    walk = left
    while at:
        middle = (low + high) // 2
        walk = (left + right) * 0.5 + _at(keys, middle) * (math.sqrt(length) / 2)
        length //= 2
        if session == middle:
            break
        if session < middle:
            high, right = middle, walk
        else:
            low, left = middle, walk
    base = 2.2 + 3.6 * share_of(mix(keys + np.uint64(3)))  # 9 to 330 a share
    logs = base + sigma * walk
    # math.exp value by value: np.exp may differ in the last bit with the length of its input.
    return np.rint(np.fromiter(map(math.exp, logs), np.float64, len(logs)) * 100.0)


def _at(keys: Hashes, session: int) -> Floats:
    salt = mix(np.full(1, (2 * session + 1) & ALL_BITS, np.uint64))
    return _normal(mix(keys + salt))


def _normal(bits: Hashes) -> Floats:
    """Return about normal numbers: the sum of the four 16-bit parts, exact on every machine."""
    parts = np.ascontiguousarray(bits).view(np.uint16).reshape(*bits.shape, 4)
    total = parts.sum(axis=-1, dtype=np.int64).astype(np.float64)
    normal: Floats = (total - 2.0 * 65535.0) / (65536.0 * math.sqrt(4.0 / 12.0))
    return normal


@lru_cache(maxsize=8)
def _members(count: int) -> frozenset[str]:
    return frozenset(SyntheticSource(count=count).symbols())


def _ordinal(label: str, calendar: str) -> int:
    """Return the number of a session: weekdays (of 24/7, days) since 1970, no holidays known."""
    day = np.datetime64(label, "D")
    start = np.datetime64("1970-01-01", "D")
    weekmask = "1111111" if calendar == "24/7" else "1111100"
    return int(np.busday_count(start, day, weekmask=weekmask))
