"""ClickHouse's engine without its server: chDB behind as much of its HTTP as our client needs.

For tests on machines that can have no ClickHouse server. It takes the variables of the official
image (``CLICKHOUSE_DB``, ``CLICKHOUSE_USER``, ``CLICKHOUSE_PASSWORD``); what it answers, tables,
inserts and errors are the engine's own. It has one user who may do all, no TLS, no sessions, no
progress headers, and no limit to how many may ask. https://clickhouse.com/docs/interfaces/http
"""

from __future__ import annotations

import argparse
import base64
import email
import gzip
import hmac
import os
import re
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import chdb

NO_SETTINGS = {
    *("query", "database", "user", "password", "quota_key", "role", "default_format"),
    *("session_id", "session_timeout", "session_check", "query_id", "client_protocol_version"),
    *("buffer_size", "wait_end_of_query", "compress", "decompress", "stacktrace"),
    "enable_http_compression",
}
"""What a URL may say that is no setting of the engine."""

INSERT = re.compile(
    rb"\s*(INSERT\s+INTO\s+[^;']+?)\s+FORMAT\s+(?!VALUES\b)(\w+)[ \t]*(?:\r?\n|$)", re.IGNORECASE
)
GIVES_ROWS = re.compile(r"\s*(?:SELECT|WITH|SHOW|DESC|DESCRIBE|EXISTS|EXPLAIN|CHECK)\b", re.I)
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
CODE = re.compile(r"Code: (\d+)\.")
NAME = re.compile(r"[A-Za-z_]\w*")
STATUSES = {62: 400, 36: 400, 115: 404, 47: 404, 60: 404, 81: 404, 516: 403}
"""HTTP status by code of the engine; any other is 500."""


class Question(NamedTuple):
    """What a request asks.

    Attributes
    ----------
    values
        Of its URL and its form.
    sql
        The query, and what stands behind it.
    """

    values: Mapping[str, str]
    sql: bytes


