"""A broker in memory that the position protocol can be played on, with real shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from schemas import (
    Bar,
    BarBlock,
    Codec,
    Command,
    Coverage,
    DataRequest,
    Frame,
    Halt,
    Quote,
    QuoteBlock,
    Record,
    Tick,
    TickBlock,
)
from schemas.records import BarColumns, Floats, TickColumns
from streams.arrival import Rejection
from streams.calendar import Session
from streams.errors import DecodeError
from streams.intervals import MINUTE_NS, SECOND_NS, interval_name
from streams.kinds import kind_of, ready_ns
from streams.plan import Plan, plan_of
from streams.shard import Release, Shard

TOPIC = "model.raw.bars"
TOPICS = {stream: f"model.raw.{stream}" for stream in ("bars", "quotes", "ticks")}
RUN = "run-1"
WALL_NS = 1_700_000_000_000_000_000
CODEC = Codec()
Row = tuple[str, int, int, int]
"""Symbol, ts_ns, interval_ns, source revision."""
Spot = tuple[str, int, int, int]
"""Of a quote or a tick: symbol, ts_ns, sequence (-1: none), source revision."""
plan_for = cache(plan_of)


def command(**changes: object) -> Command:
    """Sessions of five minutes around Thanksgiving, as fast as it goes."""
    plain = Command(
        version=1,
        action="start",
        run=RUN,
        mode="replay",
        calendar="XNYS",
        start="2024-11-27",
        end="2024-12-02",
        symbols=("AA", "BB", "CC"),
        streams=("bars",),
        anchor_wall_ns=WALL_NS,
        hours="09:30-09:35",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def values_of(row: Row) -> dict[str, float]:
    """The values a source gives a row: others for every revision of it."""
    symbol, ts_ns, interval_ns, revision = row
    price = 100.0 + ts_ns // MINUTE_NS % 1000 + revision / 1024 + sum(symbol.encode()) / 8192
    return {
        "open": price,
        "high": price + 2,
        "low": price - 2,
        "close": price + 1,
        "volume": float(interval_ns // MINUTE_NS + revision),
    }


def bar(row: Row, run: str = "", source: str = "model", **values: float) -> Bar:
    symbol, ts_ns, interval_ns, revision = row
    prices = values_of(row) | values
    name = interval_name(interval_ns)
    return Bar(symbol, ts_ns, interval=name, source=source, revision=revision, run=run, **prices)


def block(rows: Sequence[Row], run: str = RUN, source: str = "model") -> BarBlock:
    symbols = tuple(dict.fromkeys(row[0] for row in rows))

    def column(name: str) -> Floats:
        return np.array([values_of(row)[name] for row in rows], np.float64)

    return BarBlock(
        symbols=symbols,
        symbol=np.array([symbols.index(row[0]) for row in rows], np.int32),
        ts_ns=np.array([row[1] for row in rows], np.int64),
        interval_ns=np.array([row[2] for row in rows], np.int64),
        revision=np.array([row[3] for row in rows], np.int32),
        open=column("open"),
        high=column("high"),
        low=column("low"),
        close=column("close"),
        volume=column("volume"),
        run=run,
        source=source,
    )


def spot_values(row: Spot) -> tuple[float, float]:
    """A price and a size: others for every revision of a row."""
    symbol, ts_ns, sequence, revision = row
    price = 50.0 + ts_ns % 9973 / 64 + sequence / 128 + sum(symbol.encode()) / 8192
    return price, 1.0 + revision


def _spots(rows: Sequence[Spot]) -> dict[str, Any]:
    symbols = tuple(dict.fromkeys(row[0] for row in rows))
    return {
        "symbols": symbols,
        "symbol": np.array([symbols.index(row[0]) for row in rows], np.int32),
        "ts_ns": np.array([row[1] for row in rows], np.int64),
        "sequence": np.array([row[2] for row in rows], np.int64),
        "revision": np.array([row[3] for row in rows], np.int32),
    }


def tick_block(rows: Sequence[Spot], run: str = RUN, source: str = "model") -> TickBlock:
    """Ticks; their conditions follow from their sequence numbers."""
    values = np.array([spot_values(row) for row in rows], np.float64).reshape(-1, 2)
    conditions = tuple(dict.fromkeys(condition_of(row) for row in rows if condition_of(row)))
    places = {name: n for n, name in enumerate(conditions)}
    return TickBlock(
        **_spots(rows),
        price=values[:, 0].copy(),
        size=values[:, 1].copy(),
        condition=np.array([places.get(condition_of(row), -1) for row in rows], np.int32),
        conditions=conditions,
        run=run,
        source=source,
    )


def condition_of(row: Spot) -> str:
    return ("", "F", "odd lot")[max(row[2], 0) % 3]


def quote_block(rows: Sequence[Spot], run: str = RUN, source: str = "model") -> QuoteBlock:
    values = np.array([spot_values(row) for row in rows], np.float64).reshape(-1, 2)
    return QuoteBlock(
        **_spots(rows),
        bid=values[:, 0] - 0.25,
        bid_size=values[:, 1].copy(),
        ask=values[:, 0] - 0.5,  # crossed: that happens
        ask_size=values[:, 1] * 2,
        run=run,
        source=source,
    )


def tick(row: Spot, run: str = "", source: str = "model", **values: Any) -> Tick:
    """One tick; a sequence of -1 is one without a number, which is 0 in a message."""
    price, size = spot_values(row)
    symbol, ts_ns, sequence, revision = row
    one = Tick(
        *(symbol, ts_ns, price, size, condition_of(row)),
        *(max(sequence, 0), source, revision, run),
    )
    return replace(one, **values)


def quote(row: Spot, run: str = "", source: str = "model") -> Quote:
    price, size = spot_values(row)
    symbol, ts_ns, sequence, revision = row
    return Quote(
        *(symbol, ts_ns, price - 0.25, size, price - 0.5, size * 2),
        *(max(sequence, 0), source, revision, run),
    )


def coverage(
    plan: Plan,
    number: int,
    symbols: Sequence[str] | None = None,
    run: str = RUN,
    **changes: object,
) -> Coverage:
    session = plan.sessions[number]
    names = plan.symbols if symbols is None else tuple(symbols)
    whole = Coverage(names, session.open_ns, session.close_ns, run=run)
    return replace(whole, **changes)  # type: ignore[arg-type]


def plain_frame(session: Session, event: str, /, **changes: object) -> Frame:
    """Return a frame of a session that says no more than its event, but for what is given."""
    plain = Frame(
        run=RUN,
        shard=0,
        shards=1,
        frame=0,
        first_row=0,
        rows=0,
        clock_ns=0,
        event=event,
        mode="replay",
        speed=0.0,
        command=1,
        session=session.label,
        open_ns=session.open_ns,
        close_ns=session.close_ns,
        open_offset=0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


class FencedWriterError(Exception):
    """What the broker tells a stale owner."""


@dataclass
class Partition:
    """What the broker holds of one shard; values are bytes, as on the wire."""

    raw: list[bytes] = field(default_factory=list)
    """Messages of ``raw.bars``."""
    others: dict[str, list[bytes]] = field(default_factory=lambda: {"quotes": [], "ticks": []})
    """Those of the other raw topics, by stream."""
    low: int = 0
    epoch: int = 0
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    requests: list[DataRequest] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    keep: int = 0
    keeps: dict[str, int] = field(default_factory=dict)
    end: int = 0

    def produce(self, record: Record | bytes, stream: str = "bars") -> int:
        value = record if isinstance(record, bytes) else CODEC.encode(record, TOPICS[stream])
        self.log(stream).append(value)
        return len(self.log(stream)) - 1

    def log(self, stream: str) -> list[bytes]:
        return self.raw if stream == "bars" else self.others[stream]

    def commit(self, epoch: int, release: Release) -> list[int]:
        """Take a release whole, or not at all; return the offsets of its frames."""
        if epoch != self.epoch:
            raise FencedWriterError
        offsets = [self.end + number for number in range(len(release.frames))]
        values = [CODEC.encode(frame, "model.session") for frame in release.frames]
        self.frames += zip(offsets, values, strict=True)
        self.end += len(offsets) + 1  # the end of the transaction takes an offset, too
        self.requests += release.requests
        self.rejections += release.rejections
        self.keep = release.keep[TOPIC]
        self.keeps = {stream: release.keep[topic] for stream, topic in TOPICS.items()}
        return offsets

    def tape(self) -> list[Frame]:
        return [decoded(value) for _, value in self.frames]


@cache
def decoded(value: bytes) -> Frame:
    frame = CODEC.decode(value)
    assert isinstance(frame, Frame)
    return frame


def record_of(partition: Partition, offset: int, stream: str = "bars") -> Record | Rejection:
    value = partition.log(stream)[offset]
    try:
        return CODEC.decode(value)
    except DecodeError as exc:
        return Rejection(offset, exc.reason, value)


class Worker:
    """Owns a shard as `streams.owner.Owner` does: takes it over, feeds it, commits.

    Parameters
    ----------
    partition, shard, shards
        The shard in the broker, its number, and how many there are.
    start
        Raw offset from which it reads; the broker's committed one is never past ``keep``.
    """

    def __init__(self, partition: Partition, shard: int, shards: int, start: int = 0) -> None:
        partition.epoch += 1
        self.epoch = partition.epoch
        self.partition = partition
        self.shard = Shard(shard, shards, TOPICS, plan_for)
        self.next = max(start, partition.low)
        self.nexts = {stream: partition.keeps.get(stream, 0) for stream in partition.others}
        if partition.frames:
            assert self.next <= partition.keep
            offset, value = partition.frames[-1]
            last = decoded(value)
            if last.event == "open":
                last = replace(last, open_offset=offset)
            since = [
                decoded(value) for at, value in partition.frames if at >= last.open_offset >= 0
            ]
            is_open = last.event in ("open", "rows") and not last.waiting
            opens = [last.open_offset] if last.open_offset >= 0 else []
            self.shard.recover(last, since if is_open else (), opens)

    def feed(self, wall_ns: int, until: int | None = None) -> None:
        """Hand over the bars before ``until``; default all there is, of all kinds."""
        if until is None:
            for stream in self.nexts:
                self.feed_of(stream, wall_ns)
        end = len(self.partition.raw) if until is None else min(until, len(self.partition.raw))
        while self.next < end:
            self.shard.take(self.next, record_of(self.partition, self.next), wall_ns)
            self.next += 1

    def feed_of(self, stream: str, wall_ns: int, count: int = 2**30) -> None:
        """Hand over the next messages of one of the other raw topics."""
        end = min(len(self.partition.log(stream)), self.nexts[stream] + count)
        for offset in range(self.nexts[stream], end):
            self.shard.take(offset, record_of(self.partition, offset, stream), wall_ns, stream)
        self.nexts[stream] = end

    def commit(self, release: Release) -> list[int]:
        offsets = self.partition.commit(self.epoch, release)
        for frame, offset in zip(release.frames, offsets, strict=True):
            if frame.event == "open":
                self.shard.opened(offset)
        return offsets

    def run(self, wall_ns: int) -> list[Release]:
        """Release and commit until nothing is due."""
        releases = []
        while (release := self.shard.advance(wall_ns)) is not None:
            self.commit(release)
            releases.append(release)
        return releases


@dataclass(frozen=True)
class Delivered:
    """A row of the tape and how it came."""

    row: Row
    values: tuple[float, ...]
    slice_ns: int
    is_correction: bool
    clock_before: int
    session: str
    run: str


def rows_of(frame: Frame, clock_before: int) -> list[Delivered]:
    """Take a frame apart, row by row."""
    found: list[Delivered] = []
    bars, at = frame.bars, 0
    for slice_ns, rows, late in zip(
        frame.slice_ns.tolist(),
        frame.slice_rows.tolist(),
        frame.slice_corrections.tolist(),
        strict=True,
    ):
        for place in range(rows):
            assert bars is not None
            found.append(
                Delivered(
                    (
                        frame.symbols[bars.symbol[at]],
                        int(bars.ts_ns[at]),
                        int(bars.interval_ns[at]),
                        int(bars.revision[at]),
                    ),
                    values_at(bars, at),
                    slice_ns,
                    place < late,
                    clock_before,
                    frame.session,
                    frame.run,
                )
            )
            at += 1
    return found


def values_at(bars: BarColumns | BarBlock, at: int) -> tuple[float, ...]:
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return tuple(float(column[at]) for column in columns)


def delivered(frames: Sequence[Frame]) -> list[Delivered]:
    """All rows of a tape; what one frame of a release holds behind the clock came with the last."""
    found: list[Delivered] = []
    clock = 0
    for frame in frames:
        found += rows_of(frame, clock)
        clock = frame.clock_ns
    return found


@dataclass(frozen=True, order=True)
class Point:
    """A row of any kind on the tape, and how it came; they sort as rows of a slice do."""

    ready: int
    kind: int
    interval: int
    symbol: str
    source: str
    sequence: int
    revision: int
    values: tuple[float | str, ...]
    slice_ns: int
    is_correction: bool


def points(frames: Sequence[Frame]) -> list[Point]:
    """All rows of a tape, of all kinds, in their order."""
    return [point for frame in frames for point in _points(frame)]


def _points(frame: Frame) -> list[Point]:
    known = np.repeat(frame.slice_ns, frame.slice_rows).tolist()
    first = np.cumsum(frame.slice_rows) - frame.slice_rows
    late = np.arange(len(known)) - np.repeat(first, frame.slice_rows)
    is_late = (late < np.repeat(frame.slice_corrections, frame.slice_rows)).tolist()
    found: dict[int, Point] = {}
    for kind, rows in enumerate((frame.ticks, frame.quotes, frame.bars)):
        if rows is None:
            continue
        columns = {name: getattr(rows, name).tolist() for name in rows.columns}
        ready = ready_ns(rows).tolist()
        names = kind_of(rows).values
        if isinstance(rows, TickColumns):
            columns["condition"] = [(*rows.conditions, "")[n] for n in columns["condition"]]
        none = [0] * len(rows)
        for at, place in enumerate(columns["row"]):
            found[place] = Point(
                ready[at],
                kind,
                columns.get("interval_ns", none)[at],
                frame.symbols[columns["symbol"][at]],
                frame.sources[columns["source"][at]],
                columns.get("sequence", none)[at],
                columns["revision"][at],
                tuple(columns[name][at] for name in names),
                known[place],
                is_late[place],
            )
    assert sorted(found) == list(range(frame.rows))
    return [found[place] for place in range(frame.rows)]


Sent = Bar | BarBlock | Quote | QuoteBlock | Tick | TickBlock | Coverage | DataRequest | Halt


def stream_of(record: Record) -> str:
    """Return where a record belongs; coverage and requests: among the bars."""
    name = type(record).__name__
    return next((s for s in ("quotes", "ticks") if name.startswith(s[:-1].title())), "bars")


class Stage:
    """One shard, its partition, and the hands of a test."""

    def __init__(self, desired: Command | None = None, shard: int = 0, shards: int = 1) -> None:
        self.desired = command() if desired is None else desired
        self.plan = plan_for(self.desired, shard, shards)
        self.partition = Partition()
        self.worker = Worker(self.partition, shard, shards)
        self.worker.shard.command(self.desired)
        self.wall_ns = WALL_NS

    @property
    def shard(self) -> Shard:
        return self.worker.shard

    def send(self, *records: Sent, stream: str = "") -> None:
        for record in records:
            self.partition.produce(record, stream or stream_of(record))
        self.worker.feed(self.wall_ns)

    def order(self, **changes: object) -> None:
        self.desired = command(**{"version": self.desired.version + 1, **changes})
        self.shard.command(self.desired)

    def run(self, passed_s: float = 0.0) -> list[Release]:
        self.wall_ns += int(passed_s * SECOND_NS)
        return self.worker.run(self.wall_ns)

    def crash(self, desired: Sequence[Command] | None = None) -> None:
        self.worker = Worker(self.partition, *self._place, self.partition.keep)
        for known in [self.desired] if desired is None else desired:
            self.shard.command(known)
        self.worker.feed(self.wall_ns)

    @property
    def _place(self) -> tuple[int, int]:
        return self.shard.tape.shard, self.shard.tape.shards

    @property
    def tape(self) -> list[Frame]:
        return self.partition.tape()

    @property
    def story(self) -> list[str]:
        return [f"{frame.event} {frame.session}".strip() for frame in self.tape]

    def row(self, minute: int, symbol: str = "AA", session: int = 0, revision: int = 0) -> Row:
        open_ns = self.plan.sessions[session].open_ns
        return (symbol, open_ns + minute * MINUTE_NS, MINUTE_NS, revision)

    def minute(self, minute: int, session: int = 0) -> BarBlock:
        return block([self.row(minute, symbol, session) for symbol in self.plan.symbols])

    def all_of_rows(self, session: int) -> list[Row]:
        return [self.row(m, symbol, session) for m in range(5) for symbol in self.plan.symbols]

    def all_of(self, session: int) -> list[Sent]:
        return [*(self.minute(m, session) for m in range(5)), coverage(self.plan, session)]
