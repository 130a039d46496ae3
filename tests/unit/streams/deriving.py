"""Days of bars by hand, their session frames cut at will, and what bars are to be derived of them.

The model goes bar by bar in plain Python: what was known at a slice, and what follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl

from schemas import BarColumns, Codec, Frame, Minutes
from streams.coverage import Status
from streams.deriver import Deriver
from streams.intervals import MINUTE_NS

TOPIC = "hand.session"
OPEN_NS = 1_700_000_000 * 1_000_000_000 // MINUTE_NS * MINUTE_NS
DAY_NS = 1440 * MINUTE_NS
CODEC = Codec()
Values = tuple[float, float, float, float, float]
Cell = tuple[int, int]
"""Minute of the session, and number of the symbol."""


@dataclass(frozen=True)
class Day:
    """A session: its first bars, what changes behind the clock, and what sources vouch for.

    ``late`` and ``told`` are by the minute at whose end they come out; minutes of ``pause`` are
    not expected. ``strays`` are rows no bar may be made of: (minute of the slice, start in ns
    from the open, interval).
    """

    minutes: int
    symbols: tuple[str, ...] = ("AA", "BB", "CC")
    number: int = 0
    fresh: Mapping[Cell, Values] = field(default_factory=dict)
    late: Mapping[int, Mapping[Cell, Values]] = field(default_factory=dict)
    quiet: frozenset[Cell] = frozenset()
    told: Mapping[int, Mapping[Cell, bool]] = field(default_factory=dict)
    pause: range = range(0)
    strays: tuple[tuple[int, int, int], ...] = ()

    @property
    def open_ns(self) -> int:
        return OPEN_NS + self.number * DAY_NS

    @property
    def label(self) -> str:
        return f"2024-01-{self.number + 1:02d}"

    @property
    def expected(self) -> list[int]:
        return [minute for minute in range(self.minutes) if minute not in self.pause]

    def ns(self, minute: int) -> int:
        return self.open_ns + minute * MINUTE_NS

    @property
    def final(self) -> dict[Cell, Values]:
        """The bars as they are in the end."""
        known = dict(self.fresh)
        for slice_ in sorted(self.late):
            known.update(self.late[slice_])
        return known

    @property
    def final_quiet(self) -> set[Cell]:
        known = dict.fromkeys(self.quiet, True)
        for slice_ in sorted(self.told):
            known.update(self.told[slice_])
        return {cell for cell, is_quiet in known.items() if is_quiet}


def values(*seed: int) -> Values:
    rng = np.random.default_rng([abs(number) for number in seed])
    low, inner, other, high = sorted(rng.uniform(10, 20, 4).tolist())
    volume = 0.0 if rng.random() < 0.1 else float(rng.uniform(0, 1000))
    return (inner, high, low, other, volume)


def full(minutes: int, symbols: int = 3, seed: int = 0) -> dict[Cell, Values]:
    return {(m, s): values(seed, m, s) for m in range(minutes) for s in range(symbols)}


# Frames of the session topic.


class Line(NamedTuple):
    """A row of a slice."""

    slice: int
    is_late: bool
    ts_ns: int
    interval_ns: int
    symbol: int
    values: Values


def lines(day: Day) -> Iterator[Line]:
    for at in day.expected:
        late = [
            Line(at, True, day.ns(m), MINUTE_NS, s, what)
            for (m, s), what in sorted(day.late.get(at, {}).items())
        ]
        rows = [
            Line(at, False, day.ns(at), MINUTE_NS, s, what)
            for (m, s), what in day.fresh.items()
            if m == at
        ]
        strays = [
            Line(at, False, day.open_ns + since, length, s, values(at, s, since))
            for slice_, since, length in day.strays
            for s in range(len(day.symbols))
            if slice_ == at
        ]
        yield from late
        yield from sorted([*rows, *strays], key=lambda line: (line.ts_ns, line.symbol))


def minutes_of(day: Day, cells: Mapping[Cell, bool]) -> Minutes:
    found = sorted(cells.items())
    ts = np.array([day.ns(m) for (m, _), _ in found], np.int64)
    return Minutes(
        symbols=day.symbols,
        symbol=np.array([s for (_, s), _ in found], np.int32),
        ts_ns=ts,
        end_ns=ts + MINUTE_NS,
        status=_ints(Status.NO_TRADE if quiet else Status.MISSING for _, quiet in found),
        attempt=_ints(1 for _ in found),
        request=_ints(-1 for _ in found),
        session=day.label,
    )


def event(what: str, day: Day | None, clock_ns: int, **changes: object) -> Frame:
    frame = Frame(
        run="run-1",
        shard=0,
        shards=1,
        frame=0,
        first_row=0,
        rows=0,
        clock_ns=clock_ns,
        event=what,
        mode="replay",
        speed=0.0,
        command=1,
        session=day.label if day and what not in ("start", "end") else "",
        open_ns=day.open_ns if day else 0,
        close_ns=day.ns(day.minutes) if day else 0,
        open_offset=-1,
        symbols=day.symbols if day and what in ("open", "rows") else (),
        sources=("hand",),
        expected=len(day.expected) if day else 0,
    )
    return replace(frame, **changes)  # type: ignore[arg-type]


def session(day: Day, cuts: Sequence[int] = ()) -> list[Frame]:
    """Return the frames of a day; ``cuts`` are numbers of rows and slices before which to cut.

    What was told comes on a frame that begins with its slice.
    """
    told0 = minutes_of(day, dict.fromkeys(day.quiet, True)) if day.quiet else None
    frames = [event("open", day, day.open_ns, minutes=told0)]
    rows = list(lines(day))
    units: list[tuple[int, Line | None]] = []  # rows, and the mark behind each slice
    for at in day.expected:
        units += [(at, line) for line in rows if line.slice == at]
        units.append((at, None))
    firsts = [n for n, (at, _) in enumerate(units) if n == 0 or units[n - 1][0] != at]
    forced = {n for n in firsts if units[n][0] in day.told}
    edges = sorted({0, len(units)} | {cut for cut in cuts if 0 < cut < len(units)} | forced)
    clock_ns = day.open_ns
    for start, stop in pairwise(edges):
        part = units[start:stop]
        told = day.told.get(part[0][0]) if start in forced else None
        marks = [at for at, line in part if line is None]
        clock_ns = day.ns(marks[-1] + 1) if marks else clock_ns
        frames.append(_rows(day, part, clock_ns, minutes_of(day, told) if told else None))
    return [*frames, event("close", day, day.ns(day.minutes))]


def _rows(
    day: Day, part: Sequence[tuple[int, Line | None]], clock_ns: int, told: Minutes | None
) -> Frame:
    slices = sorted({at for at, _ in part})
    rows = [line for _, line in part if line is not None]
    marked = {at for at, line in part if line is None}
    expected = [len(day.symbols) if at in marked else 0 for at in slices]
    return event(
        "rows",
        day,
        clock_ns,
        rows=len(rows),
        slice_ns=np.array([day.ns(at + 1) for at in slices], np.int64),
        slice_rows=_ints(sum(r.slice == at for r in rows) for at in slices),
        slice_corrections=_ints(sum(r.slice == at and r.is_late for r in rows) for at in slices),
        slice_expected=_ints(expected),
        slice_received=_ints(expected),
        slice_no_trade=_ints(0 for _ in slices),
        slice_missing=_ints(0 for _ in slices),
        bars=columns(rows) if rows else None,
        minutes=told,
    )


def columns(rows: Sequence[Line]) -> BarColumns:
    prices = np.array([row.values for row in rows], np.float64).reshape(-1, 5).T.copy()
    return BarColumns(
        np.arange(len(rows), dtype=np.int32),
        _ints(row.symbol for row in rows),
        np.array([row.ts_ns for row in rows], np.int64),
        np.array([row.interval_ns for row in rows], np.int64),
        *(prices[0], prices[1], prices[2], prices[3]),
        volume=prices[4],
        source=_ints(0 for _ in rows),
        revision=_ints(0 for _ in rows),
    )


def _ints(found: object) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(list(found), np.int32)  # type: ignore[call-overload]


def tape(days: Sequence[Day], cuts: Sequence[Sequence[int]] = ()) -> list[tuple[int, Frame]]:
    """Return the frames of a run with their offsets, which have gaps."""
    frames = [event("start", days[0], days[0].open_ns)]
    for number, day in enumerate(days):
        if number:
            frames.append(event("roll", day, day.open_ns))
        frames += session(day, cuts[number] if number < len(cuts) else ())
    frames.append(event("end", days[-1], frames[-1].clock_ns))
    found, row, opened = [], 0, -1
    for number, frame in enumerate(frames):
        offset = 7 + 2 * number
        opened = -1 if frame.event == "open" else opened
        placed = replace(frame, frame=number, first_row=row, open_offset=opened)
        opened = offset if frame.event == "open" else opened
        row += frame.rows
        found.append((offset, placed))
    return found


# The owner of a shard.


class Owner:
    """Feeds a deriver, and keeps what it releases as a broker would."""

    def __init__(self, intervals: Sequence[str]) -> None:
        self.intervals = tuple(intervals)
        self.topics: dict[str, list[tuple[int, Frame]]] = {name: [] for name in intervals}
        self.deriver = Deriver(0, 1, self.intervals, TOPIC)
        self.end = 0
        self.releases: list[dict[str, list[Frame]]] = []

    def release(self) -> None:
        found = self.deriver.release()
        self.releases.append(found)
        for name, frames in found.items():
            for frame in frames:
                self.topics[name].append((self.end, frame))
                if frame.event == "open":
                    self.deriver.opened(name, self.end)
                self.end += 1
        self.end += 1

    def crash(self, fed: Sequence[tuple[int, Frame]]) -> None:
        """Begin anew, with what was fed by now read again."""
        last: dict[str, Frame | None] = {}
        for name, kept in self.topics.items():
            last[name] = None
            if kept:
                offset, frame = kept[-1]
                is_open = frame.event == "open"
                last[name] = replace(frame, open_offset=offset) if is_open else frame
        self.deriver = Deriver(0, 1, self.intervals, TOPIC)
        self.deriver.resume(last)
        start = Deriver.first_offset(last)
        for offset, frame in fed:
            if start is None or offset >= start:
                self.deriver.take(frame, offset)

    def play(
        self, frames: Sequence[tuple[int, Frame]], releases: Sequence[int], crashes: bool = False
    ) -> None:
        """Feed all frames; ``releases`` says how many there are to be behind each."""
        for number, (offset, frame) in enumerate(frames):
            self.deriver.take(frame, offset)
            for _ in range(releases[number % len(releases)] if releases else 0):
                self.release()
                if crashes:
                    self.crash(frames[: number + 1])
        while self.deriver.is_due:
            self.release()

    def frames(self, interval: str) -> list[Frame]:
        return [frame for _, frame in self.topics[interval]]


# What comes out, and what had to.


class Out(NamedTuple):
    """A derived bar as it went out."""

    slice_ns: int
    is_late: bool
    ts_ns: int
    symbol: str
    interval_ns: int
    values: Values
    bars: int
    quality: float
    revision: int
    before: Values | None
    vwap: float | None


def outs(frames: Sequence[Frame]) -> list[Out]:
    found = []
    for frame in frames:
        bars, at = frame.derived, 0
        for ns, rows, late in zip(
            frame.slice_ns.tolist(),
            frame.slice_rows.tolist(),
            frame.slice_corrections.tolist(),
            strict=True,
        ):
            for place in range(rows):
                assert bars is not None
                prices = (bars.open, bars.high, bars.low, bars.close, bars.volume)
                before = (
                    *(bars.before_open, bars.before_high, bars.before_low, bars.before_close),
                    bars.before_volume,
                )
                earlier = [float(column[at]) for column in before]
                vwap = float(bars.vwap[at])
                found.append(
                    Out(
                        ns,
                        place < late,
                        int(bars.ts_ns[at]),
                        frame.symbols[bars.symbol[at]],
                        int(bars.interval_ns[at]),
                        tuple(float(column[at]) for column in prices),  # type: ignore[arg-type]
                        int(bars.count[at]),
                        float(bars.quality[at]),
                        int(bars.revision[at]),
                        None if math.isnan(earlier[0]) else tuple(earlier),  # type: ignore[arg-type]
                        None if math.isnan(vwap) else vwap,
                    )
                )
                at += 1
    return found


class Model:
    """One length of bars of one day, bar by bar."""

    def __init__(self, day: Day, size: int) -> None:
        self.day, self.size = day, size
        self.known: dict[Cell, Values] = {}
        self.quiet = set(day.quiet)
        self.last: dict[Cell, Out] = {}
        self.out: list[Out] = []
        self.done = 0

    def end_ns(self, bar: int) -> int:
        return self.day.ns(min((bar + 1) * self.size, self.day.minutes))

    def made(self, bar: int, symbol: int, slice_ns: int, is_late: bool) -> Out | None:
        day = self.day
        inside = [m for m in day.expected if m // self.size == bar]
        bars = [self.known[m, symbol] for m in inside if (m, symbol) in self.known]
        if not bars:
            return None
        good = sum((m, symbol) in self.known or (m, symbol) in self.quiet for m in inside)
        volume, turnover = 0.0, 0.0
        for _, high, low, close, size in bars:
            volume += size
            turnover += size * ((high + low + close) / 3)
        high, low = max(b[1] for b in bars), min(b[2] for b in bars)
        before = self.last.get((bar, symbol))
        return Out(
            slice_ns,
            is_late,
            day.ns(bar * self.size),
            day.symbols[symbol],
            self.end_ns(bar) - day.ns(bar * self.size),
            (bars[0][0], high, low, bars[-1][3], volume),
            len(bars),
            100.0 * good / len(inside),
            before.revision + 1 if before else 0,
            before.values if before else None,
            turnover / volume if volume > 0 else None,
        )

    def values_of(self, known: Mapping[Cell, Values], bar: int, symbol: int) -> Values:
        self.known = dict(known)
        made = self.made(bar, symbol, 0, is_late=False)
        assert made is not None
        return made.values

    def put(self, bar: int, symbol: int, out: Out | None) -> None:
        if out is not None:
            self.last[bar, symbol] = out
            self.out.append(out)

    def due(self, until_ns: int) -> None:
        while self.done * self.size < self.day.minutes and self.end_ns(self.done) <= until_ns:
            for symbol in range(len(self.day.symbols)):
                made = self.made(self.done, symbol, self.end_ns(self.done), is_late=False)
                self.put(self.done, symbol, made)
            self.done += 1

    def run(self) -> list[Out]:
        day = self.day
        for at in day.expected:
            slice_ns = day.ns(at + 1)
            self.due(slice_ns - 1)
            told, late = day.told.get(at, {}), day.late.get(at, {})
            for cell, is_quiet in told.items():
                (self.quiet.add if is_quiet else self.quiet.discard)(cell)
            self.known.update(late)
            touched = {(m // self.size, s) for m, s in [*told, *late]}
            for bar, symbol in sorted(cell for cell in touched if cell[0] < self.done):
                made = self.made(bar, symbol, slice_ns, is_late=True)
                is_late = any((m // self.size, s) == (bar, symbol) for m, s in late)
                before = self.last.get((bar, symbol))
                if is_late or (made and before and made.quality != before.quality):
                    self.put(bar, symbol, made)
            self.known.update({cell: v for cell, v in day.fresh.items() if cell[0] == at})
            self.due(slice_ns)
        return self.out


def by_polars(day: Day, size: int) -> pl.DataFrame:
    """Return the bars of the day as it is in the end, sorted by bar and symbol."""
    rows = [(m, day.symbols[s], *what) for (m, s), what in day.final.items() if m not in day.pause]
    names = ["minute", "symbol", "open", "high", "low", "close", "volume"]
    types = [pl.Int64, pl.String, *[pl.Float64] * 5]
    frame = pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row").sort(
        "minute"
    )
    turnover = pl.col("volume") * (pl.col("high") + pl.col("low") + pl.col("close")) / 3
    made = frame.group_by(
        "symbol", (pl.col("minute") // size).alias("bar"), maintain_order=True
    ).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
        turnover.sum().alias("turnover"),
        pl.len().alias("count"),
        pl.col("minute").alias("minutes"),
    )
    return made.sort("bar", "symbol")
