"""SessionData: the replica of the running session that a strategy reads.

One thread writes (`SessionData.apply`), any number read, without a lock: each write ends in one
assignment of a new state, and each read takes the state once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from threading import Lock
from typing import Any, Protocol, TypeAlias

import numpy as np

from schemas.records import BarColumns, Longs, empty_longs
from streams.client.batch import Batch
from streams.client.convert import As, converted
from streams.client.quotes import Quotes
from streams.client.store import BAR, Bars, Store, View, packed
from streams.digest import final_order
from streams.intervals import MINUTE_NS, interval_name, interval_ns

__all__ = ["Flags", "History", "SessionData", "Trailing", "get_session_data", "reset_session_data"]

Interval: TypeAlias = int | str
Time: TypeAlias = int | datetime
_NO_BARS = np.empty(0, BAR)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
class _Past:
    session: str
    views: Mapping[Interval, View]


@dataclass(frozen=True, slots=True)
class _State:
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
    past: tuple[_Past, ...] = ()
    write: int = 0


class SessionData:
    """The session so far and the trailing sessions, by symbol.

    Bars come as rows with the fields ``ts_ns``, ``interval_ns``, ``known_ns``, ``open``, ``high``,
    ``low``, ``close``, ``volume``, ``revision``, by name (``bar["close"]``) or as attributes
    (``bar.close``). Arrays of them are read-only and never change. Intervals are minutes (``5``)
    or names (``"5m"``); an unknown symbol or an interval that is not on the tape has no bars.

    Parameters
    ----------
    session_minutes
        Bars a symbol that room is made for; 0: as many as the session expects.
    trailing_sessions
        Sessions that stay behind the running one.
    history
        Gives the trailing sessions of a reader that joins late; default: those it saw itself.
    """

    def __init__(
        self,
        session_minutes: int = 0,
        trailing_sessions: int = 5,
        history: History | Callable[[str, int, int], Iterable[Trailing]] | None = None,
    ) -> None:
        self._session_minutes = session_minutes
        self._trailing = trailing_sessions
        self._history = history
        self._stores: dict[int, Store] = {}
        self._quotes = Quotes()
        self._maps: dict[int, tuple[tuple[str, ...], int, Any]] = {}
        self._expected = 0
        self._state = _State()
        self.caught_up = True
        """Whether the reader has reached the clock there was when it joined: set by its stream."""

    # The writer

    def apply(self, batch: Batch) -> None:
        """Take the next batch of the tape in; only one thread may call it."""
        state = self._state
        if batch.event in ("start", "roll", "end"):
            self._state = replace(state, is_open=False, write=state.write + 1)
            return
        if (batch.run, batch.session) != (state.run, state.session):
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
        self._state = _State(
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
            views=_by_names(views),
            base=views[min(views)] if views else None,
            quotes=self._quotes.latest,
            expected=state.expected + int(is_expected.sum()),
            unvouched_ns=np.concatenate((state.unvouched_ns, unvouched))
            if len(unvouched)
            else state.unvouched_ns,
            past=state.past,
            write=write,
        )

    def _begin(self, batch: Batch, state: _State) -> _State:
        """Start a session: what was becomes history."""
        past: tuple[_Past, ...] = ()
        if state.session and state.run == batch.run:
            past = (*state.past, _Past(state.session, state.views))
        elif self._history is not None and self._trailing:
            given = self._history(batch.session, self._trailing, batch.open_ns)
            past = tuple(_past_of(trailing) for trailing in given)
        self._stores = {}
        self._maps = {}
        self._quotes = Quotes()
        self._expected = max(batch.expected, self._session_minutes)
        kept = past[len(past) - self._trailing :] if self._trailing < len(past) else past
        return _State(run=batch.run, session=batch.session, past=kept, write=state.write)

    def _take(self, batch: Batch, bars: BarColumns, write: int) -> None:
        rows = packed(bars, batch.known_ns())
        late = batch.late()
        lengths = bars.interval_ns
        first = int(lengths[0])
        if lengths.strides == (0,) or bool((lengths == first).all()):
            self._write(first, batch.symbols, bars.symbol, rows, late, write)
            return
        for length in np.unique(lengths).tolist():
            mask = lengths == length
            own_late = None if late is None else late[mask]
            self._write(length, batch.symbols, bars.symbol[mask], rows[mask], own_late, write)

    def _write(
        self, length_ns: int, names: tuple[str, ...], symbol: Any, rows: Bars, late: Any, write: int
    ) -> None:
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
            known = self._maps[length_ns] = (names, len(names), at)
        if known[2] is not None:
            symbol = known[2][symbol]
        if late is None or not late.any():
            store.append(symbol, rows, write)
            return
        fresh = ~late
        if fresh.any():
            store.append(symbol[fresh], rows[fresh], write)
        store.correct(symbol[late], rows[late], write)

    # Readers: bars of the session

    def get_latest_bar(self, symbol: str, interval: Interval = 1) -> Any:
        """Return the last bar of a symbol in this session, None before the first."""
        try:
            view = self._state.views[interval]
            return view.latest[view.place[symbol]]
        except KeyError:
            view_or_none, at = self._find(self._state, symbol, interval)
            return None if view_or_none is None else view_or_none.latest[at]

    def get_last_n_bars(
        self, symbol: str, n: int, interval: Interval = 1, *, as_: As = "numpy"
    ) -> Any:
        """Return the last ``n`` bars (or all, where there are fewer), ascending, without a copy."""
        state = self._state
        try:
            view = state.views[interval]
            at = view.place[symbol]
        except KeyError:
            found, at = self._find(state, symbol, interval)
            if found is None:
                return converted(_NO_BARS, as_)
            view = found
        count = view.counts[at]
        rows = view.rows[at][count - n if n < count else 0 : count]
        return rows if as_ == "numpy" else converted(rows, as_)

    def get_bars_since(
        self, symbol: str, timestamp: Time, interval: Interval = 1, *, as_: As = "numpy"
    ) -> Any:
        """Return the bars of the session that start at ``timestamp`` or later, ascending."""
        return self.get_bars(symbol, interval, timestamp, as_=as_)

    def get_bars(
        self,
        symbol: str,
        interval: Interval = 1,
        start: Time | None = None,
        end: Time | None = None,
        *,
        as_: As = "numpy",
    ) -> Any:
        """Return the bars of the session with start <= ts < end, ascending, without a copy.

        Times are ns since the epoch or aware datetimes; None: no bound.
        """
        rows = self._bars(self._state, symbol, interval)
        first = 0 if start is None else int(np.searchsorted(rows["ts_ns"], _ns(start)))
        last = len(rows) if end is None else int(np.searchsorted(rows["ts_ns"], _ns(end)))
        return converted(rows[first:last], as_)

    def get_bar_count(self, symbol: str, interval: Interval = 1) -> int:
        """Return the number of bars of a symbol in this session."""
        view, at = self._find(self._state, symbol, interval)
        return 0 if view is None else int(view.counts[at])

    def get_latest_bars(
        self, symbols: Sequence[str] | None = None, interval: Interval = 1, *, as_: As = "numpy"
    ) -> Any:
        """Return the last bar of many symbols as one array, shape (symbols,).

        Parameters
        ----------
        symbols
            Names; default all of the session, in the order of `symbols`, without a copy. Of one
            without a bar ``ts_ns`` is 0 and the prices are NaN.
        """
        state = self._state
        view = _view(state, interval)
        if view is None:
            size = len(state.symbols if symbols is None else symbols)
            rows = np.zeros(size, BAR)
            for name in ("open", "high", "low", "close"):
                rows[name] = np.nan
            return converted(rows, as_)
        if symbols is None:
            return view.latest if as_ == "numpy" else converted(view.latest, as_)
        if missing := [name for name in symbols if name not in view.place]:
            blank = Store(tuple(missing), 0).view.latest[:1]
            places = [view.place.get(name, len(view.latest)) for name in symbols]
            return converted(np.concatenate((view.latest, blank))[places], as_)
        return converted(view.latest[[view.place[name] for name in symbols]], as_)

    def get_latest_bars_multi(
        self, symbols: Iterable[str], interval: Interval = 1
    ) -> dict[str, Any]:
        """Return the last bar of each symbol by name, None where there is none yet."""
        view = _view(self._state, interval)
        if view is None:
            return dict.fromkeys(symbols)
        place, latest = view.place, view.latest
        try:
            return {name: latest[place[name]] for name in symbols}
        except KeyError:
            found = {name: _place(view, name) for name in symbols}
            return {name: None if at is None else latest[at] for name, at in found.items()}

    # Readers: history

    def get_historical_bars(
        self, symbol: str, days_back: int = 0, interval: Interval = 1, *, as_: As = "numpy"
    ) -> dict[date, Any]:
        """Return the bars of the trailing sessions by date, ascending.

        ``days_back`` counts sessions back from the running one; 0: all there are.
        """
        past = self._state.past[-days_back:] if days_back > 0 else self._state.past
        found = {}
        for session in past:
            view, at = _in(session.views, symbol, interval)
            if view is not None:
                found[date.fromisoformat(session.session)] = converted(view.bars(at), as_)
        return found

    def get_all_bars_including_historical(
        self, symbol: str, interval: Interval = 1, *, as_: As = "numpy"
    ) -> Any:
        """Return the bars of the trailing sessions and of this one, ascending, as a copy."""
        state = self._state
        parts = [_in(past.views, symbol, interval) for past in state.past]
        rows = [view.bars(at) for view, at in parts if view is not None]
        rows.append(self._bars(state, symbol, interval))
        return converted(np.concatenate(rows), as_)

    # Readers: the state of the session

    def get_session_metrics(self, symbol: str) -> dict[str, Any]:
        """Return the state of a symbol in this session.

        Keys: ``symbol``; ``session_volume``, ``session_high``, ``session_low`` over the bars of
        the shortest interval (0.0, None, None before the first); ``last_update``, the session clock
        in ns when its last row came (None before the first); ``bar_quality`` in % (None when
        nothing is expected yet); ``bar_count``.
        """
        state = self._state
        view = state.base
        at = None if view is None else _place(view, symbol)
        if view is None or at is None:
            values: tuple[Any, ...] = (0.0, None, None, None, 0)
        else:
            values = (
                *(float(view.volume[at]), float(view.high[at]), float(view.low[at])),
                *(int(view.updated_ns[at]), int(view.counts[at])),
            )
        return {
            "symbol": symbol,
            "session_volume": values[0],
            "session_high": values[1],
            "session_low": values[2],
            "last_update": values[3],
            "bar_quality": _quality(state, symbol),
            "bar_count": values[4],
        }

    def get_quality_metric(self, symbol: str, interval: Interval = 1) -> float | None:
        """Return (bars + no-trade minutes) / expected minutes so far, in %.

        The tape vouches for a whole slice: in one where some symbols are missing and others had
        no trade, a symbol without a bar counts as missing. None for an unknown symbol, or when
        nothing is expected yet. Longer intervals have the quality of their minutes.
        """
        interval_ns(interval)
        return _quality(self._state, symbol)

    def get_latest_quote(self, symbol: str) -> Any:
        """Return the last quote of a symbol in this session (`schemas.Quote`), None before it."""
        quotes = self._state.quotes
        return quotes.get(symbol) or quotes.get(symbol.upper())

    def get_active_symbols(self) -> frozenset[str]:
        """Return the symbols of the session."""
        return frozenset(self._state.symbols)

    def get_current_session_date(self) -> date | None:
        """Return the date of the session that runs or was last, None before the first."""
        session = self._state.session
        return date.fromisoformat(session) if session else None

    def is_session_active(self) -> bool:
        """Tell whether a session is open and this reader has caught up with it."""
        return self._state.is_open and self.caught_up

    def session_ended(self) -> bool:
        """Tell whether the session is over."""
        return self._state.is_over

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols in the order of `get_latest_bars`."""
        state = self._state
        return state.base.symbols if state.base is not None else state.symbols

    @property
    def clock_ns(self) -> int:
        """Session clock: everything known up to it is here; 0 before the first session."""
        return self._state.clock_ns

    @property
    def is_incomplete(self) -> bool:
        """Whether the session was played without complete coverage."""
        return self._state.is_incomplete

    def flags(self) -> Flags:
        """Return update flags of this reader's own, all clear."""
        return Flags(self)

    @staticmethod
    def _find(state: _State, symbol: str, interval: Interval) -> tuple[View | None, int]:
        return _in(state.views, symbol, interval)

    def _bars(self, state: _State, symbol: str, interval: Interval) -> Bars:
        view, at = self._find(state, symbol, interval)
        return _NO_BARS if view is None else view.bars(at)


