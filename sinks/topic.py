"""What the sinks into ClickHouse have in common: where they stand in their topic."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from schemas.records import Frame
from sinks.rows import GENERATION_BITS
from sinks.store import Store
from streams.errors import HoleError
from streams.positions import Delivered

__all__ = ["Position", "TopicSink"]

log = logging.getLogger(__name__)

Position = tuple[int, int, str]
"""Offset, number and run of the last stored frame of a shard."""


class TopicSink(ABC):
    """Writes the frames of one topic, and behind them where it stands.

    Delivery guarantee: at least once on the wire, once under FINAL. The order of delivery is the
    row number in the shard, which goes on from run to run. When the topic is read anew from its
    start, because it was made anew or the group's offsets are gone, a generation begins, whose
    rows win over all before.

    Resume point: the position is inserted last, so that what it names is wholly in the store.

    Parameters
    ----------
    store
        Where to; closed with the sink.
    topic
        Name of the topic.
    """

    def __init__(self, store: Store, topic: str) -> None:
        self._store = store
        self._topic = topic
        self._generation = 0
        self._known_frames: dict[int, tuple[int, str]] = {}
        self._buffer: list[Delivered] = []

    def resume(
        self, committed: Mapping[int, int | None], starts: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Return the offset to read on from: behind the last stored frame, or the start."""
        self._generation, stored = self._stored()
        if any(committed.get(shard) is None for shard in stored):
            # A topic made anew has no committed offsets. Nor has one whose group was forgotten,
            # and then the check of the first frame tells whether something lies between.
            self._generation += 1
            self._known_frames = {s: (frame, run) for s, (_, frame, run) in stored.items()}
            log.info("reading %s from its start, generation %d", self._topic, self._generation)
            return dict(starts)
        return {
            shard: min(offset or 0, stored[shard][0] + 1) if shard in stored else starts[shard]
            for shard, offset in committed.items()
        }

    def write(self, delivered: Sequence[Delivered]) -> None:
        """Take frames; they are written by ``flush``."""
        for item in delivered:
            self._check_first(item.frame)
        self._buffer += delivered

    def flush(self) -> Mapping[int, int]:
        """Insert what was taken; return the offset behind it, by shard."""
        taken, self._buffer = self._buffer, []
        if taken:
            self._insert(taken)
        return {d.frame.shard: d.offset + 1 for d in taken}

    @property
    def is_behind(self) -> bool:
        """Whether ``flush`` has something to write although nothing was taken since the last."""
        return False

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    @abstractmethod
    def _insert(self, taken: Sequence[Delivered]) -> None:
        """Insert the rows of frames, at least one, and then the position behind them."""

    def _stored(self) -> tuple[int, Mapping[int, Position]]:
        """Return the generation and, by shard, the position in it."""
        return self._positions(self._topic)

    def _positions(self, topic: str) -> tuple[int, Mapping[int, Position]]:
        """Return the generation of a topic and, by shard, the position in it."""
        found = self._store.rows(_POSITIONS, {"topic": topic})
        generation = max((int(g) for *_, g in found), default=0)
        return generation, {
            int(s): (int(offset), int(frame), str(run))
            for s, offset, frame, run, of in found
            if int(of) == generation
        }

    def _insert_position(self, taken: Sequence[Delivered], topic: str = "") -> None:
        """Insert, by shard, the position behind the last of some frames; default: of the topic."""
        last = {d.frame.shard: d for d in taken}
        frames = [d.frame for d in last.values()]
        numbers = [f.frame for f in frames]
        columns: dict[str, list[object]] = {
            "topic": [topic or self._topic] * len(last),
            "shard": list(last),
            "offset": [d.offset for d in last.values()],
            "frame": list(numbers),
            "run": [f.run for f in frames],
            "generation": [self._generation] * len(last),
            "version": [(self._generation << GENERATION_BITS) + number for number in numbers],
        }
        self._store.insert_rows("positions", columns)

    def _check_first(self, frame: Frame) -> None:
        """Raise where a topic read anew begins behind what is stored of the same run."""
        known = self._known_frames.pop(frame.shard, None)
        if known is None:
            return
        number, run = known
        if frame.run == run and frame.frame > number + 1:
            raise HoleError(
                "frame",
                topic=self._topic,
                partition=frame.shard,
                expected=number + 1,
                got=frame.frame,
            )


_POSITIONS = """
SELECT shard, argMax(offset, version), argMax(frame, version), argMax(run, version),
    argMax(generation, version)
FROM positions WHERE topic = {topic:String} GROUP BY shard
"""
