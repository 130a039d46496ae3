"""The coordinator's side of the minutes of a session, where a shard does not lead to it."""

from __future__ import annotations

import numpy as np

from schemas.records import BarColumns
from streams.buffer import SessionBuffer
from streams.coverage import Grid, Status
from streams.intervals import MINUTE_NS
from streams.ledger import Ledger
from streams.merge import bars_of
from tests.unit.streams.shards import block, command, plan_for

PLAN = plan_for(command(), 0, 1)
SESSION = PLAN.sessions[0]
NAMES = PLAN.symbols


def bars(symbol: str, *minutes: int) -> BarColumns:
    rows = [(symbol, SESSION.open_ns + m * MINUTE_NS, MINUTE_NS, 0) for m in minutes]
    return bars_of(block(rows), PLAN.numbers, np.int32(0))


def test_other_symbols_where_nothing_is_to_be_said() -> None:
    ledger = Ledger(SESSION, MINUTE_NS, NAMES)
    ledger.rename(("AA", "DD"))
    assert ledger.grid.symbols == ("AA", "DD")
    assert ledger.steps() is None


def test_symbols_that_join_a_session_with_gaps_leave_them_as_they_are() -> None:
    ledger = Ledger(SESSION, MINUTE_NS, NAMES)
    ledger.load(bars("AA", 0, 1), is_new=True)
    ledger.join([bars("BB", 0)], ("BB",))
    assert ledger.grid.status[0].tolist() == [1, 1, *[Status.MISSING] * 3]
    assert ledger.grid.status[1, 0] == Status.FILLED


def test_only_the_minutes_of_some_symbols_are_called_missing() -> None:
    grid = Grid(SESSION, MINUTE_NS, NAMES)
    found = grid.settle_pending(SESSION.close_ns, ("AA", "CC"))
    assert found.any(axis=1).tolist() == [True, False, True]


def test_a_buffer_without_symbols_lacks_nothing() -> None:
    buffer = SessionBuffer(SESSION, ())
    assert buffer.lacks_none(PLAN.expected_ends(0), MINUTE_NS, 0)
