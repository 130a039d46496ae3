"""Frames read back from a topic: in order, each once, under read_committed."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from schemas import Frame
from schemas.registry import codec_for
from streams.errors import BrokerError, DecodeError, HoleError, SessiontapeError, TopicError
from streams.intervals import interval_ns
from streams.kafka import LOOK_MS, MissingTopicError, check_topics, consumer_config
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["Delivered", "FrameReader"]

log = logging.getLogger(__name__)
T = TypeVar("T")

METADATA_TIMEOUT_S = 15.0
LEADER_POLL_S = 0.05
_WITHOUT_LEADER = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
)
"""A topic that was just made, or a broker that just came back, has no leader yet."""
_WITHOUT_COORDINATOR = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
"""Nor has a group of a broker that just started one."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A frame and the offset at which it stands in its shard's partition."""

    frame: Frame
    offset: int


class FrameReader:
    """Reads the frames of some shards in order, under read_committed, each once.

    Parameters
    ----------
    settings
        Brokers and namespace.
    group
        Group whose committed offsets are read and written; ``""`` for none.
    shards
        Partitions to read; default all.
    topic
        Topic of the frames; default the session topic of the namespace.
    derived
        Lengths of derived bars whose topics are read too, by the same consumer: with ``n``
        partitions, partition ``p`` of the ``k``-th (from 1) is shard ``k * n + p``, in its frames
        too, and these say the length of their bars as ``interval_ns``.
    most
        Frames that a poll gives at most.
    only_looks
        Whether it is asked what stands at the end, and no more: that takes a tenth of the time.

    Raises
    ------
    TopicError
        There is no such topic, or they differ in their partitions.
    """

    def __init__(
        self,
        settings: Settings,
        group: str = "",
        shards: Iterable[int] | None = None,
        topic: str = "",
        *,
        derived: Sequence[str] = (),
        most: int = 65,
        only_looks: bool = False,
    ) -> None:
        topics = Topics(settings.namespace)
        self.topic = topic or topics.session
        self._topics = (self.topic, *map(topics.derived, derived))
        self._lengths = (0, *map(interval_ns, derived))
        if derived:
            self._partitions = _partitions(settings, topics, derived)
            self.shards = tuple(range(self._partitions * len(self._topics)))
        else:
            self._partitions = 0
            self.shards = tuple(
                range(check_topics(settings, (topics.session,))) if shards is None else shards
            )
        self._most = most
        self._group = group
        self._codec = codec_for(settings.schema_registry_url)
        self._next: dict[int, tuple[int, int]] = {}
        self._error: SessiontapeError | None = None
        looks = {"fetch_wait_max_ms": LOOK_MS} if only_looks else {}
        self._consumer = Consumer(
            consumer_config(
                settings,
                group or f"{topics.namespace}.reader-{uuid.uuid4().hex}",
                # A position whose frames were deleted is a hole, not a reason to start elsewhere.
                auto_offset_reset="error",
                enable_partition_eof=True,
                **looks,
            )
        )

    def __enter__(self) -> FrameReader:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def assign(self, offsets: Mapping[int, int]) -> None:
        """Read on from these offsets, one a shard; what came before is forgotten."""
        self._next.clear()
        self._error = None
        self._consumer.assign([self._place(s, o) for s, o in offsets.items()])

    def poll(self, timeout_s: float = 1.0) -> list[Delivered]:
        """Return the frames that came, those of a shard in order; empty after ``timeout_s``.

        Raises
        ------
        HoleError
            Frames or rows are missing, or those at the position were deleted.
        DecodeError
            A message that is no frame.
        BrokerError
            The brokers refuse us for good.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        taken: list[Delivered] = []
        more = self._consumer.consume(self._most - 1, 0) if self._most > 1 else ()
        for message in (first, *more):
            try:
                delivered = self._take(message)
            except SessiontapeError as exc:
                if not taken:
                    raise
                self._error = exc  # what came before it counts
                break
            if delivered is not None:
                taken.append(delivered)
        return taken

    def last(self) -> dict[int, Delivered | None]:
        """Return the last committed frame of every shard, None where there is none."""
        try:
            return {shard: self._last_of(shard) for shard in self.shards}
        finally:
            self._consumer.unassign()
            self._next.clear()

    def ends(self) -> dict[int, int]:
        """Return the offset behind the last committed frame of every shard."""
        return {shard: self._watermarks(shard)[1] for shard in self.shards}

    def starts(self) -> dict[int, int]:
        """Return the first offset that every shard still has."""
        return {shard: self._watermarks(shard)[0] for shard in self.shards}

    def committed(self) -> dict[int, int | None]:
        """Return the offsets that the group has committed, None where it has none."""
        wanted = [self._place(shard) for shard in self.shards]
        found = _answer(
            lambda: self._consumer.committed(wanted, METADATA_TIMEOUT_S),
            _WITHOUT_COORDINATOR,
            "committed offsets can't be read",
        )
        return {
            shard: tp.offset if tp.offset >= 0 else None
            for shard, tp in zip(self.shards, found, strict=True)
        }

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets for the group, synchronously.

        Raises
        ------
        BrokerError
            The broker did not take them.
        """
        places = [self._place(s, o) for s, o in offsets.items()]
        try:
            if places:
                self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as exc:
            raise _broker_error("offsets can't be committed", exc) from exc

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _place(self, shard: int, offset: int = OFFSET_INVALID) -> TopicPartition:
        """Return where the frames of a shard stand."""
        if not self._partitions:
            return TopicPartition(self.topic, shard, offset)
        number, partition = divmod(shard, self._partitions)
        return TopicPartition(self._topics[number], partition, offset)

    def _shard(self, message: Message) -> int:
        """Return the number of the shard that a message belongs to."""
        partition = cast("int", message.partition())
        if not self._partitions:
            return partition
        return self._topics.index(cast("str", message.topic())) * self._partitions + partition

    def _watermarks(self, shard: int) -> tuple[int, int]:
        place = self._place(shard)
        return _answer(
            lambda: self._consumer.get_watermark_offsets(place, METADATA_TIMEOUT_S),
            _WITHOUT_LEADER,
            f"offsets of {place.topic}[{place.partition}] can't be read",
        )

    def _last_of(self, shard: int) -> Delivered | None:
        low, end = self._watermarks(shard)
        # The offsets at the end may be control records and undone frames: look further back.
        back = 8
        while end > low:
            start = max(low, end - back)
            try:
                found = self._last_between(shard, start, end)
            except HoleError:
                low, end = self._watermarks(shard)
                if low <= start:
                    raise
                continue  # cut off since we asked where it begins: no hole
            if found is not None or start == low:
                return found
            back *= 16
        return None

    def _last_between(self, shard: int, start: int, end: int) -> Delivered | None:
        """Return the last frame in offsets [start, end), all of which are decided."""
        place = self._place(shard, start)
        self._consumer.assign([place])
        last: Message | None = None
        deadline = time.monotonic() + METADATA_TIMEOUT_S
        while time.monotonic() < deadline:
            message = self._consumer.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                if cast("int", message.offset()) >= end:
                    return None if last is None else self._decoded(last)
                last = message
            elif error.code() == KafkaError._PARTITION_EOF:
                return None if last is None else self._decoded(last)
            else:
                self._raise_if_over(message)
        where = f"{place.topic}[{place.partition}]"
        msg = f"the last frame of {where} did not come in {METADATA_TIMEOUT_S} s"
        raise BrokerError(msg)

    def _take(self, message: Message) -> Delivered | None:
        if message.error() is not None:
            self._raise_if_over(message)
            return None
        delivered = self._decoded(message)
        frame = delivered.frame
        shard = frame.shard
        number, row = self._next.get(shard, (frame.frame, frame.first_row))
        if frame.frame < number:
            return None  # a repeat
        if frame.frame > number:
            raise self._hole("frame", shard, number, frame.frame)
        if frame.first_row != row:
            raise self._hole("row", shard, row, frame.first_row)
        self._next[shard] = (number + 1, row + frame.rows)
        return delivered

    def _decoded(self, message: Message) -> Delivered:
        partition, offset = cast("int", message.partition()), cast("int", message.offset())
        shard = self._shard(message)
        topic = self._place(shard).topic
        record = self._codec.decode(
            message.value(),
            topic=topic,
            partition=partition,
            offset=offset,
        )
        if not isinstance(record, Frame) or record.shard != partition:
            reason = f"a {type(record).__name__} that is no frame of this shard"
            raise DecodeError(reason, topic=topic, partition=partition, offset=offset)
        if self._partitions:
            length_ns = self._lengths[shard // self._partitions] or record.interval_ns
            shards = len(self.shards)
            record = replace(record, shard=shard, shards=shards, interval_ns=length_ns)
        return Delivered(record, offset)

    def _hole(self, what: str, shard: int, expected: int, got: int) -> HoleError:
        place = self._place(shard)
        return HoleError(
            what, topic=place.topic, partition=place.partition, expected=expected, got=got
        )

    def _raise_if_over(self, message: Message) -> None:
        error = cast("KafkaError", message.error())
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            shard, asked = self._shard(message), cast("int", message.offset())
            raise self._hole("offset", shard, asked, self._watermarks(shard)[0])
        if error.fatal() or error.code() in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
            KafkaError._AUTHENTICATION,
        ):
            msg = f"{self.topic} can't be read: {error.str()}"
            raise BrokerError(msg)
        log.debug("reading %s goes on after: %s", self.topic, error.str())


def _partitions(settings: Settings, topics: Topics, derived: Sequence[str]) -> int:
    """Return the partitions that the session topic and those of derived bars have."""
    partitions = check_topics(settings, (topics.session,))
    for length in derived:
        try:
            check_topics(settings, {topics.derived(length): partitions})
        except MissingTopicError as exc:
            msg = (
                f"{topics.namespace} has no bars of {length}: name it in "
                "SESSIONTAPE_DERIVED_INTERVALS and start its upkeep by `sessiontape up`"
            )
            raise TopicError(msg) from exc
    return partitions


def _answer(ask: Callable[[], T], not_yet: tuple[int, ...], what: str) -> T:
    """Ask the brokers, and again for a while what they can't answer yet."""
    deadline = time.monotonic() + METADATA_TIMEOUT_S
    while True:
        try:
            return ask()
        except KafkaException as exc:
            if exc.args[0].code() not in not_yet or time.monotonic() > deadline:
                raise _broker_error(what, exc) from exc
            time.sleep(LEADER_POLL_S)


def _broker_error(what: str, exc: KafkaException) -> BrokerError:
    return BrokerError(f"{what}: {exc.args[0].str()}")
