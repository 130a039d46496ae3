"""A shard of a live run: slices by what was reported or by lateness, sessions by the wall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock, Command, Coverage, DataRequest, Frame, Halt
from streams.coverage import Status
from streams.intervals import MINUTE_NS, SECOND_NS
from tests.unit.streams.shards import (
    RUN,
    Delivered,
    Stage,
    block,
    command,
    delivered,
    plan_for,
    points,
    quote_block,
    tick_block,
)

OPENS = [session.open_ns for session in plan_for(command(), 0, 1).sessions]


def live(begin_s: float = -10.0, **changes: object) -> Command:
    """A live run that began so many seconds after the first open, by the clock on the wall."""
    now_ns = OPENS[0] + int(begin_s * SECOND_NS)
    plain = {"mode": "live", "speed": 1.0, "anchor_wall_ns": now_ns, "anchor_clock_ns": now_ns}
    return command(**(plain | changes))


def staged(begin_s: float = -10.0, **changes: object) -> Stage:
    stage = Stage(live(begin_s, **changes))
    stage.wall_ns = stage.desired.anchor_wall_ns
    stage.run()
    return stage


def at(stage: Stage, second: float, session: int = 0) -> list[Frame]:
    """Let it be that many seconds behind the open; return the frames that go out then."""
    before = len(stage.tape)
    stage.wall_ns = stage.plan.sessions[session].open_ns + int(second * SECOND_NS)
    stage.run()
    return stage.tape[before:]


def some(stage: Stage, minute: int, *symbols: str, session: int = 0, revision: int = 0) -> BarBlock:
    return block([stage.row(minute, symbol, session, revision) for symbol in symbols])


def slices(frames: list[Frame]) -> list[tuple[int, ...]]:
    """Second behind the open, rows, corrections, received, missing of each slice."""
    return [
        (int(ns - frame.open_ns) // SECOND_NS, *map(int, rest))
        for frame in frames
        for ns, *rest in zip(
            frame.slice_ns,
            frame.slice_rows,
            frame.slice_corrections,
            frame.slice_received,
            frame.slice_missing,
            strict=True,
        )
    ]


def test_a_session_opens_by_the_clock_and_a_slice_goes_out_with_its_last_report() -> None:
    stage = staged()
    assert stage.story == ["start"]
    assert stage.partition.requests == []
    assert at(stage, -0.001) == []
    assert [frame.event for frame in at(stage, 0)] == ["open"]
    stage.send(some(stage, 0, "AA", "BB"))
    assert at(stage, 60.1) == []
    stage.send(some(stage, 0, "CC"))
    assert slices(at(stage, 60.2)) == [(60, 3, 0, 3, 0)]
    assert stage.tape[-1].clock_ns == OPENS[0] + MINUTE_NS


def test_what_lacks_is_waited_for_as_long_as_lateness_says_and_comes_as_a_correction() -> None:
    stage = staged(lateness_s=5.0)
    at(stage, 0)
    stage.send(some(stage, 0, "AA", "BB"))
    assert at(stage, 64.999) == []
    assert stage.shard.due_ns() == OPENS[0] + 65 * SECOND_NS
    assert slices(at(stage, 65)) == [(60, 2, 0, 2, 1)]
    stage.send(some(stage, 0, "CC"))
    late = at(stage, 70)
    assert slices(late) == [(65, 1, 1, 0, 0)]
    # A row that says something else is a revision of what is out.
    stage.send(some(stage, 0, "AA", revision=1))
    assert [one.row[3] for one in delivered(at(stage, 71))] == [1]
    assert at(stage, 80) == []


def test_a_heartbeat_reports_for_those_without_a_bar() -> None:
    stage = staged()
    at(stage, 0)
    stage.send(some(stage, 0, "AA"))
    stage.send(Coverage(("BB", "CC"), OPENS[0], OPENS[0] + MINUTE_NS + 1))
    assert slices(at(stage, 60)) == [(60, 1, 0, 1, 2)]
    # One that says it can't say reports nothing.
    stage.send(Coverage(stage.plan.symbols, OPENS[0], OPENS[0] + 2 * MINUTE_NS, "cannot_say"))
    assert at(stage, 120) == []
    assert slices(at(stage, 122)) == [(120, 0, 0, 0, 3)]


def test_nothing_goes_out_before_its_time_even_if_all_is_there() -> None:
    stage = staged()
    at(stage, 0)
    stage.send(stage.minute(0))
    assert at(stage, 59.9) == []
    assert stage.shard.due_ns() == OPENS[0] + MINUTE_NS
    assert slices(at(stage, 60)) == [(60, 3, 0, 3, 0)]


def test_who_is_halted_is_not_waited_for_and_its_minutes_say_so() -> None:
    stage = staged(upkeep=True)
    at(stage, 0)
    stage.send(Halt(("BB",), OPENS[0] + 10 * SECOND_NS, halted=True))
    for minute in range(3):
        stage.send(some(stage, minute, "AA", "CC"))
        assert slices(at(stage, 60.0 * (minute + 1))) == [(60 * (minute + 1), 2, 0, 2, 0)]
        if minute == 1:
            stage.crash()
    assert statuses(stage, "BB") == [Status.HALTED] * 3 + [Status.PENDING] * 2
    # In the minute in which it trades again it may have a bar.
    stage.send(Halt(("BB",), OPENS[0] + 200 * SECOND_NS, halted=False))
    stage.send(some(stage, 3, "AA", "CC"))
    assert at(stage, 240) == []
    stage.send(some(stage, 3, "BB"))
    assert slices(at(stage, 241)) == [(240, 3, 0, 3, 0)]
    stage.send(some(stage, 4, "AA", "CC"))
    at(stage, 302)
    assert statuses(stage, "BB")[3:] == [Status.PENDING, Status.MISSING]


def statuses(stage: Stage, symbol: str, session: int = 0) -> list[Status]:
    """What the frames say of the minutes of a symbol; one that has a bar is not spoken of."""
    found = [Status.PENDING] * 5
    label = stage.plan.sessions[session].label
    for frame in stage.tape:
        told = frame.minutes
        if told is None or told.session != label:
            continue
        for number, ts_ns, end_ns, status in zip(
            told.symbol, told.ts_ns, told.end_ns, told.status, strict=True
        ):
            if told.symbols[number] == symbol:
                first, stop = ((ns - OPENS[session]) // MINUTE_NS for ns in (ts_ns, end_ns))
                found[first:stop] = [Status(status)] * int(stop - first)
    return found


def test_what_is_missing_is_told_and_what_fills_it_is_a_correction() -> None:
    stage = staged(upkeep=True)
    at(stage, 0)
    stage.send(some(stage, 0, "AA", "BB"))
    at(stage, 62)
    assert statuses(stage, "CC")[0] == Status.MISSING
    assert statuses(stage, "AA")[0] == Status.PENDING
    stage.send(some(stage, 0, "CC"))
    assert slices(at(stage, 63)) == [(61, 1, 1, 0, 0)]
    assert statuses(stage, "CC")[0] == Status.FILLED


def test_a_session_closes_when_late_rows_had_their_time_and_the_next_opens_by_the_clock() -> None:
    stage = staged()
    at(stage, 0)
    for minute in range(5):
        stage.send(stage.minute(minute))
    assert slices(at(stage, 300))[-1] == (300, 3, 0, 3, 0)
    assert stage.tape[-1].event == "rows"
    stage.send(some(stage, 4, "AA", revision=1))
    assert slices(at(stage, 301)) == [(300, 1, 1, 0, 0)]
    assert stage.shard.due_ns() == OPENS[0] + 302 * SECOND_NS
    assert [frame.event for frame in at(stage, 302)] == ["close", "roll"]
    assert stage.shard.due_ns() == OPENS[1]
    stage.send(some(stage, 0, "AA", session=1))
    assert at(stage, -1, session=1) == []
    assert [frame.event for frame in at(stage, 0, session=1)] == ["open"]
    assert stage.partition.rejections == []


def test_a_session_with_open_gaps_waits_for_them_and_gives_them_up() -> None:
    stage = staged(upkeep=True, session_timeout_s=60.0)
    at(stage, 0)
    for minute in range(5):
        stage.send(some(stage, minute, "AA", "BB"))
    assert at(stage, 305)[-1].event == "rows"
    assert stage.shard.due_ns() == OPENS[0] + 360 * SECOND_NS
    assert [frame.event for frame in at(stage, 359)] == []
    assert [frame.event for frame in at(stage, 360)] == ["rows", "close", "roll"]
    assert statuses(stage, "CC") == [Status.GIVEN_UP] * 5


def test_a_start_in_mid_session_catches_up_and_joins_without_a_seam() -> None:
    stage = staged(begin_s=150.0)
    asked = stage.partition.requests
    assert [(one.kind, one.start_ns, one.end_ns) for one in asked] == [
        ("session", OPENS[0], OPENS[0] + 2 * MINUTE_NS)
    ]
    # What the feed sends meanwhile waits.
    stage.send(stage.minute(2))
    assert at(stage, 181) == []
    stage.send(stage.minute(0), stage.minute(1))
    end_ns = OPENS[0] + 2 * MINUTE_NS
    stage.send(Coverage(("AA", "BB"), OPENS[0], end_ns, request=asked[0].id))
    assert at(stage, 182) == []
    stage.send(Coverage(("CC",), OPENS[0], end_ns, "cannot_say", request=asked[0].id))
    found = at(stage, 182.5)
    assert found[0].event == "open"
    assert not found[0].incomplete
    assert slices(found) == [(60, 3, 0, 3, 0), (120, 3, 0, 3, 0), (180, 3, 0, 3, 0)]


def test_without_an_answer_it_opens_incomplete_after_a_while() -> None:
    stage = staged(begin_s=150.0, session_timeout_s=7.0)
    assert stage.shard.due_ns() == OPENS[0] + 157 * SECOND_NS
    for second in range(151, 157):  # what comes by itself answers nothing
        stage.send(Coverage(stage.plan.symbols, OPENS[0] + 150 * SECOND_NS, OPENS[0], run=RUN))
        assert at(stage, second) == []
    assert at(stage, 156.9) == []
    opened = at(stage, 157)[0]
    assert opened.incomplete
    assert opened.reason == ("nothing came for 7 s; no coverage of AA, BB, CC before the run began")


def test_a_clock_that_is_far_behind_says_so() -> None:
    stage = staged(begin_s=150.0, catchup_threshold_s=30.0)
    stage.send(stage.minute(0), stage.minute(1))
    stage.send(Coverage(stage.plan.symbols, OPENS[0], OPENS[0] + 2 * MINUTE_NS))
    stage.worker.feed(stage.wall_ns)
    stage.wall_ns = OPENS[0] + 175 * SECOND_NS
    told = []
    while (release := stage.shard.advance(stage.wall_ns, is_at_end=False)) is not None:
        stage.worker.commit(release)
        told += [(frame.event, frame.catching_up) for frame in release.frames]
    assert told == [("open", False), ("rows", True)]
    # Read to the end it is told anew, though nothing else is due.
    assert [(frame.rows, frame.catching_up) for frame in at(stage, 175)] == [(0, False)]
    assert stage.shard.advance(stage.wall_ns, is_at_end=False) is None
    stage.send(stage.minute(2))
    assert [frame.catching_up for frame in at(stage, 180)] == [False]


def test_behind_an_outage_nothing_is_late_before_all_that_came_is_read() -> None:
    stage = staged()
    at(stage, 0)
    stage.wall_ns = OPENS[0] + 200 * SECOND_NS
    assert stage.shard.advance(stage.wall_ns, is_at_end=False) is None
    stage.send(stage.minute(0), some(stage, 1, "AA"))
    release = stage.shard.advance(stage.wall_ns, is_at_end=False)
    assert release is not None
    stage.worker.commit(release)
    assert slices(list(release.frames)) == [(60, 3, 0, 3, 0)]
    stage.send(some(stage, 1, "BB", "CC"))
    assert slices(at(stage, 201)) == [(120, 3, 0, 3, 0), (180, 0, 0, 0, 3)]


def test_a_pause_holds_and_a_resume_goes_on_at_the_wall_clock() -> None:
    stage = staged()
    at(stage, 0)
    stage.desired = replace(stage.desired, version=2, action="pause", paused=True)
    stage.shard.command(stage.desired)
    stage.send(stage.minute(0))
    assert [(f.state, f.rows) for f in at(stage, 90)] == [("paused", 0)]
    assert stage.shard.due_ns() is None
    stage.desired = replace(stage.desired, version=3, action="resume", paused=False)
    stage.shard.command(stage.desired)
    assert slices(at(stage, 100)) == [(60, 3, 0, 3, 0)]


def test_a_session_is_not_opened_while_it_is_paused() -> None:
    stage = staged(paused=True)
    assert at(stage, 10) == []
    assert stage.shard.due_ns() is None


def test_a_rehearsal_goes_at_its_speed_and_jumps_over_nights() -> None:
    stage = Stage(live(anchor_clock_ns=OPENS[0], anchor_wall_ns=7, speed=100.0))
    stage.wall_ns = 7
    stage.run()
    assert stage.story == ["start", "open 2024-11-27"]
    stage.send(stage.minute(0))
    stage.wall_ns = 7 + 6 * SECOND_NS // 10
    assert [len(release.frames) for release in stage.run()] == [1]
    stage.wall_ns += 3 * SECOND_NS
    stage.run()
    assert stage.story[-3:] == ["close 2024-11-27", "roll 2024-11-29", "open 2024-11-29"]


def test_a_symbol_that_is_added_is_caught_up_to_now() -> None:
    stage = staged(symbols=("AA", "BB"))
    at(stage, 0)
    stage.send(some(stage, 0, "AA", "BB"))
    at(stage, 60)
    stage.desired = replace(stage.desired, version=2, symbols=("AA", "BB", "CC"))
    stage.shard.command(stage.desired)
    at(stage, 70)
    asked = stage.partition.requests[-1]
    assert (asked.symbols, asked.end_ns) == (("CC",), OPENS[0] + MINUTE_NS)
    stage.plan = plan_for(stage.desired, 0, 1)
    stage.send(some(stage, 0, "CC"))
    stage.send(Coverage(("CC",), OPENS[0], asked.end_ns, request=asked.id))
    joined = at(stage, 71)
    assert [one.row[0] for one in delivered(joined)] == ["CC"]
    assert joined[-1].symbols == ("AA", "BB", "CC")
    stage.send(some(stage, 1, "AA", "BB", "CC"))
    assert slices(at(stage, 120)) == [(120, 3, 0, 3, 0)]


def test_a_symbol_that_joins_over_a_crash_is_asked_for_up_to_then() -> None:
    stage = staged(symbols=("AA", "BB"))
    at(stage, 0)
    for minute in range(2):
        stage.send(some(stage, minute, "AA", "BB"))
        at(stage, 60.0 * (minute + 1))
    stage.desired = replace(stage.desired, version=2, symbols=("AA", "BB", "CC"))
    stage.shard.command(stage.desired)
    at(stage, 130)
    stage.plan = plan_for(stage.desired, 0, 1)
    stage.send(some(stage, 2, "AA", "BB", "CC"))
    at(stage, 182)
    stage.crash()
    at(stage, 183)
    asked = stage.partition.requests[-1]
    assert (asked.symbols, asked.end_ns) == (("CC",), OPENS[0] + 180 * SECOND_NS)
    stage.send(some(stage, 0, "CC"), some(stage, 1, "CC"), some(stage, 2, "CC"))
    stage.send(Coverage(("CC",), OPENS[0], asked.end_ns, request=asked.id))
    at(stage, 184)
    assert [one.row[1] for one in delivered(stage.tape) if one.row[0] == "CC"] == [
        OPENS[0] + minute * MINUTE_NS for minute in range(3)
    ]


def test_symbols_that_are_added_in_the_first_minute_have_nothing_to_be_asked_for() -> None:
    stage = staged(symbols=("AA", "BB"))
    at(stage, 0)
    stage.desired = replace(stage.desired, version=2, symbols=("AA", "BB", "CC"))
    stage.shard.command(stage.desired)
    assert at(stage, 10)[-1].symbols == ("AA", "BB", "CC")
    assert stage.partition.requests == []


def test_a_late_row_and_a_pause_in_one_moment_are_both_told() -> None:
    stage = staged()
    at(stage, 0)
    stage.send(stage.minute(0))
    at(stage, 60)
    stage.desired = replace(stage.desired, version=2, action="pause", paused=True)
    stage.shard.command(stage.desired)
    stage.send(some(stage, 0, "AA", revision=1))
    assert [(f.state, f.rows) for f in at(stage, 61)] == [("paused", 1)]


def test_what_is_of_a_session_far_ahead_is_refused() -> None:
    stage = staged()
    at(stage, 0)
    stage.send(some(stage, 0, "AA", session=2), some(stage, 0, "AA", session=1))
    at(stage, 2)
    stage.send(stage.minute(0))
    at(stage, 60)
    assert [one.reason for one in stage.partition.rejections] == ["it is from the future"]


def test_what_is_out_already_makes_no_frame() -> None:
    stage = staged()
    at(stage, 0)
    stage.send(stage.minute(0))
    at(stage, 60)
    stage.send(some(stage, 0, "AA"))
    assert at(stage, 61) == []
    stage.crash()
    assert at(stage, 62) == []


ROWS = [(minute, symbol) for minute in range(5) for symbol in ("AA", "BB", "CC")]
EVENTS = st.lists(
    st.one_of(
        # Most of them of the first minute: what comes again and late is what is hard.
        st.tuples(st.just("row"), st.integers(0, 2), st.integers(0, 1)),
        st.tuples(st.just("row"), st.integers(0, len(ROWS) - 1), st.integers(0, 2)),
        st.tuples(st.just("wait"), st.floats(0.1, 40.0), st.just(0)),
        st.tuples(st.just("crash"), st.just(0), st.just(0)),
        st.tuples(st.just("beat"), st.integers(0, 320), st.just(0)),
        st.tuples(st.just("halt"), st.integers(0, 2), st.integers(0, 1)),
    ),
    max_size=60,
)


@pytest.mark.parametrize("upkeep", [False, True])
@settings(max_examples=150, deadline=None)
@given(events=EVENTS)
def test_each_row_that_came_is_out_once_and_none_before_its_time(
    events: list[tuple[str, float, int]], upkeep: bool
) -> None:
    stage = staged(upkeep=upkeep, session_timeout_s=60.0)
    at(stage, 0)
    second = 0.0
    sent: dict[tuple[str, int], set[int]] = {}
    walls: list[int] = []
    for kind, what, more in events:
        if kind == "row":
            minute, symbol = ROWS[int(what)]
            if second < 60 * (minute + 1) or stage.shard.tape.number > 0:
                continue  # a bar comes when its minute is over; what comes too late is refused
            stage.send(some(stage, minute, symbol, revision=more))
            sent.setdefault((symbol, minute), set()).add(more)
        elif kind == "wait":
            second += what
        elif kind == "crash":
            stage.crash()
        elif kind == "beat":
            until_ns = OPENS[0] + min(int(what), int(second)) * SECOND_NS
            stage.send(Coverage(stage.plan.symbols, OPENS[0], until_ns))
        else:
            now_ns = OPENS[0] + int(second * SECOND_NS)
            stage.send(Halt((stage.plan.symbols[int(what)],), now_ns, halted=bool(more)))
        frames = at(stage, second)
        walls += [stage.wall_ns] * len(frames)
    at(stage, max(second, 305))
    at(stage, max(second, 420))
    assert stage.story[-1] == "roll 2024-11-29"
    walls += [stage.wall_ns] * (len(stage.tape) - len(walls))
    check(stage, sent)
    for frame, wall_ns in zip(stage.tape[2:], walls, strict=False):
        assert not len(frame.slice_ns) or frame.slice_ns[-1] <= wall_ns


def check(stage: Stage, sent: dict[tuple[str, int], set[int]]) -> None:
    """The tape has the highest revision that came of each bar, last; clocks and marks agree."""
    assert stage.partition.rejections == [
        one for one in stage.partition.rejections if "later revision" in one.reason
    ]
    last: dict[tuple[str, int], Delivered] = {}
    for one in delivered(stage.tape):
        symbol, ts_ns, _, _ = one.row
        key = (symbol, (ts_ns - OPENS[0]) // MINUTE_NS)
        before = last.get(key)
        assert before is None or (one.is_correction and one.row[3] > before.row[3])
        assert one.slice_ns >= ts_ns + MINUTE_NS
        assert one.is_correction or one.slice_ns == ts_ns + MINUTE_NS
        last[key] = one
    assert {key: max(revisions) for key, revisions in sent.items()} == {
        key: revision_of(one) for key, one in last.items()
    }
    clocks = [frame.clock_ns for frame in stage.tape]
    assert clocks == sorted(clocks)
    marks = np.concatenate([frame.slice_expected for frame in stage.tape])
    assert (marks > 0).sum() == 5
    assert [frame.frame for frame in stage.tape] == list(range(len(stage.tape)))


def revision_of(one: Delivered) -> int:
    """The revision of the source, as its values tell it."""
    return round(one.values[4]) - 1


def test_the_last_session_gives_up_its_gaps_in_time_too() -> None:
    stage = staged(upkeep=True, session_timeout_s=60.0, end="2024-11-27")
    at(stage, 0)
    for minute in range(5):
        stage.send(some(stage, minute, "AA", "BB"))
    at(stage, 305)
    assert stage.shard.due_ns() == OPENS[0] + 360 * SECOND_NS
    assert [frame.event for frame in at(stage, 360)] == ["rows", "close", "end"]
    assert stage.shard.due_ns() is None


def test_ticks_go_out_as_they_are_vouched_for_or_late_and_the_clock_is_told_meanwhile() -> None:
    stage = staged(symbols=("AA", "BB"), streams=("bars", "ticks"))
    at(stage, 0)

    def spot(second: float, symbol: str = "AA") -> tuple[str, int, int, int]:
        return (symbol, OPENS[0] + int(second * SECOND_NS), 1, 0)

    def ticks(frames: list[Frame]) -> list[float]:
        return [(point.ready - OPENS[0]) / SECOND_NS for point in points(frames)]

    stage.send(tick_block([spot(1), spot(2)]))
    beat = Coverage(("AA", "BB"), OPENS[0], OPENS[0] + int(1.5 * SECOND_NS) + 1, run=RUN)
    stage.send(beat, stream="ticks")
    assert ticks(at(stage, 2.1)) == [1.0]
    assert stage.shard.due_ns() == OPENS[0] + int(3.6 * SECOND_NS), "told each tenth of a second"
    stage.send(tick_block([spot(0.5, "BB")]))
    late = at(stage, 3.2)
    assert [point.is_correction for point in points(late)] == [True]
    assert ticks(at(stage, 4.0)) == [2.0]
    before = stage.tape[-1].clock_ns
    told = at(stage, 10.0)
    assert [(frame.event, frame.rows) for frame in told] == [("rows", 0)]
    assert before < told[0].clock_ns == OPENS[0] + 8 * SECOND_NS
    # At the end of the minute ticks and bars are there: nothing else is waited for.
    beat = Coverage(("AA", "BB"), OPENS[0], OPENS[0] + MINUTE_NS + 1, run=RUN)
    stage.send(beat, stream="ticks")
    stage.send(tick_block([spot(60)]), some(stage, 0, "AA", "BB"))
    out = at(stage, 60.0)
    assert [point.kind for point in points(out)] == [0, 2, 2], "ticks before bars"
    assert slices(out)[-1] == (60, 3, 0, 2, 0)


@pytest.mark.parametrize("stream", ["quotes", "ticks"])
def test_a_row_of_the_end_of_a_coverage_waits(stream: str) -> None:
    """Another of the same time may be on its way; also at the open, where the clock stands."""
    stage = staged(symbols=("AA", "BB"), streams=(stream,), lateness_s=5.0)
    at(stage, 0)
    make = quote_block if stream == "quotes" else tick_block
    for second in (0, 3):
        ns = OPENS[0] + second * SECOND_NS
        stage.send(make([("AA", ns, 1, 0)]))
        stage.send(Coverage(("AA", "BB"), OPENS[0], ns, run=RUN), stream=stream)
        assert sum(frame.rows for frame in at(stage, second + 0.5)) == 0
        stage.send(make([("BB", ns, 1, 0)]))
        assert sum(frame.rows for frame in at(stage, second + 0.6)) == 0
        stage.send(Coverage(("AA", "BB"), OPENS[0], ns + 1, run=RUN), stream=stream)
        out = points(at(stage, second + 0.7))
        assert [(p.symbol, p.ready, p.is_correction) for p in out] == [
            ("AA", ns, False),
            ("BB", ns, False),
        ]
    # Without a word it waits out the lateness.
    ns = OPENS[0] + 10 * SECOND_NS
    stage.send(make([("AA", ns, 1, 0)]))
    assert sum(frame.rows for frame in at(stage, 14.99)) == 0
    assert [p.ready for p in points(at(stage, 15.0))] == [ns]


def test_a_quote_of_the_open_waits_out_the_lateness_and_a_pause() -> None:
    stage = staged(symbols=("AA",), streams=("quotes",), lateness_s=5.0)
    at(stage, 0)
    stage.send(quote_block([("AA", OPENS[0], 1, 0)]))
    stage.desired = replace(stage.desired, version=2, action="pause", paused=True)
    stage.shard.command(stage.desired)
    assert [(frame.state, frame.rows) for frame in at(stage, 4)] == [("paused", 0)]
    stage.desired = replace(stage.desired, version=3, action="resume", paused=False)
    stage.shard.command(stage.desired)
    assert sum(frame.rows for frame in at(stage, 4.9)) == 0
    assert stage.shard.due_ns() == OPENS[0] + 5 * SECOND_NS
    assert [(p.ready, p.is_correction) for p in points(at(stage, 5))] == [(OPENS[0], False)]


def test_what_is_refused_between_sessions_is_not_held_until_the_next() -> None:
    stage = staged()
    for _ in range(499):
        stage.send(some(stage, 6, "AA"))  # behind the close, before the next open
    assert at(stage, -5) == []
    stage.send(some(stage, 6, "AA"))
    assert [(frame.event, frame.waiting) for frame in at(stage, -4)] == [("rows", True)]
    assert len(stage.partition.rejections) == 500
    assert stage.partition.keep == 500


def test_what_is_there_and_comes_with_the_answer_to_a_gap_is_no_refusal() -> None:
    stage = staged(upkeep=True)
    at(stage, 0)
    stage.send(some(stage, 0, "AA", "BB"))
    at(stage, 62)
    gap = DataRequest(
        id="a gap",
        run=RUN,
        kind="gap",
        streams=("bars",),
        symbols=("CC",),
        start_ns=OPENS[0],
        end_ns=OPENS[0] + MINUTE_NS,
        session=stage.plan.sessions[0].label,
        shard=0,
    )
    stage.send(gap)
    at(stage, 63)
    assert statuses(stage, "CC")[0] == Status.REQUESTED
    stage.send(replace(some(stage, 0, "AA", "CC", revision=1), request="a gap"))
    assert [one.row[0] for one in delivered(at(stage, 64))] == ["CC"]
    assert stage.partition.rejections == []


def test_who_is_halted_over_the_close_is_so_in_the_next_session() -> None:
    stage = staged()
    at(stage, 0)
    stage.send(Halt(("BB",), OPENS[0] + 10 * SECOND_NS, halted=True))
    for minute in range(5):
        stage.send(some(stage, minute, "AA", "CC"))
        at(stage, 60.0 * (minute + 1))
    at(stage, 302)
    at(stage, 0, session=1)
    stage.send(some(stage, 0, "AA", "CC", session=1))
    assert slices(at(stage, 60, session=1)) == [(60, 2, 0, 2, 1)]


@pytest.mark.parametrize("told_on", ["bars", "quotes"])
def test_a_run_without_bars_does_not_wait_for_who_is_halted(told_on: str) -> None:
    stage = staged(symbols=("AA", "BB"), streams=("quotes",), lateness_s=5.0)
    at(stage, 0)
    quote = quote_block([("AA", OPENS[0] + 3 * SECOND_NS, 1, 0)])
    heard = Coverage(("AA",), OPENS[0], OPENS[0] + 4 * SECOND_NS, run=RUN)
    stage.send(quote)
    stage.send(heard, stream="quotes")
    assert sum(frame.rows for frame in at(stage, 4.0)) == 0
    # Bars are none of this run's, nor is what another run was told.
    stage.send(some(stage, 0, "AA", "BB"))
    halt = Halt(("BB",), OPENS[0] - MINUTE_NS, halted=True)
    stage.send(replace(halt, run="another"), stream=told_on)
    assert sum(frame.rows for frame in at(stage, 4.1)) == 0
    stage.send(halt, stream=told_on)
    out = points(at(stage, 4.2))
    assert [(point.symbol, point.slice_ns) for point in out] == [("AA", OPENS[0] + 3 * SECOND_NS)]
    stage.send(replace(halt, ts_ns=OPENS[0] + 4 * SECOND_NS, halted=False), stream=told_on)
    stage.send(quote_block([("AA", OPENS[0] + 5 * SECOND_NS, 1, 0)]))
    stage.send(replace(heard, end_ns=OPENS[0] + 6 * SECOND_NS), stream="quotes")
    assert sum(frame.rows for frame in at(stage, 6.0)) == 0
    assert sum(frame.rows for frame in at(stage, 10.0)) == 1
    assert stage.partition.keeps["bars"] == len(stage.partition.raw)
    assert stage.partition.rejections == []


def test_a_halt_of_before_a_run_is_not_heard_in_it() -> None:
    stage = staged(symbols=("AA", "BB"), streams=("quotes",), lateness_s=5.0)
    stage.desired = replace(stage.desired, version=2, run="run-2")
    stage.send(Halt(("BB",), OPENS[0] - MINUTE_NS, halted=True))
    stage.shard.advance(stage.wall_ns)
    stage.shard.command(stage.desired)
    at(stage, 0)
    stage.send(replace(quote_block([("AA", OPENS[0] + SECOND_NS, 1, 0)]), run="run-2"))
    heard = Coverage(("AA",), OPENS[0], OPENS[0] + 4 * SECOND_NS)
    stage.send(heard, stream="quotes")
    assert sum(frame.rows for frame in at(stage, 4.0)) == 0


def test_a_replay_waits_for_those_that_were_halted() -> None:
    stage = Stage(command())
    stage.run()
    stage.send(Halt(("BB",), OPENS[0], halted=True), *stage.all_of(0)[:-1])
    stage.run()
    assert stage.story == ["start"]


def test_behind_a_crash_ticks_and_minutes_are_known_again() -> None:
    stage = staged(upkeep=True, symbols=("AA", "BB"), streams=("bars", "ticks"))
    at(stage, 0)
    stage.send(tick_block([("AA", OPENS[0] + SECOND_NS, 1, 0)]), some(stage, 0, "AA"))
    at(stage, 62)
    stage.crash()
    stage.send(some(stage, 0, "BB"), tick_block([("AA", OPENS[0] + SECOND_NS, 1, 0)]))
    late = at(stage, 63)
    assert [(point.kind, point.symbol) for point in points(late)] == [(2, "BB")]
    assert statuses(stage, "BB")[0] == Status.FILLED
    assert statuses(stage, "AA")[0] == Status.PENDING
