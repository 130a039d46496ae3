"""Blocks to ordered rows: pure numpy, one code for the three kinds.

Rows of one kind stand by ready time, interval, symbol, source and sequence number. Of bars there is
one per (symbol, interval, ts), of numbered quotes and ticks one per (symbol, ts, source, sequence):
the higher source revision wins, then the later. Those without a number stay as they came, and none
is the same as another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarBlock, BarColumns, Ints, Longs, TickBlock, TickColumns
from streams.kinds import UNNUMBERED, Block, Rows, RowsT, kind_of, ready_ns

__all__ = [
    "Index",
    "bars_of",
    "columns_of",
    "concatenate",
    "faults",
    "merge_bars",
    "merge_rows",
    "order_key",
    "ready_ns",
    "renumbered",
    "same_values",
    "sort_bars",
    "sort_rows",
]

Index = NDArray[np.intp]
KEY_BITS = 63
CONDITION_BYTES = 120
"""Longest condition of a tick, in bytes of UTF-8: those of a frame have to fit into it."""


def columns_of(block: Block, symbols: Mapping[str, int], source: Ints | np.int32) -> Rows:
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
    count = len(block)
    columns = kind_of(block).columns
    values: dict[str, Any] = {
        name: getattr(block, name)
        for name in columns.columns
        if name not in ("row", "symbol", "source")
    }
    if isinstance(block, TickBlock):
        values["conditions"] = block.conditions
    return columns(
        row=np.arange(count, dtype=np.int32),
        symbol=numbers[block.symbol] if count else np.empty(0, np.int32),
        source=np.broadcast_to(source, count),
        **values,
    )


def bars_of(block: BarBlock, symbols: Mapping[str, int], source: Ints | np.int32) -> BarColumns:
    """Return the bars of a block with the symbols of a shard; see `columns_of`."""
    return cast("BarColumns", columns_of(block, symbols, source))


def faults(rows: Rows) -> dict[str, NDArray[np.bool_]]:
    """Return what makes rows senseless: for each reason that occurs a mask of shape (n,).

    A row has one reason, the first that fits. A bid above its ask is none: markets cross.
    """
    with np.errstate(invalid="ignore"):
        tests = _bar_faults(rows) if isinstance(rows, BarColumns) else _faults(rows)
    found: dict[str, NDArray[np.bool_]] = {}
    seen = np.zeros(len(rows), np.bool_)
    for reason, mask in tests.items():
        fresh = mask & ~seen
        if fresh.any():
            found[reason] = fresh
            seen |= fresh
    return found


def _bar_faults(bars: BarColumns) -> dict[str, NDArray[np.bool_]]:
    total = bars.open + bars.high + bars.low + bars.close + bars.volume
    return {
        "a price or volume is not a number": ~np.isfinite(total),
        "the volume is negative": bars.volume < 0,
        "high is below low": bars.high < bars.low,
        "open lies outside low and high": (bars.open > bars.high) | (bars.open < bars.low),
        "close lies outside low and high": (bars.close > bars.high) | (bars.close < bars.low),
        "the interval is not above 0": bars.interval_ns <= 0,
    }


def _faults(rows: Rows) -> dict[str, NDArray[np.bool_]]:
    kind = kind_of(rows)
    total = sum(getattr(rows, name) for name in kind.values if name != "condition")
    small = np.logical_or.reduce([getattr(rows, name) < 0 for name in kind.sizes])
    found = {
        "a price or size is not a number": ~np.isfinite(total),
        "a size is negative": small,
        "the sequence number is negative": cast("Any", rows).sequence < UNNUMBERED,
    }
    if isinstance(rows, TickColumns):
        sizes = [*(len(name.encode()) for name in rows.conditions), 0]
        reason = f"the condition has more than {CONDITION_BYTES} bytes"
        found[reason] = (np.array(sizes) > CONDITION_BYTES)[rows.condition]
    return found


def concatenate(parts: Sequence[RowsT]) -> RowsT:
    """Return the rows of several parts, one behind the other; the place column counts anew."""
    first = parts[0]
    if len(parts) == 1:
        return first
    parts = _alike(parts)
    columns = {
        name: _joined([getattr(part, name) for part in parts])
        for name in first.columns
        if name != "row"
    }
    if isinstance(parts[0], TickColumns):
        columns["conditions"] = parts[0].conditions
    return replace(first, row=np.arange(len(columns["ts_ns"]), dtype=np.int32), **columns)


def _joined(columns: Sequence[NDArray[Any]]) -> Any:
    """Return columns as one; one value for all rows stays one."""
    first = columns[0]
    if all(c.strides == (0,) and np.array_equal(c[:1], first[:1]) for c in columns):
        return np.broadcast_to(first[:1], sum(len(column) for column in columns))
    return np.concatenate(columns)


def _alike(parts: Sequence[RowsT]) -> Sequence[RowsT]:
    """Return ticks whose condition column counts in the conditions of all parts together."""
    ticks = [part for part in parts if isinstance(part, TickColumns)]
    if len({part.conditions for part in ticks}) <= 1:
        return parts
    names = dict.fromkeys(name for part in ticks for name in part.conditions)
    number = {name: n for n, name in enumerate(names)}
    found = []
    for part in ticks:
        place = np.array([*(number[name] for name in part.conditions), -1], np.int32)
        found.append(replace(part, conditions=tuple(names), condition=place[part.condition]))
    return cast("Sequence[RowsT]", found)


def renumbered(rows: RowsT, places: Ints) -> RowsT:
    """Return rows whose symbols have other numbers: ``places`` by the old ones, -1 drops a row."""
    symbol = places[rows.symbol]
    kept = symbol >= 0
    if not kept.all():
        rows, symbol = cast("RowsT", rows.take(kept)), symbol[kept]
    return replace(rows, symbol=symbol)


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


def _differ(column: NDArray[Any]) -> bool:
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


def sort_rows(rows: Rows, ranks: Ints | None = None) -> tuple[Index | None, NDArray[np.bool_]]:
    """Return the order of rows of one kind, stable, and which are the same as the one before.

    The order is None where the rows stand in it already. The mask, shape (n - 1,), is over the
    ordered rows.

    Parameters
    ----------
    rows
        The rows.
    ranks
        Place of each source among the sources; None: by their numbers. Bars don't ask for it.
    """
    if isinstance(rows, BarColumns):
        return sort_bars(rows)
    place: NDArray[Any] = rows.symbol
    if _differ(rows.source):
        source = rows.source if ranks is None else ranks[rows.source]
        place = rows.symbol.astype(np.int64) * (int(source.max()) + 1) + source
    ready, sequence = rows.ts_ns, rows.sequence
    key = order_key(ready, np.broadcast_to(np.int64(0), len(rows)), place)
    if key is None:
        order: Index | None = np.lexsort((sequence, place, ready))
        same = _same(ready[order]) & _same(place[order])
    else:
        order, same = _sorted(key)
    numbers = sequence if order is None else sequence[order]
    if (same & (numbers[1:] < numbers[:-1])).any():
        order = np.lexsort((sequence, place, ready) if key is None else (sequence, key))
        numbers = sequence[order]
    return order, same & _same(numbers) & (numbers[1:] != UNNUMBERED)


def _sorted(key: Longs) -> tuple[Index | None, NDArray[np.bool_]]:
    step = key[1:] - key[:-1]
    if (step >= 0).all():
        return None, step == 0
    order = np.argsort(key, kind="stable")
    return order, _same(key[order])


def _same(column: NDArray[Any]) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = column[1:] == column[:-1]
    return same


def merge_rows(parts: Sequence[RowsT], ranks: Ints | None = None) -> RowsT:
    """Return the rows of several parts of one kind in order, each once.

    Of rows that are the same the highest revision wins, among these the one that came last.
    """
    rows = concatenate(parts)
    if len(rows) == 0:
        return rows
    order, same = sort_rows(rows, ranks)
    if same.any():
        order = _winners(rows.revision, np.arange(len(rows)) if order is None else order, same)
    if order is None:
        return rows
    ordered = cast("RowsT", rows.take(order))
    return replace(ordered, row=np.arange(len(order), dtype=np.int32))


def merge_bars(parts: Sequence[BarColumns]) -> BarColumns:
    """Return the bars of several parts in order, one per (symbol, interval, ts)."""
    return merge_rows(parts)


def _winners(revision: Ints, order: Index, same: NDArray[np.bool_]) -> Index:
    group = np.concatenate(([0], np.cumsum(~same)))
    ranked = order[np.lexsort((np.arange(len(order)), revision[order], group))]
    # Within a group the winner stands last; groups kept their places.
    last = np.concatenate((group[1:] != group[:-1], [True]))
    return ranked[last]


def same_values(rows: RowsT, at: Index, others: RowsT, other_at: Index) -> NDArray[np.bool_]:
    """Return whether rows ``at`` hold the values of ``other_at`` in ``others``, shape (n,).

    Ticks have to count in the same conditions.
    """
    same = np.ones(len(at), np.bool_)
    for name in kind_of(rows).values:
        same &= getattr(rows, name)[at] == getattr(others, name)[other_at]
    return same
