"""Symbols that a live run adds, and whose request nobody answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from schemas import Coverage, DataRequest
from streams.coverage import Status
from streams.intervals import MINUTE_NS
from tests.unit.streams.shards import (
    RUN,
    Stage,
    block,
    command,
    delivered,
    plan_for,
    points,
    tick_block,
)
from tests.unit.streams.test_shard_live import OPENS, at, slices, some, staged, statuses

OLD, NEW = ("AA", "BB"), ("AA", "BB", "CC")


def joining(second: float = 70.0, **changes: Any) -> Stage:
    """A session of which the first minute is out, and the request for a symbol that is added."""
    stage = staged(symbols=OLD, lateness_s=5.0, **changes)
    at(stage, 0)
    stage.send(some(stage, 0, *OLD))
    at(stage, 60)
    add(stage, second, *NEW)
    return stage


def add(stage: Stage, second: float, *symbols: str) -> None:
    version = stage.desired.version + 1
    stage.desired = replace(stage.desired, version=version, symbols=symbols)
    stage.plan = plan_for(stage.desired, 0, 1)
    stage.shard.command(stage.desired)
    at(stage, second)


def asked(stage: Stage) -> list[DataRequest]:
    return [one for one in stage.partition.requests if one.reason == "symbols were added"]


def rows_of(stage: Stage, symbol: str) -> list[tuple[int, bool]]:
    """Minute of each bar of a symbol that is out, and whether it is a correction."""
    return [
        ((one.row[1] - OPENS[0]) // MINUTE_NS, one.is_correction)
        for one in delivered(stage.tape)
        if one.row[0] == symbol
    ]


def warned(stage: Stage, second: float) -> list[str]:
    """Let it be that many seconds behind the open; return what people are told."""
    stage.wall_ns = OPENS[0] + int(second * 1_000_000_000)
    return [text for release in stage.run() for text in release.warnings]


def test_slices_do_not_wait_for_a_symbol_that_has_not_joined() -> None:
    stage = joining()
    stage.send(some(stage, 1, *OLD))
    assert slices(at(stage, 120)) == [(120, 2, 0, 2, 0)]
    assert stage.shard.due_ns() == OPENS[0] + 185_000_000_000
    stage.send(some(stage, 2, *OLD))
    at(stage, 121)
    assert stage.shard.due_ns() == OPENS[0] + 180_000_000_000
    # Once it has joined it is waited for.
    request = asked(stage)[0]
    stage.send(some(stage, 0, "CC"))
    stage.send(Coverage(("CC",), OPENS[0], request.end_ns, request=request.id))
    at(stage, 122)
    assert stage.tape[-1].symbols == NEW
    assert stage.shard.due_ns() == OPENS[0] + 185_000_000_000


def test_a_request_without_an_answer_is_put_again_and_then_given_up() -> None:
    stage = joining(72.0, upkeep=True)
    stage.send(some(stage, 1, "CC"))
    assert warned(stage, 81.9) == []
    assert len(asked(stage)) == 1
    for attempt in range(2, 6):
        assert warned(stage, 62 + 10 * attempt) == []
        assert len(asked(stage)) == attempt
    first, *others = asked(stage)
    assert [one.attempt for one in (first, *others)] == [1, 2, 3, 4, 5]
    assert [one.id for one in others] == [f"{first.id}/{n}" for n in range(2, 6)]
    assert all(replace(one, id=first.id, attempt=1) == first for one in others)
    stage.send(some(stage, 1, *OLD))
    assert slices(at(stage, 120)) == [(120, 2, 0, 2, 0)]
    assert warned(stage, 122) == ["CC: no answer to 5 requests: joined with what came"]
    assert rows_of(stage, "CC") == [(1, True)]
    assert statuses(stage, "CC")[:2] == [Status.MISSING, Status.PENDING]
    stage.send(some(stage, 2, *NEW))
    assert slices(at(stage, 180)) == [(180, 3, 0, 3, 0)]
    # What the source says in the end comes as any late row does.
    stage.send(replace(some(stage, 0, "CC"), request=first.id))
    at(stage, 181)
    assert rows_of(stage, "CC") == [(1, True), (2, False), (0, True)]
    assert statuses(stage, "CC")[0] == Status.FILLED
    assert stage.partition.rejections == []


def test_the_answer_to_any_of_its_requests_counts() -> None:
    stage = joining()
    assert warned(stage, 80) == []
    first, second = asked(stage)
    for request, name in ((first, "DD"), (second, "CC")):
        stage.send(Coverage((name,), OPENS[0], request.end_ns, request=request.id))
    at(stage, 81)
    assert stage.tape[-1].symbols == OLD, "nothing is to be told before its next row"
    stage.send(some(stage, 1, *NEW))
    assert slices(at(stage, 120)) == [(120, 3, 0, 3, 0)]


def test_while_an_answer_comes_it_is_not_asked_again() -> None:
    stage = joining()
    at(stage, 79)
    stage.send(replace(some(stage, 0, "CC"), request=asked(stage)[0].id))
    at(stage, 79)
    at(stage, 88)
    assert len(asked(stage)) == 1
    at(stage, 89)
    assert len(asked(stage)) == 2


def test_a_symbol_that_none_has_answered_for_joins_at_the_close_at_last() -> None:
    stage = joining(290.0, upkeep=True, session_timeout_s=30.0)
    for minute in range(1, 5):
        stage.send(some(stage, minute, *OLD))
    stage.send(some(stage, 4, "CC"))
    at(stage, 300)
    assert [(frame.event, frame.rows) for frame in at(stage, 329)] == [("rows", 0)]
    assert warned(stage, 330) == ["CC: no answer to 3 requests: joined with what came"]
    assert [frame.event for frame in stage.tape[-3:]] == ["rows", "close", "roll"]
    assert rows_of(stage, "CC") == [(4, True)]
    assert statuses(stage, "CC")[:4] == [Status.GIVEN_UP] * 4


def test_at_the_close_all_that_is_held_goes_out() -> None:
    """Behind the last bar, too, where the clock has not come."""
    stage = staged(
        symbols=("AA",), streams=("ticks",), interval="5m", hours="09:30-09:37", lateness_s=5.0
    )
    at(stage, 0)
    at(stage, 306)
    add(stage, 307, "AA", "CC")
    spots = [("CC", OPENS[0] + second * 1_000_000_000, 1, 0) for second in (299, 301, 410)]
    stage.send(tick_block(spots))
    at(stage, 479)
    out = points(at(stage, 480))
    assert [(one.symbol, one.ready) for one in out] == [(one[0], one[1]) for one in spots]
    assert [frame.event for frame in stage.tape[-3:]] == ["rows", "close", "roll"]


def test_what_is_not_read_yet_may_be_the_answer() -> None:
    stage = joining()
    stage.wall_ns += 3600 * 1_000_000_000
    assert stage.shard.advance(stage.wall_ns, is_at_end=False) is None
    assert len(asked(stage)) == 1


def test_another_change_forgets_nothing_that_is_held() -> None:
    stage = joining(streams=("bars", "ticks"))
    early = tick_block([("CC", OPENS[0] + 65_000_000_000, 1, 0)])
    stage.send(early)
    at(stage, 72)
    add(stage, 75, "AA", "BB", "CC", "DD")
    request = asked(stage)[-1]
    assert request.symbols == ("CC", "DD")
    for stream in ("bars", "ticks"):
        stage.send(
            Coverage(request.symbols, OPENS[0], request.end_ns, request=request.id), stream=stream
        )
    at(stage, 76)
    found = [frame.ticks for frame in stage.tape if frame.ticks is not None and len(frame.ticks)]
    assert [ticks.ts_ns.tolist() for ticks in found] == [early.ts_ns.tolist()]


def test_what_is_held_of_a_symbol_that_is_taken_out_again_is_forgotten() -> None:
    stage = joining()
    stage.send(some(stage, 0, "CC"))
    at(stage, 72)
    add(stage, 75, "AA", "BB", "DD")
    request = asked(stage)[-1]
    assert request.symbols == ("DD",)
    stage.send(some(stage, 0, "DD"))
    stage.send(Coverage(("DD",), OPENS[0], request.end_ns, request=request.id))
    at(stage, 76)
    assert (rows_of(stage, "CC"), rows_of(stage, "DD")) == ([], [(0, True)])


def test_in_a_replay_what_was_held_is_refused_with_its_reason() -> None:
    stage = Stage(command(symbols=OLD, speed=1.0))
    stage.run()
    stage.send(*stage.all_of(0))
    stage.run()
    stage.run(2 * 60.0)
    add_to = replace(stage.desired, version=2, symbols=NEW)
    stage.plan = plan_for(add_to, 0, 1)
    stage.shard.command(add_to)
    stage.run()
    mixed = [stage.row(3, name) for name in NEW]
    stage.send(block([stage.row(0, "CC"), stage.row(1, "CC")]), block(mixed))
    stage.run(86_400.0)
    refused = stage.partition.rejections
    assert {one.reason for one in refused} == {"its symbol did not join the session"}
    assert [(one.topic, one.offset) for one in refused] == [
        ("model.raw.bars", 6 + n) for n in (0, 1)
    ]
    whats = [one.what for one in refused]
    assert [what.ts_ns.tolist() for what in whats] == [  # type: ignore[union-attr]
        [OPENS[0], OPENS[0] + MINUTE_NS],
        [OPENS[0] + 3 * MINUTE_NS],
    ]
    assert all(what.run == RUN for what in whats)  # type: ignore[union-attr]
