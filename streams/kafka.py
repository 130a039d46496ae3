"""How the brokers are spoken to: confluent-kafka's configuration from the settings, topics made."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, TopicMetadata

from streams.errors import BrokerError, ConfigError, TopicError
from streams.settings import Settings
from streams.topics import PARTITIONER, Topics

__all__ = [
    "LOOK_MS",
    "Config",
    "admin",
    "await_brokers",
    "check_topics",
    "consumer_config",
    "create_topics",
    "ensure_topics",
    "first_offset",
    "producer_config",
    "report_uncut",
    "topics_there",
]

log = logging.getLogger(__name__)

T = TypeVar("T")
Config: TypeAlias = dict[str, str | int | float | bool]

METADATA_TIMEOUT_S = 10.0
METADATA_POLL_S = 0.05
METADATA_STEP_S = 1.0
CREATED_S = 10.0
"""Seconds within which topics that were created are to be seen."""
_REFUSED = (KafkaError._AUTHENTICATION, KafkaError._SSL)
AWAY_POLL_S = 0.5
LOOK_MS = 1
"""A fetch of who only looks what stands at the end: brokers hold it so long when that is all."""
_SHOW_ONE = "; if they want a certificate, set SESSIONTAPE_SSL_CERTIFICATE_LOCATION"


class MissingTopicError(TopicError):
    """A topic is not there (yet)."""


def client_config(settings: Settings) -> Config:
    """Return what every client of confluent-kafka needs: brokers, TLS, SASL."""
    if not settings.bootstrap_servers:
        msg = "no broker: start one with `sessiontape up` or set SESSIONTAPE_BOOTSTRAP_SERVERS"
        raise ConfigError(msg)
    config: Config = {
        "bootstrap.servers": settings.bootstrap_servers,
        "security.protocol": settings.security_protocol,
        # What matters comes as an error of a call; the rest fills the logs while brokers restart.
        "log_level": 2,
        "reconnect.backoff.max.ms": 1_000,
    }
    if settings.security_protocol.startswith("SASL"):
        config |= {
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": settings.sasl_username,
            "sasl.password": settings.sasl_password.get_secret_value(),
        }
    files = {
        "ssl.ca.location": settings.ssl_ca_location,
        "ssl.certificate.location": settings.ssl_certificate_location,
        "ssl.key.location": settings.ssl_key_location,
    }
    config |= {name: str(path) for name, path in files.items() if path is not None}
    if settings.ssl_key_password.get_secret_value():
        config["ssl.key.password"] = settings.ssl_key_password.get_secret_value()
    return config


def consumer_config(settings: Settings, group: str, **changes: str | float | bool) -> Config:
    """Return a consumer's configuration: read_committed, no commits by itself, tuned fetches.

    ``changes`` are librdkafka properties with ``_`` for ``.``.
    """
    config = client_config(settings) | {
        "group.id": group,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        # With the defaults a consumer that is faster than its fetches stalls for up to 0.9 s.
        "queued.min.messages": 1_000_000,
        "queued.max.messages.kbytes": 65_536,
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": 100,
        # The close of a session, its roll and the next open come with the rows before them.
        "fetch.message.max.bytes": 8 * 2**20,
        "session.timeout.ms": int(settings.broker_session_timeout_s * 1000),
        "heartbeat.interval.ms": int(settings.broker_session_timeout_s * 1000) // 3,
    }
    return config | _dotted(changes)


def producer_config(settings: Settings, **changes: str | float | bool) -> Config:
    """Return an idempotent producer's configuration, with Java's default partitioner."""
    config = client_config(settings) | {
        "enable.idempotence": True,
        "partitioner": PARTITIONER,
        "message.max.bytes": 1_000_000,
        "linger.ms": 2,
        "queue.buffering.max.kbytes": 131_072,
    }
    return config | _dotted(changes)


def _dotted(changes: Mapping[str, str | float | bool]) -> Config:
    return {name.replace("_", "."): value for name, value in changes.items()}


def admin(settings: Settings) -> AdminClient:
    """Return an admin client, to be used in a ``with`` block.

    One that is left to the garbage collector may be taken down long after its broker: librdkafka
    2.16 then waits for ever for a question about a group that once failed.
    """
    return AdminClient(client_config(settings))


def create_topics(settings: Settings, shards: int) -> int:
    """Create the topics of the namespace where there are none; return their number of shards.

    Raises
    ------
    TopicError
        They exist with numbers of partitions that differ from each other or from ``shards``.
    BrokerError
        The brokers can't be reached.
    """
    topics = Topics(settings.namespace)
    # Deletion is ours, by DeleteRecords behind what every reader has seen: a replay of 2013
    # would expire at once under a retention by time.
    kept = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}
    passing = {"retention.ms": "604800000", "message.timestamp.type": "LogAppendTime"}
    compact = {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}
    wanted = {
        **dict.fromkeys((*topics.raw, topics.session), (shards, kept)),
        **dict.fromkeys(map(topics.derived, settings.derived), (shards, kept)),
        topics.history: (shards, kept),
        **dict.fromkeys((topics.requests, topics.raw_history), (shards, passing)),
        topics.control: (1, compact),
        topics.rejected: (1, passing),
        **{topics.changelog(table): (shards, compact) for table in ("symbols", "shards")},
    }
    news = [
        NewTopic(name, num_partitions=n, replication_factor=settings.replication, config=config)
        for name, (n, config) in wanted.items()
    ]
    with admin(settings) as client:
        for name, done in client.create_topics(news).items():
            try:
                done.result()
            except KafkaException as exc:
                if exc.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    msg = f"topic {name} can't be created: {exc.args[0].str()}"
                    raise BrokerError(msg) from exc
    return _await_topics(settings, {name: n for name, (n, _) in wanted.items()})


def ensure_topics(settings: Settings, shards: int = 0, wait_s: float = 0.0) -> int:
    """Create what is missing of a namespace's topics; return their number of shards.

    Parameters
    ----------
    settings
        Brokers and namespace.
    shards
        Wanted; 0 takes those that it has, or those of the settings.
    wait_s
        Seconds that the brokers may take to be there, all that the replicas need.

    Raises
    ------
    TopicError
        They exist with numbers of partitions that differ from each other or from ``shards``.
    BrokerError
        The brokers can't be reached.
    """

    def ensured() -> int:
        wanted = shards
        if not wanted:
            try:
                wanted = check_topics(settings, (Topics(settings.namespace).session,))
            except TopicError:
                wanted = settings.partitions
        return create_topics(settings, wanted)

    return _again(ensured, wait_s)


def await_brokers(settings: Settings, wait_s: float) -> None:
    """Wait until brokers answer.

    Raises
    ------
    BrokerError
        They do not, or don't let us in.
    """
    _again(lambda: topics_there(settings), wait_s)


def _again(ask: Callable[[], T], wait_s: float) -> T:
    """Ask again for some seconds, while brokers may not be there yet."""
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            return ask()
        except BrokerError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(AWAY_POLL_S)


def _await_topics(settings: Settings, wanted: Mapping[str, int]) -> int:
    """Wait until the brokers' metadata shows what was created: it follows a little later."""
    deadline = time.monotonic() + CREATED_S
    while True:
        try:
            return check_topics(settings, wanted)
        except MissingTopicError:
            if time.monotonic() > deadline:
                raise
            time.sleep(METADATA_POLL_S)


