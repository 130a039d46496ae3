"""The desired state of a namespace, on the compacted ``control`` topic."""

from __future__ import annotations

import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas import Command
from schemas.registry import codec_for
from streams.calendar import Session
from streams.errors import BrokerError, CommandError, DecodeError, DeliveryError
from streams.kafka import LOOK_MS, consumer_config, producer_config
from streams.settings import Settings
from streams.topics import MESSAGE_BYTES, SYMBOL_BYTES, Topics

__all__ = [
    "ControlReader",
    "command_of",
    "is_one_replay",
    "latest_command",
    "live_of",
    "new_run",
    "send_command",
    "sought_run",
]

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
    on_error
        Called in that thread with what ended it.
    """

    def __init__(
        self, settings: Settings, listener: Listener, on_error: Callable[[Exception], None]
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._on_error = on_error
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
        try:
            _read(self._settings, self._listener, lambda _: self._stopped.is_set())
        except Exception as exc:  # noqa: BLE001 - a thread has nobody else to tell
            self._on_error(exc)


def new_run() -> str:
    """Return the id of a new run: the time of now, UTC, and something random."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def sought_run(run: str) -> str:
    """Return the id of the run that a seek begins in the place of another: ``….2``, ``….3``."""
    first, _, number = run.partition(".")
    return f"{first}.{int(number or 1) + 1}"


def is_one_replay(run: str, other: str) -> bool:
    """Tell whether a seek, or several, led from one run to the other."""
    return run.partition(".")[0] == other.partition(".")[0]


def command_of(
    settings: Settings,
    symbols: Sequence[str],
    sessions: Sequence[Session],
    *,
    upkeep: bool = False,
    lockstep: Sequence[str] = (),
) -> Command:
    """Return the command that starts a replay, but for version, run, anchor and readers.

    Parameters
    ----------
    settings
        Calendar, hours, speed, time-out, prefetch, derived bars and trailing sessions.
    symbols, sessions
        What is played.
    upkeep
        Whether an upkeep runs: without one nobody fills gaps, and none is waited for.
    lockstep
        Consumer groups that the clock waits for behind each slice.
    """
    return Command(
        version=0,
        action="start",
        run="",
        mode="replay",
        calendar=settings.calendar,
        start=sessions[0].label,
        end=sessions[-1].label,
        symbols=tuple(symbols),
        streams=("bars",),
        anchor_wall_ns=0,
        hours=settings.hours,
        speed=settings.speed_factor,
        session_timeout_s=settings.session_timeout_s,
        on_timeout=settings.on_timeout,
        prefetch_sessions=settings.prefetch_sessions,
        trailing_sessions=settings.trailing_sessions,
        upkeep=upkeep,
        derived=settings.derived,
        historical=settings.historical,
        lockstep=tuple(lockstep),
        lockstep_timeout_s=settings.lockstep_timeout_s,
        lateness_s=settings.lateness_s,
        catchup_threshold_s=settings.catchup_threshold_s,
    )


def live_of(command: Command, wall_ns: int, clock_ns: int = 0) -> Command:
    """Return a command as that of a live run that begins now.

    Parameters
    ----------
    command
        Of a replay, as `command_of` gives it.
    wall_ns
        Wall time of now.
    clock_ns
        What time it is on the tape then, in a rehearsal, which goes at the command's speed; 0: it
        goes by the clock on the wall.
    """
    speed = (command.speed or 1.0) if clock_ns else 1.0
    return replace(
        command,
        mode="live",
        speed=speed,
        anchor_wall_ns=wall_ns,
        anchor_clock_ns=clock_ns or wall_ns,
    )


def latest_command(settings: Settings, run: str = "") -> Command | None:
    """Return the command that counts, None before the first.

    With ``run`` it is the last of that run, None where later ones have taken its place.

    Raises
    ------
    BrokerError
        The topic can't be read.
    """
    found: list[Command] = []
    deadline = time.monotonic() + TIMEOUT_S

    def is_done(is_at_end: bool) -> bool:
        if not is_at_end and time.monotonic() > deadline:
            msg = f"the commands of {settings.namespace} can't be read: no broker answers"
            raise BrokerError(msg)
        return is_at_end

    _read(settings, found.append, is_done, fetch_wait_max_ms=LOOK_MS)
    mine = (command for command in found if run in ("", command.run))
    return max(mine, key=lambda command: command.version, default=None)


def send_command(settings: Settings, command: Command) -> None:
    """Put a command on ``control``; it returns when the brokers have it.

    Raises
    ------
    CommandError
        It is too large, or names a symbol of more than `SYMBOL_BYTES`.
    DeliveryError
        The brokers did not take it.
    """
    if longest := [s for s in command.symbols if len(s.encode()) > SYMBOL_BYTES]:
        msg = f"symbol {longest[0]!r} has more than {SYMBOL_BYTES} bytes"
        raise CommandError(msg)
    failed: list[str] = []
    # The same command twice is one, by its version; to be idempotent a new producer takes 0.5 s.
    producer = Producer(
        producer_config(
            settings,
            enable_idempotence=False,
            acks="all",
            linger_ms=0,
            message_timeout_ms=int(TIMEOUT_S * 1000),
        )
    )
    topic = Topics(settings.namespace).control
    value = codec_for(settings.schema_registry_url).encode(command, topic)
    if len(value) > MESSAGE_BYTES:
        msg = f"{len(command.symbols)} symbols are too many for one command: split the namespace"
        raise CommandError(msg)
    producer.produce(
        topic,
        value,
        settings.namespace.encode(),
        on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
    )
    if producer.flush(TIMEOUT_S) or failed:
        raise DeliveryError((failed or ["no answer in time"])[0], failed=1, sent=1)


def _read(
    settings: Settings, listener: Listener, is_done: Callable[[bool], bool], **changes: int
) -> None:
    topic = Topics(settings.namespace).control
    codec = codec_for(settings.schema_registry_url)
    group = f"{settings.namespace}.control-{uuid.uuid4().hex}"
    consumer = Consumer(consumer_config(settings, group, enable_partition_eof=True, **changes))
    consumer.assign([TopicPartition(topic, 0, 0)])
    is_seen = False
    try:
        while not is_done(False):
            message = consumer.poll(POLL_S)
            if message is None:
                if not is_seen:
                    _check_is_shown(consumer, topic)
                continue
            error = message.error()
            is_seen |= error is None or error.code() == KafkaError._PARTITION_EOF
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
            elif error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                msg = f"{topic} can't be read: {error.str()}"
                raise BrokerError(msg)
    finally:
        consumer.close()


def _check_is_shown(consumer: Consumer, topic: str) -> None:
    """Raise BrokerError where the brokers hide a topic from us: of it no message tells."""
    try:
        error = consumer.list_topics(topic, POLL_S).topics[topic].error
    except KafkaException:  # none answers; that is told in time
        return
    if error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        msg = f"{topic} is not for this user to read: `sessiontape acls` says for whom"
        raise BrokerError(msg)
