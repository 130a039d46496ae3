"""Counts of a run: sessions, rows, gaps, quality, transitions, on tapes made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from streams.calendar import Session
from streams.client.batch import Batch
from streams.client.merging import Merger
from streams.coverage import Status
from streams.intervals import MINUTE_NS
from streams.tally import Gaps, Incomplete, Tally
from tests.frames import Day, Row, Tape, full_day, tape_of
from tests.minutes import Run, minutes_of


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
    assert tally.gaps.found == 0
    assert tally.quality() == {"S000": 100.0, "S001": 100.0, "S002": 100.0}
    assert tally.incomplete == []


@pytest.mark.parametrize("shards", [1, 2])
def test_runs_of_missing_minutes_are_gaps(shards: int) -> None:
    # By ready time: S000 lacks its first two minutes and the last, S001 one in the second day.
    first = frozenset([at(0, 1, "S000"), at(0, 2, "S000"), at(0, 5, "S000")])
    second = frozenset([at(1, 3, "S001")])
    days = [full_day(2, 5, 0, missing=first), full_day(2, 5, 1, missing=second)]
    tally = tally_of(days, shards)
    assert tally.gaps.found == 3
    assert tally.quality() == {"S000": 70.0, "S001": 90.0}
    assert tally.rows["bars"] == 16


def test_a_gap_does_not_reach_over_sessions() -> None:
    days = [
        full_day(1, 5, 0, missing=frozenset([at(0, 5, "S000")])),
        full_day(1, 5, 1, missing=frozenset([at(1, 1, "S000")])),
    ]
    assert tally_of(days).gaps.found == 2


def test_a_minute_that_the_source_vouches_for_is_no_gap() -> None:
    day = full_day(2, 5, 0, no_trade=frozenset([at(0, 2, "S000")]))
    tally = tally_of([day])
    assert tally.gaps.found == 0
    assert tally.quality() == {"S000": 100.0, "S001": 100.0}


def test_a_break_is_not_expected() -> None:
    day = full_day(1, 6, 0, missing=frozenset([at(0, 3, "S000"), at(0, 4, "S000")]))
    lunch = (day.open_ns + 2 * MINUTE_NS, day.open_ns + 4 * MINUTE_NS)
    tally = Tally([Session(day.label, day.open_ns, day.close_ns, (lunch,))])
    for batch in batches_of(tape_of([day])):
        tally.add(batch, 0.0)
    assert tally.gaps.found == 0
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
    assert tally.gaps.found == 1


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


SETTLED = (
    Run("S000", 0, 2, Status.FILLED, 1, "r1"),
    Run("S000", 2, 3, Status.NO_TRADE, 1, "r1"),
    Run("S000", 5, 6, Status.FILLED, 1, "r1"),
    Run("S001", 0, 1, Status.NO_TRADE, 1, "r1"),
    Run("S001", 3, 5, Status.GIVEN_UP, 5, "r5"),
    Run("S002", 4, 6, Status.MISSING, 1, "r1"),
)


def upkept(symbols: int = 3, minutes: int = 8) -> tuple[Tape, Day]:
    """Return a session whose gaps were filled, answered, given up and left before it opened."""
    silent = frozenset(
        at(0, minute + 1, run.symbol)
        for run in SETTLED
        if run.status != Status.FILLED
        for minute in range(run.first, run.stop)
    )
    day = full_day(symbols, minutes, missing=silent)
    tape = Tape()
    tape.start()
    tape.put(tape.event(0, "open", day, minutes=minutes_of(day, SETTLED)))
    for frame in tape.rows(0, day):
        tape.put(frame)
    tape.put(tape.event(0, "close", day, clock_ns=day.close_ns))
    tape.end()
    return tape, day


def counted(tape: Tape, day: Day) -> Tally:
    tally = Tally([Session(day.label, day.open_ns, day.close_ns)])
    for batch in batches_of(tape):
        tally.add(batch, 0.0)
    return tally


def test_what_became_of_gaps_is_counted_by_runs_and_by_minutes() -> None:
    tally = counted(*upkept())
    assert tally.gaps == Gaps(
        found=5,
        filled=1,
        no_trade=2,
        given_up=1,
        missing_minutes=9,
        filled_minutes=3,
        no_trade_minutes=2,
    )
    assert tally.gaps.open == 1
    assert tally.gaps.fill_rate() == pytest.approx(3 / 7, abs=1e-6)
    assert tally.quality() == {"S000": 100.0, "S001": 75.0, "S002": 75.0}


def test_a_fill_rate_needs_something_to_fill() -> None:
    assert Gaps().fill_rate() is None
    assert Gaps(found=1, no_trade=1, missing_minutes=4, no_trade_minutes=4).fill_rate() is None
    assert Gaps(missing_minutes=4, filled_minutes=4).fill_rate() == 1.0


def test_a_gap_that_is_filled_behind_the_clock_is_filled() -> None:
    ready = at(0, 2, "S000")
    late = Row(ready[0] + MINUTE_NS, "S000", ready[0] - MINUTE_NS, 9.0, is_late=True)
    day = full_day(2, 4, missing=frozenset([ready]), late=[late])
    tape = Tape(cuts={0: (2,)})
    tape.start()
    missing = [Run("S000", 1, 2, Status.MISSING), Run("S001", 2, 3, Status.MISSING)]
    tape.put(tape.event(0, "open", day, minutes=minutes_of(day, missing)))
    first, second = tape.rows(0, day)
    tape.put(first)
    filled = minutes_of(day, [Run("S000", 1, 2, Status.FILLED, 1, "r1")])
    tape.put(replace(second, minutes=filled))
    tape.put(tape.event(0, "close", day, clock_ns=day.close_ns))
    tape.end()
    tally = counted(tape, day)
    # Of S001 the source had it after all: what comes behind "missing" fills it.
    assert (tally.gaps.found, tally.gaps.filled, tally.gaps.open) == (2, 2, 0)
    assert tally.quality() == {"S000": 100.0, "S001": 100.0}


def test_a_stopped_session_counts_gaps_up_to_the_clock() -> None:
    whole, day = upkept()
    tape = Tape()
    tape.start()
    tape.put(whole.frames[0][1].frame)
    (frame,) = tape.rows(0, full_day(3, 2))
    tape.put(frame)
    tape.end()
    tally = counted(tape, day)
    assert (tally.gaps.found, tally.gaps.missing_minutes) == (2, 3)


def test_a_symbol_that_joins_is_counted_from_the_open() -> None:
    one, two = full_day(["AA"], 4), full_day(["AA", "BB"], 4)
    tape = Tape(cuts={0: (2,)})
    tape.start()
    tape.put(tape.event(0, "open", one))
    tape.put(next(tape.rows(0, one)))
    # What is said of it while it joins, before it is listed.
    quiet = minutes_of(two, [Run("BB", 0, 1, Status.NO_TRADE, 1, "r1")])
    tape.put(tape.event(0, "rows", one, minutes=quiet, clock_ns=one.open_ns + 2 * MINUTE_NS))
    tape.put(list(tape.rows(0, two))[1])
    tape.put(tape.event(0, "close", two, clock_ns=two.close_ns, symbols=()))
    tape.end()
    tally = counted(tape, one)
    assert tally.quality() == {"AA": 100.0, "BB": 75.0}
    assert (tally.gaps.missing_minutes, tally.gaps.no_trade_minutes) == (2, 1)


@pytest.mark.parametrize(
    ("shards", "flags", "rate"), [(1, (True,), 0.5), (2, (True, True), 0.5), (2, (True, False), 0)]
)
def test_a_prefetch_is_a_hit_when_every_shard_had_it(
    shards: int, flags: tuple[bool, ...], rate: float
) -> None:
    days = [full_day(4, 2, number) for number in range(3)]
    tape = tape_of(days, shards)
    for frames, flag in zip(tape.frames, flags, strict=True):
        for number, one in enumerate(frames):
            if one.frame.event == "roll" and one.frame.session == days[1].label:
                frames[number] = replace(one, frame=replace(one.frame, prefetched=flag))
    tally = Tally([Session(day.label, day.open_ns, day.close_ns) for day in days])
    for batch in batches_of(tape):
        tally.add(batch, 0.0)
    assert tally.rolls == 2
    assert tally.prefetch_hit_rate() == rate
    assert tally_of([days[0]]).prefetch_hit_rate() is None
