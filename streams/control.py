"""The desired state of a namespace, on the compacted ``control`` topic."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from typing import TypeAlias

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from schemas import Command
from schemas.registry import codec_for
from streams.errors import BrokerError, DecodeError, DeliveryError
from streams.kafka import consumer_config, producer_config
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["ControlReader", "latest_command", "send_command"]

log = logging.getLogger(__name__)

TIMEOUT_S = 15.0
POLL_S = 0.2
Listener: TypeAlias = Callable[[Command], None]


class ControlReader:
    """Reads every command of a namespace, oldest first, in a thread of its own.

    Parameters
    ----------
    settings
        Brokers and namespace.
    listener
        Called in that thread with each command.
    """

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self._settings = settings
        self._listener = listener
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; it returns when the thread has ended."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        _read(self._settings, self._listener, lambda _: self._stopped.is_set())


def latest_command(settings: Settings) -> Command | None:
    """Return the command that counts, None before the first.

    Raises
    ------
    BrokerError
        The topic can't be read.
    """
    found: list[Command] = []
    _read(settings, found.append, lambda is_at_end: is_at_end)
    return max(found, key=lambda command: command.version, default=None)


def send_command(settings: Settings, command: Command) -> None:
    """Put a command on ``control``; it returns when the brokers have it.

    Raises
    ------
    DeliveryError
        The brokers did not take it.
    """
    failed: list[str] = []
    producer = Producer(producer_config(settings, message_timeout_ms=int(TIMEOUT_S * 1000)))
    topic = Topics(settings.namespace).control
    producer.produce(
        topic,
        codec_for(settings.schema_registry_url).encode(command, topic),
        settings.namespace.encode(),
        on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
    )
    if producer.flush(TIMEOUT_S) or failed:
        raise DeliveryError((failed or ["no answer in time"])[0], failed=1, sent=1)


def _read(settings: Settings, listener: Listener, is_done: Callable[[bool], bool]) -> None:
    topic = Topics(settings.namespace).control
    codec = codec_for(settings.schema_registry_url)
    group = f"{settings.namespace}.control-{uuid.uuid4().hex}"
    consumer = Consumer(consumer_config(settings, group, enable_partition_eof=True))
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        while not is_done(False):
            message = consumer.poll(POLL_S)
            if message is None:
                continue
            error = message.error()
            if error is None:
                try:
                    record = codec.decode(message.value(), topic=topic)
                except DecodeError as exc:
                    log.warning("a command can't be read: %s", exc)
                    continue
                if isinstance(record, Command):
                    listener(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                if is_done(True):
                    return
            elif error.fatal() or error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                msg = f"{topic} can't be read: {error.str()}"
                raise BrokerError(msg)
    finally:
        consumer.close()
