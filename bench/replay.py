"""One replay of a synthetic market on a stack of its own, watched from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil

from schemas import BarBlock, BarColumns
from schemas.records import Ints, Longs
from streams.calendar import sessions_between
from streams.client import SessionData, SessionStream
from streams.control import command_of, send_command
from streams.digest import Digest
from streams.intervals import MINUTE_NS
from streams.local.stack import Stack
from streams.merge import bars_of, concatenate
from streams.settings import Settings, load
from streams.sources import open_source

__all__ = ["CALENDAR", "SOURCE", "Replayed", "Watch", "expected_digest", "play", "stack_for"]

CALENDAR = "XNYS"
SOURCE = "synthetic:symbols={symbols},seed=7"
SAMPLE_S = 0.05
MB = 2**20


@dataclass
class Watch:
    """Largest resident memory and CPU seconds of some processes while it is open.

    Attributes
    ----------
    peak_mb
        By process, MB.
    by_session_mb
        By session, then by process: the largest while it played.
    cpu_s
        CPU seconds of each process.
    """

    processes: Mapping[str, psutil.Process]
    peak_mb: dict[str, int] = field(default_factory=dict)
    by_session_mb: dict[str, dict[str, int]] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    session: str = ""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Watch until the block is left."""
        stopped = threading.Event()
        thread = threading.Thread(target=self._sample_until, args=(stopped,), daemon=True)
        before = {name: _cpu_s(process) for name, process in self.processes.items()}
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
        after = {name: _cpu_s(process) for name, process in self.processes.items()}
        self.cpu_s = {name: round(after[name] - before[name], 2) for name in after}

    def _sample_until(self, stopped: threading.Event) -> None:
        while not stopped.wait(SAMPLE_S):
            here = self.by_session_mb.setdefault(self.session, {}) if self.session else {}
            for name, process in self.processes.items():
                used = process.memory_info().rss // MB
                self.peak_mb[name] = max(self.peak_mb.get(name, 0), used)
                here[name] = max(here.get(name, 0), used)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@dataclass(frozen=True)
class Replayed:
    """What a replay came to.

    Attributes
    ----------
    bars
        Bars in SessionData.
    seconds
        From the first request to the last row in SessionData.
    transitions_ms
        What the subscriber waits at each roll: from when it is done with the close, its digest of
        the session too, until it has the next open.
    digest
        Digest of the final state, from the rows that came.
    watch
        Memory and CPU of every process.
    hit_rate
        Share of the rolls whose next session was complete before; None without a roll.
    """

    bars: int
    seconds: float
    transitions_ms: list[float]
    digest: str
    watch: Watch
    hit_rate: float | None = None


@contextmanager
def stack_for(
    folder: Path,
    symbols: int,
    *,
    sink: bool = False,
    upkeep: bool = True,
    delay_ms: int = 0,
    historical: str = "",
    partitions: int = 1,
    coordinators: int = 1,
) -> Iterator[Stack]:
    """Give a stack with cold topics and a producer of the synthetic market.

    Parameters
    ----------
    folder
        Its data folder.
    symbols
        Size of the market.
    sink, upkeep
        Whether it has these workers.
    delay_ms
        What the source takes for a session.
    historical
        Lengths of the bars of trailing sessions that are loaded: five sessions more to be loaded
        while the first ones play.
    partitions, coordinators
        Shards, and processes that share them.
    """
    settings = load().but(
        data_dir=folder,
        namespace="bench",
        log_level="warning",
        historical_intervals=historical,
    )
    source = SOURCE.format(symbols=symbols) + (f",delay_ms={delay_ms}" if delay_ms else "")
    with Stack(
        settings,
        sink=sink,
        upkeep=upkeep,
        source=source,
        partitions=partitions,
        coordinators=coordinators,
    ) as stack:
        yield stack


