"""The rows and the coverage of one session of one shard, until they are out: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Coverage, Ints, Longs, empty_ints, empty_longs
from streams.calendar import Session
from streams.merge import (
    Index,
    concatenate,
    merge_bars,
    ready_ns,
    renumbered,
    same_values,
    sort_bars,
)

__all__ = ["SessionBuffer"]


class SessionBuffer:
    """What a shard holds of one session.

    Parameters
    ----------
    session
        The session.
    symbols
        Symbols of the shard.
    """

    def __init__(self, session: Session, symbols: Iterable[str]) -> None:
        self.session = session
        self.released: list[BarColumns] = []
        """Rows that are out, in the order in which they went."""
        self._answered = _Cover(session, symbols)
        self._vouched = _Cover(session, symbols)
        self._parts: list[BarColumns] = []
        self._rows: BarColumns | None = None
        self._ready: Longs = np.empty(0, np.int64)
        self._at = 0

    @property
    def is_covered(self) -> bool:
        """Whether every symbol was answered for the whole session."""
        return not self._answered.rest

    @property
    def uncovered(self) -> tuple[str, ...]:
        """Symbols for which an answer is still out, sorted."""
        return tuple(sorted(self._answered.rest))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Symbols that were answered, but for which no source could say what there is, sorted."""
        return tuple(sorted(self._vouched.rest - self._answered.rest))

    def lacking(self, until_ns: int) -> tuple[str, ...]:
        """Return the symbols that were not answered from the open up to a time, sorted."""
        return self._answered.short_of(until_ns)

    def lacks_none(self, ends: Longs, interval_ns: int, symbols: int) -> bool:
        """Tell whether there is a bar of every symbol at each of some ready times, cheaply.

        Nothing is out yet. No is no proof that one lacks: other rows may stand between.
        """
        rows = self._merge()
        if len(rows) != len(ends) * symbols:
            return False
        if not len(rows):
            return True
        # Of each (symbol, ready time) there is one row where all have one length.
        starts = np.searchsorted(self._ready, ends)
        return bool(
            np.array_equal(starts, symbols * np.arange(len(ends)))
            and self._ready[-1] == ends[-1]
            and (rows.interval_ns == interval_ns).all()
        )

    def rows(self) -> BarColumns:
        """Return the rows that came and are not out, in order."""
        return self._merge().take(slice(self._at, None))

    def add(self, rows: BarColumns) -> None:
        """Take rows of this session that are not out, in the order in which they came."""
        self._parts.append(rows)

    def rename(self, places: Ints, symbols: Iterable[str]) -> None:
        """Have other symbols from now on; ``places`` are the new numbers by the old ones."""
        self.released = [renumbered(rows, places) for rows in self.released]
        self._parts = [renumbered(rows, places) for rows in (self.rows(),) if len(rows)]
        self._rows, self._ready, self._at = None, np.empty(0, np.int64), 0
        names = set(symbols)
        for cover in (self._answered, self._vouched):
            cover.rename(names)

    def cover(self, coverage: Coverage) -> None:
        """Take what a source answered."""
        self._answered.add(coverage)
        if coverage.answer != "cannot_say":
            self._vouched.add(coverage)

    def bound(self, until_ns: int, rows: int) -> int:
        """Return how far to go for about ``rows`` rows: ``until_ns``, or a ready time before it."""
        self._merge()
        at = self._at + rows
        return min(until_ns, int(self._ready[at])) if at < len(self._ready) else until_ns

    def next_slice(self, ends: Longs, close_ns: int) -> int:
        """Return the ready time of the next slice; ``close_ns`` where none is to come.

        ``ends`` are the ready times of bars that are expected and still to come, ascending.
        """
        self._merge()
        times = (*self._ready[self._at : self._at + 1].tolist(), *ends[:1].tolist(), close_ns)
        return int(min(times))

    def take(self, until_ns: int) -> BarColumns:
        """Return the rows ready at ``until_ns`` that are not out yet, in order; now they are."""
        bars = self._merge()
        end = max(int(np.searchsorted(self._ready, until_ns, "right")), self._at)
        rows = bars.take(slice(self._at, end))
        self._at = end
        if len(rows):
            self.released.append(rows)
        return rows

    def _merge(self) -> BarColumns:
        if self._rows is None or self._parts:
            rest = [] if self._rows is None else [self._rows.take(slice(self._at, None))]
            parts = [*rest, *self._parts]
            self._rows = merge_bars(parts) if parts else _no_bars()
            self._ready = ready_ns(self._rows)
            self._parts = []
            self._at = 0
        return self._rows

    def outdone(self, late: BarColumns) -> NDArray[np.bool_]:
        """Return which late rows, shape (n,), differ from a later revision that is out."""
        found = np.zeros(len(late), np.bool_)
        if self.released:
            out, old, new = self._out_for(late)
            is_older = late.revision[new] < out.revision[old]
            found[new] = is_older & ~same_values(out, old, late, new)
        return found

    def correct(self, late: Sequence[BarColumns]) -> BarColumns | None:
        """Return the corrections that late rows amount to, in order; they are out.

        What says the same as is out already, or comes from an earlier revision of the source, is
        left out. A revision counts up from the one that is out.
        """
        bars = merge_bars(late)
        revision = bars.revision.copy()
        keep = np.ones(len(bars), np.bool_)
        if self.released:
            out, old, new = self._out_for(bars)
            revision[new] = np.maximum(bars.revision[new], out.revision[old] + 1)
            is_older = bars.revision[new] < out.revision[old]
            keep[new[is_older | same_values(out, old, bars, new)]] = False
        columns = {name: getattr(bars, name)[keep] for name in BarColumns.columns}
        columns["revision"] = revision[keep]
        columns["row"] = np.arange(int(keep.sum()), dtype=np.int32)
        corrections = BarColumns(**columns)
        if len(corrections) == 0:
            return None
        self.released.append(corrections)
        return corrections

    def _out_for(self, late: BarColumns) -> tuple[BarColumns, Index, Index]:
        """Return what is out, and of late rows with a bar that is out: its place, and theirs."""
        out = merge_bars(self.released)
        order, same = sort_bars(concatenate([out, late]))
        if order is None:
            order = np.arange(len(out) + len(late))
        # The rows of a key stand together, the one that is out first: the sort is stable.
        group = np.concatenate(([0], np.cumsum(~same)))
        is_out = order < len(out)
        holder = np.full(group[-1] + 1, -1)
        holder[group[is_out]] = order[is_out]
        old = holder[group[~is_out]]
        new = order[~is_out] - len(out)
        return out, old[old >= 0], new[old >= 0]


