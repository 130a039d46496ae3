"""ClickHouse servers of the tests' own: an image, or the engine behind the same HTTP interface.

Each keeps its port and its tables when it is killed and started again.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from testcontainers.core.container import DockerContainer

from streams.local import ports

__all__ = ["Cut", "Engine", "Image", "Server", "dsn_of", "of_the_environment"]

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "deploy" / "images" / "local" / "clickhouse" / "server.py"
IMAGE = "SESSIONTAPE_CLICKHOUSE_IMAGE"
"""Variable that names an image; without it the engine is served."""

USER = "sessiontape"
UP_S = 60.0
CHUNK = 1 << 16


class Server(Protocol):
    """One that can be killed; its user is ``sessiontape``, with that password.

    Attributes
    ----------
    port
        On this host.
    """

    port: int

    def start(self) -> None:
        """Start it, again too, and wait until it answers."""
        ...

    def kill(self) -> None:
        """End it with -9."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


def of_the_environment(folder: Path) -> Server:
    """Return the server that the tests are to take; it is not started."""
    named = os.environ.get(IMAGE)
    return Image(named) if named else Engine(folder)


class Engine:
    """ClickHouse's engine as a process of its own, behind as much of its HTTP as we need."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._folder = folder
        self._log = folder.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        place = ("--host", "127.0.0.1", "--port", str(self.port), "--folder", str(self._folder))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), *place],
                env=os.environ | {"CLICKHOUSE_USER": USER, "CLICKHOUSE_PASSWORD": USER},
                stderr=log,
            )
        _await(self.port, self._log.read_text)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        assert self._process.wait(10) == -signal.SIGKILL

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)


class Image:
    """A server in a container: the official image, or one that takes its variables."""

    def __init__(self, name: str) -> None:
        self.port = _free_port()
        made = DockerContainer(name).with_bind_ports(8123, self.port)
        made.with_envs(CLICKHOUSE_USER=USER, CLICKHOUSE_PASSWORD=USER)
        self._container = made
        self._is_made = False

    def start(self) -> None:
        if self._is_made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._is_made = True
        _await(self.port, lambda: str(self._container.get_logs()))

    def kill(self) -> None:
        engine = self._container.get_wrapped_container()
        engine.kill("SIGKILL")
        assert engine.wait(timeout=30)["StatusCode"] == 128 + signal.SIGKILL

    def close(self) -> None:
        if self._is_made:
            self._container.stop()


def dsn_of(port: int, database: str, password: str = USER) -> str:
    """Return the DSN of a database of a server on this host."""
    return f"clickhouse://{USER}:{password}@127.0.0.1:{port}/{database}"


def _free_port() -> int:
    with ExitStack() as held:
        found = ports.hold(held, "127.0.0.1")
    assert found is not None
    return found


def _await(port: int, log: Callable[[], str]) -> None:
    """Wait until a server answers at a port."""
    deadline_s = time.monotonic() + UP_S
    while True:
        with suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
                assert answer.read() == b"Ok.\n"
            return
        assert time.monotonic() < deadline_s, log()
        time.sleep(0.02)


class Cut:
    """A port before a server's, that kills the server at a moment of one request.

    Parameters
    ----------
    server
        What is behind it.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._armed: tuple[bytes, bool] | None = None
        self._is_over = False
        self._thread = threading.Thread(target=self._accept)
        self.is_cut = threading.Event()
        """Set when the server was killed as ``at`` said."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over = True
        # A thread that waits for a connection gets one.
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listener.close()

    def at(self, words: bytes, *, has_answered: bool) -> None:
        """Kill the server at the next request with these words: in its midst, or when it is done.

        Either way the client has no answer.
        """
        self.is_cut.clear()
        self._armed = (words, has_answered)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._is_over:
                client.close()
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Hand requests and answers on until one side is closed."""
        with (
            client,
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self._server.port)) as server,
        ):
            is_last = False
            while True:
                readable, _, _ = select.select([client, server], [], [])
                if client in readable:
                    data = client.recv(CHUNK)
                    if not data:
                        return
                    armed = self._armed
                    if armed is not None and armed[0] in data:
                        self._armed = None
                        is_last = armed[1]
                        if not is_last:
                            server.sendall(data[: len(data) // 2])
                            self._kill()
                            return
                    server.sendall(data)
                if server in readable:
                    data = server.recv(CHUNK)
                    if is_last:
                        self._kill()
                    if is_last or not data:
                        return
                    client.sendall(data)

    def _kill(self) -> None:
        self._server.kill()
        self.is_cut.set()
