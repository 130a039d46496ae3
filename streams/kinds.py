"""The kinds of rows that go through a tape, as data: what differs between bars, quotes and ticks.

Of each kind there are messages of one row, blocks of many, and the columns of a frame. Rows stand
on the tape by their kinds in the order of `KINDS`, inside what is ready at one time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from schemas.records import (
    Bar,
    BarBlock,
    BarColumns,
    Longs,
    Quote,
    QuoteBlock,
    QuoteColumns,
    Tick,
    TickBlock,
    TickColumns,
)
from streams.intervals import interval_ns

__all__ = [
    "KINDS",
    "UNNUMBERED",
    "Block",
    "Kind",
    "One",
    "Rows",
    "RowsT",
    "block_of",
    "by_kind",
    "kind_of",
    "none_of",
    "ready_ns",
]

One: TypeAlias = Bar | Quote | Tick
Block: TypeAlias = BarBlock | QuoteBlock | TickBlock
Rows: TypeAlias = BarColumns | QuoteColumns | TickColumns
RowsT = TypeVar("RowsT", bound=Rows)

UNNUMBERED = -1
"""Sequence of a row that came without a number: it is never the same as another."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of rows.

    Attributes
    ----------
    stream
        Its name: that of its raw topic, and of its columns in a frame.
    one, block, columns
        A message of one row, one of many, and its rows on the tape.
    values
        Columns that a revision may change.
    sizes
        Those of them that can't be below 0.
    """

    stream: str
    one: type[One]
    block: type[Block]
    columns: type[Rows]
    values: tuple[str, ...]
    sizes: tuple[str, ...]


KINDS: Mapping[str, Kind] = {
    kind.stream: kind
    for kind in (
        Kind("ticks", Tick, TickBlock, TickColumns, ("price", "size", "condition"), ("size",)),
        Kind(
            *("quotes", Quote, QuoteBlock, QuoteColumns),
            ("bid", "bid_size", "ask", "ask_size"),
            ("bid_size", "ask_size"),
        ),
        Kind(
            *("bars", Bar, BarBlock, BarColumns),
            ("open", "high", "low", "close", "volume"),
            ("volume",),
        ),
    )
}
"""By stream, in the order of their rows inside a slice."""

_DTYPES = {
    **dict.fromkeys(("row", "symbol", "source", "revision", "condition"), np.int32),
    **dict.fromkeys(("ts_ns", "interval_ns", "sequence"), np.int64),
}
_BY_TYPE = {made: kind for kind in KINDS.values() for made in (kind.block, kind.columns)}


def kind_of(rows: Rows | Block) -> Kind:
    """Return the kind of some rows."""
    return _BY_TYPE[type(rows)]


def none_of(kind: Kind) -> Rows:
    """Return no rows of a kind."""
    columns = {name: np.empty(0, _DTYPES.get(name, np.float64)) for name in kind.columns.columns}
    return cast("Rows", cast("Any", kind.columns)(**columns))


def ready_ns(rows: Rows | Block) -> Longs:
    """Return when each row could first be known, shape (n,): a bar when its interval is over."""
    if isinstance(rows, BarColumns | BarBlock):
        return rows.ts_ns + rows.interval_ns
    return rows.ts_ns


def block_of(kind: Kind, ones: Sequence[One]) -> Block:
    """Return messages of one row each as a block, in their order.

    Without a number, which is 0 there, none is the same as another.
    """
    names = {name: n for n, name in enumerate(dict.fromkeys(one.symbol for one in ones))}
    rows: Sequence[Any] = ones
    columns: dict[str, Any] = {"symbol": np.array([names[one.symbol] for one in rows], np.int32)}
    for name in ("ts_ns", "revision", *(n for n in kind.values if n != "condition")):
        dtype = _DTYPES.get(name, np.float64)
        columns[name] = np.array([getattr(one, name) for one in rows], dtype)
    if kind.one is Bar:
        lengths = [interval_ns(one.interval) for one in rows]
        columns["interval_ns"] = np.array(lengths, np.int64)
    else:
        numbers = np.array([one.sequence for one in rows], np.int64)
        columns["sequence"] = np.where(numbers == 0, UNNUMBERED, numbers)
    if kind.one is Tick:
        said = dict.fromkeys(one.conditions for one in rows if one.conditions)
        place = {"": -1} | {name: n for n, name in enumerate(said)}
        columns["condition"] = np.array([place[one.conditions] for one in rows], np.int32)
        columns["conditions"] = tuple(said)
    return cast("Block", cast("Any", kind.block)(symbols=tuple(names), **columns))


def by_kind(parts: Sequence[Rows]) -> dict[str, list[Rows]]:
    """Return rows by stream, in the order of the kinds; those of one kind stay as they are."""
    found: dict[str, list[Rows]] = {stream: [] for stream in KINDS}
    for rows in parts:
        found[kind_of(rows).stream].append(rows)
    return {stream: some for stream, some in found.items() if some}
