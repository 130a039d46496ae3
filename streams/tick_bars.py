"""Bars made of ticks or of quotes: pure numpy, whole columns at a time.

A bar covers ``[ts, ts + interval)`` and starts at a whole multiple of its length since the epoch.
Rows count in the order of their time, those of one time by sequence, those of one sequence as they
came. What was seen twice has to be dropped before: two equal ticks are two trades.

Of ticks: open, high, low, close are prices, volume the sum of sizes; which trade counts for which
is up to a rule of ``streams.conditions``. Where no trade of a bar sets a price there is no bar,
whatever its volume.

Of quotes: open, high, low and close are each the mid of that of the bids and that of the asks, and
volume is 0; so LEAN sums up a bar of quotes (``QuoteBar``: ``Open`` … ``Close``, ``Collapse``). A
quote with one side only counts for nothing: the side alone, which LEAN takes then, is half a spread
away from any mid. The open is the last quote of the first time: files may give the two sides of one
quote as two rows. LEAN opens with the last quote of the bar before; that would make a bar depend on
what else was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarBlock, Floats, Ints, Longs, QuoteBlock, TickBlock
from streams.conditions import Rule, tape_rule

__all__ = ["BarBuilder", "bars_of_quotes", "bars_of_ticks"]

Index: TypeAlias = NDArray[np.intp]
PRICES = ("open", "high", "low", "close")


def bars_of_ticks(block: TickBlock, interval_ns: int, rule: Rule = tape_rule) -> BarBlock:
    """Return the bars of ``interval_ns`` that the ticks of a block make.

    Returns
    -------
    BarBlock
        Ascending by symbol, in the order of the block's symbols, and time; revision 0.
    """
    [rows] = _of_ticks(block, rule)
    return _block(_parts(rows, interval_ns), block, interval_ns)


def bars_of_quotes(block: QuoteBlock, interval_ns: int) -> BarBlock:
    """Return the bars of ``interval_ns`` that the quotes of a block make; as `bars_of_ticks`."""
    bid, ask = (_parts(rows, interval_ns) for rows in _of_quotes(block))
    mids = {name: (getattr(bid, name) + getattr(ask, name)) / 2 for name in PRICES}
    return _block(bid._replace(**mids), block, interval_ns)


class _Rows(NamedTuple):
    """What bars are made of, sorted; shape (n,) each.

    The ranks are those of `Weight`; ``size`` is 0 where it is no volume. Of rows of one time that
    with the least ``first`` may be the open, that with the highest ``sequence`` the close.
    """

    symbol: Ints
    ts_ns: Longs
    first: Longs
    sequence: Longs
    price: Floats
    size: Floats
    open: Ints
    close: Ints
    range: Ints


class _Parts(NamedTuple):
    """Bars as far as some rows make them; shape (bars,) each.

    Of the row that is the open, and of that which is the close, its rank and place in time are
    kept; and the rank of those that made high and low: another part of the same bar may have
    better ones.
    """

    symbol: Ints
    ts_ns: Longs
    open_rank: Ints
    open_ns: Longs
    open_first: Longs
    open: Floats
    close_rank: Ints
    close_ns: Longs
    close_sequence: Longs
    close: Floats
    range: Ints
    high: Floats
    low: Floats
    volume: Floats


@dataclass(slots=True)
class _Bar:
    """One side of a bar that grows: the fields of `_Parts`."""

    open: tuple[int, int, int, float]
    close: tuple[int, int, int, float]
    range: int
    high: float
    low: float
    volume: float

    @classmethod
    def of(cls, fields: Sequence[Any]) -> Self:
        """Return the bar of one row of `_Parts`, without its symbol and start."""
        return cls(tuple(fields[:4]), tuple(fields[4:8]), *fields[8:])

    def join(self, part: _Bar) -> None:
        """Take what came later of the same bar."""
        rank, better = self.open[0], part.open[0]
        if better > rank or (better == rank and part.open[1:3] < self.open[1:3]):
            self.open = part.open
        if part.close[:3] >= self.close[:3]:
            self.close = part.close
        if part.range > self.range:
            self.range, self.high, self.low = part.range, part.high, part.low
        elif part.range == self.range:
            self.high, self.low = max(self.high, part.high), min(self.low, part.low)
        self.volume += part.volume


@dataclass(slots=True)
class _Held:
    """The sides of one bar, and what went out of it last: revision -1 for nothing."""

    sides: list[_Bar]
    revision: int = -1
    out: tuple[float, ...] = ()

    @property
    def has_price(self) -> bool:
        """Whether a row has set a price."""
        return self.sides[0].close[0] > 0

    @property
    def values(self) -> tuple[float, ...]:
        """Open, high, low, close and volume: of a tick bar its own, of quotes the mids."""
        some = [(s.open[3], s.high, s.low, s.close[3], s.volume) for s in self.sides]
        return some[0] if len(some) == 1 else tuple((a + b) / 2 for a, b in zip(*some, strict=True))


class BarBuilder:
    """Bars of ticks, or of quotes, that come bit by bit.

    However the rows are cut and whatever comes late, what was given last of each bar is what
    `bars_of_ticks` or `bars_of_quotes` makes of all of them at once, if no two rows have one
    symbol, time and sequence; volumes in fractions to the rounding of their sum. It holds a record
    a symbol and bar, until told to `forget`.

    Parameters
    ----------
    interval_ns
        Length of the bars.
    rule
        What a trade counts for.
    """

    def __init__(self, interval_ns: int, rule: Rule = tape_rule) -> None:
        self._interval_ns, self._rule = interval_ns, rule
        self._bars: dict[tuple[str, int], _Held] = {}
        self._touched: set[tuple[str, int]] = set()
        self._clock_ns = -(2**63)
        self._oldest_ns = 2**63
        self._nothing = self._given(())

    def take(self, block: TickBlock | QuoteBlock) -> None:
        """Take more rows, all ticks or all quotes; they may be late."""
        rows = _of_ticks(block, self._rule) if isinstance(block, TickBlock) else _of_quotes(block)
        sides = [_parts(side, self._interval_ns) for side in rows]
        fields = [zip(*(column.tolist() for column in side), strict=True) for side in sides]
        for some in zip(*fields, strict=True):
            key = block.symbols[some[0][0]], some[0][1]
            parts = [_Bar.of(side[2:]) for side in some]
            held = self._bars.get(key)
            if held is None:
                self._bars[key] = _Held(parts)
                self._oldest_ns = min(self._oldest_ns, key[1])
            else:
                for side, part in zip(held.sides, parts, strict=True):
                    side.join(part)
            self._touched.add(key)

    def until(self, clock_ns: int) -> BarBlock:
        """Return the bars that end by a clock and are new or other than when they went out.

        Returns
        -------
        BarBlock
            Ascending by symbol and time. Of a bar that went out before the revision is one more.
        """
        self._clock_ns = max(self._clock_ns, clock_ns)
        last_ns = self._clock_ns - self._interval_ns
        due = sorted(key for key in self._touched if key[1] <= last_ns)
        if not due:  # mostly: a clock is told far more often than bars end
            return self._nothing
        self._touched.difference_update(due)
        bars = ((key, self._bars[key]) for key in due)
        return self._given([key for key, bar in bars if bar.has_price and bar.values != bar.out])

    def forget(self, before_ns: int) -> None:
        """Drop the bars that start before a time; a tick of one of them would begin it anew."""
        if before_ns <= self._oldest_ns:
            return
        gone = [key for key in self._bars if key[1] < before_ns]
        for key in gone:
            del self._bars[key]
        self._touched.difference_update(gone)
        self._oldest_ns = min((ts_ns for _, ts_ns in self._bars), default=2**63)

    def _given(self, keys: Sequence[tuple[str, int]]) -> BarBlock:
        place: dict[str, int] = {}
        numbers = [place.setdefault(symbol, len(place)) for symbol, _ in keys]
        bars = [self._bars[key] for key in keys]
        for bar in bars:
            bar.out = bar.values
            bar.revision += 1
        values = np.array([bar.out for bar in bars], np.float64).reshape(-1, 5).T.copy()
        return BarBlock(
            symbols=tuple(place),
            symbol=np.array(numbers, np.int32),
            ts_ns=np.array([ts_ns for _, ts_ns in keys], np.int64),
            interval_ns=np.broadcast_to(np.int64(self._interval_ns), len(keys)),
            open=values[0],
            high=values[1],
            low=values[2],
            close=values[3],
            volume=values[4],
            revision=np.array([bar.revision for bar in bars], np.int32),
        )


def _of_ticks(block: TickBlock, rule: Rule) -> tuple[_Rows]:
    weights = [rule(text) for text in block.conditions] or [rule("")]
    index = block.condition if block.conditions else np.zeros(len(block), np.int32)
    ranks = (
        np.array([getattr(weight, name) for weight in weights], np.int32)[index]
        for name in ("open", "close", "range")
    )
    counts = np.array([weight.volume for weight in weights])
    size = block.size if counts.all() else np.where(counts[index], block.size, 0.0)
    sequence = block.sequence
    rows = _Rows(block.symbol, block.ts_ns, sequence, sequence, block.price, size, *ranks)
    return (_sorted(rows),)


def _of_quotes(block: QuoteBlock) -> tuple[_Rows, _Rows]:
    """Return the bids and the asks of the quotes that have both."""
    both = np.flatnonzero((block.bid > 0) & (block.ask > 0))
    symbol, ts_ns, sequence = block.symbol[both], block.ts_ns[both], block.sequence[both]
    rank = np.ones(len(both), np.int32)
    none = np.zeros(len(both))
    sides = (
        _sorted(_Rows(symbol, ts_ns, -sequence, sequence, side[both], none, rank, rank, rank))
        for side in (block.bid, block.ask)
    )
    bid, ask = (rows._replace(open=_last_of_time(rows)) for rows in sides)
    return bid, ask


def _last_of_time(rows: _Rows) -> Ints:
    """Return as rank of the open 2 for the last row of each time, 1 for the others."""
    rank = np.full(len(rows.ts_ns), 2, np.int32)
    same = (rows.ts_ns[1:] == rows.ts_ns[:-1]) & (rows.symbol[1:] == rows.symbol[:-1])
    rank[:-1][same] = 1
    return rank


def _sorted(rows: _Rows) -> _Rows:
    """Return rows by symbol, time and sequence; mostly they are."""
    keys = (rows.symbol, rows.ts_ns, rows.sequence)
    behind = np.zeros(max(len(rows.ts_ns) - 1, 0), np.bool_)
    for key in reversed(keys):
        behind = (key[1:] < key[:-1]) | ((key[1:] == key[:-1]) & behind)
    if not behind.any():
        return rows
    order = np.lexsort(keys[::-1])
    return _Rows._make(column[order] for column in rows)


def _parts(rows: _Rows, interval_ns: int) -> _Parts:
    start = rows.ts_ns // interval_ns
    is_first = np.ones(len(start), np.bool_)
    is_first[1:] = (start[1:] != start[:-1]) | (rows.symbol[1:] != rows.symbol[:-1])
    low = np.flatnonzero(is_first)
    high = np.append(low[1:], len(start))[: len(low)]
    opens, open_rank = _best(rows.open, low, high)
    closes, close_rank = _best(rows.close, low, high)
    first = opens[np.searchsorted(opens, low)]
    last = closes[np.searchsorted(closes, high) - 1]
    ranged, rank = _best(rows.range, low, high)
    highs = np.full(len(start), -np.inf)
    lows = np.full(len(start), np.inf)
    highs[ranged] = lows[ranged] = rows.price[ranged]
    return _Parts(
        symbol=rows.symbol[low],
        ts_ns=start[low] * interval_ns,
        open_rank=open_rank,
        open_ns=rows.ts_ns[first],
        open_first=rows.first[first],
        open=rows.price[first],
        close_rank=close_rank,
        close_ns=rows.ts_ns[last],
        close_sequence=rows.sequence[last],
        close=rows.price[last],
        range=rank,
        high=_reduced(np.maximum, highs, low),
        low=_reduced(np.minimum, lows, low),
        volume=_reduced(np.add, rows.size, low),
    )


def _best(rank: Ints, low: Index, high: Index) -> tuple[Index, Ints]:
    """Return where the rows of the highest rank of their bar stand, ascending; and that rank."""
    best: Ints = np.maximum.reduceat(rank, low) if len(low) else rank[:0]
    return np.flatnonzero(rank == np.repeat(best, high - low)), best


def _reduced(how: np.ufunc, column: Floats, low: Index) -> Floats:
    found: Floats = how.reduceat(column, low) if len(low) else column[:0]
    return found


def _block(parts: _Parts, block: TickBlock | QuoteBlock, interval_ns: int) -> BarBlock:
    """Return the bars that have a price, as a block with the names of another."""
    there = parts.close_rank > 0
    rows = int(there.sum())
    return BarBlock(
        symbols=block.symbols,
        symbol=parts.symbol[there],
        ts_ns=parts.ts_ns[there],
        interval_ns=np.broadcast_to(np.int64(interval_ns), rows),
        open=parts.open[there],
        high=parts.high[there],
        low=parts.low[there],
        close=parts.close[there],
        volume=parts.volume[there],
        revision=np.broadcast_to(np.int32(0), rows),
        run=block.run,
        request=block.request,
        block=block.block,
        source=block.source,
    )
