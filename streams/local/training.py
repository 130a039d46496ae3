"""The load under which the local broker's AOT cache is recorded: what a replay asks of it."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

__all__ = ["exercise"]

_MESSAGES = 220
_MESSAGE_BYTES = 900_000
_MESSAGES_A_TRANSACTION = 4
_CALL_S = 60.0

# A coordinator that still loads is asked again, and is nobody's news.
_silent = logging.getLogger("sessiontape.local.training")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


def exercise(bootstrap_servers: str, limit_s: float = 8.0) -> None:
    """Let a broker do what a replay asks of it: large transactions, two readers of what counts.

    Parameters
    ----------
    bootstrap_servers
        A broker that nobody else uses.
    limit_s
        Seconds after which it is enough, whatever is done by then.

    Raises
    ------
    KafkaException
        The broker refuses something.
    """
    topic, deadline_s = "training", time.monotonic() + limit_s
    with AdminClient({"bootstrap.servers": bootstrap_servers}, logger=_silent) as admin:
        admin.create_topics([NewTopic(topic, 2)])[topic].result(_CALL_S)
    with ThreadPoolExecutor(2) as pool:
        readers = [
            pool.submit(_read, bootstrap_servers, topic, f"training-{number}", deadline_s)
            for number in range(2)
        ]
        _write(bootstrap_servers, topic, deadline_s)
        for reader in readers:
            reader.result()
    cut = [TopicPartition(topic, partition, OFFSET_END) for partition in range(2)]
    with AdminClient({"bootstrap.servers": bootstrap_servers}, logger=_silent) as admin:
        for answer in admin.delete_records(cut).values():
            answer.result(_CALL_S)


def _write(bootstrap_servers: str, topic: str, deadline_s: float) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "transactional.id": topic,
            "message.max.bytes": 2 * _MESSAGE_BYTES,
            "linger.ms": 0,
        },
        logger=_silent,
    )
    producer.init_transactions(_CALL_S)
    value = bytes(_MESSAGE_BYTES)
    for begin in range(0, _MESSAGES, _MESSAGES_A_TRANSACTION):
        if time.monotonic() > deadline_s:
            return
        producer.begin_transaction()
        for number in range(begin, begin + _MESSAGES_A_TRANSACTION):
            producer.produce(topic, value, partition=number % 2)
        producer.commit_transaction(_CALL_S)


def _read(bootstrap_servers: str, topic: str, group: str, deadline_s: float) -> None:
    config: dict[str, str | int | float | bool] = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": group,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    count = 0
    with closing(Consumer(config, logger=_silent)) as consumer:
        consumer.subscribe([topic])
        while count < _MESSAGES and time.monotonic() < deadline_s:
            messages = consumer.consume(20, timeout=0.2)
            count += sum(message.error() is None for message in messages)
            if messages:
                consumer.commit(asynchronous=True)
