"""Ordered rows cut into slices and frames: pure.

A slice is everything with one ready time. A frame holds whole slices where they fit into a
message; one that does not is cut, and its mark stands behind its last part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from schemas.records import Ints, Longs, TickColumns, empty_ints, empty_longs
from streams.kinds import Rows, ready_ns
from streams.mixed import Mixed
from streams.topics import MESSAGE_BYTES

__all__ = ["NO_SLICES", "Cut", "Slices", "cut", "mark"]

# Of each row: ts, symbol, values, and what differs of interval, source, revision, number.
ROW_BYTES = {"bars": 68, "quotes": 60, "ticks": 48}
PLACE_BYTES = 4
"""What the place of a row takes more where a frame has several kinds."""
CONDITIONS_BYTES = 16_384
"""Conditions of ticks that take no more than this go into each frame as they are."""
COUNT_BYTES = 4
"""What a count of a slice takes more where it is not the same for all slices."""
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


NO_SLICES: Mapping[str, Longs | Ints] = {
    f.name: empty_longs() if f.name == "slice_ns" else empty_ints() for f in fields(Slices)
}
"""Columns of a frame without slices, by name."""


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
    rows: Mixed
    clock_ns: int


def mark(
    fresh: Mixed,
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
    ready = fresh.ready
    is_first = np.ones(len(ready), np.bool_)
    is_first[1:] = ready[1:] != ready[:-1]
    slice_ns = _with_ends(ready[is_first], expected_ends)
    if len(slice_ns) == 0 and corrections:
        slice_ns = np.array([until_ns], np.int64)
    ends = np.searchsorted(ready, slice_ns, "right")
    rows = np.diff(ends, prepend=0)
    is_expected = np.zeros(len(slice_ns), np.bool_)
    is_expected[np.searchsorted(slice_ns, expected_ends)] = True
    expected = np.where(is_expected, symbols, 0)
    received = np.zeros(len(slice_ns), np.int64)
    received[is_expected] = _bars(fresh, rows, ends, slice_ns, interval_ns)[is_expected]
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


def _with_ends(times: Longs, ends: Longs) -> Longs:
    """Return times, ascending, and those of some others, ascending, that are not among them."""
    if len(times) == len(ends) and bool((times == ends).all()):
        return ends
    at = np.searchsorted(times, ends)
    there = at < len(times)
    there[there] = times[at[there]] == ends[there]
    if there.all():
        return times
    return np.sort(np.concatenate((times, ends[~there])), kind="stable")  # two runs: linear


def _bars(
    fresh: Mixed, rows: Longs, ends: Longs, slice_ns: Longs, interval_ns: int
) -> NDArray[np.int64]:
    """Return how many of the rows of each slice are bars of one length, shape (slices,)."""
    bars = fresh.bars
    if bars is None:
        return np.zeros(len(rows), np.int64)
    if len(bars) < len(fresh):
        ends = np.searchsorted(ready_ns(bars), slice_ns, "right")
        rows = np.diff(ends, prepend=0)
    if bool((bars.interval_ns == interval_ns).all()):
        return rows
    before = np.concatenate(([0], np.cumsum(bars.interval_ns == interval_ns)))
    return np.diff(before[ends], prepend=0)


def cut(
    corrections: Mixed,
    fresh: Mixed,
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
    rows = fresh.behind(corrections) if len(corrections) else fresh
    if len(slices) == 0:
        return
    ends = np.cumsum(slices.slice_rows, dtype=np.int64)
    row_bytes, more = _costs(rows)
    is_long = more > CONDITIONS_BYTES
    room = message_bytes - ENVELOPE_BYTES - symbols_bytes - (0 if is_long else more)
    slice_bytes = _slice_bytes(slices)
    costs = row_bytes * ends + slice_bytes * np.arange(1, len(slices) + 1)
    largest = max(room // (row_bytes + slice_bytes), 1)

    def taken(start: int, end: int) -> Mixed:
        part = rows.take(start, end)
        return part.map(_with_own_conditions) if is_long else part

    first, row, spent, clock = 0, 0, 0, clock_ns
    while first < len(slices):
        stop = int(np.searchsorted(costs, spent + room, "right"))
        if stop > first:
            end = int(ends[stop - 1])
            clock = int(slices.slice_ns[stop - 1])
            yield Cut(_part(slices, first, stop, row, ends), taken(row, end), clock)
            first, row, spent = stop, end, int(costs[stop - 1])
        else:
            end = row + largest
            yield Cut(_begun(slices, first, row, end, ends), taken(row, end), clock)
            row, spent = end, row_bytes * end + slice_bytes * first


def _costs(rows: Mixed) -> tuple[int, int]:
    """Return what a row takes at most, and what the conditions of ticks take in each frame.

    Where there are many conditions, a row is to bring its own.
    """
    row_bytes = max((ROW_BYTES[stream] for stream in rows.columns), default=1)
    if len(rows.columns) > 1:
        row_bytes += PLACE_BYTES
    ticks = rows.columns.get("ticks")
    names = ticks.conditions if isinstance(ticks, TickColumns) else ()
    sizes = [len(name.encode()) + 2 for name in names]
    more = sum(sizes)
    return row_bytes + (max(sizes) if more > CONDITIONS_BYTES else 0), more


def _slice_bytes(slices: Slices) -> int:
    """Return what a slice takes: its time, and the counts that are not the same for all of them.

    One that was begun in the frame before counts its rest, but where all are the same and too
    large for a frame, there is none beside it.
    """
    counts = [getattr(slices, f.name) for f in fields(slices) if f.name != "slice_ns"]
    differing = sum(bool((count != count[0]).any()) for count in counts)
    return slices.slice_ns.itemsize + COUNT_BYTES * differing


def _with_own_conditions(rows: Rows) -> Rows:
    """Return ticks with no other conditions than theirs."""
    if not isinstance(rows, TickColumns):
        return rows
    used, place = np.unique(rows.condition, return_inverse=True)
    names = tuple(rows.conditions[n] for n in used.tolist() if n >= 0)
    condition = (place - (len(used) - len(names))).astype(np.int32)
    return replace(rows, conditions=names, condition=condition)


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
