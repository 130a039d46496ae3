"""What can be asked of a store, and the SQL that answers it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from sinks.store import Store
from streams.intervals import interval_name

__all__ = ["Query", "answer"]


@dataclass(frozen=True, slots=True)
class Query:
    """One question; it travels as JSON.

    Attributes
    ----------
    kind
        What is asked for.
    symbols
        Symbols, None for all.
    interval_ns
        Length of the bars; 0 where none are asked for.
    sessions
        Newest sessions to count.
    before_ns
        Cut of ready time, inclusive; None for no cut.
    """

    kind: Literal["bars", "sessions"]
    symbols: tuple[str, ...] | None
    interval_ns: int
    sessions: int
    before_ns: int | None

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Query:
        """Return the query that ``to_json`` wrote."""
        said = json.loads(data)
        symbols = said.pop("symbols")
        return cls(symbols=None if symbols is None else tuple(symbols), **said)


def answer(store: Store, query: Query) -> bytes:
    """Return the rows asked for as an Arrow IPC stream.

    Raises
    ------
    HistoryError
        The store can't be read.
    """
    parameters = {
        "symbols": list(query.symbols or ()),
        "every": int(query.symbols is None),
        "interval_ns": query.interval_ns,
        "interval": interval_name(query.interval_ns) if query.interval_ns else "",
        "sessions": query.sessions,
        "before_ns": 2**62 if query.before_ns is None else query.before_ns,
    }
    sql = _BARS if query.kind == "bars" else _SESSIONS
    return store.arrow(sql.replace("NEWEST", _NEWEST), parameters)


_NEWEST = """
SELECT session FROM frames
WHERE session != '' AND open_ns < {before_ns:Int64}
  AND ({every:UInt8} OR hasAny(symbols, {symbols:Array(String)}))
GROUP BY session ORDER BY max(open_ns) DESC LIMIT {sessions:UInt32}
"""

_BARS = """
SELECT symbol, {interval:String} AS interval, ts_ns, open, high, low, close, volume, revision,
    session
FROM bars FINAL
WHERE ({every:UInt8} OR symbol IN {symbols:Array(String)})
  AND interval_ns = {interval_ns:Int64} AND ts_ns + interval_ns <= {before_ns:Int64}
  AND session IN (NEWEST)
ORDER BY symbol, ts_ns
"""

# Runs are ordered by what the tape delivered last, which is their last frame.
_SESSIONS = """
SELECT s.session AS session, s.run AS run, s.mode AS mode, s.open_ns AS open_ns,
    s.close_ns AS close_ns, s.closed AS closed, s.incomplete AS incomplete, s.reason AS reason,
    s.rows AS rows, s.bars AS bars, s.expected AS expected, s.received AS received,
    s.no_trade AS no_trade, s.missing AS missing
FROM sessions AS s
WHERE s.session IN (NEWEST)
  AND (s.session, s.run) IN (
      SELECT session, argMax(run, (generation, frame)) FROM frames GROUP BY session)
ORDER BY s.open_ns
"""
