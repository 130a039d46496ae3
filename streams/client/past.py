"""Sessions that are over, as a replica keeps them: their bars by symbol and interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from schemas.records import BarColumns, Longs
from streams.client.batch import DerivedBars
from streams.client.store import Store, View, packed
from streams.finals import final_order
from streams.intervals import MINUTE_NS, interval_name

__all__ = ["Given", "History", "Interval", "Past", "Trailing", "by_names", "past_of"]

Interval: TypeAlias = int | str
"""Length of bars: minutes, or a name such as ``"5m"``."""


@dataclass(frozen=True, slots=True)
class Trailing:
    """Bars of a session that is over, as they were known at a reader's clock.

    Attributes
    ----------
    session
        Its label.
    symbols
        Names that the symbol column counts in.
    bars
        In any order; of each (symbol, interval, ts) the highest revision counts.
    known_ns
        When each was known, shape (bars,).
    derived
        Derived bars, in any order; each was known when it was over.
    """

    session: str
    symbols: tuple[str, ...]
    bars: BarColumns
    known_ns: Longs
    derived: DerivedBars | None = None


class History(Protocol):
    """Where a reader that joins late gets the sessions before it from."""

    def __call__(self, before: str, sessions: int, clock_ns: int) -> Iterable[Trailing]:
        """Return the last ``sessions`` sessions before the one labelled ``before``, ascending.

        What was not known at ``clock_ns`` stays out.
        """
        ...


@dataclass(frozen=True, slots=True)
class Past:
    """A session that is over: its label and its bars by interval."""

    session: str
    views: Mapping[Interval, View]


class _Later(Mapping[Interval, View]):
    """Views of a session that are made when somebody asks for them first, in their thread."""

    def __init__(self, load: Callable[[], Trailing]) -> None:
        self._load: Callable[[], Trailing] | None = load
        self._views: Mapping[Interval, View] = {}

    def _made(self) -> Mapping[Interval, View]:
        load = self._load
        if load is not None:  # two readers at once make the same twice
            self._views = past_of(load()).views
            self._load = None
        return self._views

    def __getitem__(self, interval: Interval) -> View:
        return self._made()[interval]

    def __iter__(self) -> Iterator[Interval]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())


class Given:
    """Sessions from before a run's first, which come beside the tape, in any order.

    Parameters
    ----------
    most
        Sessions that are kept at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._run = ""
        self._by_label: dict[str, Past] = {}

    def take(self, run: str, session: str, load: Callable[[], Trailing]) -> None:
        """Take a session in; its bars are loaded when somebody asks for them."""
        if run != self._run:
            self._run, self._by_label = run, {}
        self._by_label[session] = Past(session, _Later(load))
        while len(self._by_label) > self._most:
            del self._by_label[min(self._by_label)]

    def before(self, run: str, session: str, past: tuple[Past, ...]) -> tuple[Past, ...]:
        """Return the sessions before one, ascending: ``past`` and those that are older."""
        if run != self._run or not self._by_label:
            return past[-self._most :] if self._most else ()
        mine = self._by_label
        of_tape = tuple(one for one in past if mine.get(one.session) is not one)
        first = of_tape[0].session if of_tape else session
        older = (mine[label] for label in sorted(mine) if label < first)
        found = (*older, *of_tape)[-self._most :]
        # What is left out now is too old for ever.
        kept = {one.session for one in found}
        self._by_label = {label: one for label, one in mine.items() if label in kept}
        return found


def by_names(views: Mapping[int, View]) -> dict[Interval, View]:
    """Return the views by name, and by number where that is whole minutes."""
    found: dict[Interval, View] = {}
    for length_ns, view in views.items():
        found[interval_name(length_ns)] = view
        minutes, rest = divmod(length_ns, MINUTE_NS)
        if not rest:
            found[minutes] = view
    return found


def past_of(trailing: Trailing) -> Past:
    """Return a session that came whole as one of the past."""
    derived, bars = trailing.derived, trailing.bars
    views: dict[int, View] = {}
    if derived is not None:
        known = derived.ts_ns + derived.interval_ns
        views |= _views(trailing.symbols, derived, derived.length_ns, known)
    views |= _views(trailing.symbols, bars, bars.interval_ns, trailing.known_ns)
    return Past(trailing.session, by_names(views))


def _views(
    symbols: tuple[str, ...], bars: BarColumns | DerivedBars, lengths: Longs, known_ns: Longs
) -> dict[int, View]:
    rows = packed(bars, known_ns)
    views = {}
    for length in np.unique(lengths).tolist():
        mask = lengths == length
        symbol, own = bars.symbol[mask], rows[mask]
        nought = np.zeros(len(own), np.int64)
        order = final_order(symbol, nought, own["ts_ns"], own["revision"])
        store = Store(symbols, int(np.bincount(symbol).max()))
        store.append(symbol[order].astype(np.intp), own[order], 0)
        views[length] = store.view
    return views
