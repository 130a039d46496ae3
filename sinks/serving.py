"""History asked of the process that owns the folder: queries as JSON, answers as Arrow IPC.

On the loopback interface, behind a secret that only the owner's user can read. Nothing is pickled.
"""

from __future__ import annotations

import logging
import secrets
import socketserver
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import Self

from sinks.owner import FolderOwner, owner_of
from sinks.queries import Query, answer
from sinks.store import Store
from streams.errors import HistoryError
from streams.settings import Settings

__all__ = ["HistoryServer", "ask"]

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 120.0
QUERY_BYTES = 10_000_000
_FOUND, _FAILED = b"A", b"E"


class HistoryServer:
    """Answers history from the store of this process, in threads of its own.

    Parameters
    ----------
    store
        The store of the sink; a connection of its own is made to it.
    owner
        Where it is announced.
    """

    def __init__(self, store: Store, owner: FolderOwner) -> None:
        self._store = store.another()
        self._lock = threading.Lock()
        self._key = secrets.token_bytes(32)
        self._server = _Server(("127.0.0.1", 0), self._handle)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="history", daemon=True
        )
        self._thread.start()
        owner.announce(int(self._server.server_address[1]), self._key)

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop answering."""
        self.close()

    def close(self) -> None:
        """Stop answering; an answer under way is finished."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with self._lock:
            self._store.close()

    def _handle(self, connection: Connection) -> None:
        deliver_challenge(connection, self._key)
        answer_challenge(connection, self._key)
        try:
            query = Query.from_json(connection.recv_bytes(QUERY_BYTES))
            with self._lock:
                found = answer(self._store, query)
        except (HistoryError, ValueError, TypeError, KeyError) as exc:
            log.warning("history: %s", exc)
            connection.send_bytes(_FAILED + str(exc).encode())
        else:
            connection.send_bytes(_FOUND + found)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handle: object) -> None:
        self.handle = handle
        super().__init__(address, _Handler)


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.request.settimeout(None)
        with Connection(self.request.detach()) as connection:
            try:
                self.server.handle(connection)  # type: ignore[operator]
            except (AuthenticationError, EOFError, OSError) as exc:
                log.warning("history: a caller left or has not the key: %r", exc)


def ask(settings: Settings, query: Query) -> bytes | None:
    """Return the answer of the process that owns the folder; None where none owns or answers.

    Raises
    ------
    HistoryError
        It answered that it can't, or not at all in ``ANSWER_TIMEOUT_S``.
    """
    owner = owner_of(settings)
    if owner is None or not owner.port:
        return None
    try:
        connection = Client(("127.0.0.1", owner.port), authkey=owner.key)
    except (OSError, EOFError, AuthenticationError):
        return None  # left behind by one that was killed
    with connection:
        connection.send_bytes(query.to_json())
        if not connection.poll(ANSWER_TIMEOUT_S):
            msg = f"the sink (process {owner.pid}) did not answer in {ANSWER_TIMEOUT_S:.0f} s"
            raise HistoryError(msg)
        try:
            said = connection.recv_bytes()
        except (EOFError, OSError) as exc:
            msg = f"the sink (process {owner.pid}) went away while it answered: ask again"
            raise HistoryError(msg) from exc
    if said[:1] == _FAILED:
        raise HistoryError(said[1:].decode())
    return said[1:]
