"""Brokers in containers under load: some of three stopped, a disk that fills. Nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import NewTopic

from streams.kafka import admin, producer_config
from tests.containers.engine import HERE, ROOT, Compose, ContainerTape, wait_until
from tests.load import SOURCE, begin, finish, rows_come, start_all

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

THREE = {
    "kafka": "SESSIONTAPE_KAFKA_PORT",
    "kafka-2": "SESSIONTAPE_KAFKA_2_PORT",
    "kafka-3": "SESSIONTAPE_KAFKA_3_PORT",
}
AWAY = "the brokers are away"
FULL = "No space left on device"
MESSAGE = 900_000


def test_one_of_three_brokers_may_go_and_two_are_waited_for(
    images: tuple[str, ...], namespace: str, tmp_path: Path
) -> None:
    over = ROOT / "deploy" / "compose" / "three-brokers.yml"
    with Compose(over, brokers=THREE) as compose:
        compose.up_brokers()
        second, third = compose.container("kafka-2"), compose.container("kafka-3")
        with ContainerTape(
            compose, namespace, tmp_path, partitions=2, source=SOURCE, replication=3
        ) as tape:
            coordinator = start_all(tape, is_supervised=True)["coordinator"]
            begin(tape)
            rows_come(tape)
            second.kill()
            rows_come(tape)
            assert not tape.ended()
            said = len(coordinator.log)
            third.kill()
            tape.until(lambda: AWAY in coordinator.log[said:], "a coordinator that says so")
            second.start()
            third.start()
            rows_come(tape)
            finish(tape)


def test_a_full_disk_stops_the_tape_and_a_larger_one_loses_nothing(
    images: tuple[str, ...], namespace: str, tmp_path: Path
) -> None:
    with Compose(HERE / "full-disk.yml") as compose:
        compose.up_brokers()
        kafka = compose.container("kafka")
        with ContainerTape(compose, namespace, tmp_path, source=SOURCE) as tape:
            start_all(tape, is_supervised=True)
            begin(tape)
            rows_come(tape)
            fill(tape)
            wait_until(lambda: b"the broker ended with" in kafka.logs(tail=400), "its end", 120)
            assert FULL in kafka.logs().decode()
            grown = ["sh", "-c", "mount -o remount,size=1g /small && touch /tmp/again"]
            made = kafka.exec_run(grown, user="0")
            assert made.exit_code == 0, made.output
            rows_come(tape)
            finish(tape)


def fill(tape: ContainerTape) -> None:
    """Send what nobody reads until the broker takes no more."""
    topic = f"{tape.settings.namespace}.filler"
    with admin(tape.settings) as asker:
        asker.create_topics([NewTopic(topic, 1)])[topic].result(30)
    refused: list[object] = []
    config = producer_config(tape.settings, message_timeout_ms=10_000, linger_ms=0)
    producer = Producer(config)
    while not refused:
        # Noise, for what can be packed fills no disk.
        for _ in range(10):
            producer.produce(
                topic,
                os.urandom(MESSAGE),
                on_delivery=lambda error, _: refused.append(error) if error else None,
            )
        try:
            producer.flush(30)
        except KafkaException as exc:
            refused.append(exc)
    producer.purge()
    producer.flush(0)
