"""What is on the ``rejected`` topic, counted."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.errors import BrokerError
from streams.kafka import consumer_config
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["rejected_end", "rejected_since"]

READ_S = 15.0


def rejected_end(settings: Settings) -> int:
    """Return the offset behind what is on ``rejected`` now."""
    consumer = Consumer(consumer_config(settings, f"{settings.namespace}.rejected"))
    try:
        place = TopicPartition(Topics(settings.namespace).rejected, 0)
        return int(consumer.get_watermark_offsets(place, READ_S)[1])
    finally:
        consumer.close()


def rejected_since(settings: Settings, offset: int) -> int:
    """Count the messages on ``rejected`` from an offset on that are of the tape.

    Not those of trailing days: they are loaded beside it, and how many of them are there by the end
    of a run is chance. Offsets would not do: they count the ends of transactions.
    """
    topics = Topics(settings.namespace)
    topic, count = topics.rejected, 0
    config = consumer_config(settings, f"{settings.namespace}.rejected", enable_partition_eof=True)
    consumer = Consumer(config)
    try:
        consumer.assign([TopicPartition(topic, 0, offset)])
        deadline_s = time.monotonic() + READ_S
        while time.monotonic() < deadline_s:
            for message in consumer.consume(1000, 0.2):
                error = message.error()
                if error is None:
                    count += message.key() != topics.raw_history.encode()
                elif error.code() == KafkaError._PARTITION_EOF:
                    return count
    finally:
        consumer.close()
    msg = f"{topic} could not be read to its end in {READ_S:.0f} s"
    raise BrokerError(msg)
