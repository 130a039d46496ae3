"""What a message of a raw partition comes to: rows, a note, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.records import Coverage, DataRequest, Halt, Ints, Longs, Record
from streams.kinds import Block, One, Rows

__all__ = ["Arrival", "AsCame", "Clock", "Noted", "Rejection"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A message, or some rows of it, that could not be taken.

    Attributes
    ----------
    offset
        Offset of the message on the raw topic.
    reason
        Why, for people.
    what
        The message as it came, or the rows in question as a record.
    topic
        The raw topic.
    """

    offset: int
    reason: str
    what: bytes | Record
    topic: str = ""


@dataclass(frozen=True, slots=True)
class AsCame:
    """Rows as they came: their offsets, sources (one or one a row), and messages of one row."""

    offsets: Longs
    block: Block
    sources: Ints | np.int32
    ones: list[One] | None

    def take(self, at: NDArray[np.intp]) -> AsCame:
        """Return the rows at some places."""
        ones = None if self.ones is None else [self.ones[n] for n in at.tolist()]
        return AsCame(self.offsets[at], self.block.take(at), self.sources, ones)


@dataclass(frozen=True, slots=True)
class Clock:
    """Where a shard stands when its messages are sorted.

    Attributes
    ----------
    run
        Id of the run.
    number
        Number of the session that plays or comes.
    is_open
        Whether it is open.
    clock_ns
        What is ready by then is out, of the session that plays: the session clock, or just before
        it where the first slice is still to come.
    """

    run: str
    number: int
    is_open: bool
    clock_ns: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """Rows of one session that came.

    Attributes
    ----------
    number
        Number of the session.
    rows
        The rows, in the order in which they came.
    request
        Id of the request that they answer; empty for none.
    is_new
        Whether no earlier owner has looked at them.
    is_late
        Whether they are from behind the clock: those are kept for `Inbox.take_late`.
    origin, places
        The rows as they came, and the places of these among them; None for all.
    """

    number: int
    rows: Rows
    request: str
    is_new: bool
    is_late: bool
    origin: AsCame
    places: NDArray[np.intp] | None


@dataclass(frozen=True, slots=True)
class Noted:
    """A coverage, a halt, or a request that somebody has sent for the shard; see `Arrival`."""

    record: Coverage | DataRequest | Halt
    is_new: bool
