"""Slices of several shards put together: pure, whole columns at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas import Frame
from schemas.records import Ints, TickColumns
from streams.client.batch import KINDS, MARKS, DerivedBars
from streams.finals import corrections

__all__ = ["Piece", "merged"]

_BARS, _DERIVED = KINDS.index("bars"), KINDS.index("derived")


class Piece(NamedTuple):
    """Slices [start, end) of a frame; ``repeat`` says how often each came before at its clock.

    ``names`` are its symbols, as one object for all frames of a shard that list the same.
    """

    frame: Frame
    start: int
    end: int
    repeat: Ints | None
    names: tuple[str, ...]

    def key(self, at: int) -> tuple[int, int]:
        """Return the place of a slice on the tape: its ready time, and which one it is there."""
        return int(self.frame.slice_ns[at]), 0 if self.repeat is None else int(self.repeat[at])

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its frame."""
        return self.start == 0 and self.end == len(self.frame.slice_ns)


def merged(pieces: Sequence[Piece], maps: Sequence[Ints | None]) -> dict[str, Any]:
    """Return slice columns, sources and rows of the pieces, as arguments of a batch.

    Parameters
    ----------
    pieces
        Slices that belong together, those of one shard in order.
    maps
        For each piece, the place of its symbols among those of the batch; None: as they are.
    """
    if not pieces:
        return {}
    frame = pieces[0].frame
    is_one = len(pieces) == 1 and pieces[0].is_whole and maps[0] is None
    if is_one and frame.derived is None:
        names = ("sources", "slice_ns", "slice_rows", "slice_corrections", *MARKS, *KINDS)
        repeat = pieces[0].repeat
        more = {} if repeat is None else {"slice_repeat": repeat}
        return {**{name: getattr(frame, name) for name in names}, **more}
    of_piece, slices = _slices(pieces)
    sources = tuple(sorted({name for piece in pieces for name in piece.frame.sources}))
    late = bool(slices["slice_corrections"].any())
    parts = [
        part
        for kind in KINDS
        for piece, places, symbols in zip(pieces, of_piece, maps, strict=True)
        if (part := _part(piece, kind, places, symbols, sources, late=late)) is not None
    ]
    order = _order(parts, late=late)
    return {"sources": sources, **slices, **_rows(parts, order)}


def _slices(pieces: Sequence[Piece]) -> tuple[list[NDArray[np.intp]], dict[str, Any]]:
    """Return, for each piece, which slice of the batch each of its slices is; and their columns."""
    ns = np.concatenate([p.frame.slice_ns[p.start : p.end] for p in pieces])
    repeat = np.concatenate(
        [
            np.zeros(p.end - p.start, np.int32) if p.repeat is None else p.repeat[p.start : p.end]
            for p in pieces
        ]
    )
    order = np.lexsort((repeat, ns))
    ns_ordered, repeat_ordered = ns[order], repeat[order]
    is_new = np.ones(len(ns), bool)
    is_new[1:] = (np.diff(ns_ordered) != 0) | (np.diff(repeat_ordered) != 0)
    place = np.empty(len(ns), np.intp)
    place[order] = np.cumsum(is_new) - 1
    columns: dict[str, Any] = {"slice_ns": ns_ordered[is_new]}
    if repeat.any():
        columns["slice_repeat"] = repeat_ordered[is_new]
    for name in ("slice_rows", "slice_corrections", *MARKS):
        column = np.concatenate([getattr(p.frame, name)[p.start : p.end] for p in pieces])
        sums = np.bincount(place, column, len(columns["slice_ns"]))  # exact below 2**53
        columns[name] = sums.astype(np.int32)
    ends = np.cumsum([p.end - p.start for p in pieces])
    return np.split(place, ends[:-1]), columns


class _Part(NamedTuple):
    """Rows of one kind of a piece, with what they are ordered by."""

    kind: int
    columns: Any
    changed: Mapping[str, NDArray[Any]]
    slice: NDArray[np.intp]
    fresh: NDArray[np.bool_] | None

    def column(self, name: str) -> NDArray[Any]:
        found = self.changed.get(name)
        return getattr(self.columns, name) if found is None else found


def _part(
    piece: Piece,
    kind: str,
    places: NDArray[np.intp],
    symbols: Ints | None,
    sources: tuple[str, ...],
    *,
    late: bool,
) -> _Part | None:
    frame = piece.frame
    columns: Any = getattr(frame, kind)
    if columns is None or not len(columns):
        return None
    in_slice = frame.slice_rows[piece.start : piece.end]
    first = int(frame.slice_rows[: piece.start].sum())
    total = int(in_slice.sum())
    start, end = np.searchsorted(columns.row, (first, first + total))
    if start == end:
        return None
    if end - start < len(columns):
        columns = columns.take(slice(start, end))
    slice_of = np.repeat(places, in_slice)
    fresh = None
    if late:
        fresh = ~corrections(in_slice, frame.slice_corrections[piece.start : piece.end])
    if len(columns) < total:
        at = columns.row - first
        slice_of, fresh = slice_of[at], None if fresh is None else fresh[at]
    changed: dict[str, NDArray[Any]] = {}
    if symbols is not None:
        changed["symbol"] = symbols[columns.symbol]
    if kind == "derived":
        changed["length_ns"] = np.broadcast_to(np.int64(frame.interval_ns), len(columns))
    elif frame.sources != sources:
        place = np.array([sources.index(name) for name in frame.sources], np.int32)
        changed["source"] = place[columns.source]
    return _Part(KINDS.index(kind), columns, changed, slice_of, fresh)


