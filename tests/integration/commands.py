"""The command line as a process, for tests that run it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

# As a terminal starts it: a shell without job control has SIGINT ignored in what it runs behind.
_MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from streams.cli import main
main()
"""
PROGRAM = (sys.executable, "-c", _MAIN)
TIMEOUT_S = 150


def environment(data_dir: Path, **variables: str) -> dict[str, str]:
    return {**os.environ, "SESSIONTAPE_DATA_DIR": str(data_dir), **variables}


def run(data_dir: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(data_dir, **variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def begin(data_dir: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        env=environment(data_dir, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_of(data_dir: Path) -> list[str]:
    """Every process that was given this data folder, by its environment or command line."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("SESSIONTAPE_DATA_DIR", "")]
            if process.pid != os.getpid() and any(str(data_dir) in word for word in words):
                found.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
        except psutil.Error:
            continue
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        time.sleep(0.02)
