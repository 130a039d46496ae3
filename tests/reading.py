"""What brokers are asked by tests: whole topics, and questions asked again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from streams.errors import BrokerError
from streams.kafka import consumer_config
from streams.settings import Settings

__all__ = ["patiently", "read_topic"]

T = TypeVar("T")
DEADLINE_S = 60.0


def read_topic(settings: Settings, topic: str) -> list[Message]:
    """Return all committed messages that a topic holds now."""
    with closing(Consumer(consumer_config(settings, f"{topic}.look"))) as consumer:
        parts = consumer.list_topics(topic, 10).topics[topic].partitions
        ends = {}
        for part in parts:
            low, end = consumer.get_watermark_offsets(TopicPartition(topic, part), 10)
            if end > low:
                ends[part] = (low, end)
        consumer.assign([TopicPartition(topic, p, low) for p, (low, _) in ends.items()])
        found: list[Message] = []
        deadline = time.monotonic() + DEADLINE_S
        while not all(
            place.offset >= ends[place.partition][1]
            for place in consumer.position(consumer.assignment())
        ):
            assert time.monotonic() < deadline, f"{topic} can't be read to its end"
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append(message)
    return found


def patiently(ask: Callable[[], T]) -> T:
    """Ask again while a broker that was killed is not quite back."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return ask()
        except (KafkaException, BrokerError):
            if time.monotonic() > deadline:
                raise
