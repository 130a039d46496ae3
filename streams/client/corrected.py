"""The view as final: sessions in their final state, each row once and at its own time. Pure.

A session is held until it is closed, or until all is read that was there when the stream began;
then its rows come as one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from schemas.records import Ints, Longs, empty_ints
from streams.client.batch import KINDS, MARKS, ROWS, Batch
from streams.finals import final_order, standing

__all__ = ["Corrected"]

_RECEIVED, _MISSING = "slice_received", "slice_missing"


class Corrected:
    """Turns the batches of the past into those of the final state; later ones go through.

    Parameters
    ----------
    is_amid
        Whether the stream goes on in the middle of a session: that one goes through as known, for
        what comes behind a position may correct what stood before it.
    """

    def __init__(self, *, is_amid: bool = False) -> None:
        self._goes_through = is_amid
        self._is_over = False
        self._held: list[Batch] = []

    @classmethod
    def behind(cls, start: object) -> Self:
        """Return one for a stream that begins there."""
        return cls(is_amid=isinstance(start, Mapping) and getattr(start, "place", ROWS) == ROWS)

    def of(self, batches: Sequence[Batch], *, is_past: bool) -> list[Batch]:
        """Return what is given out when these batches of the whole tape come.

        ``is_past`` tells whether more is to be read that was there when the stream began.
        """
        found: list[Batch] = []
        for batch in batches:
            if batch.event == "rows" and not (self._goes_through or self._is_over):
                self._held.append(batch)
                continue
            found += self._released()
            if batch.event != "rows":
                self._goes_through = False
            found.append(batch)
        if not is_past:
            found += self._released()
            self._is_over = True
        return found

    def _released(self) -> list[Batch]:
        held, self._held = self._held, []
        return [_in_final_state(held)] if held else []


def _in_final_state(batches: Sequence[Batch]) -> Batch:
    """Return batches of one session as one, its rows in their final state.

    A slice that had nothing but corrections is left out. Marks count a bar that came late as one
    that came.
    """
    last = batches[-1]
    symbols = tuple(sorted({name for batch in batches for name in batch.symbols}))
    sources = tuple(sorted({name for batch in batches for name in batch.sources}))
    rows: dict[str, Any] = {kind: _final(kind, batches, symbols, sources) for kind in KINDS}
    ready = {kind: _ready(columns) for kind, columns in rows.items() if columns is not None}
    ns, marks = _slices(batches, ready)
    places = {kind: np.searchsorted(ns, times) for kind, times in ready.items()}
    counts = {kind: np.bincount(at, minlength=len(ns)) for kind, at in places.items()}
    total = sum(counts.values(), np.zeros(len(ns), np.int64))
    start = np.cumsum(total) - total
    for kind, at in places.items():
        # Rows of one slice and kind stand behind one another.
        first = np.cumsum(counts[kind]) - counts[kind]
        row = (start - first)[at] + np.arange(len(at))
        rows[kind] = replace(rows[kind], row=row.astype(np.int32))
        start = start + counts[kind]
    _count_late(batches, rows["bars"], ns, marks)
    changes: dict[str, Any] = {**marks, **rows}
    return replace(
        last,
        symbols=symbols,
        sources=sources,
        slice_ns=ns,
        slice_rows=total.astype(np.int32),
        slice_corrections=np.zeros(len(ns), np.int32),
        slice_repeat=empty_ints(),
        minutes=tuple(one for batch in batches for one in batch.minutes),
        incomplete=any(batch.incomplete for batch in batches),
        is_final=True,
        **changes,
    )


def _ready(columns: Any) -> Longs:
    """Return the ready time of each row."""
    interval = getattr(columns, "interval_ns", None)
    found: Longs = columns.ts_ns if interval is None else columns.ts_ns + interval
    return found


def _slices(
    batches: Sequence[Batch], ready: Mapping[str, Longs]
) -> tuple[Longs, dict[str, NDArray[Any]]]:
    """Return the ready times of all slices, ascending, and their marks."""
    kept = [
        (b.slice_rows == 0) | (b.slice_rows > b.slice_corrections) | (b.slice_expected > 0)
        for b in batches
    ]
    own = np.concatenate([b.slice_ns[k] for b, k in zip(batches, kept, strict=True)])
    ns = np.unique(np.concatenate([own, *ready.values()])).astype(np.int64)
    at = np.searchsorted(ns, own)
    marks: dict[str, NDArray[Any]] = {}
    for name in MARKS:
        column = np.concatenate([getattr(b, name)[k] for b, k in zip(batches, kept, strict=True)])
        marks[name] = np.bincount(at, column, len(ns)).astype(np.int32)  # exact below 2**53
    return ns, marks


def _count_late(
    batches: Sequence[Batch], bars: Any, ns: Longs, marks: dict[str, NDArray[Any]]
) -> None:
    """Count bars that came late as received, in the slice in which they stand."""
    if bars is None:
        return
    length_ns = min(batch.interval_ns for batch in batches)
    filled = np.zeros(len(ns), np.int64)
    own = bars.interval_ns == length_ns
    np.add.at(filled, np.searchsorted(ns, _ready(bars)[own]), 1)
    for batch in batches:
        if batch.bars is None:
            continue
        in_time = batch.bars.interval_ns == length_ns
        late = batch.late()
        if late is not None:
            in_time = in_time & ~late
        np.subtract.at(filled, np.searchsorted(ns, _ready(batch.bars)[in_time]), 1)
    filled = np.where(marks["slice_expected"] > 0, np.maximum(filled, 0), 0).astype(np.int32)
    marks[_RECEIVED] = marks[_RECEIVED] + filled
    marks[_MISSING] = np.maximum(marks[_MISSING] - filled, 0).astype(np.int32)


def _final(
    kind: str, batches: Sequence[Batch], symbols: tuple[str, ...], sources: tuple[str, ...]
) -> Any:
    """Return the rows of a kind that stand in the end, in their order; None where there are none.

    Their places in the batch are still to be given.
    """
    there = [batch for batch in batches if getattr(batch, kind) is not None]
    parts = [getattr(batch, kind) for batch in there]
    if not sum(map(len, parts)):
        return None
    whole: dict[str, NDArray[Any]] = {}
    for name in parts[0].columns:
        whole[name] = np.concatenate([getattr(part, name) for part in parts])
    whole["symbol"] = _recounted(parts, "symbol", [b.symbols for b in there], symbols)
    changes: dict[str, Any] = {}
    if "source" in whole:
        whole["source"] = _recounted(parts, "source", [b.sources for b in there], sources)
    if kind == "ticks":
        texts = tuple(dict.fromkeys(text for part in parts for text in part.conditions))
        # Behind the last stands none, which -1 finds.
        lists = [(*part.conditions, None) for part in parts]
        whole["condition"] = _recounted(parts, "condition", lists, texts)
        changes["conditions"] = texts
    order = _order(kind, whole, there)
    return replace(parts[0], **changes, **{name: column[order] for name, column in whole.items()})


def _order(
    kind: str, whole: Mapping[str, NDArray[Any]], batches: Sequence[Batch]
) -> NDArray[np.intp]:
    symbol, ts, revision = whole["symbol"], whole["ts_ns"], whole["revision"]
    if kind == "bars":
        return final_order(symbol, whole["interval_ns"], ts, revision)
    if kind == "derived":
        length = whole["length_ns"]
        stands = final_order(symbol, length, ts, revision)
        # A bar that the close cut is ready before its length is over.
        ready = ts + whole["interval_ns"]
        return stands[np.lexsort((symbol[stands], length[stands], ready[stands]))]
    late = np.concatenate([_late(batch, kind) for batch in batches])
    found = standing((ts, symbol, whole["source"], whole["sequence"]), revision, late)
    places = np.arange(len(ts)) if found is None else found
    keys = (whole["source"][places], symbol[places], ts[places])
    return places[np.lexsort(keys)]


def _late(batch: Batch, kind: str) -> NDArray[np.bool_]:
    late = batch.late(kind)
    return np.zeros(len(getattr(batch, kind)), np.bool_) if late is None else late


def _recounted(
    parts: Sequence[Any], name: str, lists: Sequence[Sequence[str | None]], into: Sequence[str]
) -> Ints:
    """Return a column of places in lists as one of places in ``into``; -1: not among them."""
    place = {text: at for at, text in enumerate(into)}
    return np.concatenate(
        [
            np.array([place.get(text, -1) if text is not None else -1 for text in texts], np.int32)[
                getattr(part, name)
            ]
            for part, texts in zip(parts, lists, strict=True)
        ]
    )
