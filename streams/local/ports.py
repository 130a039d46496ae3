"""Free ports of this machine."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

__all__ = ["hold"]

_POLL_S = 0.02


def hold(held: ExitStack, host: str, port: int = 0, *, patience_s: float = 0) -> int | None:
    """Take a port until the stack closes, so that no two choices are the same.

    Parameters
    ----------
    held
        Closing it lets the port go.
    host, port
        Address; port 0 takes any free one.
    patience_s
        Seconds to wait for it: a process that was killed holds its port until the last of its
        threads is gone.

    Returns
    -------
    int | None
        The port, or None if somebody else has it.
    """
    deadline_s = time.monotonic() + patience_s
    while True:
        listener = socket.socket()
        # As servers do: connections of the last run that linger must not count as taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()
        except OSError:
            listener.close()
            if time.monotonic() >= deadline_s:
                return None
            time.sleep(_POLL_S)
        else:
            return int(held.enter_context(listener).getsockname()[1])
