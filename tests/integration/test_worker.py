"""A worker whose group was divided when its topic was not to be seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.kafka import create_topics, producer_config
from streams.local import LocalBroker
from streams.settings import load
from streams.topics import Topics
from tests.integration.commands import wait_until
from tests.workers import environment

pytestmark = pytest.mark.usefixtures("unmeasured")

PROGRAM = """
from streams.settings import load
from streams.topics import Topics
from streams.worker import make_app, run_app

settings = load()
app = make_app(settings, f"{settings.namespace}.waits")

@app.agent(app.topic(Topics(settings.namespace).session))
async def taken(stream):
    async for value in stream:
        print("took", value, flush=True)

run_app(app, settings, "waits", lambda: "")
"""
SOON_S = 60.0
"""aiokafka by itself looks after 300 s."""


def test_a_topic_that_comes_to_be_seen_is_read_soon(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    """As after a restart of the broker, whose first answers may know of no topic."""
    values: dict[str, object] = {
        "bootstrap_servers": broker.bootstrap_servers,
        "namespace": namespace,
        "data_dir": tmp_path,
    }
    settings = load().but(bootstrap_servers=broker.bootstrap_servers, namespace=namespace)
    log = tmp_path / "log"
    with log.open("wb") as file:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM],
            env=environment(values),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "Ignoring missing topic" in log.read_text(), SOON_S)
        create_topics(settings, 1)
        producer = Producer(producer_config(settings))
        producer.produce(Topics(namespace).session, b"the first")
        assert producer.flush(30) == 0
        wait_until(lambda: "took b'the first'" in log.read_text(), SOON_S)
        worker.terminate()
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()
