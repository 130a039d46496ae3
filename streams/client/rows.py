"""Bars one by one, as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from streams.client.batch import Batch

__all__ = ["BarRow", "bar_rows"]


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


_COLUMNS = ("ts_ns", "interval_ns", "open", "high", "low", "close", "volume", "revision")


def bar_rows(batch: Batch) -> Iterator[BarRow]:
    """Give the bars of a batch one by one, in order; derived bars are among them."""
    bars, derived = batch.bars, batch.derived
    if bars is None or derived is None:
        return _rows(batch, "derived" if bars is None else "bars")
    both = chain(_rows(batch, "bars"), _rows(batch, "derived"))
    places = chain(bars.row.tolist(), derived.row.tolist())
    in_order = sorted(zip(places, both, strict=True), key=lambda placed: placed[0])
    return iter([row for _, row in in_order])


def _rows(batch: Batch, kind: str) -> Iterator[BarRow]:
    bars = getattr(batch, kind)
    if bars is None:
        return
    late = batch.late(kind)
    corrected = [False] * len(bars) if late is None else late.tolist()
    names = [batch.symbols[i] for i in bars.symbol.tolist()]
    columns = [getattr(bars, name).tolist() for name in _COLUMNS]
    known = batch.known_ns(kind).tolist()
    sessions = [batch.session] * len(bars)
    yield from map(BarRow, names, *columns, known, corrected, sessions)
