"""Tapes by hand: frames of N shards of a small market, cut where a test wants them cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, pairwise

import numpy as np

from schemas import BarColumns, Frame
from schemas.records import Ints, Longs
from streams.client.batch import Batch
from streams.client.merging import Merger
from streams.intervals import MINUTE_NS
from streams.positions import Delivered
from streams.topics import shards_of

OPEN_NS = 1_700_000_000 * 1_000_000_000 // MINUTE_NS * MINUTE_NS
DAY_NS = 1440 * MINUTE_NS


@dataclass(frozen=True)
class Row:
    """A bar of the market, and the slice in which it comes out."""

    known_ns: int
    symbol: str
    ts_ns: int
    close: float
    volume: float = 1.0
    revision: int = 0
    is_late: bool = False
    interval_ns: int = MINUTE_NS
    source: str = "hand"

    @property
    def order(self) -> tuple[int, bool, int, int, str]:
        ready = self.ts_ns + self.interval_ns
        return (self.known_ns, not self.is_late, ready, self.interval_ns, self.symbol)


@dataclass(frozen=True)
class Day:
    """One session: its rows, and what the source vouches is no trade."""

    label: str
    open_ns: int
    minutes: int
    symbols: tuple[str, ...]
    rows: tuple[Row, ...]
    no_trade: frozenset[tuple[int, str]] = frozenset()

    @property
    def close_ns(self) -> int:
        return self.open_ns + self.minutes * MINUTE_NS


def symbols_of(count: int) -> tuple[str, ...]:
    return tuple(f"S{i:03d}" for i in range(count))


def full_day(
    symbols: int | Sequence[str] = 3,
    minutes: int = 5,
    number: int = 0,
    *,
    missing: frozenset[tuple[int, str]] = frozenset(),
    no_trade: frozenset[tuple[int, str]] = frozenset(),
    late: Sequence[Row] = (),
    seed: int = 0,
) -> Day:
    """A day with a bar a minute and symbol, but for some (ready time, symbol)."""
    names = symbols_of(symbols) if isinstance(symbols, int) else tuple(sorted(symbols))
    start = OPEN_NS + number * DAY_NS
    rng = np.random.default_rng([seed, number])
    rows = [
        Row(ts + MINUTE_NS, name, ts, float(price), float(size))
        for minute in range(minutes)
        for ts in [start + minute * MINUTE_NS]
        for name, price, size in zip(
            names, rng.uniform(10, 20, len(names)), rng.uniform(0, 1000, len(names)), strict=True
        )
        if (ts + MINUTE_NS, name) not in missing | no_trade
    ]
    label = f"2024-01-{number + 1:02d}"
    rows = sorted([*rows, *late], key=lambda row: row.order)
    return Day(label, start, minutes, names, tuple(rows), no_trade)


def bar_columns(rows: Sequence[Row], symbols: Sequence[str], sources: Sequence[str]) -> BarColumns:
    def floats(values: Iterator[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array(list(values), np.float64)

    def ints(values: Iterator[int]) -> Ints:
        return np.array(list(values), np.int32)

    return BarColumns(
        row=np.arange(len(rows), dtype=np.int32),
        symbol=ints(symbols.index(row.symbol) for row in rows),
        ts_ns=np.array([row.ts_ns for row in rows], np.int64),
        interval_ns=np.array([row.interval_ns for row in rows], np.int64),
        open=floats(row.close - 0.5 for row in rows),
        high=floats(row.close + 1.0 for row in rows),
        low=floats(row.close - 1.0 for row in rows),
        close=floats(row.close for row in rows),
        volume=floats(row.volume for row in rows),
        source=ints(sources.index(row.source) for row in rows),
        revision=ints(row.revision for row in rows),
    )


@dataclass
class Tape:
    """Writes the frames of one run as a coordinator does.

    ``cuts`` are, for each shard, the numbers of slices after which a new frame begins, counted
    through a session; None: one frame a session.
    """

    shards: int = 1
    run: str = "run-1"
    command: int = 1
    cuts: Mapping[int, Sequence[int]] | None = None
    gap: int = 1
    frames: list[list[Delivered]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.frames = [[] for _ in range(self.shards)]
        self._rows = [0] * self.shards
        self._opened = [-1] * self.shards

    def put(self, frame: Frame) -> None:
        shard = frame.shard
        found = self.frames[shard]
        # Offsets have gaps: a transaction's end takes one of its own.
        offset = found[-1].offset + 1 + self.gap if found else 0
        frame = replace(
            frame,
            frame=len(found),
            first_row=self._rows[shard],
            open_offset=-1 if frame.event == "open" else self._opened[shard],
        )
        self._rows[shard] += frame.rows
        if frame.event == "open":
            self._opened[shard] = offset
        found.append(Delivered(frame, offset))

    def event(self, shard: int, event: str, day: Day | None = None, **changes: object) -> Frame:
        names = shards_of(day.symbols, self.shards)[shard] if day else ()
        frame = Frame(
            run=self.run,
            shard=shard,
            shards=self.shards,
            frame=0,
            first_row=0,
            rows=0,
            clock_ns=day.open_ns if day else 0,
            event=event,
            mode="replay",
            speed=0.0,
            command=self.command,
            session=day.label if day else "",
            open_ns=day.open_ns if day else 0,
            close_ns=day.close_ns if day else 0,
            open_offset=-1,
            symbols=names if event in ("open", "rows", "close") else (),
            sources=("hand",) if event == "rows" else (),
            expected=day.minutes if day else 0,
        )
        return replace(frame, **changes)  # type: ignore[arg-type]

    def start(self) -> None:
        for shard in range(self.shards):
            self.put(self.event(shard, "start"))

    def end(self) -> None:
        for shard in range(self.shards):
            self.put(self.event(shard, "end"))

    def roll(self, day: Day) -> None:
        for shard in range(self.shards):
            self.put(self.event(shard, "roll", day))

    def day(self, day: Day, *, roll: bool = False) -> None:
        for shard in range(self.shards):
            if roll:
                self.put(self.event(shard, "roll", day))
            self.put(self.event(shard, "open", day))
            for frame in self.rows(shard, day):
                self.put(frame)
            self.put(self.event(shard, "close", day, clock_ns=day.close_ns))

    def rows(self, shard: int, day: Day) -> Iterator[Frame]:
        """Give the row frames of one shard's session."""
        names = shards_of(day.symbols, self.shards)[shard]
        times = self.times(day, names)
        cuts = (self.cuts or {}).get(shard, ())
        edges = [0, *sorted({c for c in cuts if 0 < c < len(times)}), len(times)]
        for start, end in pairwise(edges):
            yield self._frame(shard, day, names, times[start:end])

    def times(self, day: Day, names: Sequence[str]) -> list[int]:
        """Return the ready times of a shard's slices."""
        return sorted(
            {row.known_ns for row in day.rows if row.symbol in names}
            | {day.open_ns + (m + 1) * MINUTE_NS for m in range(day.minutes)}
        )

    def _frame(self, shard: int, day: Day, names: Sequence[str], times: Sequence[int]) -> Frame:
        sources = tuple(sorted({row.source for row in day.rows} | {"hand"}))
        slices = [
            [row for row in day.rows if row.symbol in names and row.known_ns == ns] for ns in times
        ]
        rows = [row for rows in slices for row in rows]
        expected = [
            len(names) if day.open_ns < ns <= day.close_ns and ns % MINUTE_NS == 0 else 0
            for ns in times
        ]
        received = [
            sum(not r.is_late and r.interval_ns == MINUTE_NS for r in found) if n else 0
            for found, n in zip(slices, expected, strict=True)
        ]
        vouched = [sum(ns == t and s in names for t, s in day.no_trade) for ns in times]
        return self.event(
            shard,
            "rows",
            day,
            clock_ns=times[-1],
            rows=len(rows),
            sources=sources,
            slice_ns=np.array(times, np.int64),
            slice_rows=_ints(len(found) for found in slices),
            slice_corrections=_ints(sum(r.is_late for r in found) for found in slices),
            slice_expected=_ints(expected),
            slice_received=_ints(received),
            slice_no_trade=_ints(vouched),
            slice_missing=_ints(
                e - r - v for e, r, v in zip(expected, received, vouched, strict=True)
            ),
            bars=bar_columns(rows, names, sources) if rows else None,
        )


