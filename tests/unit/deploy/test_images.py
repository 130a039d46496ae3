"""The image and the compose file against the code they are of."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import local_images
from streams.local import kafka
from streams.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ROOT / "deploy" / "images"
COMPOSE = (ROOT / "docker-compose.yml", *sorted((ROOT / "deploy" / "compose").glob("three-*.yml")))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def services(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())["services"]
    return found


def locked(path: Path) -> dict[str, str]:
    """The lines of a lock without its markers, each with its hashes."""
    entries = re.split(r"\n(?=\S)", path.read_text().strip())
    return {
        re.split(r"[ ;\\]", e)[0]: " ".join(sorted(re.findall(r"sha256:\w+", e))) for e in entries
    }


def test_the_image_says_the_version_of_the_project() -> None:
    dockerfile = (IMAGES / "Dockerfile").read_text()
    assert f"ARG VERSION={PROJECT['version']}\n" in dockerfile
    image = services(COMPOSE[0])["coordinator"]["image"]
    assert image == f"${{SESSIONTAPE_IMAGE:-sessiontape:{PROJECT['version']}}}"


def test_the_lock_of_the_image_is_a_part_of_the_lock() -> None:
    image, whole = locked(IMAGES / "requirements.lock"), locked(ROOT / "requirements.lock")
    assert {name: whole.get(name) for name in image} == image, "run make lock"
    names = {re.split("==", entry)[0] for entry in image}
    for wanted in PROJECT["dependencies"]:
        assert re.split(r"[>=\[]", wanted)[0] in names
    assert "pytest" not in names
    assert "chdb" not in names


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_every_port_is_open_to_this_host_alone_and_every_image_can_be_another(path: Path) -> None:
    for name, service in services(path).items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:${SESSIONTAPE_"), name
        if "image" in service:
            assert re.fullmatch(r"\$\{SESSIONTAPE_\w*IMAGE:-[\w/-]+:v?[\d.]+\}", service["image"])


def test_the_settings_of_the_compose_file_are_those_there_are() -> None:
    for path in COMPOSE:
        for service in services(path).values():
            for name in service.get("environment", {}):
                if name.startswith("SESSIONTAPE_"):
                    assert name.removeprefix("SESSIONTAPE_").lower() in Settings.model_fields


def test_the_brokers_are_those_of_the_local_stack() -> None:
    brokers = services(COMPOSE[0]) | services(COMPOSE[1])
    for name in ("kafka-2", "kafka-3"):
        assert (
            brokers[name]["image"] == f"${{SESSIONTAPE_KAFKA_IMAGE:-apache/kafka:{kafka.VERSION}}}"
        )
    first, second = services(COMPOSE[0])["kafka"], brokers["kafka-2"]
    own = {"KAFKA_NODE_ID", "KAFKA_ADVERTISED_LISTENERS"}
    over = brokers["kafka"]["environment"]
    same = {k: v for k, v in (first["environment"] | over).items() if k not in own}
    assert {k: v for k, v in second["environment"].items() if k not in own} == same


def test_prometheus_asks_every_kind_of_worker() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "compose" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "sessiontape"
    (names,) = (one["names"] for one in job["dns_sd_configs"])
    workers = {
        name
        for name, service in services(COMPOSE[0]).items()
        if "streams." in str(service.get("command")) or "sinks" in str(service.get("command"))
    }
    assert set(names) == workers


def test_what_a_compose_file_mounts_is_there() -> None:
    for service in services(COMPOSE[0]).values():
        for volume in service.get("volumes", ()):
            place = volume.partition(":")[0]
            assert not place.startswith(".") or (ROOT / place).exists()


def test_variables_become_the_properties_of_the_broker() -> None:
    properties: Callable[..., dict[str, str]] = runpy.run_path(
        str(IMAGES / "local" / "kafka" / "run.py")
    )["properties"]
    found = properties(
        {
            "KAFKA_NODE_ID": "3",
            "KAFKA_LISTENER_NAME_INSIDE_SCRAM___SHA___256_A__B": "x",
            "KAFKA_HEAP_OPTS": "-Xmx1g",
            "PATH": "/bin",
        }
    )
    assert found["node.id"] == "3"
    assert found["listener.name.inside.scram-sha-256.a_b"] == "x"
    assert set(found) == {
        "node.id",
        "listener.name.inside.scram-sha-256.a_b",
        "log.dirs",
        "controller.listener.names",
    }


def test_what_stands_for_an_image_takes_what_the_compose_file_gives_it() -> None:
    local = IMAGES / "local"
    clickhouse, prometheus = (services(COMPOSE[0])[name] for name in ("clickhouse", "prometheus"))
    served = (local / "clickhouse" / "server.py").read_text()
    assert set(clickhouse["environment"]) == set(re.findall(r'environ\.get\("(\w+)"', served))
    recipes = {
        name: (local / name / "Dockerfile").read_text() for name in ("clickhouse", "prometheus")
    }
    assert f" /usr/bin/{clickhouse['healthcheck']['test'][1]}\n" in recipes["clickhouse"]
    assert "VOLUME /var/lib/clickhouse\n" in recipes["clickhouse"]
    places = [volume.split(":")[1] for volume in prometheus["volumes"]]
    assert f'"--config.file={places[0]}"' in recipes["prometheus"]
    assert f"VOLUME {places[-1]}\n" in recipes["prometheus"]


FIRST = (sys.executable, "-I", "-S", str(IMAGES / "first.py"))


def test_the_first_process_ends_as_its_command_does() -> None:
    def code(*command: str) -> int:
        return subprocess.run([*FIRST, *command], capture_output=True, check=False).returncode

    assert code(sys.executable, "-c", "raise SystemExit(3)") == 3
    assert code(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)") == 137
    assert code("no-such-command") == 127


def test_the_first_process_hands_on_what_stops_it() -> None:
    script = "import time; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [*FIRST, sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "up\n"
        started.terminate()
        assert started.wait(10) == 128 + 15


@pytest.fixture
def worker() -> Iterator[tuple[int, list[int]]]:
    """A port that answers as /health does, and the status that it is to answer."""
    statuses = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[0] if self.path == "/health" else 404)
            self.end_headers()
            self.wfile.write(b"it says so\n")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, statuses
        server.shutdown()
        thread.join()


def test_the_health_check_is_the_word_of_the_worker(worker: tuple[int, list[int]]) -> None:
    port, statuses = worker

    def asked(at: int) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(IMAGES / "health.py")],
            env={"SESSIONTAPE_METRICS_PORT": str(at)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    assert asked(port) == (0, "it says so\n")
    statuses[0] = 503
    assert asked(port) == (1, "it says so\n")
    code, said = asked(1)
    assert code == 1
    assert said.startswith("no answer: ")


def test_what_an_image_is_built_of_is_what_its_recipe_copies() -> None:
    dockerfile = (IMAGES / "Dockerfile").read_text()
    copied = set(re.findall(r"deploy/images/(\w+\.(?:py|sh))", dockerfile))
    assert copied == set(re.findall(r'"(\w+\.(?:py|sh))"', _source_of_recipe()))
    kept = (ROOT / ".dockerignore").read_text()
    for name in copied:
        assert f"!deploy/images/{name}\n" in kept


def _source_of_recipe() -> str:
    text = Path(local_images.__file__).read_text()
    return next(line for line in text.splitlines() if line.strip().startswith("recipe = [IMAGES"))
