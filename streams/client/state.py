"""What readers of the replica see at one moment, and the writer that makes the next of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import numpy as np

from schemas.records import BarColumns, Longs, empty_longs
from streams.client.batch import Batch
from streams.client.quotes import Quotes
from streams.client.store import Bars, Store, View, packed
from streams.digest import final_order
from streams.intervals import MINUTE_NS, interval_name, interval_ns

__all__ = [
    "History",
    "Interval",
    "Past",
    "State",
    "Trailing",
    "Writer",
    "find",
    "place_of",
    "quality",
    "view_of",
]

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
    """

    session: str
    symbols: tuple[str, ...]
    bars: BarColumns
    known_ns: Longs


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


@dataclass(frozen=True, slots=True)
class State:
    """All that readers see, at one moment."""

    run: str = ""
    session: str = ""
    open_ns: int = 0
    close_ns: int = 0
    clock_ns: int = 0
    is_open: bool = False
    is_over: bool = False
    is_incomplete: bool = False
    reason: str = ""
    symbols: tuple[str, ...] = ()
    views: Mapping[Interval, View] = field(default_factory=dict)
    base: View | None = None
    quotes: Mapping[str, Any] = field(default_factory=dict)
    expected: int = 0
    unvouched_ns: Longs = field(default_factory=empty_longs)
    past: tuple[Past, ...] = ()
    write: int = 0


