"""What the sources share: rows put into blocks, and rows that make no sense found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarBlock, Floats, Ints, Longs, QuoteBlock, TickBlock
from streams.intervals import interval_ns as to_ns
from streams.orders import order_by
from streams.sources.protocol import Answer, BadRow, Block, Source

__all__ = [
    "Fault",
    "Found",
    "bar_block",
    "load_range",
    "quote_block",
    "sort_out",
    "sort_ticks",
    "tick_block",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """One input row that is reported: its position in the input, and why."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Positions of the rows to keep, ascending by symbol and time, and the faults of the rest."""

    keep: Longs
    faults: tuple[Fault, ...]


def bar_block(
    symbols: tuple[str, ...],
    symbol: Ints,
    ts_ns: Longs,
    *,
    interval_ns: int,
    prices: Sequence[Floats],
    volume: Floats,
    revision: Ints | None = None,
) -> BarBlock:
    """Return a block of bars of one length; ``prices`` are open, high, low and close."""
    rows = len(ts_ns)
    return BarBlock(
        symbols=symbols,
        symbol=symbol,
        ts_ns=ts_ns,
        interval_ns=np.broadcast_to(np.int64(interval_ns), rows),
        open=prices[0],
        high=prices[1],
        low=prices[2],
        close=prices[3],
        volume=volume,
        revision=np.broadcast_to(np.int32(0), rows) if revision is None else revision,
    )


def quote_block(
    symbols: tuple[str, ...],
    symbol: Ints,
    ts_ns: Longs,
    *,
    prices: Sequence[Floats],
    sizes: Sequence[Floats],
    sequence: Longs,
) -> QuoteBlock:
    """Return a block of quotes; ``prices`` and ``sizes`` are those of bid and ask."""
    return QuoteBlock(
        symbols=symbols,
        symbol=symbol,
        ts_ns=ts_ns,
        bid=prices[0],
        bid_size=sizes[0],
        ask=prices[1],
        ask_size=sizes[1],
        sequence=sequence,
        revision=np.broadcast_to(np.int32(0), len(ts_ns)),
    )


def tick_block(
    symbols: tuple[str, ...],
    symbol: Ints,
    ts_ns: Longs,
    *,
    price: Floats,
    size: Floats,
    sequence: Longs,
    condition: Ints,
    conditions: tuple[str, ...],
) -> TickBlock:
    """Return a block of ticks; ``condition`` counts in ``conditions``."""
    return TickBlock(
        symbols=symbols,
        symbol=symbol,
        ts_ns=ts_ns,
        price=price,
        size=size,
        condition=condition,
        sequence=sequence,
        revision=np.broadcast_to(np.int32(0), len(ts_ns)),
        conditions=conditions,
    )


def sort_out(symbol: Ints, ts_ns: Longs, prices: Sequence[Floats], volume: Floats) -> Found:
    """Find the rows that make no sense, stand twice or out of order.

    A row is dropped when a value is not finite, a price or the volume is negative, or the high
    is below the low. Of rows with one symbol and time the first is kept. Rows out of order are
    kept, sorted, and reported once, at the first of them.
    """
    faults = _senseless(prices, volume)
    good = np.ones(len(ts_ns), np.bool_)
    good[[fault.row for fault in faults]] = False
    rows = np.flatnonzero(good)
    by_symbol = rows[_by_symbol(symbol[rows])]
    steps = np.diff(ts_ns[by_symbol])
    same = np.diff(symbol[by_symbol]) == 0
    if not bool((same & (steps <= 0)).any()):
        return Found(by_symbol, tuple(faults))
    backwards = np.flatnonzero(same & (steps < 0))
    if len(backwards):
        first = int(by_symbol[backwards + 1].min())
        faults.append(Fault(first, _out_of_order(len(backwards))))
    order = rows[np.lexsort((rows, ts_ns[rows], symbol[rows]))]
    twice = (np.diff(symbol[order]) == 0) & (np.diff(ts_ns[order]) == 0)
    faults += [Fault(int(row), "a second row of this time") for row in order[1:][twice]]
    keep = order[np.concatenate(([True], ~twice))]
    return Found(keep, tuple(sorted(faults, key=lambda fault: fault.row)))


