"""A shard with quotes and ticks: what opens a session, what is expected, what goes where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schemas import DataRequest, Frame, Quote, Tick
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.shard import Shard
from tests.unit.streams.shards import (
    RUN,
    TOPIC,
    TOPICS,
    WALL_NS,
    Stage,
    Worker,
    command,
    coverage,
    plan_for,
    points,
    quote,
    quote_block,
    tick,
    tick_block,
)

KINDS = ("ticks", "quotes", "bars")
SYMBOLS = ("AA", "BB")


def stage(**changes: object) -> Stage:
    fields = {"streams": KINDS, "symbols": SYMBOLS, "end": "2024-11-27", **changes}
    return Stage(command(**fields))


def open_of(one: Stage) -> int:
    return one.plan.sessions[0].open_ns


def ticks_of(frames: list[Frame]) -> list[tuple[str, int, int]]:
    return [(p.symbol, p.ready, p.sequence) for p in points(frames)]


def test_a_session_opens_when_every_kind_is_covered() -> None:
    one = stage()
    one.run()
    one.send(*one.all_of(0))
    one.send(coverage(one.plan, 0), stream="quotes")
    one.send(coverage(one.plan, 0, ["AA"]), stream="ticks")
    one.run()
    assert one.story == ["start"]
    assert one.partition.requests[0].streams == one.desired.streams
    one.send(coverage(one.plan, 0, ["BB"], answer="nothing"), stream="ticks")
    one.run()
    assert one.story[1] == "open 2024-11-27"
    assert not one.tape[1].incomplete


def test_what_no_source_can_say_is_named_with_its_kind() -> None:
    one = stage()
    one.run()
    one.send(*one.all_of(0))
    one.send(coverage(one.plan, 0, answer="cannot_say"), stream="quotes")
    one.send(coverage(one.plan, 0, ["AA"]), stream="ticks")
    one.send(coverage(one.plan, 0, ["BB"], answer="cannot_say"), stream="ticks")
    one.run()
    (opened,) = [frame for frame in one.tape if frame.event == "open"]
    assert opened.incomplete
    assert opened.reason == "no source can say: ticks of BB; quotes of AA, BB"


def test_a_kind_that_is_not_played_is_passed_over() -> None:
    one = stage(streams=("bars",))
    one.send(quote(("AA", open_of(one), 1, 0)), quote(("AA", 0, 1, 0)))
    one.run()
    one.send(tick(("XX", open_of(one), 1, 0)))
    one.send(*one.all_of(0))
    one.run()
    assert {p.kind for p in points(one.tape)} == {2}
    assert not one.partition.rejections
    assert one.partition.keeps == {"bars": 6, "quotes": 2, "ticks": 1}


@pytest.mark.parametrize("upkeep", [False, True])
def test_without_bars_nothing_is_expected(upkeep: bool) -> None:
    one = stage(streams=("ticks",), upkeep=upkeep)
    one.run()
    at = open_of(one)
    one.send(tick_block([("AA", at + 1, 0, 0), ("BB", at + MINUTE_NS, 1, 0)]))
    one.send(coverage(one.plan, 0), stream="ticks")
    one.run()
    assert one.story[-1] == "end"
    assert ticks_of(one.tape) == [("AA", at + 1, 0), ("BB", at + MINUTE_NS, 1)]
    assert all(frame.expected == 0 and frame.minutes is None for frame in one.tape)
    slices = [ns for frame in one.tape for ns in frame.slice_ns.tolist()]
    # The clock comes by each minute all the same: no shard holds up the others.
    assert slices == sorted({at + 1, *(at + minute * MINUTE_NS for minute in range(1, 6))})
    for name in ("slice_expected", "slice_received", "slice_no_trade", "slice_missing"):
        assert not any(getattr(frame, name).any() for frame in one.tape)


def test_gaps_are_looked_for_when_the_bars_are_there() -> None:
    one = stage(upkeep=True)
    one.run()
    for minute in range(4):
        one.send(one.minute(minute))
    one.send(coverage(one.plan, 0))
    one.run()
    assert one.story[-1] == "rows 2024-11-27"
    minutes = one.tape[-1].minutes
    assert minutes is not None
    assert minutes.loaded
    one.send(coverage(one.plan, 0), stream="ticks")
    one.send(coverage(one.plan, 0), stream="quotes")
    one.run()
    assert "open 2024-11-27" not in one.story  # minutes are missing, and nobody has answered yet


def test_what_is_ready_at_the_open_is_of_the_session_and_no_correction() -> None:
    one = stage(streams=("ticks",), speed=1.0)
    one.run()
    at = open_of(one)
    one.send(coverage(one.plan, 0), stream="ticks")
    one.run()
    assert one.story[-1] == "open 2024-11-27"
    assert one.tape[-1].clock_ns == at
    one.send(tick_block([("AA", at, 0, 0)]))  # the clock of the open frame stands there already
    one.crash()
    one.run()
    one.send(tick_block([("BB", at, 0, 0)]))  # now the slice is out
    one.run(60)
    found = [(p.symbol, p.slice_ns - at, p.is_correction) for p in points(one.tape)]
    assert found == [("AA", 0, False), ("BB", MINUTE_NS, True)]


def test_the_close_of_a_day_without_a_break_is_the_next_open() -> None:
    one = stage(
        streams=("ticks",), calendar="24/7", start="2024-11-27", end="2024-11-28", hours="regular"
    )
    first, second = one.plan.sessions
    assert first.close_ns == second.open_ns
    one.run()
    one.send(coverage(one.plan, 0), coverage(one.plan, 1), stream="ticks")
    one.send(tick_block([("AA", first.close_ns - 1, 0, 0), ("AA", first.close_ns, 1, 0)]))
    one.worker.feed(one.wall_ns)
    while (release := one.shard.advance(one.wall_ns)) is not None:
        one.worker.commit(release)
        one.crash()
    by_session = [(f.session, f.ticks.sequence.tolist()) for f in one.tape if f.ticks is not None]
    assert by_session == [("2024-11-27", [0]), ("2024-11-28", [1])]
    assert one.story[-1] == "end"


def test_a_row_of_exactly_the_close_is_taken() -> None:
    one = stage(streams=("quotes",))
    one.run()
    close = one.plan.sessions[0].close_ns
    one.send(quote_block([("AA", close, 0, 0), ("AA", close + 1, 1, 0)]))
    one.send(coverage(one.plan, 0), stream="quotes")
    one.run()
    assert ticks_of(one.tape) == [("AA", close, 0)]
    (rejection,) = one.partition.rejections
    assert (rejection.topic, rejection.reason) == (
        "model.raw.quotes",
        "the time lies outside every session",
    )


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (tick(("AA", 0, 1, 0), price=float("inf")), "a price or size is not a number"),
        (tick(("AA", 0, 1, 0), size=-1.0), "a size is negative"),
        (tick(("AA", 0, 1, 0), sequence=-7), "the sequence number is negative"),
        (tick(("AA", 0, 1, 0), conditions="x" * 121), "the condition has more than 120 bytes"),
        (quote(("AA", 0, 1, 0)), "a Quote does not belong on this topic"),
        (tick(("ZZ", 0, 1, 0)), "symbol 'ZZ' is not one of the run"),
        (plan_for(command(), 0, 1).request(0, is_now=True), "a DataRequest does not belong on"),
    ],
)
def test_what_makes_no_sense_is_refused(one: Tick | Quote | DataRequest, reason: str) -> None:
    stand = stage(streams=("ticks",))
    stand.run()
    if isinstance(one, Tick):
        one = replace(one, ts_ns=open_of(stand) + 1)
    if isinstance(one, DataRequest):  # gaps are minutes without a bar: they are asked for there
        one = replace(one, kind="gap")
    stand.send(one, coverage(stand.plan, 0), stream="ticks")
    stand.run()
    (rejection,) = stand.partition.rejections
    assert rejection.reason.startswith(reason)
    assert rejection.topic == "model.raw.ticks"
    assert points(stand.tape) == []


def test_a_frame_of_before_that_knows_bars_alone_can_be_gone_on_from() -> None:
    one = stage(streams=("bars",))
    one.run()
    one.send(*one.all_of(0)[:3])
    last = one.tape[-1]
    old = replace(last, positions=tuple(p for p in last.positions if p.topic == TOPIC))
    shard = Shard(0, 1, TOPICS, plan_for)
    shard.recover(old, ())
    assert shard.inboxes["bars"].next_offset == 0
    assert shard.inboxes["ticks"].next_offset is None
    shard.command(one.desired)
    assert shard.advance(WALL_NS) is None
    shard.take(0, tick(("AA", 0, 1, 0)), WALL_NS, "ticks")
    assert shard.inboxes["ticks"].next_offset == 1


def test_a_quiet_shard_says_where_its_clock_is() -> None:
    one = stage(speed=1.0)
    one.run()
    for stream in KINDS:
        one.send(coverage(one.plan, 0), stream=stream)
    one.run()
    at = open_of(one)
    assert one.shard.due_ns() == WALL_NS + SECOND_NS // 10
    one.run(0.05)
    assert one.tape[-1].event == "open"
    one.run(0.1)
    assert (one.tape[-1].clock_ns, one.tape[-1].rows) == (at + SECOND_NS * 15 // 100, 0)
    # What came late waits for a slice: until then nothing is told.
    one.send(tick_block([("AA", at + 1, 0, 0)]))
    frames = len(one.tape)
    one.run(1)
    assert len(one.tape) == frames
    assert one.shard.due_ns() == WALL_NS + 60 * SECOND_NS
    one.run(60)
    assert [(p.symbol, p.is_correction) for p in points(one.tape)] == [("AA", True)]


@pytest.mark.parametrize("changes", [{"streams": ("bars",)}, {"lockstep": ("g",)}, {"speed": 0.0}])
def test_others_need_not(changes: dict[str, object]) -> None:
    plan = plan_for(command(**{"streams": KINDS, "speed": 1.0, **changes}), 0, 1)
    assert plan.beat_ns(5) > plan.sessions[-1].close_ns


def test_symbols_join_with_all_their_kinds() -> None:
    one = stage(symbols=("AA",), speed=1.0)
    one.run()
    for stream in KINDS:
        one.send(coverage(one.plan, 0), stream=stream)
    one.run()
    one.run(90)
    at = open_of(one)
    fields = {"streams": KINDS, "symbols": SYMBOLS, "end": "2024-11-27", "speed": 1.0}
    one.order(**fields)
    one.plan = plan_for(one.desired, 0, 1)
    one.run()
    request = one.partition.requests[-1]
    assert (request.symbols, request.streams) == (("BB",), KINDS)
    rows = [("BB", at, 0, 0), ("BB", at + 61 * SECOND_NS, 1, 0), ("BB", at + 130 * SECOND_NS, 2, 0)]
    one.send(tick_block(rows))
    one.send(quote_block([("AA", at + 1, 0, 0), ("BB", at + 1, 0, 0)]))
    for stream in KINDS:
        assert one.tape[-1].symbols == ("AA",)
        one.send(coverage(one.plan, 0, ["BB"], request=request.id), stream=stream)
    one.run(60)
    found = [(p.kind, p.symbol, p.sequence, p.is_correction) for p in points(one.tape)]
    assert found == [
        (0, "BB", 0, True),
        (1, "AA", 0, True),
        (1, "BB", 0, True),
        (0, "BB", 1, True),
        (0, "BB", 2, False),
    ]
    one.crash()
    assert one.shard.advance(one.wall_ns) is None
    one.send(tick_block([("BB", at + 61 * SECOND_NS, 1, 0), ("BB", at, 0, 3)]))
    one.run(60)
    assert [(p.sequence, p.revision) for p in points(one.tape)[5:]] == [(0, 3)]


def test_a_repeat_of_what_came_by_another_name_of_the_source_is_another_row() -> None:
    one = stage(streams=("ticks",))
    one.run()
    at = open_of(one)
    for source in ("zeta", "alpha"):
        for _ in range(2):
            one.send(tick_block([("AA", at, 0, 0), ("AA", at, 1, 0)], RUN, source))
    one.send(coverage(one.plan, 0), stream="ticks")
    one.run()
    found = [(p.source, p.sequence) for p in points(one.tape)]
    assert found == [("alpha", 0), ("alpha", 1), ("zeta", 0), ("zeta", 1)]


def test_many_conditions_go_with_the_frames_that_need_them() -> None:
    one = stage(streams=("ticks",))
    one.run()
    at = open_of(one)
    count = 30_000
    names = tuple(f"{n:0100d}" for n in range(count))
    made = tick_block([("AA", at, 0, 0)])
    rows = replace(
        made,
        symbol=np.zeros(count, np.int32),
        ts_ns=at + np.arange(count),
        price=np.ones(count),
        size=np.ones(count),
        sequence=np.arange(count),
        revision=np.zeros(count, np.int32),
        condition=np.arange(count, dtype=np.int32) - 1,
        conditions=names,
    )
    one.shard.take(0, rows, one.wall_ns, "ticks")
    one.shard.take(1, coverage(one.plan, 0), one.wall_ns, "ticks")
    one.run()
    found = points(one.tape)
    assert [p.values[2] for p in found] == ["", *names[:-1]]
    assert len([f for f in one.tape if f.rows]) > 3
    assert all(len(value) <= 900_000 for _, value in one.partition.frames)


def test_an_owner_takes_up_what_the_last_one_left() -> None:
    one = stage(streams=("ticks",))
    one.run()
    worker = Worker(one.partition, 0, 1)
    assert [worker.shard.inboxes[s].next_offset for s in KINDS] == [0, 0, 0]
