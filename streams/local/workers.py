"""Worker processes: started with their settings, watched, started again when they die."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import psutil
from pydantic import SecretStr

from streams.errors import SessiontapeError
from streams.local.ports import hold
from streams.local.process import alive, end
from streams.settings import PREFIX, Settings
from streams.signals import uninterrupted

__all__ = [
    "Supervisor",
    "WorkerError",
    "WorkerSpec",
    "environment",
    "log_path",
    "spawn_worker",
    "tail",
]

READY_S = 60.0
"""Seconds within which a worker has to have taken up its work, from its latest start."""
READY_POLL_S = 0.02
SHORT_LIFE_S = 10.0
"""A worker that lives less and ends by itself counts as one that can't start."""
SHORT_LIVES = 4
"""So many in a row, and it is given up."""
DEATHS_A_MINUTE = 60
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0
BAD_USAGE = 2
WATCH_S = 0.05
TAIL_LINES = 5
_TAIL_BYTES = 16_384

Tell = Callable[[str], None]


class WorkerError(SessiontapeError):
    """A worker that can't be kept running.

    Attributes
    ----------
    worker
        Its name.
    log
        Its log file.
    """

    def __init__(self, reason: str, *, worker: str, log: Path) -> None:
        self.worker = worker
        self.log = log
        last = "\n".join(f"  {line}" for line in tail(log))
        super().__init__(f"worker {worker} {reason}; the end of {log} says:\n{last}")


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker is.

    Attributes
    ----------
    name
        Its name within the namespace: ``coordinator-1``, ``upkeep``, ``tables``, ``sink``,
        ``producer``.
    argv
        Python module and its arguments.
    grace_s
        Seconds it gets to stop cleanly.
    """

    name: str
    argv: tuple[str, ...]
    grace_s: float = 10.0


@dataclass
class _Running:
    spec: WorkerSpec
    log: Path
    process: psutil.Process
    since_s: float
    settings: Settings
    short_lives: int = 0
    again_at_s: float | None = None
    deaths: deque[float] = field(default_factory=deque)


class Supervisor:
    """Owns workers, from `start` to `stop`.

    A worker that dies is started again: at once when it was killed, later and later when it ends
    by itself, and not at all when it says that it was called wrongly or could not start several
    times in a row; then `check` raises. Until `await_ready` is through, whoever ends by itself
    could not start, however long that took.

    Parameters
    ----------
    settings
        What the workers get as their environment.
    tell
        Told of deaths and restarts, in a thread of the supervisor's.
    changed
        Called when a process came or went, with all processes by name.
    """

    def __init__(
        self,
        settings: Settings,
        tell: Tell = lambda _: None,
        changed: Callable[[Mapping[str, psutil.Process]], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._changed = changed
        self._workers: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._failure: WorkerError | None = None
        self._are_ready = False
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self, specs: Sequence[WorkerSpec]) -> None:
        """Start workers; they may not be ready yet when it returns.

        Raises
        ------
        SessiontapeError
            A process can't be started.
        """
        ports = _metrics_ports(self._settings, len(specs))
        for spec, port in zip(specs, ports, strict=True):
            log = log_path(self._settings, spec.name)
            settings = self._settings.but(metrics_port=port) if port else self._settings
            with uninterrupted(), self._lock:
                process = spawn_worker(spec, log, settings)
                self._workers[spec.name] = _Running(spec, log, process, time.monotonic(), settings)
        self._publish()
        if not self._thread.is_alive():
            self._thread.start()

    def await_ready(self, still: Callable[[], Sequence[str]]) -> None:
        """Wait until all workers have taken up their work.

        Parameters
        ----------
        still
            Names those that are still to be waited for.

        Raises
        ------
        WorkerError
            One can't be kept running, or does not take up its work in time.
        """
        while names := still():
            self.check()
            with self._lock:
                waiting = [worker for name, worker in self._workers.items() if name in names]
            for worker in waiting:
                if time.monotonic() - worker.since_s > READY_S:
                    reason = f"did not take up its work in {READY_S:.0f} s"
                    raise WorkerError(reason, worker=worker.spec.name, log=worker.log)
            if self._stopped.wait(READY_POLL_S):
                break
        self._are_ready = True

    def stop(self) -> tuple[str, ...]:
        """Stop all workers, the first started first; kill those that take too long: their names."""
        killed = []
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            workers = list(self._workers.values())
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.process.terminate()
            deadlines = {w.spec.name: time.monotonic() + w.spec.grace_s for w in workers}
            for worker in workers:
                left_s = max(deadlines[worker.spec.name] - time.monotonic(), 0.0)
                if not _ended(worker.process, left_s):
                    self._tell(f"worker {worker.spec.name} did not stop in time: killed")
                    end(worker.process, 0)
                    killed.append(worker.spec.name)
            self._workers = {}
        self._publish()
        return tuple(killed)

    def check(self) -> None:
        """Raise WorkerError when a worker could not be kept running."""
        if self._failure is not None:
            raise self._failure

    @property
    def processes(self) -> dict[str, psutil.Process]:
        """The processes by name."""
        with self._lock:
            return {name: worker.process for name, worker in self._workers.items()}

    @property
    def ports(self) -> dict[str, dict[str, int]]:
        """What each worker serves, by name: ``metrics``, where it does."""
        with self._lock:
            ports = {name: w.settings.metrics_port for name, w in self._workers.items()}
        return {name: {"metrics": port} if port else {} for name, port in ports.items()}

    def _publish(self) -> None:
        self._changed(self.processes)

    def _watch(self) -> None:
        while not self._stopped.wait(WATCH_S):
            moved = False
            with self._lock:
                for worker in self._workers.values():
                    moved |= self._tend(worker, time.monotonic())
            if moved:
                self._publish()

    def _tend(self, worker: _Running, now_s: float) -> bool:
        """Look after one worker; tell whether it has a new process."""
        if worker.again_at_s is None:
            if not alive(worker.process):
                self._bury(worker, now_s)
            return False
        if now_s < worker.again_at_s:
            return False
        try:
            worker.process = spawn_worker(worker.spec, worker.log, worker.settings)
        except SessiontapeError as exc:
            self._give_up(worker, f"can't be started again ({exc})")
            return False
        worker.since_s, worker.again_at_s = now_s, None
        self._tell(f"worker {worker.spec.name} started again (pid {worker.process.pid})")
        return True

    def _bury(self, worker: _Running, now_s: float) -> None:
        code = worker.process.wait(1)
        name = worker.spec.name
        was_killed = code < 0
        was_short = now_s - worker.since_s < SHORT_LIFE_S or not self._are_ready
        worker.short_lives = worker.short_lives + 1 if was_short and not was_killed else 0
        worker.deaths.append(now_s)
        while worker.deaths[0] < now_s - 60:
            worker.deaths.popleft()
        how = f"was killed (signal {-code})" if was_killed else f"ended with code {code}"
        self._tell(f"worker {name} {how}")
        if code == BAD_USAGE:
            self._give_up(worker, "was called wrongly")
        elif worker.short_lives >= SHORT_LIVES:
            self._give_up(worker, f"{how} {SHORT_LIVES} times in a row")
        elif len(worker.deaths) > DEATHS_A_MINUTE:
            self._give_up(worker, f"died {len(worker.deaths)} times in a minute")
        else:
            backoff_s = FIRST_BACKOFF_S * 4 ** max(worker.short_lives - 1, 0)
            worker.again_at_s = now_s + min(backoff_s, LONGEST_BACKOFF_S)

    def _give_up(self, worker: _Running, reason: str) -> None:
        worker.again_at_s = float("inf")
        if self._failure is None:
            self._failure = WorkerError(reason, worker=worker.spec.name, log=worker.log)


def _metrics_ports(settings: Settings, count: int) -> list[int]:
    """Return a port for each of some workers: the free ones from the first on; 0 for none.

    They are let go again for the workers to take: who takes one in between is told by its worker.
    """
    first, host = settings.metrics_port, settings.metrics_host
    if not first:
        return [0] * count
    with ExitStack() as held:
        free = (port for port in range(first, 65536) if hold(held, host, port) is not None)
        found = list(islice(free, count))
    if len(found) < count:
        msg = (
            f"no port is free from {first} on at {host} for the metrics: choose another "
            "SESSIONTAPE_METRICS_PORT or SESSIONTAPE_METRICS_HOST"
        )
        raise SessiontapeError(msg)
    return found


def log_path(settings: Settings, worker: str) -> Path:
    """Return the log file of a worker; that of its last life ends in ``.1``."""
    return settings.data_dir.absolute() / "logs" / f"{settings.namespace}.{worker}.log"


def environment(settings: Settings) -> dict[str, str]:
    """Return our environment with the settings in it, as a worker reads them."""
    found = {k: v for k, v in os.environ.items() if _field(k) not in Settings.model_fields}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if isinstance(value, Path):
            value = value.expanduser().absolute()
        if value is not None:
            found[f"{PREFIX}{name.upper()}"] = str(value)
    return found


def tail(log: Path, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a log, ``(nothing)`` where there are none."""
    text = ""
    for path in (log, log.with_name(f"{log.name}.1")):
        with suppress(OSError):
            text = path.read_text(encoding="utf-8", errors="replace")[-_TAIL_BYTES:].strip()
        if text:
            break
    return text.splitlines()[-lines:] or ["(nothing)"]


def _field(variable: str) -> str:
    name = variable.upper()
    return name.removeprefix(PREFIX).lower() if name.startswith(PREFIX) else ""


def _ended(process: psutil.Process, timeout_s: float) -> bool:
    try:
        process.wait(timeout_s)
    except psutil.TimeoutExpired:
        return False
    except psutil.NoSuchProcess:
        pass
    return True


def spawn_worker(spec: WorkerSpec, log: Path, settings: Settings) -> psutil.Process:
    """Start a worker in a session of its own, so that Ctrl-C at our terminal leaves it to us."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_name(f"{log.name}.1"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # -P: a folder named as one of our packages where we were started is not ours.
        argv = [sys.executable, "-P", "-m", *spec.argv]
        pid = os.posix_spawn(
            sys.executable,
            argv,
            environment(settings),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    except OSError as exc:
        msg = f"worker {spec.name} can't be started: {exc.strerror} ({log})"
        raise SessiontapeError(msg) from exc
    return psutil.Process(pid)
