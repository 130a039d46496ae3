"""Blocks cut and joined to messages: pure, the same cut for the same input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np

from schemas.records import BarBlock, Ints, Minutes, QuoteBlock, TickBlock
from streams.topics import MESSAGE_BYTES

__all__ = ["Packer", "joined", "minute_lists", "symbol_lists"]

B = TypeVar("B", BarBlock, QuoteBlock, TickBlock)

ENVELOPE_BYTES = 1_000
"""Header, run, request, source and the lengths of the columns, at most."""
SYMBOL_BYTES = 4
"""Length prefixes of a symbol in a message's list."""


class Packer(Generic[B]):
    """Joins the blocks of one answer into blocks that each fit in a message.

    A block is cut only when it is larger than a message: one that does not fit behind what is
    held starts the next message, so that most rows are never copied.

    Parameters
    ----------
    run, request, source
        What the blocks carry.
    first
        Number of the first block.
    limit
        Bytes of a message, at most.
    """

    def __init__(
        self,
        *,
        run: str = "",
        request: str = "",
        source: str = "",
        first: int = 0,
        limit: int = MESSAGE_BYTES,
    ) -> None:
        self.blocks = 0
        self.rows = 0
        self._names = {"run": run, "request": request, "source": source}
        self._first = first
        self._limit = limit - ENVELOPE_BYTES
        self._held: list[B] = []
        self._bytes = 0

    def add(self, block: B) -> Iterator[B]:
        """Take a block in; give those that are full."""
        if not len(block):
            return
        size = _size(block)
        if self._held and (self._bytes + size > self._limit or not _fit(self._held[0], block)):
            yield self._out()
        while size > self._limit:
            cut = _cut(block, self._limit)
            self._held = [_part(block, slice(0, cut))]
            yield self._out()
            block = _part(block, slice(cut, None))
            size = _size(block)
        if len(block):
            self._held.append(block)
            self._bytes += size

    def end(self) -> Iterator[B]:
        """Give what is held."""
        if self._held:
            yield self._out()

    def _out(self) -> B:
        names: dict[str, Any] = {**self._names, "block": self._first + self.blocks}
        held: B = joined(self._held)
        block = _changed(held, names)
        self.blocks += 1
        self.rows += len(block)
        self._held, self._bytes = [], 0
        return block


def _changed(block: B, changes: Mapping[str, Any]) -> B:
    return replace(block, **changes)


def _row_bytes(block: Any) -> int:
    return sum(int(getattr(block, name).itemsize) for name in block.columns)


def _size(block: Any) -> int:
    names = sum(len(s.encode()) for s in block.symbols) + SYMBOL_BYTES * len(block.symbols)
    names += sum(len(s.encode()) + SYMBOL_BYTES for s in getattr(block, "conditions", ()))
    return len(block) * _row_bytes(block) + names


def _fit(held: Any, block: Any) -> bool:
    return getattr(held, "conditions", ()) == getattr(block, "conditions", ())


def _cut(block: Any, limit: int) -> int:
    """Return how many rows from the first fit, at least one; a change of symbol costs its name."""
    names = np.array([len(s.encode()) + SYMBOL_BYTES for s in block.symbols])
    names_cost = names[block.symbol]
    names_cost[1:][block.symbol[1:] == block.symbol[:-1]] = 0
    room = limit - sum(len(s.encode()) + SYMBOL_BYTES for s in getattr(block, "conditions", ()))
    ends = np.cumsum(names_cost + _row_bytes(block))
    return max(1, int(np.searchsorted(ends, room, side="right")))


def _part(block: B, rows: slice) -> B:
    """Return some rows with only their own symbols in the list."""
    part = block.take(rows)
    used = np.flatnonzero(np.bincount(part.symbol, minlength=len(block.symbols)))
    place = np.zeros(len(block.symbols), np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    symbols = tuple(block.symbols[n] for n in used)
    return _changed(part, {"symbols": symbols, "symbol": place[part.symbol]})


def joined(blocks: Sequence[Any]) -> Any:
    """Return blocks of one kind, at least one, as one; symbols and conditions are listed once."""
    first = blocks[0]
    if len(blocks) == 1:
        return first
    names = [block.symbols for block in blocks]
    lists: dict[str, Any] = {}
    lists["symbols"], lists["symbol"] = _listed(names, [block.symbol for block in blocks])
    if isinstance(first, TickBlock):
        names = [block.conditions for block in blocks]
        columns = [block.condition for block in blocks]
        lists["conditions"], lists["condition"] = _listed(names, columns)
    rest = [name for name in first.columns if name not in lists]
    return _changed(
        first, lists | {n: np.concatenate([getattr(b, n) for b in blocks]) for n in rest}
    )


def _listed(
    names: Sequence[tuple[str, ...]], columns: Sequence[Ints]
) -> tuple[tuple[str, ...], Ints]:
    """Return one list for several, and the columns that count in them as one that counts in it."""
    place: dict[str, int] = {}
    found = []
    for own, column in zip(names, columns, strict=True):
        # Of ticks without conditions there may be no list to count in.
        index = np.array([place.setdefault(name, len(place)) for name in own], np.int32)
        found.append(index[column] if own else column)
    return tuple(place), np.concatenate(found)


def symbol_lists(symbols: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Cut a list of symbols to what fits in a message."""
    some: list[str] = []
    size = 0
    for symbol in symbols:
        cost = len(symbol.encode()) + SYMBOL_BYTES
        if some and size + cost > MESSAGE_BYTES - ENVELOPE_BYTES:
            yield tuple(some)
            some, size = [], 0
        some.append(symbol)
        size += cost
    if some:
        yield tuple(some)


def minute_lists(minutes: Minutes, limit: int = MESSAGE_BYTES) -> Iterator[Minutes]:
    """Cut runs of minutes to what fits in a message with the symbols named twice; at least one.

    Each part names the symbols of its own runs only.
    """
    names = np.array([2 * (len(s.encode()) + SYMBOL_BYTES) for s in minutes.symbols], np.int64)
    ids = sum(len(s.encode()) + SYMBOL_BYTES for s in minutes.requests)
    costs = np.full(len(minutes), sum(getattr(minutes, c).itemsize for c in minutes.columns))
    costs += names[minutes.symbol]
    # A symbol whose runs stand together is named once.
    costs[1:] -= np.where(np.diff(minutes.symbol) == 0, names[minutes.symbol[1:]], 0)
    ends = np.cumsum(costs)
    low = 0
    while low < len(minutes) or low == 0:
        before = int(ends[low - 1]) if low else 0
        # The first symbol of a part may have been named by the part before.
        room = limit - ENVELOPE_BYTES - ids - int(names.max(initial=0))
        high = max(low + 1, int(np.searchsorted(ends, before + room, side="right")))
        part = minutes.take(slice(low, high))
        used, symbol = np.unique(part.symbol, return_inverse=True)
        symbols = tuple(minutes.symbols[n] for n in used.tolist())
        yield replace(part, symbols=symbols, symbol=symbol.astype(np.int32))
        low = high
