"""Messages on their way to the broker, by the answer they belong to: sent, then acknowledged."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka import Producer as Client

from streams.errors import DeliveryError
from streams.kafka import producer_config
from streams.settings import Settings

__all__ = ["Answered", "Outbox"]

POLL_S = 0.1
LIMITS: Mapping[str, int] = {
    "queue_buffering_max_kbytes": 65_536,
    "message_timeout_ms": 120_000,
    # A coverage never goes out when a block before it did not.
    "enable_gapless_guarantee": True,
}


@dataclass(slots=True)
class Answered:
    """What was sent for one request.

    Attributes
    ----------
    position
        Topic, partition and offset to commit once all is acknowledged.
    blocks, rows, bad
        Blocks and rows of all streams, and rows sent to ``rejected``.
    sent, failed, reason
        Messages handed to the client, those that were not acknowledged, and why the first was not.
    open
        Messages without a report yet.
    complete
        Whether all of it was handed over.
    """

    position: TopicPartition
    blocks: int = 0
    rows: int = 0
    bad: int = 0
    sent: int = 0
    failed: int = 0
    reason: str = ""
    open: int = 0
    complete: bool = False

    def report(self, error: KafkaError | None, _message: Message) -> None:
        """Take the delivery report of one message."""
        self.open -= 1
        if error is not None:
            self.fail(error.str())

    def fail(self, reason: str) -> None:
        """Count a message that was not acknowledged."""
        self.failed += 1
        self.reason = self.reason or reason


class Outbox:
    """Sends messages and knows which answers are acknowledged to the last of them.

    Parameters
    ----------
    settings
        Brokers.
    stop
        Set from outside, it ends the wait for room in the client's queue.
    changes
        librdkafka properties, with ``_`` for ``.``.
    """

    def __init__(
        self, settings: Settings, stop: threading.Event, changes: Mapping[str, str | float | bool]
    ) -> None:
        self._client = Client(producer_config(settings, **{**LIMITS, **changes}))
        self._stop = stop
        self._pending: deque[Answered] = deque()

    def __len__(self) -> int:
        """Return the number of answers that are not settled."""
        return len(self._pending)

    def begin(self, position: TopicPartition) -> Answered:
        """Return the record of a new answer, behind all others."""
        answered = Answered(position)
        self._pending.append(answered)
        return answered

    def send(self, answered: Answered, topic: str, value: bytes, key: str, **where: Any) -> None:
        """Hand a message to the client; wait for room; raise DeliveryError when one has failed."""
        answered.sent += 1
        while not self._put(answered, topic, value, key, where):
            self._client.poll(POLL_S)  # the queue is full: the broker sets the pace
            self._check()
            if self._stop.is_set():  # the answer stays incomplete
                return

    def offer(self, answered: Answered, topic: str, value: bytes, key: str, **where: Any) -> bool:
        """Hand a message to the client; return False if its queue has no room for it now.

        Raises
        ------
        DeliveryError
            The client can't take it.
        """
        is_taken = self._put(answered, topic, value, key, where)
        answered.sent += is_taken
        return is_taken

    def _put(
        self, answered: Answered, topic: str, value: bytes, key: str, where: Mapping[str, Any]
    ) -> bool:
        try:
            self._client.produce(topic, value, key.encode(), on_delivery=answered.report, **where)
        except BufferError:
            return False
        except KafkaException as exc:
            answered.fail(exc.args[0].str())
            self._check()
        else:
            answered.open += 1
            self._client.poll(0)
        return True

    def settle(self, wait_s: float = 0.0) -> list[TopicPartition]:
        """Return what can be committed: the positions of acknowledged answers, in their order.

        Raises
        ------
        DeliveryError
            A message was not acknowledged, after all retries.
        """
        if wait_s:
            self._client.flush(wait_s)
        self._client.poll(0)
        self._check()
        done: dict[tuple[str, int], TopicPartition] = {}
        while self._pending and self._pending[0].complete and not self._pending[0].open:
            position = self._pending.popleft().position
            done[position.topic, position.partition] = position
        return list(done.values())

    def _check(self) -> None:
        failed = sum(answered.failed for answered in self._pending)
        if failed:
            reason = next(answered.reason for answered in self._pending if answered.failed)
            sent = sum(answered.sent for answered in self._pending)
            raise DeliveryError(reason, failed=failed, sent=sent)
