"""Rows that come one by one, as vendors send them, put into a block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from schemas.records import Longs
from streams.intervals import MINUTE_NS
from streams.kinds import UNNUMBERED
from streams.sources.protocol import BadRow, Block
from streams.sources.rows import Found, bar_block, quote_block, sort_out, sort_ticks, tick_block

__all__ = ["Gathered", "Row", "sorted_parts"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row as a vendor sends it.

    Attributes
    ----------
    symbol, ts_ns
        Whose it is, and its time: of a bar its start.
    prices
        Open, high, low and close of a bar; bid and ask of a quote; the price of a tick.
    sizes
        Volume of a bar; sizes of bid and ask of a quote; the size of a tick.
    sequence
        Number among the rows of one symbol and time; 0 for none.
    condition
        Codes of a tick.
    revision
        The vendor's revision.
    """

    symbol: str
    ts_ns: int
    prices: tuple[float, ...]
    sizes: tuple[float, ...]
    sequence: int = 0
    condition: str = ""
    revision: int = 0


@dataclass(slots=True)
class Gathered:
    """Rows of one stream in the order in which they came.

    Attributes
    ----------
    stream
        bars, quotes or ticks.
    interval_ns
        Length of the bars.
    rows
        What came.
    """

    stream: str
    interval_ns: int = MINUTE_NS
    rows: list[Row] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def block(self) -> Block:
        """Return the rows as they came; at least one has to be there.

        Without a number, which is -1 in a block, none is the same as another.
        """
        rows = self.rows
        numbers = {symbol: n for n, symbol in enumerate(dict.fromkeys(r.symbol for r in rows))}
        symbols = tuple(numbers)
        symbol = np.array([numbers[row.symbol] for row in rows], np.int32)
        ts_ns = self.times()
        prices = np.array([row.prices for row in rows], np.float64).T
        sizes = np.array([row.sizes for row in rows], np.float64).T
        sequence = np.array([row.sequence for row in rows], np.int64)
        sequence = np.where(sequence == 0, UNNUMBERED, sequence)
        block: Block
        if self.stream == "bars":
            block = bar_block(
                symbols,
                symbol,
                ts_ns,
                interval_ns=self.interval_ns,
                prices=list(prices),
                volume=sizes[0],
            )
        elif self.stream == "quotes":
            block = quote_block(
                symbols, symbol, ts_ns, prices=list(prices), sizes=list(sizes), sequence=sequence
            )
        else:
            codes = {code: n for n, code in enumerate(dict.fromkeys(r.condition for r in rows))}
            block = tick_block(
                symbols,
                symbol,
                ts_ns,
                price=prices[0],
                size=sizes[0],
                sequence=sequence,
                condition=np.array([codes[row.condition] for row in rows], np.int32),
                conditions=tuple(codes),
            )
        revision = np.array([row.revision for row in rows], np.int32)
        return replace(block, revision=revision) if revision.any() else block

    def times(self) -> Longs:
        """Return the times of the rows, shape (n,)."""
        return np.array([row.ts_ns for row in self.rows], np.int64)


def sorted_parts(gathered: Gathered, path: str) -> Iterator[Block | BadRow]:
    """Give what is bad of the rows, then the rest in the order in which a source gives rows."""
    if not gathered:
        return
    block = gathered.block()
    prices: Sequence[tuple[float, ...]] = [row.prices for row in gathered.rows]
    sizes: Sequence[tuple[float, ...]] = [row.sizes for row in gathered.rows]
    columns = list(np.array(prices, np.float64).T), list(np.array(sizes, np.float64).T)
    found: Found
    if gathered.stream == "bars":
        found = sort_out(block.symbol, block.ts_ns, columns[0], columns[1][0])
    else:
        found = sort_ticks(block.symbol, block.ts_ns, *columns)
    kept = set(found.keep.tolist())
    for fault in found.faults:
        if fault.row not in kept:  # rows out of order are kept, and sorted
            row = gathered.rows[fault.row]
            yield BadRow(path, 0, fault.reason, repr(row).encode(), row.symbol)
    if len(found.keep):
        yield block.take(found.keep)
