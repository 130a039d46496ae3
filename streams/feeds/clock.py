"""The time of a live run: that of the wall, or of a rehearsal at its own speed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from streams.calendar import Session
from streams.feeds.protocol import Clock
from streams.intervals import SECOND_NS
from streams.plan import Plan

__all__ = ["SessionClock", "TapeClock"]

LONGEST_S = 1.0
"""Longest sleep: the clock of the wall may be set meanwhile."""


@runtime_checkable
class SessionClock(Clock, Protocol):
    """A clock that knows what is played by it."""

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Sessions of the run, ascending."""
        ...

    @property
    def interval_ns(self) -> int:
        """Length of the bars of the run."""
        ...


class TapeClock:
    """The time of the tape of a live run; see `Plan.now_ns`.

    Parameters
    ----------
    plan
        The run.
    wall
        Tells the time of the wall, ns since the epoch, UTC.
    """

    def __init__(self, plan: Plan, wall: Callable[[], int] = time.time_ns) -> None:
        self._plan = plan
        self._wall = wall

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Sessions of the run, ascending."""
        return self._plan.sessions

    @property
    def interval_ns(self) -> int:
        """Length of the bars of the run."""
        return self._plan.interval_ns

    def now_ns(self) -> int:
        """Return the time of the tape, ns since the epoch, UTC."""
        return self._plan.now_ns(self._wall())

    async def until(self, ts_ns: int) -> None:
        """Return when the tape is at ``ts_ns`` or later; others have their turn in any case."""
        await asyncio.sleep(0)
        while (left_ns := self._plan.wall_at(ts_ns) - self._wall()) > 0:  # noqa: ASYNC110 - a clock
            await asyncio.sleep(min(left_ns / SECOND_NS, LONGEST_S))
