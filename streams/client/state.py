"""What readers of the replica see at one moment, and the writer that makes the next of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.records import Longs, empty_longs
from streams.client.batch import Batch
from streams.client.minutes import Marks, share
from streams.client.past import Given, History, Interval, Past, Trailing, by_names, past_of
from streams.client.recent import KEEP, POINTS, Recent, RecentStore
from streams.client.store import BAR, Bars, Store, View, packed
from streams.intervals import MINUTE_NS, interval_name, interval_ns

__all__ = ["State", "Writer", "find", "place_of", "quality", "status_of", "view_of"]

_NO_BARS = np.empty(0, BAR)


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
    is_behind: bool = False
    reason: str = ""
    symbols: tuple[str, ...] = ()
    views: Mapping[Interval, View] = field(default_factory=dict)
    base: View | None = None
    """Bars of the shortest interval there is."""
    own: View | None = None
    """Bars that the tape expects."""
    quotes: Recent = field(default_factory=Recent)
    ticks: Recent = field(default_factory=Recent)
    has_bars: bool = True
    interval_ns: int = MINUTE_NS
    marks: Marks = field(default_factory=Marks)
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
    keep
        Quotes, and ticks, of each symbol that stay at hand.

    Attributes
    ----------
    has_bars
        Whether it gets the bars that the tape expects, not derived ones alone.
    """

    def __init__(
        self,
        session_minutes: int,
        trailing_sessions: int,
        history: History | None,
        keep: int = KEEP,
    ) -> None:
        self._session_minutes = session_minutes
        self._trailing = trailing_sessions
        self._history = history
        self._given = Given(trailing_sessions)
        self._stores: dict[tuple[str, int], Store] = {}
        self._keep = keep
        self._recent = {kind: RecentStore(kind, keep) for kind in POINTS}
        self._maps: dict[tuple[str, int], tuple[tuple[str, ...], Any]] = {}
        self._expected = 0
        self._listed: tuple[str, ...] = ()
        self._order: tuple[str, ...] = ()
        self.has_bars = True

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
        if batch.symbols is not self._listed:
            seen = {*self._order}
            self._listed = batch.symbols
            self._order += tuple(name for name in batch.symbols if name not in seen)
        for kind in ("bars", "derived"):
            self._take(batch, kind, write)
        for kind, recent in self._recent.items():
            points = getattr(batch, kind)
            if points is not None and len(points):
                known, late = batch.known_ns(kind), batch.late(kind)
                recent.take(batch.symbols, batch.sources, points, known, late, write=write)
        # Of bars that are on the tape and derived ones of the same length, those on the tape.
        views = {key[1]: self._stores[key].view for key in sorted(self._stores, reverse=True)}
        own = self._stores.get(("bars", batch.interval_ns))
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
            is_behind=batch.catching_up,
            reason=batch.reason or state.reason,
            symbols=batch.symbols or state.symbols,
            views=by_names(views),
            base=views[min(views)] if views else None,
            quotes=self._recent["quotes"].view,
            ticks=self._recent["ticks"].view,
            own=None if own is None else own.view,
            has_bars=self.has_bars,
            interval_ns=batch.interval_ns,
            marks=state.marks.and_of(batch),
            past=state.past,
            write=write,
        )

    def add_past(self, state: State, run: str, session: str, load: Callable[[], Trailing]) -> State:
        """Return the state with a session from before the run's first."""
        self._given.take(run, session, load)
        if state.run != run or not state.session:
            return state
        return replace(state, past=self._given.before(run, state.session, state.past))

    def _begin(self, batch: Batch, state: State) -> State:
        """Start a session: what was becomes history."""
        past: tuple[Past, ...] = ()
        if state.session and state.run == batch.run:
            seen = (*state.past, Past(state.session, state.views))
            past = tuple(one for one in seen if one.session < batch.session)
        elif self._history is not None and self._trailing:
            given = self._history(batch.session, self._trailing, batch.open_ns)
            past = tuple(past_of(trailing) for trailing in given)
        self._stores = {}
        self._maps = {}
        self._listed = self._order = ()
        self._recent = {kind: RecentStore(kind, self._keep) for kind in POINTS}
        self._expected = max(batch.expected, self._session_minutes)
        kept = self._given.before(batch.run, batch.session, past)
        return State(run=batch.run, session=batch.session, past=kept, write=state.write)

    def _take(self, batch: Batch, kind: str, write: int) -> None:
        bars: Any = getattr(batch, kind)
        if bars is None or not len(bars):
            return
        rows = packed(bars, batch.known_ns(kind))
        late = batch.late(kind)
        lengths = bars.length_ns if kind == "derived" else bars.interval_ns
        first = int(lengths[0])
        if lengths.strides == (0,) or bool((lengths == first).all()):
            store = self._store(kind, first, batch.symbols)
            self._put(store, bars.symbol, rows, late, write)
            return
        for length in np.unique(lengths).tolist():
            mask = lengths == length
            own_late = None if late is None else late[mask]
            store = self._store(kind, length, batch.symbols)
            self._put(store, bars.symbol[mask], rows[mask], own_late, write)

    def _store(self, kind: str, length_ns: int, names: tuple[str, ...]) -> tuple[Store, Any]:
        """Return the store of an interval, and where ``names`` stand in it (None: as they are)."""
        key = (kind, length_ns)
        store = self._stores.get(key)
        if store is None:
            capacity = -(-max(self._expected, 1) * MINUTE_NS // length_ns)
            store = self._stores[key] = Store(self._order, capacity)
        known = self._maps.get(key)
        if known is None or (known[0] is not names and known[0] != names):
            store.extend(self._order)  # so that the symbols of all intervals stand in one order
            place = {name: i for i, name in enumerate(store.view.symbols)}
            is_same = names == store.view.symbols
            at = None if is_same else np.array([place[name] for name in names], np.intp)
            known = self._maps[key] = (names, at)
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
    marks = state.marks
    if not marks.expected or name not in state.symbols:
        return None
    return share(status_of(state, name)[1]) if marks.in_doubt else 100.0


def status_of(state: State, symbol: str) -> tuple[Longs, NDArray[np.int8]]:
    """Return start and `Status` of each expected minute so far; none for an unknown symbol."""
    name = symbol if symbol in state.symbols else symbol.upper()
    if name not in state.symbols:
        return empty_longs(), np.empty(0, np.int8)
    bars: Bars | None = None
    if state.has_bars:
        view = state.own
        at = None if view is None else view.place.get(name)
        bars = _NO_BARS if view is None or at is None else view.bars(at)
    ends, status = state.marks.of(name, bars)
    return ends - state.interval_ns, status
