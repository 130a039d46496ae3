"""The rows of one kind and session that a shard holds, until they are out: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from schemas.records import Ints, Longs
from streams.kinds import Kind, Rows, none_of, ready_ns
from streams.merge import Index, concatenate, merge_rows, renumbered, same_values, sort_rows

__all__ = ["Pile"]

JOINED_ROWS = 65_536
"""Parts of so many rows are left as they are: joining them would cost more than it spares."""


class Pile:
    """Rows of one kind, merged when they are asked for.

    Parameters
    ----------
    kind
        Their kind.
    sources
        Names of the sources, as the source column counts them; it grows.
    """

    def __init__(self, kind: Kind, sources: Sequence[str]) -> None:
        self.released: list[Rows] = []
        """Rows that are out, in the order in which they went."""
        self._sources = sources
        self._parts: list[Rows] = []
        self._rows = none_of(kind)
        self._ready: Longs = np.empty(0, np.int64)
        self._at = 0

    def __len__(self) -> int:
        """Return the number of rows that came and are not out."""
        return len(self._merged()) - self._at

    def add(self, rows: Rows) -> None:
        """Take rows that are not out, in the order in which they came."""
        self._parts.append(rows)

    @property
    def rows(self) -> Rows:
        """Rows that came and are not out, in order."""
        return self._merged().take(slice(self._at, None))

    @property
    def ready(self) -> Longs:
        """Their ready times, ascending."""
        self._merged()
        return self._ready[self._at :]

    def rename(self, places: Ints) -> None:
        """Have other symbols from now on; ``places`` are the new numbers by the old ones."""
        self.released = [renumbered(rows, places) for rows in self.released]
        self._parts = [renumbered(self.rows, places)]
        self._rows, self._at = self._rows.take(slice(0, 0)), 0

    def take(self, until_ns: int) -> tuple[Rows, Longs]:
        """Return the rows ready at ``until_ns`` that are not out yet, and when; now they are."""
        rows = self._merged()
        start = self._at
        end = self._at = max(int(np.searchsorted(self._ready, until_ns, "right")), start)
        taken = rows.take(slice(start, end))
        if start < end:
            self.release(taken)
        return taken, self._ready[start:end]

    def outdone(self, late: Rows) -> NDArray[np.bool_]:
        """Return which late rows, shape (n,), differ from a later revision that is out."""
        found = np.zeros(len(late), np.bool_)
        both, old, new = self._out_for(late)
        is_older = both.revision[new] < both.revision[old]
        first = len(both) - len(late)
        found[new - first] = is_older & ~same_values(both, old, both, new)
        return found

    def correct(self, late: Sequence[Rows]) -> Rows:
        """Return the corrections that late rows amount to, in order; they are out.

        What says the same as is out already, or comes from an earlier revision of the source, is
        left out. A revision counts up from the one that is out.
        """
        rows = merge_rows(late, self._ranks)
        both, old, new = self._out_for(rows)
        first = len(both) - len(rows)
        revision = rows.revision.copy()
        revision[new - first] = np.maximum(both.revision[new], both.revision[old] + 1)
        keep = np.ones(len(rows), np.bool_)
        is_older = both.revision[new] < both.revision[old]
        keep[(new - first)[is_older | same_values(both, old, both, new)]] = False
        kept = replace(rows, revision=revision).take(keep)
        corrections = replace(kept, row=np.arange(len(kept), dtype=np.int32))
        if len(corrections):
            self.release(corrections)
        return corrections

    def release(self, rows: Rows) -> None:
        """Take note of rows that are out.

        Small parts are joined as they become many: each is at least twice as long as the next.
        """
        parts = self.released
        parts.append(rows)
        while len(parts) > 1 and len(parts[-2]) < min(2 * len(parts[-1]), JOINED_ROWS):
            last = parts.pop()
            parts[-1] = concatenate([parts[-1], last])

    @property
    def _ranks(self) -> Ints | None:
        """Place of each source among their names: what came first may not count."""
        if len(self._sources) < 2:
            return None
        ranks = np.empty(len(self._sources), np.int32)
        ranks[np.argsort(np.array(self._sources))] = np.arange(len(self._sources), dtype=np.int32)
        return ranks

    def _merged(self) -> Rows:
        if self._parts:
            rest = self._rows.take(slice(self._at, None))
            parts = [rows for rows in (rest, *self._parts) if len(rows)]
            self._rows = merge_rows(parts, self._ranks) if parts else rest
            self._ready = ready_ns(self._rows)
            self._parts, self._at = [], 0
        return self._rows

    def _out_for(self, late: Rows) -> tuple[Rows, Index, Index]:
        """Return what is out at the times of late rows, and these behind it.

        And of those late rows of which one is out, the place of that one, and theirs.
        """
        first, last = late.ts_ns.min(), late.ts_ns.max()
        about = [(rows, (rows.ts_ns >= first) & (rows.ts_ns <= last)) for rows in self.released]
        parts = [rows.take(mask) for rows, mask in about if mask.any()]
        if not parts:
            nowhere = np.empty(0, np.intp)
            return late, nowhere, nowhere
        out = merge_rows(parts, self._ranks)
        both = concatenate([out, late])
        order, same = sort_rows(both, self._ranks)
        if order is None:
            order = np.arange(len(both))
        # The rows of a key stand together, the one that is out first: the sort is stable.
        group = np.concatenate(([0], np.cumsum(~same)))
        is_out = order < len(out)
        holder = np.full(group[-1] + 1, -1)
        holder[group[is_out]] = order[is_out]
        old, new = holder[group[~is_out]], order[~is_out]
        return both, old[old >= 0], new[old >= 0]
