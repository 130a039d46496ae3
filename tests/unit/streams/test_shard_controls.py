"""A shard under a person's hands: pause, go on, step, another speed, another place."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Frame
from streams.intervals import MINUTE_NS, SECOND_NS
from tests.unit.streams.shards import Stage, bar, block, command, coverage, delivered

HOUR_S = 3600.0


def paused(stage: Stage, clock_ns: int, **changes: object) -> None:
    """Stop the clock at a place of the tape."""
    stage.order(paused=True, anchor_wall_ns=stage.wall_ns, anchor_clock_ns=clock_ns, **changes)


def played(**changes: object) -> Stage:
    """A run all of whose rows are there, with nothing out yet."""
    stage = Stage(command(**changes))
    stage.send(*(record for session in range(3) for record in stage.all_of(session)))
    return stage


def state_of(frame: Frame) -> tuple[str, float, int]:
    return frame.state, frame.speed, frame.rows


def test_the_tape_says_that_it_is_paused_and_that_it_goes_on() -> None:
    stage = played(speed=1.0)
    stage.run()
    stage.run(60.0)
    clock_ns = stage.tape[-1].clock_ns
    paused(stage, clock_ns, speed=1.0)
    (said,) = stage.run(0.0)
    assert [state_of(frame) for frame in said.frames] == [("paused", 1.0, 0)]
    assert stage.run(HOUR_S) == []
    stage.order(speed=60.0, anchor_wall_ns=stage.wall_ns, anchor_clock_ns=clock_ns)
    (said,) = stage.run(0.0)
    assert [state_of(frame) for frame in said.frames] == [("running", 60.0, 0)]
    stage.run(1.0)
    assert stage.tape[-1].clock_ns == clock_ns + MINUTE_NS


def test_what_is_said_once_is_not_said_again_after_a_crash() -> None:
    stage = played(speed=1.0)
    stage.run()
    paused(stage, stage.plan.sessions[0].open_ns, speed=1.0)
    stage.run()
    stage.crash()
    assert stage.run(HOUR_S) == []


def test_late_rows_go_out_before_the_clock_stands() -> None:
    stage = played(speed=1.0)
    stage.run()
    stage.run(60.0)
    clock_ns = stage.tape[-1].clock_ns
    stage.send(bar(stage.row(0, revision=1)))
    assert stage.run() == []
    paused(stage, clock_ns, speed=1.0)
    (said,) = stage.run()
    (frame,) = said.frames
    assert state_of(frame) == ("paused", 1.0, 1)
    assert (frame.slice_ns.tolist(), frame.slice_corrections.tolist()) == ([clock_ns], [1])
    assert frame.clock_ns == clock_ns
    # What comes while it stands, waits for the next slice.
    stage.send(bar(stage.row(0, revision=2)))
    assert stage.run(HOUR_S) == []


def test_no_session_opens_while_paused() -> None:
    stage = played(paused=True)
    assert stage.run(HOUR_S)[0].frames[0].state == "paused"
    assert stage.story == ["start"]
    stage.order(version=2)
    stage.run()
    assert stage.story[-1] == "end"


def test_a_pause_between_sessions_holds_there() -> None:
    stage = played(speed=1.0)
    stage.run()
    for _ in range(4):
        stage.run(60.0)
    close_ns = stage.plan.sessions[0].close_ns
    paused(stage, close_ns, speed=1.0)
    stage.run(60.0)
    assert stage.story[-1] == "roll 2024-11-29"
    assert stage.tape[-1].state == "paused"
    assert stage.run(HOUR_S) == []


def test_step_by_step_into_the_next_session() -> None:
    stage = played()
    first, second = stage.plan.sessions[:2]
    paused(stage, first.open_ns)
    stage.run()
    stops = [*(first.open_ns + n * MINUTE_NS for n in range(1, 6)), second.open_ns + MINUTE_NS]
    for clock_ns in stops:
        paused(stage, clock_ns)
        stage.run()
        assert stage.tape[-1].clock_ns == clock_ns
        assert sum(len(f.slice_ns) for f in stage.tape) == stops.index(clock_ns) + 1
    assert stage.story[-2:] == ["open 2024-11-29", "rows 2024-11-29"]


def test_a_long_pause_is_no_time_without_progress() -> None:
    stage = Stage(command(speed=1.0))
    stage.run()
    paused(stage, 0, speed=1.0)
    stage.run(HOUR_S)
    stage.order(speed=1.0, anchor_wall_ns=stage.wall_ns)
    stage.run()
    stage.run(59.0)
    assert "open 2024-11-27" not in stage.story
    stage.send(*stage.all_of(0))
    stage.run(1.0)
    assert not stage.tape[-1].incomplete
    assert "open 2024-11-27" in stage.story


def test_a_run_that_begins_in_the_midst_of_a_session_plays_up_to_there_at_once() -> None:
    stage = Stage(command(start="2024-11-29", paused=True))
    (session, _) = stage.plan.sessions
    stage.send(*stage.all_of(0), *stage.all_of(1))
    stage.run()
    stage.order(
        run="run-1.2",
        start="2024-11-29",
        paused=True,
        anchor_clock_ns=session.open_ns + 2 * MINUTE_NS + SECOND_NS,
        anchor_wall_ns=stage.wall_ns,
    )
    stage.run()
    stage.send(block(stage.all_of_rows(0), "run-1.2"), coverage(stage.plan, 0, run="run-1.2"))
    stage.run()
    assert stage.tape[-1].clock_ns == session.open_ns + 2 * MINUTE_NS
    assert stage.tape[-1].state == "paused"
    assert len(delivered(stage.tape)) == 6


orders = st.lists(
    st.tuples(
        st.sampled_from(["pause", "resume", "speed", "step", "crash"]),
        st.sampled_from([0.0, 1.0, 7.3, 600.0]),
        st.floats(0, 200, allow_nan=False),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(orders=orders)
def test_whatever_a_person_does_the_rows_are_the_same(
    orders: list[tuple[str, float, float]],
) -> None:
    plain = played()
    plain.run()
    stage = played(speed=1.0)
    stage.run()
    is_paused, speed = False, 1.0
    ends = np.concatenate([stage.plan.expected_ends(n) for n in range(3)])
    for what, factor, passed_s in orders:
        stage.run(passed_s)
        if what == "crash":
            stage.crash()
            continue
        clock_ns = stage.tape[-1].clock_ns
        if what == "step" and is_paused:
            later = ends[ends > clock_ns]
            clock_ns = int(later[0]) if len(later) else clock_ns
        elif what in ("pause", "resume"):
            is_paused = what == "pause"
        elif what == "speed":
            speed = factor
        stage.order(
            paused=is_paused,
            speed=speed,
            anchor_wall_ns=stage.wall_ns,
            anchor_clock_ns=clock_ns,
        )
        before = stage.tape[-1].clock_ns
        stage.run()
        if is_paused:
            assert stage.tape[-1].clock_ns == max(before, clock_ns)
            assert stage.run(HOUR_S) == []
    stage.order(speed=0.0)
    stage.run()
    assert stage.story[-1] == "end"
    assert [d.row for d in delivered(stage.tape)] == [d.row for d in delivered(plain.tape)]
    assert not any(frame.incomplete for frame in stage.tape)
