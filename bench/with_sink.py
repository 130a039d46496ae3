"""The tape with the sink into chDB on, to the last row in SessionData and in the table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.peers import plain
from bench.replay import play, stack_for
from sinks import has_caught_up, open_history
from streams.kafka import create_topics
from streams.local.stack import Stack

__all__ = ["run"]

SYMBOLS = 500
START, END = "2024-11-04", "2024-11-08"
SESSIONS = 5
ROUNDS = 3
PLAIN_SESSIONS = 3


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return bars/s to the last row inserted, which are counted in the table, and the ratio."""
    rates, plains, cpu = [], [], {}
    for number in range(ROUNDS):
        with (
            tempfile.TemporaryDirectory() as folder,
            stack_for(Path(folder), SYMBOLS, sink=True) as stack,
        ):
            replayed = play(stack, SYMBOLS, START, END, is_done=has_caught_up)
            _check(stack, replayed.bars)
            rates.append(replayed.bars / replayed.seconds)
            cpu = replayed.watch.cpu_s
            tell(f"round {number + 1}: {rates[-1]:,.0f} bars/s")
            peers = stack.settings.but(namespace="bench-plain")
            create_topics(peers, 1)
            plains.append(plain.run(peers, SYMBOLS, PLAIN_SESSIONS))
            tell(f"  plain Python, without a sink: {plains[-1]:,.0f} bars/s")
    return {
        "bars_per_s": round(median(rates)),
        "bars_per_s_rounds": [round(rate) for rate in rates],
        "plain_bars_per_s": round(median(plains)),
        "ratio_to_plain": round(median(a / b for a, b in zip(rates, plains, strict=True)), 2),
        "cpu_s": cpu,
    }


def _check(stack: Stack, bars: int) -> None:
    """Count the rows in the table, by way of the sink's process.

    Raises
    ------
    RuntimeError
        They are not as many as on the tape.
    """
    history = open_history(stack.settings)
    try:
        stored = len(history.bars(None, "1m", sessions=SESSIONS))
    finally:
        history.close()
    if stored != bars:
        msg = f"{stored} of {bars} bars are in the table"
        raise RuntimeError(msg)
