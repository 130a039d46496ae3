"""Commands on a real broker, and topics that are there, missing or of another shape."""

from __future__ import annotations

import queue
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from schemas import Codec, Command, Coverage
from streams import control, kafka
from streams.control import ControlReader, latest_command, send_command
from streams.errors import BrokerError, CommandError, DeliveryError, TopicError
from streams.kafka import admin, check_topics, create_topics, first_offset, producer_config
from streams.local import LocalBroker
from streams.settings import Settings, load
from streams.topics import SYMBOL_BYTES, Topics

NOWHERE = load().but(bootstrap_servers="127.0.0.1:1")


@pytest.fixture
def bare(broker: LocalBroker, namespace: str, tmp_path: Path) -> Settings:
    """A namespace without topics."""
    return load().but(
        bootstrap_servers=broker.bootstrap_servers, namespace=namespace, data_dir=tmp_path
    )


@pytest.fixture
def settings(bare: Settings) -> Settings:
    create_topics(bare, 2)
    return bare


def command(version: int, run: str = "run-1", symbols: tuple[str, ...] = ("AA",)) -> Command:
    return Command(
        version=version,
        action="start",
        run=run,
        mode="replay",
        calendar="XNYS",
        start="2024-11-27",
        end="2024-11-29",
        symbols=symbols,
        streams=("bars",),
        anchor_wall_ns=1,
    )


def send_bytes(settings: Settings, *values: bytes) -> None:
    topic = Topics(settings.namespace).control
    producer = Producer(producer_config(settings))
    for value in values:
        producer.produce(topic, value, b"other")
    assert producer.flush(30) == 0


def fail(exc: Exception) -> None:
    raise AssertionError from exc


def test_the_command_of_the_highest_version_counts(settings: Settings) -> None:
    assert latest_command(settings) is None
    for version in (1, 3, 2):
        send_command(settings, command(version))
    found = latest_command(settings)
    assert found == command(3)


def test_a_reader_hears_all_that_came_and_what_comes(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    heard: queue.Queue[Command] = queue.Queue()
    send_command(settings, command(1))
    # What is no command is passed over, not guessed at.
    send_bytes(settings, b"nonsense", Codec().encode(Coverage(("AA",), 0, 60)))
    reader = ControlReader(settings, heard.put, fail)
    reader.start()
    try:
        assert heard.get(timeout=30) == command(1)
        send_command(settings, command(2, run="run-2"))
        assert heard.get(timeout=30) == command(2, run="run-2")
    finally:
        reader.stop()
    assert heard.empty()
    assert "a command can't be read" in caplog.text
    assert latest_command(settings) == command(2, run="run-2")


def test_what_ends_a_reader_is_told(settings: Settings) -> None:
    told: queue.Queue[Exception] = queue.Queue()

    def refuse(_: Command) -> None:
        raise CommandError("out of place")

    send_command(settings, command(1))
    reader = ControlReader(settings, refuse, told.put)
    reader.start()
    try:
        assert str(told.get(timeout=30)) == "out of place"
    finally:
        reader.stop()


def test_commands_that_no_message_holds_are_refused_before_they_are_sent() -> None:
    long = command(1, symbols=("A" * (SYMBOL_BYTES + 1),))
    with pytest.raises(CommandError, match=f"more than {SYMBOL_BYTES} bytes"):
        send_command(NOWHERE, long)
    many = command(1, symbols=tuple(f"{n:030d}" for n in range(40_000)))
    with pytest.raises(CommandError, match="40000 symbols are too many"):
        send_command(NOWHERE, many)


def test_without_brokers_commands_fail_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "TIMEOUT_S", 0.5)
    with pytest.raises(BrokerError, match="no broker answers"):
        latest_command(NOWHERE)
    with pytest.raises(DeliveryError, match="1 of 1 messages") as caught:
        send_command(NOWHERE, command(1))
    assert (caught.value.failed, caught.value.sent) == (1, 1)


def test_topics_are_made_once_and_found_again(settings: Settings) -> None:
    topics = Topics(settings.namespace)
    assert create_topics(settings, 2) == 2
    assert check_topics(settings, {topics.session: 2, topics.control: 1}) == 2
    assert check_topics(settings, (topics.rejected, topics.session)) == 2
    with pytest.raises(TopicError, match="has 2 partitions, not 3: take another namespace"):
        create_topics(settings, 3)


def test_a_topic_that_is_missing_is_named(bare: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = Topics(bare.namespace)
    with pytest.raises(TopicError, match=rf"topic {topics.session} is missing"):
        check_topics(bare, (topics.session,))
    monkeypatch.setattr(kafka, "CREATED_S", 0.3)
    with pytest.raises(TopicError, match="is missing"):
        kafka._await_topics(bare, {topics.session: 1})


def test_topics_that_brokers_refuse_to_make_are_an_error(bare: Settings) -> None:
    with pytest.raises(BrokerError, match=r"topic .* can't be created"):
        create_topics(bare.but(replication=9), 1)


def test_one_topic_made_otherwise_is_found(bare: Settings) -> None:
    topics = Topics(bare.namespace)
    with admin(bare) as client:
        client.create_topics([NewTopic(topics.requests, 5)])[topics.requests].result(30)
    with pytest.raises(TopicError, match=rf"topic {topics.requests} has 5 partitions, not 2"):
        create_topics(bare, 2)


def test_where_nothing_was_written_there_is_no_first_offset(settings: Settings) -> None:
    assert first_offset(settings, Topics(settings.namespace).raw_bars, 1, 0, 9) is None


def test_a_partition_that_cannot_be_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "METADATA_TIMEOUT_S", 0.3)
    with pytest.raises(BrokerError, match=r"tape\.raw\.bars\[0\] can't be read from 4 on"):
        first_offset(NOWHERE, "tape.raw.bars", 0, 4, 9)
