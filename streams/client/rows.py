"""Bars, quotes and ticks one by one, as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, TypeAlias

from streams.client.batch import KINDS, Batch

__all__ = ["BarRow", "QuoteRow", "Row", "TickRow", "bar_rows", "rows_of"]


@dataclass(frozen=True, slots=True)
class BarRow:
    """One bar as it came.

    Attributes
    ----------
    symbol
        Its symbol.
    ts_ns, interval_ns
        Start, ns since the epoch, UTC, and length in ns; of a derived bar that the close of the
        session cut, the length it has.
    open, high, low, close, volume
        Its values.
    revision
        0 when first delivered, counted up by corrections.
    known_ns
        Session clock at which it was known.
    is_correction
        Whether it was delivered behind the clock.
    session
        Label of its session.
    """

    symbol: str
    ts_ns: int
    interval_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    revision: int
    known_ns: int
    is_correction: bool
    session: str


@dataclass(frozen=True, slots=True)
class QuoteRow:
    """One best bid and ask as it came; fields that a bar has, too, mean the same.

    Attributes
    ----------
    ts_ns
        Time of the quote, ns since the epoch, UTC.
    bid, bid_size, ask, ask_size
        Its values.
    """

    symbol: str
    ts_ns: int
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    revision: int
    known_ns: int
    is_correction: bool
    session: str


@dataclass(frozen=True, slots=True)
class TickRow:
    """One trade as it came; fields that a bar has, too, mean the same.

    Attributes
    ----------
    ts_ns
        Time of the trade, ns since the epoch, UTC.
    price, size
        Its values.
    condition
        Its condition codes, empty for none.
    """

    symbol: str
    ts_ns: int
    price: float
    size: float
    condition: str
    revision: int
    known_ns: int
    is_correction: bool
    session: str


Row: TypeAlias = BarRow | QuoteRow | TickRow
"""What `SessionStream.rows` gives."""

_BAR = (
    BarRow,
    ("ts_ns", "interval_ns", "open", "high", "low", "close", "volume"),
)
_ROWS: dict[str, tuple[type[Row], tuple[str, ...]]] = {
    "bars": _BAR,
    "derived": _BAR,
    "quotes": (QuoteRow, ("ts_ns", "bid", "bid_size", "ask", "ask_size")),
    "ticks": (TickRow, ("ts_ns", "price", "size")),
}


def rows_of(batch: Batch) -> Iterator[Row]:
    """Give the rows of a batch one by one, in the order of the tape."""
    return _in_order(batch, KINDS)


def bar_rows(batch: Batch) -> Iterator[BarRow]:
    """Give the bars of a batch one by one, in order; derived bars are among them."""
    return _in_order(batch, ("bars", "derived"))


def _in_order(batch: Batch, kinds: tuple[str, ...]) -> Iterator[Any]:
    there = [kind for kind in kinds if getattr(batch, kind) is not None]
    if len(there) < 2:
        return chain.from_iterable(_rows(batch, kind) for kind in there)
    rows = chain.from_iterable(_rows(batch, kind) for kind in there)
    places = chain.from_iterable(getattr(batch, kind).row.tolist() for kind in there)
    in_order = sorted(zip(places, rows, strict=True), key=itemgetter(0))
    return iter([row for _, row in in_order])


def _rows(batch: Batch, kind: str) -> Iterator[Row]:
    found = getattr(batch, kind)
    cls, names = _ROWS[kind]
    late = batch.late(kind)
    columns: list[list[Any]] = [[batch.symbols[i] for i in found.symbol.tolist()]]
    columns += [getattr(found, name).tolist() for name in names]
    if kind == "ticks":
        texts = (*found.conditions, "")  # -1, which is none, finds the last
        columns.append([texts[i] for i in found.condition.tolist()])
    columns.append(found.revision.tolist())
    columns.append(batch.known_ns(kind).tolist())
    columns.append([False] * len(found) if late is None else late.tolist())
    columns.append([batch.session] * len(found))
    yield from map(cls, *columns)
