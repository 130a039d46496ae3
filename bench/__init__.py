"""Measurements, each with its peer in the same run; ``python -m bench`` or ``sessiontape bench``.

One file a measurement: ``run(tell)`` returns plain values. Keys that begin with ``ratio_`` are
held against an earlier result by `worse`; absolute times are not, for machines differ and are
shared.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.machine import machine
from streams.errors import ConfigError

__all__ = ["MEASUREMENTS", "read", "run", "worse"]

MEASUREMENTS: Mapping[str, str] = {
    "end_to_end": "500 symbols x 10 sessions, the upkeep on, from first request to SessionData",
    "with_sink": "the same with the sink into chDB, to the last row in the table",
    "upkeep": "the upkeep on against off: time, CPU and memory of all processes",
    "prefetch": "hits and transitions over 206 rolls; a slow source with and without",
    "minutes": "gaps searched and 5m and 15m derived, 500 symbols x 390 minutes",
    "ticks": "ticks from a Parquet file to SessionData, and plain Python beside it",
    "controls": "how soon a run pauses, beside a message there and back",
    "live": "live latency: from the last report of a slice to the slice in SessionData",
    "session_data": "what a strategy's reads of SessionData cost",
    "scale": "1, 2 and 4 partitions with 1 and 2 coordinators; 11,000 symbols on one machine",
    "built": "ticks to bars of minutes, 50 symbols x 20,000 ticks",
    "merge": "blocks of a session to ordered rows, in numpy and by a heap",
}
LIMIT = 0.10
"""How much worse a ratio may be than in the result it is compared with."""

Tell = Callable[[str], None]


def run(names: Sequence[str] = (), tell: Tell = lambda _: None) -> dict[str, Any]:
    """Return the results of some measurements (default all) and the machine they were made on.

    Raises
    ------
    ConfigError
        There is no measurement of that name.
    """
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        msg = f"there is no measurement {unknown[0]!r}: take of {', '.join(MEASUREMENTS)}"
        raise ConfigError(msg)
    found: dict[str, Any] = {"machine": machine()}
    for name in names or MEASUREMENTS:
        tell(f"{name}: {MEASUREMENTS[name]}")
        found[name] = importlib.import_module(f"bench.{name}").run(tell)
    return found


def read(path: Path) -> dict[str, Any]:
    """Return an earlier result.

    Raises
    ------
    ConfigError
        It can't be read.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        msg = f"{path} is no result of a bench: {exc}"
        raise ConfigError(msg) from exc
    return found


def worse(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each ratio that is more than `LIMIT` below that of ``before``."""
    earlier = dict(_ratios(before))
    return [
        f"{name} is {ratio:.3g}, it was {earlier[name]:.3g}"
        for name, ratio in _ratios(now)
        if name in earlier and ratio < earlier[name] * (1 - LIMIT)
    ]


def _ratios(result: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for name, value in result.items():
        if isinstance(value, Mapping):
            yield from _ratios(value, f"{path}{name}.")
        elif name.startswith("ratio_"):
            yield f"{path}{name}", float(value)
