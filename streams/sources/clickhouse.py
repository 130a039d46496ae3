"""Bars, quotes and ticks of ClickHouse tables, on a server or in a chDB folder.

URI: ``clickhouse:WHERE[?key=value&…]``; WHERE is a DSN (``http://user:password@host:port/database``,
``https://…`` or ``clickhouse://…``) or the folder of a chDB. The tables are those that the sink
writes, or others that have their columns: ``table`` (default ``bars``) needs symbol, interval_ns,
ts_ns, open, high, low, close, volume and revision; ``quotes`` (default ``quotes``) symbol, ts_ns,
place, bid, bid_size, ask, ask_size and revision; ``ticks`` (default ``ticks``) symbol, ts_ns,
place, price, size, condition and revision. ``database`` chooses one where several have them.

Rows come in their final state; the sequence of quotes and ticks is their place among those of one
symbol and time. What is in a table says nothing of what is not: it never vouches that there was no
trade. A database without the table of a kind can't say anything of it.

A chDB folder belongs to one process at a time: it is open only while it is read, by one thread.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.exceptions import ClickHouseError
from numpy.typing import NDArray

from schemas.records import Ints
from streams.errors import ConfigError, SourceError
from streams.sources.options import Options
from streams.sources.protocol import Answer, Block, Part
from streams.sources.rows import bar_block, quote_block, tick_block

__all__ = ["ClickHouseSource"]

NAME = re.compile(r"[A-Za-z_]\w*")
SCHEMES = {"http": False, "clickhouse": False, "https": True, "clickhouses": True}
BLOCK_ROWS = 100_000
READ_ROWS = 2_000_000
"""So many rows are in memory at once, or those of one symbol: of ticks a session has many."""
CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class ClickHouseSource:
    """The tables of one database.

    Attributes
    ----------
    arguments
        Of ``clickhouse_connect.get_client``.
    database
        Where they are; empty: the only one that has such a table.
    tables
        Name of the table, by stream.
    place
        What is read, for messages; without the password.
    """

    arguments: Mapping[str, Any] = field(repr=False)
    database: str
    tables: Mapping[str, str]
    place: str
    name: str = "clickhouse"
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def open(cls, place: str, options: str = "") -> Self:
        """Return the source; nothing is connected to yet.

        Raises
        ------
        SourceError
            No DSN and no folder.
        ConfigError
            An option that is none, or a name that is none.
        """
        given = Options("clickhouse", options, ("database", *_OPTIONS.values()))
        database = given.text("database")
        tables = {stream: given.text(name, stream) for stream, name in _OPTIONS.items()}
        for name in (*tables.values(), database or "bars"):
            if not NAME.fullmatch(name):
                msg = f"clickhouse: {name!r} is no name of a table or database"
                raise ConfigError(msg)
        if place.startswith("//"):
            place = f"clickhouse:{place}"
        if "://" not in place:
            if not Path(place).is_dir():
                raise SourceError("there is no such chDB folder", path=place)
            return cls({"interface": "chdb", "path": place}, database, tables, place)
        try:
            parts = urlsplit(place)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in SCHEMES or not parts.hostname:
            # The value itself stays out of the message: it may hold a password.
            msg = "clickhouse: no DSN: write http://user:password@host:port/database, or a folder"
            raise ConfigError(msg)
        secure = SCHEMES[parts.scheme]
        port = port or (8443 if secure else 8123)
        arguments = {
            "host": parts.hostname,
            "port": port,
            "username": unquote(parts.username or "default"),
            "password": unquote(parts.password or ""),
            "secure": secure,
            "connect_timeout": CONNECT_TIMEOUT_S,
        }
        database = database or unquote(parts.path.strip("/"))
        return cls(arguments, database, tables, f"{parts.hostname}:{port}")

    def symbols(self) -> tuple[str, ...]:
        """Return all symbols of the tables, sorted."""
        sql = "SELECT DISTINCT symbol FROM {table}"
        found: set[str] = set()
        with self._client() as client:
            for stream in self._there(client):
                rows = self._query(client, stream, sql)
                found.update(rows["symbol"].cast(pa.string()).to_pylist())
        return tuple(sorted(found))

    def sessions(self) -> tuple[str, str] | None:
        """Return the first and last day of its rows, in UTC."""
        sql = "SELECT min(ts_ns) AS a, max(ts_ns) AS b, count() AS n FROM {table}"
        with self._client() as client:
            rows = [self._query(client, s, sql).to_pylist()[0] for s in self._there(client)]
        rows = [row for row in rows if row["n"]]
        if not rows:
            return None
        ends = (min(row["a"] for row in rows), max(row["b"] for row in rows))
        first, last = (datetime.fromtimestamp(ns // 10**9, UTC) for ns in ends)
        return f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give the final state of the rows; of a symbol without any in the range it can't say."""
        of = {"start_ns": start_ns, "end_ns": end_ns, "interval_ns": interval_ns}
        with self._client() as client:
            is_there = stream in self._there(client)
            asked = {"symbols": list(symbols), **of}
            counts = self._query(client, stream, _COUNTS, asked) if is_there else None
        seen = {} if counts is None else {row["symbol"]: row["n"] for row in counts.to_pylist()}
        for some in _parts(seen):
            with self._client() as client:
                table = self._query(client, stream, _ROWS, {"symbols": some, **of})
            for low in range(0, table.num_rows, BLOCK_ROWS):
                yield _block(stream, table.slice(low, BLOCK_ROWS), interval_ns)
        yield Answer(tuple(s for s in symbols if s in seen), "rows")
        yield Answer(tuple(s for s in symbols if s not in seen), "cannot_say")

    def _query(
        self, client: Any, stream: str, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> pa.Table:
        table = f"`{self._database(client)}`.`{self.tables[stream]}` FINAL"
        for word, text in ({"table": table} | _WORDS[stream]).items():
            sql = sql.replace(f"{{{word}}}", text)
        data = client.raw_query(sql, parameters=parameters, fmt="ArrowStream")
        return pa.ipc.open_stream(data).read_all()

    def _there(self, client: Any) -> list[str]:
        """Return the streams that have a table; one whose table was named has to have it."""
        found = client.query(_TABLES, {"database": self._database(client)}).result_rows
        names = {str(name) for (name,) in found}
        is_empty = names.isdisjoint(self.tables.values())
        return [
            stream
            for stream, name in self.tables.items()
            if name in names or name != stream or (stream == "bars" and is_empty)
        ]

    def _database(self, client: Any) -> str:
        if self.database:
            return self.database
        bars, *others = self.tables.values()
        found: list[str] = []
        for names in ([bars], others):
            rows = client.query(_DATABASES, {"tables": names}).result_rows
            found = found or [str(row[0]) for row in rows]
        if len(found) != 1:
            what = f"databases {', '.join(found)} have" if found else "no database has"
            reason = f"{what} a table {bars}: name one by ?database=…&table=…"
            raise SourceError(reason, path=self.place)
        return found[0]

    @contextmanager
    def _client(self) -> Iterator[Any]:
        with self._lock if self.arguments.get("interface") == "chdb" else nullcontext():
            yield from self._connected()

    def _connected(self) -> Iterator[Any]:
        try:
            client = clickhouse_connect.get_client(**self.arguments)
        except ImportError as exc:
            reason = "chDB is not installed: pip install 'sessiontape[local]'"
            raise SourceError(reason, path=self.place) from exc
        except (ClickHouseError, OSError) as exc:
            raise SourceError(f"it can't be opened: {_line(exc)}", path=self.place) from exc
        try:
            yield client
        except (ClickHouseError, OSError) as exc:
            raise SourceError(f"it can't be read: {_line(exc)}", path=self.place) from exc
        finally:
            client.close()


_OPTIONS = {"bars": "table", "quotes": "quotes", "ticks": "ticks"}
"""Option that names the table of a stream."""

_DATABASES = """
SELECT DISTINCT database FROM system.tables
WHERE name IN {tables:Array(String)} AND database != 'system' ORDER BY database
"""
_TABLES = "SELECT name FROM system.tables WHERE database = {database:String}"
_COUNTS = "SELECT symbol, count() AS n FROM {table} WHERE {which} GROUP BY symbol"
_ROWS = "SELECT symbol, ts_ns, {values}, revision FROM {table} WHERE {which} ORDER BY {order}"
_POINTS = """
symbol IN {symbols:Array(String)} AND ts_ns >= {start_ns:Int64} AND ts_ns < {end_ns:Int64}
"""
_WORDS = {
    "bars": {
        "values": "open, high, low, close, volume",
        "which": _POINTS + "AND interval_ns = {interval_ns:Int64}",
        "order": "symbol, ts_ns",
    },
    "quotes": {
        "values": "place, bid, bid_size, ask, ask_size",
        "which": _POINTS,
        "order": "symbol, ts_ns, place",
    },
    "ticks": {
        "values": "place, price, size, condition",
        "which": _POINTS,
        "order": "symbol, ts_ns, place",
    },
}


def _parts(counts: Mapping[str, int]) -> Iterator[list[str]]:
    """Give the symbols, sorted, in parts that are read at once."""
    part: list[str] = []
    rows = 0
    for symbol, count in sorted(counts.items()):
        if part and rows + count > READ_ROWS:
            yield part
            part, rows = [], 0
        part.append(symbol)
        rows += count
    if part:
        yield part


def _block(stream: str, table: pa.Table, interval_ns: int) -> Block:
    def column(name: str) -> NDArray[Any]:
        found: NDArray[Any] = table[name].to_numpy()
        return found

    names, symbol = _texts(table, "symbol")
    revision = column("revision").astype(np.int32)
    if stream == "bars":
        prices = [column(name) for name in ("open", "high", "low", "close")]
        return bar_block(
            names,
            symbol,
            column("ts_ns"),
            interval_ns=interval_ns,
            prices=prices,
            volume=column("volume"),
            revision=revision,
        )
    sequence = column("place").astype(np.int64) + 1  # 0 is none
    if stream == "quotes":
        quotes = quote_block(
            names,
            symbol,
            column("ts_ns"),
            prices=(column("bid"), column("ask")),
            sizes=(column("bid_size"), column("ask_size")),
            sequence=sequence,
        )
        return replace(quotes, revision=revision)
    conditions, condition = _texts(table, "condition")
    ticks = tick_block(
        names,
        symbol,
        column("ts_ns"),
        price=column("price"),
        size=column("size"),
        sequence=sequence,
        condition=condition,
        conditions=conditions,
    )
    return replace(ticks, revision=revision)


def _texts(table: pa.Table, name: str) -> tuple[tuple[str, ...], Ints]:
    """Return the different texts of a column, and for each row the index of its, -1 for empty."""
    column = table[name].cast(pa.string()).combine_chunks()
    texts = pc.if_else(pc.equal(column, ""), None, column).dictionary_encode()
    index = texts.indices.fill_null(-1).to_numpy().astype(np.int32)
    return tuple(texts.dictionary.to_pylist()), index


def _line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]