class Writer:
    """Makes the next state from the one before and a batch: the one thread that writes.

    Parameters
    ----------
    session_minutes
        Bars a symbol that room is made for; 0: as many as the session expects.
    trailing_sessions
        Sessions that stay behind the running one.
    history
        Gives the sessions before the first one.
    """

    def __init__(
        self, session_minutes: int, trailing_sessions: int, history: History | None
    ) -> None:
        self._session_minutes = session_minutes
        self._trailing = trailing_sessions
        self._history = history
        self._stores: dict[int, Store] = {}
        self._quotes = Quotes()
        self._maps: dict[int, tuple[tuple[str, ...], Any]] = {}
        self._expected = 0

    @property
    def sessions_wanted(self) -> int:
        """Sessions before the first one that have to come in as batches; 0 with a history."""
        return self._trailing if self._history is None else 0

    def next(self, state: State, batch: Batch) -> State:
        """Return the state behind ``batch``."""
        if batch.event in ("start", "roll", "end"):
            return replace(state, is_open=False, write=state.write + 1)
        # A reader that joins again in the session it left gets it from its open frame on.
        if batch.event == "open" or (batch.run, batch.session) != (state.run, state.session):
            state = self._begin(batch, state)
        write = state.write + 1
        if batch.bars is not None and len(batch.bars):
            self._take(batch, batch.bars, write)
        if batch.quotes is not None:
            self._quotes.take(batch.symbols, batch.quotes)
        is_expected = batch.slice_expected > 0
        unvouched = batch.slice_ns[is_expected & (batch.slice_missing > 0)]
        views = {interval: store.view for interval, store in self._stores.items()}
        is_over = state.is_over or batch.event == "close"
        return State(
            run=batch.run,
            session=batch.session,
            open_ns=batch.open_ns,
            close_ns=batch.close_ns,
            clock_ns=max(batch.clock_ns, state.clock_ns),
            is_open=not is_over,
            is_over=is_over,
            is_incomplete=batch.incomplete or state.is_incomplete,
            reason=batch.reason or state.reason,
            symbols=batch.symbols or state.symbols,
            views=by_names(views),
            base=views[min(views)] if views else None,
            quotes=self._quotes.latest,
            expected=state.expected + int(is_expected.sum()),
            unvouched_ns=np.concatenate((state.unvouched_ns, unvouched))
            if len(unvouched)
            else state.unvouched_ns,
            past=state.past,
            write=write,
        )

    def _begin(self, batch: Batch, state: State) -> State:
        """Start a session: what was becomes history."""
        past: tuple[Past, ...] = ()
        if state.session and state.run == batch.run:
            seen = (*state.past, Past(state.session, state.views))
            past = tuple(one for one in seen if one.session < batch.session)
        elif self._history is not None and self._trailing:
            given = self._history(batch.session, self._trailing, batch.open_ns)
            past = tuple(_past_of(trailing) for trailing in given)
        self._stores = {}
        self._maps = {}
        self._quotes = Quotes()
        self._expected = max(batch.expected, self._session_minutes)
        kept = past[len(past) - self._trailing :] if self._trailing < len(past) else past
        return State(run=batch.run, session=batch.session, past=kept, write=state.write)

    def _take(self, batch: Batch, bars: BarColumns, write: int) -> None:
        rows = packed(bars, batch.known_ns())
        late = batch.late()
        lengths = bars.interval_ns
        first = int(lengths[0])
        if lengths.strides == (0,) or bool((lengths == first).all()):
            self._put(self._store(first, batch.symbols), bars.symbol, rows, late, write)
            return
        for length in np.unique(lengths).tolist():
            mask = lengths == length
            own_late = None if late is None else late[mask]
            store = self._store(length, batch.symbols)
            self._put(store, bars.symbol[mask], rows[mask], own_late, write)

    def _store(self, length_ns: int, names: tuple[str, ...]) -> tuple[Store, Any]:
        """Return the store of an interval, and where ``names`` stand in it (None: as they are)."""
        store = self._stores.get(length_ns)
        if store is None:
            capacity = -(-max(self._expected, 1) * MINUTE_NS // length_ns)
            store = self._stores[length_ns] = Store(names, capacity)
        known = self._maps.get(length_ns)
        if known is None or (known[0] is not names and known[0] != names):
            store.extend(names)
            place = {name: i for i, name in enumerate(store.view.symbols)}
            is_same = names == store.view.symbols
            at = None if is_same else np.array([place[name] for name in names], np.intp)
            known = self._maps[length_ns] = (names, at)
        return store, known[1]

    @staticmethod
    def _put(target: tuple[Store, Any], symbol: Any, rows: Bars, late: Any, write: int) -> None:
        store, places = target
        if places is not None:
            symbol = places[symbol]
        if late is None or not late.any():
            store.append(symbol, rows, write)
            return
        fresh = ~late
        if fresh.any():
            store.append(symbol[fresh], rows[fresh], write)
        store.correct(symbol[late], rows[late], write)


def by_names(views: Mapping[int, View]) -> dict[Interval, View]:
    """Return the views by name, and by number where that is whole minutes."""
    found: dict[Interval, View] = {}
    for length_ns, view in views.items():
        found[interval_name(length_ns)] = view
        minutes, rest = divmod(length_ns, MINUTE_NS)
        if not rest:
            found[minutes] = view
    return found


def view_of(views: Mapping[Interval, View], interval: Interval) -> View | None:
    """Return the bars of an interval, None where the tape has none of that length."""
    view = views.get(interval)
    return views.get(interval_name(interval_ns(interval))) if view is None else view


def place_of(view: View, symbol: str) -> int | None:
    """Return where a symbol stands, also when it is written small; None before its first bar."""
    at = view.place.get(symbol)
    return view.place.get(symbol.upper()) if at is None else at


def find(
    views: Mapping[Interval, View], symbol: str, interval: Interval
) -> tuple[View | None, int]:
    """Return the bars of an interval and the symbol's place in them; None: there are none."""
    view = view_of(views, interval)
    at = None if view is None else place_of(view, symbol)
    return (None, 0) if at is None else (view, at)


def quality(state: State, symbol: str) -> float | None:
    """Return (bars + no-trade minutes) / expected minutes so far, in %; None: nothing expected."""
    name = symbol if symbol in state.symbols else symbol.upper()
    if not state.expected or name not in state.symbols:
        return None
    missing = len(state.unvouched_ns)
    view = state.base
    at = None if view is None else view.place.get(name)
    if missing and view is not None and at is not None:
        rows = view.bars(at)
        missing -= int(np.isin(rows["ts_ns"] + rows["interval_ns"], state.unvouched_ns).sum())
    return 100.0 * (state.expected - missing) / state.expected


def _past_of(trailing: Trailing) -> Past:
    rows = packed(trailing.bars, trailing.known_ns)
    views = {}
    for length in np.unique(trailing.bars.interval_ns).tolist():
        mask = trailing.bars.interval_ns == length
        symbol, own = trailing.bars.symbol[mask], rows[mask]
        order = final_order(symbol, own["interval_ns"], own["ts_ns"], own["revision"])
        store = Store(trailing.symbols, int(np.bincount(symbol).max()))
        store.append(symbol[order].astype(np.intp), own[order], 0)
        views[length] = store.view
    return Past(trailing.session, by_names(views))
