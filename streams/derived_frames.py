"""Derived bars cut into what fits into a message: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.records import DerivedColumns
from streams.derived import BEFORE, Part
from streams.topics import MESSAGE_BYTES

__all__ = ["Piece", "pieces"]

ROW_BYTES = 124  # all columns; those before a correction are mostly one value for all
SLICE_BYTES = 32
ENVELOPE_BYTES = 8_192


class Piece(NamedTuple):
    """What goes into one frame.

    Attributes
    ----------
    clock_ns
        Session clock behind it: its last slice that is complete; None where none is.
    slices
        Its slices by the name of the column; their marks are 0.
    derived
        Its rows, at least one.
    """

    clock_ns: int | None
    slices: dict[str, NDArray[Any]]
    derived: DerivedColumns


def pieces(
    parts: Sequence[Part], *, symbols_bytes: int = 0, message_bytes: int = MESSAGE_BYTES
) -> Iterator[Piece]:
    """Give what goes into each frame, in order; nothing where there are no parts.

    Parameters
    ----------
    parts
        Bars in order; a slice may end one part and begin the next.
    symbols_bytes
        Room that the list of symbols takes in each frame.
    message_bytes
        What a frame may hold.
    """
    if not parts:
        return
    whole = _joined(parts)
    room = message_bytes - ENVELOPE_BYTES - symbols_bytes
    size = max(room // (ROW_BYTES + SLICE_BYTES), 1)
    ends = np.cumsum(whole.slice_rows, dtype=np.int64)
    starts = ends - whole.slice_rows
    late_ends = starts + whole.slice_corrections
    for first in range(0, int(ends[-1]), size):
        stop = min(first + size, int(ends[-1]))
        here = slice(
            int(np.searchsorted(ends, first, "right")), int(np.searchsorted(starts, stop, "left"))
        )
        begin = np.maximum(starts[here], first)
        rows = np.minimum(ends[here], stop) - begin
        late = np.clip(np.minimum(late_ends[here], stop) - begin, 0, None)
        complete = int(np.searchsorted(ends, stop, "right"))
        nothing = np.zeros(len(rows), np.int32)
        yield Piece(
            int(whole.slice_ns[complete - 1]) if complete > here.start else None,
            {
                "slice_ns": whole.slice_ns[here],
                "slice_rows": rows.astype(np.int32),
                "slice_corrections": late.astype(np.int32),
                **dict.fromkeys(_MARKS, nothing),
            },
            DerivedColumns(
                row=np.arange(stop - first, dtype=np.int32),
                **{name: column[first:stop] for name, column in whole.columns.items()},
            ),
        )


_MARKS = ("slice_expected", "slice_received", "slice_no_trade", "slice_missing")


def _joined(parts: Sequence[Part]) -> Part:
    """Return parts as one, with all columns; slices that go on are put together."""
    rows = sum(len(part.columns["ts_ns"]) for part in parts)
    if len(parts) == 1 or not any(BEFORE[0] in part.columns for part in parts):
        before = dict.fromkeys(BEFORE, np.broadcast_to(np.nan, rows))
    else:
        before = {}
    if len(parts) == 1:
        return parts[0]._replace(columns={**before, **parts[0].columns})
    columns = {
        name: np.concatenate([_column(part, name) for part in parts])
        for name in DerivedColumns.columns
        if name != "row" and name not in before
    }
    slice_ns = np.concatenate([part.slice_ns for part in parts])
    firsts = np.flatnonzero(np.concatenate(([True], slice_ns[1:] != slice_ns[:-1])))
    rows_of = np.concatenate([part.slice_rows for part in parts])
    late_of = np.concatenate([part.slice_corrections for part in parts])
    return Part(
        slice_ns[firsts],
        np.add.reduceat(rows_of, firsts, dtype=np.int32),
        np.add.reduceat(late_of, firsts, dtype=np.int32),
        {**columns, **before},
    )


def _column(part: Part, name: str) -> NDArray[Any]:
    if name in BEFORE and name not in part.columns:
        return np.full(len(part.columns["ts_ns"]), np.nan)
    return part.columns[name]
