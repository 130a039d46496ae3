"""The raw limit: the bytes of a replay through two topics and three processes, without any work."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from streams.kafka import consumer_config, producer_config
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["run"]

BATCH = 100


def run(settings: Settings, messages: int, message_bytes: int) -> float:
    """Return messages/s from the first one sent to the last one out of the second topic."""
    context = multiprocessing.get_context("spawn")
    done: Any = context.Queue()
    arguments = (settings, messages, message_bytes, done)
    workers = [context.Process(target=work, args=arguments) for work in (_copy, _drain)]
    for worker in workers:
        worker.start()
    for _ in workers:
        done.get(timeout=60)
    sender = context.Process(target=_send, args=arguments)
    sender.start()
    times: dict[str, float] = dict(done.get(timeout=600) for _ in range(3))
    for worker in (*workers, sender):
        worker.join()
    return messages / (times["drain"] - times["send"])


def _consumer(settings: Settings, topic: str) -> Consumer:
    consumer = Consumer(consumer_config(settings, f"{topic}.raw"))
    consumer.assign([TopicPartition(topic, 0, 0)])
    return consumer


def _put(producer: Producer, topic: str, value: bytes) -> None:
    while True:
        try:
            producer.produce(topic, value)
        except BufferError:
            producer.poll(0.01)
        else:
            return


def _send(settings: Settings, messages: int, message_bytes: int, done: Any) -> None:
    producer = Producer(producer_config(settings))
    value = bytes(range(256)) * (message_bytes // 256)
    started = time.time()
    for _ in range(messages):
        _put(producer, Topics(settings.namespace).raw_bars, value)
    producer.flush()
    done.put(("send", started))


def _copy(settings: Settings, messages: int, _: int, done: Any) -> None:
    topics = Topics(settings.namespace)
    consumer, producer = _consumer(settings, topics.raw_bars), Producer(producer_config(settings))
    done.put("ready")
    copied = 0
    while copied < messages:
        for message in consumer.consume(BATCH, 0.1):
            if (value := message.value()) is not None:
                _put(producer, topics.session, value)
                copied += 1
    producer.flush()
    done.put(("copy", time.time()))


def _drain(settings: Settings, messages: int, _: int, done: Any) -> None:
    consumer = _consumer(settings, Topics(settings.namespace).session)
    done.put("ready")
    seen = 0
    while seen < messages:
        seen += sum(message.value() is not None for message in consumer.consume(BATCH, 0.1))
    done.put(("drain", time.time()))
