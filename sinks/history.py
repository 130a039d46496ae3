"""Trailing days: rows, sessions, gaps and quality out of the store, wherever it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import pyarrow as pa

from sinks.owner import (
    LOCK_POLL_S,
    OWNER_WAIT_S,
    FolderInUseError,
    FolderOwner,
    chdb_folder,
    is_recorded,
)
from sinks.queries import Kind, Query, View, answer
from sinks.serving import ask
from sinks.store import Store
from streams.errors import ConfigError, HistoryError
from streams.intervals import interval_ns
from streams.settings import Settings

__all__ = ["History", "open_history"]


class History(Protocol):
    """Trailing days of one namespace. Every answer is of the moment of the call."""

    def bars(
        self,
        symbols: Sequence[str] | None,
        interval: str | int = "1m",
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        """Return bars in their final state, in the order of symbol and ts_ns.

        Parameters
        ----------
        symbols
            Symbols, None for all.
        interval
            Length of the bars: ``"5m"``, or ``5``, which counts minutes.
        sessions
            Newest sessions of the tape that had one of the symbols, traded or not; at least 1.
        before_ns
            Cut: only bars that were over by then (``ts_ns + interval <= before_ns``), and only
            sessions that opened before it are counted. None: no cut.

        Returns
        -------
        pyarrow.Table
            symbol, interval, session (string); ts_ns (int64, start of the bar, ns since the
            epoch, UTC); open, high, low, close, volume (float64); revision (int32); vwap
            (float64), count (int32, bars of the base interval in it) and quality (float64, %),
            null where they are not known: of bars that a source sent, and vwap without volume.

        Raises
        ------
        HistoryError
            Nothing is recorded, or the store doesn't answer.
        ConfigError
            The interval or the number of sessions is none.
        """
        ...

    def bars_as_known(
        self,
        symbols: Sequence[str] | None,
        interval: str | int = "1m",
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        """Return bars as they were delivered, in the order of session, symbol and delivery.

        Corrections stand beside what they correct. Parameters and errors are those of ``bars``, but
        for the cut: only bars that were known by then (``known_ns <= before_ns``). Of each session
        the bars of its latest run come.

        Returns
        -------
        pyarrow.Table
            symbol, interval, session, run (string); ts_ns (int64, start of the bar) and known_ns
            (int64, session clock at which it was delivered), ns since the epoch, UTC; open, high,
            low, close, volume (float64); revision (int32).
        """
        ...

    def quotes(
        self,
        symbols: Sequence[str] | None,
        sessions: int = 1,
        before_ns: int | None = None,
        *,
        since_ns: int | None = None,
        view: View = "as_final",
    ) -> pa.Table:
        """Return quotes, in their final state in the order of symbol, ts_ns and place.

        The answer is held in memory whole: ask for much of it range by range.

        Parameters
        ----------
        symbols, sessions
            Those of ``bars``.
        before_ns
            Cut: only quotes of ``ts_ns <= before_ns``; as known, those that were delivered by
            then. Only sessions that opened before it are counted. None: no cut.
        since_ns
            Only quotes of ``ts_ns >= since_ns``; None: all of these sessions.
        view
            ``as_final``: each quote once, as it was delivered last. ``as_known``: each as it was
            delivered, corrections beside what they correct, by the latest run of its session and
            in the order of symbol, session and delivery.

        Returns
        -------
        pyarrow.Table
            symbol, source, session (string); ts_ns (int64, ns since the epoch, UTC); place (int32,
            among the quotes of its symbol and time, from 0); bid, bid_size, ask, ask_size
            (float64); sequence (int64, the number that its source gave it, -1: none); revision
            (int32); as known also known_ns (int64, session clock at which it
            was delivered), row_number (int64, in its shard) and run (string).

        Raises
        ------
        HistoryError, ConfigError
            As those of ``bars``.
        """
        ...

    def ticks(
        self,
        symbols: Sequence[str] | None,
        sessions: int = 1,
        before_ns: int | None = None,
        *,
        since_ns: int | None = None,
        view: View = "as_final",
    ) -> pa.Table:
        """Return ticks; all is as with ``quotes``, which see.

        Returns
        -------
        pyarrow.Table
            As of ``quotes``, but for its values: price, size (float64) and condition (string,
            empty where there is none).
        """
        ...

    def sessions(
        self,
        symbols: Sequence[str] | None = None,
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        """Return the newest sessions, oldest first, each as its latest run played it.

        Parameters are those of ``bars``.

        Returns
        -------
        pyarrow.Table
            session, run, mode, reason (string); open_ns, close_ns, rows, bars, expected,
            received, no_trade, missing, quotes, ticks (int64); closed, incomplete (bool).
        """
        ...

    def gaps(
        self,
        symbols: Sequence[str] | None = None,
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        """Return what became known of gaps, step by step, in the order of session, symbol, number.

        Parameters are those of ``bars``. Of each session the steps of its latest run come.

        Returns
        -------
        pyarrow.Table
            session, symbol, status, request, run (string): status is the name of what the minutes
            became (`streams.coverage.Status.label`), request the id of the last request for them,
            empty where there was none; start_ns, end_ns, clock_ns (int64: minutes [start_ns,
            end_ns) and the session clock when it became known, ns since the epoch, UTC); attempt
            (int32, from 1, 0: none); number (int64: counts the steps of a symbol in a session in
            the order in which they came, from 0).
        """
        ...

    def quality(
        self,
        symbols: Sequence[str] | None = None,
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        """Return the minutes of each session and symbol, in that order, as its latest run has them.

        Parameters are those of ``bars``. Of a session that runs only the minutes that are over
        count.

        Returns
        -------
        pyarrow.Table
            session, symbol, statuses, run (string): statuses has a letter for each minute that is
            expected, in order: p pending, t traded, n no trade, m missing, r requested, f filled,
            g given up, h halted; expected, traded, filled, no_trade, missing, given_up (int32,
            minutes; those requested count as missing); quality (float64, %).
        """
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


def open_history(settings: Settings) -> History:
    """Return the history of the namespace: of the server, of the sink, or of chDB's folder.

    With a DSN the server is asked. Else each call asks the process that owns the folder, which is
    the sink, and opens the folder itself for as long as it takes where there is none: so one
    history outlives starts and stops of the sink, and never keeps it from starting.

    Raises
    ------
    ConfigError
        The DSN can't be read.
    HistoryError
        No server answers there, or it has no tape of the namespace.
    """
    if settings.clickhouse_dsn:
        store = Store.open(settings, is_reader=True)
        return _Answers(partial(answer, store), store.close)
    return _Answers(partial(_from_folder, settings), lambda: None)


class _Answers:
    """A history over something that answers queries with Arrow IPC streams."""

    def __init__(self, answer_: Callable[[Query], bytes], close: Callable[[], None]) -> None:
        self._answer = answer_
        self._close = close

    def bars(
        self,
        symbols: Sequence[str] | None,
        interval: str | int = "1m",
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        query = Query("bars", _names(symbols), interval_ns(interval), _count(sessions), before_ns)
        return self._table(query)

    def bars_as_known(
        self,
        symbols: Sequence[str] | None,
        interval: str | int = "1m",
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        what = (_names(symbols), interval_ns(interval), _count(sessions), before_ns)
        return self._table(Query("bars_as_known", *what))

    def quotes(
        self,
        symbols: Sequence[str] | None,
        sessions: int = 1,
        before_ns: int | None = None,
        *,
        since_ns: int | None = None,
        view: View = "as_final",
    ) -> pa.Table:
        kind: Kind = "quotes" if _is_final(view) else "quotes_as_known"
        return self._table(Query(kind, _names(symbols), 0, _count(sessions), before_ns, since_ns))

    def ticks(
        self,
        symbols: Sequence[str] | None,
        sessions: int = 1,
        before_ns: int | None = None,
        *,
        since_ns: int | None = None,
        view: View = "as_final",
    ) -> pa.Table:
        kind: Kind = "ticks" if _is_final(view) else "ticks_as_known"
        return self._table(Query(kind, _names(symbols), 0, _count(sessions), before_ns, since_ns))

    def sessions(
        self,
        symbols: Sequence[str] | None = None,
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        return self._table(Query("sessions", _names(symbols), 0, _count(sessions), before_ns))

    def gaps(
        self,
        symbols: Sequence[str] | None = None,
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        return self._table(Query("gaps", _names(symbols), 0, _count(sessions), before_ns))

    def quality(
        self,
        symbols: Sequence[str] | None = None,
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        return self._table(Query("quality", _names(symbols), 0, _count(sessions), before_ns))

    def close(self) -> None:
        self._close()

    def _table(self, query: Query) -> pa.Table:
        with pa.ipc.open_stream(self._answer(query)) as reader:
            return reader.read_all()


def _from_folder(settings: Settings, query: Query) -> bytes:
    if not is_recorded(settings):
        msg = (
            f"nothing is recorded in {chdb_folder(settings)}: replay something with the sink on, "
            "or name another SESSIONTAPE_DATA_DIR or SESSIONTAPE_NAMESPACE"
        )
        raise HistoryError(msg)
    deadline = time.monotonic() + OWNER_WAIT_S
    while True:
        try:
            owner = FolderOwner(settings, wait_s=0.0)
        except FolderInUseError:
            answered = ask(settings, query)
            if answered is not None:
                return answered
            # It is coming up, going down, or a reader like us: none of that takes long.
            if time.monotonic() >= deadline:
                raise
            time.sleep(LOCK_POLL_S)
        else:
            with owner:
                return _read(settings, query)


def _read(settings: Settings, query: Query) -> bytes:
    store = Store.open(settings)
    try:
        return answer(store, query)
    finally:
        store.close()


def _names(symbols: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(symbols, str):
        return (symbols,)
    return None if symbols is None else tuple(symbols)


def _count(sessions: int) -> int:
    if sessions < 1:
        msg = f"{sessions} sessions can't be read: ask for at least 1"
        raise ConfigError(msg)
    return sessions


def _is_final(view: View) -> bool:
    if view not in ("as_final", "as_known"):
        msg = f"{view!r} is no view: say as_final or as_known"
        raise ConfigError(msg)
    return view == "as_final"