def check_topics(settings: Settings, wanted: Mapping[str, int] | Iterable[str]) -> int:
    """Check that topics exist (and have the partitions given); return those of the session topic.

    Raises
    ------
    TopicError
        One is missing or has another number of partitions.
    BrokerError
        The brokers can't be reached.
    """
    topics = Topics(settings.namespace)
    found = topics_there(settings)
    counts = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(wanted, 0)
    user = settings.sasl_username if settings.security_protocol.startswith("SASL") else ""
    for name, count in counts.items():
        if name not in found:
            # Of what a user may not see, brokers say nothing.
            hidden = f" or hidden from user {user!r} (`sessiontape acls`)" if user else ""
            msg = f"topic {name} is missing{hidden}: create the namespace with `sessiontape up`"
            raise MissingTopicError(msg)
        has = len(found[name].partitions)
        if count and has != count:
            msg = (
                f"topic {name} has {has} partitions, not {count}: "
                "take another namespace or the number it was made with"
            )
            raise TopicError(msg)
    return len(found[topics.session].partitions)


def topics_there(settings: Settings) -> dict[str, TopicMetadata]:
    """Return the topics of the brokers, by name.

    Raises
    ------
    BrokerError
        The brokers can't be reached, or don't let us in.
    """
    refused: list[KafkaError] = []

    def told(error: KafkaError) -> None:
        if error.code() in _REFUSED:
            refused.append(error)

    config: dict[str, Any] = client_config(settings) | {"error_cb": told}
    deadline_s = time.monotonic() + METADATA_TIMEOUT_S
    with AdminClient(config) as client:
        while True:
            try:
                # In short steps: that we are refused is told beside the call, which would wait on.
                return client.list_topics(timeout=METADATA_STEP_S).topics
            except KafkaException as exc:
                client.poll(0)
                if refused:
                    raise BrokerError(_refusal(settings, refused[0])) from exc
                if time.monotonic() > deadline_s:
                    where = settings.bootstrap_servers
                    # Of a certificate that is missing TLS 1.3 tells nobody: the brokers hang up.
                    shows = settings.ssl_certificate_location is not None
                    hint = "" if shows or settings.security_protocol != "SSL" else _SHOW_ONE
                    msg = f"no broker answers at {where}: {exc.args[0].str()}{hint}"
                    raise BrokerError(msg) from exc


