"""The local broker: a real Kafka started, used, killed, found and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.errors import BrokerError
from streams.local import LocalBroker
from streams.local.jars import cache_folder, classpath
from streams.local.kafka import VERSION
from streams.local.process import ProcessRecord, alive, spawn
from streams.local.training import exercise


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalBroker]:
    """A broker of this test's own, not started yet, stopped in the end."""
    broker = LocalBroker(tmp_path / "data")
    yield broker
    broker.stop()


def create(broker: LocalBroker, topic: str, partitions: int = 1) -> None:
    with AdminClient({"bootstrap.servers": broker.bootstrap_servers}) as admin:
        admin.create_topics([NewTopic(topic, partitions)])[topic].result(20)


def produce(broker: LocalBroker, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "acks": "all"})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0


def consume(broker: LocalBroker, topic: str, count: int) -> list[bytes]:
    config: dict[str, str | int | float | bool] = {
        "bootstrap.servers": broker.bootstrap_servers,
        "group.id": topic,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    values: list[bytes] = []
    with closing(Consumer(config)) as consumer:
        consumer.subscribe([topic])
        while len(values) < count:
            messages = consumer.consume(count - len(values), timeout=20)
            assert messages, f"{len(values)} of {count} messages came"
            for message in messages:
                assert message.error() is None, message.error()
                values.append(message.value() or b"")
    return values


def copy_jars(folder: Path) -> None:
    """Copy the jars of the user's cache, which a started broker has filled."""
    only_jars = shutil.ignore_patterns("*.aot", "*.part", "*.failed", ".*")
    shutil.copytree(
        cache_folder() / f"kafka-{VERSION}", folder, dirs_exist_ok=True, ignore=only_jars
    )


def mapped(broker: LocalBroker) -> set[str]:
    assert broker.pid is not None
    return {region.path for region in psutil.Process(broker.pid).memory_maps()}


def kill_from_outside(broker: LocalBroker) -> None:
    pid = broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while broker.running:
        os.sched_yield()


def test_it_answers_and_keeps_what_it_is_given(broker: LocalBroker, namespace: str) -> None:
    topic = f"{namespace}.t"
    create(broker, topic)
    values = [b"%d" % number for number in range(500)]
    produce(broker, topic, values)
    assert consume(broker, topic, 500) == values


def test_a_topic_nobody_created_is_not_made_up(broker: LocalBroker, namespace: str) -> None:
    with AdminClient({"bootstrap.servers": broker.bootstrap_servers}) as admin:
        assert namespace not in admin.list_topics(timeout=20).topics
        metadata = admin.list_topics(namespace, timeout=20).topics[namespace]
        assert metadata.error is not None
        assert namespace not in admin.list_topics(timeout=20).topics


def test_it_is_found_again_and_not_started_twice(broker: LocalBroker) -> None:
    found = LocalBroker.find(broker.data_dir)
    assert found is not None
    assert found.running
    assert found.pid == broker.pid
    assert found.bootstrap_servers == broker.bootstrap_servers
    for again in (LocalBroker(broker.data_dir), broker):
        with pytest.raises(BrokerError, match=rf"already runs on .*pid {broker.pid}, 127\.0\.0\.1"):
            again.start()
    assert broker.running


def test_stop_start_and_kill_keep_port_and_messages(own: LocalBroker, namespace: str) -> None:
    with pytest.raises(BrokerError, match="was not started yet"):
        _ = own.bootstrap_servers
    said: list[str] = []
    own.start(progress=said.append)
    assert said[-2:] == ["formatting the broker's data folder", "starting Kafka"]
    address, first = own.bootstrap_servers, own.pid
    assert first is not None
    create(own, namespace)
    produce(own, namespace, [b"before the stop"])

    own.stop()
    assert not own.running
    assert own.pid is None
    assert not own.record_path.exists()
    assert LocalBroker.find(own.data_dir) is None

    said.clear()
    own.start(progress=said.append)
    assert said[-1] == "starting Kafka"
    assert "formatting the broker's data folder" not in said
    assert own.bootstrap_servers == address
    produce(own, namespace, [b"before the kill"])
    kill_from_outside(own)

    own.start()
    assert own.bootstrap_servers == address
    assert own.pid != first
    assert consume(own, namespace, 2) == [b"before the stop", b"before the kill"]


def test_a_killed_broker_leaves_a_stale_record(own: LocalBroker, namespace: str) -> None:
    own.start()
    address, pid = own.bootstrap_servers, own.pid
    create(own, namespace)
    produce(own, namespace, [b"kept"])
    own.kill()
    own.kill()
    assert not own.running
    record = ProcessRecord.read(own.record_path)
    assert record is not None
    assert record.pid == pid
    assert LocalBroker.find(own.data_dir) is None

    with LocalBroker(own.data_dir) as other:
        assert other.bootstrap_servers == address
        assert consume(other, namespace, 1) == [b"kept"]


def test_a_record_of_a_process_that_is_no_broker_is_stale(own: LocalBroker, tmp_path: Path) -> None:
    sleeper = spawn(["sleep", "60"], tmp_path / "out")
    try:
        own.data_dir.mkdir()
        record = ProcessRecord.of(sleeper)
        ProcessRecord(record.pid, record.created_s - 3600, {"client": 1}).write(own.record_path)
        assert LocalBroker.find(own.data_dir) is None
        own.start()
        assert own.running
        assert alive(sleeper)
    finally:
        sleeper.kill()
        sleeper.wait(10)


def test_a_broker_left_running_is_stopped_by_whoever_finds_it(own: LocalBroker) -> None:
    own.start()
    found = LocalBroker.find(own.data_dir)
    assert found is not None
    with found:
        assert found.pid == own.pid
    assert not own.running


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"^port {port} is taken by another program"):
            LocalBroker(tmp_path, port=port).start()


