"""What becomes of SIGINT and SIGTERM where they come at a bad moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["interrupts", "uninterrupted"]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put SIGINT and SIGTERM off to the end of the block, which is to be short.

    Between the start of a process and the name it gets here, an interrupt would leave it to nobody.
    Threads but the first are never interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def interrupts() -> Iterator[None]:
    """Let what a signal's handler raises come out as it is.

    Raised while confluent-kafka was in C, it comes as the cause of a ``SystemError``.
    """
    try:
        yield
    except SystemError as exc:
        if isinstance(exc.__cause__, KeyboardInterrupt | SystemExit):
            raise exc.__cause__ from None
        raise
