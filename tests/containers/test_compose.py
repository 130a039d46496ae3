"""The compose file as it is: brought up, played from the host and by a source, asked, stopped.

ClickHouse's image is that of its engine without its server, Prometheus' that of Debian's package:
`scripts.local_images` says why. Grafana and the registry are the two that don't run here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from scripts.local_images import WORKERS as IMAGE
from sinks import has_caught_up
from streams import Controls, Digest, SessionStream
from streams.metrics import DECLARED, PROCESS
from streams.settings import Settings
from streams.sources import open_source
from tests.containers.engine import (
    END,
    HERE,
    REPLAY,
    SAME,
    SOURCE,
    START,
    WORKERS_UP,
    Compose,
    client,
    wait_until,
)
from tests.integration.commands import run
from tests.rows import Row, rows_of
from tests.unit.deploy.test_dashboard import expressions, metrics_of, rules

pytestmark = pytest.mark.timeout(600)

WORKERS = (*WORKERS_UP, "sink", "producer")
PORTS = {"clickhouse": "SESSIONTAPE_CLICKHOUSE_PORT", "prometheus": "SESSIONTAPE_PROMETHEUS_PORT"}
STOPPED_S = 5.0
NOT_HERE = {name for name, metric in DECLARED.items() if metric.workers == "feeder"}
"""Metrics of the one worker that is in no compose file."""


@dataclass
class Whole:
    """All of it, running, and what the host has played on it."""

    compose: Compose
    settings: Settings
    folder: Path
    played: dict[str, Any]

    def command(self, *arguments: str) -> str:
        """Run the command line on the host; return what it prints."""
        return command(self.folder, self.settings, *arguments)

    def prometheus(self, path: str, **values: str) -> Any:
        """Return the data that Prometheus answers with."""
        port = self.compose.port_of["prometheus"]
        address = f"http://127.0.0.1:{port}/api/v1/{path}?{urlencode(values)}"
        with urlopen(address, timeout=30) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        return said["data"]


def command(folder: Path, settings: Settings, *arguments: str) -> str:
    done = run(
        folder,
        *arguments,
        SESSIONTAPE_BOOTSTRAP_SERVERS=settings.bootstrap_servers,
        SESSIONTAPE_CLICKHOUSE_DSN=settings.clickhouse_dsn,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def whole(images: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    with Compose(HERE / "few-files.yml", others=PORTS, SESSIONTAPE_SOURCE=SOURCE) as compose:
        compose.up(*WORKERS[:-1], "prometheus")
        place = f"127.0.0.1:{compose.port_of['clickhouse']}"
        settings = Settings(
            bootstrap_servers=compose.bootstrap_servers,
            clickhouse_dsn=f"clickhouse://sessiontape:sessiontape@{place}/sessiontape",
            data_dir=folder,
        )
        compose.await_healthy(*WORKERS[:-1])
        played = json.loads(command(folder, settings, *REPLAY))
        yield Whole(compose, settings, folder, played)


def read(whole: Whole, run_id: str) -> tuple[str, list[Row]]:
    """Return the digest and the rows of a run as a reader on the host gets them."""
    digest = Digest()
    rows: list[Row] = []
    with SessionStream(
        settings=whole.settings, start="first", run=run_id, view="as_final"
    ) as stream:
        for batch in stream.frames(60):
            digest.add(batch)
            rows += rows_of(batch, batch.symbols)
            if batch.event == "end":
                return digest.final(), rows
    pytest.fail(f"the end of {run_id} did not come")


def test_a_replay_from_the_host_is_that_of_a_local_stack(
    whole: Whole, played_here: dict[str, Any]
) -> None:
    assert {name: whole.played[name] for name in SAME} == {name: played_here[name] for name in SAME}
    printed = whole.command("subscribe", "--from", "start", "--until", "idle", "--json")
    assert len(printed.splitlines()) == whole.played["bars"]
    # The workers were those of the containers: none of them saw another beside it.
    assert "shard 0 is ours" in whole.compose.container("coordinator").logs().decode()


def test_rows_of_a_replay_from_the_host_are_in_clickhouse(whole: Whole) -> None:
    wait_until(lambda: has_caught_up(whole.settings), "all rows in ClickHouse")
    symbols = open_source(SOURCE).symbols()
    asked = ("history", ",".join(symbols), "--sessions", str(whole.played["sessions"]), "--json")
    stored = json.loads(whole.command(*asked))
    digest, rows = read(whole, whole.played["run"])
    assert digest == whole.played["digest"]
    assert len(stored) == len(rows) == whole.played["bars"] > 0
    names = ("symbol", "ts_ns", "open", "high", "low", "close", "volume", "revision")
    wanted = sorted(tuple(getattr(row, name) for name in names) for row in rows)
    assert sorted(tuple(row[name] for name in names) for row in stored) == wanted


def test_a_source_in_a_container_plays_the_same(whole: Whole) -> None:
    whole.compose.up("producer")
    whole.compose.await_healthy("producer")
    with Controls(settings=whole.settings) as controls:
        found = controls.start(list(open_source(SOURCE).symbols()), START, END)
        digest, rows = read(whole, found.run)
    assert digest == whole.played["digest"]
    assert len(rows) == whole.played["bars"]


def test_prometheus_takes_all_that_dashboard_and_alerts_ask(whole: Whole) -> None:
    whole.compose.up("producer")

    def are_up() -> bool:
        found = whole.prometheus("targets")["activeTargets"]
        return [target["health"] for target in found] == ["up"] * len(WORKERS)

    wait_until(are_up, "every worker seen by Prometheus")

    def told() -> set[str]:
        return set(whole.prometheus("label/__name__/values"))

    parts = {"histogram": ("_bucket", "_sum", "_count")}
    wanted = {
        name + part
        for name in {name for text in expressions().values() for name in metrics_of(text)}
        - NOT_HERE
        for part in parts.get(DECLARED[name].kind if name in DECLARED else "", ("",))
    }
    assert {*PROCESS} < wanted
    wait_until(lambda: wanted <= told(), "every metric")

    def groups() -> list[dict[str, Any]]:
        return list(whole.prometheus("rules")["groups"])

    wait_until(
        lambda: all(rule["health"] != "unknown" for group in groups() for rule in group["rules"]),
        "every rule evaluated",
    )
    (group,) = groups()
    assert {rule["name"]: rule["health"] for rule in group["rules"]} == {
        rule["alert"]: "ok" for rule in rules()
    }
    for name, expression in expressions().items():
        query = expression.replace("$__rate_interval", "1m").replace("$namespace", "tape")
        assert whole.prometheus("query", query=query)["resultType"] == "vector", name


def test_each_worker_is_the_first_and_ends_soon_when_told_to(whole: Whole) -> None:
    whole.compose.up("producer")
    whole.compose.await_healthy("producer")
    for name in WORKERS:
        container = whole.compose.container(name)
        assert container.attrs["RestartCount"] == 0, container.logs().decode()
        began_s = time.monotonic()
        container.kill("SIGTERM")
        assert container.wait(timeout=30)["StatusCode"] == 0, container.logs().decode()
        assert time.monotonic() - began_s < STOPPED_S, name


def test_the_image_holds_what_runs_and_nothing_that_builds(images: tuple[str, ...]) -> None:
    looks_for = "pip pip3 gcc cc make uv"
    script = f"id -u; sessiontape --version; for p in {looks_for}; do command -v $p || true; done"
    asked = client()
    try:
        config = asked.images.get(IMAGE).attrs["Config"]
        said = asked.containers.run(IMAGE, ["sh", "-c", script], remove=True, read_only=True)
    finally:
        asked.close()
    user, version, *tools = said.decode().split()
    assert (user, tools) == ("10001", [])
    assert config["Labels"]["org.opencontainers.image.version"] == version
    assert config["Healthcheck"]["Test"][0] == "CMD"
