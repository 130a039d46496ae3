"""Trailing sessions from the store, for a replica that is to have more than the tape keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from schemas.records import BarColumns
from streams.client.past import History, Trailing
from streams.client.stream import View
from streams.errors import ConfigError, HistoryError
from streams.intervals import interval_name, interval_ns
from streams.settings import Settings, load

__all__ = ["recorded"]

_COLUMNS = ("ts_ns", "open", "high", "low", "close", "volume", "revision")


def recorded(
    settings: Settings | None = None,
    *,
    interval: str | int = "1m",
    view: View = "as_final",
) -> History:
    """Return the trailing sessions that the sink has stored: ``SessionData(history=recorded())``.

    A reader that joins late has them without it, as long as the tape keeps them; this is for
    sessions that it no longer keeps, and for those of earlier runs. Bars come from ClickHouse or
    from chDB, cut at the open of the running session.

    Parameters
    ----------
    settings
        Where the store is; default: the settings of the process.
    interval
        Length of the bars, ``"5m"`` or ``5``, which counts minutes.
    view
        ``"as_final"``: the final state, whichever run stored it last; as the time at which each was
        known bars carry their end. ``"as_known"``: what the latest run of each session had
        delivered by the cut, with the time at which it was known; of a bar and its corrections the
        last that was known by then counts.

    Raises
    ------
    HistoryError
        When the replica asks, at its first session: nothing is recorded, or the store does not
        answer.
    ConfigError
        The interval or the view is none.
    """
    length_ns = interval_ns(interval)
    if view not in ("as_final", "as_known"):
        msg = f"a view is as_final or as_known, not {view!r}"
        raise ConfigError(msg)

    def history(before: str, sessions: int, clock_ns: int) -> Iterable[Trailing]:
        table = _stored(settings or load(), sessions, clock_ns, length_ns, view)
        return _split(table, before, length_ns)

    return history


def _stored(settings: Settings, sessions: int, clock_ns: int, length_ns: int, view: str) -> Any:
    """Return the bars of the sessions before the clock as an Arrow table."""
    # At first use: most readers need no store, and so none of its libraries.
    from sinks.history import open_history  # noqa: PLC0415

    with closing(open_history(settings)) as store:
        read = store.bars if view == "as_final" else store.bars_as_known
        table = read(None, interval_name(length_ns), sessions, before_ns=clock_ns)
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
        is_known = "known_ns" in table.column_names
        known_ns = table["known_ns"].to_numpy()[mask] if is_known else bars.ts_ns + length_ns
        yield Trailing(label, tuple(names.tolist()), bars, known_ns)
