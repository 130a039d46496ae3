"""What frames say of minutes: folded shard by shard, on tapes made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas import Frame
from streams.calendar import Session
from streams.chronicle import Chronicle
from streams.coverage import Status
from streams.intervals import MINUTE_NS
from tests.frames import Day, Row, Tape, full_day, tape_of
from tests.minutes import Run, minutes_of


def known(days: list[Day]) -> dict[str, Session]:
    return {day.label: Session(day.label, day.open_ns, day.close_ns) for day in days}


def at(day: Day, minute: int, symbol: str) -> tuple[int, str]:
    """Return a minute, counted from 1, by its ready time."""
    return (day.open_ns + minute * MINUTE_NS, symbol)


def letters(chronicle: Chronicle) -> dict[str, str]:
    return {one.symbol: one.minutes for one in chronicle.qualities()}


def played(tape: Tape, days: list[Day], only: str = "") -> Chronicle:
    chronicle = Chronicle("run-1", known(days), only)
    for shard, frames in enumerate(tape.frames):
        for one in frames:
            chronicle.fold(one.frame)
        assert chronicle.is_over(tape.shards) == (shard == tape.shards - 1)
    return chronicle


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_without_an_upkeep_what_has_no_bar_is_missing(shards: int) -> None:
    plain = full_day(3, 5)
    holes = frozenset([at(plain, 1, "S000"), at(plain, 2, "S000"), at(plain, 5, "S002")])
    day = full_day(3, 5, missing=holes)
    chronicle = played(tape_of([day], shards), [day])
    assert (chronicle.session, chronicle.clock_ns) == (day.label, day.close_ns)
    assert letters(chronicle) == {"S000": "mmttt", "S001": "ttttt", "S002": "ttttm"}
    gaps = chronicle.gaps()
    assert [(gap.symbol, gap.minutes, gap.status) for gap in gaps] == [
        ("S000", 2, "open"),
        ("S002", 1, "open"),
    ]
    assert [[step.status for step in gap.steps] for gap in gaps] == [["missing"]] * 2


def with_upkeep() -> tuple[Tape, list[Day]]:
    """Return two days of two symbols; the second one's gaps are settled while the first plays."""
    first = full_day(2, 4)
    plain = full_day(2, 4, 1)
    silent = frozenset([at(plain, 2, "S000"), at(plain, 4, "S001")])
    filled = Row(plain.open_ns + MINUTE_NS, "S001", plain.open_ns, 7.0, source="other")
    rows = list(full_day(2, 4, 1, missing=silent).rows)
    rows[1] = filled
    second = replace(plain, rows=tuple(rows))
    tape = Tape()
    tape.start()
    tape.put(tape.event(0, "open", first))
    settled = [
        Run("S000", 1, 2, Status.NO_TRADE, 1, "r1"),
        Run("S001", 0, 1, Status.FILLED, 1, "r1"),
        Run("S001", 3, 4, Status.GIVEN_UP, 2, "r2"),
    ]
    steps = [
        [Run(*run[:3], Status.MISSING) for run in settled],
        [Run(*run[:3], Status.REQUESTED, 1, "r1") for run in settled],
        [*settled[:2], Run("S001", 3, 4, Status.MISSING, 1, "r1")],
        [Run("S001", 3, 4, Status.REQUESTED, 2, "r2")],
        settled[2:],
    ]
    for number, runs in enumerate(steps):
        said = minutes_of(second, runs, loaded=number == 0)
        tape.put(tape.event(0, "rows", first, minutes=said))
    for frame in tape.rows(0, first):
        tape.put(frame)
    tape.put(tape.event(0, "close", first, clock_ns=first.close_ns))
    tape.roll(second)
    tape.put(tape.event(0, "open", second, minutes=minutes_of(second, settled)))
    for frame in tape.rows(0, second):
        tape.put(frame)
    tape.put(tape.event(0, "close", second, clock_ns=second.close_ns, symbols=()))
    tape.end()
    return tape, [first, second]


STORY = [
    ("missing", 0, ""),
    ("requested", 1, "r1"),
    ("missing", 1, "r1"),
    ("requested", 2, "r2"),
    ("given_up", 2, "r2"),
]


def test_the_story_of_a_gap_begins_before_its_session() -> None:
    tape, days = with_upkeep()
    chronicle = played(tape, days)
    assert chronicle.session == days[1].label
    assert letters(chronicle) == {"S000": "tntt", "S001": "fttg"}
    assert [one.quality for one in chronicle.qualities()] == [100.0, 75.0]
    quiet, filled, lost = chronicle.gaps()
    assert (quiet.status, quiet.sources) == ("no_trade", ())
    assert (filled.status, filled.sources) == ("filled", ("other",))
    assert [(s.status, s.attempt, s.request) for s in lost.steps] == STORY
    assert {step.clock_ns for step in lost.steps} == {days[0].open_ns}


