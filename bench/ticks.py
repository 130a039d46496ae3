"""Ticks through the whole system: from a Parquet file to the last in a subscriber's SessionData.

Timed like `bench.end_to_end`, every process on the machine's cores; the peer is the same plain
Python there, one row a message.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.peers import plain
from streams.calendar import sessions_between
from streams.kafka import create_topics
from streams.local.attach import AttachedStack
from streams.local.stack import Stack
from streams.outcome import ReplayResult
from streams.replay import replay
from streams.settings import Settings, load

__all__ = ["run"]

SYMBOLS = 200
TICKS = 2_000_000
"""Ticks of a session, over all symbols."""
START, END = "2024-11-04", "2024-11-06"
ROUNDS = 3
PLAIN_SYMBOLS = 200


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return ticks/s and the ratio to plain Python."""
    rates: list[float] = []
    plains: list[float] = []
    digests: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ticks.parquet"
        _write(file)
        for number in range(ROUNDS):
            settings = load().but(
                data_dir=Path(folder) / str(number),
                namespace="bench",
                log_level="warning",
                historical_intervals="",
            )
            found, plain_rate = _played(settings, file)
            if found.rows["ticks"] != TICKS * found.sessions:
                msg = f"{found.rows['ticks']} of {TICKS * found.sessions} ticks came"
                raise RuntimeError(msg)
            digests.add(found.digest)
            rates.append(found.rows_per_s)
            plains.append(plain_rate)
            tell(f"round {number + 1}: {rates[-1]:,.0f} ticks/s, plain {plain_rate:,.0f} rows/s")
    if len(digests) > 1:
        msg = f"the digests differ: {', '.join(sorted(digests))}"
        raise RuntimeError(msg)
    return {
        "ticks": TICKS * found.sessions,
        "ticks_per_s": round(median(rates)),
        "ticks_per_s_rounds": [round(rate) for rate in rates],
        "plain_rows_per_s": round(median(plains)),
        "ratio_to_plain": round(median(a / b for a, b in zip(rates, plains, strict=True)), 2),
    }


def _played(settings: Settings, file: Path) -> tuple[ReplayResult, float]:
    """Return what a replay of the file came to, and the rate of plain Python on its broker."""
    rates: list[float] = []

    def peer(stack: Stack | AttachedStack) -> None:
        other = stack.settings.but(namespace="bench-plain")
        create_topics(other, 1)
        rates.append(plain.run(other, PLAIN_SYMBOLS, 1))

    found = replay(
        settings,
        f"parquet:{file}?stream=ticks",
        streams=("ticks",),
        start=START,
        end=END,
        upkeep=False,
        sink=False,
        on_stack=peer,
    )
    return found, rates[0]


def _write(file: Path) -> None:
    """Write random ticks of some sessions, in order of time."""
    rng = np.random.default_rng(7)
    names = np.array([f"SYN{number:04d}" for number in range(SYMBOLS)])
    parts = []
    for session in sessions_between("XNYS", START, END):
        times = np.sort(rng.integers(session.open_ns, session.close_ns, TICKS))
        parts.append(
            pa.table(
                {
                    "ts_ns": pa.array(times).cast(pa.timestamp("ns", "UTC")),
                    "symbol": pa.array(names[rng.integers(0, SYMBOLS, TICKS)]).dictionary_encode(),
                    "price": np.round(100 + rng.normal(0, 1, TICKS), 2),
                    "size": rng.integers(1, 500, TICKS).astype(np.float64),
                }
            )
        )
    pq.write_table(pa.concat_tables(parts).unify_dictionaries(), file)
