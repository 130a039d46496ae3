"""What can be asked of a store, and the SQL that answers it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from sinks.store import Store
from streams.intervals import interval_name

__all__ = ["Kind", "Query", "View", "answer"]

Kind: TypeAlias = Literal[
    "bars",
    "bars_as_known",
    "quotes",
    "quotes_as_known",
    "ticks",
    "ticks_as_known",
    "sessions",
    "gaps",
    "quality",
]
"""What can be asked for."""

View: TypeAlias = Literal["as_final", "as_known"]
"""Rows in their final state, or each as it was delivered."""


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
    since_ns
        First time of quotes and ticks, inclusive; None for all of the sessions.
    """

    kind: Kind
    symbols: tuple[str, ...] | None
    interval_ns: int
    sessions: int
    before_ns: int | None
    since_ns: int | None = None

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
        "since_ns": -(2**62) if query.since_ns is None else query.since_ns,
    }
    sql = _SQL[query.kind].replace("LATEST", _LATEST).replace("NEWEST", _NEWEST)
    return store.arrow(sql, parameters)


_NEWEST = """
SELECT session FROM frames
WHERE session != '' AND open_ns < {before_ns:Int64}
  AND ({every:UInt8} OR hasAny(symbols, {symbols:Array(String)}))
GROUP BY session ORDER BY max(open_ns) DESC LIMIT {sessions:UInt32}
"""

# Runs are ordered by what the tape delivered last, which is their last frame.
_LATEST = """
SELECT session, argMax(run, (generation, frame)) FROM frames
WHERE session IN (NEWEST) GROUP BY session
"""

# Where a source sent bars of a length that is derived, too, the source's come.
_BARS = """
SELECT symbol, {interval:String} AS interval, ts_ns, open, high, low, close, volume, revision,
    session, vwap, count, quality
FROM (
    SELECT symbol, ts_ns, open, high, low, close, volume, revision, session,
        CAST(NULL, 'Nullable(Float64)') AS vwap, CAST(NULL, 'Nullable(Int32)') AS count,
        CAST(NULL, 'Nullable(Float64)') AS quality, 0 AS is_derived
    FROM bars FINAL
    WHERE ({every:UInt8} OR symbol IN {symbols:Array(String)})
      AND interval_ns = {interval_ns:Int64} AND ts_ns + interval_ns <= {before_ns:Int64}
      AND session IN (NEWEST)
    UNION ALL
    SELECT symbol, ts_ns, open, high, low, close, volume, revision, session,
        if(isNaN(vwap), NULL, vwap), CAST(count, 'Nullable(Int32)'),
        CAST(quality, 'Nullable(Float64)'), 1
    FROM derived FINAL
    WHERE ({every:UInt8} OR symbol IN {symbols:Array(String)})
      AND interval_ns = {interval_ns:Int64} AND ts_ns + length_ns <= {before_ns:Int64}
      AND session IN (NEWEST)
)
ORDER BY symbol, ts_ns, is_derived
LIMIT 1 BY symbol, ts_ns
"""

# A symbol lives in one shard: its row numbers are the order in which its rows were delivered.
_BARS_AS_KNOWN = """
SELECT symbol, {interval:String} AS interval, ts_ns, open, high, low, close, volume, revision,
    session, run, known_ns
FROM (
    SELECT symbol, ts_ns, open, high, low, close, volume, revision, session, run, known_ns,
        row_number, 0 AS is_derived
    FROM bars_as_known FINAL
    WHERE ({every:UInt8} OR symbol IN {symbols:Array(String)})
      AND interval_ns = {interval_ns:Int64} AND known_ns <= {before_ns:Int64}
      AND (session, run) IN (LATEST)
    UNION ALL
    SELECT symbol, ts_ns, open, high, low, close, volume, revision, session, run, known_ns,
        row_number, 1
    FROM derived_as_known FINAL
    WHERE ({every:UInt8} OR symbol IN {symbols:Array(String)})
      AND interval_ns = {interval_ns:Int64} AND known_ns <= {before_ns:Int64}
      AND (session, run) IN (LATEST)
)
ORDER BY session, symbol, is_derived DESC, row_number
"""

