"""A local stack as it is seen from outside: metrics and health of each worker, logs as JSON."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from streams.kafka import producer_config
from streams.local import LocalBroker
from streams.local.stack import Stack
from streams.local.start import start_run
from streams.local.status import status
from streams.local.workers import log_path
from streams.settings import Settings
from streams.topics import Topics
from tests.integration.commands import wait_until

SESSIONS, SHARDS = 3, 2
WORKERS = {"producer", "coordinator-1", "upkeep", "tables", "sink"}
READERS = ("tables", "upkeep", "sink")


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except URLError as exc:
        return getattr(exc, "code", 0), str(exc)


def told(port: int, name: str, **labels: str) -> float:
    """Return what a worker tells, added up over the labels that are not given."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(get(port, "/metrics")[1])
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def lines(settings: Settings, worker: str) -> list[Mapping[str, Any]]:
    """Return what a worker has logged; of librdkafka's own lines none is ours."""
    text = log_path(settings, worker).read_text()
    return [json.loads(line) for line in text.splitlines() if not line.startswith("%")]


def test_each_worker_tells_exactly_what_it_did(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        first = free.getsockname()[1]
    settings = Settings(
        bootstrap_servers=broker.bootstrap_servers,
        namespace=namespace,
        data_dir=tmp_path,
        metrics_port=first,
        log_format="json",
        alpaca_secret_key="2024-11-27",  # what a line says of a session, no secret may
    )
    topics = Topics(namespace)
    source = "synthetic:symbols=7,missing=0.01"
    with Stack(settings, partitions=SHARDS, kind="up", source=source) as stack:
        (found,) = status(settings).stacks
        ports = {worker["name"]: worker["metrics_port"] for worker in found["workers"]}
        assert set(ports) == WORKERS
        assert min(ports.values()) >= first
        assert len(set(ports.values())) == len(WORKERS)
        wait_until(lambda: {get(port, "/health") for port in ports.values()} == {(200, "ok\n")})

        sender = Producer(producer_config(stack.settings))
        for _ in range(3):
            sender.produce(topics.raw_bars, b"no message of ours", b"AIG", 1)
        assert sender.flush(10) == 0
        start_run(settings, None, "2024-11-27", "2024-12-02")
        wait_until(lambda: all(shard["event"] == "end" for shard in status(settings).shards))
        rows = sum(shard["rows"] for shard in status(settings).shards)
        assert rows > 6_000
        tape: dict[str, str] = {"topic": topics.session}
        for name in READERS:
            wait_until(lambda: told(ports[name], "sessiontape_rows_total", **tape) >= rows)  # noqa: B023
        for name in WORKERS:
            print("=====", name)
            print("\n".join(l for l in get(ports[name], "/metrics")[1].splitlines() if not l.startswith("#") and "bucket" not in l))
    for name in WORKERS:
        print(lines(settings, name)[:5])
