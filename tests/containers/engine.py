"""What container tests are made of: the compose file as a project, workers of a tape as containers.

Nothing is left behind: what a test starts ends with it, however it ends.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import docker
from confluent_kafka import KafkaException
from docker.errors import NotFound
from docker.models.containers import Container, ExecResult
from testcontainers.core.container import DockerContainer

from scripts.local_images import CLICKHOUSE, KAFKA, PROMETHEUS, WORKERS
from streams.kafka import admin
from streams.local import ports
from streams.settings import Settings
from tests.harness import Tape
from tests.workers import Worker

__all__ = [
    "END",
    "HERE",
    "REPLAY",
    "ROOT",
    "SAME",
    "SOURCE",
    "START",
    "WORKERS_UP",
    "Compose",
    "ContainerTape",
    "ContainerWorker",
    "client",
    "wait_until",
]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE, START, END = "synthetic:symbols=6,missing=0.01", "2024-11-27", "2024-11-29"
REPLAY = ("replay", "--source", SOURCE, "--start", START, "--end", END, "--json")
SAME = ("digest", "digest_as_known", "bars", "quality", "no_trade_minutes", "incomplete")
"""What a replay says that must be the same on every stack."""
WORKERS_UP = ("coordinator", "tables", "upkeep")
COMPOSE_S = 240
STARTED_S = 180.0
LOOK_S = 0.2
"""The engine is asked at most so often whether a container runs, and what it says."""


def client() -> docker.DockerClient:
    """Return a client of the engine, to be closed."""
    return docker.from_env(timeout=60)


class Compose:
    """docker-compose.yml, with what lies over it, as a project of its own.

    Parameters
    ----------
    *more
        Files that come on top.
    brokers
        Services that are brokers, each with the variable that names its port on the host.
    others
        Other services that are reached from the host, likewise.
    """

    def __init__(
        self,
        *more: Path,
        brokers: Mapping[str, str] | None = None,
        others: Mapping[str, str] | None = None,
        **variables: str,
    ) -> None:
        self.project = f"sttest{uuid.uuid4().hex[:8]}"
        self.network = f"{self.project}_default"
        self._brokers = dict(brokers or {"kafka": "SESSIONTAPE_KAFKA_PORT"})
        self._files = [ROOT / "docker-compose.yml", *more]
        names = {**self._brokers, **(others or {})}
        with ExitStack() as held:
            found = {name: ports.hold(held, "127.0.0.1") for name in names.values()}
        self.port_of = {service: found[name] for service, name in names.items()}
        self._environment = (
            {name: value for name, value in os.environ.items() if "SESSIONTAPE" not in name}
            | {name: str(port) for name, port in found.items()}
            | {
                "COMPOSE_PROJECT_NAME": self.project,
                "SESSIONTAPE_IMAGE": WORKERS,
                "SESSIONTAPE_KAFKA_IMAGE": KAFKA,
                "SESSIONTAPE_CLICKHOUSE_IMAGE": CLICKHOUSE,
                "SESSIONTAPE_PROMETHEUS_IMAGE": PROMETHEUS,
            }
            | ({} if "clickhouse" in names else {"SESSIONTAPE_COMPOSE_CLICKHOUSE_DSN": ""})
            | variables
        )
        self._client = client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                error.add_note(self("logs", "--no-color", "--tail", "30"))
        finally:
            self("down", "--volumes", "--timeout", "5")
            self._client.close()

    def __call__(self, *arguments: str) -> str:
        """Run compose; return what it printed."""
        files = [word for path in self._files for word in ("--file", str(path))]
        done = subprocess.run(
            [*_program(), *files, *arguments],
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMPOSE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def up(self, *services: str) -> None:
        """Start services, with what they depend on, of images that are here."""
        self("up", "--detach", "--no-build", *services)

    def up_brokers(self) -> None:
        """Start the brokers and wait until every one of them is in the cluster."""
        self.up(*self._brokers)
        settings = Settings(bootstrap_servers=self.bootstrap_servers)
        wait_until(lambda: brokers_of(settings) == len(self._brokers), "all brokers", STARTED_S)

    def await_healthy(self, *services: str) -> None:
        """Wait until the health check of each service is content.

        It is run here, again and again: the engine itself looks every ten seconds only.
        """
        for service in services:
            container = self.container(service)
            check = partial(
                container.exec_run, container.attrs["Config"]["Healthcheck"]["Test"][1:]
            )
            wait_until(partial(_succeeds, check), f"a healthy {service}", STARTED_S)

    @property
    def bootstrap_servers(self) -> str:
        """The brokers as the host reaches them."""
        return ",".join(f"127.0.0.1:{self.port_of[name]}" for name in self._brokers)

    @property
    def inside(self) -> str:
        """The brokers as containers of the network reach them."""
        return ",".join(f"{service}:9092" for service in self._brokers)

    def container(self, service: str) -> Container:
        """Return the container of a service."""
        return self._client.containers.get(self("ps", "--quiet", service).strip())


def _succeeds(check: Callable[[], ExecResult]) -> bool:
    return bool(check().exit_code == 0)


def _program() -> list[str]:
    """Return compose: the plugin, or the program that was before it."""
    old = shutil.which("docker-compose")
    engine = shutil.which("docker") or "docker"
    asked = subprocess.run([engine, "compose", "version"], capture_output=True, check=False)
    if asked.returncode == 0:
        return [engine, "compose"]
    assert old, "compose is missing: install docker-compose"
    return [old]


def brokers_of(settings: Settings) -> int:
    """Return how many brokers there are in a cluster; 0 while none answers."""
    try:
        with admin(settings) as asker:
            return len(asker.list_topics(timeout=2).brokers)
    except KafkaException:
        return 0


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not in {timeout_s:.0f} s: {what}"
        time.sleep(LOOK_S)


@dataclass
class ContainerWorker(Worker):
    """A worker of a tape as a container; started again it is the same one, and its log goes on."""

    network: str = ""
    container: DockerContainer | None = field(default=None, repr=False)
    _looked: tuple[float, int | None] = (0.0, None)
    _read: tuple[float, str] = (0.0, "")

    def start(self) -> None:
        if self.container is None:
            made = DockerContainer(WORKERS, command=shlex.join(("python", "-P", "-m", *self.argv)))
            made.with_envs(**self.environment)
            made.with_tmpfs_mount("/tmp").with_tmpfs_mount("/var/lib/sessiontape")
            # Nobody here asks for its health, and each look costs a process.
            unasked = {"test": ["NONE"]}
            made.with_kwargs(
                network=self.network, read_only=True, cap_drop=["ALL"], healthcheck=unasked
            )
            self.container = made.start()
        else:
            self.engine.start()
        self.is_wanted = True
        self.starts += 1
        self._looked = (0.0, None)

    @property
    def engine(self) -> Container:
        """The container as the engine has it."""
        assert self.container is not None
        return self.container.get_wrapped_container()

    def send(self, number: signal.Signals) -> None:
        self.engine.kill(number.name)

    def kill(self) -> None:
        self.is_wanted = False
        self.send(signal.SIGKILL)
        assert self.engine.wait(timeout=30)["StatusCode"] == 128 + signal.SIGKILL

    def stop(self, timeout_s: float = 30.0) -> int:
        self.is_wanted = False
        self.send(signal.SIGTERM)
        return int(self.engine.wait(timeout=timeout_s)["StatusCode"])

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Take it off its network meanwhile."""
        with closing(client()) as asked:
            network = asked.networks.get(self.network)
            network.disconnect(self.engine)
            try:
                yield
            finally:
                network.connect(self.engine)

    @property
    def exit_code(self) -> int | None:
        if self.container is None:
            return None
        at_s, code = self._looked
        if time.monotonic() - at_s >= LOOK_S:
            self.engine.reload()
            state = self.engine.attrs["State"]
            code = None if state["Running"] else int(state["ExitCode"])
            self._looked = time.monotonic(), code
        return code

    @property
    def log(self) -> str:
        at_s, text = self._read
        if self.container is not None and time.monotonic() - at_s >= LOOK_S:
            text = self.engine.logs().decode(errors="replace")
            self._read = time.monotonic(), text
        return text

    def end(self) -> None:
        self.is_wanted = False
        if self.container is not None:
            with suppress(NotFound):
                self.log_path.write_text(self.log)
                self.engine.remove(force=True, v=True)


