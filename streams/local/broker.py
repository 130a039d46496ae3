"""A real single-node Apache Kafka (KRaft) on this machine."""

from __future__ import annotations

import base64
import logging
import shutil
import tempfile
import time
import uuid
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import BrokerError
from streams.local import aot, jars, kafka, ports, training
from streams.local.process import ProcessRecord, alive, end, spawn
from streams.signals import uninterrupted

__all__ = ["LocalBroker"]

MIN_FREE_MB = 256
_STOP_TIMEOUT_S = 20.0
_PORT_ATTEMPTS = 3
_PORT_PATIENCE_S = 3.0
_TRAINING_MB = 1024
_TRAINING_START_S = 60.0
# Its recording, some 100 MB, is written while it stops.
_TRAINING_STOP_S = 120.0


class LocalBroker:
    """One broker and its data folder; the process may outlive this object.

    Parameters
    ----------
    data_dir
        Folder of its data, configuration and log; made by `start` if it is not there.
    port
        Port at 127.0.0.1 for clients; None takes the one of the last run on this folder if it is
        free, else any free one.
    heap_mb
        Size of the Java heap in MB; about 150 MB outside of it come on top.
    cache_dir
        Where the jars are kept; None means the user's cache.
    min_free_mb
        Free space on the disk of the folder, in MB, below which it is not started.
    use_aot
        Whether it runs on the JVM's AOT cache beside the jars, which `start` makes if it is not
        there (some 20 s, once a user): it is up sooner then and takes less of the processor.
    guard
        What it asks of its clients.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        heap_mb: int = kafka.HEAP_MB,
        cache_dir: Path | None = None,
        min_free_mb: int = MIN_FREE_MB,
        *,
        use_aot: bool = True,
        guard: kafka.Guard = kafka.OPEN,
    ) -> None:
        self.data_dir = data_dir.expanduser().absolute()
        self.heap_mb = heap_mb
        self._port = port
        self._cache_dir = cache_dir
        self._min_free_mb = min_free_mb
        self._use_aot = use_aot
        self._guard = guard
        self._recording: Path | None = None
        self._ports: dict[str, int] = {}
        self._process: psutil.Process | None = None

    def __enter__(self) -> Self:
        """Start the broker, if it does not run."""
        if not self.running:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the broker."""
        self.stop()

    @classmethod
    def find(cls, data_dir: Path) -> Self | None:
        """Return the broker left running on a data folder, or None."""
        broker = cls(data_dir)
        record = ProcessRecord.read(broker.record_path)
        process = record.process() if record else None
        if record is None or process is None or "client" not in record.ports:
            return None
        broker._process = process
        broker._ports = dict(record.ports)
        broker._port = record.ports["client"]
        return broker

    @property
    def record_path(self) -> Path:
        """File that says which process serves the data folder."""
        return self.data_dir / "broker.json"

    @property
    def log_path(self) -> Path:
        """The broker's own log."""
        return self.data_dir / "broker.log"

    @property
    def _output_path(self) -> Path:
        return self.data_dir / "broker.out"

    @property
    def _config_path(self) -> Path:
        return self.data_dir / "server.properties"

    @property
    def port(self) -> int:
        """Port for clients.

        Raises
        ------
        BrokerError
            The broker was not started yet, so it has none.
        """
        if "client" not in self._ports:
            raise BrokerError(f"the broker on {self.data_dir} was not started yet")
        return self._ports["client"]

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients, ``host:port``; raises as `port` does."""
        return f"{kafka.HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id, None when it does not run."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and alive(self._process)

    def start(self, timeout_s: float = 60, progress: jars.Progress | None = None) -> None:
        """Start the broker and wait until it answers a request for metadata.

        Parameters
        ----------
        timeout_s
            Seconds it may take from the start of its process; fetching jars and training the AOT
            cache are not counted.
        progress
            Told in words what is being done.

        Raises
        ------
        BrokerError
            It runs already; its folder, port or jars can't be had; or it did not come up.
        """
        tell = progress or (lambda _: None)
        self._check_folder()
        java = jars.java()
        folder = (self._cache_dir or jars.cache_folder()) / f"kafka-{kafka.VERSION}"
        classpath = jars.classpath(folder, progress=progress)
        train = partial(self._train, java, classpath)
        cache = aot.ensure_cache(java, classpath, train, progress) if self._use_aot else None
        remembered = self._ports or _last_ports(self.record_path)
        self._reap()
        attempts = 0
        while True:
            deadline_s = time.monotonic() + timeout_s
            self._ports = self._choose_ports(remembered)
            command = self._configure(java, classpath, cache)
            if not (self.data_dir / "data" / "meta.properties").exists():
                tell("formatting the broker's data folder")
                self._format(command, deadline_s)
            tell("starting Kafka")
            try:
                self._launch(command, deadline_s)
            except _PortLostError:
                # Between our choice of a port and the broker's use of it somebody took it.
                attempts += 1
                if attempts == _PORT_ATTEMPTS or self._port is not None:
                    raise
                remembered = {}
            else:
                break
        if cache is not None:
            aot.drop_broken(cache, self._output_path)

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """Stop the broker cleanly, and by force if it takes longer than `timeout_s` seconds."""
        if self._process is not None:
            end(self._process, timeout_s)
        self._process = None
        self.record_path.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill the broker at once, as a crash would; `start` recovers what it had written."""
        if self._process is not None:
            end(self._process, 0)
        self._process = None

    def _check_folder(self) -> None:
        other = None if self.running else LocalBroker.find(self.data_dir)
        owner = self if self.running else other
        if owner is not None:
            raise BrokerError(
                f"a broker already runs on {self.data_dir} (pid {owner.pid}, "
                f"{owner.bootstrap_servers}): use it, or stop it first"
            )
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.data_dir):
                free_mb = shutil.disk_usage(self.data_dir).free // 2**20
        except OSError as exc:
            raise BrokerError(
                f"the broker can't write to {self.data_dir} ({exc.strerror}): choose another folder"
            ) from exc
        if free_mb < self._min_free_mb:
            raise BrokerError(
                f"the disk of {self.data_dir} is full: {free_mb} MB are free, the broker needs "
                f"{self._min_free_mb} MB; free some space, or choose another folder"
            )

    def _reap(self) -> None:
        # A child that was killed by somebody else stays a zombie until it is waited for.
        if self._process is not None:
            with suppress(psutil.Error):
                self._process.wait(_STOP_TIMEOUT_S)
        self._process = None
        self.record_path.unlink(missing_ok=True)

    def _choose_ports(self, remembered: dict[str, int]) -> dict[str, int]:
        wanted = self._port or remembered.get("client", 0)
        patience_s = _PORT_PATIENCE_S if wanted == remembered.get("client") else 0
        with ExitStack() as held:
            client = ports.hold(held, kafka.HOST, wanted, patience_s=patience_s)
            if client is None and self._port is not None:
                raise BrokerError(
                    f"port {self._port} is taken by another program: stop that program, or choose "
                    "another port"
                )
            client = client or ports.hold(held, kafka.HOST)
            controller = ports.hold(held, kafka.HOST)
            if client is None or controller is None:  # pragma: no cover - 28,000 ports are in use
                raise BrokerError(f"no port is free at {kafka.HOST}")
            return {"client": client, "controller": controller}

    def _configure(self, java: Path, classpath: list[Path], cache: Path | None) -> list[str]:
        """Write the configuration and return the command that every JVM call begins with."""
        text = kafka.properties(self.data_dir, self._ports, self._guard)
        self._config_path.write_text(text, encoding="utf-8")
        command = kafka.command(java, classpath, self.heap_mb, self.data_dir)
        return command + aot.flags(cache) if cache is not None else command

    def _train(self, java: Path, classpath: list[Path], folder: Path, cache: Path) -> None:
        """Make an AOT cache of a broker of its own under load, in a folder of its own."""
        data, recording = folder / "broker", folder / "recording"
        if (left := LocalBroker.find(data)) is not None:
            left.kill()
        shutil.rmtree(folder, ignore_errors=True)
        broker = LocalBroker(
            data, cache_dir=self._cache_dir, min_free_mb=_TRAINING_MB, use_aot=False
        )
        broker._recording = recording
        try:
            broker.start(_TRAINING_START_S)
            training.exercise(broker.bootstrap_servers)
            broker.stop(_TRAINING_STOP_S)
        finally:
            broker.kill()
        command = kafka.command(java, classpath, kafka.HEAP_MB, folder)
        aot.write_cache(command, recording, cache)

    def _format(self, command: list[str], deadline_s: float) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        output = self.data_dir / "format.out"
        process = spawn(
            [
                *command,
                "kafka.tools.StorageTool",
                "format",
                "--ignore-formatted",
                f"--config={self._config_path}",
                # With "=", for an id may begin with a dash.
                f"--cluster-id={cluster}",
                *self._guard.format,
            ],
            output,
        )
        try:
            code = process.wait(max(0.0, deadline_s - time.monotonic()))
        except psutil.TimeoutExpired:
            raise BrokerError(f"Kafka could not format {self.data_dir} in time") from None
        finally:
            end(process, 0)
        if code != 0:
            raise BrokerError(self._failure("Kafka could not format its folder", output))

    def _launch(self, command: list[str], deadline_s: float) -> None:
        self.log_path.unlink(missing_ok=True)
        output = self._output_path
        if self._recording is not None:
            command = [*command, "-XX:AOTMode=record", f"-XX:AOTConfiguration={self._recording}"]
        process: psutil.Process | None = None
        try:
            with uninterrupted():
                process = spawn([*command, "kafka.Kafka", str(self._config_path)], output)
            ProcessRecord.of(process, self._ports).write(self.record_path)
            self._await_answer(process, output, deadline_s)
        except BaseException:
            # Whatever ended the wait, Ctrl-C too: no half-started process stays behind.
            if process is not None:
                end(process, 0)
            self.record_path.unlink(missing_ok=True)
            raise
        self._process = process

    def _await_answer(self, process: psutil.Process, output: Path, deadline_s: float) -> None:
        while not self._answers():
            if not alive(process):
                sign, _ = kafka.diagnose(self.log_path, output)
                kind = _PortLostError if sign == kafka.PORT_TAKEN else BrokerError
                raise kind(self._failure("Kafka did not start", self.log_path, output))
            if time.monotonic() > deadline_s:
                raise BrokerError(f"Kafka did not answer in time; its log is {self.log_path}")

    def _answers(self) -> bool:
        """Ask for metadata once, for up to half a second; only our own cluster's answer counts."""
        silent = logging.getLogger("sessiontape.local.health")
        silent.addHandler(logging.NullHandler())
        silent.propagate = False
        config: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap_servers,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 50,
            **self._guard.client,
        }
        try:
            with AdminClient(config, logger=silent) as client:
                metadata = client.list_topics(timeout=0.5)
        except KafkaException:
            return False
        meta = (self.data_dir / "data" / "meta.properties").read_text(encoding="utf-8")
        return bool(metadata.brokers) and f"cluster.id={metadata.cluster_id}\n" in meta

    def _failure(self, what: str, *logs: Path) -> str:
        _, reason = kafka.diagnose(*logs)
        return f"{what}: {reason} (folder {self.data_dir}, log {logs[0].name})"


class _PortLostError(BrokerError):
    """Somebody took a port between our choice and the broker's use of it."""


def _last_ports(record_path: Path) -> dict[str, int]:
    record = ProcessRecord.read(record_path)
    return record.ports if record else {}
