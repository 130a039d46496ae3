"""The compose file with a broker that asks: played on by who may, and by nobody else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from docker.models.containers import Container

from scripts.local_images import WORKERS
from streams.settings import PREFIX, Settings
from streams.topics import Topics
from tests.containers.engine import REPLAY, ROOT, SAME, WORKERS_UP, Compose, client
from tests.guarded import refusal_of
from tests.integration.commands import run

pytestmark = pytest.mark.timeout(600)

FILES = ROOT / "deploy" / "compose"
USERS = ("operator", "reader")
READ = ("subscribe", "--from", "start", "--until", "idle", "--json")


def test_a_broker_that_asks_is_played_on_by_who_may_and_by_nobody_else(
    images: tuple[str, ...], played_here: dict[str, Any], tmp_path: Path
) -> None:
    made = tmp_path / "secrets"
    subprocess.run(["/bin/sh", FILES / "secrets.sh", made], check=True)
    with Compose(
        FILES / "sasl.yml", SESSIONTAPE_NAMESPACE="tape", SESSIONTAPE_SECRETS=str(made)
    ) as compose:
        compose.up(*WORKERS_UP)
        compose.await_healthy(*WORKERS_UP)
        servers = {"SESSIONTAPE_BOOTSTRAP_SERVERS": compose.bootstrap_servers}
        operator, reader = ({**variables(made / f"{name}.env"), **servers} for name in USERS)
        played = run(tmp_path, *REPLAY, **operator)
        assert played.returncode == 0, played.stderr
        found = json.loads(played.stdout)
        assert {name: found[name] for name in SAME} == {name: played_here[name] for name in SAME}
        logs = {name: compose.container(name).logs().decode() for name in WORKERS_UP}
        # The workers were those of the containers, and the authorizer had nothing to deny.
        assert "shard 0 is ours" in logs["coordinator"]
        assert "is Denied" not in compose.container("kafka").logs().decode()

        read = run(tmp_path, *READ, **reader)
        assert read.returncode == 0, read.stderr
        assert len(read.stdout.splitlines()) == found["bars"]
        may_read = settings_of(reader)
        topics = Topics("tape")
        for topic in (*topics.raw, topics.session, topics.control):
            assert refusal_of(may_read, topic) == KafkaError.TOPIC_AUTHORIZATION_FAILED

        trusts_nobody = {name: text for name, text in reader.items() if "SSL_CA" not in name}
        refused = run(tmp_path, *READ, **trusts_nobody)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
        assert "no TLS with the brokers at 127.0.0.1" in refused.stderr
        for said in with_a_wrong_password(compose, "coordinator", "upkeep"):
            assert len(said.splitlines()) == 1, said
            assert "the brokers at kafka:9092 do not let user 'tape-" in said
            assert "hush" not in said


def variables(path: Path) -> dict[str, str]:
    """Return what a file of variables says."""
    return dict(line.split("=", 1) for line in path.read_text("utf-8").splitlines())


def settings_of(given: Mapping[str, str]) -> Settings:
    values: dict[str, Any] = {name.removeprefix(PREFIX).lower(): given[name] for name in given}
    return Settings(**values)


def with_a_wrong_password(compose: Compose, *services: str) -> list[str]:
    """Run workers once more, as users whose password is another; return what each says."""
    asked = client()
    begun: list[Container] = []
    try:
        for service in services:
            of = compose.container(service)
            given = dict(line.split("=", 1) for line in of.attrs["Config"]["Env"])
            begun.append(
                asked.containers.run(
                    WORKERS,
                    of.attrs["Config"]["Cmd"],
                    environment=given | {"SESSIONTAPE_SASL_PASSWORD": "hush"},
                    volumes_from=[of.id],
                    network=compose.network,
                    detach=True,
                )
            )
        for one in begun:
            assert one.wait(timeout=60)["StatusCode"] == 1
        return [one.logs().decode().strip() for one in begun]
    finally:
        for one in begun:
            one.remove(force=True)
        asked.close()
