"""A local stack as it is seen from outside: metrics and health of each worker, logs as JSON."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
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
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
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
        sasl_password="synthetic",  # a secret that lines would hold: it's the source's name
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
        rows = {str(shard["shard"]): shard["rows"] for shard in status(settings).shards}
        wait_until(lambda: all(_rows_of(ports, topics.session, name) == rows for name in READERS))

        assert _rows_of(ports, topics.session, "coordinator-1") == rows
        # The producer has sent each row once, those of gaps too.
        assert _rows_of(ports, topics.raw_bars, "producer") == rows
        assert min(rows.values()) > 1_500
        tape, upkeep = ports["coordinator-1"], ports["upkeep"]
        assert told(tape, "sessiontape_rejected_total", topic=topics.raw_bars) == 3
        assert told(tape, "sessiontape_rejected_total") == 3
        assert told(tape, "sessiontape_sessions_total") == SESSIONS * SHARDS
        assert told(tape, "sessiontape_incomplete_sessions_total") == 0
        rolls = (SESSIONS - 1) * SHARDS
        assert told(tape, "sessiontape_rolls_total") == rolls
        assert told(tape, "sessiontape_transition_seconds_count") == rolls
        assert told(tape, "sessiontape_open_sessions") == 0
        assert told(tape, "sessiontape_clock_delay_seconds") == 0
        clock_s = told(tape, "sessiontape_session_clock_seconds", shard="0")
        assert clock_s == datetime(2024, 12, 2, 21, tzinfo=UTC).timestamp()
        assert told(upkeep, "sessiontape_quality_ratio") == SHARDS
        asked = told(upkeep, "sessiontape_gap_requests_total")
        assert asked > 0
        assert told(ports["producer"], "sessiontape_answer_seconds_count", kind="gap") == asked
        # Of each partition at most the mark of its last transaction is left.
        for name, left in {"coordinator-1": 3 * SHARDS, "tables": SHARDS, "upkeep": SHARDS}.items():
            assert told(ports[name], "sessiontape_takeovers_total") == SHARDS
            lag = partial(told, ports[name], "sessiontape_lag_offsets")
            wait_until(lambda lag=lag, left=left: lag() <= left)  # type: ignore[misc]
        for name, port in ports.items():
            assert told(port, "process_resident_memory_bytes") > 2**20
            kind = name.partition("-")[0]
            assert told(port, "sessiontape_worker_info", worker=kind, namespace=namespace) == 1
    said = {name: lines(settings, name) for name in WORKERS}
    for some in said.values():
        assert {line["namespace"] for line in some} == {namespace}
        assert all({"time", "level", "logger", "event"} <= line.keys() for line in some)
        assert "synthetic" not in json.dumps(some)
    assert {line["source"] for line in said["producer"] if "source" in line} == {"***"}
    refused = [line for line in said["coordinator-1"] if line["level"] == "warning"]
    assert [(line["shard"], line["offset"]) for line in refused] == [(1, 0), (1, 1), (1, 2)]
    answered = {line["session"] for line in said["producer"] if line.get("kind") == "session"}
    assert answered == {"2024-11-27"}


def _rows_of(ports: Mapping[str, int], topic: str, worker: str) -> dict[str, float]:
    """Return by shard the rows that a worker tells of a topic."""
    name, port = "sessiontape_rows_total", ports[worker]
    return {str(n): told(port, name, topic=topic, shard=str(n)) for n in range(SHARDS)}
