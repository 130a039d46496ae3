"""Shards of a made-up tape on a real broker, and the sink's process that stores them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from sinks import has_caught_up
from streams.intervals import MINUTE_NS
from streams.positions import FrameReader, FrameWriter
from streams.settings import Settings
from streams.topics import Topics
from tests.unit.sinks.frames import BarRow, Tape, bars_of, final_of
from tests.workers import AS_KNOWN, READ_STORE

__all__ = ["SHARDS", "Shards", "python", "sink", "stopped", "until"]

SHARDS = 2
FINAL = """
SELECT symbol, ts_ns, open, high, low, close, volume, revision, session
FROM bars FINAL ORDER BY symbol, ts_ns
"""


def _environment(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "SESSIONTAPE_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "SESSIONTAPE_NAMESPACE": settings.namespace,
        "SESSIONTAPE_DATA_DIR": str(settings.data_dir),
        "SESSIONTAPE_CLICKHOUSE_DSN": settings.clickhouse_dsn,
    }


def python(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    """Start our Python with the settings in its environment."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=_environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def sink(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """Give a running sink, which is dead behind it."""
    process = python(settings, "-m", "sinks")
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stopped(process: subprocess.Popen[str]) -> str:
    """Stop a process gently; return its log."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    return log


def until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


class Shards:
    """Two shards of a made-up tape and their transactional writers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        symbols = (("AAA", "CCC"), ("BBB", "DDD", "EEE"))
        self.tapes = [Tape(symbols=symbols[n], shard=n, shards=SHARDS) for n in range(SHARDS)]
        self.writers = [FrameWriter(settings, n) for n in range(SHARDS)]
        for writer in self.writers:
            writer.open()

    def play(self, day: int, price: float = 100.0) -> None:
        for tape, writer in zip(self.tapes, self.writers, strict=True):
            writer.release([d.frame for d in tape.session(day, price)])

    def correct(self, day: int, minute: int, price: float) -> None:
        writer, tape = self.writers[0], self.tapes[0]
        writer.release([tape.correction(day, minute, price).frame])

    @property
    def final(self) -> list[BarRow]:
        return final_of([d for tape in self.tapes for d in tape.frames])

    @property
    def as_known(self) -> list[Any]:
        return [
            (f.run, f.shard, number, known_ns, MINUTE_NS, "made", row)
            for tape in self.tapes
            for f, number, known_ns, row in bars_of(tape.frames)
        ]

    def caught_up(self) -> bool:
        """Tell whether the sink has committed all there is."""
        return has_caught_up(self.settings)

    def commits_behind(self, before: int) -> bool:
        """Tell whether the sink has committed more than ``before``."""
        return self.committed_rows() > before

    def committed_rows(self) -> int:
        """Return a number that grows with what the sink has committed."""
        with closing(FrameReader(self.settings, Topics(self.settings.namespace).sink)) as reader:
            return sum(offset or 0 for offset in reader.committed().values())

    def check(self) -> None:
        """Compare every column of both tables, read in a new process, with what was written."""
        reading = python(self.settings, "-c", READ_STORE, FINAL, AS_KNOWN)
        out, log = reading.communicate(timeout=60)
        assert reading.returncode == 0, log
        final, as_known = json.loads(out)
        assert [BarRow(*row) for row in final] == self.final
        assert [(*row[:6], BarRow(*row[6:])) for row in as_known] == self.as_known
