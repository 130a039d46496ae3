"""Bars of a ClickHouse table, on a server or in a chDB folder.

URI: ``clickhouse:WHERE[?key=value&…]``; WHERE is a DSN (``http://user:password@host:port/database``,
``https://…`` or ``clickhouse://…``) or the folder of a chDB. ``table`` (default ``bars``) needs the
columns symbol, interval_ns, ts_ns, open, high, low, close, volume and revision, as the sink writes
them; ``database`` chooses one where several have such a table.

What is in the table says nothing of what is not: it never vouches that there was no trade.

A chDB folder belongs to one process at a time: it is open only while it is read, by one thread.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.records import BarBlock
from streams.errors import ConfigError, SourceError
from streams.sources.options import Options
from streams.sources.protocol import Answer, Part
from streams.sources.rows import bar_block

__all__ = ["ClickHouseSource"]

NAME = re.compile(r"[A-Za-z_]\w*")
SCHEMES = {"http": False, "clickhouse": False, "https": True, "clickhouses": True}
BLOCK_ROWS = 100_000
CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class ClickHouseSource:
    """One table.

    Attributes
    ----------
    arguments
        Of ``clickhouse_connect.get_client``.
    database, table
        Where the bars are; no database: the only one that has such a table.
    place
        What is read, for messages; without the password.
    """

    arguments: Mapping[str, Any] = field(repr=False)
    database: str
    table: str
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
        given = Options("clickhouse", options, ("database", "table"))
        table, database = given.text("table", "bars"), given.text("database")
        for name in (table, database or "bars"):
            if not NAME.fullmatch(name):
                msg = f"clickhouse: {name!r} is no name of a table or database"
                raise ConfigError(msg)
        if place.startswith("//"):
            place = f"clickhouse:{place}"
        if "://" not in place:
            if not Path(place).is_dir():
                raise SourceError("there is no such chDB folder", path=place)
            return cls({"interface": "chdb", "path": place}, database, table, place)
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
        return cls(arguments, database, table, f"{parts.hostname}:{port}")

    def symbols(self) -> tuple[str, ...]:
        """Return all symbols of the table, sorted."""
        with self._client() as client:
            rows = self._query(client, "SELECT DISTINCT symbol FROM {table} ORDER BY symbol")
        return tuple(rows["symbol"].cast(pa.string()).to_pylist())

    def sessions(self) -> tuple[str, str] | None:
        """Return the first and last day of its bars, in UTC."""
        with self._client() as client:
            sql = "SELECT min(ts_ns) AS a, max(ts_ns) AS b, count() AS n FROM {table}"
            [row] = self._query(client, sql).to_pylist()
        if not row["n"]:
            return None
        first, last = (datetime.fromtimestamp(row[c] // 10**9, UTC) for c in ("a", "b"))
        return f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give the final state of the bars; of a symbol without any in the range it can't say."""
        if stream != "bars":
            yield Answer(tuple(symbols), "cannot_say")
            return
        parameters = {
            "symbols": list(symbols),
            "start_ns": start_ns,
            "end_ns": end_ns,
            "interval_ns": interval_ns,
        }
        with self._client() as client:
            table = self._query(client, _BARS, parameters)
        seen: set[str] = set()
        for low in range(0, table.num_rows, BLOCK_ROWS):
            block = _block(table.slice(low, BLOCK_ROWS), interval_ns)
            seen.update(block.symbols)
            yield block
        yield Answer(tuple(s for s in symbols if s in seen), "rows")
        yield Answer(tuple(s for s in symbols if s not in seen), "cannot_say")

    def _query(
        self, client: Any, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> pa.Table:
        sql = sql.replace("{table}", f"`{self._database(client)}`.`{self.table}` FINAL")
        data = client.raw_query(sql, parameters=parameters, fmt="ArrowStream")
        return pa.ipc.open_stream(data).read_all()

    def _database(self, client: Any) -> str:
        if self.database:
            return self.database
        found = [row[0] for row in client.query(_DATABASES, {"table": self.table}).result_rows]
        if len(found) != 1:
            what = f"databases {', '.join(found)} have" if found else "no database has"
            reason = f"{what} a table {self.table}: name one by ?database=…&table=…"
            raise SourceError(reason, path=self.place)
        return str(found[0])

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


_DATABASES = """
SELECT database FROM system.tables WHERE name = {table:String} AND database != 'system'
ORDER BY database
"""
_BARS = """
SELECT symbol, ts_ns, open, high, low, close, volume, revision FROM {table}
WHERE interval_ns = {interval_ns:Int64} AND symbol IN {symbols:Array(String)}
  AND ts_ns >= {start_ns:Int64} AND ts_ns < {end_ns:Int64}
ORDER BY symbol, ts_ns
"""


def _block(table: pa.Table, interval_ns: int) -> BarBlock:
    symbol = table["symbol"].cast(pa.string()).combine_chunks().dictionary_encode()
    prices = [table[name].to_numpy() for name in ("open", "high", "low", "close")]
    return bar_block(
        tuple(symbol.dictionary.to_pylist()),
        symbol.indices.to_numpy().astype(np.int32),
        table["ts_ns"].to_numpy(),
        interval_ns=interval_ns,
        prices=prices,
        volume=table["volume"].to_numpy(),
        revision=table["revision"].to_numpy().astype(np.int32),
    )


def _line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]
