"""What the tape knows of the minutes of one session before and while it plays: pure.

Requests for gaps, their answers and rows come in by the raw topic, in one order; each change is
kept until it goes onto the tape.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Coverage, DataRequest, Ints, Longs, Minutes
from streams.calendar import Session
from streams.coverage import Grid, Status

__all__ = ["Ledger"]

_ROWS, _NOTHING, _CANNOT_SAY = Status.TRADED, Status.NO_TRADE, Status.MISSING
_ANSWERS = {"rows": _ROWS, "nothing": _NOTHING, "cannot_say": _CANNOT_SAY}


class Ledger:
    """Minutes of one session of one shard that have no bar of their own accord.

    What is not new was on the tape before its owner took the shard over: it counts, and is not
    said again.

    Parameters
    ----------
    session, interval_ns, symbols
        As those of `Grid`.
    """

    def __init__(self, session: Session, interval_ns: int, symbols: tuple[str, ...]) -> None:
        self.grid = Grid(session, interval_ns, symbols)
        self._interval_ns = interval_ns
        self._is_loaded = False
        self._has_loaded = False
        self._changed: NDArray[np.bool_] | None = None

    def load(self, rows: BarColumns, *, is_new: bool) -> None:
        """Take all rows of the session that came; expected minutes without one are missing now."""
        self._is_loaded = True
        self._trade(rows)
        missing = self.grid.settle_pending(self.grid.session.close_ns)
        if is_new and missing.any():
            self._has_loaded = True
            self._change(missing, is_new=True)

    def take(self, rows: BarColumns, request: str, *, is_new: bool) -> None:
        """Take rows that came later; ``request`` is that of the gap they answer, if any."""
        filled = self._trade(rows)
        if filled.any():
            if request:
                self.grid.request[filled] = self.grid.number_of(request)
            self._change(filled, is_new=is_new)

    def asked(self, request: DataRequest, *, is_new: bool) -> None:
        """Take note that somebody asks for minutes."""
        gaps = request.gaps or _whole(request.symbols, request.start_ns, request.end_ns)
        grid, cells = self.grid, self.grid.cells(gaps)
        number = grid.number_of(request.id)
        cells &= grid.is_(Status.MISSING, Status.REQUESTED) & (grid.attempt < request.attempt)
        grid.status[cells] = Status.REQUESTED
        grid.attempt[cells] = request.attempt
        grid.request[cells] = number
        self._change(cells, is_new=is_new)

    def answered(self, answer: Coverage, *, is_new: bool) -> None:
        """Take what a source says of the minutes it was asked for, or that nobody will be asked."""
        grid, status = self.grid, _ANSWERS[answer.answer]
        gaps = answer.gaps or _whole(answer.symbols, answer.start_ns, answer.end_ns, status)
        number = grid.number_of(answer.request)
        if answer.final:
            given_up = grid.cells(gaps) & grid.is_(Status.MISSING, Status.REQUESTED)
            grid.status[given_up] = Status.GIVEN_UP
            self._change(given_up, is_new=is_new)
            return
        nothing = grid.cells(gaps.take(gaps.status == _NOTHING))
        nothing &= grid.is_(Status.MISSING, Status.REQUESTED)
        grid.status[nothing], grid.request[nothing] = Status.NO_TRADE, number
        # A newer request for the same minutes is still out: theirs is its answer.
        rest = grid.cells(gaps) & (grid.status == Status.REQUESTED) & (grid.request == number)
        grid.status[rest] = Status.MISSING
        self._change(nothing | rest, is_new=is_new)

    def knows(self, request: str) -> bool:
        """Tell whether a request for gaps of this session has that id."""
        return self.grid.knows(request)

    def wanted(self, request: str, symbol: Ints, ts_ns: Longs) -> NDArray[np.bool_]:
        """Return which rows of an answer fill a minute that is not there, shape (rows,).

        Those that the same request filled before are among them: it may be answered twice.
        """
        grid = self.grid
        open_ = grid.is_(Status.MISSING, Status.REQUESTED, Status.GIVEN_UP)
        again = (grid.status == Status.FILLED) & (grid.request == grid.number_of(request))
        return grid.has(symbol, ts_ns, open_ | again)

    def join(
        self, parts: Sequence[BarColumns], symbols: tuple[str, ...], until_ns: int | None = None
    ) -> None:
        """Take all rows of symbols that join; their other minutes are missing now, to the close.

        Of a live session it is up to ``until_ns``. Of those that were there nothing is missing.
        """
        grid = self.grid
        if not self._is_loaded:
            self._is_loaded = True
            there = np.array([name not in symbols for name in grid.symbols], np.bool_)
            grid.status[there] = Status.TRADED
        for rows in parts:
            self._trade(rows)
        self.settle(grid.session.close_ns if until_ns is None else until_ns, symbols)

    def settle(
        self,
        clock_ns: int,
        symbols: tuple[str, ...],
        halted: NDArray[np.bool_] | None = None,
    ) -> None:
        """Call minutes of some symbols missing that are over at a clock and had no bar.

        Those are halted at which ``halted``, shape (symbols, minutes), says so.
        """
        late = self.grid.settle_pending(clock_ns, symbols)
        if late.any():
            if halted is not None:
                self.grid.status[late & halted] = Status.HALTED
            self._change(late, is_new=True)

    def begin(self, rows: BarColumns) -> None:
        """Take what came of a live session that opens; its other minutes are still to come."""
        self._is_loaded = True
        self._trade(rows)

    def give_up(self) -> None:
        """Give up what is missing or asked for."""
        open_ = self.grid.is_(Status.MISSING, Status.REQUESTED)
        self.grid.status[open_] = Status.GIVEN_UP
        self._change(open_, is_new=True)

    def steps(self) -> Minutes | None:
        """Return what changed since the last call, None for nothing."""
        changed, self._changed = self._changed, None
        loaded, self._has_loaded = self._has_loaded, False
        if changed is None or not changed.any():
            return None
        return self.grid.minutes(changed, loaded=loaded)

    def all(self) -> Minutes | None:
        """Return all minutes that were not plainly traded, None where there are none.

        Nothing is left to be said behind it.
        """
        self._changed, self._has_loaded = None, False
        others = (self.grid.status != Status.TRADED) & (self.grid.status != Status.PENDING)
        return self.grid.minutes(others) if others.any() else None

    def recall(self, minutes: Minutes) -> None:
        """Take what the tape says."""
        self._is_loaded = True
        self.grid.apply(minutes)

    def rename(self, symbols: tuple[str, ...]) -> None:
        """Have other symbols from now on."""
        if self._changed is not None:
            changed, old = self._changed, self.grid.symbols
            self._changed = np.zeros((len(symbols), changed.shape[1]), np.bool_)
            place = {name: number for number, name in enumerate(old)}
            for number, name in enumerate(symbols):
                if name in place:
                    self._changed[number] = changed[place[name]]
        self.grid = self.grid.renamed(symbols)

    @property
    def is_settled(self) -> bool:
        """Whether each minute is there, vouched for or given up."""
        return self._is_loaded and self.grid.is_settled

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Symbols with a minute that is missing or asked for, sorted."""
        open_ = self.grid.is_(Status.MISSING, Status.REQUESTED).any(axis=1)
        return tuple(self.grid.symbols[number] for number in np.flatnonzero(open_).tolist())

    def silent(self, symbols: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of some symbols of which no minute is there or vouched for."""
        good = self.grid.good(self.grid.session.close_ns)
        place = {name: number for number, name in enumerate(self.grid.symbols)}
        return tuple(name for name in symbols if not good[place[name]])

    def _trade(self, rows: BarColumns) -> NDArray[np.bool_]:
        symbol, ts_ns = rows.symbol, rows.ts_ns
        lengths = rows.interval_ns
        if not (lengths.strides == (0,) and len(lengths) and lengths[0] == self._interval_ns):
            mine = lengths == self._interval_ns
            symbol, ts_ns = symbol[mine], ts_ns[mine]
        return self.grid.trade(symbol, ts_ns)

    def _change(self, cells: NDArray[np.bool_], *, is_new: bool) -> None:
        if is_new and cells.any():
            self._changed = cells if self._changed is None else self._changed | cells


def _whole(
    symbols: tuple[str, ...], start_ns: int, end_ns: int, status: int = _CANNOT_SAY
) -> Minutes:
    """Return one run a symbol over a whole range."""
    size = len(symbols)

    return Minutes(
        symbols=symbols,
        symbol=np.arange(size, dtype=np.int32),
        ts_ns=np.full(size, start_ns),
        end_ns=np.full(size, end_ns),
        status=np.full(size, status, np.int32),
        attempt=np.zeros(size, np.int32),
        request=np.full(size, -1, np.int32),
    )
