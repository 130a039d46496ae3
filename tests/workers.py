"""Workers of a tape as processes of their own, and what one of them stored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.settings import Settings

__all__ = ["AS_KNOWN", "READ_STORE", "Worker", "environment", "read_store"]

READ_STORE = """
import json, sys
from sinks.owner import FolderOwner
from sinks.store import Store
from streams.settings import load
with FolderOwner(load()):
    store = Store.open(load())
    json.dump([[list(r) for r in store.rows(sql)] for sql in sys.argv[1:]], sys.stdout)
    store.close()
"""
FINAL = """
SELECT symbol, interval_ns, ts_ns, open, high, low, close, volume, revision, source, session
FROM bars FINAL ORDER BY symbol, interval_ns, ts_ns
"""
AS_KNOWN = """
SELECT run, shard, row_number, known_ns, interval_ns, source,
    symbol, ts_ns, open, high, low, close, volume, revision, session
FROM bars_as_known FINAL ORDER BY run, shard, row_number
"""


def environment(values: Mapping[str, object]) -> dict[str, str]:
    """Return our environment with some settings in it."""
    here = str(Path(__file__).resolve().parents[1])
    found = {f"SESSIONTAPE_{name.upper()}": str(value) for name, value in values.items()}
    return os.environ | found | {"PYTHONPATH": here}


def read_store(settings: Settings) -> Sequence[Any]:
    """Return the rows of both tables of the store, read by a process of its own."""
    values = {"namespace": settings.namespace, "data_dir": settings.data_dir}
    done = subprocess.run(
        [sys.executable, "-c", READ_STORE, FINAL, AS_KNOWN],
        env=environment(values),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Sequence[Any] = json.loads(done.stdout)
    return found


@dataclass
class Worker:
    """A worker of the tape as a process of its own, with its log."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path
    is_supervised: bool = False
    is_wanted: bool = False
    starts: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it, again too; the log goes on."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", *self.argv],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.is_wanted = True
        self.starts += 1

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} is dead already"
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with -9."""
        self.is_wanted = False
        self.send(signal.SIGKILL)
        assert self.process is not None
        assert self.process.wait(10) == -signal.SIGKILL

    def stop(self, timeout_s: float = 30.0) -> int:
        """End it with SIGTERM; return its exit code."""
        self.is_wanted = False
        self.send(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(timeout_s)

    @property
    def exit_code(self) -> int | None:
        return None if self.process is None else self.process.poll()

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def end(self) -> None:
        """Leave nothing behind."""
        self.is_wanted = False
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