_SESSIONS = """
SELECT s.session AS session, s.run AS run, s.mode AS mode, s.open_ns AS open_ns,
    s.close_ns AS close_ns, s.closed AS closed, s.incomplete AS incomplete, s.reason AS reason,
    s.rows AS rows, s.bars AS bars, s.expected AS expected, s.received AS received,
    s.no_trade AS no_trade, s.missing AS missing, s.quotes AS quotes, s.ticks AS ticks
FROM sessions AS s
WHERE (s.session, s.run) IN (LATEST)
ORDER BY s.open_ns
"""

# An open frame tells again what was told before it, unless the coverage never became complete.
_GAPS = """
SELECT g.session AS session, g.symbol AS symbol, g.start_ns AS start_ns, g.end_ns AS end_ns,
    g.status AS status, g.attempt AS attempt, g.request AS request, g.clock_ns AS clock_ns,
    CAST(row_number() OVER (
        PARTITION BY g.session, g.symbol ORDER BY g.frame, g.number) - 1, 'Int64') AS number,
    g.run AS run
FROM gaps AS g FINAL
WHERE (g.session, g.run) IN (LATEST)
  AND ({every:UInt8} OR g.symbol IN {symbols:Array(String)})
  AND (g.event != 'open' OR
      (g.session, g.run, g.symbol, g.start_ns, g.end_ns, g.status, g.attempt, g.request) NOT IN (
      SELECT session, run, symbol, start_ns, end_ns, status, attempt, request
      FROM gaps WHERE event != 'open'))
ORDER BY session, symbol, number
"""

# What is known of minutes to come does not count before they are over.
_QUALITY = """
SELECT * EXCEPT letters FROM (
SELECT m.session AS session, m.symbol AS symbol, m.expected AS expected, m.traded AS traded,
    m.filled AS filled, m.no_trade AS no_trade, m.missing AS missing, m.given_up AS given_up,
    m.quality AS quality, replaceAll(m.statuses, '-', '') AS letters,
    concat(substring(letters, 1, m.expected), repeat('p', length(letters) - m.expected))
        AS statuses,
    m.run AS run
FROM minutes AS m FINAL
WHERE (m.session, m.run) IN (LATEST)
  AND ({every:UInt8} OR m.symbol IN {symbols:Array(String)})
)
ORDER BY session, symbol
"""

_TICKS = """
SELECT symbol, ts_ns, place, VALUES, sequence, revision, source, session
FROM TABLE FINAL
WHERE ({every:UInt8} OR symbol IN {symbols:Array(String)})
  AND ts_ns >= {since_ns:Int64} AND ts_ns <= {before_ns:Int64} AND session IN (NEWEST)
ORDER BY symbol, ts_ns, place
"""

# What was known by then, so the cut is that of the clock at which it was delivered.
_TICKS_AS_KNOWN = """
SELECT symbol, ts_ns, place, VALUES, sequence, revision, source, session, known_ns, row_number, run
FROM TABLE FINAL
WHERE ({every:UInt8} OR symbol IN {symbols:Array(String)})
  AND ts_ns >= {since_ns:Int64} AND known_ns <= {before_ns:Int64}
  AND (session, run) IN (LATEST)
ORDER BY symbol, session, row_number
"""
_QUOTE_VALUES, _TICK_VALUES = "bid, bid_size, ask, ask_size", "price, size, condition"


def _of(sql: str, table: str, values: str) -> str:
    return sql.replace("VALUES", values).replace("TABLE", table)


_SQL: dict[Kind, str] = {
    "bars": _BARS,
    "bars_as_known": _BARS_AS_KNOWN,
    "sessions": _SESSIONS,
    "gaps": _GAPS,
    "quality": _QUALITY,
    "quotes": _of(_TICKS, "quotes", _QUOTE_VALUES),
    "quotes_as_known": _of(_TICKS_AS_KNOWN, "quotes_as_known", _QUOTE_VALUES),
    "ticks": _of(_TICKS, "ticks", _TICK_VALUES),
    "ticks_as_known": _of(_TICKS_AS_KNOWN, "ticks_as_known", _TICK_VALUES),
}
