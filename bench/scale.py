"""How the tape grows: more partitions, more coordinators, and a whole market through one machine.

The same bars each time, and the same digest. On two cores that broker, producer and subscriber
share, a second coordinator has no core of its own: what is seen is what the dividing costs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.replay import Replayed, expected_digest, play, stack_for

__all__ = ["run"]

SYMBOLS = 500
START, END = "2024-11-04", "2024-11-08"
CASES = ((1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (4, 2))
"""Partitions and coordinators."""
MARKET = 11_000
MARKET_DAY = "2024-11-04"


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return bars/s of each case and its ratio to the first, and those of a whole market."""
    expected = expected_digest(SYMBOLS, START, END)
    found: dict[str, Any] = {}
    first = 0.0
    for partitions, coordinators in CASES:
        load = os.getloadavg()[0]
        replayed = _played(SYMBOLS, START, END, partitions, coordinators)
        if replayed.digest != expected:
            msg = f"the digest is {replayed.digest}, the source gives {expected}"
            raise RuntimeError(msg)
        rate = replayed.bars / replayed.seconds
        first = first or rate
        found[f"{partitions}x{coordinators}"] = {
            "bars_per_s": round(rate),
            "ratio_to_1x1": round(rate / first, 2),
            "cpu_s": round(sum(replayed.watch.cpu_s.values()), 2),
            "load": round(load, 1),
        }
        tell(f"{partitions} partitions, {coordinators} coordinators: {rate:,.0f} bars/s")
    load = os.getloadavg()[0]
    market = _played(MARKET, MARKET_DAY, MARKET_DAY, 1, 1)
    rate = market.bars / market.seconds
    tell(f"{MARKET:,} symbols: {rate:,.0f} bars/s")
    found["market"] = {
        "symbols": MARKET,
        "bars": market.bars,
        "bars_per_s": round(rate),
        "ratio_to_1x1": round(rate / first, 2),
        "cpu_s": market.watch.cpu_s,
        "peak_rss_mb": market.watch.peak_mb,
        "load": round(load, 1),
    }
    return found


def _played(symbols: int, start: str, end: str, partitions: int, coordinators: int) -> Replayed:
    with (
        tempfile.TemporaryDirectory() as folder,
        stack_for(Path(folder), symbols, partitions=partitions, coordinators=coordinators) as stack,
    ):
        return play(stack, symbols, start, end)
