"""The latest quote or tick of each symbol, and how many there were: pure numpy.

Memory is that of one row a symbol, however many come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.records import Longs, QuoteColumns, TickColumns

__all__ = ["Latest"]

_NEVER = np.iinfo(np.int64).min


class Latest:
    """What the last row of one kind says of each symbol.

    In time the last row is the last one on the tape. A late one is the latest where no later time
    is known of its symbol; at the same time where its source does not give it a lower number.

    Parameters
    ----------
    size
        Number of symbols; arrays have one value each.
    names
        Values to keep.

    Attributes
    ----------
    columns
        The latest row: its values by name, and ``ts_ns``.
    count
        Number of rows; a late one with a revision above 0 takes the place of another.
    updated_ns
        Session clock of the last row that came, late ones too; 0 before the first.
    """

    def __init__(self, size: int, names: Sequence[str]) -> None:
        self.columns: dict[str, NDArray[Any]] = {
            "ts_ns": np.full(size, _NEVER),
            **{name: np.zeros(size) for name in names},
        }
        self.count = np.zeros(size, np.int64)
        self.updated_ns = np.zeros(size, np.int64)
        self._number = np.full(size, -1, np.int64)

    def fold(
        self, rows: QuoteColumns | TickColumns, late: NDArray[np.bool_], known_ns: Longs
    ) -> None:
        """Take rows in the order of the tape.

        Parameters
        ----------
        rows
            At least one.
        late
            Which of them are corrections, shape (rows,).
        known_ns
            Session clock at which each was delivered, shape (rows,).
        """
        self.updated_ns[rows.symbol] = known_ns  # of repeated indices the last one is assigned
        is_new = ~late | (rows.revision == 0)
        self.count += np.bincount(rows.symbol[is_new], minlength=len(self.count))
        # Every row in time is later than what was late before it.
        self._put(rows, np.flatnonzero(~late))
        if late.any():
            self._put_late(rows, np.flatnonzero(late))

    def _put(self, rows: QuoteColumns | TickColumns, at: NDArray[np.intp]) -> None:
        """Make of the rows at some places the last of each symbol its latest."""
        last = np.full(len(self.count), -1)
        last[rows.symbol[at]] = at
        symbols = np.flatnonzero(last >= 0)
        chosen = last[symbols]
        for name, column in self.columns.items():
            column[symbols] = getattr(rows, name)[chosen]
        self._number[symbols] = rows.sequence[chosen]

    def _put_late(self, rows: QuoteColumns | TickColumns, at: NDArray[np.intp]) -> None:
        symbol, ts_ns, number = rows.symbol[at], rows.ts_ns[at], rows.sequence[at]
        known_ns = self.columns["ts_ns"][symbol]
        is_latest = (ts_ns > known_ns) | ((ts_ns == known_ns) & (number >= self._number[symbol]))
        order = np.lexsort((number[is_latest], ts_ns[is_latest]))
        self._put(rows, at[is_latest][order])

    def move(self, moved: Callable[[NDArray[Any], float], NDArray[Any]]) -> None:
        """Go over to other symbols; ``moved`` gives an array of theirs, by one and its default."""
        self.columns = {
            name: moved(column, _NEVER if name == "ts_ns" else 0)
            for name, column in self.columns.items()
        }
        self.count, self.updated_ns = moved(self.count, 0), moved(self.updated_ns, 0)
        self._number = moved(self._number, -1)

    def value(self, symbol: int) -> dict[str, Any] | None:
        """Return the latest row of a symbol as plain values; None before the first."""
        if self.columns["ts_ns"][symbol] == _NEVER:
            return None
        return {name: column[symbol].item() for name, column in self.columns.items()}
