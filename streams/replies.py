"""What sources reply to questions about trailing days, as it comes on ``<ns>.raw.history``."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from typing import cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from schemas import BarBlock, Coverage, DataRequest
from schemas.registry import codec_for
from streams.errors import BrokerError, DecodeError
from streams.kafka import consumer_config
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["Replies"]

log = logging.getLogger(__name__)

POLL_S = 0.1
OFFSETS_TIMEOUT_S = 15.0


class Replies:
    """Reads what comes on one shard's partition from the first question on.

    Parameters
    ----------
    settings
        Brokers and namespace; ``gap_timeout_s`` is how long a reply may make no progress.
    shard
        Number of the shard.
    stop
        Ends every wait.
    """

    def __init__(self, settings: Settings, shard: int, stop: threading.Event) -> None:
        self._topic = Topics(settings.namespace).raw_history
        self._place = TopicPartition(self._topic, shard)
        self._codec = codec_for(settings.schema_registry_url)
        self._timeout_s = settings.gap_timeout_s
        self._stop = stop
        group = f"{settings.namespace}.reader-{uuid.uuid4().hex}"
        self._consumer = Consumer(consumer_config(settings, group))
        self._is_placed = False

    def begin(self) -> None:
        """Note where the replies will begin: to be called before a question is sent.

        Raises
        ------
        BrokerError
            The end of the partition can't be read.
        """
        if not self._is_placed:
            place = TopicPartition(self._topic, self._place.partition, self._end())
            self._consumer.assign([place])
            self._is_placed = True

    def to(self, request: DataRequest) -> Iterator[BarBlock | Coverage]:
        """Give what replies to a request, or to an earlier attempt at it.

        It ends when all symbols of the request are spoken of, or nothing has come for too long.
        """
        question = f"{request.id.rpartition('/')[0]}/"
        waiting = set(request.symbols)
        deadline = time.monotonic() + self._timeout_s
        while waiting and not self._stop.is_set() and time.monotonic() < deadline:
            message = self._consumer.poll(POLL_S)
            record = None if message is None else self._read(message)
            if record is None or not record.request.startswith(question):
                continue
            if isinstance(record, Coverage) and record.request == request.id:
                waiting.difference_update(record.symbols)
            yield record
            deadline = time.monotonic() + self._timeout_s

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _end(self) -> int:
        deadline = time.monotonic() + OFFSETS_TIMEOUT_S
        while True:
            try:
                _, end = self._consumer.get_watermark_offsets(self._place, OFFSETS_TIMEOUT_S)
            except KafkaException as exc:
                # A topic that was just made, or a broker that just came back, has no leader yet.
                if self._stop.wait(POLL_S) or time.monotonic() > deadline:
                    msg = f"the end of {self._topic} can't be read: {exc.args[0].str()}"
                    raise BrokerError(msg) from exc
            else:
                return int(end)

    def _read(self, message: Message) -> BarBlock | Coverage | None:
        error = message.error()
        if error is not None:
            log.debug("reading %s goes on after: %s", self._topic, error.str())
            return None
        offset = cast("int", message.offset())
        try:
            record = self._codec.decode(
                message.value(), topic=self._topic, partition=self._place.partition, offset=offset
            )
        except DecodeError as exc:
            log.warning("left out: %s", exc)
            return None
        if isinstance(record, BarBlock | Coverage):
            return record
        log.warning("left out: a %s on %s@%d", type(record).__name__, self._topic, offset)
        return None
