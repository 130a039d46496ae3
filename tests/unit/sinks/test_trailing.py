from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from sinks.clickhouse import ClickHouseSink
from sinks.derived import DerivedSink
from sinks.expiry import expire
from sinks.history import open_history
from sinks.owner import FolderOwner
from sinks.store import Store
from sinks.trailing import TrailingSink
from streams.intervals import MINUTE_NS
from streams.positions import Delivered
from streams.settings import Settings
from tests.unit.sinks.derived import Longer, frame_of, put
from tests.unit.sinks.frames import Tape, label

TOPIC = "unit-1.history"


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    with FolderOwner(settings):
        store = Store.open(settings)
        yield store
        store.close()


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with opened(settings) as found:
        yield found


def loaded(days: Sequence[int], price: float = 50.0, run: str = "run-1") -> Tape:
    """Sessions of 1m bars as the upkeep loads them, in that order, then the end."""
    tape = Tape(run=run, frames_a_session=1)
    frames = [tape.session(day, price)[1] for day in days]
    tape.frames = [
        frame_of(item, frame=number, first_row=30 * number) for number, item in enumerate(frames)
    ]
    end = frame_of(tape.start(), event="end", frame=len(days), first_row=30 * len(days))
    tape.frames[-1] = end
    return tape


def written(
    store: Store, frames: Sequence[Delivered], intervals: Sequence[int] = ()
) -> TrailingSink:
    sink = TrailingSink(store, TOPIC, intervals)
    sink.resume({0: None}, {0: 0})
    sink.write(frames)
    sink.flush()
    return sink


def deliver(store: Store, tape: Tape) -> None:
    sink = ClickHouseSink(store)
    sink.resume({0: None}, {0: 0})
    sink.write(tape.frames)
    sink.flush()


@pytest.mark.parametrize("is_before", [True, False])
def test_what_the_tape_delivered_wins_whenever_it_did(store: Store, is_before: bool) -> None:
    tape = Tape(run="run-0", symbols=("AAA",))
    tape.session(0, price=10.0)
    if is_before:
        deliver(store, tape)
    written(store, loaded([1, 0]).frames)
    if not is_before:
        deliver(store, tape)
    found = store.rows("SELECT symbol, min(open) FROM bars FINAL GROUP BY symbol ORDER BY symbol")
    assert [(row[0], row[1] < 50) for row in found] == [
        *(("AAA", True), ("BBB", False), ("CCC", False))
    ]
    assert store.rows("SELECT count() FROM bars_as_known")[0][0] == 10  # those on the tape


def test_loaded_sessions_are_sessions_of_the_history(settings: Settings) -> None:
    with opened(settings) as store:
        written(store, loaded([1, 0]).frames)
        tape = Tape()
        tape.session(2)
        deliver(store, tape)
    history = open_history(settings)
    found = history.sessions().to_pylist()
    assert [row["session"] for row in found] == [label(0), label(1), label(2)]
    assert {row["bars"] for row in found} == {30}
    assert {row["closed"] for row in found} == {True}
    assert {row["incomplete"] for row in found} == {False}
    assert len(history.bars(["AAA"], sessions=2)) == 20
    assert history.quality()["session"].to_pylist() == [label(2)] * 3  # of what was played


def test_one_that_was_played_is_told_as_it_was_played(settings: Settings) -> None:
    with opened(settings) as store:
        tape = Tape(run="run-1")
        tape.session(0)
        deliver(store, tape)
        written(store, loaded([0], run="run-2").frames)
    (row,) = open_history(settings).sessions().to_pylist()
    assert (row["run"], row["bars"], row["expected"]) == ("run-1", 30, 30)


def test_loaded_sessions_are_no_position_on_the_tape(store: Store) -> None:
    history = loaded([1, 0])
    sink = written(store, history.frames)
    assert sink.flush() == {}
    assert ClickHouseSink(store).resume({0: 5}, {0: 0}) == {0: 0}
    tape = Tape()
    tape.session(2)
    deliver(store, tape)
    assert ClickHouseSink(store).resume({0: 400}, {0: 0}) == {0: 4}
    assert TrailingSink(store, TOPIC).resume({0: 400}, {0: 0}) == {0: history.frames[-1].offset + 1}


def test_what_came_out_of_the_store_is_not_stored_again(store: Store) -> None:
    tape = loaded([1, 0])
    frames = [frame_of(tape.frames[0], sources=("store",)), *tape.frames[1:]]
    written(store, frames)
    sessions = store.rows("SELECT DISTINCT session FROM bars")
    assert [row[0] for row in sessions] == [label(0)]
    assert [row[0] for row in store.rows("SELECT session FROM frames")] == [label(0)]
    # Its position is stored all the same.
    assert TrailingSink(store, TOPIC).resume({0: 9}, {0: 0}) == {0: frames[-1].offset + 1}


def test_derived_bars_of_all_intervals_stand_in_one_frame(settings: Settings) -> None:
    # A session of 10 minutes: 4m bars are cut to 2 at its close, as the day's bar is to 10.
    fours = [Longer("AAA", 0, m, 10 + m, length=n, count=n) for m, n in ((0, 4), (4, 4), (8, 2))]
    fives = [Longer("BBB", 0, m, 20 + m) for m in (0, 5)]
    day = Longer("AAA", 0, 0, 30, length=10, count=10)
    tape = Tape()
    put(tape, 0, [*fours, *fives, day])
    with opened(settings) as store:
        written(store, tape.frames, [1440 * MINUTE_NS])
        five = DerivedSink(store, "unit-1.bars.5m", 5 * MINUTE_NS)
        five.resume({0: None}, {0: 0})
        won = Tape()
        put(won, 0, [Longer("BBB", 0, 5, 99)])
        five.write(won.frames)
        five.flush()
    history = open_history(settings)
    assert history.bars(None, "4m")["open"].to_pylist() == [10.0, 14.0, 18.0]
    assert history.bars(None, "5m")["open"].to_pylist() == [20.0, 99.0]
    assert history.bars(None, "1d")["open"].to_pylist() == [30.0]
    assert history.bars(None, "10m").num_rows == 0


def test_a_length_that_is_cut_everywhere_is_stored_as_it_is(settings: Settings) -> None:
    tape = Tape()
    put(tape, 0, [Longer("AAA", 0, 0, 30, length=10)])
    with opened(settings) as store:
        written(store, tape.frames)
    assert open_history(settings).bars(None, "10m")["open"].to_pylist() == [30.0]


def test_loaded_sessions_expire_before_those_that_were_played(store: Store) -> None:
    written(store, loaded([9, 8]).frames)
    tape = Tape()
    for day in (3, 2):
        tape.session(day)
    deliver(store, tape)
    assert expire(store, 3) == (label(8),)
    assert expire(store, 2) == (label(9),)
    assert expire(store, 1) == (label(3),)
    sessions = store.rows("SELECT DISTINCT session FROM bars ORDER BY session")
    assert [row[0] for row in sessions] == [label(2)]