class Flags:
    """Which symbols have got rows since this reader last asked."""

    def __init__(self, data: SessionData) -> None:
        self._data = data
        self._lock = Lock()
        self._seen = data._state.write

    def take(self) -> frozenset[str]:
        """Return the symbols with new rows and clear their flags, in one step."""
        with self._lock:
            state = self._data._state
            names: set[str] = set()
            for view in state.views.values():
                names.update(view.symbols[i] for i in np.flatnonzero(view.written > self._seen))
            self._seen = state.write
            return frozenset(names)


def _by_names(views: Mapping[int, View]) -> dict[Interval, View]:
    """Return the views by name, and by number where that is whole minutes."""
    found: dict[Interval, View] = {}
    for length_ns, view in views.items():
        found[interval_name(length_ns)] = view
        minutes, rest = divmod(length_ns, MINUTE_NS)
        if not rest:
            found[minutes] = view
    return found


def _view_of(views: Mapping[Interval, View], interval: Interval) -> View | None:
    view = views.get(interval)
    return views.get(interval_name(interval_ns(interval))) if view is None else view


def _view(state: _State, interval: Interval) -> View | None:
    return _view_of(state.views, interval)


def _place(view: View, symbol: str) -> int | None:
    at = view.place.get(symbol)
    return view.place.get(symbol.upper()) if at is None else at


