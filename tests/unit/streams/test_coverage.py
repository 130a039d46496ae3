"""Expected minutes, runs, gaps, quality."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Ints, Longs
from streams.calendar import Session, sessions_between
from streams.coverage import Grid, Status, expected_ends
from streams.intervals import MINUTE_NS

(DAY,) = sessions_between("XNYS", "2024-11-27", "2024-11-27")
(HALF,) = sessions_between("XNYS", "2024-11-29", "2024-11-29")
(COIN,) = sessions_between("24/7", "2024-11-30", "2024-11-30")
(TOKYO,) = sessions_between("XTKS", "2024-11-27", "2024-11-27")
SHORT = Session("2024-11-27", DAY.open_ns, DAY.open_ns + 8 * MINUTE_NS)
BROKEN = Session(
    "2024-11-27",
    DAY.open_ns,
    DAY.open_ns + 8 * MINUTE_NS,
    ((DAY.open_ns + 3 * MINUTE_NS, DAY.open_ns + 5 * MINUTE_NS),),
)
NAMES = ("AA", "BB", "CC")


def ints(*values: int) -> Ints:
    return np.array(values, np.int32)


def longs(*values: int) -> Longs:
    return np.array(values, np.int64)


def start(session: Session, *minutes: int) -> Longs:
    return longs(*(session.open_ns + minute * MINUTE_NS for minute in minutes))


@pytest.mark.parametrize(
    ("session", "minutes"), [(DAY, 390), (HALF, 210), (COIN, 1_440), (TOKYO, 330)]
)
def test_the_calendar_says_what_is_expected(session: Session, minutes: int) -> None:
    ends = expected_ends(session, MINUTE_NS)
    assert len(ends) == minutes
    assert ends[0] == session.open_ns + MINUTE_NS
    assert ends[-1] == session.close_ns


def test_a_length_that_does_not_fit_is_expected_as_often_as_it_fits() -> None:
    assert len(expected_ends(SHORT, 3 * MINUTE_NS)) == 2


def test_a_minute_is_traded_and_one_found_missing_is_filled() -> None:
    grid = Grid(SHORT, MINUTE_NS, NAMES)
    assert not grid.trade(ints(0, 0, 1), start(SHORT, 0, 1, 7)).any()
    assert np.argwhere(grid.is_(Status.TRADED)).tolist() == [[0, 0], [0, 1], [1, 7]]
    missing = grid.settle_pending(int(start(SHORT, 2)[0]))
    assert np.argwhere(missing).tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]
    filled = grid.trade(ints(2, 0, 2), start(SHORT, 1, 0, 1))
    assert np.argwhere(filled).tolist() == [[2, 1]]
    assert grid.status[2].tolist() == [Status.MISSING, Status.FILLED, *[Status.PENDING] * 6]
    assert not grid.is_settled


@pytest.mark.parametrize("session", [SHORT, BROKEN])
def test_bars_of_no_expected_minute_count_for_nothing(session: Session) -> None:
    grid = Grid(session, MINUTE_NS, NAMES)
    odd = longs(session.open_ns - MINUTE_NS, session.close_ns, session.open_ns + 1, 4 * MINUTE_NS)
    grid.trade(ints(0, 0, 0, 0), odd)
    grid.trade(ints(-1, 3), start(session, 0, 0))
    assert grid.is_(Status.PENDING).all()
    has = grid.has(ints(0, -1, 1), longs(session.open_ns, session.open_ns, 1), grid.status == 0)
    assert has.tolist() == [True, False, False]


def test_a_break_has_no_minutes_and_a_run_goes_across_it() -> None:
    grid = Grid(BROKEN, MINUTE_NS, NAMES)
    assert grid.status.shape == (3, 6)
    grid.trade(ints(0, 0), start(BROKEN, 3, 5))
    assert grid.status[0].tolist() == [0, 0, 0, Status.TRADED, 0, 0]
    grid.settle_pending(BROKEN.close_ns)
    runs = grid.runs(grid.is_(Status.MISSING))
    assert list(zip(*(column.tolist() for column in runs), strict=True)) == [
        (0, 0, 3),
        (0, 4, 6),
        (1, 0, 6),
        (2, 0, 6),
    ]


def test_no_minute_at_all() -> None:
    grid = Grid(Session("2024-11-27", 0, 30), MINUTE_NS, NAMES)
    assert grid.status.shape == (3, 0)
    assert not grid.trade(ints(0), longs(0)).any()
    assert grid.quality(10**12).tolist() == [100.0] * 3
    assert len(grid.minutes(grid.status == 0)) == 0


statuses = st.lists(
    st.lists(st.sampled_from(list(Status)), min_size=8, max_size=8), min_size=3, max_size=3
)


def grid_of(rows: list[list[Status]], seed: int = 0) -> Grid:
    grid = Grid(SHORT, MINUTE_NS, NAMES)
    grid.status[:] = np.array(rows, np.int8)
    rng = np.random.default_rng(seed)
    grid.attempt[:] = rng.integers(0, 3, grid.attempt.shape)
    numbers = [grid.number_of(f"run/{n}") for n in range(3)]
    grid.request[:] = rng.choice([-1, *numbers], grid.request.shape)
    return grid


@given(statuses, st.integers(0, 99), st.sets(st.sampled_from(list(Status))))
def test_what_is_known_goes_over_the_wire_and_back(
    rows: list[list[Status]], seed: int, wanted: set[Status]
) -> None:
    grid = grid_of(rows, seed)
    where = grid.is_(*wanted)
    minutes = grid.minutes(where, loaded=True)
    assert minutes.loaded
    assert minutes.session == SHORT.label
    other = Grid(SHORT, MINUTE_NS, ("CC", "AA", "BB"))
    other.number_of("another")
    other.apply(minutes)
    assert (other.cells(minutes)[[1, 2, 0]] == where).all()
    for name in ("status", "attempt"):
        assert (getattr(other, name)[[1, 2, 0]][where] == getattr(grid, name)[where]).all()
    for symbol, minute in np.argwhere(where).tolist():
        ours, theirs = grid.request[symbol, minute], other.request[[1, 2, 0]][symbol, minute]
        assert (ours < 0) == (theirs < 0)
        assert ours < 0 or grid.requests[ours] == other.requests[theirs]
    assert (other.status[[1, 2, 0]][~where] == Status.PENDING).all()


@given(statuses, st.integers(0, 99))
def test_runs_are_those_of_a_plain_loop(rows: list[list[Status]], seed: int) -> None:
    grid = grid_of(rows, seed)
    where = grid.is_(Status.MISSING, Status.REQUESTED)
    for alike in (False, True):
        expected = []
        for symbol in range(3):
            first: int | None = None
            for minute in range(9):
                is_in = minute < 8 and bool(where[symbol, minute])
                same = first is not None and is_in
                if same and alike:
                    columns = (grid.status, grid.attempt, grid.request)
                    same = all(c[symbol, minute] == c[symbol, minute - 1] for c in columns)
                if first is not None and not same:
                    expected.append((symbol, first, minute))
                    first = None
                if is_in and first is None:
                    first = minute
        runs = grid.runs(where, alike=alike)
        assert list(zip(*(column.tolist() for column in runs), strict=True)) == expected


@given(statuses, st.integers(0, 9))
def test_quality_counts_what_was_expected_so_far(rows: list[list[Status]], minutes: int) -> None:
    grid = grid_of(rows)
    until_ns = SHORT.open_ns + minutes * MINUTE_NS
    seen = min(minutes, 8)
    assert grid.expected(until_ns) == seen
    good = {Status.TRADED, Status.FILLED, Status.NO_TRADE, Status.HALTED}
    counted = [sum(one in good for one in row[:seen]) for row in rows]
    assert grid.good(until_ns).tolist() == counted
    wanted = [100.0 * count / seen if seen else 100.0 for count in counted]
    assert grid.quality(until_ns).tolist() == wanted
    assert grid.counts(Status.FILLED).tolist() == [
        sum(row[minute] == Status.FILLED for row in rows) for minute in range(8)
    ]


def test_other_symbols_take_along_what_is_known() -> None:
    grid = grid_of([[Status.MISSING] * 8, [Status.TRADED] * 8, [Status.FILLED] * 8])
    other = grid.renamed(("CC", "DD", "AA"))
    assert other.status[:, 0].tolist() == [Status.FILLED, Status.PENDING, Status.MISSING]
    assert (other.request[0] == grid.request[2]).all()
    assert other.knows("run/1")
    assert not other.knows("run/9")
    assert grid.renamed(()).status.shape == (0, 8)
    assert grid.renamed(("XX",)).status.tolist() == [[0] * 8]


def test_names_are_those_of_people() -> None:
    assert [status.label for status in Status] == [
        *("pending", "traded", "no_trade", "missing", "requested", "filled", "given_up", "halted")
    ]