def _refusal(settings: Settings, error: KafkaError) -> str:
    """Return the sentence for brokers that don't let us in, or that we don't trust."""
    where = settings.bootstrap_servers
    if error.code() == KafkaError._AUTHENTICATION and settings.security_protocol != "SSL":
        return (
            f"the brokers at {where} do not let user {settings.sasl_username!r} in: set "
            "SESSIONTAPE_SASL_USERNAME, SESSIONTAPE_SASL_PASSWORD and SESSIONTAPE_SASL_MECHANISM "
            f"({settings.sasl_mechanism}) to what they know"
        )
    said = error.str().rpartition(": ")[2].partition(" (")[0]
    return (
        f"no TLS with the brokers at {where} ({said}): look at SESSIONTAPE_SSL_CA_LOCATION, and "
        "at SESSIONTAPE_SSL_CERTIFICATE_LOCATION where they want one"
    )


def first_offset(
    settings: Settings, topic: str, partition: int, start: int, end: int
) -> int | None:
    """Return the first offset in [start, end) of a partition at which there is a message.

    None where there is none: marks of transactions, or what was deleted by us.

    Raises
    ------
    BrokerError
        The partition can't be read.
    """
    config = consumer_config(
        settings, f"{settings.namespace}.reader-{uuid.uuid4().hex}", enable_partition_eof=True
    )
    consumer = Consumer(config)
    try:
        consumer.assign([TopicPartition(topic, partition, start)])
        deadline = time.monotonic() + METADATA_TIMEOUT_S
        while time.monotonic() < deadline:
            message = consumer.poll(METADATA_POLL_S)
            if message is None:
                continue
            error = message.error()
            offset = message.offset()
            if error is None and offset is not None:
                return offset if offset < end else None
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                return None
    finally:
        consumer.close()
    msg = f"{topic}[{partition}] can't be read from {start} on"
    raise BrokerError(msg)


def report_uncut(place: TopicPartition, done: Any) -> None:
    """Log where the deletion of records failed; ``done`` is its future."""
    if (error := done.exception()) is not None:
        log.warning("%s[%d] can't be cut: %s", place.topic, place.partition, error)
