"""What a feed is: a small protocol, one file a vendor.

Delivery: a feed gives what its vendor sends, in the order in which it came, and reconnects by
itself, for as long as it is asked. What it may have missed it says by ``Regained``: whoever reads
it asks a source for that time, and for the bars of some minutes before it, which may have been set
right meanwhile. It keeps no position: rows that come twice are dropped by the tape.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from schemas import BarBlock, Halt, QuoteBlock, TickBlock
from streams.intervals import MINUTE_NS

__all__ = ["EARLIER_NS", "Clock", "Event", "Feed", "Heard", "Lost", "Regained"]

EARLIER_NS = 5 * MINUTE_NS
"""A bar that was ready so long before a loss may have been corrected while nobody listened."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A feed has given all it has of some symbols up to a time.

    Attributes
    ----------
    streams
        Streams it is about: bars, quotes, ticks.
    symbols
        Symbols it is about.
    until_ns
        Ready time, inclusive, up to which nothing more is to come; corrections aside.
    """

    streams: tuple[str, ...]
    symbols: tuple[str, ...]
    until_ns: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone, or was never there; the feed tries again by itself.

    Attributes
    ----------
    reason
        Why, for people.
    at_ns
        Tape time at which it was noticed.
    again_s
        Wall seconds until it tries again.
    """

    reason: str
    at_ns: int
    again_s: float


@dataclass(frozen=True, slots=True)
class Regained:
    """The feed is connected and has subscribed; what came since ``since_ns`` may be missed.

    It stands in front of all rows of a connection, the first one too.

    Attributes
    ----------
    since_ns
        Tape time up to which nothing is missed; 0 at the first connection: nothing is known.
    at_ns
        Tape time from which on nothing is missed.
    """

    since_ns: int
    at_ns: int


Event: TypeAlias = BarBlock | QuoteBlock | TickBlock | Halt | Heard | Lost | Regained


class Clock(Protocol):
    """Tells the time of the tape: that of the wall, or another in a rehearsal or a test."""

    def now_ns(self) -> int:
        """Return the time, ns since the epoch, UTC."""
        ...

    async def until(self, ts_ns: int) -> None:
        """Return when it is ``ts_ns`` or later."""
        ...


@runtime_checkable
class Feed(Protocol):
    """Gives rows as they happen."""

    @property
    def name(self) -> str:
        """How it calls itself in the source field of blocks."""
        ...

    @property
    def settled_ns(self) -> int:
        """So long after a time its vendor's history is final; 0: it always is."""
        ...

    def events(
        self, symbols: Sequence[str], streams: Sequence[str], clock: Clock
    ) -> AsyncIterator[Event]:
        """Give what comes, until cancelled; a fault of the connection is `Lost`, not an error.

        Blocks hold closed bars, quotes or ticks with ``source`` left empty: whoever reads the feed
        stamps them. A bar that the vendor sends again has a higher revision.

        Raises
        ------
        SourceError
            The vendor refuses us for good: wrong credentials, an unknown symbol, no permission.
        """
        ...
