"""Ticks to bars of minutes: whole columns, block by block as they come, and plain Python."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from schemas import TickBlock
from streams.intervals import MINUTE_NS
from streams.sources.rows import tick_block
from streams.tick_bars import BarBuilder, bars_of_ticks

__all__ = ["run"]

SYMBOLS = 50
TICKS = 20_000
"""A symbol: a liquid one has so many in a session."""
MINUTES = 390
PIECE = 2_000
"""Ticks of a block that comes live."""
ROUNDS = 5
CONDITIONS = ("N 1", "K 20000020", "D 20000200", "D 20100200")


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return ticks/s of each way, the best of several runs, and ratios to plain Python."""
    block = _ticks()
    by_time = block.take(np.argsort(block.ts_ns, kind="stable"))
    pieces = [by_time.take(slice(at, at + PIECE)) for at in range(0, len(by_time), PIECE)]
    whole, bit_by_bit, plain = (
        len(block) / min(_timed(call) for _ in range(rounds))
        for call, rounds in (
            (lambda: bars_of_ticks(block, MINUTE_NS), ROUNDS),
            (lambda: _built(pieces), ROUNDS),
            (lambda: _plain(block), 2),
        )
    )
    tell(f"{whole:,.0f} ticks/s, bit by bit {bit_by_bit:,.0f}, plain Python {plain:,.0f}")
    return {
        "ticks": len(block),
        "ticks_per_s": round(whole),
        "bit_by_bit_ticks_per_s": round(bit_by_bit),
        "plain_ticks_per_s": round(plain),
        "ratio_to_plain": round(whole / plain, 1),
        "ratio_bit_by_bit_to_plain": round(bit_by_bit / plain, 1),
    }


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _ticks() -> TickBlock:
    """Return the ticks of one session: a walk a symbol, at times by a seed."""
    dice = np.random.default_rng(7)
    rows = SYMBOLS * TICKS
    at = np.sort(dice.integers(0, MINUTES * MINUTE_NS, (SYMBOLS, TICKS)), axis=1)
    walk = 10_000 + np.cumsum(dice.integers(-1, 2, (SYMBOLS, TICKS)), axis=1)
    return tick_block(
        tuple(f"SYM{number:03}" for number in range(SYMBOLS)),
        np.repeat(np.arange(SYMBOLS, dtype=np.int32), TICKS),
        at.ravel(),
        price=np.maximum(walk, 1).ravel() / 100,
        size=100 * dice.integers(1, 6, rows).astype(np.float64),
        sequence=np.tile(np.arange(TICKS), SYMBOLS),
        condition=dice.choice(4, rows, p=(0.6, 0.3, 0.05, 0.05)).astype(np.int32),
        conditions=CONDITIONS,
    )


def _built(pieces: list[TickBlock]) -> int:
    """Return how many bars go out, asked for behind each block as a live feed does."""
    builder, bars = BarBuilder(MINUTE_NS), 0
    for piece in pieces:
        builder.take(piece)
        bars += len(builder.until(int(piece.ts_ns[-1])))
    return bars + len(builder.until(MINUTES * MINUTE_NS))


def _plain(block: TickBlock) -> dict[tuple[int, int], list[float]]:
    """Make the same bars tick by tick: a dict, and a list a bar."""
    # A trade of each condition sets open and close, sets high and low.
    sets = ((True, True), (True, True), (False, True), (False, False))
    columns = (block.symbol, block.ts_ns, block.price, block.size, block.condition)
    bars: dict[tuple[int, int], list[float]] = {}
    for symbol, ts_ns, price, size, condition in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        key = symbol, ts_ns // MINUTE_NS
        ends, spans = sets[condition]
        bar = bars.get(key)
        if bar is None:
            bar = bars[key] = [0.0, float("-inf"), float("inf"), 0.0, 0.0]
        if ends:
            bar[0] = bar[0] or price
            bar[3] = price
        if spans:
            bar[1] = max(bar[1], price)
            bar[2] = min(bar[2], price)
        bar[4] += size
    return bars