def test_one_session_may_be_wanted() -> None:
    tape, days = with_upkeep()
    chronicle = played(tape, days, only=days[0].label)
    assert chronicle.session == days[0].label
    assert letters(chronicle) == {"S000": "tttt", "S001": "tttt"}
    assert chronicle.gaps() == []
    assert played(tape, days, only="2031-01-01").session == ""


def test_other_runs_are_left_out() -> None:
    tape, days = with_upkeep()
    chronicle = Chronicle("run-1", known(days))
    folded = [chronicle.fold(replace(one.frame, run="run-0")) for one in tape.frames[0]]
    assert not any(folded)
    assert not chronicle.is_over(1)
    assert chronicle.session == ""


def test_a_session_that_no_calendar_has_is_told_of_from_its_open_on() -> None:
    tape, days = with_upkeep()
    chronicle = played(tape, [])
    assert letters(chronicle) == {"S000": "tntt", "S001": "fttg"}
    lost = chronicle.gaps()[-1]
    assert [(s.status, s.attempt, s.request) for s in lost.steps] == STORY
    # One that never opens is forgotten when a later one does.
    never = full_day(2, 4)
    tape, chronicle = Tape(), Chronicle("run-1", {})
    early = minutes_of(never, [Run("S000", 1, 2, Status.MISSING)])
    assert not chronicle.fold(tape.event(0, "start", minutes=early))
    assert chronicle.session == ""
    assert chronicle.fold(tape.event(0, "open", days[1]))
    assert not chronicle.fold(tape.event(0, "rows", days[1], waiting=True, minutes=early))
    assert chronicle.gaps() == []


def test_before_the_first_session_opens_it_is_told_of() -> None:
    day = full_day(1, 3)
    tape = Tape()
    chronicle = Chronicle("run-1", known([day]))
    assert (chronicle.session, chronicle.clock_ns) == ("", 0)
    assert (chronicle.qualities(), chronicle.gaps()) == ([], [])
    assert not chronicle.fold(tape.event(0, "start"))
    runs = [Run("S000", 1, 2, Status.MISSING)]
    assert chronicle.fold(
        tape.event(0, "rows", day, waiting=True, minutes=minutes_of(day, runs, loaded=True))
    )
    assert (chronicle.session, chronicle.clock_ns) == (day.label, 0)
    assert letters(chronicle) == {"S000": "ppp"}
    assert [gap.status for gap in chronicle.gaps()] == ["open"]
    assert not chronicle.fold(tape.event(0, "rows", day, waiting=True))


def test_an_answer_behind_the_clock_changes_what_is_known() -> None:
    plain = full_day(1, 3)
    day = full_day(1, 3, missing=frozenset([at(plain, 1, "S000"), at(plain, 2, "S000")]))
    chronicle = Chronicle("run-1", known([day]))
    tape = Tape(cuts={0: (2,)})

    def fold(frame: Frame) -> None:
        assert chronicle.fold(frame)

    fold(tape.event(0, "open", day))
    early, late = tape.rows(0, day)
    fold(early)
    assert letters(chronicle) == {"S000": "mmp"}
    answer = minutes_of(day, [Run("S000", 0, 2, Status.NO_TRADE, 1, "r1")])
    fold(replace(late, minutes=answer))
    assert letters(chronicle) == {"S000": "nnt"}
    assert [step.clock_ns for step in chronicle.gaps()[0].steps] == [day.close_ns] * 3


def test_symbols_come_and_go() -> None:
    few, many = full_day(["AA", "BB"], 2), full_day(["AA", "CC"], 2)
    tape, chronicle = Tape(cuts={0: (1,)}), Chronicle("run-1", known([few]))
    missing = minutes_of(few, [Run("BB", 1, 2, Status.GIVEN_UP, 1, "r1")])
    chronicle.fold(tape.event(0, "open", few, minutes=missing))
    early = minutes_of(many, [Run("CC", 0, 1, Status.NO_TRADE, 1, "r2")])
    chronicle.fold(tape.event(0, "rows", few, minutes=early))
    for frame in (next(tape.rows(0, few)), list(tape.rows(0, many))[1]):
        chronicle.fold(frame)
    assert letters(chronicle) == {"AA": "tt", "CC": "nt"}
    assert [gap.symbol for gap in chronicle.gaps()] == ["CC"]
