"""The rows and the coverage of one session of one shard, until they are out: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.records import BarColumns, Coverage, Longs, empty_ints, empty_longs
from streams.calendar import Session
from streams.merge import concatenate, merge_bars, ready_ns, same_values, sort_bars

__all__ = ["SessionBuffer"]


class SessionBuffer:
    """What a shard holds of one session.

    Parameters
    ----------
    session
        The session.
    symbols
        Number of each symbol of the shard.
    """

    def __init__(self, session: Session, symbols: Mapping[str, int]) -> None:
        self.session = session
        self.released: list[BarColumns] = []
        """Rows that are out, in the order in which they went."""
        self._symbols = symbols
        self._uncovered = set(symbols)
        self._partly: dict[str, list[tuple[int, int]]] = {}
        self._silent: set[str] = set()
        self._parts: list[BarColumns] = []
        self._rows: BarColumns | None = None
        self._ready: Longs = np.empty(0, np.int64)
        self._at = 0

    @property
    def is_covered(self) -> bool:
        """Whether every symbol was answered for the whole session."""
        return not self._uncovered

    @property
    def uncovered(self) -> tuple[str, ...]:
        """Symbols for which an answer is still out, sorted."""
        return tuple(sorted(self._uncovered))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Symbols of which a source could not say what there is, sorted."""
        return tuple(sorted(self._silent))

    def add(self, rows: BarColumns) -> None:
        """Take rows of this session that are not out, in the order in which they came."""
        self._parts.append(rows)

    def cover(self, coverage: Coverage) -> None:
        """Take what a source vouches for."""
        session = self.session
        mine = self._uncovered.intersection(coverage.symbols)
        if coverage.answer == "cannot_say":
            self._silent |= mine
        if coverage.start_ns <= session.open_ns and coverage.end_ns >= session.close_ns:
            self._uncovered -= mine
            return
        for symbol in mine:
            parts = self._partly.setdefault(symbol, [])
            parts.append((coverage.start_ns, coverage.end_ns))
            if _reaches(parts, session.open_ns) >= session.close_ns:
                self._uncovered.discard(symbol)

    def bound(self, until_ns: int, rows: int) -> int:
        """Return how far to go for about ``rows`` rows: ``until_ns``, or a ready time before it."""
        self._merge()
        at = self._at + rows
        return min(until_ns, int(self._ready[at])) if at < len(self._ready) else until_ns

    def take(self, until_ns: int) -> BarColumns:
        """Return the rows ready at ``until_ns`` that are not out yet, in order; now they are."""
        bars = self._merge()
        end = int(np.searchsorted(self._ready, until_ns, "right"))
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

    def correct(self, late: Sequence[BarColumns]) -> BarColumns | None:
        """Return the corrections that late rows amount to, in order; they are out.

        What says the same as is out already, or comes from an earlier revision of the source, is
        left out. A revision counts up from the one that is out.
        """
        bars = merge_bars(late)
        revision = bars.revision.copy()
        keep = np.ones(len(bars), np.bool_)
        if self.released:
            out = merge_bars(self.released)
            order, same = sort_bars(concatenate([out, bars]))
            if order is None:
                order = np.arange(len(out) + len(bars))
            old, new = order[:-1][same], order[1:][same] - len(out)
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


def _reaches(parts: Sequence[tuple[int, int]], start_ns: int) -> int:
    """Return up to where intervals cover the time from ``start_ns`` on without a hole."""
    reached = start_ns
    for start, end in sorted(parts):
        if start > reached:
            break
        reached = max(reached, end)
    return reached


def _no_bars() -> BarColumns:
    ints, longs, floats = empty_ints(), empty_longs(), np.empty(0, np.float64)
    return BarColumns(
        ints, ints, longs, longs, floats, floats, floats, floats, floats, source=ints, revision=ints
    )
