"""What a strategy's reads of SessionData cost, beside a dict of plain Python objects."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from typing import Any

from bench.in_process import batches
from streams.client import SessionData
from streams.client.batch import Batch

__all__ = ["run"]

SYMBOLS = 500
DAYS = ("2024-11-04", "2024-11-04")
REPEAT = 7


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return ns a call, the least of several runs, and ratios to the plain way."""
    data, seen = SessionData(), batches(SYMBOLS, *DAYS)
    for batch in seen:
        if batch.event in ("open", "rows"):
            data.apply(batch)
    some = sorted(data.get_active_symbols())
    name = some[SYMBOLS // 2]
    plain = {name: data.get_latest_bar(name) for name in some}
    found = {
        "latest_bar_ns": _ns(lambda: data.get_latest_bar(name)),
        "last_20_bars_ns": _ns(lambda: data.get_last_n_bars(name, 20)),
        "latest_of_all_ns": _ns(data.get_latest_bars),
        "latest_of_500_by_name_ns": _ns(lambda: data.get_latest_bars(some), 1_000),
        "apply_ns_a_bar": _apply_ns(seen),
        "plain_dict_ns": _ns(lambda: plain[name]),
    }
    found["ratio_plain_to_latest_bar"] = round(found["plain_dict_ns"] / found["latest_bar_ns"], 3)
    tell(", ".join(f"{key} {value}" for key, value in found.items()))
    return found


def _ns(call: Callable[[], object], number: int = 100_000) -> float:
    return round(min(timeit.repeat(call, number=number, repeat=REPEAT)) / number * 1e9, 1)


def _apply_ns(found: list[Batch]) -> float:
    bars = sum(batch.rows for batch in found)
    return round(min(_applied_s(found) for _ in range(REPEAT)) / bars * 1e9, 1)


def _applied_s(found: list[Batch]) -> float:
    data = SessionData()
    started = time.perf_counter()
    for batch in found:
        data.apply(batch)
    return time.perf_counter() - started
