"""Prefetch: hits and transitions over many rolls, and what it saves with a slow source."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.replay import Replayed, play, stack_for

__all__ = ["run"]

SYMBOLS = 500
START, END = "2024-01-02", "2024-10-25"  # 207 sessions
SLOW_START, SLOW_END = "2024-11-04", "2024-11-15"
SLOW_MS = 200
ROUNDS = 3
SLOWER_MS = 5_000
SLOWER_SESSION_S = 12.0
SLOWER_START, SLOWER_END = "2024-11-04", "2024-11-08"


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return hit rate and transitions over 206 rolls, and on against off with slow sources."""
    many = _played(START, END)
    tell(f"{len(many.transitions_ms)} rolls: hit rate {many.hit_rate:.3f}, {_times(many)}")
    ratios, on_s, off_s = [], [], []
    for number in range(ROUNDS):
        with_it = _played(SLOW_START, SLOW_END, delay_ms=SLOW_MS)
        without = _played(SLOW_START, SLOW_END, delay_ms=SLOW_MS, prefetch=0)
        ratios.append(without.seconds / with_it.seconds)
        on_s.append(with_it.seconds)
        off_s.append(without.seconds)
        tell(f"round {number + 1}, a source of {SLOW_MS} ms: {ratios[-1]:.2f} x faster")
    speed = 390 * 60 / SLOWER_SESSION_S
    slower = _played(SLOWER_START, SLOWER_END, delay_ms=SLOWER_MS, speed=speed)
    tell(f"a source of {SLOWER_MS} ms at a speed of {speed:.0f}: {_times(slower)}")
    return {
        "rolls": len(many.transitions_ms),
        "bars": many.bars,
        "bars_per_s": round(many.bars / many.seconds),
        "hit_rate": round(many.hit_rate or 0.0, 4),
        "transition_ms": _times(many),
        "memory_mb_by_session": _memory(many),
        "ratio_off_to_on_200ms": round(median(ratios), 2),
        "seconds_on": [round(one, 2) for one in on_s],
        "seconds_off": [round(one, 2) for one in off_s],
        "slow_5s": {"hit_rate": slower.hit_rate, "transition_ms": _times(slower)},
    }


def _played(
    start: str, end: str, *, delay_ms: int = 0, prefetch: int | None = None, speed: float = 0.0
) -> Replayed:
    with (
        tempfile.TemporaryDirectory() as folder,
        stack_for(Path(folder), SYMBOLS, delay_ms=delay_ms) as stack,
    ):
        return play(stack, SYMBOLS, start, end, prefetch=prefetch, speed=speed)


def _times(one: Replayed) -> dict[str, float]:
    p50, p99 = np.percentile(one.transitions_ms, [50, 99])
    found = {"p50": p50, "p99": p99, "max": max(one.transitions_ms)}
    return {name: round(float(value), 1) for name, value in found.items()}


def _memory(one: Replayed) -> dict[str, int]:
    """Return the sum over all processes in the tenth and in the last session, MB."""
    totals = [sum(by.values()) for by in one.watch.by_session_mb.values()]
    return {"tenth": totals[9], "last": totals[-1]}
