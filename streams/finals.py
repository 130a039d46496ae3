"""Which rows of a session stand in the end, and in which order: pure, whole columns at a time.

Of bars there is one per (symbol, interval, ts). Of quotes and ticks there may be many with one
symbol and time, and a frame does not number them: so which of them a revision corrects can be told
only where there is one. See `standing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.records import Ints, Longs

__all__ = ["final_order", "known_ns", "known_order", "late_rows", "point_order", "standing"]


def known_ns(slice_ns: Longs, slice_rows: Ints, row: Ints, rows: int) -> Longs:
    """Return the known time of rows that stand at places ``row`` of a batch, shape (rows,)."""
    known = np.repeat(slice_ns, slice_rows)
    return known if len(known) == rows else known[row]


def late_rows(
    slice_rows: Ints, slice_corrections: Ints, row: Ints, rows: int
) -> NDArray[np.bool_] | None:
    """Return which rows at places ``row`` of a batch are corrections, shape (rows,); None: none."""
    if not slice_corrections.any():
        return None
    starts = np.cumsum(slice_rows) - slice_rows
    places = np.arange(int(slice_rows.sum())) - np.repeat(starts, slice_rows)
    late = places < np.repeat(slice_corrections, slice_rows)
    return late if len(late) == rows else late[row]


def known_order(
    known: Longs, ready: Longs, interval_ns: Longs, symbol: NDArray[Any]
) -> NDArray[np.intp]:
    """Return the order of rows as delivered: by known time, ready time, interval, symbol.

    That is the order of the tape, but where corrections come behind a slice whose clock stands:
    which shard's come first is then for the moment to say. Rows of one symbol, which come from one
    shard, stay as they came.
    """
    return np.lexsort((symbol, interval_ns, ready, known))


def final_order(
    symbol: NDArray[Any], interval_ns: Longs, ts_ns: Longs, revision: Ints
) -> NDArray[np.intp]:
    """Return the places of the final bars, sorted by ready time, interval, symbol.

    Of each (symbol, interval, ts) it is the row of the highest revision, of equal ones the last.
    """
    order = np.lexsort((revision, symbol, interval_ns, ts_ns + interval_ns))
    if not len(order):
        return order
    is_last = np.ones(len(order), bool)
    for column in (symbol, interval_ns, ts_ns):
        ordered = column[order]
        is_last[:-1] &= ordered[1:] == ordered[:-1]
    is_last[:-1] = ~is_last[:-1]
    return order[is_last]


def standing(
    symbol: NDArray[Any], ts_ns: Longs, revision: Ints, late: NDArray[np.bool_] | None
) -> NDArray[np.intp] | None:
    """Return the places of the quotes or ticks that stand in the end, ascending; None: all do.

    A first delivery is a row that came in time, or late with revision 0. Where at most one row of a
    (symbol, ts) is one, and no two have the same revision, they are one row and its revisions: the
    highest stands. Else nothing tells which row was revised, and all of them stand. So it does not
    depend on the order of delivery.

    Parameters
    ----------
    symbol, ts_ns, revision
        Of the rows of one kind and session, shape (rows,).
    late
        Which of them are corrections, shape (rows,); None: none.
    """
    if late is None:
        return None
    revised = np.flatnonzero(late & (revision > 0))
    if not len(revised):
        return None
    some = np.flatnonzero(np.isin(ts_ns, ts_ns[revised]))
    some = some[np.lexsort((revision[some], ts_ns[some], symbol[some]))]
    same = (np.diff(symbol[some]) == 0) & (np.diff(ts_ns[some]) == 0)
    group = np.concatenate(([0], np.cumsum(~same)))
    is_first = ~late[some] | (revision[some] == 0)
    is_one = np.bincount(group, is_first) <= 1
    is_twice = same & (np.diff(revision[some]) == 0)
    is_one[group[1:][is_twice]] = False
    stands = np.ones(len(ts_ns), np.bool_)
    # The next of the group has a higher revision.
    stands[some[:-1][same & is_one[group[:-1]]]] = False
    return np.flatnonzero(stands)


def point_order(
    symbol: NDArray[Any], ts_ns: Longs, values: Sequence[NDArray[Any]]
) -> NDArray[np.intp] | None:
    """Return the order of quotes or ticks by ts, symbol, then each value; None: they stand in it.

    Rows of the tape that are in time need no more than those with one symbol and time sorted.
    """
    step = np.diff(ts_ns)
    is_same = (step == 0) & (symbol[1:] == symbol[:-1])
    is_next = (step > 0) | ((step == 0) & (symbol[1:] >= symbol[:-1]))
    if not is_next.all():
        return np.lexsort((*reversed(values), symbol, ts_ns))
    if not is_same.any():
        return None
    is_tied = np.zeros(len(ts_ns), np.bool_)
    is_tied[1:] = is_same
    is_tied[:-1] |= is_same
    tied = np.flatnonzero(is_tied)
    group = np.cumsum(np.concatenate(([True], ~is_same)))[tied]
    order = np.arange(len(ts_ns))
    order[tied] = tied[np.lexsort((*(value[tied] for value in reversed(values)), group))]
    return order
