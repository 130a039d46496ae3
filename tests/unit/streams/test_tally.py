"""Counts of a run: sessions, rows, gaps, quality, transitions, on tapes made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streams.calendar import Session
from streams.client.batch import Batch
from streams.client.merging import Merger
from streams.intervals import MINUTE_NS
from streams.tally import Incomplete, Tally
from tests.frames import Day, Tape, full_day, tape_of


def batches_of(tape: Tape) -> list[Batch]:
    merger = Merger(tape.shards)
    for frames in tape.frames:
        for one in frames:
            merger.add(one.frame, one.offset)
    return merger.drain()


def tally_of(days: Sequence[Day], shards: int = 1) -> Tally:
    sessions = [Session(day.label, day.open_ns, day.close_ns) for day in days]
    tally = Tally(sessions)
    for number, batch in enumerate(batches_of(tape_of(days, shards=shards))):
        tally.add(batch, number / 1000)
    return tally


def at(day: int, minute: int, symbol: str) -> tuple[int, str]:
    return (full_day(number=day).open_ns + minute * MINUTE_NS, symbol)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_whole_tape_has_no_gap(shards: int) -> None:
    tally = tally_of([full_day(3, 5, number) for number in range(2)], shards)
    assert tally.closed == 2
    assert tally.rows == {"bars": 30, "quotes": 0, "ticks": 0}
    assert tally.gaps == 0
    assert tally.quality() == {"S000": 100.0, "S001": 100.0, "S002": 100.0}
    assert tally.incomplete == []


@pytest.mark.parametrize("shards", [1, 2])
def test_runs_of_missing_minutes_are_gaps(shards: int) -> None:
    # By ready time: S000 lacks its first two minutes and the last, S001 one in the second day.
    first = frozenset([at(0, 1, "S000"), at(0, 2, "S000"), at(0, 5, "S000")])
    second = frozenset([at(1, 3, "S001")])
    days = [full_day(2, 5, 0, missing=first), full_day(2, 5, 1, missing=second)]
    tally = tally_of(days, shards)
    assert tally.gaps == 3
    assert tally.quality() == {"S000": 70.0, "S001": 90.0}
    assert tally.rows["bars"] == 16


def test_a_gap_does_not_reach_over_sessions() -> None:
    days = [
        full_day(1, 5, 0, missing=frozenset([at(0, 5, "S000")])),
        full_day(1, 5, 1, missing=frozenset([at(1, 1, "S000")])),
    ]
    assert tally_of(days).gaps == 2


def test_a_minute_that_the_source_vouches_for_is_no_gap() -> None:
    day = full_day(2, 5, 0, no_trade=frozenset([at(0, 2, "S000")]))
    tally = tally_of([day])
    assert tally.gaps == 0
    assert tally.quality() == {"S000": 100.0, "S001": 100.0}


def test_a_break_is_not_expected() -> None:
    day = full_day(1, 6, 0, missing=frozenset([at(0, 3, "S000"), at(0, 4, "S000")]))
    lunch = (day.open_ns + 2 * MINUTE_NS, day.open_ns + 4 * MINUTE_NS)
    tally = Tally([Session(day.label, day.open_ns, day.close_ns, (lunch,))])
    for batch in batches_of(tape_of([day])):
        tally.add(batch, 0.0)
    assert tally.gaps == 0
    assert tally.quality() == {"S000": 100.0}


def test_transitions_go_from_close_to_open() -> None:
    days = [full_day(1, 2, number) for number in range(3)]
    tally = Tally([Session(day.label, day.open_ns, day.close_ns) for day in days])
    now_s = 0.0
    for batch in batches_of(tape_of(days)):
        now_s += {"roll": 0.004, "open": 0.006}.get(batch.event, 1.0)
        tally.add(batch, now_s)
    assert tally.transition_ms() == {"p50": 10.0, "p99": 10.0, "max": 10.0}


def test_one_session_has_no_transition() -> None:
    assert tally_of([full_day()]).transition_ms() is None


def test_a_session_that_timed_out_is_named() -> None:
    day = full_day(1, 2)
    tape = Tape()
    tape.start()
    flags = {"incomplete": True, "reason": "nothing came for 60 s"}
    tape.put(tape.event(0, "open", day, **flags))
    tape.put(tape.event(0, "close", day, clock_ns=day.close_ns, **flags))
    tape.end()
    tally = Tally([Session(day.label, day.open_ns, day.close_ns)])
    for batch in batches_of(tape):
        tally.add(batch, 0.0)
    assert tally.incomplete == [Incomplete(day.label, "nothing came for 60 s")]
    assert tally.quality() == {"S000": 0.0}
    assert tally.gaps == 1


def test_a_run_that_was_stopped_counts_what_the_clock_has_passed() -> None:
    day = full_day(1, 4)
    tape = Tape()
    tape.start()
    tape.put(tape.event(0, "open", day))
    (frame,) = tape.rows(0, full_day(1, 2))
    tape.put(frame)
    tape.end()
    tally = Tally([Session(day.label, day.open_ns, day.close_ns)])
    for batch in batches_of(tape):
        tally.add(batch, 0.0)
    assert tally.closed == 0
    assert tally.quality() == {"S000": 100.0}
