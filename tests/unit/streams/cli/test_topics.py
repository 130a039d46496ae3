"""``topics``: who is asked for how many topics, and what is printed."""

from __future__ import annotations

import json

import pytest

from streams.cli.topics import topics
from streams.settings import Settings


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What topics were to be made of: namespace, replicas, partitions."""
    found: list[tuple[str, int, int]] = []

    def create(settings: Settings, shards: int) -> int:
        found.append((settings.namespace, settings.replication, shards))
        return shards

    monkeypatch.setattr("streams.kafka.create_topics", create)
    return found


def test_it_makes_what_is_named(
    asked: list[tuple[str, int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert topics(namespace="desk", partitions=4, replication=3) == 0
    assert asked == [("desk", 3, 4)]
    assert capsys.readouterr().out == "namespace desk has its topics, 4 partitions each\n"


def test_else_what_is_set(
    asked: list[tuple[str, int, int]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert topics(json=True) == 0
    ((namespace, replicas, shards),) = asked
    assert (replicas, shards) == (1, 1)
    assert json.loads(capsys.readouterr().out) == {"namespace": namespace, "partitions": 1}
