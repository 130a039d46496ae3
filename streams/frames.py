"""Ordered rows cut into slices and frames: pure.

A slice is everything with one ready time. A frame holds whole slices where they fit into a
message; one that does not is cut, and its mark stands behind its last part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from schemas.records import BarColumns, Ints, Longs
from streams.merge import concatenate, ready_ns
from streams.topics import MESSAGE_BYTES

__all__ = ["Cut", "Slices", "cut", "mark"]

ROW_BYTES = 68  # ts, symbol, five values, and interval, source and revision where they differ
SLICE_BYTES = 32
ENVELOPE_BYTES = 8_192


@dataclass(frozen=True, slots=True)
class Slices:
    """Slice-complete marks in columns, shape (slices,) each; see ``schemas/Frame.avsc``."""

    slice_ns: Longs
    slice_rows: Ints
    slice_corrections: Ints
    slice_expected: Ints
    slice_received: Ints
    slice_no_trade: Ints
    slice_missing: Ints

    def __len__(self) -> int:
        """Return the number of slices."""
        return len(self.slice_ns)


@dataclass(frozen=True, slots=True)
class Cut:
    """What goes into one frame.

    Attributes
    ----------
    slices
        Its slices; one that goes on in the next frame has zeros in its mark here.
    rows
        Its rows, in order.
    clock_ns
        Session clock behind it: the last slice that is complete.
    """

    slices: Slices
    rows: BarColumns
    clock_ns: int


def mark(
    fresh: BarColumns,
    expected_ends: Longs,
    *,
    corrections: int,
    until_ns: int,
    symbols: int,
    interval_ns: int,
    no_trade: Ints | None = None,
) -> Slices:
    """Return the slices of rows that are due.

    Parameters
    ----------
    fresh
        Rows in order, corrections not among them.
    expected_ends
        Ready times at which every symbol is expected to have a bar, ascending.
    corrections
        Number of corrections that go out in front of the first slice.
    until_ns
        Slice of the corrections where there is no other.
    symbols
        Number of symbols of the shard.
    interval_ns
        Length of the bars that are expected.
    no_trade
        How many symbols had no trade, by ready time, shape (expected,); None for none.
    """
    ready = ready_ns(fresh)
    is_first = np.ones(len(ready), np.bool_)
    is_first[1:] = ready[1:] != ready[:-1]
    times = ready[is_first]
    if len(times) == len(expected_ends) and bool((times == expected_ends).all()):
        slice_ns = expected_ends
    else:
        slice_ns = np.union1d(times, expected_ends)
    if len(slice_ns) == 0 and corrections:
        slice_ns = np.array([until_ns], np.int64)
    ends = np.searchsorted(ready, slice_ns, "right")
    rows = np.diff(ends, prepend=0)
    if bool((fresh.interval_ns == interval_ns).all()):
        bars = rows
    else:
        before = np.concatenate(([0], np.cumsum(fresh.interval_ns == interval_ns)))
        bars = np.diff(before[ends], prepend=0)
    is_expected = np.isin(slice_ns, expected_ends, assume_unique=True)
    expected = np.where(is_expected, symbols, 0)
    received = np.where(is_expected, bars, 0)
    quiet = np.zeros(len(slice_ns), np.int64)
    if no_trade is not None:
        quiet[is_expected] = no_trade
    late = np.zeros(len(slice_ns), np.int64)
    if corrections:
        late[0] = corrections
    return Slices(
        slice_ns=slice_ns,
        slice_rows=(rows + late).astype(np.int32),
        slice_corrections=late.astype(np.int32),
        slice_expected=expected.astype(np.int32),
        slice_received=received.astype(np.int32),
        slice_no_trade=quiet.astype(np.int32),
        slice_missing=(expected - received - quiet).astype(np.int32),
    )


def cut(
    corrections: BarColumns | None,
    fresh: BarColumns,
    slices: Slices,
    *,
    clock_ns: int,
    symbols_bytes: int = 0,
    message_bytes: int = MESSAGE_BYTES,
) -> Iterator[Cut]:
    """Give what goes into each frame, in order.

    Parameters
    ----------
    corrections, fresh
        Rows in order; the corrections go in front of the first slice.
    slices
        Their slices, as `mark` gives them.
    clock_ns
        Session clock before them.
    symbols_bytes
        Room that the list of symbols takes in each frame.
    message_bytes
        What a frame may hold.
    """
    rows = fresh if corrections is None else concatenate([corrections, fresh])
    if len(slices) == 0:
        return
    ends = np.cumsum(slices.slice_rows, dtype=np.int64)
    room = message_bytes - ENVELOPE_BYTES - symbols_bytes
    costs = ROW_BYTES * ends + SLICE_BYTES * np.arange(1, len(slices) + 1)
    largest = max(room // (ROW_BYTES + SLICE_BYTES), 1)
    first, row, spent, clock = 0, 0, 0, clock_ns
    while first < len(slices):
        stop = int(np.searchsorted(costs, spent + room, "right"))
        if stop > first:
            end = int(ends[stop - 1])
            clock = int(slices.slice_ns[stop - 1])
            yield Cut(_part(slices, first, stop, row, ends), _rows(rows, row, end), clock)
            first, row, spent = stop, end, int(costs[stop - 1])
        else:
            end = row + largest
            yield Cut(_begun(slices, first, row, end, ends), _rows(rows, row, end), clock)
            row, spent = end, ROW_BYTES * end + SLICE_BYTES * first


def _rows(rows: BarColumns, start: int, end: int) -> BarColumns:
    part = rows.take(slice(start, end))
    columns = {f.name: getattr(part, f.name) for f in fields(part) if f.name != "row"}
    return BarColumns(row=np.arange(end - start, dtype=np.int32), **columns)


def _part(slices: Slices, first: int, stop: int, row: int, ends: Longs) -> Slices:
    """Return slices [first, stop), of which the first may have begun in frames before."""
    columns = {f.name: getattr(slices, f.name)[first:stop] for f in fields(slices)}
    begun = row - int(ends[first] - slices.slice_rows[first])
    if begun > 0:
        for name in ("slice_rows", "slice_corrections"):
            columns[name] = columns[name].copy()
        columns["slice_rows"][0] -= begun
        columns["slice_corrections"][0] = max(int(columns["slice_corrections"][0]) - begun, 0)
    return Slices(**columns)


def _begun(slices: Slices, at: int, row: int, end: int, ends: Longs) -> Slices:
    """Return the part [row, end) of slice ``at``, which goes on in the next frame: no mark yet."""
    start = int(ends[at] - slices.slice_rows[at])
    late = max(min(start + int(slices.slice_corrections[at]), end) - row, 0)
    nothing = np.zeros(1, np.int32)
    return Slices(
        slice_ns=slices.slice_ns[at : at + 1],
        slice_rows=np.array([end - row], np.int32),
        slice_corrections=np.array([late], np.int32),
        slice_expected=nothing,
        slice_received=nothing,
        slice_no_trade=nothing,
        slice_missing=nothing,
    )
