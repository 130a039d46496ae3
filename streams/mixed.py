"""Rows of several kinds in one order: pure numpy.

Each kind stands in columns of its own; the ``row`` column says the place of a row among all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from schemas.records import BarColumns, Longs
from streams.kinds import KINDS, Rows, kind_of
from streams.merge import concatenate

__all__ = ["NOTHING", "Mixed", "mixed"]


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """Rows in order.

    Attributes
    ----------
    ready
        Ready time of each row, shape (n,).
    columns
        Rows by stream, in the order of the kinds; a kind without rows is left out.
    """

    ready: Longs
    columns: Mapping[str, Rows]

    def __len__(self) -> int:
        """Return the number of rows, over all kinds."""
        return len(self.ready)

    @property
    def bars(self) -> BarColumns | None:
        """Bars among them; None for none."""
        found = self.columns.get("bars")
        return found if isinstance(found, BarColumns) else None

    def take(self, start: int, end: int) -> Mixed:
        """Return rows [start, end); their places count from 0."""
        found: dict[str, Rows] = {}
        for stream, rows in self.columns.items():
            at, to = start, end
            if len(self.columns) > 1:
                at, to = np.searchsorted(rows.row, (start, end)).tolist()
            if at < to:
                part = rows.take(slice(at, to))
                found[stream] = replace(part, row=part.row - np.int32(start))
        return Mixed(self.ready[start:end], found)

    def behind(self, first: Mixed) -> Mixed:
        """Return the rows of another, and these behind them."""
        found: dict[str, Rows] = {}
        for stream in KINDS:
            parts = [first.columns[stream]] if stream in first.columns else []
            if stream in self.columns:
                rows = self.columns[stream]
                parts.append(replace(rows, row=rows.row + np.int32(len(first))))
            if parts:
                row = np.concatenate([part.row for part in parts])
                found[stream] = replace(concatenate(parts), row=row)
        return Mixed(np.concatenate((first.ready, self.ready)), found)

    def map(self, change: Callable[[Rows], Rows]) -> Mixed:
        """Return the rows with a change that moves none."""
        return Mixed(self.ready, {stream: change(rows) for stream, rows in self.columns.items()})


NOTHING = Mixed(np.empty(0, np.int64), {})
"""No rows."""


def mixed(parts: Sequence[Rows], ready: Sequence[Longs]) -> Mixed:
    """Return rows of several kinds as one: by ready time, then by kind.

    Parameters
    ----------
    parts
        Rows in order, of each kind once at most, in the order of the kinds.
    ready
        Their ready times.
    """
    there = [(rows, times) for rows, times in zip(parts, ready, strict=True) if len(rows)]
    if not there:
        return NOTHING
    times = np.concatenate([times for _, times in there]) if len(there) > 1 else there[0][1]
    row = np.arange(len(times), dtype=np.int32)
    if len(there) > 1:
        order = np.argsort(times, kind="stable")  # in linear time: the parts are in order
        places = np.empty(len(times), np.int32)
        places[order] = row
        times, row = times[order], places
    columns: dict[str, Rows] = {}
    start = 0
    for rows, _ in there:
        end = start + len(rows)
        columns[kind_of(rows).stream] = replace(rows, row=row[start:end])
        start = end
    return Mixed(times, columns)
