"""Quotes, ticks and bars through real shards and a broker in memory, whatever happens."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import Command, Frame
from schemas.records import Record
from streams import shard as shard_module
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.plan import Plan
from tests.unit.streams.shards import (
    CODEC,
    WALL_NS,
    Partition,
    Point,
    Row,
    Sent,
    Spot,
    Worker,
    bar,
    block,
    command,
    coverage,
    plan_for,
    points,
    quote,
    quote_block,
    spot_values,
    stream_of,
    tick,
    tick_block,
    values_of,
)

STREAMS = ("ticks", "quotes", "bars")
SOURCES = ("two", "one")
Came = tuple[str, str, Spot | Row]
"""Stream, source and a row."""


def desired(**changes: object) -> Command:
    return command(**{"streams": STREAMS, "symbols": ("AA", "BB"), "end": "2024-11-29", **changes})


def point_of(came: Came, **changes: object) -> Point:
    """The row as the tape has it when it is no correction."""
    stream, source, row = came
    kind = STREAMS.index(stream)
    if stream == "bars":
        symbol, ts_ns, length, revision = row
        ready = ts_ns + length
        values = tuple(values_of(row).values())
        made = Point(ready, kind, length, symbol, source, 0, revision, values, ready, False)
    else:
        symbol, ts_ns, sequence, revision = row
        price, size = spot_values(row)
        conditions = ("", "F", "odd lot")
        values = (price, size, conditions[max(sequence, 0) % 3])  # type: ignore[assignment]
        if stream == "quotes":
            values = (price - 0.25, size, price - 0.5, size * 2)
        made = Point(ts_ns, kind, 0, symbol, source, sequence, revision, values, ts_ns, False)
    return replace(made, **changes)  # type: ignore[arg-type]


def plainly(sent: Sequence[Came]) -> list[Point]:
    """What the tape has to hold, worked out row by row.

    Of numbered quotes and ticks one a (symbol, ts, source, sequence), of bars one a (symbol,
    interval, ts), the highest revision; of those without a number, all.
    """
    best: dict[tuple[object, ...], Came] = {}
    unnumbered = []
    for came in sent:
        stream, source, (symbol, ts_ns, number, revision) = came
        key = (stream, symbol, ts_ns, number, "" if stream == "bars" else source)
        if stream != "bars" and number < 0:
            unnumbered.append(came)
        elif key not in best or best[key][2][3] <= revision:
            best[key] = came
    return sorted(map(point_of, [*best.values(), *unnumbered]))


def spots(open_ns: int) -> st.SearchStrategy[Spot]:
    """Quotes or ticks, many of one time: at the open, at the close, between."""
    times = [0, 1, 30 * SECOND_NS, MINUTE_NS, 4 * MINUTE_NS + 7, 5 * MINUTE_NS]
    symbols = st.sampled_from(["AA", "BB"])
    ts_ns = st.sampled_from([open_ns + at for at in times])
    # What has no number stays as it came: in any order it has to look the same.
    unnumbered = st.tuples(symbols, ts_ns, st.just(-1), st.just(0))
    return st.one_of(unnumbered, st.tuples(symbols, ts_ns, st.integers(0, 3), st.integers(0, 2)))


def rows(open_ns: int) -> st.SearchStrategy[Row]:
    """Bars of one minute."""
    ts_ns = st.sampled_from([open_ns + minute * MINUTE_NS for minute in range(5)])
    length = st.just(MINUTE_NS)
    return st.tuples(st.sampled_from(["AA", "BB"]), ts_ns, length, st.integers(0, 2))


@st.composite
def inputs(draw: st.DrawFn) -> list[Came]:
    """Rows of two sessions."""
    found: list[Came] = []
    for session in plan_for(desired(), 0, 1).sessions:
        for stream in ("ticks", "quotes"):
            came = st.tuples(st.just(stream), st.sampled_from(SOURCES), spots(session.open_ns))
            found += draw(st.lists(came, max_size=12))
        # Bars of one key and revision say the same: one source sends them.
        bars = st.tuples(st.just("bars"), st.just("one"), rows(session.open_ns))
        found += draw(st.lists(bars, max_size=12))
    return found


def messages(sent: Sequence[Came], rng: random.Random) -> dict[str, list[Record]]:
    """The rows in messages of one or of many, in any order, some of the numbered ones twice."""
    found: dict[str, list[Record]] = {stream: [] for stream in STREAMS}
    for stream, source in itertools.product(STREAMS, SOURCES):
        left = [row for s, o, row in sent if (s, o) == (stream, source)]
        left += [row for row in left if row[2] >= 0 and rng.random() < 0.3]
        rng.shuffle(left)
        while left:
            size = rng.randint(1, 5)
            some, left = left[:size], left[size:]
            if stream == "bars":
                found[stream].append(block(some, source=source))
            # A number of 0 in a message of one row is none: that is a block's alone.
            elif len(some) == 1 and some[0][2] != 0:
                one = tick if stream == "ticks" else quote
                found[stream].append(one(some[0], source=source))
            else:
                many = tick_block if stream == "ticks" else quote_block
                found[stream].append(many(some, source=source))
        rng.shuffle(found[stream])
    return found


def covered(partition: Partition, plan: Plan) -> None:
    for stream in STREAMS:
        for number in range(len(plan.sessions)):
            partition.produce(coverage(plan, number), stream)


def played(sent: Sequence[Came], asked: Command, seed: int, crashes: float) -> Partition:
    """Play a replay: messages in any order, fed as it comes, owners that die at any point."""
    rng = random.Random(seed)
    plan = plan_for(asked, 0, 1)
    partition = Partition()
    for stream, records in messages(sent, rng).items():
        for record in records:
            partition.produce(record, stream)
    covered(partition, plan)
    worker = Worker(partition, 0, 1)
    worker.shard.command(asked)
    wall_ns = WALL_NS
    while not (partition.frames and partition.tape()[-1].event == "end"):
        for stream in worker.nexts:
            worker.feed_of(stream, wall_ns, rng.randint(0, 4))
        worker.feed(wall_ns, worker.next + rng.randint(1, 3))
        release = worker.shard.advance(wall_ns)
        dies = rng.random() < crashes
        if release is not None and not (dies and rng.random() < 0.5):
            worker.commit(release)
        if dies:
            worker = Worker(partition, 0, 1, partition.keep)
            worker.shard.command(asked)
        wall_ns += 3 * SECOND_NS
    return partition


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sent=inputs(),
    seed=st.integers(0, 999),
    crashes=st.sampled_from([0.0, 0.4]),
    release_rows=st.sampled_from([3, 65_536]),
    speed=st.sampled_from([0.0, 60.0]),
)
def test_whatever_the_arrival_and_whoever_dies_each_row_comes_once_and_in_order(
    sent: list[Came], seed: int, crashes: float, release_rows: int, speed: float
) -> None:
    asked = desired(speed=speed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_module, "RELEASE_ROWS", release_rows)
        partition = played(sent, asked, seed, crashes)
    frames = partition.tape()
    assert points(frames) == plainly(sent)
    assert not partition.rejections
    clock = 0
    for frame in frames:
        assert len(CODEC.encode(frame)) < 900_000
        assert frame.clock_ns >= clock
        clock = frame.clock_ns
        bars = 0 if frame.bars is None else len(frame.bars)
        assert frame.slice_received.sum() == bars
    assert partition.keeps == {s: len(partition.log(s)) for s in ("bars", "quotes", "ticks")}


def steps(plan: Plan) -> list[list[Sent]]:
    """What comes in before each step: late rows, repeats and revisions of every kind."""
    first = plan.sessions[0].open_ns
    minutes = [first + minute * MINUTE_NS for minute in range(5)]
    bars = [block([(s, minute, MINUTE_NS, 0) for s in plan.symbols]) for minute in minutes]
    at = first + 30 * SECOND_NS
    return [
        [
            bars[0],
            tick_block([("AA", first, 0, 0), ("AA", first, 1, 0), ("BB", at, 0, 0)]),
            quote_block([("BB", first, 0, 1), ("AA", at, 4, 0)]),
            tick(("AA", first, -1, 0)),
            tick(("AA", first, -1, 0), price=float("nan")),
        ],
        [bars[1], quote(("AA", at + MINUTE_NS, 7, 0)), tick(("AA", first, -1, 0))],
        [
            bars[2],
            tick(("AA", at, 3, 0)),
            quote(("BB", first, 3, 2)),
            tick_block([("AA", first, 0, 0), ("AA", first, 1, 2), ("AA", first, 2, 0)]),
        ],
        [bar(("AA", minutes[0], MINUTE_NS, 1)), quote_block([("BB", first, 0, 0)])],
        [bars[3], quote_block([("AA", minutes[4], 0, 0), ("AA", at, 4, 1)])],
        [bars[4], tick(("BB", first + 5 * MINUTE_NS, 9, 0))],
        [],
    ]


def history(deaths: dict[int, str]) -> tuple[list[bytes], list[tuple[str, int, str]]]:
    """Play the steps at real time, a minute each, dying at some releases; the tape, the refused."""
    asked = desired(speed=1.0, end="2024-11-27")
    plan = plan_for(asked, 0, 1)
    partition = Partition()
    worker = Worker(partition, 0, 1)
    worker.shard.command(asked)
    covered(partition, plan)
    number, wall_ns = 0, WALL_NS
    for records in [*steps(plan), [], [], []]:
        for record in records:
            partition.produce(record, stream_of(record))
        worker.feed(wall_ns)
        for _ in range(30):
            release = worker.shard.advance(wall_ns)
            fate = "" if release is None else deaths.get(number, "")
            number += 1
            if release is not None and fate == "after":
                partition.commit(worker.epoch, release)
            elif release is not None and not fate:
                worker.commit(release)
            if fate:
                worker = Worker(partition, 0, 1, partition.keep)
                worker.shard.command(asked)
                worker.feed(wall_ns)
            elif release is None:
                break
        wall_ns += 60 * SECOND_NS
    frames = [value for _, value in partition.frames]
    return frames, sorted((r.topic, r.offset, r.reason) for r in partition.rejections)


def test_no_crash_changes_a_byte_of_a_small_history() -> None:
    right, refused = history({})
    frames = [CODEC.decode(value) for value in right]
    rows = points([frame for frame in frames if isinstance(frame, Frame)])
    late = [(STREAMS[p.kind], p.symbol, p.sequence, p.revision) for p in rows if p.is_correction]
    assert late == [
        ("ticks", "AA", -1, 0),
        ("ticks", "AA", 1, 2),
        ("ticks", "AA", 2, 0),
        ("quotes", "BB", 3, 2),
        ("ticks", "AA", 3, 0),
        ("bars", "AA", 0, 1),
        ("quotes", "AA", 4, 1),
    ]
    assert len(rows) == 10 + 5 + 4 + len(late)  # bars, ticks, quotes
    assert refused == [
        ("model.raw.quotes", 4, "a later revision of it is out"),
        ("model.raw.ticks", 3, "a price or size is not a number"),
    ]
    for at, fate in itertools.product(range(25), ("before", "after")):
        assert history({at: fate}) == (right, refused)
    for at, after, fate, then in itertools.product(
        range(0, 25, 2), (1, 2, 4), ("before", "after"), ("before", "after")
    ):
        assert history({at: fate, at + after: then}) == (right, refused)
