"""The compose file as it is: brought up, replayed onto from the host, read on the host, stopped."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from scripts.local_images import WORKERS
from tests.containers.engine import REPLAY, SAME, WORKERS_UP, Compose, client
from tests.integration.commands import run

pytestmark = pytest.mark.timeout(600)

STOPPED_S = 5.0


def test_a_replay_from_the_host_is_that_of_a_local_stack(
    images: tuple[str, ...], played_here: dict[str, Any], tmp_path: Path
) -> None:
    with Compose(SESSIONTAPE_NAMESPACE="tape") as compose:
        compose.up(*WORKERS_UP)
        compose.await_healthy(*WORKERS_UP)
        here = {"SESSIONTAPE_BOOTSTRAP_SERVERS": compose.bootstrap_servers}
        played = run(tmp_path, *REPLAY, **here)
        assert played.returncode == 0, played.stderr
        found = json.loads(played.stdout)
        assert {name: found[name] for name in SAME} == {name: played_here[name] for name in SAME}
        printed = run(tmp_path, "subscribe", "--from", "start", "--until", "idle", "--json", **here)
        assert printed.returncode == 0, printed.stderr
        assert len(printed.stdout.splitlines()) == found["bars"]
        # The workers were those of the containers: none of them saw another beside it.
        containers = {name: compose.container(name) for name in WORKERS_UP}
        logs = {name: container.logs().decode() for name, container in containers.items()}
        assert "shard 0 is ours" in logs["coordinator"]
        for name, container in containers.items():
            assert container.attrs["RestartCount"] == 0, logs[name]
            began_s = time.monotonic()
            container.kill("SIGTERM")
            assert container.wait(timeout=30)["StatusCode"] == 0, container.logs().decode()
            assert time.monotonic() - began_s < STOPPED_S, name


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
