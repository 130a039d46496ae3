"""Blocks to ordered rows: pure numpy.

The order of a shard is by ready time, kind, interval, symbol, source and sequence number; of bars
there is one per (symbol, interval, ts): the higher source revision wins, then the later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarBlock, BarColumns, Ints, Longs

__all__ = [
    "Index",
    "bars_of",
    "concatenate",
    "faults",
    "merge_bars",
    "order_key",
    "ready_ns",
    "renumbered",
    "same_values",
    "sort_bars",
]

VALUES = ("open", "high", "low", "close", "volume")
Index = NDArray[np.intp]
KEY_BITS = 63


def ready_ns(bars: BarColumns | BarBlock) -> Longs:
    """Return when each bar could first be known, ``ts_ns + interval_ns``, shape (n,)."""
    return bars.ts_ns + bars.interval_ns


def bars_of(block: BarBlock, symbols: Mapping[str, int], source: Ints | np.int32) -> BarColumns:
    """Return the rows of a block with the symbols of a shard.

    Parameters
    ----------
    block
        Rows as they came.
    symbols
        Number of each symbol of the shard; rows of others get -1.
    source
        Number of the source: one for all rows, or one a row.
    """
    numbers = np.array([symbols.get(name, -1) for name in block.symbols], np.int32)
    rows = len(block)
    return BarColumns(
        row=np.arange(rows, dtype=np.int32),
        symbol=numbers[block.symbol] if rows else np.empty(0, np.int32),
        ts_ns=block.ts_ns,
        interval_ns=block.interval_ns,
        open=block.open,
        high=block.high,
        low=block.low,
        close=block.close,
        volume=block.volume,
        source=np.broadcast_to(source, rows),
        revision=block.revision,
    )


def faults(bars: BarColumns) -> dict[str, NDArray[np.bool_]]:
    """Return what makes rows senseless: for each reason that occurs a mask of shape (n,).

    A row has one reason, the first that fits.
    """
    with np.errstate(invalid="ignore"):
        total = bars.open + bars.high + bars.low + bars.close + bars.volume
        tests = {
            "a price or volume is not a number": ~np.isfinite(total),
            "the volume is negative": bars.volume < 0,
            "high is below low": bars.high < bars.low,
            "open lies outside low and high": (bars.open > bars.high) | (bars.open < bars.low),
            "close lies outside low and high": (bars.close > bars.high) | (bars.close < bars.low),
            "the interval is not above 0": bars.interval_ns <= 0,
        }
    found: dict[str, NDArray[np.bool_]] = {}
    seen = np.zeros(len(bars), np.bool_)
    for reason, mask in tests.items():
        fresh = mask & ~seen
        if fresh.any():
            found[reason] = fresh
            seen |= fresh
    return found


def concatenate(parts: Sequence[BarColumns]) -> BarColumns:
    """Return the rows of several parts, one behind the other; the place column counts anew."""
    if len(parts) == 1:
        return parts[0]
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in BarColumns.columns
        if name != "row"
    }
    return BarColumns(row=np.arange(len(columns["ts_ns"]), dtype=np.int32), **columns)


def renumbered(bars: BarColumns, places: Ints) -> BarColumns:
    """Return rows whose symbols have other numbers: ``places`` by the old ones, -1 drops a row."""
    symbol = places[bars.symbol]
    kept = symbol >= 0
    if not kept.all():
        bars, symbol = bars.take(kept), symbol[kept]
    columns = {name: getattr(bars, name) for name in BarColumns.columns}
    return BarColumns(**{**columns, "symbol": symbol})


def order_key(ready: Longs, interval: Longs, symbol: Ints) -> Longs | None:
    """Return one int64 a row that sorts as (ready, interval, symbol) does.

    None if the three don't fit into 63 bits; then they must be sorted one by one.
    """
    lengths, rank = np.unique(interval, return_inverse=True) if _differ(interval) else (None, 0)
    base = int(ready.min())
    ready_bits = (int(ready.max()) - base).bit_length()
    symbol_bits = int(symbol.max()).bit_length()
    rank_bits = 0 if lengths is None else (len(lengths) - 1).bit_length()
    if ready_bits + symbol_bits + rank_bits > KEY_BITS:
        return None
    key = (ready - base) << (rank_bits + symbol_bits)
    if lengths is not None:
        key |= rank << symbol_bits
    key |= symbol
    return key


def _differ(column: Longs) -> bool:
    return column.strides != (0,) and bool((column != column[0]).any())


def sort_bars(bars: BarColumns) -> tuple[Index | None, NDArray[np.bool_]]:
    """Return the order by (ready, interval, symbol), stable, and which rows repeat the one before.

    The order is None where the rows stand in it already. The mask, shape (n - 1,), is over the
    ordered rows.
    """
    ready = ready_ns(bars)
    key = order_key(ready, bars.interval_ns, bars.symbol)
    if key is None:
        order = np.lexsort((bars.symbol, bars.interval_ns, ready))
        columns = (ready[order], bars.interval_ns[order], bars.symbol[order])
        same = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
        return order, same
    step = key[1:] - key[:-1]
    if (step >= 0).all():
        return None, step == 0
    order = np.argsort(key)  # the fast sort, which is not stable
    ordered = key[order]
    same = ordered[1:] == ordered[:-1]
    if same.any():
        order = np.argsort(key, kind="stable")
    return order, same


def merge_bars(parts: Sequence[BarColumns]) -> BarColumns:
    """Return the bars of several parts in order, one per (symbol, interval, ts).

    Of bars with one key the highest revision wins, among these the one that came last.
    """
    bars = concatenate(parts)
    if len(bars) == 0:
        return bars
    order, same = sort_bars(bars)
    if same.any():
        order = _winners(bars, np.arange(len(bars)) if order is None else order, same)
    if order is None:
        return bars
    rows = bars.take(order)
    return BarColumns(
        **{name: getattr(rows, name) for name in BarColumns.columns if name != "row"},
        row=np.arange(len(rows), dtype=np.int32),
    )


def _winners(bars: BarColumns, order: Index, same: NDArray[np.bool_]) -> Index:
    group = np.concatenate(([0], np.cumsum(~same)))
    ranked = order[np.lexsort((np.arange(len(order)), bars.revision[order], group))]
    # Within a group the winner stands last; groups kept their places.
    last = np.concatenate((group[1:] != group[:-1], [True]))
    return ranked[last]


def same_values(
    bars: BarColumns, at: Index, others: BarColumns, other_at: Index
) -> NDArray[np.bool_]:
    """Return whether rows ``at`` hold the values of ``other_at`` in ``others``, shape (n,)."""
    same = np.ones(len(at), np.bool_)
    for name in VALUES:
        same &= getattr(bars, name)[at] == getattr(others, name)[other_at]
    return same