class Unlucky(LocalBroker):
    """Somebody takes its ports after it has chosen them, some times."""

    def __init__(self, data_dir: Path, taken: int, times: int) -> None:
        super().__init__(data_dir)
        self.taken = taken
        self.times = times

    def _choose_ports(self, remembered: dict[str, int]) -> dict[str, int]:
        ports = super()._choose_ports(remembered)
        self.times -= 1
        return ports | {"client": self.taken} if self.times >= 0 else ports


def test_a_port_lost_on_the_way_is_chosen_anew(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Unlucky(tmp_path, taken.getsockname()[1], times=1) as broker,
    ):
        assert broker.port != broker.taken


def test_ports_lost_again_and_again_are_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        broker = Unlucky(tmp_path, taken.getsockname()[1], times=9)
        with pytest.raises(BrokerError, match="did not start: a port that was free was taken"):
            broker.start()
    assert not broker.running
    assert not broker.record_path.exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match=r"can't write to .*file.data .*choose another folder"):
        LocalBroker(tmp_path / "file" / "data").start()


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        BrokerError, match=r"is full: .* MB are free, the broker needs 100000000000"
    ):
        LocalBroker(tmp_path, min_free_mb=10**11).start()


def test_a_heap_too_small_is_one_sentence(own: LocalBroker) -> None:
    own.start()
    own.stop()
    starved = LocalBroker(own.data_dir, heap_mb=12)
    with pytest.raises(BrokerError, match="Kafka did not start: its heap is too small"):
        starved.start()
    assert not starved.record_path.exists()


def test_a_format_that_fails_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"could not format its folder: .*log format\.out"):
        LocalBroker(tmp_path, heap_mb=3).start()


def test_a_broker_that_is_too_slow_leaves_no_process(own: LocalBroker) -> None:
    with pytest.raises(BrokerError, match=r"could not format .* in time"):
        own.start(timeout_s=0)
    own.start()
    own.stop()
    with pytest.raises(BrokerError, match="did not answer in time; its log is"):
        own.start(timeout_s=0)
    assert not own.running
    assert not own.record_path.exists()


def test_a_jar_corrupted_in_the_cache_is_fetched_again(broker: LocalBroker, tmp_path: Path) -> None:
    assert broker.running, "so the user's cache is filled"
    copy = tmp_path / "jars"
    copy_jars(copy)
    corrupt = copy / "jspecify-1.0.0.jar"
    corrupt.write_bytes(corrupt.read_bytes()[:-1])
    said: list[str] = []
    assert corrupt in classpath(copy, progress=said.append)
    assert said[-1] == "fetching Kafka: 1 of 1 jars"
    original = cache_folder() / f"kafka-{VERSION}" / corrupt.name
    assert corrupt.read_bytes() == original.read_bytes()


@pytest.mark.timeout(600)  # the limits of the training among them
def test_an_aot_cache_is_made_once_used_and_made_again_when_broken(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    assert broker.running, "so the user's cache is filled"
    jars = tmp_path / f"kafka-{VERSION}"
    copy_jars(jars)
    left = LocalBroker(jars / ".aot-training" / "broker", cache_dir=tmp_path, use_aot=False)
    left.start()
    own = LocalBroker(tmp_path / "data", cache_dir=tmp_path)
    said: list[str] = []
    try:
        own.start(progress=said.append)
        assert "training Kafka's AOT cache (once)" in said
        assert not [words for words in said if "without an AOT cache" in words], said
        assert not left.running, "what a killed training left is ended"
        assert not (jars / ".aot-training").exists()
        (cache,) = jars.glob("*.aot")
        assert str(cache) in mapped(own)
        assert (own.data_dir / "broker.out").read_text() == ""

        own.stop()
        said.clear()
        own.start(progress=said.append)
        assert said == ["starting Kafka"]
        assert str(cache) in mapped(own)

        own.stop()
        with cache.open("r+b") as file:
            file.seek(cache.stat().st_size // 2)
            file.write(bytes(2**22))
        own.start(progress=said.append)
        assert str(cache) not in mapped(own)
        create(own, namespace)
        produce(own, namespace, [b"all the same"])
        assert "hecksum verification failed" in (own.data_dir / "broker.out").read_text()
        assert not cache.exists(), "so the next start makes another"
    finally:
        own.stop()
        left.stop()


def test_a_broker_can_go_without_an_aot_cache(broker: LocalBroker, tmp_path: Path) -> None:
    assert broker.running, "so the user's cache is filled"
    copy_jars(tmp_path / f"kafka-{VERSION}")
    with LocalBroker(tmp_path / "data", cache_dir=tmp_path, use_aot=False) as own:
        assert not any(path.endswith(".aot") for path in mapped(own))
    assert not list((tmp_path / f"kafka-{VERSION}").glob("*.aot"))


def test_a_training_ends_when_its_time_is_up(broker: LocalBroker) -> None:
    exercise(broker.bootstrap_servers, limit_s=0)
    with pytest.raises(KafkaException, match="TOPIC_ALREADY_EXISTS"):
        exercise(broker.bootstrap_servers)
