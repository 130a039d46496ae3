"""Which rows of a session stand in the end, and in which order: pure, whole columns at a time.

Of bars there is one per (symbol, interval, ts). Of quotes and ticks there may be many with one
symbol and time: which of them a late row corrects is for `corrected` to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.records import Ints, Longs

__all__ = [
    "corrected",
    "corrections",
    "final_order",
    "known_ns",
    "known_order",
    "late_rows",
    "point_order",
    "standing",
]


class _Sliced(Protocol):
    @property
    def slice_rows(self) -> Ints:
        """Rows of each slice."""
        ...

    @property
    def slice_corrections(self) -> Ints:
        """Corrections of each slice."""
        ...


def known_ns(slice_ns: Longs, slice_rows: Ints, row: Ints, rows: int) -> Longs:
    """Return the known time of rows that stand at places ``row`` of a batch, shape (rows,)."""
    known = np.repeat(slice_ns, slice_rows)
    return known if len(known) == rows else known[row]


def corrections(slice_rows: Ints, slice_corrections: Ints) -> NDArray[np.bool_]:
    """Return which rows of slices are corrections, the first ones of each; shape (rows,)."""
    ends = np.cumsum(slice_rows) - slice_rows + slice_corrections
    late: NDArray[np.bool_] = np.arange(int(slice_rows.sum())) < np.repeat(ends, slice_rows)
    return late


def late_rows(tape: _Sliced, row: Ints) -> NDArray[np.bool_] | None:
    """Return which rows at places ``row`` of a frame or batch are corrections; None: none is."""
    if not tape.slice_corrections.any():
        return None
    late = corrections(tape.slice_rows, tape.slice_corrections)
    return late if len(late) == len(row) else late[row]


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


def corrected(held: Sequence[tuple[object, int, int]], said: tuple[object, int, int]) -> int:
    """Return the place of the row that a late one with a revision above 0 takes the place of.

    It is the one row of its symbol, time, source and sequence that has a lower revision. Where
    there is none, or where rows without numbers do not tell which of several it is, it is one more
    row: a guess would hide a trade that was. Then it is the place behind the last.

    Parameters
    ----------
    held
        Source, sequence (-1: none) and revision of what is out of its symbol and time.
    said
        Those of the late row.
    """
    found = [at for at, one in enumerate(held) if one[:2] == said[:2] and one[2] < said[2]]
    return found[0] if len(found) == 1 else len(held)


def standing(
    keys: Sequence[NDArray[Any]], revision: Ints, late: NDArray[np.bool_] | None
) -> NDArray[np.intp] | None:
    """Return the places of the quotes or ticks that stand in the end; None: all do.

    They are in the order of delivery, but for a correction: it stands where the row stood that it
    corrects, see `corrected`.

    Parameters
    ----------
    keys
        Time, symbol, source and sequence of the rows of one kind and session, each of shape
        (rows,), in the order of the tape.
    revision
        Their revisions, shape (rows,).
    late
        Which of them are corrections, shape (rows,); None: none.
    """
    if late is None:
        return None
    revised = late & (revision > 0)
    if not revised.any():
        return None
    some = np.flatnonzero(np.isin(keys[0], keys[0][revised]))
    some = some[np.lexsort([key[some] for key in keys])]  # stable: the order of delivery stays
    begins = np.ones(len(some), np.bool_)
    begins[1:] = np.logical_or.reduce([np.diff(key[some]) != 0 for key in keys])
    starts = np.flatnonzero(begins)
    has_revised = np.logical_or.reduceat(revised[some], starts)
    stands, is_own = np.arange(len(late)), np.ones(len(late), np.bool_)
    stops = np.append(starts[1:], len(some))
    for start, stop in zip(starts[has_revised], stops[has_revised], strict=True):
        places: list[int] = []  # of the rows that are out, where they stand
        said: list[tuple[object, int, int]] = []
        for row in some[start:stop].tolist():
            one = (None, 0, int(revision[row]))  # they have one source and sequence
            place = corrected(said, one) if revised[row] else len(said)
            if place < len(said):
                stands[places[place]] = row
                is_own[row] = False
            else:
                places.append(row)
            said[place : place + 1] = [one]
    return stands[is_own]


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