def _ints(values: object) -> Ints:
    return np.array(list(values), np.int32)  # type: ignore[call-overload]


def tape_of(
    days: Sequence[Day],
    shards: int = 1,
    cuts: Mapping[int, Sequence[int]] | None = None,
    run: str = "run-1",
) -> Tape:
    """Return a whole run over days."""
    tape = Tape(shards=shards, cuts=cuts, run=run)
    tape.start()
    for number, day in enumerate(days):
        tape.day(day, roll=number > 0)
    tape.end()
    return tape


class MemoryReader:
    """A reader of frames over lists: what `FrameReader` does over a broker.

    Parameters
    ----------
    tape
        Frames by shard.
    order
        Shards in the order in which their next frames come; round and round.
    shown
        How many frames of each shard there are by now; None: all.
    """

    topic = "memory.session"

    def __init__(
        self,
        tape: Tape,
        order: Sequence[int] | None = None,
        shown: Mapping[int, int] | None = None,
        chunk: int = 1,
    ) -> None:
        self._frames = tape.frames
        self._order = list(order) if order is not None else list(range(tape.shards))
        self._shown = dict(shown) if shown else {}
        self._chunk = chunk
        self._turn = 0
        self._next: dict[int, int] = {}
        self.shards = tuple(range(tape.shards))
        self.closed = False
        self.committed: dict[int, int] = {}

    def show(self, shown: Mapping[int, int] | None = None) -> None:
        """Let more frames be there; None: all."""
        self._shown = dict(shown) if shown else {}

    def _there(self, shard: int) -> list[Delivered]:
        return self._frames[shard][: self._shown.get(shard)]

    def assign(self, offsets: Mapping[int, int]) -> None:
        self._next = dict(offsets)

    def poll(self, timeout_s: float = 1.0) -> list[Delivered]:
        for _ in range(len(self._order)):
            shard = self._order[self._turn % len(self._order)]
            self._turn += 1
            if shard not in self._next:
                continue
            came = [d for d in self._there(shard) if d.offset >= self._next[shard]]
            if came := came[: self._chunk]:
                self._next[shard] = came[-1].offset + 1
                return came
        return []

    def last(self) -> dict[int, Delivered | None]:
        there = {shard: self._there(shard) for shard in self.shards}
        return {shard: found[-1] if found else None for shard, found in there.items()}

    def starts(self) -> dict[int, int]:
        return {shard: f[0].offset if f else 0 for shard, f in enumerate(self._frames)}

    def ends(self) -> dict[int, int]:
        ends = {}
        for shard in self.shards:
            there = self._there(shard)
            ends[shard] = there[-1].offset + 1 if there else 0
        return ends

    def commit(self, offsets: Mapping[int, int]) -> None:
        self.committed.update(offsets)

    def close(self) -> None:
        self.closed = True


def longs(*values: int) -> Longs:
    return np.array(values, np.int64)


def merged(tape: Tape, order: Iterator[int] | None = None) -> list[Batch]:
    """Return the batches of a tape; ``order`` gives the shard whose next frame comes."""
    merger = Merger(tape.shards)
    queues = [list(frames) for frames in tape.frames]
    found: list[Batch] = []
    for shard in order if order is not None else cycle(range(tape.shards)):
        if not any(queues):
            return found
        if queues[shard % tape.shards]:
            delivered = queues[shard % tape.shards].pop(0)
            merger.add(delivered.frame, delivered.offset)
            found += merger.drain()
    return found
