"""Brokers in containers under load: some of three stopped, a disk that fills. Nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
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
LOST = "Unable connect to node with id "
AWAY = ("the brokers are away", f"{LOST}3")
"""What it is doing when they go is chance: it commits, or it reads."""
FULL = "No space left on device"
ENDED = b"the broker ended with"
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
            tape.until(lambda: LOST + "2" in coordinator.log, "a coordinator that says so")
            rows_come(tape)
            assert not tape.ended()
            said = len(coordinator.log)
            third.kill()
            tape.until(lambda: says_any(coordinator.log[said:]), "a coordinator that says so")
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
            coordinator = start_all(tape, is_supervised=True)["coordinator"]
            begin(tape)
            rows_come(tape)
            fill(tape, lambda: ENDED in kafka.logs(tail=400))
            assert FULL in kafka.logs().decode()
            tape.until(lambda: LOST + "1" in coordinator.log, "a coordinator that says so")
            grown = ["sh", "-c", "mount -o remount,size=1g /small && touch /tmp/again"]
            made = kafka.exec_run(grown, user="0")
            assert made.exit_code == 0, made.output
            rows_come(tape)
            finish(tape)


def says_any(said: str) -> bool:
    return any(sign in said for sign in AWAY)


def fill(tape: ContainerTape, is_over: Callable[[], bool]) -> None:
    """Send what nobody reads until the broker ends for it."""
    topic = f"{tape.settings.namespace}.filler"
    with admin(tape.settings) as asker:
        asker.create_topics([NewTopic(topic, 1)])[topic].result(30)
    producer = Producer(producer_config(tape.settings, message_timeout_ms=10_000, linger_ms=0))

    def has_ended() -> bool:
        if not len(producer):
            # Noise, for what can be packed fills no disk.
            for _ in range(10):
                producer.produce(topic, os.urandom(MESSAGE))
        producer.flush(1)
        return is_over()

    wait_until(has_ended, "the end of the broker", 120)
    producer.purge()
    producer.flush(0)
