"""A ClickHouse that holds one namespace: a server by DSN, or chDB in a folder."""

from __future__ import annotations

import logging
import re
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

__all__ = ["NoTapeError", "Store", "database_of"]

# What the client warns of it raises, too, and that is told in a sentence.
logging.getLogger("clickhouse_connect").setLevel(logging.ERROR)

DATABASE_PREFIX = "sessiontape_"
CONNECT_TIMEOUT_S = 5
LONGEST_REASON = 300

# Several sessions to a batch mean several partitions to an insert; and repeats inside a batch are
# left to the table: looking for them at every insert costs a third of its time.
_SETTINGS = {"max_partitions_per_insert_block": 0, "optimize_on_insert": 0, "async_insert": 0}
# On one machine the tape needs the other core.
_CHDB_SETTINGS = {**_SETTINGS, "max_threads": 1, "max_insert_threads": 1}


def database_of(settings: Settings) -> str:
    """Return the database of the namespace: the DSN's, else one named after the namespace."""
    named = _server(settings).get("database", "") if settings.clickhouse_dsn else ""
    return named or f"{DATABASE_PREFIX}{settings.namespace}"


class NoTapeError(HistoryError):
    """A server that has no tape of the namespace."""


class Store:
    """One namespace's tables.

    Not for several threads: each takes ``another()``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = database_of(settings)
        self._client = _client(settings)

    @classmethod
    def open(cls, settings: Settings, *, is_reader: bool = False) -> Self:
        """Connect, make the database and bring its schema up to date.

        For chDB the caller holds the ``FolderOwner``.

        Parameters
        ----------
        settings
            Where, and the namespace.
        is_reader
            Make nothing: who reads may have no right to, and a name that is misspelt no database.

        Raises
        ------
        ConfigError
            The DSN can't be read.
        NoTapeError
            A reader finds no tape there.
        HistoryError
            Nothing answers there, or the schema is of another version or another namespace.
        """
        store = cls(settings)
        try:
            if is_reader:
                store._look()
            else:
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
        steps = dict(_steps())
        has = self._version(max(steps))
        for version, statements in steps.items():
            if version > has:
                for statement in statements:
                    self.run(statement)
                self.insert_rows(
                    "schema_version",
                    {"version": [version], "namespace": [self._settings.namespace]},
                )

    def _look(self) -> None:
        """Find the tables as this version knows them."""
        if not int(self.rows(_COUNT_TABLES, {"name": self._database})[0][0]):
            msg = (
                f"database {self._database} has no tape: start a sink, which makes it, or correct "
                "SESSIONTAPE_CLICKHOUSE_DSN"
            )
            raise NoTapeError(msg)
        self.use()
        knows = max(dict(_steps()))
        has = self._version(knows)
        if has < knows:
            msg = (
                f"database {self._database} has schema version {has}, this sessiontape reads "
                f"{knows}: start its sink, which brings it up to date"
            )
            raise HistoryError(msg)

    def _version(self, knows: int) -> int:
        """Return the version of the schema, which is of our namespace and none that is newer."""
        found = self.rows("SELECT version, namespace FROM schema_version FINAL")
        self._check_namespace({str(namespace) for _, namespace in found})
        has = max((int(version) for version, _ in found), default=0)
        if has > knows:
            msg = (
                f"database {self._database} has schema version {has}, this sessiontape knows "
                f"{knows}: upgrade sessiontape"
            )
            raise HistoryError(msg)
        return has

    def _check_namespace(self, found: set[str]) -> None:
        others = found - {self._settings.namespace}
        if others:
            msg = (
                f"database {self._database} belongs to namespace {min(others)}: name another one "
                "in SESSIONTAPE_CLICKHOUSE_DSN, or none to have one made for each namespace"
            )
            raise HistoryError(msg)


_COUNT_DATABASE = "SELECT count() FROM system.databases WHERE name = {name:String}"
_COUNT_TABLES = """
SELECT count() FROM system.tables WHERE database = {name:String} AND name = 'schema_version'
"""
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
                f"no ClickHouse server lets us in at {place} ({_reason(exc)}): "
                "start it or correct SESSIONTAPE_CLICKHOUSE_DSN"
            )
            if getattr(exc, "code", None) in _NOT_LET_IN:
                msg = (
                    f"the ClickHouse server at {place} does not let {server['username']} in: "
                    "correct user and password in SESSIONTAPE_CLICKHOUSE_DSN"
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
        msg = f"chDB can't open {folder}: {_reason(exc)}"
        raise HistoryError(msg) from exc


@contextmanager
def _as_history_error(what: str) -> Iterator[None]:
    try:
        yield
    except (ClickHouseError, OSError) as exc:
        msg = f"{what}: {_reason(exc)}"
        raise HistoryError(msg) from exc


# What the engine says, without what the client and the server put around it.
_SAID = re.compile(r"DB::Exception: (.+? \([A-Z][A-Z_]+\))", re.DOTALL)
# REQUIRED_PASSWORD, AUTHENTICATION_FAILED and what older servers say: UNKNOWN_USER, WRONG_PASSWORD.
_NOT_LET_IN = (194, 516, 192, 193)


def _reason(exc: BaseException) -> str:
    """Return what went wrong in one line: the engine's words, or what the connection ended by."""
    text = str(exc)
    said = _SAID.search(text)
    inner: BaseException | None = exc
    while inner is not None and said is None:
        if isinstance(inner, OSError):
            text = inner.strerror or str(inner)
        inner = inner.__cause__ or inner.__context__
    words = (said[1] if said else text).split()
    return " ".join(words)[:LONGEST_REASON] or type(exc).__name__