class ContainerTape(Tape):
    """A tape whose workers are containers on the network of a project; its reader is on the host.

    Parameters
    ----------
    compose
        The project with the brokers.
    namespace, folder, **options
        Those of `Tape`.
    """

    def __init__(self, compose: Compose, namespace: str, folder: Path, **options: Any) -> None:
        self._compose = compose
        self.inside: Mapping[str, object] = {"bootstrap_servers": compose.inside}
        """Settings of the workers that are started from now on."""
        # Containers start slower than processes: a busy machine must not lose workers that live.
        options = {"broker_session_timeout_s": 6.0, **options}
        super().__init__(compose.bootstrap_servers, namespace, folder, **options)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:  # while the containers are there to be asked
            for worker in self.workers:
                error.add_note(f"--- {worker.name} ({worker.exit_code}):\n{worker.log[-4000:]}")
        super().__exit__(kind, None, trace)

    def until(
        self, condition: Callable[[], object], what: str, timeout_s: float = STARTED_S
    ) -> None:
        super().until(condition, what, timeout_s)

    def _made(
        self, name: str, argv: Sequence[str], values: Mapping[str, object], *, is_supervised: bool
    ) -> Worker:
        inside = {**values, **self.inside}
        del inside["data_dir"]
        environment = {f"SESSIONTAPE_{key.upper()}": str(value) for key, value in inside.items()}
        log = self._folder / f"{name}.log"
        network = self._compose.network
        return ContainerWorker(name, argv, environment, log, is_supervised, network=network)
