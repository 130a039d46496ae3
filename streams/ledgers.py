"""Ledgers of the sessions of a shard that play or come and have minutes without a bar: pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Coverage, DataRequest, Halt, Ints, Longs, Minutes
from streams.arrival import Arrival, Noted
from streams.coverage import Status
from streams.kinds import Rows
from streams.ledger import Ledger
from streams.plan import Plan

__all__ = ["Ledgers"]


class Ledgers:
    """Ledgers by number of session; a session of which every minute is there has none."""

    def __init__(self) -> None:
        self._ledgers: dict[int, Ledger] = {}

    def get(self, number: int) -> Ledger | None:
        """Return the ledger of a session, None where it has none."""
        return self._ledgers.get(number)

    def of(self, plan: Plan, number: int) -> Ledger:
        """Return the ledger of a session, a new one where it has none."""
        if number not in self._ledgers:
            session = plan.sessions[number]
            self._ledgers[number] = Ledger(session, plan.interval_ns, plan.symbols)
        return self._ledgers[number]

    def give_up(self, number: int) -> None:
        """Give up what is still missing of a session that is over: nothing of it is taken later."""
        ledger = self._ledgers.get(number)
        if ledger is not None:
            ledger.give_up()

    def drop(self, number: int) -> None:
        """Forget the ledger of a session that is over."""
        self._ledgers.pop(number, None)

    def is_settled(self, number: int) -> bool:
        """Whether each minute of a session is there, vouched for or given up."""
        ledger = self._ledgers.get(number)
        return ledger is None or ledger.is_settled

    def rename(self, symbols: tuple[str, ...]) -> None:
        """Have other symbols from now on."""
        for ledger in self._ledgers.values():
            ledger.rename(symbols)

    def take(self, came: Arrival) -> None:
        """Take rows that came; of bars alone minutes are known."""
        ledger = self._ledgers.get(came.number)
        if ledger is not None and isinstance(came.rows, BarColumns):
            ledger.take(came.rows, came.request, is_new=came.is_new)

    def note(self, plan: Plan, came: Noted) -> bool:
        """Take a request for gaps, or an answer to one; tell whether it was one."""
        record = came.record
        if isinstance(record, Halt):  # it is about symbols, and no request
            return False
        if isinstance(record, Coverage) and not record.final:
            ledger = self._that_knows(record.request)
            if ledger is not None:
                ledger.answered(record, is_new=came.is_new)
            return ledger is not None or record.gaps is not None
        # Asked, or given up by who asks: its session is that of its first minute.
        ledger = self._ledgers.get(plan.number_at(record.start_ns))
        if ledger is not None and isinstance(record, Coverage):
            ledger.answered(record, is_new=came.is_new)
        elif ledger is not None and isinstance(record, DataRequest):
            ledger.asked(record, is_new=came.is_new)
        return True

    def wanted(self, request: str, rows: Rows) -> NDArray[np.bool_] | None:
        """Return which rows an answer to a request for gaps may bring; None: it is another's."""
        ledger = self._that_knows(request) if isinstance(rows, BarColumns) else None
        return None if ledger is None else ledger.wanted(request, rows.symbol, rows.ts_ns)

    def _that_knows(self, request: str) -> Ledger | None:
        """Return the ledger of the session that a request for gaps is about, None for none."""
        ledgers = self._ledgers.values() if request else ()
        return next((one for one in ledgers if one.knows(request)), None)

    def steps(self) -> Iterator[Minutes]:
        """Give what changed in each session and is not on the tape, in their order."""
        for _, ledger in sorted(self._ledgers.items()):
            if (minutes := ledger.steps()) is not None:
                yield minutes

    def no_trade(
        self,
        number: int,
        due: Longs,
        until_ns: int,
        symbols: tuple[str, ...],
        halted: NDArray[np.bool_] | None = None,
    ) -> Ints | None:
        """Return how many symbols had no trade, or were halted, in the minutes due, shape (due,).

        What of them did not come is missing from now on, of the symbols that the tape has now, or
        halted where ``halted``, shape (symbols, minutes), says so. None where the session has no
        ledger.
        """
        ledger = self._ledgers.get(number)
        if ledger is None:
            return None
        ledger.settle(until_ns, symbols, halted)
        grid = ledger.grid
        at = np.searchsorted(grid.ends, due)
        quiet = grid.counts(Status.NO_TRADE) + grid.counts(Status.HALTED)
        return quiet[at].astype(np.int32)
