"""A ClickHouse that holds one namespace: a server by DSN, or chDB in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from sinks.native import Column, native_block
from sinks.owner import chdb_folder
from streams.errors import ConfigError, HistoryError
from streams.settings import Settings

__all__ = ["Store", "database_of"]

DATABASE_PREFIX = "sessiontape_"
CONNECT_TIMEOUT_S = 5

# Several sessions to a batch mean several partitions to an insert; and repeats inside a batch are
# left to the table: looking for them at every insert costs a third of its time.
_SETTINGS = {"max_partitions_per_insert_block": 0, "optimize_on_insert": 0, "async_insert": 0}
# On one machine the tape needs the other core.
_CHDB_SETTINGS = {**_SETTINGS, "max_threads": 1, "max_insert_threads": 1}


def database_of(settings: Settings) -> str:
    """Return the database of the namespace: the DSN's, else one named after the namespace."""
    named = _server(settings).get("database", "") if settings.clickhouse_dsn else ""
    return named or f"{DATABASE_PREFIX}{settings.namespace}"


class Store:
    """One namespace's tables.

    Not for several threads: each takes ``another()``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = database_of(settings)
        self._client = _client(settings)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Connect, make the database and bring its schema up to date.

        For chDB the caller holds the ``FolderOwner``.

        Raises
        ------
        ConfigError
            The DSN can't be read.
        HistoryError
            Nothing answers there, or the schema is of a newer version or another namespace.
        """
        store = cls(settings)
        try:
            store._migrate()
        except BaseException:
            store.close()
            raise
        return store

    def another(self) -> Store:
        """Return a second connection to the same tables, for another thread."""
        store = Store(self._settings)
        store.use()
        return store

    def use(self) -> None:
        """Make the namespace's database the one that names without a database mean."""
        self._client.database = self._database

    def close(self) -> None:
        """Disconnect; chDB is closed with its last connection."""
        self._client.close()

    def run(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a statement that gives no rows."""
        with _as_history_error("the store refused a statement"):
            self._client.command(sql, parameters=parameters)

    def rows(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[Sequence[Any]]:
        """Return the rows of a query as Python values."""
        with _as_history_error("the store can't be read"):
            found: Sequence[Sequence[Any]] = self._client.query(
                sql, parameters=parameters
            ).result_rows
        return found

    def arrow(self, sql: str, parameters: Mapping[str, Any]) -> bytes:
        """Return the rows of a query as an Arrow IPC stream; no bytes where there are no rows."""
        with _as_history_error("the store can't be read"):
            return bytes(self._client.raw_query(sql, parameters=parameters, fmt="ArrowStream"))

    def insert_block(self, table: str, columns: Mapping[str, Column]) -> None:
        """Insert numpy columns; durable when it returns."""
        with _as_history_error(f"{table} did not take a batch"):
            block = native_block(columns)
            self._client.raw_insert(table, list(columns), block, fmt="Native")

    def insert_rows(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Insert columns of Python values; durable when it returns."""
        with _as_history_error(f"{table} did not take a batch"):
            self._client.insert(
                table, list(columns.values()), column_names=list(columns), column_oriented=True
            )

    def _migrate(self) -> None:
        if not int(self.rows(_COUNT_DATABASE, {"name": self._database})[0][0]):
            self.run(f"CREATE DATABASE IF NOT EXISTS {_quoted(self._database)}")
        self.use()
        self.run(_SCHEMA_VERSION)
        found = self.rows("SELECT version, namespace FROM schema_version FINAL")
        self._check_namespace({str(namespace) for _, namespace in found})
        has = max((int(version) for version, _ in found), default=0)
        steps = dict(_steps())
        if has > max(steps):
            msg = (
                f"database {self._database} has schema version {has}, this sessiontape knows "
                f"{max(steps)}: upgrade sessiontape"
            )
            raise HistoryError(msg)
        for version, statements in steps.items():
            if version > has:
                for statement in statements:
                    self.run(statement)
                self.insert_rows(
                    "schema_version",
                    {"version": [version], "namespace": [self._settings.namespace]},
                )

    def _check_namespace(self, found: set[str]) -> None:
        others = found - {self._settings.namespace}
        if others:
            msg = (
                f"database {self._database} belongs to namespace {min(others)}: name another one "
                "in SESSIONTAPE_CLICKHOUSE_DSN, or none to have one made for each namespace"
            )
            raise HistoryError(msg)


_COUNT_DATABASE = "SELECT count() FROM system.databases WHERE name = {name:String}"
_SCHEMA_VERSION = """
CREATE TABLE IF NOT EXISTS schema_version
(version UInt32, namespace String, applied DateTime('UTC') DEFAULT now())
ENGINE = ReplacingMergeTree ORDER BY version
"""


def _quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _steps() -> Iterator[tuple[int, list[str]]]:
    """Yield the version and the statements of every ``sql/NNN_*.sql``, in order."""
    folder = resources.files("sinks") / "sql"
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".sql"):
            text = file.read_text("utf-8")
            yield int(file.name[:3]), [s for s in text.split(";\n") if s.strip()]


def _server(settings: Settings) -> dict[str, Any]:
    """Return the arguments of ``get_client`` for the server that the DSN names."""
    try:
        parts = urlsplit(settings.clickhouse_dsn)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    schemes = {"clickhouse": False, "http": False, "clickhouses": True, "https": True}
    if parts.scheme not in schemes or not parts.hostname:
        # The value itself stays out of the message: it may hold a password.
        msg = (
            "SESSIONTAPE_CLICKHOUSE_DSN is no DSN: write clickhouse://user:password@host:port/"
            "database (clickhouses:// for TLS), or leave it empty for chDB"
        )
        raise ConfigError(msg)
    secure = schemes[parts.scheme]
    return {
        "host": parts.hostname,
        "port": port or (8443 if secure else 8123),
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "secure": secure,
        "database": unquote(parts.path.strip("/")),
    }


def _client(settings: Settings) -> Any:
    if settings.clickhouse_dsn:
        server = _server(settings)
        del server["database"]  # it may have to be made first
        place = f"{server['host']}:{server['port']}"
        try:
            return clickhouse_connect.get_client(
                **server, settings=_SETTINGS, connect_timeout=CONNECT_TIMEOUT_S, query_retries=0
            )
        except ClickHouseError as exc:
            msg = (
                f"no ClickHouse server lets us in at {place} ({_first_line(exc)}): "
                "start it or correct SESSIONTAPE_CLICKHOUSE_DSN"
            )
            raise HistoryError(msg) from exc
    folder = chdb_folder(settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return clickhouse_connect.get_client(
            interface="chdb", path=str(folder), settings=_CHDB_SETTINGS
        )
    except ImportError as exc:
        msg = "chDB is not installed: pip install 'sessiontape[local]', or set a ClickHouse DSN"
        raise HistoryError(msg) from exc
    except (ClickHouseError, OSError) as exc:
        msg = f"chDB can't open {folder}: {_first_line(exc)}"
        raise HistoryError(msg) from exc


@contextmanager
def _as_history_error(what: str) -> Iterator[None]:
    try:
        yield
    except (ClickHouseError, OSError) as exc:
        msg = f"{what}: {_first_line(exc)}"
        raise HistoryError(msg) from exc


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]