class _Cover:
    """Which symbols are covered from open to close, at once or in pieces."""

    def __init__(self, session: Session, symbols: Iterable[str]) -> None:
        self.rest = set(symbols)
        """Symbols that are not."""
        self._all = set(self.rest)
        self._session = session
        self._pieces: dict[str, list[tuple[int, int]]] = {}

    def rename(self, symbols: set[str]) -> None:
        """Have other symbols; those that are new are not covered."""
        self.rest = (self.rest & symbols) | (symbols - self._all)
        self._all = set(symbols)

    def short_of(self, until_ns: int) -> tuple[str, ...]:
        """Return the symbols that are not covered from the open up to a time, sorted."""
        open_ns, pieces = self._session.open_ns, self._pieces
        reached = {name: _reaches(pieces.get(name, ()), open_ns) for name in self.rest}
        return tuple(sorted(name for name, end_ns in reached.items() if end_ns < until_ns))

    def add(self, coverage: Coverage) -> None:
        """Take the interval of a coverage."""
        open_ns, close_ns = self._session.open_ns, self._session.close_ns
        mine = self.rest.intersection(coverage.symbols)
        if coverage.start_ns <= open_ns and coverage.end_ns >= close_ns:
            self.rest -= mine
            return
        for symbol in mine:
            pieces = self._pieces.setdefault(symbol, [])
            pieces.append((coverage.start_ns, coverage.end_ns))
            if _reaches(pieces, open_ns) >= close_ns:
                self.rest.discard(symbol)


def _reaches(pieces: Sequence[tuple[int, int]], start_ns: int) -> int:
    """Return up to where intervals cover the time from ``start_ns`` on without a hole."""
    reached = start_ns
    for start, end in sorted(pieces):
        if start > reached:
            break
        reached = max(reached, end)
    return reached


def _no_bars() -> BarColumns:
    ints, longs, floats = empty_ints(), empty_longs(), np.empty(0, np.float64)
    return BarColumns(
        ints, ints, longs, longs, floats, floats, floats, floats, floats, source=ints, revision=ints
    )
