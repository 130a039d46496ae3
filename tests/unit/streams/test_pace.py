"""How far a clock is behind the wall."""

from __future__ import annotations

from typing import Any

import pytest

from streams.intervals import MINUTE_NS, SECOND_NS
from streams.pace import Stand, stand_of
from streams.tape import Tape
from tests.unit.streams.shards import WALL_NS, command, plan_for

LENGTH_NS = 5 * MINUTE_NS


def stand(number: int, minutes: float, *, is_open: bool = True, **changes: object) -> Stand:
    plan = plan_for(command(**changes), 0, 1)
    clock_ns = plan.sessions[number].open_ns + int(minutes * MINUTE_NS)
    return Stand(plan, number, clock_ns, is_open)


@pytest.mark.parametrize(
    ("number", "minutes", "is_open", "passed_s", "behind_s"),
    [
        (0, 0, False, -1, 0),  # to open in a second
        (0, 0, False, 7, 7),  # its data is late
        (0, 0, True, 59, 0),  # the first slice is due at 60
        (0, 0, True, 60, 0),
        (0, 0, True, 61, 1),
        (0, 3, True, 240, 0),
        (0, 3, True, 300, 60),
        (0, 5, True, 303, 3),  # all out but the close
        (1, 0, False, 299, 0),
        (1, 0, False, 302, 2),
        (1, 1, True, 421, 1),
    ],
)
@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_a_replay_is_behind_by_what_was_due(
    number: int, minutes: float, *, is_open: bool, passed_s: int, behind_s: int, speed: float
) -> None:
    some = stand(number, minutes, is_open=is_open, speed=speed)
    wall_ns = WALL_NS + int(passed_s * SECOND_NS / speed)
    assert some.delay_ns(wall_ns) == int(behind_s * SECOND_NS / speed)


def test_at_full_speed_or_paused_nothing_is_behind() -> None:
    late_ns = WALL_NS + 1000 * SECOND_NS
    assert stand(0, 1).delay_ns(late_ns) == 0
    assert stand(0, 1, speed=1.0, paused=True).delay_ns(late_ns) == 0
    assert stand(0, 1, mode="live", speed=1.0, paused=True).delay_ns(late_ns) == 0


def test_a_live_run_is_behind_by_what_has_passed_since_its_clock() -> None:
    open_ns = plan_for(command(), 0, 1).sessions[0].open_ns
    wall: dict[str, Any] = {
        "mode": "live",
        "speed": 1.0,
        "anchor_wall_ns": open_ns,
        "anchor_clock_ns": open_ns,
    }
    some = stand(0, 2, **wall)
    assert some.plan.is_wall
    assert some.delay_ns(some.clock_ns - 1) == 0
    assert some.delay_ns(some.clock_ns + 90 * SECOND_NS) == 90 * SECOND_NS
    closed_ns = open_ns + LENGTH_NS
    assert some.delay_ns(closed_ns + 3600 * SECOND_NS) == 3 * MINUTE_NS  # at most to the close
    rehearsal = stand(0, 2, mode="live", speed=60.0, anchor_clock_ns=open_ns)
    assert rehearsal.delay_ns(WALL_NS + 3 * SECOND_NS) == SECOND_NS
    assert stand(1, 0, is_open=False, **wall).delay_ns(closed_ns) == 0  # of the next day


def test_a_stand_is_that_of_the_tape() -> None:
    plan, tape = plan_for(command(), 0, 1), Tape(0, 1)
    tape.number, tape.clock_ns = 1, 77
    for phase in ("idle", "ended"):
        tape.phase = phase
        assert stand_of(plan, tape) is None
    tape.phase = "waiting"
    assert stand_of(None, tape) is None
    assert stand_of(plan, tape) == (plan, 1, plan.sessions[1].open_ns, False)
    tape.phase = "opened"
    assert stand_of(plan, tape) == (plan, 1, 77, True)