def play(
    stack: Stack,
    symbols: int,
    start: str,
    end: str,
    *,
    is_done: Callable[[Settings], bool] | None = None,
    prefetch: int | None = None,
    speed: float = 0.0,
) -> Replayed:
    """Replay the synthetic market.

    Parameters
    ----------
    stack
        Where it is played.
    symbols
        Size of the market.
    start, end
        First and last day.
    is_done
        Asked, when the subscriber has its last row, whether others are done too; the clock runs
        until they are.
    prefetch
        Sessions asked for ahead; None takes the default.
    speed
        Tape seconds a wall second; 0 for as fast as it goes.

    Raises
    ------
    RuntimeError
        Not every bar came.
    """
    settings = stack.settings
    names = open_source(SOURCE.format(symbols=symbols)).symbols()
    sessions = sessions_between(CALENDAR, start, end)
    wanted = settings.but(calendar=CALENDAR, speed=f"{speed:g}" if speed else "max")
    if prefetch is not None:
        wanted = wanted.but(prefetch_sessions=prefetch)
    command = replace(
        command_of(wanted, names, sessions, upkeep=stack.has_upkeep),
        version=1,
        run="bench",
        readers=stack.readers,
    )
    watch = Watch({**stack.processes, "subscriber": psutil.Process()})
    data, digest = SessionData(), Digest()
    transitions: list[float] = []
    began, closed, bars = 0.0, 0.0, 0
    hits: list[bool] = []
    with (
        SessionStream(settings=settings, start="now", run="bench", data=data) as stream,
        watch(),
    ):
        send_command(settings, replace(command, anchor_wall_ns=time.time_ns()))
        for batch in stream.frames():
            digest.add(batch)
            now = time.monotonic()
            if batch.event == "start":
                # Committed in one transaction with the first request.
                began = now
            elif batch.event == "open" and closed:
                transitions.append(1000 * (now - closed))
            elif batch.event == "close":
                closed = now
            elif batch.event == "roll":
                hits.append(batch.prefetched)
            watch.session = batch.session or watch.session
            bars += batch.rows
        while is_done is not None and not is_done(settings):
            time.sleep(SAMPLE_S / 10)
        seconds = time.monotonic() - began
    expected = symbols * sum(len(session.starts(MINUTE_NS)) for session in sessions)
    if bars != expected:
        msg = f"{bars} of {expected} bars came"
        raise RuntimeError(msg)
    hit_rate = sum(hits) / len(hits) if hits else None
    return Replayed(bars, seconds, transitions, digest.final(), watch, hit_rate)


def expected_digest(symbols: int, start: str, end: str) -> str:
    """Return the digest that a replay must have, computed from the source alone."""
    source = open_source(SOURCE.format(symbols=symbols))
    names = source.symbols()
    numbers = {name: number for number, name in enumerate(names)}
    digest = Digest()
    for session in sessions_between(CALENDAR, start, end):
        parts = source.load("bars", names, session.open_ns, session.close_ns, MINUTE_NS)
        blocks = [part for part in parts if isinstance(part, BarBlock)]
        bars = concatenate([bars_of(block, numbers, np.int32(0)) for block in blocks])
        digest.add(_Loaded("bench", "rows", session.label, names, bars))
    return digest.final()


@dataclass(frozen=True)
class _Loaded:
    """One session as it was loaded, in one slice; a digest sorts it by itself."""

    run: str
    event: str
    session: str
    symbols: tuple[str, ...]
    bars: BarColumns

    @property
    def sources(self) -> tuple[str, ...]:
        return ("bench",)

    @property
    def slice_ns(self) -> Longs:
        return np.zeros(1, np.int64)

    @property
    def slice_rows(self) -> Ints:
        return np.array([len(self.bars)], np.int32)

    @property
    def slice_corrections(self) -> Ints:
        return np.zeros(1, np.int32)

    @property
    def quotes(self) -> None:
        return None

    @property
    def ticks(self) -> None:
        return None