def sort_ticks(
    symbol: Ints, ts_ns: Longs, prices: Sequence[Floats], sizes: Sequence[Floats]
) -> Found:
    """Find the ticks or quotes that make no sense, or stand out of order.

    A row is dropped when a value is not finite or is negative. Those of one symbol and time keep
    the order in which they came. Rows out of order are kept, sorted, and reported once, at the
    first of them.
    """
    faults: dict[int, str] = {}
    for columns, name in ((prices, "price"), (sizes, "size")):
        for wrong, what in ((_not_finite, "is no number"), (_negative, "is negative")):
            for row in np.flatnonzero(wrong(columns)).tolist():
                faults.setdefault(row, f"a {name} {what}")
    keep = _by_symbol(symbol)
    if faults:
        good = np.ones(len(ts_ns), np.bool_)
        good[list(faults)] = False
        keep = keep[good[keep]]
    told = [Fault(row, reason) for row, reason in faults.items()]
    if bool((ts_ns[1:] < ts_ns[:-1]).any()):
        backwards = np.flatnonzero((np.diff(ts_ns[keep]) < 0) & (np.diff(symbol[keep]) == 0))
        if len(backwards):
            told.append(Fault(int(keep[backwards + 1].min()), _out_of_order(len(backwards))))
            keep = keep[np.lexsort((ts_ns[keep], symbol[keep]))]
    return Found(keep, tuple(sorted(told, key=lambda fault: fault.row)))


def _by_symbol(symbol: Ints) -> Longs:
    """Return the rows by symbol; within one they stay as they came."""
    return order_by(symbol, int(symbol.max(initial=0)) + 1)


def _not_finite(columns: Sequence[Floats]) -> NDArray[np.bool_]:
    return reduce(np.logical_or, [~np.isfinite(column) for column in columns])


def _negative(columns: Sequence[Floats]) -> NDArray[np.bool_]:
    return reduce(np.logical_or, [column < 0 for column in columns])


def _out_of_order(count: int) -> str:
    times = "time" if count == 1 else "times"
    return f"out of order {count} {times}, first here; the rows were sorted"


def _senseless(prices: Sequence[Floats], volume: Floats) -> list[Fault]:
    _, high, low, _ = prices
    faults: dict[int, str] = {}
    lowest = np.minimum.reduce(prices)
    checks = (
        (~np.isfinite(lowest) | ~np.isfinite(np.maximum.reduce(prices)), "a price is no number"),
        (~np.isfinite(volume), "the volume is no number"),
        (lowest < 0, "a price is negative"),
        (volume < 0, "the volume is negative"),
        (high < low, "the high is below the low"),
    )
    for wrong, reason in checks:
        for row in np.flatnonzero(wrong):
            faults.setdefault(int(row), reason)
    return [Fault(row, reason) for row, reason in sorted(faults.items())]


def load_range(
    source: Source,
    symbols: Sequence[str],
    start_ns: int,
    end_ns: int,
    *,
    interval: str = "1m",
    stream: str = "bars",
) -> tuple[list[Any], dict[str, str], list[BadRow]]:
    """Return a source's blocks, its answer by symbol and its bad rows, for tests and tools."""
    blocks: list[Block] = []
    kinds: dict[str, str] = {}
    bad: list[BadRow] = []
    for part in source.load(stream, symbols, start_ns, end_ns, to_ns(interval)):
        if isinstance(part, Answer):
            kinds |= dict.fromkeys(part.symbols, part.kind)
        elif isinstance(part, BadRow):
            bad.append(part)
        else:
            blocks.append(part)
    return blocks, kinds, bad
