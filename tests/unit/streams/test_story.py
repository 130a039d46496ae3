"""Stories of gaps, from what became known of their minutes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.calendar import Session
from streams.coverage import Status
from streams.intervals import MINUTE_NS
from streams.story import Gap, Part, Stage, gaps_of

OPEN_NS = 1_700_000_040 * 1_000_000_000
DAY = Session("2023-11-14", OPEN_NS, OPEN_NS + 60 * MINUTE_NS)


def part(first: int, stop: int, status: Status, attempt: int = 0, **changes: Any) -> Part:
    """Return what became known of some minutes, numbered from the open."""
    values: dict[str, Any] = {
        "symbol": "AA",
        "request": f"r{attempt}" if attempt else "",
        "clock_ns": 0,
    }
    start_ns, end_ns = OPEN_NS + first * MINUTE_NS, OPEN_NS + stop * MINUTE_NS
    return Part(
        start_ns=start_ns, end_ns=end_ns, status=status, attempt=attempt, **(values | changes)
    )


def told(gap: Gap) -> list[tuple[str, int, str, int]]:
    return [(step.status, step.attempt, step.request, step.minutes) for step in gap.steps]


def minutes_of(gap: Gap) -> tuple[int, int]:
    return (gap.start_ns - OPEN_NS) // MINUTE_NS, (gap.end_ns - OPEN_NS) // MINUTE_NS


def test_a_gap_is_found_asked_for_again_and_given_up() -> None:
    (gap,) = gaps_of(
        DAY,
        [
            part(3, 5, Status.MISSING),
            part(3, 5, Status.REQUESTED, 1),
            part(3, 5, Status.MISSING, 1),
            part(3, 5, Status.REQUESTED, 2),
            part(3, 5, Status.GIVEN_UP, 2),
            part(3, 5, Status.GIVEN_UP, 2, clock_ns=7),  # the open frame says it again
        ],
    )
    assert (gap.session, gap.symbol, minutes_of(gap)) == ("2023-11-14", "AA", (3, 5))
    assert (gap.status, gap.minutes, gap.given_up, gap.attempts) == ("given_up", 2, 2, 2)
    assert told(gap) == [
        ("missing", 0, "", 2),
        ("requested", 1, "r1", 2),
        ("missing", 1, "r1", 2),
        ("requested", 2, "r2", 2),
        ("given_up", 2, "r2", 2),
    ]


def test_who_knows_the_end_alone_knows_what_went_before() -> None:
    (gap,) = gaps_of(DAY, [part(0, 1, Status.NO_TRADE, 2, clock_ns=9)])
    assert told(gap) == [("missing", 0, "", 1), ("requested", 2, "r2", 1), ("no_trade", 2, "r2", 1)]
    assert gap.steps[0] == Stage("missing", 0, "", 1, 9)
    assert (gap.status, gap.no_trade) == ("no_trade", 1)
    parts = [
        part(0, 2, Status.MISSING, clock_ns=1),
        part(0, 1, Status.NO_TRADE, 1, clock_ns=5),
        part(1, 2, Status.NO_TRADE, 1, clock_ns=4),
    ]
    (slow,) = gaps_of(DAY, parts)
    assert [step.clock_ns for step in slow.steps] == [1, 1, 4]
    (late,) = gaps_of(DAY, [part(0, 1, Status.MISSING), part(0, 1, Status.FILLED)])
    assert told(late) == [("missing", 0, "", 1), ("filled", 0, "", 1)]


def test_runs_that_touch_are_one_gap_whatever_became_of_them() -> None:
    found = gaps_of(
        DAY,
        [
            part(1, 4, Status.MISSING),
            part(1, 3, Status.FILLED, 1),
            part(3, 4, Status.NO_TRADE, 1),
            part(6, 7, Status.FILLED, 1),
            part(4, 5, Status.FILLED, 1, symbol="BB"),
        ],
        {("AA", OPEN_NS + MINUTE_NS): "two", ("AA", OPEN_NS + 2 * MINUTE_NS): "one"},
    )
    assert [(gap.symbol, minutes_of(gap)) for gap in found] == [
        ("AA", (1, 4)),
        ("AA", (6, 7)),
        ("BB", (4, 5)),
    ]
    first = found[0]
    assert (first.status, first.filled, first.no_trade) == ("no_trade", 2, 1)
    assert first.sources == ("one", "two")
    assert [(step.status, step.minutes) for step in first.steps] == [
        ("missing", 3),
        ("requested", 3),
        ("filled", 2),
        ("no_trade", 1),
    ]
    assert [gap.status for gap in found[1:]] == ["filled", "filled"]
    assert found[1].sources == ()


def test_what_is_not_answered_to_the_end_is_open() -> None:
    (gap,) = gaps_of(DAY, [part(0, 2, Status.MISSING), part(0, 1, Status.FILLED, 1)])
    assert (gap.status, gap.minutes, gap.filled) == ("open", 2, 1)
    (asked,) = gaps_of(DAY, [part(0, 2, Status.REQUESTED, 1)])
    assert (asked.status, asked.attempts) == ("open", 1)


def test_a_gap_reaches_over_a_break_and_has_no_minute_of_it() -> None:
    lunch = (OPEN_NS + 10 * MINUTE_NS, OPEN_NS + 20 * MINUTE_NS)
    session = Session(DAY.label, DAY.open_ns, DAY.close_ns, (lunch,))
    (gap,) = gaps_of(session, [part(8, 22, Status.MISSING)])
    assert (minutes_of(gap), gap.minutes) == ((8, 22), 4)
    (again,) = gaps_of(session, [part(8, 10, Status.MISSING), part(20, 22, Status.MISSING)])
    assert again == gap
    assert gaps_of(session, [part(12, 14, Status.MISSING)]) == []
    assert gaps_of(DAY, []) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=12))
def test_gaps_are_the_runs_of_all_minutes_that_were_spoken_of(runs: list[tuple[int, int]]) -> None:
    found = gaps_of(DAY, [part(first, first + size, Status.MISSING) for first, size in runs])
    spoken = {minute for first, size in runs for minute in range(first, first + size)}
    inside = [minute for gap in found for minute in range(*minutes_of(gap))]
    assert sorted(inside) == sorted(spoken)
    # Else they would be one.
    assert all(a.end_ns < b.start_ns for a, b in pairwise(found))
