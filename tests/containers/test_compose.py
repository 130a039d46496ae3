"""The compose file as it is: brought up, replayed onto from the host, read on the host, stopped."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from scripts.local_images import WORKERS
from streams.local import LocalBroker
from tests.containers.engine import Compose, client, wait_until
from tests.integration.commands import run

pytestmark = pytest.mark.timeout(600)

SOURCE = "synthetic:symbols=6,missing=0.01"
REPLAY = ("replay", "--source", SOURCE, "--start", "2024-11-27", "--end", "2024-11-29", "--json")
WORKERS_UP = ("coordinator", "tables", "upkeep")
STOPPED_S = 5.0


def test_a_replay_from_the_host_is_that_of_a_local_stack(
    images: tuple[str, ...], broker: LocalBroker, tmp_path: Path
) -> None:
    with Compose(SESSIONTAPE_NAMESPACE="tape") as compose:
        compose.up(*WORKERS_UP)
        here = {"SESSIONTAPE_BOOTSTRAP_SERVERS": compose.bootstrap_servers}
        containers = {name: compose.container(name) for name in WORKERS_UP}

        def are_healthy() -> bool:
            for found in containers.values():
                found.reload()
            return all(
                c.attrs["State"]["Health"]["Status"] == "healthy" for c in containers.values()
            )

        wait_until(are_healthy, "every worker healthy", 180)
        played = run(tmp_path / "here", *REPLAY, **here)
        assert played.returncode == 0, played.stderr
        found = json.loads(played.stdout)
        printed = run(
            tmp_path / "here", "subscribe", "--from", "start", "--until", "idle", "--json", **here
        )
        assert printed.returncode == 0, printed.stderr
        assert len(printed.stdout.splitlines()) == found["bars"]
        # The workers were those of the containers: none of them saw another beside it.
        logs = {name: container.logs().decode() for name, container in containers.items()}
        assert "shard 0 is ours" in logs["coordinator"]
        for name, container in containers.items():
            assert container.attrs["RestartCount"] == 0, logs[name]
            began_s = time.monotonic()
            container.kill("SIGTERM")
            assert container.wait(timeout=30)["StatusCode"] == 0, container.logs().decode()
            assert time.monotonic() - began_s < STOPPED_S, name
    own = {"SESSIONTAPE_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
    wanted = run(tmp_path / "own", *REPLAY, "--no-sink", "--namespace", "composed", **own)
    assert wanted.returncode == 0, wanted.stderr
    same = json.loads(wanted.stdout)
    for name in ("digest", "digest_as_known", "bars", "quality", "no_trade_minutes", "incomplete"):
        assert found[name] == same[name], name


def test_the_image_holds_what_runs_and_nothing_that_builds(images: tuple[str, ...]) -> None:
    looks_for = "pip pip3 gcc cc make uv"
    script = f"id -u; sessiontape --version; for p in {looks_for}; do command -v $p || true; done"
    asked = client()
    try:
        config = asked.images.get(WORKERS).attrs["Config"]
        said = asked.containers.run(WORKERS, ["sh", "-c", script], remove=True, read_only=True)
    finally:
        asked.close()
    user, version, *tools = said.decode().split()
    assert (user, tools) == ("10001", [])
    assert config["Labels"]["org.opencontainers.image.version"] == version
    assert config["Healthcheck"]["Test"][0] == "CMD"