def _in(views: Mapping[Interval, View], symbol: str, interval: Interval) -> tuple[View | None, int]:
    view = _view_of(views, interval)
    at = None if view is None else _place(view, symbol)
    return (None, 0) if at is None else (view, at)


def _quality(state: _State, symbol: str) -> float | None:
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


def _past_of(trailing: Trailing) -> _Past:
    rows = packed(trailing.bars, trailing.known_ns)
    views = {}
    for length in np.unique(trailing.bars.interval_ns).tolist():
        mask = trailing.bars.interval_ns == length
        symbol, own = trailing.bars.symbol[mask], rows[mask]
        order = final_order(symbol, own["interval_ns"], own["ts_ns"], own["revision"])
        store = Store(trailing.symbols, int(np.bincount(symbol).max()))
        store.append(symbol[order].astype(np.intp), own[order], 0)
        views[length] = store.view
    return _Past(trailing.session, _by_names(views))


def _ns(time: Time) -> int:
    if isinstance(time, datetime):
        if time.tzinfo is None:
            msg = "a time without a zone says nothing here: give an aware datetime or ns"
            raise ValueError(msg)
        return (time - _EPOCH) // timedelta(microseconds=1) * 1000
    return int(time)


_shared = SessionData()


def get_session_data() -> SessionData:
    """Return the replica of this process, for code that shares one.

    Feed it by ``SessionStream(data=get_session_data())``.
    """
    return _shared


def reset_session_data() -> SessionData:
    """Put a new, empty replica in the place of the process's; return it."""
    global _shared  # noqa: PLW0603 - the one replica of a process is what these two are for
    _shared = SessionData()
    return _shared
