"""Where a worker can be asked how it is: ``/metrics`` for Prometheus, ``/health`` for who keeps it.

Both are answered by a thread of their own, so they come also from a worker that hangs; that it
hangs is what ``/health`` says then.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app

from streams.errors import SessiontapeError
from streams.metrics import REGISTRY, WORKER_INFO
from streams.settings import Settings

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["BEAT_S", "Health", "served"]

BEAT_S = 1.0
"""A worker's loop says at least so often how it is, unless it waits for the brokers."""
SILENT_S = 60.0
"""A loop that said nothing for so long hangs."""
PATIENCE_S = 5.0
"""A worker that was killed holds its port until the last of its threads is gone."""
POLL_S = 0.05
TEXT = ("Content-Type", "text/plain; charset=utf-8")


class Health:
    """What a worker says of itself, told by its loop.

    Parameters
    ----------
    clock
        Tells the seconds of the wall, from any start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # One value: it is set and read by two threads.
        self._said: tuple[float, str] = (clock(), "it has not begun")

    def beat(self, problem: str = "") -> None:
        """Say that the loop goes round, and what the worker lacks; empty for nothing."""
        self._said = (self._clock(), problem)

    def problem(self) -> str:
        """Return in one sentence why the worker can't work; empty where it can."""
        at_s, problem = self._said
        silent_s = self._clock() - at_s
        if silent_s >= SILENT_S:
            return f"its loop has said nothing for {silent_s:.0f} s"
        return problem


@contextmanager
def served(settings: Settings, worker: str, health: Health) -> Iterator[int]:
    """Serve metrics and health at ``metrics_host:metrics_port``; give the port, 0 for none.

    Raises
    ------
    SessiontapeError
        The port can't be had.
    """
    if not settings.metrics_port:
        yield 0
        return
    WORKER_INFO.labels(settings.namespace, worker, version("sessiontape")).set(1)
    server = _server(settings.metrics_host, settings.metrics_port, _app(health))
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _app(health: Health) -> WSGIApplication:
    metrics: WSGIApplication = make_wsgi_app(REGISTRY)

    def app(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start)
        if path == "/health":
            problem = health.problem()
            start("503 Service Unavailable" if problem else "200 OK", [TEXT])
            return [f"{problem or 'ok'}\n".encode()]
        start("404 Not Found", [TEXT])
        return [b"there are /metrics and /health\n"]

    return app


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Say nothing: it would be a line a scrape."""


def _server(host: str, port: int, app: WSGIApplication) -> WSGIServer:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)

            class Server(ThreadingWSGIServer):
                address_family = found[0][0]

            return make_server(host, port, app, Server, _Quiet)
        except OSError as exc:
            if time.monotonic() >= deadline_s or isinstance(exc, socket.gaierror):
                why = exc.strerror or exc
                msg = f"metrics can't be served at {host}:{port} ({why}): "
                hint = "choose another SESSIONTAPE_METRICS_PORT or SESSIONTAPE_METRICS_HOST"
                raise SessiontapeError(msg + hint) from exc
            time.sleep(POLL_S)
