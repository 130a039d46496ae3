"""The last quotes or ticks of each symbol: written by one thread, read without a lock.

Each symbol has a buffer of twice the rows that stay at hand. Rows behind its end are only ever
added; when it is full, its last rows go on in a new one, so what readers hold never changes. A
`Recent` is made new after every write and never touched again. Behind what readers see of a row
stand its source and number: they tell which row a correction corrects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.records import Longs, QuoteColumns, TickColumns
from streams.finals import corrected
from streams.orders import order_by

__all__ = ["KEEP", "POINTS", "Points", "Recent", "RecentStore", "blank_points"]

KEEP = 1_000
"""Quotes, and ticks, of each symbol that stay at hand."""

_VALUES = {
    "quotes": ("bid", "bid_size", "ask", "ask_size"),
    "ticks": ("price", "size"),
}
_OWN = {
    kind: np.dtype(
        [
            *[("ts_ns", "<i8"), ("known_ns", "<i8")],
            *[(name, "<f8") for name in values],
            *[("revision", "<i4"), ("source", "<i4"), ("sequence", "<i8")],
        ],
        align=True,
    )
    for kind, values in _VALUES.items()
}
"""A quote or tick as it is kept: as readers get it, then source and number (-1: none)."""


def _seen(own: np.dtype[Any]) -> np.dtype[Any]:
    """Return the same bytes without source and number, for readers."""
    names = [name for name in own.names or () if name not in ("source", "sequence")]
    return np.dtype((np.record, own[names]))


POINTS = {kind: _seen(own) for kind, own in _OWN.items()}
"""A quote or tick as readers get it: time, time at which it was known, values, revision."""

Points: TypeAlias = NDArray[Any]
"""Rows of one of `POINTS`, or as they are kept, shape (rows,)."""

_IDENTITY = ["source", "sequence", "revision"]
"""What tells which row a correction corrects; see `streams.finals.corrected`."""
_FIRST = 16


def blank_points(kind: str, size: int) -> Points:
    """Return rows of symbols that have none: ``ts_ns`` 0, values NaN."""
    rows = np.zeros(size, POINTS[kind])
    for name in _VALUES[kind]:
        rows[name] = np.nan
    return rows


@dataclass(frozen=True, slots=True)
class Recent:
    """What readers see of the quotes or ticks of a session at one moment.

    Attributes
    ----------
    place
        Where each symbol that has rows stands in the lists.
    rows, ends
        Buffer of each symbol, and where its last row ends; the last ``keep`` before that are its
        rows, ascending by ``ts_ns``, where there are as many.
    starts
        Where its first row begins.
    counts
        Rows of each symbol that came, without revisions.
    latest
        Last row of each, shape (symbols,).
    written
        Number of the write that last touched the symbol, shape (symbols,).
    """

    place: Mapping[str, int] = field(default_factory=dict)
    rows: list[Points] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    latest: Points = field(default_factory=lambda: np.empty(0, POINTS["quotes"]))
    written: Longs = field(default_factory=lambda: np.empty(0, np.int64))

    def find(self, symbol: str) -> int | None:
        """Return where a symbol stands, also when it is written small; None: it has no rows."""
        at = self.place.get(symbol)
        return self.place.get(symbol.upper()) if at is None else at

    def last(self, at: int, n: int) -> Points:
        """Return the last ``n`` rows of the symbol at a place, or all at hand, without a copy."""
        end = self.ends[at]
        return self.rows[at][max(end - n, self.starts[at]) if n > 0 else end : end]


class RecentStore:
    """The writer's side of one kind.

    Parameters
    ----------
    kind
        ``quotes`` or ``ticks``.
    keep
        Rows of each symbol that stay at hand.
    """

    def __init__(self, kind: str, keep: int) -> None:
        self._kind = kind
        self._keep = keep
        self._sources: dict[str, int] = {}
        self._source_names: tuple[str, ...] = ()
        self._source_map = np.empty(0, np.int32)
        # numpy moves records field by field, but what it takes for plain bytes at once.
        self._bytes = np.dtype((np.void, POINTS[kind].itemsize))
        self._own: list[Points] = []
        self._names: tuple[str, ...] = ()
        self._map: NDArray[np.intp] = np.empty(0, np.intp)
        self.view = Recent(latest=np.empty(0, POINTS[kind]))

    def take(
        self,
        symbols: tuple[str, ...],
        sources: tuple[str, ...],
        columns: QuoteColumns | TickColumns,
        known_ns: Longs,
        late: NDArray[np.bool_] | None,
        *,
        write: int,
    ) -> None:
        """Take rows in, in the order of the tape; see `SessionData` for what a correction does."""
        self._begin(symbols, columns.symbol)
        self._number(sources)
        view = self.view
        symbol = self._map[columns.symbol]
        order = order_by(symbol, len(view.rows))
        size = np.bincount(symbol)
        present = np.flatnonzero(size)
        size = size[present]
        stop = np.cumsum(size)
        first = stop - size
        is_mixed = np.zeros(len(present), np.bool_)
        if late is not None:
            is_mixed = np.logical_or.reduceat(late[order], first)
        # Of rows without a correction only the last can stay.
        taken = np.where(is_mixed, size, np.minimum(size, self._keep))
        ends = np.cumsum(taken)
        offset = np.repeat(stop - ends, taken)
        chosen = order[np.arange(int(ends[-1])) + offset]
        rows = self._packed(columns, known_ns, chosen)
        view.written[present] = write
        view.latest.view(self._bytes)[present] = rows[ends - 1].view(self._bytes)
        places, edges = present.tolist(), [0, *ends.tolist()]
        for n, (at, more) in enumerate(zip(places, size.tolist(), strict=True)):
            own = rows[edges[n] : edges[n + 1]]
            view.counts[at] += more
            if late is None or not is_mixed[n]:
                self._append(at, own)
                continue
            is_late = late[chosen[edges[n] : edges[n + 1]]]
            view.counts[at] -= int(np.count_nonzero(is_late & (own["revision"] > 0)))
            self._mixed(at, own, is_late)
            view.latest[at] = view.rows[at][view.ends[at] - 1]

    def _begin(self, symbols: tuple[str, ...], used: NDArray[Any]) -> None:
        """Make the next view, with room for symbols that have their first rows; nobody reads it."""
        old = self.view
        place = self._extended(symbols, used)
        more = len(self._own) - len(old.rows)
        nought = [0] * more
        written, latest = old.written.copy(), old.latest.copy()
        if more:
            written = np.concatenate((written, np.zeros(more, np.int64)))
            blank = blank_points(self._kind, more)
            # As bytes: of records numpy would leave out what readers don't see.
            both = np.concatenate((latest.view(self._bytes), blank.view(self._bytes)))
            latest = both.view(POINTS[self._kind])
        self.view = Recent(
            place,
            [*old.rows, *(self._fixed(own) for own in self._own[len(old.rows) :])],
            old.starts + nought,
            old.ends + nought,
            old.counts + nought,
            latest,
            written,
        )

    def _extended(self, symbols: tuple[str, ...], used: NDArray[Any]) -> Mapping[str, int]:
        """Take in symbols that have their first rows; return where each that has any stands."""
        place = self.view.place
        if symbols is not self._names and symbols != self._names:
            self._map = np.array([place.get(name, -1) for name in symbols], np.intp)
        self._names = symbols
        if not len(self._map) or int(self._map[used].min()) >= 0:
            return place
        own = np.unique(used)
        new = own[self._map[own] < 0].tolist()
        self._map[new] = np.arange(len(place), len(place) + len(new))
        self._own += [np.empty(min(_FIRST, 2 * self._keep), _OWN[self._kind]) for _ in new]
        return {**place, **{symbols[i]: int(self._map[i]) for i in new}}

    def _number(self, sources: tuple[str, ...]) -> None:
        """Take in the sources of a batch: each one's number stays from batch to batch."""
        if sources is self._source_names or sources == self._source_names:
            return
        own = self._sources
        self._source_map = np.array([own.setdefault(name, len(own)) for name in sources], np.int32)
        self._source_names = sources

    def _packed(self, columns: Any, known_ns: Longs, chosen: NDArray[np.intp]) -> Points:
        rows = np.empty(len(chosen), _OWN[self._kind])
        rows["known_ns"] = known_ns[chosen]
        rows["source"] = self._source_map[columns.source[chosen]]
        for name in ("ts_ns", *_VALUES[self._kind], "revision", "sequence"):
            rows[name] = getattr(columns, name)[chosen]
        return rows

    def _append(self, at: int, rows: Points) -> None:
        """Put rows behind those of a symbol."""
        view, more = self.view, len(rows)
        end = view.ends[at]
        if end + more > len(self._own[at]):
            # Those that stay at hand with the new ones.
            start = max(view.starts[at], end + more - self._keep)
            self._renew(at, self._own[at][min(start, end) : end], more)
            end = view.ends[at]
        self._own[at].view(self._bytes)[end : end + more] = rows.view(self._bytes)
        view.ends[at] = end + more
        view.starts[at] = max(view.starts[at], end + more - self._keep)

    def _renew(self, at: int, kept: Points, more: int) -> None:
        """Go on in another buffer: those of readers stay as they are."""
        size = min(max(2 * (len(kept) + more), _FIRST), 2 * self._keep)
        own = np.empty(size, _OWN[self._kind])
        own[: len(kept)] = kept
        self._own[at] = own
        self.view.rows[at] = self._fixed(own)
        self.view.starts[at], self.view.ends[at] = 0, len(kept)

    def _mixed(self, at: int, rows: Points, late: NDArray[np.bool_]) -> None:
        """Take rows in of which some are corrections, one run of either after the other."""
        edges = [0, *(np.flatnonzero(np.diff(late)) + 1).tolist(), len(rows)]
        for start, end in pairwise(edges):
            if not late[start]:
                self._append(at, rows[max(start, end - self._keep) : end])
                continue
            for n in range(start, end):
                self._correct(at, rows[n : n + 1])

    def _correct(self, at: int, row: Points) -> None:
        """Put a correction in its place, shape (1,): that of the row it corrects, if there is."""
        view = self.view
        here = self._own[at][view.starts[at] : view.ends[at]]
        ts_ns, revision = int(row["ts_ns"][0]), int(row["revision"][0])
        first, stop = np.searchsorted(here["ts_ns"], [ts_ns, ts_ns + 1]).tolist()
        place = stop
        if revision:
            (said,) = row[_IDENTITY].tolist()
            place = first + corrected(here[first:stop][_IDENTITY].tolist(), said)
        both = np.concatenate((here[:place], row, here[min(place + 1, stop) :]))[-self._keep :]
        self._renew(at, both, 0)

    def _fixed(self, rows: Points) -> Points:
        """Return rows as readers get them."""
        rows = rows.view(POINTS[self._kind])
        rows.flags.writeable = False
        return rows
