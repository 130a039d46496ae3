"""Which of the rows of one symbol and time a quote or tick is: what makes it one row of many.

The tape has the rows of one symbol and time in the order of their source, whether that numbers
them or not. Their *place* counts them, from 0. A run that plays the same rows again gives each the
same place, whatever else it plays beside them, and from whatever source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.records import Ints, Longs
from sinks.native import Texts
from sinks.rows import Pair, Rows
from streams.finals import corrected, late_rows

__all__ = ["Held", "Key", "Loader", "Places", "Said"]

Key: TypeAlias = tuple[str, int]
"""A symbol and a time, ns since the epoch, UTC."""

Said: TypeAlias = tuple[str, int, int]
"""Source, sequence and revision of a row."""

Held: TypeAlias = list[Said]
"""What is out of a symbol and time, in the order of the places."""

Loader: TypeAlias = Callable[[str, int, int, Sequence[Key]], Mapping[Key, Held]]
"""Gives what is stored of a run, a shard, before a row number, at some symbols and times."""


@dataclass(frozen=True, slots=True)
class _Tail:
    """The end of what was counted of a shard, for its last slice may go on in the next frame.

    Attributes
    ----------
    run, number
        Of the last row.
    ts_ns
        Time of the last row that was no correction; -1 where there was none.
    counts
        How many rows each symbol had at that time.
    """

    run: str
    number: int
    ts_ns: int = -1
    counts: Mapping[str, int] = field(default_factory=dict)


class Places:
    """Counts the rows of one kind, batch by batch.

    Of the rows before a batch it must know how many there were at the time that the shard's last
    rows had, which it keeps, and at the times of late rows, which it looks up. The first time of a
    shard is looked up, too, where this is not what it counted last.

    A late row whose revision is above 0 takes the place of the row that it corrects, where there is
    one: see `streams.finals.corrected`.

    Parameters
    ----------
    load
        Gives what is stored.
    """

    def __init__(self, load: Loader) -> None:
        self._load = load
        self._tails: dict[int, _Tail] = {}

    def of(self, rows: Rows, sources: Texts) -> Ints:
        """Return the place of each row, shape (rows,); ``sources`` are those of the rows."""
        stretches: dict[tuple[int, str], list[Pair]] = {}
        for pair in rows.pairs:
            stretches.setdefault((pair[0].shard, pair[0].run), []).append(pair)
        numbers = {key: number for number, key in enumerate(stretches)}
        stretch_of = rows.numbers_of(lambda f: numbers[f.shard, f.run], np.int32)
        groups = _Groups(rows, stretch_of, sources)
        parts = list(enumerate(stretches.values()))
        for stretch, pairs in parts:
            self._begin(groups, stretch, pairs)
        places = groups.places()
        for stretch, pairs in parts:
            self._end(groups, stretch, pairs, places)
        return places

    def _begin(self, groups: _Groups, stretch: int, pairs: Sequence[Pair]) -> None:
        """Say what is out of the symbols and times that began before the stretch."""
        frame, columns = pairs[0]
        first = frame.first_row + int(columns.row[0])
        tail = self._tails.get(frame.shard)
        asked = groups.late(stretch)
        if tail is not None and tail.run == frame.run and tail.number < first:
            for group in groups.at(stretch, tail.ts_ns):
                groups.count[group] = tail.counts.get(groups.key(group)[0], 0)
        else:
            self._tails.pop(frame.shard, None)
            times = _fresh_times(pairs)
            asked = sorted({*asked, *groups.at(stretch, times[0])}) if times else asked
        if not asked:
            return
        found = self._load(frame.run, frame.shard, first, [groups.key(group) for group in asked])
        for group in asked:
            groups.held[group] = found.get(groups.key(group), [])
            groups.count[group] = len(groups.held[group])

    def _end(self, groups: _Groups, stretch: int, pairs: Sequence[Pair], places: Ints) -> None:
        """Keep what the next batch of the shard may go on from."""
        frame, columns = pairs[-1]
        number = frame.first_row + int(columns.row[-1])
        tail = self._tails.get(frame.shard, _Tail(frame.run, number))
        times = _fresh_times(pairs)
        ts_ns = times[-1] if times else tail.ts_ns
        counts = dict(tail.counts) if ts_ns == tail.ts_ns else {}
        for group in groups.at(stretch, ts_ns):
            counts[groups.key(group)[0]] = int(places[groups.rows_of(group)].max()) + 1
        self._tails[frame.shard] = _Tail(frame.run, number, ts_ns, counts)


class _Groups:
    """The rows of a batch by symbol, stretch (a run in a shard) and time, each in its order.

    Attributes
    ----------
    count
        How many rows of a group were out before the batch, shape (groups,).
    held
        Which ones, of the groups that were looked up.
    """

    def __init__(self, rows: Rows, stretch: Ints, sources: Texts) -> None:
        ts_ns, rank = rows.column("ts_ns"), rows.ranks()
        order = np.argsort(rank, kind="stable")
        if not _ascend(rank[order], stretch[order], ts_ns[order]):
            order = np.lexsort((ts_ns, stretch, rank))
        begins = np.ones(len(order), np.bool_)
        for column in (rank[order], stretch[order], ts_ns[order]):
            begins[1:] &= column[1:] == column[:-1]
        begins[1:] = ~begins[1:]
        self._order = order
        self._start = np.flatnonzero(begins)
        self._size = np.diff(self._start, append=len(order))
        first = order[self._start]
        self._symbols, self._symbol = rows.symbols.values, rows.symbol[first]
        self._stretch, self._ts_ns = stretch[first], ts_ns[first]
        self._late, self._sources = rows.is_late(), sources
        self._revision, self._sequence = rows.column("revision"), rows.column("sequence")
        self._has_late = np.logical_or.reduceat(self._late[order], self._start)
        self.count = np.zeros(len(first), np.int64)
        self.held: dict[int, Held] = {}

    def key(self, group: int) -> Key:
        """Return the symbol and the time of a group."""
        return self._symbols[self._symbol[group]], int(self._ts_ns[group])

    def rows_of(self, group: int) -> NDArray[np.intp]:
        """Return the rows of a group, in their order."""
        start = self._start[group]
        return self._order[start : start + self._size[group]]

    def late(self, stretch: int) -> list[int]:
        """Return the groups of a stretch that have late rows."""
        return np.flatnonzero(self._has_late & (self._stretch == stretch)).tolist()

    def at(self, stretch: int, ts_ns: int) -> list[int]:
        """Return the groups of a stretch and a time."""
        return np.flatnonzero((self._ts_ns == ts_ns) & (self._stretch == stretch)).tolist()

    def places(self) -> Ints:
        """Return the place of each row of the batch, shape (rows,)."""
        found = np.empty(len(self._order), np.int32)
        found[self._order] = np.arange(len(found)) + np.repeat(self.count - self._start, self._size)
        revised = self._late & (self._revision > 0)
        if revised.any():
            groups = np.flatnonzero(np.logical_or.reduceat(revised[self._order], self._start))
            for group in groups.tolist():
                self._settle(self.rows_of(group), self.held[group], revised, found)
        return found

    def _settle(
        self, rows: NDArray[np.intp], held: Held, revised: NDArray[np.bool_], places: Ints
    ) -> None:
        """Give the rows of a group their places one by one, as some correct others."""
        texts, source = self._sources.values, self._sources.index
        for row in rows.tolist():
            said = (texts[source[row]], int(self._sequence[row]), int(self._revision[row]))
            place = corrected(held, said) if revised[row] else len(held)
            held[place : place + 1] = [said]
            places[row] = place


def _fresh_times(pairs: Sequence[Pair]) -> list[int]:
    """Return the times of the first and of the last row that is no correction; none of none."""
    found: list[int] = []
    for frame, columns in pairs:
        late = late_rows(frame, columns.row)
        fresh = columns.ts_ns if late is None else columns.ts_ns[~late]
        if len(fresh):
            found = [*found[:1], int(fresh[0]), int(fresh[-1])]
    return found


def _ascend(rank: NDArray[np.integer[Any]], stretch: Ints, ts_ns: Longs) -> bool:
    """Tell whether rows that stand by symbol stand by stretch and time in each."""
    goes_on = rank[1:] == rank[:-1]
    step = stretch[1:] - stretch[:-1]
    is_next = (step > 0) | ((step == 0) & (ts_ns[1:] >= ts_ns[:-1]))
    return bool((is_next | ~goes_on).all())
