"""Gaps searched and longer bars derived, in one process, beside plain Python at the same job."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.in_process import CALENDAR, blocks, frames
from schemas import Codec
from streams.calendar import sessions_between
from streams.coverage import Grid, Status
from streams.deriver import Deriver
from streams.intervals import MINUTE_NS
from streams.merge import bars_of, concatenate

__all__ = ["run"]

SYMBOLS = 500
DAY = "2024-11-04"
ROUNDS = 15
SHARE = 0.02
INTERVALS = ("5m", "15m")


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return ms of both, the best and the median of several runs, and ratios to plain Python."""
    (session,) = sessions_between(CALENDAR, DAY, DAY)
    came = blocks(SYMBOLS, session.open_ns, session.close_ns)
    names = tuple(sorted({name for block in came for name in block.symbols}))
    numbers = {name: number for number, name in enumerate(names)}
    bars = concatenate([bars_of(block, numbers, np.int32(0)) for block in came])
    there = bars.take(np.random.default_rng(7).random(len(bars)) >= SHARE)
    grid = Grid(session, MINUTE_NS, names)
    grid.trade(there.symbol, there.ts_ns)
    traded = grid.status.copy()

    def search() -> object:
        grid.status[:] = traded
        return grid.minutes(grid.settle_pending(session.close_ns))

    def search_plain() -> object:
        return _plain_gaps(traded)

    tape = list(frames(SYMBOLS, DAY, DAY))

    def derive() -> object:
        deriver = Deriver(0, 1, INTERVALS, "session")
        found = []
        for offset, frame in enumerate(tape):
            deriver.take(frame, offset)
            while deriver.is_due:
                for interval, released in deriver.release().items():
                    found += released
                    if any(one.event == "open" for one in released):
                        deriver.opened(interval, 0)
        return found

    derived = derive()
    codec = Codec()
    found = {
        "gap_search_ms": _ms(search),
        "derive_ms": _ms(derive),
        "encode_derived_ms": _ms(lambda: [codec.encode(frame, "x") for frame in derived]),  # type: ignore[attr-defined]
        "plain_gap_search_ms": _ms(search_plain, 3),
        "plain_derive_ms": _ms(lambda: _plain_derived(bars, session.open_ns), 3),
    }
    for name in ("gap_search", "derive"):
        plain, ours = found[f"plain_{name}_ms"]["best"], found[f"{name}_ms"]["best"]
        found[f"ratio_plain_to_{name}"] = round(plain / ours, 1)
    tell(", ".join(f"{key} {value}" for key, value in found.items()))
    return found


def _ms(call: Callable[[], object], rounds: int = ROUNDS) -> Any:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return {"best": round(min(times), 2), "median": round(float(np.median(times)), 2)}


def _plain_gaps(traded: Any) -> list[tuple[int, int, int]]:
    found = []
    for symbol, row in enumerate((traded == Status.TRADED).tolist()):
        first = None
        for minute, is_there in enumerate([*row, True]):
            if not is_there and first is None:
                first = minute
            elif is_there and first is not None:
                found.append((symbol, first, minute))
                first = None
    return found


def _plain_derived(bars: Any, open_ns: int) -> dict[tuple[int, int, int], list[float]]:
    found: dict[tuple[int, int, int], list[float]] = {}
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    rows = zip(
        bars.symbol.tolist(), bars.ts_ns.tolist(), *(c.tolist() for c in columns), strict=True
    )
    for symbol, ts_ns, open_, high, low, close, volume in rows:
        for minutes in (5, 15):
            length = minutes * MINUTE_NS
            key = (minutes, symbol, (ts_ns - open_ns) // length)
            bar = found.get(key)
            if bar is None:
                found[key] = [open_, high, low, close, volume]
                continue
            bar[1], bar[2], bar[3] = max(bar[1], high), min(bar[2], low), close
            bar[4] += volume
    return found
