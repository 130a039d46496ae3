"""What a sink is: somewhere that the tape is written to, with a guarantee and a resume point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from streams.positions import Delivered

__all__ = ["Sink"]


class Sink(Protocol):
    """A place that the frames of one topic are written to.

    Delivery guarantee: at least once on the wire, once to its readers. A frame may be written
    again after a crash; a sink keys what it writes by (run, shard, row number) or by what the row
    is, so that the repeat replaces the first. Nothing is committed that ``flush`` did not name.

    Resume point: ``resume`` names the offsets to read on from. A sink that keeps its position
    beside its results wins over the group's committed offsets, which may be those of another one.

    Every method is called by one thread.
    """

    def resume(
        self, committed: Mapping[int, int | None], starts: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Return the offset to read on from, by shard.

        Parameters
        ----------
        committed
            Offsets that the sink's group has committed, None where it has none.
        starts
            First offset that each shard still has.
        """
        ...

    def write(self, delivered: Sequence[Delivered]) -> None:
        """Take frames, those of a shard in order; they need not be durable when it returns."""
        ...

    def flush(self) -> Mapping[int, int]:
        """Make durable what was taken; return the offset behind it by shard, empty if nothing was.

        When it raises, what was taken is not durable and must be read again.
        """
        ...

    @property
    def is_behind(self) -> bool:
        """Whether ``flush`` has something to write although nothing was taken since the last."""
        ...

    def close(self) -> None:
        """Let go of what it holds, without a flush."""
        ...
