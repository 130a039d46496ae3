"""What a stream reads frames from, and where on the tape it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from schemas import Frame
from streams.client.batch import Position
from streams.errors import ConfigError

__all__ = ["DeliveredFrame", "Reader", "Start", "first_offsets"]

Start: TypeAlias = Literal["session", "first", "now"] | int | Mapping[int, int]
"""Where a stream begins: see `SessionStream`."""


class DeliveredFrame(Protocol):
    """A frame and the offset at which it stands in its shard's partition."""

    @property
    def frame(self) -> Frame:
        """The frame."""
        ...

    @property
    def offset(self) -> int:
        """Its offset."""
        ...


class Reader(Protocol):
    """Gives the frames of each shard in order, each once; a hole is an error.

    Delivery: from the offsets assigned on, every committed frame. `FrameReader` is one over Kafka.
    """

    def assign(self, offsets: Mapping[int, int]) -> None:
        """Read on from these offsets, one a shard."""
        ...

    def poll(self, timeout_s: float = ...) -> Sequence[DeliveredFrame]:
        """Return the frames that came; empty after ``timeout_s``."""
        ...

    def last(self) -> Mapping[int, DeliveredFrame | None]:
        """Return the last committed frame of every shard."""
        ...

    def starts(self) -> Mapping[int, int]:
        """Return the first offset that every shard still has."""
        ...

    def ends(self) -> Mapping[int, int]:
        """Return the offset behind the last committed frame of every shard."""
        ...

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets for the reader's group."""
        ...

    def close(self) -> None:
        """Leave the brokers."""
        ...


def first_offsets(
    start: Start, reader: Reader, last: Mapping[int, DeliveredFrame | None]
) -> dict[int, int]:
    """Return the offset of every shard at which a stream that begins at ``start`` reads first.

    Raises
    ------
    ConfigError
        Another word, or a position of other shards.
    """
    if isinstance(start, Mapping):
        if set(start) != set(last):
            msg = f"the position is one of the shards {sorted(start)}, the tape has {sorted(last)}"
            raise ConfigError(msg)
        return dict(start)
    if start == "now":
        return dict(reader.ends())
    starts = dict(reader.starts())
    if start == "session":
        return {shard: _open_offset(last[shard], starts[shard]) for shard in last}
    if start == "first" or isinstance(start, int):
        return starts
    msg = f"a stream starts at session, first, now, a time in ns or a position, not {start!r}"
    raise ConfigError(msg)


def _open_offset(last: DeliveredFrame | None, start: int) -> int:
    """Return where the session that a shard stands in, or stood in last, was opened."""
    if last is None:
        return start
    if last.frame.event == "open" or last.frame.open_offset < 0:
        return last.offset
    return max(last.frame.open_offset, start)


def is_place(start: Start) -> bool:
    """Tell whether a start is a position that a stream gave out."""
    return isinstance(start, Position)