def _order(parts: Sequence[_Part], *, late: bool) -> NDArray[np.intp] | None:
    """Return the rows of all parts in the order of the tape; None if they stand in it."""
    if len(parts) < 2:
        return None
    symbol = np.concatenate([part.column("symbol") for part in parts])
    slice_of = np.concatenate([part.slice for part in parts])
    lengths = [_length(part) for part in parts]
    interval = np.concatenate(lengths)
    kind = np.repeat([part.kind for part in parts], [len(part.slice) for part in parts])
    intervals = np.unique([column[0] for column in lengths if len(column)])
    if any(not _is_one(column) for column in lengths):
        intervals = np.unique(interval)
    inner = [
        (kind, len(KINDS)),
        (np.searchsorted(intervals, interval) if len(intervals) > 1 else None, len(intervals)),
        (symbol, int(symbol.max()) + 1),
    ]
    if kind[0] < _BARS:  # of quotes and ticks there may be many of one symbol
        source = np.concatenate([_source(part) for part in parts])
        inner.append((source, int(source.max()) + 1))
    key = np.zeros(len(symbol), np.int64) if late else slice_of.astype(np.int64)
    for column, size in inner:
        if column is not None and size > 1:
            key *= size
            key += column
    if not late:
        return None if bool((key[1:] >= key[:-1]).all()) else np.argsort(key, kind="stable")
    ready = np.concatenate([part.column("ts_ns") + _interval(part) for part in parts])
    fresh = np.concatenate([part.fresh for part in parts if part.fresh is not None])
    return np.lexsort((key, ready, slice_of * 2 + fresh))


def _interval(part: _Part) -> NDArray[np.int64]:
    if part.kind < _BARS:
        return np.broadcast_to(np.zeros(1, np.int64), len(part.columns))
    found: NDArray[np.int64] = part.columns.interval_ns
    return found


def _length(part: _Part) -> NDArray[np.int64]:
    """Return the lengths that rows are ordered by: a bar that the close cut keeps its place."""
    return part.column("length_ns") if part.kind == _DERIVED else _interval(part)


def _source(part: _Part) -> NDArray[np.int32]:
    if part.kind == _DERIVED:
        return np.broadcast_to(np.zeros(1, np.int32), len(part.columns))
    return part.column("source")


def _is_one(column: NDArray[Any]) -> bool:
    """Tell whether a column says one value for all its rows, as the codec gives it out."""
    return column.strides == (0,) or len(column) == 1


def _rows(parts: Sequence[_Part], order: NDArray[np.intp] | None) -> dict[str, Any]:
    """Return the columns of every kind, its rows in ``order``."""
    found: dict[str, Any] = {}
    total = sum(len(part.slice) for part in parts)
    row = np.arange(total, dtype=np.int32)
    if order is not None:
        row = np.empty(total, np.int32)
        row[order] = np.arange(total, dtype=np.int32)
    start = 0
    for number, kind in enumerate(KINDS):
        own = [part for part in parts if part.kind == number]
        if not own:
            continue
        end = start + sum(len(part.slice) for part in own)
        places = row[start:end]
        if order is None:
            take = None
        elif end - start == total:
            take, places = order, np.arange(total, dtype=np.int32)
        elif bool((places[1:] > places[:-1]).all()):
            take = None
        else:
            take = np.argsort(places, kind="stable")
            places = places[take]
        found[kind] = _joined(own, places, take)
        start = end
    return found


def _joined(parts: Sequence[_Part], places: Ints, take: NDArray[np.intp] | None) -> Any:
    cls = DerivedBars if parts[0].kind == _DERIVED else type(parts[0].columns)
    values: dict[str, Any] = {"row": places}
    if cls is TickColumns:
        parts = _with_conditions(parts)
        values["conditions"] = parts[0].columns.conditions
    for name in cls.columns[1:]:
        values[name] = _column([part.column(name) for part in parts], take)
    if cls is TickColumns:
        values["conditions"] = tuple(
            dict.fromkeys(c for part in parts for c in part.columns.conditions)
        )
    return cls(**values)


def _with_conditions(parts: Sequence[_Part]) -> list[_Part]:
    """Return ticks whose condition column counts in the conditions of all parts together."""
    names = list(dict.fromkeys(c for part in parts for c in part.columns.conditions))
    found = []
    for part in parts:
        place = np.array([*(names.index(c) for c in part.columns.conditions), -1], np.int32)
        changed = {**part.changed, "condition": place[part.columns.condition]}
        found.append(part._replace(changed=changed))
    return found


def _column(columns: Sequence[NDArray[Any]], take: NDArray[np.intp] | None) -> NDArray[Any]:
    first = columns[0]
    if all(_is_one(column) and column[0] == first[0] for column in columns):
        return np.broadcast_to(first[:1], sum(len(column) for column in columns))
    joined = np.concatenate(columns) if len(columns) > 1 else first
    return joined if take is None else joined[take]
