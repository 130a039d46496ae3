"""SessionData: the replica of the running session that a strategy reads.

One thread writes (`SessionData.apply`), any number read, without a lock: each write ends in one
assignment of a new state, and each read takes the state once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np

from streams.client.batch import Batch
from streams.client.convert import As, converted
from streams.client.flags import Flags
from streams.client.past import History, Interval, Trailing
from streams.client.points import PointReads
from streams.client.recent import KEEP
from streams.client.state import State, Writer, find, place_of, quality, status_of, view_of
from streams.client.store import BAR, Bars, blank
from streams.coverage import Status
from streams.errors import ConfigError
from streams.intervals import interval_ns

__all__ = ["SessionData", "get_session_data", "reset_session_data"]

Time: TypeAlias = int | datetime
_NO_BARS = np.empty(0, BAR)
_STATUS = np.array([status.label for status in Status])
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SessionData(PointReads):
    """The session so far and the trailing sessions, by symbol.

    Bars come as rows with the fields ``ts_ns``, ``interval_ns``, ``known_ns``, ``open``, ``high``,
    ``low``, ``close``, ``volume``, ``revision``, by name (``bar["close"]``) or as attributes
    (``bar.close``). Arrays of them are read-only and never change. Intervals are minutes (``5``)
    or names (``"5m"``); an unknown symbol or an interval that is not read has no bars. Derived bars
    count under the length they were asked for, also one that the close of the session cut.

    Quotes and ticks come in the same way, with ``ts_ns``, ``known_ns``, ``revision`` and ``bid``,
    ``bid_size``, ``ask``, ``ask_size``, or ``price``, ``size``; conditions of ticks stand in the
    stream alone. The last of each symbol and session are at hand, ascending by
    time, of one time in the order of the tape. A correction takes its place among them: a late row
    behind those of its time; a revision in the place of the row of its time, source and number
    that has a lower revision. Where there is none, or where rows without numbers do not tell which
    of several it corrects, it stands behind them, too.
    One that is older than all that are at hand is left out, once there are as many as are kept.

    Parameters
    ----------
    session_minutes
        Bars a symbol that room is made for; 0: as many as the session expects.
    trailing_sessions
        Sessions that stay behind the running one.
    history
        Gives the trailing sessions of a reader that joins late, as `recorded` does from ClickHouse
        or chDB; default: those that the tape still keeps, those it saw itself, and those from
        before the run, which come in beside the tape.
    recent_rows
        Quotes, and ticks, of each symbol that stay at hand.
    """

    def __init__(
        self,
        session_minutes: int = 0,
        trailing_sessions: int = 5,
        history: History | None = None,
        recent_rows: int = KEEP,
    ) -> None:
        if recent_rows < 1:
            msg = f"of each symbol at least 1 quote and tick stays at hand, not {recent_rows}"
            raise ConfigError(msg)
        self._writer = Writer(session_minutes, trailing_sessions, history, recent_rows)
        self._state = State()
        self.caught_up = True
        """Whether the reader has reached the clock there was when it joined: set by its stream."""

    def apply(self, batch: Batch) -> None:
        """Take the next batch of the tape in; only one thread may call it."""
        self._state = self._writer.next(self._state, batch)

    def add_past(self, run: str, session: str, load: Callable[[], Trailing]) -> None:
        """Take in a session from before a run's first; only the thread that writes may call it.

        Parameters
        ----------
        run
            The run.
        session
            Label of the session.
        load
            Gives its bars, when somebody asks for them first, in their thread.
        """
        self._state = self._writer.add_past(self._state, run, session, load)

    def takes_bars(self, has_bars: bool) -> None:
        """Say whether the bars come that the tape expects, or derived ones alone."""
        self._writer.has_bars = has_bars

    @property
    def sessions_wanted(self) -> int:
        """Sessions before the first one that its stream is to read for it; 0 with a history."""
        return self._writer.sessions_wanted

    # Readers: bars of the session

    def get_latest_bar(self, symbol: str, interval: Interval = 1) -> Any:
        """Return the last bar of a symbol in this session, None before the first."""
        try:
            view = self._state.views[interval]
            return view.latest[view.place[symbol]]
        except KeyError:
            view_or_none, at = find(self._state.views, symbol, interval)
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
            found, at = find(state.views, symbol, interval)
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
        rows = _bars(self._state, symbol, interval)
        first = 0 if start is None else int(np.searchsorted(rows["ts_ns"], _ns(start)))
        last = len(rows) if end is None else int(np.searchsorted(rows["ts_ns"], _ns(end)))
        return converted(rows[first:last], as_)

    def get_bar_count(self, symbol: str, interval: Interval = 1) -> int:
        """Return the number of bars of a symbol in this session."""
        view, at = find(self._state.views, symbol, interval)
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
        view = view_of(state.views, interval)
        if view is None:
            return converted(blank(len(state.symbols if symbols is None else symbols)), as_)
        if symbols is None:
            return converted(view.latest, as_)
        places = [view.place.get(name, -1) for name in symbols]
        rows = view.latest[places]
        if -1 in places:
            rows[np.array(places) < 0] = blank(1)
        return converted(rows, as_)

    def get_latest_bars_multi(
        self, symbols: Iterable[str], interval: Interval = 1
    ) -> dict[str, Any]:
        """Return the last bar of each symbol by name, None where there is none yet."""
        view = view_of(self._state.views, interval)
        if view is None:
            return dict.fromkeys(symbols)
        place, latest = view.place, view.latest
        try:
            return {name: latest[place[name]] for name in symbols}
        except KeyError:
            found = {name: place_of(view, name) for name in symbols}
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
            view, at = find(session.views, symbol, interval)
            if view is not None:
                found[date.fromisoformat(session.session)] = converted(view.bars(at), as_)
        return found

    def get_all_bars_including_historical(
        self, symbol: str, interval: Interval = 1, *, as_: As = "numpy"
    ) -> Any:
        """Return the bars of the trailing sessions and of this one, ascending, as a copy."""
        state = self._state
        parts = [find(past.views, symbol, interval) for past in state.past]
        rows = [view.bars(at) for view, at in parts if view is not None]
        rows.append(_bars(state, symbol, interval))
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
        at = None if view is None else place_of(view, symbol)
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
            "bar_quality": quality(state, symbol),
            "bar_count": values[4],
        }

    def get_quality_metric(self, symbol: str, interval: Interval = 1) -> float | None:
        """Return (bars + no-trade minutes) / expected minutes so far, in %.

        No-trade minutes count from when the tape has the answer. Where a session is played
        without upkeep the tape vouches for whole slices only: in one where some symbols are
        missing and others had no trade, a symbol without a bar counts as missing. None for an
        unknown symbol, or when nothing is expected yet. Longer intervals have the quality of the
        minutes so far; that of one derived bar stands in ``Batch.derived``.
        """
        interval_ns(interval)
        return quality(self._state, symbol)

    def get_minute_status(self, symbol: str) -> dict[str, Any]:
        """Return what is known of each expected minute of the session so far, ascending.

        Keys: ``ts_ns``, starts of the minutes, int64; ``status``, for each its name:
        ``traded``, ``no_trade``, ``missing``, ``requested``, ``filled``, ``given_up``, ``halted``,
        or ``pending`` where the symbol was not expected. Shape (minutes,) each, (0,) for an
        unknown symbol.
        """
        ts_ns, status = status_of(self._state, symbol)
        return {"ts_ns": ts_ns, "status": _STATUS[status]}

    def get_active_symbols(self) -> frozenset[str]:
        """Return the symbols of the session: those that are listed now.

        One that is added counts from when it has caught up; one that is removed keeps its bars.
        """
        return frozenset(self._state.symbols)

    def get_current_session_date(self) -> date | None:
        """Return the date of the session that runs or was last, None before the first."""
        session = self._state.session
        return date.fromisoformat(session) if session else None

    def is_session_active(self) -> bool:
        """Tell whether a session is open and this reader has caught up with it.

        It is not while a live tape is itself further behind the wall clock than it may be.
        """
        state = self._state
        return state.is_open and self.caught_up and not state.is_behind

    def session_ended(self) -> bool:
        """Tell whether the session is over."""
        return self._state.is_over

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols in the order of `get_latest_bars`, also those that were removed."""
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


def _bars(state: State, symbol: str, interval: Interval) -> Bars:
    view, at = find(state.views, symbol, interval)
    return _NO_BARS if view is None else view.bars(at)


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
