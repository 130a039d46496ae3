"""The owner's side of the position protocol: frames written in transactions.

Output and position are one transaction on the session topic, so nothing can get out of step. The
owner of a shard holds the transactional id ``<ns>.session.<shard>``: ``init_transactions`` makes
the broker refuse every earlier owner and ends what it left open.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas import Frame
from schemas.registry import codec_for
from streams.delivery import Delivered, FrameReader
from streams.errors import BrokerError, FencedError
from streams.kafka import producer_config
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["Delivered", "FrameReader", "FrameWriter", "Outgoing", "Transactions"]

log = logging.getLogger(__name__)

TRANSACTION_TIMEOUT_S = 60.0
RETRY_S = 0.1
_NEVER = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.INVALID_RECORD,
    KafkaError.POLICY_VIOLATION,
    KafkaError._UNKNOWN_TOPIC,
)
"""What no repetition mends."""
Headers: TypeAlias = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that goes out in the transaction of a release; partition -1: by its key."""

    topic: str
    key: bytes
    value: bytes
    partition: int = -1
    headers: Headers = ()


class Transactions:
    """Writes messages in transactions, under an id that fences whoever had it before.

    Parameters
    ----------
    settings
        Brokers and namespace.
    shard
        The shard, for messages.
    name
        The transactional id.
    """

    def __init__(self, settings: Settings, shard: int, name: str) -> None:
        self.shard = shard
        self._settings = settings
        self._closing = False
        self._refused: KafkaError | None = None
        self._producer = Producer(
            producer_config(
                settings,
                transactional_id=name,
                transaction_timeout_ms=int(TRANSACTION_TIMEOUT_S * 1000),
                linger_ms=0,
            )
        )

    def begin(self) -> None:
        """Take the id over: what its last owner left open is undone.

        Raises
        ------
        FencedError
            Somebody else took it over in the meantime.
        BrokerError
            The brokers refuse the id.
        """
        if self._closing:  # given up before it began: it must not fence who came after
            msg = f"shard {self.shard} was let go"
            raise BrokerError(msg)
        self._until_done(lambda: self._producer.init_transactions(TRANSACTION_TIMEOUT_S))

    def write(self, messages: Sequence[Outgoing]) -> tuple[int, ...]:
        """Write messages in one transaction; return the offset of each.

        It comes back when the transaction is committed, however long the brokers are away.

        Raises
        ------
        FencedError
            Another worker has the id: nothing of this counts.
        BrokerError
            The transaction failed for good: nothing of it counts.
        """
        while True:
            offsets: dict[int, int] = {}
            try:
                self._producer.begin_transaction()
                for number, message in enumerate(messages):
                    self._produce(message, number, offsets)
                # A fatal error is pending while reports of delivery are taken, which Python calls
                # an error of its own; the commit tells what it was.
                with suppress(SystemError):
                    self._producer.flush(TRANSACTION_TIMEOUT_S)
                self._until_done(lambda: self._producer.commit_transaction(TRANSACTION_TIMEOUT_S))
            except KafkaException as exc:
                self._abort(exc)
                time.sleep(RETRY_S)
            else:
                return tuple(offsets[number] for number in range(len(messages)))

    def close(self) -> None:
        """Give up what is under way; the next owner goes on from what is committed."""
        self._closing = True

    def _produce(self, message: Outgoing, number: int, offsets: dict[int, int]) -> None:
        def delivered(error: KafkaError | None, sent: Message) -> None:
            if error is not None and error.code() in _NEVER:
                self._refused = error
            if error is None:
                offsets[number] = cast("int", sent.offset())

        while True:
            try:
                self._producer.produce(
                    message.topic,
                    message.value,
                    message.key,
                    message.partition,
                    on_delivery=delivered,
                    headers=list(message.headers),
                )
            except BufferError:  # the queue is full: let it drain
                self._producer.poll(0.05)
            else:
                return

    def _abort(self, cause: KafkaException) -> None:
        error: KafkaError = cause.args[0]
        self._raise_if_over(error, cause)
        try:
            self._until_done(lambda: self._producer.abort_transaction(TRANSACTION_TIMEOUT_S))
        except KafkaException as exc:
            # Such as a broker whose name is gone with it: librdkafka goes no further from here.
            why = exc.args[0].str()
            msg = f"shard {self.shard}: the brokers are away, and this worker ends for it: {why}"
            raise BrokerError(msg) from exc
        refused = error if error.code() in _NEVER else self._refused
        if refused is not None:
            msg = f"shard {self.shard} can't be written: {refused.str()}"
            raise BrokerError(msg) from cause
        log.warning("shard %d: transaction undone, again: %s", self.shard, error.str())

    def _until_done(self, call: Callable[[], None]) -> None:
        while True:
            try:
                call()
            except KafkaException as exc:
                error: KafkaError = exc.args[0]
                self._raise_if_over(error, exc)
                if not error.retriable() or error.txn_requires_abort():
                    raise
                log.warning("shard %d: the brokers are away: %s", self.shard, error.str())
            else:
                return

    def _raise_if_over(self, error: KafkaError, cause: KafkaException) -> None:
        fenced = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
        if error.code() in fenced:
            raise FencedError(self.shard) from cause
        if error.fatal() or self._closing:
            msg = f"shard {self.shard} can't be written: {error.str()}"
            raise BrokerError(msg) from cause


class FrameWriter(Transactions):
    """The owner of one shard: writes its releases, each a transaction.

    Parameters
    ----------
    settings
        Brokers and namespace.
    shard
        Partition of the session topic.
    topic
        Topic of the frames; default the session topic of the namespace.
    """

    def __init__(self, settings: Settings, shard: int, topic: str = "") -> None:
        self._topic = topic or Topics(settings.namespace).session
        self._codec = codec_for(settings.schema_registry_url)
        super().__init__(settings, shard, f"{self._topic}.{shard}")

    def open(self) -> Delivered | None:
        """Take the shard over; return its last committed frame, None where there is none.

        Raises
        ------
        FencedError
            Somebody else took the shard over in the meantime.
        BrokerError
            The brokers refuse the transactional id.
        """
        self.begin()
        with FrameReader(self._settings, shards=(self.shard,), topic=self._topic) as reader:
            return reader.last()[self.shard]

    def release(self, frames: Sequence[Frame], others: Iterable[Outgoing] = ()) -> tuple[int, ...]:
        """Write frames and other messages in one transaction; return the frames' offsets.

        It comes back when the transaction is committed, however long the brokers are away.

        Raises
        ------
        FencedError
            Another worker owns the shard: nothing of this release counts.
        BrokerError
            The transaction failed for good: nothing of it counts.
        """
        topic, key, encode = self._topic, str(self.shard).encode(), self._codec.encode
        messages = [Outgoing(topic, key, encode(frame, topic), self.shard) for frame in frames]
        messages += others
        return self.write(messages)[: len(frames)]
