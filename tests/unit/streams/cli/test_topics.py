"""``topics``: what is asked of the brokers, and what is printed."""

from __future__ import annotations

import json

import pytest

from streams.cli.topics import topics
from streams.settings import Settings


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, float]]:
    """What topics were to be made of: namespace, partitions, patience."""
    found: list[tuple[str, int, float]] = []

    def ensure(settings: Settings, shards: int, wait_s: float) -> int:
        found.append((settings.namespace, shards, wait_s))
        return shards or 2

    monkeypatch.setenv("SESSIONTAPE_BOOTSTRAP_SERVERS", "localhost:1")
    monkeypatch.setattr("streams.local.running.connected", lambda settings: settings)
    monkeypatch.setattr("streams.kafka.ensure_topics", ensure)
    return found


def test_they_are_made_as_was_said(
    asked: list[tuple[str, int, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert topics(namespace="desk", partitions=4, wait=60.0) == 0
    assert asked == [("desk", 4, 60.0)]
    assert capsys.readouterr().out == "namespace desk has its topics, 4 shard(s)\n"


def test_else_as_they_are(
    asked: list[tuple[str, int, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert topics(namespace="desk", json=True) == 0
    assert asked == [("desk", 0, 0.0)]
    assert json.loads(capsys.readouterr().out) == {"namespace": "desk", "partitions": 2}
