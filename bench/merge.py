"""Blocks of one session to ordered rows: numpy, and a heap over rows as plain Python has it."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.in_process import CALENDAR, blocks
from schemas import BarBlock
from streams.calendar import sessions_between
from streams.merge import bars_of, merge_bars

__all__ = ["run"]

SYMBOLS = 500
DAY = "2024-11-04"
ROUNDS = 5


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return bars/s of both ways, the best of several runs, and their ratio."""
    (session,) = sessions_between(CALENDAR, DAY, DAY)
    came = blocks(SYMBOLS, session.open_ns, session.close_ns)
    bars = sum(len(block) for block in came)
    ours = bars / min(_timed(_merged, came) for _ in range(ROUNDS))
    plain = bars / min(_timed(_heaped, came) for _ in range(ROUNDS))
    tell(f"{ours:,.0f} bars/s, a heap {plain:,.0f}")
    return {
        "bars": bars,
        "bars_per_s": round(ours),
        "heap_bars_per_s": round(plain),
        "ratio_to_heap": round(ours / plain, 1),
    }


def _timed(call: Callable[[list[BarBlock]], object], came: list[BarBlock]) -> float:
    started = time.perf_counter()
    call(came)
    return time.perf_counter() - started


def _merged(came: list[BarBlock]) -> object:
    names = sorted({name for block in came for name in block.symbols})
    numbers = {name: number for number, name in enumerate(names)}
    return merge_bars([bars_of(block, numbers, np.int32(0)) for block in came])


def _heaped(came: list[BarBlock]) -> object:
    by_symbol: dict[str, list[tuple[int, str, float]]] = {}
    for block in came:
        for symbol, ts, close in zip(block.symbol, block.ts_ns, block.close, strict=True):
            name = block.symbols[symbol]
            by_symbol.setdefault(name, []).append((int(ts), name, float(close)))
    return list(heapq.merge(*by_symbol.values()))
