"""The tape: 500 symbols of minute bars through the whole system, cold topics, full speed.

Timed from the first request to the last row in a subscriber's SessionData, every process on the
machine's cores: broker, producer, coordinator, tables, subscriber. The subscriber computes the
digest while it runs; it must be the one that the source alone gives. Beside it, on the same
broker: the same job in plain Python (`bench.peers.plain`), and the same bytes through the same
number of processes without any work (`bench.peers.raw`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.peers import plain, raw
from bench.replay import Replayed, expected_digest, play, stack_for
from streams.kafka import create_topics

__all__ = ["run"]

SYMBOLS = 500
START, END = "2024-11-04", "2024-11-15"  # ten sessions
ROUNDS = 3
PLAIN_SESSIONS = 3
ROW_BYTES = 60
MESSAGE_BYTES = 900_000


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return bars/s, the ratios to the peers, memory by process and session, transitions."""
    expected = expected_digest(SYMBOLS, START, END)
    ours: list[Replayed] = []
    plains: list[float] = []
    raws: list[float] = []
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder, stack_for(Path(folder), SYMBOLS) as stack:
            replayed = play(stack, SYMBOLS, START, END)
            if replayed.digest != expected:
                msg = f"the digest is {replayed.digest}, the source gives {expected}"
                raise RuntimeError(msg)
            ours.append(replayed)
            tell(f"round {number + 1}: {replayed.bars / replayed.seconds:,.0f} bars/s")
            peers = stack.settings.but(namespace="bench-plain")
            create_topics(peers, 1)
            plains.append(plain.run(peers, SYMBOLS, PLAIN_SESSIONS))
            tell(f"  plain Python: {plains[-1]:,.0f} bars/s")
            peers = stack.settings.but(namespace="bench-raw")
            create_topics(peers, 1)
            messages = replayed.bars * ROW_BYTES // MESSAGE_BYTES
            per_message = MESSAGE_BYTES / ROW_BYTES
            raws.append(raw.run(peers, messages, MESSAGE_BYTES) * per_message)
            tell(f"  raw bytes: {raws[-1]:,.0f} bars/s")
    return _result(ours, plains, raws)


def _result(ours: list[Replayed], plains: list[float], raws: list[float]) -> dict[str, Any]:
    rates = [replayed.bars / replayed.seconds for replayed in ours]
    middle = ours[int(np.argsort(rates)[len(rates) // 2])]
    transitions = [ms for replayed in ours for ms in replayed.transitions_ms]
    p50, p99 = np.percentile(transitions, [50, 99])
    totals = [sum(by.values()) for by in middle.watch.by_session_mb.values()]
    return {
        "bars": middle.bars,
        "bars_per_s": round(median(rates)),
        "bars_per_s_rounds": [round(rate) for rate in rates],
        "plain_bars_per_s": round(median(plains)),
        "raw_bars_per_s": round(median(raws)),
        "ratio_to_plain": round(median(a / b for a, b in zip(rates, plains, strict=True)), 2),
        "ratio_to_raw": round(median(a / b for a, b in zip(rates, raws, strict=True)), 3),
        "cpu_s": middle.watch.cpu_s,
        "peak_rss_mb": {
            "by_process": middle.watch.peak_mb,
            "total": sum(middle.watch.peak_mb.values()),
            "by_session": middle.watch.by_session_mb,
            "last_to_third_session": round(totals[-1] / totals[2], 3) if len(totals) > 2 else None,
        },
        "transition_ms": {
            "p50": round(float(p50), 1),
            "p99": round(float(p99), 1),
            "max": round(max(transitions), 1),
            "n": len(transitions),
        },
    }
