"""What a run is to play, and where its clock stands when."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Command
from streams.errors import CalendarError
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.plan import Plan, plan_of
from streams.topics import shard_of
from tests.unit.streams.shards import WALL_NS, command, plan_for

LENGTH_NS = 5 * MINUTE_NS
speeds = st.one_of(
    st.sampled_from([1.0, 60.0, 7.3, 1 / 3, 1000.0]),
    st.floats(0.01, 1e5, allow_nan=False, allow_infinity=False),
)


def plan(**changes: object) -> Plan:
    return plan_for(command(**changes), 0, 1)


def test_a_plan_knows_its_sessions_and_symbols() -> None:
    two = plan_of(command(), 1, 2)
    mine = tuple(s for s in ("AA", "BB", "CC") if shard_of(s, 2) == 1)
    assert two.symbols == mine
    assert two.numbers == {symbol: number for number, symbol in enumerate(mine)}
    assert two.everywhere == {"AA", "BB", "CC"}
    assert [s.label for s in two.sessions] == ["2024-11-27", "2024-11-29", "2024-12-02"]
    assert two.opens.tolist() == [s.open_ns for s in two.sessions]
    assert two.closes.tolist() == [s.close_ns for s in two.sessions]
    assert two.index("2024-11-29") == 1
    assert two.label(1) == "2024-11-29"
    assert two.label(-1) == ""
    assert two.symbols_bytes == 4 * len(mine)
    with pytest.raises(CalendarError):
        plan_of(command(start="2024-11-30", end="2024-12-01"), 0, 1)


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"hours": "regular"}, [390, 210, 390]),
        ({"hours": "regular", "interval": "5m"}, [78, 42, 78]),
        ({"interval": "2m"}, [2, 2, 2]),  # the last one would end behind the close
        ({"hours": "regular", "calendar": "XHKG", "end": "2024-11-27"}, [330]),
        ({"hours": "regular", "calendar": "24/7", "end": "2024-11-28"}, [1440, 1440]),
    ],
)
def test_what_is_expected(changes: dict[str, object], counts: list[int]) -> None:
    some = plan(**changes)
    assert [len(some.expected_ends(n)) for n in range(len(some.sessions))] == counts
    for number, session in enumerate(some.sessions):
        ends = some.expected_ends(number)
        assert (ends > session.open_ns).all()
        assert (ends <= session.close_ns).all()


def test_a_request_asks_for_one_session_of_one_shard() -> None:
    asked = plan().request(1, is_now=False)
    session = plan().sessions[1]
    assert asked.id == "run-1/2024-11-29/0/1"
    assert (asked.kind, asked.session, asked.symbols) == (
        "prefetch",
        session.label,
        ("AA", "BB", "CC"),
    )
    assert (asked.start_ns, asked.end_ns) == (session.open_ns, session.close_ns)
    assert plan().request(1, is_now=True).kind == "session"


def test_as_fast_as_it_goes_the_clock_is_at_the_close() -> None:
    fast = plan()
    assert fast.clock_ns(1, 0) == fast.sessions[1].close_ns
    assert fast.wall_ns(1, fast.sessions[1].open_ns) == 0


def test_what_lies_between_sessions_is_skipped() -> None:
    real = plan(speed=1.0)
    first, second = real.sessions[:2]
    assert real.clock_ns(0, WALL_NS) == first.open_ns
    assert real.clock_ns(0, WALL_NS + MINUTE_NS) == first.open_ns + MINUTE_NS
    assert real.clock_ns(0, WALL_NS + 2 * LENGTH_NS) == first.close_ns
    assert real.clock_ns(1, WALL_NS + LENGTH_NS - 1) is None
    assert real.clock_ns(1, WALL_NS + LENGTH_NS) == second.open_ns
    assert real.clock_ns(0, WALL_NS - 1) is None
    assert real.wall_ns(1, second.open_ns) == WALL_NS + LENGTH_NS


def test_while_paused_the_clock_stands_at_the_anchor() -> None:
    first, second = plan().sessions[:2]
    stands = plan(paused=True, speed=60.0, anchor_clock_ns=first.open_ns + 90 * SECOND_NS)
    for wall_ns in (WALL_NS, WALL_NS + 10**15):
        assert stands.clock_ns(0, wall_ns) == first.open_ns + 90 * SECOND_NS
        assert stands.clock_ns(1, wall_ns) is None
    assert stands.wall_ns(0, first.close_ns) is None
    fast = plan(paused=True, anchor_clock_ns=second.open_ns + MINUTE_NS)
    assert fast.clock_ns(0, WALL_NS) == first.close_ns
    assert fast.clock_ns(1, WALL_NS) == second.open_ns + MINUTE_NS


def test_an_anchor_between_sessions_is_the_close_before_it() -> None:
    first, second = plan().sessions[:2]
    between = plan(speed=1.0, anchor_clock_ns=first.close_ns + MINUTE_NS)
    assert between.clock_ns(1, WALL_NS) == second.open_ns
    assert between.wall_ns(1, second.open_ns) == WALL_NS


@given(
    speed=speeds,
    number=st.integers(0, 2),
    inside=st.integers(1, LENGTH_NS),
    anchor=st.one_of(st.just(0), st.tuples(st.integers(0, 2), st.integers(0, LENGTH_NS))),
)
def test_the_wall_time_is_the_first_at_which_the_clock_is_there(
    speed: float, number: int, inside: int, anchor: int | tuple[int, int]
) -> None:
    sessions = plan().sessions
    clock = anchor if isinstance(anchor, int) else sessions[anchor[0]].open_ns + anchor[1]
    some = plan(speed=speed, anchor_clock_ns=clock)
    target_ns = sessions[number].open_ns + inside
    wall_ns = some.wall_ns(number, target_ns)
    assert wall_ns is not None
    there = some.clock_ns(number, wall_ns)
    assert there is not None
    assert there >= target_ns
    before = some.clock_ns(number, wall_ns - 1)
    assert before is None or before < target_ns


@given(speed=speeds, passed=st.lists(st.integers(0, 10**13), min_size=2, max_size=2))
def test_the_clock_never_goes_back(speed: float, passed: list[int]) -> None:
    some = plan(speed=speed)
    early, late = sorted(passed)
    for number in range(3):
        at, then = (some.clock_ns(number, WALL_NS + ns) for ns in (early, late))
        assert at is None or (then is not None and at <= then)


@given(speed=speeds, passed=st.integers(0, 10**12), then=speeds)
def test_another_speed_goes_on_where_the_clock_stands(
    speed: float, passed: int, then: float
) -> None:
    before = plan(speed=speed)
    wall_ns = WALL_NS + passed
    clock_ns = before.clock_ns(0, wall_ns)
    assert clock_ns is not None
    changed: Command = replace(
        before.command, speed=then, anchor_wall_ns=wall_ns, anchor_clock_ns=clock_ns
    )
    assert plan_for(changed, 0, 1).clock_ns(0, wall_ns) == clock_ns


def live_plan(speed: float, anchor_clock_ns: int, anchor_wall_ns: int = WALL_NS) -> Plan:
    return plan_for(
        command(
            mode="live",
            speed=speed,
            anchor_clock_ns=anchor_clock_ns,
            anchor_wall_ns=anchor_wall_ns,
        ),
        0,
        1,
    )


def test_the_time_of_a_live_run_is_that_of_the_wall_nights_included() -> None:
    first, second = plan_for(command(), 0, 1).sessions[:2]
    plan = live_plan(1.0, first.open_ns, first.open_ns)
    assert plan.is_wall
    night_ns = first.close_ns + 3600 * SECOND_NS
    assert plan.now_ns(night_ns) == plan.now_in(0, night_ns) == night_ns
    assert plan.wall_at(night_ns) == plan.wall_in(1, night_ns) == night_ns
    assert plan.catchup_end_ns == first.open_ns
    assert live_plan(1.0, second.open_ns + 1, second.open_ns + 1).is_wall


def test_a_rehearsal_jumps_from_a_close_to_the_next_open() -> None:
    first, second = plan_for(command(), 0, 1).sessions[:2]
    plan = live_plan(60.0, first.open_ns)
    assert not plan.is_wall
    closes_ns = WALL_NS + 5 * SECOND_NS  # five minutes at an hour a minute
    assert plan.now_ns(closes_ns - 1) == first.close_ns - 60
    assert plan.now_ns(closes_ns) == second.open_ns
    assert plan.now_in(0, closes_ns + SECOND_NS) == first.close_ns + 60 * SECOND_NS
    assert plan.wall_at(first.close_ns) == closes_ns
    assert plan.wall_at(first.close_ns + 1) == closes_ns
    assert plan.wall_at(second.open_ns + 60 * SECOND_NS) == closes_ns + SECOND_NS
    assert plan.wall_at(first.open_ns - 60 * SECOND_NS) == WALL_NS - SECOND_NS


def test_a_live_run_asks_for_what_was_before_it_in_whole_minutes() -> None:
    first = plan_for(command(), 0, 1).sessions[0]
    began_ns = first.open_ns + 150 * SECOND_NS
    plan = live_plan(1.0, began_ns, began_ns)
    assert plan.catchup_end_ns == first.open_ns + 120 * SECOND_NS
    assert plan.last_asked(0) == 0
    assert plan.last_asked(1) == -1
    assert plan.request(0, is_now=True).end_ns == plan.catchup_end_ns
    assert plan.request(0, is_now=True, until_ns=first.close_ns + 1).end_ns == first.close_ns
    behind = live_plan(1.0, first.close_ns, first.close_ns)
    assert (behind.catchup_end_ns, behind.last_asked(0)) == (0, -1)
    assert plan_for(command(), 0, 1).catchup_end_ns == 0
