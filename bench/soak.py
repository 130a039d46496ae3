"""A soak: a rehearsal of whole days at 100 times the speed of the wall, faults and all.

Nothing may be lost and memory has to stay flat: the digest of what the tape says in the end is that
of a replay of the same days from the same source (where it is not, the first bar that differs is
named), and no worker holds more in the second half of the run than in the first.
``python -m bench.soak [--sessions N] [--symbols N]``: two sessions of 24 hours take 29 minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.machine import machine
from streams.calendar import sessions_between
from streams.client import Batch
from streams.intervals import SECOND_NS
from streams.live_run import live
from streams.replay import replay
from streams.run import Run
from streams.settings import load

__all__ = ["main", "soak"]

DEAD = "dead=SYN0003@10:00-10:20,calendar=24/7"
"""What nobody has, the source of the rehearsal neither: it is taken from the replay, too."""
FAULTS = (
    "seed=7,drop=0.01,duplicate=0.01,disorder=0.01,delay=0.02@3s,late=0.01@90s,revise=0.01@60s,"
    f"disconnect=4@120s,{DEAD}"
)
FIRST, LAST = "2024-11-05", "2024-12-31"
SPEED = 100
HOURS = "regular"
EVERY_NS = 600 * SECOND_NS
"""Tape time between two looks at the memory of the workers."""
GROWTH = 1.15
"""What a worker may hold in the second half of the run, of what it held in the first."""
SETTLED_MB = 64
"""Growth that counts for nothing."""
MB = 2**20
VALUES = ("open", "high", "low", "close", "volume")

Tell = Callable[[str], None]


class _Memory:
    """What the workers hold while a run goes on, MB by process, sample by sample."""

    def __init__(self, tell: Tell) -> None:
        self.samples: list[dict[str, int]] = []
        self._tell = tell
        self._run: Run | None = None
        self._next_ns = 0

    def begin(self, run: Run) -> None:
        self._run = run

    def look(self, batch: Batch) -> None:
        if self._run is None or batch.clock_ns < self._next_ns:
            return
        self._next_ns = batch.clock_ns + EVERY_NS
        processes = self._run.processes.items()
        self.samples.append({name: p.memory_info().rss // MB for name, p in processes})
        self._tell(f"{batch.session} {batch.clock_ns}: {self.samples[-1]}")

    def halves(self) -> dict[str, tuple[int, int]]:
        """Return the largest of each process in the first and the second half; start-up aside."""
        settled = self.samples[len(self.samples) // 10 :]
        first, second = settled[: len(settled) // 2], settled[len(settled) // 2 :]
        names = set(first[0]) & set(second[-1])

        def largest(name: str, samples: list[dict[str, int]]) -> int:
            return max(one.get(name, 0) for one in samples)

        return {name: (largest(name, first), largest(name, second)) for name in sorted(names)}


class _Bars:
    """The bars of a run in their final state, to find the first that two runs differ in."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str], tuple[float, ...]] = {}

    def take(self, batch: Batch) -> None:
        bars = batch.bars
        if bars is None:
            return
        names = [batch.symbols[number] for number in bars.symbol.tolist()]
        values = zip(*(getattr(bars, name).tolist() for name in VALUES), strict=True)
        self._rows.update(zip(zip(bars.ts_ns.tolist(), names, strict=True), values, strict=True))

    def first_difference(self, other: _Bars) -> str:
        """Say how many bars differ from another run's, and how the first does."""
        keys = sorted(self._rows.keys() | other._rows.keys())
        differ = [key for key in keys if self._rows.get(key) != other._rows.get(key)]
        if not differ:
            return "no bar differs"
        first = differ[0]
        ours, theirs = self._rows.get(first), other._rows.get(first)
        return f"{len(differ)} bars differ, first {first}: {ours}, in the replay {theirs}"


def soak(sessions: int, symbols: int, tell: Tell) -> dict[str, Any]:
    """Return what a rehearsal came to, beside a replay of the same days.

    Raises
    ------
    RuntimeError
        Something was lost, or memory grew.
    """
    days = sessions_between("24/7", FIRST, LAST)[:sessions]
    first, last = days[0].label, days[-1].label
    market = f"synthetic:symbols={symbols},seed=11,missing=0.005,calendar=24/7"
    memory, bars, wanted = _Memory(tell), _Bars(), _Bars()

    def look(batch: Batch) -> None:
        memory.look(batch)
        bars.take(batch)

    with tempfile.TemporaryDirectory() as folder:
        settings = load().but(
            data_dir=Path(folder),
            namespace="soak",
            calendar="24/7",
            hours=HOURS,
            speed=str(SPEED),
            lateness_s=60.0,
            session_timeout_s=3600.0,
            log_level="warning",
            historical_intervals="",
        )
        ours = live(
            settings,
            f"rehearsal:{FAULTS}:{market}",
            begin=first,
            end=last,
            on_batch=look,
            on_run=memory.begin,
            tell=tell,
        )
        plain = replay(
            settings.but(namespace="plain", speed="max"),
            f"rehearsal:{DEAD}:{market}",
            start=first,
            end=last,
            on_batch=wanted.take,
        )
    halves = memory.halves()
    grown = [n for n, (a, b) in halves.items() if b > GROWTH * a and b - a > SETTLED_MB]
    if ours.digest != plain.digest:
        msg = (
            f"the digest is {ours.digest}, a replay gives {plain.digest}; "
            f"{bars.first_difference(wanted)}; "
            f"{ours.gaps_filled} of {ours.gaps_found} gaps were filled"
        )
        raise RuntimeError(msg)
    if grown:
        msg = f"memory grew: {', '.join(f'{name} {halves[name]} MB' for name in grown)}"
        raise RuntimeError(msg)
    return {
        "machine": machine(),
        "elapsed_s": ours.elapsed_s,
        "sessions": ours.sessions,
        "bars": ours.bars,
        "bars_of_the_replay": plain.bars,
        "gaps_found": ours.gaps_found,
        "gaps_filled": ours.gaps_filled,
        "digest": ours.digest,
        "memory_mb_by_halves": {name: list(pair) for name, pair in halves.items()},
    }


def main(arguments: list[str] | None = None) -> int:
    """Soak, and print what came of it as JSON."""
    parser = argparse.ArgumentParser("python -m bench.soak")
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--symbols", type=int, default=50)
    given = parser.parse_args(arguments)
    found = soak(given.sessions, given.symbols, partial(print, file=sys.stderr))
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
