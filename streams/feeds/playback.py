"""A feed that plays a source on the clock of a run as if it happened.

URI: ``playback:SOURCE``, such as ``playback:lean:DIR``. A row is given when it is ready, never
before; what the clock has passed meanwhile comes together. It vouches at the end of each bar, and
behind the rows of each moment. One session is loaded ahead of the one that plays. What the source
can't read as rows is counted in the log: who asks the source for the gap is told.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from streams.calendar import Session
from streams.errors import SourceError
from streams.feeds.clock import SessionClock
from streams.feeds.protocol import Clock, Event, Lost, Regained
from streams.feeds.script import Cue, Script, Window, ready_ns
from streams.sources.packing import joined
from streams.sources.protocol import Answer, BadRow, Block, Source

__all__ = ["Playback", "read_script"]

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Playback:
    """The source, and what is made of its sessions.

    Attributes
    ----------
    source
        Where rows come from.
    rehearse
        Given a session as it was, returns it as it is given.
    """

    source: Source
    rehearse: Callable[[Script], Script] = lambda script: script

    @property
    def name(self) -> str:
        """Name of the source: the rows are its."""
        return self.source.name

    @property
    def settled_ns(self) -> int:
        """0: what is played back is final."""
        return 0

    async def events(
        self, symbols: Sequence[str], streams: Sequence[str], clock: Clock
    ) -> AsyncIterator[Event]:
        """Give the sessions of a run that are not over, then end.

        Raises
        ------
        SourceError
            The source can't be read at all, or the clock knows of no sessions.
        """
        if not isinstance(clock, SessionClock):
            reason = "what is played back needs the clock of a run"
            raise SourceError(reason, path=self.name)
        at_ns = clock.now_ns()
        yield Regained(0, at_ns)
        coming = [session for session in clock.sessions if session.close_ns >= at_ns]

        def load(session: Session) -> asyncio.Future[Script]:
            return _in_thread(lambda: self._script(session, symbols, streams, clock.interval_ns))

        ahead = load(coming[0]) if coming else None
        try:
            for number, session in enumerate(coming, 1):
                script = await (ahead or load(session))
                ahead = load(coming[number]) if number < len(coming) else None
                async for event in _play(script, max(at_ns, session.open_ns) - 1, clock):
                    yield event
        finally:
            if ahead is not None:
                ahead.cancel()

    def _script(
        self, session: Session, symbols: Sequence[str], streams: Sequence[str], interval_ns: int
    ) -> Script:
        script = read_script(self.source, session, symbols, streams, interval_ns)
        return self.rehearse(script)


def read_script(
    source: Source,
    session: Session,
    symbols: Sequence[str],
    streams: Sequence[str],
    interval_ns: int,
) -> Script:
    """Return a session as it happened, from a source."""
    cues = {}
    for stream in streams:
        blocks: list[Block] = []
        bad = 0
        for part in source.load(
            stream, tuple(symbols), session.open_ns, session.close_ns, interval_ns
        ):
            if isinstance(part, BadRow):
                bad += 1
            elif not isinstance(part, Answer) and len(part):
                blocks.append(part)
        if bad:
            log.warning("session=%s %s: %d rows can't be read", session.label, stream, bad)
        if blocks:
            rows: Block = joined(blocks)
            ready = ready_ns(rows)
            order = np.argsort(ready, kind="stable")
            order = order[ready[order] <= session.close_ns]
            cues[stream] = Cue(rows.take(order), ready[order], np.zeros(len(order), np.bool_))
    return Script(session, interval_ns, tuple(symbols), tuple(streams), cues)


async def _play(script: Script, after_ns: int, clock: Clock) -> AsyncIterator[Event]:
    """Give what a session has behind a time, as the clock goes."""
    close_ns = script.session.close_ns
    windows: tuple[Window | None, ...] = (*script.away, None)
    for window in windows:
        if window is not None and window.end_ns <= after_ns:
            continue
        stop_ns = close_ns if window is None else window.start_ns
        while after_ns < stop_ns:
            await clock.until(min(script.next_ns(after_ns), stop_ns))
            until_ns = min(clock.now_ns(), stop_ns)
            for event in script.between(after_ns, until_ns):
                yield event
            after_ns = until_ns
        if window is not None:
            yield Lost("the rehearsal cuts the connection", after_ns, 0.0)
            await clock.until(window.end_ns)
            yield Regained(after_ns, window.end_ns)
            after_ns = window.end_ns - 1


def _in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Do something in a thread of its own, a daemon: a source that hangs keeps no process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as exc:  # noqa: BLE001 - it is the caller's
            error = exc
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name="playback", daemon=True).start()
    return future
