"""Trailing sessions from the store, for a replica that is to have more than the tape keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from schemas.records import BarColumns
from streams.client.past import History, Trailing
from streams.errors import HistoryError
from streams.intervals import interval_name, interval_ns
from streams.settings import Settings, load

__all__ = ["recorded"]

_COLUMNS = ("ts_ns", "open", "high", "low", "close", "volume", "revision")


def recorded(settings: Settings | None = None, *, interval: str | int = "1m") -> History:
    """Return the trailing sessions that the sink has stored: ``SessionData(history=recorded())``.

    A reader that joins late has them without it, as long as the tape keeps them; this is for
    sessions that it no longer keeps, and for those of earlier runs. Bars come from ClickHouse or
    from chDB in their final state, whichever run stored it last, and cut at the open of the
    running session; as the time at which each was known they carry the end of the bar.

    Parameters
    ----------
    settings
        Where the store is; default: the settings of the process.
    interval
        Length of the bars, ``"5m"`` or ``5``, which counts minutes.

    Raises
    ------
    HistoryError
        When the replica asks, at its first session: nothing is recorded, or the store does not
        answer.
    ConfigError
        The interval is none.
    """
    length_ns = interval_ns(interval)

    def history(before: str, sessions: int, clock_ns: int) -> Iterable[Trailing]:
        table = _stored(settings or load(), sessions, clock_ns, length_ns)
        return _split(table, before, length_ns)

    return history


def _stored(settings: Settings, sessions: int, clock_ns: int, length_ns: int) -> Any:
    """Return the bars of the sessions before the clock as an Arrow table."""
    # At first use: most readers need no store, and so none of its libraries.
    from sinks.history import open_history  # noqa: PLC0415

    with closing(open_history(settings)) as store:
        table = store.bars(None, interval_name(length_ns), sessions, before_ns=clock_ns)
        if not len(table) and not len(store.sessions(sessions=1)):
            msg = f"nothing is recorded of {settings.namespace}: let the sink run beside the tape"
            raise HistoryError(msg)
        return table


def _split(table: Any, before: str, length_ns: int) -> Iterator[Trailing]:
    """Give the bars of each session, ascending; the running one's are not among them."""
    session = table["session"].to_numpy()
    symbol = table["symbol"].to_numpy()
    for label in sorted({*session.tolist()}):
        if label >= before:
            continue
        mask = session == label
        names, places = np.unique(symbol[mask].astype(str), return_inverse=True)
        columns = {name: table[name].to_numpy()[mask] for name in _COLUMNS}
        size = len(places)
        bars = BarColumns(
            row=np.arange(size, dtype=np.int32),
            symbol=places.astype(np.int32),
            interval_ns=np.full(size, length_ns),
            source=np.zeros(size, np.int32),
            **columns,
        )
        yield Trailing(label, tuple(names.tolist()), bars, columns["ts_ns"] + length_ns)
