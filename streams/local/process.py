"""Processes that outlive us: started in a session of their own, found again by a record on disk."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from streams.errors import SessiontapeError

__all__ = ["ProcessRecord", "alive", "end", "spawn"]

# psutil computes a start time from clock ticks and the boot time: equal to well under a second.
_SAME_START_S = 1.0


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One running process as written beside its data.

    Attributes
    ----------
    pid
        Process id, at least 1.
    created_s
        When it started, in seconds since the epoch: a pid alone may be somebody else's by now.
    ports
        Ports it listens on at 127.0.0.1, by name.
    """

    pid: int
    created_s: float
    ports: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, process: psutil.Process, ports: dict[str, int] | None = None) -> ProcessRecord:
        """Describe a running process."""
        return cls(process.pid, process.create_time(), dict(ports or {}))

    @classmethod
    def read(cls, path: Path) -> ProcessRecord | None:
        """Read a record; None when there is none or a crash left half of one."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            ports = {str(name): int(port) for name, port in raw["ports"].items()}
            return cls(int(raw["pid"]), float(raw["created_s"]), ports)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write(self, path: Path) -> None:
        """Write the record in one step, so that no reader sees half of it."""
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        part.replace(path)

    def process(self) -> psutil.Process | None:
        """Return the process if it is still the one that was recorded, else None."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created_s) < _SAME_START_S
        except (psutil.Error, ValueError):
            return None
        return process if same and alive(process) else None


def spawn(argv: list[str], output: Path) -> psutil.Process:
    """Start a program in a session of its own, so that Ctrl-C at our terminal leaves it alone.

    Parameters
    ----------
    argv
        The program, found on PATH, and its arguments.
    output
        File that takes its standard output and standard error, from the beginning.

    Raises
    ------
    SessiontapeError
        The program can't be started.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(output), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    program = shutil.which(argv[0])
    if program is None:
        raise SessiontapeError(f"{argv[0]} is not a program that can be run here")
    try:
        # Not subprocess.Popen: it complains when it is forgotten while its process runs on.
        pid = os.posix_spawn(program, argv, os.environ, file_actions=actions, setsid=True)
    except OSError as exc:
        raise SessiontapeError(f"could not start {argv[0]}: {exc.strerror}") from exc
    return psutil.Process(pid)


def alive(process: psutil.Process) -> bool:
    """Tell whether a process still runs; one that ended and waits to be reaped does not."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.is_running())
    return False


def end(process: psutil.Process, timeout_s: float) -> bool:
    """Ask a process to stop, and kill it if it has not within the time.

    Parameters
    ----------
    process
        May be gone already.
    timeout_s
        Seconds for a clean stop; 0 kills at once.

    Returns
    -------
    bool
        True if it stopped without being killed.
    """
    with suppress(psutil.NoSuchProcess):
        if timeout_s > 0:
            process.terminate()
            with suppress(psutil.TimeoutExpired):
                process.wait(timeout_s)
                return True
        process.kill()
        process.wait(10)
        return False
    return True
