"""What the upkeep costs: replays with it and without it in turn, every process counted.

Gaps are looked for and 5m and 15m derived; trailing days are a load of their own, measured once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.replay import Replayed, expected_digest, play, stack_for

__all__ = ["run"]

SYMBOLS = 500
START, END = "2024-11-04", "2024-11-15"  # ten sessions
ROUNDS = 5


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return the ratios on to off of time, CPU seconds and memory, each the median of pairs."""
    expected = expected_digest(SYMBOLS, START, END)
    pairs: list[tuple[Replayed, Replayed]] = []
    for number in range(ROUNDS):
        with_it, without = (_played(is_on, expected) for is_on in (True, False))
        pairs.append((with_it, without))
        tell(
            f"round {number + 1}: on {with_it.seconds:.2f} s, CPU {_cpu(with_it):.2f} s, "
            f"{_mb(with_it)} MB; off {without.seconds:.2f} s, CPU {_cpu(without):.2f} s, "
            f"{_mb(without)} MB"
        )
    trailing = _played(True, expected, "1m,5m")
    tell(f"with trailing days too: {trailing.seconds:.2f} s, CPU {_cpu(trailing):.2f} s")
    middle = sorted((on for on, _ in pairs), key=_cpu)[len(pairs) // 2]
    return {
        "bars": middle.bars,
        "on_to_off_time": _ratio(pairs, lambda one: one.seconds),
        "on_to_off_cpu": _ratio(pairs, _cpu),
        "on_to_off_memory": _ratio(pairs, _mb),
        "with_trailing_days": {
            "seconds": round(trailing.seconds, 2),
            "cpu_s": round(_cpu(trailing), 2),
            "peak_mb": _mb(trailing),
        },
        "cpu_s": middle.watch.cpu_s,
        "peak_mb": middle.watch.peak_mb,
        "cpu_s_off": sorted((off for _, off in pairs), key=_cpu)[len(pairs) // 2].watch.cpu_s,
    }


def _played(is_on: bool, expected: str, historical: str = "") -> Replayed:
    with (
        tempfile.TemporaryDirectory() as folder,
        stack_for(Path(folder), SYMBOLS, upkeep=is_on, historical=historical) as stack,
    ):
        replayed = play(stack, SYMBOLS, START, END)
    if replayed.digest != expected:
        msg = f"the digest is {replayed.digest}, the source gives {expected}"
        raise RuntimeError(msg)
    return replayed


def _ratio(
    pairs: list[tuple[Replayed, Replayed]], figure: Callable[[Replayed], float]
) -> dict[str, Any]:
    found = [figure(on) / figure(off) for on, off in pairs]
    return {"median": round(median(found), 3), "rounds": [round(one, 3) for one in found]}


def _cpu(one: Replayed) -> float:
    return sum(one.watch.cpu_s.values())


def _mb(one: Replayed) -> float:
    return sum(one.watch.peak_mb.values())
