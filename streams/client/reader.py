"""What a stream reads frames from, and where on the tape it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from schemas import Frame
from streams.client.batch import PLACES, ROWS, Position
from streams.errors import ConfigError

__all__ = ["DeliveredFrame", "Reader", "Start", "clock_behind", "first_position"]

Start: TypeAlias = str | int | Mapping[int, int]
"""Where a stream begins, ``"session"``, ``"first"``, ``"now"`` or more: see `SessionStream`."""

_ANY_REPEAT = 2**31 - 1


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
    Topics of derived bars come as more shards: of ``n`` shards, shard ``s`` of the ``k``-th topic
    is ``k * n + s``; the frames there say the length of their bars as ``interval_ns``.
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


def clock_behind(frame: Frame) -> int:
    """Return up to which ready time everything was delivered with a frame, ns.

    Quotes and ticks of the very time of the open are still to come behind the open frame.
    """
    return frame.clock_ns - 1 if frame.event == "open" else frame.clock_ns


def first_position(
    start: Start, reader: Reader, last: Mapping[int, DeliveredFrame | None]
) -> Position:
    """Return where a stream that begins at ``start`` reads first, given each shard's last frame.

    Raises
    ------
    ConfigError
        Another word, or a position of other shards.
    """
    if isinstance(start, Mapping):
        if set(start) != set(last):
            msg = (
                f"the position is one of the shards {sorted(start)}, the tape has {sorted(last)}: "
                "go on with the intervals it was taken with"
            )
            raise ConfigError(msg)
        return start if isinstance(start, Position) else Position(dict(start))
    starts = dict(reader.starts())
    if start == "now":
        return _behind(last, starts)
    if start == "session":
        return Position({shard: _open_offset(last[shard], starts[shard]) for shard in last})
    if start == "first" or isinstance(start, int):
        return Position(starts)
    msg = f"a stream starts at session, first, now, a time in ns or a position, not {start!r}"
    raise ConfigError(msg)


def _behind(last: Mapping[int, DeliveredFrame | None], starts: Mapping[int, int]) -> Position:
    """Return the position behind everything; what only some shards have said counts as said."""
    there = {shard: delivered for shard, delivered in last.items() if delivered is not None}
    offsets = {**starts, **{shard: delivered.offset + 1 for shard, delivered in there.items()}}
    clocks = {shard: (clock_behind(delivered.frame), 0) for shard, delivered in there.items()}
    if not there:
        return Position(offsets)
    furthest = max((delivered.frame for delivered in there.values()), key=clock_behind)
    # The session that a roll names, or that is waited for, is still to be opened.
    is_to_come = furthest.event == "roll" or furthest.waiting
    place = PLACES["roll"] if is_to_come else ROWS
    clock_ns = clock_behind(furthest)
    return Position(offsets, clocks, furthest.run, furthest.session, place, clock_ns, _ANY_REPEAT)


def _open_offset(last: DeliveredFrame | None, start: int) -> int:
    """Return where the session that a shard stands in, or stood in last, was opened."""
    if last is None:
        return start
    if last.frame.event == "open" or last.frame.open_offset < 0:
        return last.offset
    return max(last.frame.open_offset, start)
