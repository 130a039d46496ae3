"""What is known of the expected minutes of a session, worked out for a symbol when it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.records import Longs, Minutes
from streams.client.batch import Batch
from streams.client.store import Bars
from streams.coverage import GOOD, Status

__all__ = ["Marks", "share"]

Statuses: TypeAlias = NDArray[np.int8]

_GOOD = np.zeros(len(Status), np.bool_)
_GOOD[list(GOOD)] = True
_BAD = np.zeros(len(Status), np.bool_)
_BAD[[Status.MISSING, Status.REQUESTED, Status.GIVEN_UP]] = True
_MARKS = ("slice_ns", "slice_expected", "slice_no_trade", "slice_missing")


@dataclass(frozen=True, slots=True)
class Marks:
    """Slice-complete marks of a session so far, and what the tape says of its minutes.

    Attributes
    ----------
    parts
        Columns of the marks, a part a batch. Later marks have the same list, with more behind
        ``size``: so a session in which nothing is missing costs next to nothing.
    size
        Parts that count here.
    expected
        Expected minutes of a symbol.
    minutes
        What became known, in order.
    in_doubt
        Whether a minute of any symbol lacks its bar, now or later in the session.
    """

    parts: list[tuple[NDArray[Any], ...]] = field(default_factory=list)
    size: int = 0
    expected: int = 0
    minutes: tuple[Minutes, ...] = ()
    in_doubt: bool = False

    def and_of(self, batch: Batch) -> Marks:
        """Return the marks with those of the next batch; only the one writer may call it."""
        minutes = [one for one in batch.minutes if len(one)]
        columns = tuple(getattr(batch, name) for name in _MARKS)
        is_expected = columns[1] > 0
        expected = int(np.count_nonzero(is_expected))
        if not (expected or minutes):
            return self
        self.parts.append(columns)
        missing = bool(((columns[3] > 0) & is_expected).any())
        return Marks(
            self.parts,
            self.size + 1,
            self.expected + expected,
            (*self.minutes, *minutes),
            self.in_doubt or missing or any(bool(_BAD[one.status].any()) for one in minutes),
        )

    def of(self, symbol: str, bars: Bars | None) -> tuple[Longs, Statuses]:
        """Return ready time and `Status` of each expected minute so far, shape (minutes,) each.

        Parameters
        ----------
        symbol
            Its name.
        bars
            Its bars; None where the reader takes none: a minute counts as traded then unless the
            tape says something else.
        """
        ends, no_trade, missing = self._columns()
        status = np.zeros(len(ends), np.int8)
        for minutes in self.minutes:
            if symbol not in minutes.symbols:
                continue
            own = np.flatnonzero(minutes.symbol == minutes.symbols.index(symbol))
            first = np.searchsorted(ends, minutes.ts_ns[own], "right").tolist()
            stop = np.searchsorted(ends, minutes.end_ns[own], "right").tolist()
            for start, end, found in zip(first, stop, minutes.status[own].tolist(), strict=True):
                status[start:end] = found
        if bars is not None:
            at = np.flatnonzero(np.isin(ends, bars["ts_ns"] + bars["interval_ns"]))
            is_new = (status[at] == Status.PENDING) | (status[at] == Status.TRADED)
            status[at] = np.where(is_new, Status.TRADED, Status.FILLED)
        rest = status == Status.PENDING
        if bars is None:
            status[rest] = Status.TRADED
            if not self.minutes:
                status[rest & (missing > 0)] = Status.MISSING
        else:
            status[rest & (no_trade > 0)] = Status.NO_TRADE
            status[rest & (missing > 0)] = Status.MISSING
        return ends, status

    def _columns(self) -> tuple[Longs, NDArray[Any], NDArray[Any]]:
        """Return ready times of the expected slices, and their marks."""
        if not self.size:
            return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32)
        ns, expected, no_trade, missing = (
            np.concatenate(parts) for parts in zip(*self.parts[: self.size], strict=True)
        )
        is_expected = expected > 0
        return ns[is_expected], no_trade[is_expected], missing[is_expected]


def share(status: Statuses) -> float | None:
    """Return the good minutes in % of those that were expected of the symbol; None: none was."""
    expected = int(np.count_nonzero(status != Status.PENDING))
    return 100.0 * int(np.count_nonzero(_GOOD[status])) / expected if expected else None
