"""Bars of one session and one interval, by symbol: written by one thread, read without a lock.

Rows behind a symbol's count are only ever added, never changed: a correction copies the symbol's
rows. What readers see is a `View`, made new after every write and never touched again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, DerivedColumns, Floats, Longs
from streams.finals import final_order
from streams.orders import order_by

__all__ = ["BAR", "Bars", "Store", "View", "blank", "packed"]

BAR = np.dtype(
    (
        np.record,
        np.dtype(
            [
                *[("ts_ns", "<i8"), ("interval_ns", "<i8"), ("known_ns", "<i8")],
                *[(name, "<f8") for name in ("open", "high", "low", "close", "volume")],
                ("revision", "<i4"),
            ],
            align=True,
        ),
    )
)
"""A bar as readers get it: start, length, time at which it was known, values, revision."""

Bars: TypeAlias = NDArray[Any]
"""Rows of `BAR`, shape (bars,)."""

# numpy moves records field by field, but what it takes for plain bytes at once: 42 and 5 ns a row.
_BYTES = np.dtype((np.void, BAR.itemsize))
_SPARE = 16


def blank(size: int) -> Bars:
    """Return rows of symbols that have no bar: ``ts_ns`` 0, prices NaN."""
    rows = np.zeros(size, BAR)
    for name in ("open", "high", "low", "close"):
        rows[name] = np.nan
    return rows


def packed(bars: BarColumns | DerivedColumns, known_ns: Longs) -> Bars:
    """Return bars as rows of `BAR`, in their order."""
    rows = np.empty(len(bars), BAR)
    rows["known_ns"] = known_ns
    for name in ("ts_ns", "interval_ns", "open", "high", "low", "close", "volume", "revision"):
        rows[name] = getattr(bars, name)
    return rows


@dataclass(frozen=True, slots=True)
class View:
    """What readers see of a store at one moment.

    Attributes
    ----------
    symbols
        All symbols of the session, in the order of ``latest`` and of the columns.
    place
        Where each symbol that has a bar stands in them.
    rows
        Rows of each symbol, ascending by ``ts_ns``; those behind its count are to come.
    counts
        Bars of each symbol, shape (symbols,).
    latest
        Last bar of each symbol, shape (symbols,); ``ts_ns`` is 0 and prices NaN before the first.
    volume, high, low
        Of each symbol over the session, volume summed in the order of its rows.
    updated_ns
        Session clock when a row of the symbol last came; 0 before the first.
    written
        Number of the write that last touched the symbol.
    """

    symbols: tuple[str, ...]
    place: Mapping[str, int]
    rows: list[Bars]
    counts: NDArray[np.intp]
    latest: Bars
    volume: Floats
    high: Floats
    low: Floats
    updated_ns: Longs
    written: Longs

    def bars(self, at: int) -> Bars:
        """Return all bars of the symbol at place ``at``, without a copy."""
        return self.rows[at][: self.counts[at]]


class Store:
    """The writer's side: rows of all symbols in one block, a symbol's rows in a run of it.

    Parameters
    ----------
    symbols
        Symbols of the session; more may come later.
    capacity
        Bars expected of each; it grows where more come.
    """

    def __init__(self, symbols: tuple[str, ...], capacity: int) -> None:
        self._capacity = capacity + _SPARE
        self._block = np.empty((0, self._capacity), BAR)
        self._own: dict[int, Bars] = {}
        self._has_own = np.zeros(0, bool)
        empty = np.empty(0, np.int64)
        none = np.empty(0, np.float64)
        latest = np.empty(0, BAR)
        self.view = View((), {}, [], np.empty(0, np.intp), latest, none, none, none, empty, empty)
        self.extend(symbols)

    def extend(self, symbols: tuple[str, ...]) -> None:
        """Take in symbols that are not here yet, behind those that are."""
        seen = set(self.view.symbols)
        new = [name for name in symbols if name not in seen]
        if not new:
            return
        old, more = self.view, len(new)
        nothing = blank(more)
        self._has_own = np.concatenate((self._has_own, np.zeros(more, bool)))
        self._resize(len(seen) + more, self._capacity)
        self.view = View(
            (*old.symbols, *new),
            old.place,
            self._readable(),
            np.concatenate((old.counts, np.zeros(more, np.intp))),
            _fixed(np.concatenate((old.latest, nothing))),
            np.concatenate((old.volume, np.zeros(more))),
            np.concatenate((old.high, np.full(more, -np.inf))),
            np.concatenate((old.low, np.full(more, np.inf))),
            np.concatenate((old.updated_ns, np.zeros(more, np.int64))),
            np.concatenate((old.written, np.zeros(more, np.int64))),
        )

    def append(self, symbol: NDArray[np.intp], rows: Bars, write: int) -> None:
        """Add rows, each later than all of its symbol; ``symbol`` is its place here."""
        old = self.view
        size = len(old.symbols)
        order = order_by(symbol, size)
        more = np.bincount(symbol, minlength=size)
        counts = old.counts + more
        readable = old.rows
        if int(counts.max()) > self._capacity:
            self._resize(size, 2 * int(counts.max()))
            readable = self._readable()
        ends = np.cumsum(more)
        starts = ends - more
        target = np.empty(len(rows), np.intp)
        target[order] = np.arange(len(rows))
        target += (np.arange(size) * self._capacity + old.counts - starts)[symbol]
        flat = self._block.reshape(-1).view(_BYTES)
        raw = rows.view(_BYTES)
        if self._own:
            self._append_own(order, starts, ends, rows)
            in_block = ~self._has_own[symbol]
            flat[target[in_block]] = raw[in_block]
        else:
            flat[target] = raw
        present = np.flatnonzero(more)
        last = order[ends[present] - 1]
        self._publish(present, raw[last].view(BAR), counts, readable, write)
        view = self.view
        np.add.at(view.volume, symbol, rows["volume"])
        np.maximum.at(view.high, symbol, rows["high"])
        np.minimum.at(view.low, symbol, rows["low"])

    def correct(self, symbol: NDArray[np.intp], rows: Bars, write: int) -> None:
        """Put rows in their place by ``ts_ns``: of equal ones the highest revision, then the later.

        The symbols' volume, high and low are computed from their rows again.
        """
        touched = np.unique(symbol)
        counts = self.view.counts.copy()
        final: dict[int, Bars] = {}
        for at in touched.tolist():
            both = np.concatenate((self.view.bars(at), rows[symbol == at]))
            nought = np.zeros(len(both), np.int64)
            final[at] = both[final_order(nought, nought, both["ts_ns"], both["revision"])]
            counts[at] = len(final[at])
        if int(counts.max()) > self._capacity:
            self._resize(len(counts), 2 * int(counts.max()))
        for at, found in final.items():
            own = np.empty(self._capacity, BAR)
            own[: len(found)] = found
            self._own[at] = own
            self._has_own[at] = True
        latest = np.concatenate([found[-1:] for found in final.values()])
        updated = {at: int(rows["known_ns"][symbol == at].max()) for at in final}
        self._publish(touched, latest, counts, self._readable(), write)
        view = self.view
        for at, found in final.items():
            # One after the other, as rows that come in order are added: no pairwise sums.
            view.volume[at] = np.add.accumulate(found["volume"])[-1]
            view.high[at] = found["high"].max()
            view.low[at] = found["low"].min()
            view.updated_ns[at] = max(updated[at], int(view.updated_ns[at]))

    def _append_own(
        self, order: NDArray[np.intp], starts: NDArray[Any], ends: NDArray[Any], rows: Bars
    ) -> None:
        for at, own in self._own.items():
            start, end = int(starts[at]), int(ends[at])
            count = int(self.view.counts[at])
            own[count : count + end - start] = rows[order[start:end]]

    def _publish(
        self,
        present: NDArray[Any],
        latest: Bars,
        counts: NDArray[np.intp],
        readable: list[Bars],
        write: int,
    ) -> None:
        """Make the next view; nobody reads it before the session's state is published."""
        old = self.view
        all_latest = old.latest.copy()
        all_latest.view(_BYTES)[present] = latest.view(_BYTES)
        updated, written = old.updated_ns.copy(), old.written.copy()
        updated[present] = latest["known_ns"]
        written[present] = write
        place = old.place
        if bool((old.counts[present] == 0).any()):
            place = {old.symbols[i]: i for i in np.flatnonzero(counts).tolist()}
        self.view = View(
            old.symbols,
            place,
            readable,
            counts,
            _fixed(all_latest),
            old.volume.copy(),
            old.high.copy(),
            old.low.copy(),
            updated,
            written,
        )

    def _resize(self, symbols: int, capacity: int) -> None:
        block = np.empty((symbols, capacity), BAR)
        height, width = self._block.shape
        block[:height, :width] = self._block
        self._block, self._capacity = block, capacity
        for at, rows in self._own.items():
            own = np.empty(capacity, BAR)
            own[: len(rows)] = rows
            self._own[at] = own

    def _readable(self) -> list[Bars]:
        return [_fixed(self._own.get(i, row).view()) for i, row in enumerate(self._block)]


def _fixed(rows: Bars) -> Bars:
    rows.flags.writeable = False
    return rows
