"""The rows and the coverage of one session of one shard, until they are out: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import cast

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Coverage, Ints, Longs
from streams.calendar import Session
from streams.kinds import KINDS, Rows, by_kind, kind_of
from streams.merge import ready_ns
from streams.mixed import Mixed, mixed
from streams.pile import Pile

__all__ = ["SessionBuffer", "reaches"]


class SessionBuffer:
    """What a shard holds of one session.

    Parameters
    ----------
    session
        The session.
    symbols
        Symbols of the shard.
    streams
        Kinds of rows that are played: each has to be covered.
    sources
        Names of the sources, as the rows count them; it grows.
    """

    def __init__(
        self,
        session: Session,
        symbols: Iterable[str],
        streams: Iterable[str] = ("bars",),
        sources: Sequence[str] = (),
    ) -> None:
        self.session = session
        names = set(symbols)
        self._piles = {stream: Pile(kind, sources) for stream, kind in KINDS.items()}
        self._covers = {
            stream: (_Cover(session, names), _Cover(session, names))
            for stream in KINDS
            if stream in set(streams)
        }
        """By stream: for what was answered, and for what a source vouches."""

    @property
    def is_covered(self) -> bool:
        """Whether every symbol was answered for the whole session, of every kind."""
        return not any(answered.rest for answered, _ in self._covers.values())

    @property
    def has_bars(self) -> bool:
        """Whether every symbol was answered for the bars of the whole session."""
        return "bars" in self._covers and not self._covers["bars"][0].rest

    @property
    def uncovered(self) -> tuple[str, ...]:
        """Symbols for which an answer is still out, sorted."""
        return tuple(sorted(set().union(*(one.rest for one, _ in self._covers.values()))))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Symbols that were answered, but no source could say what bars there are, sorted."""
        return self._unknown("bars")

    @property
    def unknown_others(self) -> dict[str, tuple[str, ...]]:
        """The same of quotes and ticks, by stream; where all is known there is none."""
        found = {stream: self._unknown(stream) for stream in self._covers if stream != "bars"}
        return {stream: symbols for stream, symbols in found.items() if symbols}

    def _unknown(self, stream: str) -> tuple[str, ...]:
        if stream not in self._covers:
            return ()
        answered, vouched = self._covers[stream]
        return tuple(sorted(vouched.rest - answered.rest))

    def lacking(self, until_ns: int) -> tuple[str, ...]:
        """Return the symbols that were not answered from the open up to a time, sorted."""
        short = (answered.short_of(until_ns) for answered, _ in self._covers.values())
        return tuple(sorted(set().union(*short)))

    def lacks_none(self, ends: Longs, interval_ns: int, symbols: int) -> bool:
        """Tell whether there is a bar of every symbol at each of some ready times, cheaply.

        Nothing is out yet. No is no proof that one lacks: other rows may stand between.
        """
        rows, ready = self.rows(), self._piles["bars"].ready
        if len(rows) != len(ends) * symbols:
            return False
        if not len(rows):
            return True
        # Of each (symbol, ready time) there is one row where all have one length.
        starts = np.searchsorted(ready, ends)
        return bool(
            np.array_equal(starts, symbols * np.arange(len(ends)))
            and ready[-1] == ends[-1]
            and (rows.interval_ns == interval_ns).all()
        )

    def rows(self) -> BarColumns:
        """Return the bars that came and are not out, in order."""
        return cast("BarColumns", self._piles["bars"].rows)

    @property
    def released(self) -> list[Rows]:
        """Rows that are out, those of one kind in the order in which they went."""
        return list(chain.from_iterable(pile.released for pile in self._piles.values()))

    def recall(self, rows: Rows) -> None:
        """Take rows that an earlier owner let out."""
        self._pile(rows).release(rows)

    def add(self, rows: Rows) -> None:
        """Take rows of this session that are not out, in the order in which they came."""
        self._pile(rows).add(rows)

    def rename(self, places: Ints, symbols: Iterable[str]) -> None:
        """Have other symbols from now on; ``places`` are the new numbers by the old ones."""
        for pile in self._piles.values():
            pile.rename(places)
        names = set(symbols)
        for cover in chain.from_iterable(self._covers.values()):
            cover.rename(names)

    def cover(self, coverage: Coverage, stream: str = "bars") -> None:
        """Take what a source answered about a kind."""
        answered, vouched = self._covers[stream]
        answered.add(coverage)
        if coverage.answer != "cannot_say":
            vouched.add(coverage)

    def bound(self, until_ns: int, rows: int) -> int:
        """Return how far to go for about ``rows`` rows: ``until_ns``, or a ready time before it."""
        ready = [pile.ready for pile in self._piles.values() if len(pile)]
        each = max(rows // max(len(ready), 1), 1)
        return min([until_ns, *(int(times[each]) for times in ready if each < len(times))])

    def next_slice(self, ends: Longs, close_ns: int) -> int:
        """Return the ready time of the next slice; ``close_ns`` where none is to come.

        ``ends`` are the ready times of bars that are expected and still to come, ascending.
        """
        ready = (pile.ready[:1].tolist() for pile in self._piles.values())
        return int(min([*chain.from_iterable(ready), *ends[:1].tolist(), close_ns]))

    def take(self, until_ns: int) -> Mixed:
        """Return the rows ready at ``until_ns`` that are not out yet, in order; now they are."""
        parts = [pile.take(until_ns) for pile in self._piles.values()]
        return mixed([rows for rows, _ in parts], [ready for _, ready in parts])

    def outdone(self, late: Rows) -> NDArray[np.bool_]:
        """Return which late rows, shape (n,), differ from a later revision that is out."""
        return self._pile(late).outdone(late)

    def correct(self, late: Sequence[Rows]) -> Mixed:
        """Return the corrections that late rows amount to, in order; they are out.

        What says the same as is out already, or comes from an earlier revision of the source, is
        left out. A revision counts up from the one that is out.
        """
        some = by_kind(late).items()
        parts = [self._piles[stream].correct(rows) for stream, rows in some]
        return mixed(parts, [ready_ns(rows) for rows in parts])

    def _pile(self, rows: Rows) -> Pile:
        return self._piles[kind_of(rows).stream]


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
        reached = {name: reaches(pieces.get(name, ()), open_ns) for name in self.rest}
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
            if reaches(pieces, open_ns) >= close_ns:
                self.rest.discard(symbol)


def reaches(pieces: Sequence[tuple[int, int]], start_ns: int) -> int:
    """Return up to where intervals cover the time from ``start_ns`` on without a hole."""
    reached = start_ns
    for start, end in sorted(pieces):
        if start > reached:
            break
        reached = max(reached, end)
    return reached
