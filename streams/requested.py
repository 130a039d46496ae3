"""What was asked for: the requests of a run, read back from their topic."""

from __future__ import annotations

import time
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas import Command, DataRequest
from schemas.registry import codec_for
from streams.errors import BrokerError, DecodeError
from streams.gaps import Sent
from streams.kafka import consumer_config
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["requests_of"]

TIMEOUT_S = 15.0
POLL_S = 0.1
EARLIER_S = 60
"""The clocks of who sent the command and of the brokers may differ by this much."""


def requests_of(settings: Settings, shard: int, command: Command) -> list[Sent]:
    """Return the requests for gaps that a run has sent for a shard, in their order.

    Raises
    ------
    BrokerError
        The topic can't be read.
    """
    topics = Topics(settings.namespace)
    codec = codec_for(settings.schema_registry_url)
    group = f"{settings.namespace}.requested-{uuid.uuid4().hex}"
    consumer = Consumer(consumer_config(settings, group, enable_partition_eof=True))
    found: list[Sent] = []
    try:
        consumer.assign([_begin(consumer, topics.requests, shard, command)])
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            message = consumer.poll(POLL_S)
            if message is None:
                continue
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return found
                continue
            try:
                request = codec.decode(message.value())
            except DecodeError:
                continue  # the producer puts it on rejected
            if not isinstance(request, DataRequest) or request.run != command.run:
                continue
            if request.kind == "gap":
                found.append(Sent(request, message.timestamp()[1] * 1_000_000))
    except KafkaException as exc:
        msg = f"{topics.requests}[{shard}] can't be read: {exc.args[0].str()}"
        raise BrokerError(msg) from exc
    finally:
        consumer.close()
    msg = f"{topics.requests}[{shard}] can't be read: no broker answers"
    raise BrokerError(msg)


def _begin(consumer: Consumer, topic: str, shard: int, command: Command) -> TopicPartition:
    """Return where to begin: before the first request that the run can have sent."""
    # Commands in mid-run move the anchor: then the run may have begun at any time.
    began_ns = command.anchor_wall_ns if command.action in ("start", "seek") else 0
    since_ms = max(began_ns // 1_000_000 - EARLIER_S * 1000, 0)
    place = TopicPartition(topic, shard, since_ms)
    return consumer.offsets_for_times([place], TIMEOUT_S)[0]