class Engine:
    """chDB in a folder; each question has a connection of its own, and so settings of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._kept = chdb.connect(self._folder)  # the engine ends with its last connection
        self.version, self.zone = self.ask("SELECT version(), timezone()").split("\t")

    def close(self) -> None:
        """Let go of the folder."""
        self._kept.close()

    def ask(self, sql: str) -> str:
        """Return the answer to a query of our own."""
        with self._connection() as connection:
            return bytes(connection.query(sql, "TabSeparated").bytes()).decode().rstrip("\n")

    def answer(self, question: Question) -> bytes:
        """Return the answer as the query's format has it.

        Raises
        ------
        RuntimeError
            The engine refused; its own words.
        """
        values = question.values
        with self._connection() as connection:
            for name, value in values.items():
                if name not in NO_SETTINGS and not name.startswith("param_"):
                    if not NAME.fullmatch(name):
                        msg = f"Code: 115. DB::Exception: No setting {name!r} (UNKNOWN_SETTING)"
                        raise RuntimeError(msg)
                    connection.query(f"SET {name} = {_text(value)}")
            if values.get("database"):
                connection.query(f"USE {_name(values['database'])}")
            insert = INSERT.match(question.sql)
            if insert:
                data = question.sql[insert.end() :]
                _insert(connection, insert[1].decode(), insert[2].decode(), data)
                return b""
            bound = {
                name.removeprefix("param_"): value
                for name, value in values.items()
                if name.startswith("param_")
            }
            form = values.get("default_format", "TabSeparated")
            return bytes(connection.query(question.sql.decode(), form, params=bound).bytes())

    def unpacked(self, data: bytes, method: str) -> bytes:
        """Return a body that came compressed; the engine knows each method that clients know."""
        with self._connection() as connection, _file(data) as path:
            read = "SELECT b FROM file({path:String}, 'RawBLOB', 'b String', {method:String})"
            bound = {"path": path, "method": method}
            return bytes(connection.query(read, "RawBLOB", params=bound).bytes())

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        with closing(chdb.connect(self._folder)) as connection:
            yield connection


def _insert(connection: Any, statement: str, form: str, data: bytes) -> None:
    with _file(data) as path:
        connection.query(f"{statement} FROM INFILE {_text(path)} FORMAT {form}")


@contextmanager
def _file(data: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.name


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _name(value: str) -> str:
    return "`" + value.replace("\\", "\\\\").replace("`", "\\`") + "`"


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Say that it lives, or answer."""
        if urlsplit(self.path).path == "/ping":
            self._reply(200, b"Ok.\n", {})
        else:
            self.do_POST()

    def do_POST(self) -> None:
        """Answer a query, or say with its code why not."""
        headers = {"X-ClickHouse-Timezone": self.server.engine.zone}
        try:
            question = self._question()
            headers["X-ClickHouse-Query-Id"] = question.values.get("query_id") or str(uuid.uuid4())
            self._check_user(question.values)
            answer = self.server.engine.answer(question)
        except RuntimeError as exc:
            code = int((CODE.search(str(exc)) or ["", "1002"])[1])
            said = f"{exc} (version {self.server.engine.version})\n".encode()
            headers["X-ClickHouse-Exception-Code"] = str(code)
            self._reply(STATUSES.get(code, 500), said, headers)
            return
        sql = question.sql.decode(errors="replace")
        if GIVES_ROWS.match(sql):
            named = FORMAT.search(sql)
            default = question.values.get("default_format", "TabSeparated")
            headers["X-ClickHouse-Format"] = named[1] if named else default
        can_unpack = "gzip" in self.headers.get("Accept-Encoding", "")
        if can_unpack and question.values.get("enable_http_compression") == "1":
            answer = gzip.compress(answer, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        self._reply(200, answer, headers)

    def _question(self) -> Question:
        body = self._body()
        method = self.headers.get("Content-Encoding", "identity")
        if method != "identity":
            body = self.server.engine.unpacked(body, method)
        values = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):
            values |= _form(kind, body)
            body = b""
        before = values.get("query", "").encode()
        return Question(values, before + b"\n" + body if before and body else before or body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self._read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionResetError("the client left in the midst of its request")
        return data

    def _check_user(self, values: Mapping[str, str]) -> None:
        user = self.headers.get("X-ClickHouse-User", values.get("user", "default"))
        password = self.headers.get("X-ClickHouse-Key", values.get("password", ""))
        scheme, _, word = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            user, _, password = base64.b64decode(word).decode().partition(":")
        wanted = f"{self.server.user}:{self.server.password}".encode()
        if not hmac.compare_digest(f"{user}:{password}".encode(), wanted):
            msg = (
                f"Code: 516. DB::Exception: {user}: Authentication failed: password is incorrect, "
                "or there is no user with such name. (AUTHENTICATION_FAILED)"
            )
            raise RuntimeError(msg)

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: a URL holds the values of a query."""


def _form(kind: str, body: bytes) -> dict[str, str]:
    """Return the fields of a form."""
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    found = {}
    for part in message.walk():
        name = part.get_param("name", header="Content-Disposition")
        if isinstance(name, str):
            found[name] = bytes(part.get_payload(decode=True) or b"").decode()
    return found


class Server(ThreadingHTTPServer):
    """The engine at a port.

    Parameters
    ----------
    place
        Where it listens.
    engine, user, password
        What it asks, and who may.
    """

    daemon_threads = True

    def __init__(self, place: tuple[str, int], engine: Engine, user: str, password: str) -> None:
        super().__init__(place, Handler)
        self.engine, self.user, self.password = engine, user, password


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="Serve chDB as ClickHouse's HTTP interface does.")
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - a container's port
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--folder", type=Path, default=Path("/var/lib/clickhouse"))
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with closing(Engine(arguments.folder)) as engine:
        database = os.environ.get("CLICKHOUSE_DB")
        if database:
            engine.ask(f"CREATE DATABASE IF NOT EXISTS {_name(database)}")
        user = os.environ.get("CLICKHOUSE_USER", "default")
        password = os.environ.get("CLICKHOUSE_PASSWORD", "")
        with Server((arguments.host, arguments.port), engine, user, password) as server:
            sys.stderr.write(f"chDB {engine.version} at port {server.server_port}\n")
            server.serve_forever()


if __name__ == "__main__":
    main()
