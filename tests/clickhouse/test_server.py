"""A ClickHouse server stores what chDB does. Pulls the official image: no part of CI."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

from streams.local import LocalBroker
from tests.integration.commands import run

pytestmark = pytest.mark.timeout(300)

IMAGE = os.environ.get("SESSIONTAPE_CLICKHOUSE_IMAGE", "clickhouse/clickhouse-server:25.8")
USER = "sessiontape"
SOURCE = ("--source", "synthetic:symbols=3,missing=0.01")
DAYS = ("--start", "2024-11-27", "--end", "2024-11-29")


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    """A server with an empty database."""
    server = DockerContainer(IMAGE).with_exposed_ports(8123)
    server.with_envs(CLICKHOUSE_DB=USER, CLICKHOUSE_USER=USER, CLICKHOUSE_PASSWORD=USER)
    with server.waiting_for(HttpWaitStrategy(8123, "/ping")) as running:
        place = f"{running.get_container_host_ip()}:{running.get_exposed_port(8123)}"
        yield f"clickhouse://{USER}:{USER}@{place}/{USER}"


def stored(folder: Path, **variables: str) -> list[dict[str, Any]]:
    played = run(folder, "replay", *SOURCE, *DAYS, "--json", **variables)
    assert played.returncode == 0, played.stderr
    found = run(folder, "history", "SYN0001", "--sessions", "2", "--json", **variables)
    assert found.returncode == 0, found.stderr
    rows: list[dict[str, Any]] = json.loads(found.stdout)
    return rows


def test_a_server_stores_what_chdb_does(
    broker: LocalBroker, namespace: str, tmp_path: Path, dsn: str
) -> None:
    here = {"SESSIONTAPE_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
    embedded = stored(tmp_path / "chdb", SESSIONTAPE_NAMESPACE=namespace, **here)
    server = stored(
        tmp_path / "server",
        SESSIONTAPE_NAMESPACE=f"{namespace}-server",
        SESSIONTAPE_CLICKHOUSE_DSN=dsn,
        **here,
    )
    assert embedded
    assert server == embedded
