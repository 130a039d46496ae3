"""Frames read back from a topic: in order, each once, under read_committed."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas import Frame
from schemas.registry import codec_for
from streams.errors import BrokerError, DecodeError, HoleError, SessiontapeError
from streams.kafka import check_topics, consumer_config
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["Delivered", "FrameReader"]

log = logging.getLogger(__name__)

METADATA_TIMEOUT_S = 15.0
LEADER_POLL_S = 0.05
_WITHOUT_LEADER = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
)


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

    Raises
    ------
    TopicError
        There is no such topic.
    """

    def __init__(
        self,
        settings: Settings,
        group: str = "",
        shards: Iterable[int] | None = None,
        topic: str = "",
    ) -> None:
        topics = Topics(settings.namespace)
        self.topic = topic or topics.session
        self.shards = tuple(
            range(check_topics(settings, (topics.session,))) if shards is None else shards
        )
        self._group = group
        self._codec = codec_for(settings.schema_registry_url)
        self._next: dict[int, tuple[int, int]] = {}
        self._error: SessiontapeError | None = None
        self._consumer = Consumer(
            consumer_config(
                settings,
                group or f"{topics.namespace}.reader-{uuid.uuid4().hex}",
                # A position whose frames were deleted is a hole, not a reason to start elsewhere.
                auto_offset_reset="error",
                enable_partition_eof=True,
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
        self._consumer.assign([TopicPartition(self.topic, s, o) for s, o in offsets.items()])

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
        for message in (first, *self._consumer.consume(64, 0)):
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
        found: dict[int, Delivered | None] = {}
        for shard in self.shards:
            low, end = self._watermarks(shard)
            found[shard] = None
            # The offsets at the end may be control records and undone frames: look further back.
            back = 8
            while found[shard] is None and end > low:
                found[shard] = self._last_between(shard, max(low, end - back), end)
                if end - back <= low:
                    break
                back *= 16
        self._consumer.unassign()
        self._next.clear()
        return found

    def ends(self) -> dict[int, int]:
        """Return the offset behind the last committed frame of every shard."""
        return {shard: self._watermarks(shard)[1] for shard in self.shards}

    def starts(self) -> dict[int, int]:
        """Return the first offset that every shard still has."""
        return {shard: self._watermarks(shard)[0] for shard in self.shards}

    def committed(self) -> dict[int, int | None]:
        """Return the offsets that the group has committed, None where it has none."""
        wanted = [TopicPartition(self.topic, shard) for shard in self.shards]
        try:
            found = self._consumer.committed(wanted, METADATA_TIMEOUT_S)
        except KafkaException as exc:
            raise _broker_error("committed offsets can't be read", exc) from exc
        return {tp.partition: tp.offset if tp.offset >= 0 else None for tp in found}

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets for the group, synchronously.

        Raises
        ------
        BrokerError
            The broker did not take them.
        """
        places = [TopicPartition(self.topic, s, o) for s, o in offsets.items()]
        try:
            if places:
                self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as exc:
            raise _broker_error("offsets can't be committed", exc) from exc

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _watermarks(self, shard: int) -> tuple[int, int]:
        place = TopicPartition(self.topic, shard)
        deadline = time.monotonic() + METADATA_TIMEOUT_S
        while True:
            try:
                low, end = self._consumer.get_watermark_offsets(place, METADATA_TIMEOUT_S)
            except KafkaException as exc:
                # A topic that was just made, or a broker that just came back, has no leader yet.
                if exc.args[0].code() not in _WITHOUT_LEADER or time.monotonic() > deadline:
                    what = f"offsets of {self.topic}[{shard}] can't be read"
                    raise _broker_error(what, exc) from exc
                time.sleep(LEADER_POLL_S)
            else:
                return low, end

    def _last_between(self, shard: int, start: int, end: int) -> Delivered | None:
        """Return the last frame in offsets [start, end), all of which are decided."""
        place = TopicPartition(self.topic, shard, start)
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
        msg = f"the last frame of {self.topic}[{shard}] did not come in {METADATA_TIMEOUT_S} s"
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
        record = self._codec.decode(
            message.value(),
            topic=self.topic,
            partition=partition,
            offset=offset,
        )
        if not isinstance(record, Frame) or record.shard != partition:
            reason = f"a {type(record).__name__} that is no frame of this shard"
            raise DecodeError(reason, topic=self.topic, partition=partition, offset=offset)
        return Delivered(record, offset)

    def _hole(self, what: str, shard: int, expected: int, got: int) -> HoleError:
        return HoleError(what, topic=self.topic, partition=shard, expected=expected, got=got)

    def _raise_if_over(self, message: Message) -> None:
        error = cast("KafkaError", message.error())
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            shard, asked = cast("int", message.partition()), cast("int", message.offset())
            raise self._hole("offset", shard, asked, self._watermarks(shard)[0])
        if error.fatal() or error.code() in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
            KafkaError._AUTHENTICATION,
        ):
            msg = f"{self.topic} can't be read: {error.str()}"
            raise BrokerError(msg)
        log.debug("reading %s goes on after: %s", self.topic, error.str())


def _broker_error(what: str, exc: KafkaException) -> BrokerError:
    return BrokerError(f"{what}: {exc.args[0].str()}")
