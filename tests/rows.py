"""Rows as a test compares them: of the tape, and of a source alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from schemas import BarBlock
from streams.calendar import sessions_between
from streams.intervals import MINUTE_NS
from streams.sources import open_source

__all__ = ["Row", "digest_of", "expected_digests", "expected_rows", "rows_of"]

VALUES = ("open", "high", "low", "close", "volume")


class Row(NamedTuple):
    """A bar as it came out: its slice first, then what it says."""

    known_ns: int
    symbol: str
    ts_ns: int
    interval_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    revision: int = 0


def rows_of(batch: Any, symbols: Sequence[str]) -> Iterator[Row]:
    """Give the rows of a frame or a batch."""
    bars = batch.bars
    if bars is None:
        return
    known = [
        int(ns)
        for ns, rows in zip(batch.slice_ns, batch.slice_rows, strict=True)
        for _ in range(int(rows))
    ]
    columns = (
        *(bars.ts_ns, bars.interval_ns, bars.open, bars.high, bars.low, bars.close),
        *(bars.volume, bars.revision),
    )
    values = zip(bars.row.tolist(), bars.symbol.tolist(), *(c.tolist() for c in columns))  # noqa: B905
    for row, symbol, *rest in values:
        yield Row(known[row], symbols[symbol], *rest)


def expected_rows(
    source: str, calendar: str, start: str, end: str, hours: str = "regular"
) -> tuple[Row, ...]:
    """Return what the tape must give of a source, from the source alone."""
    sessions = _sessions(source, calendar, start, end, hours)
    return tuple(row for rows in sessions.values() for row in rows)


def expected_digests(
    source: str, calendar: str, start: str, end: str, hours: str = "regular"
) -> tuple[str, str]:
    """Return the digests, final and as known, that a run must have, from the source alone."""
    sessions = _sessions(source, calendar, start, end, hours)
    return digest_of(sessions, as_known=False), digest_of(sessions, as_known=True)


def digest_of(sessions: Mapping[str, Sequence[Row]], *, as_known: bool) -> str:
    """Return a digest of rows in its order, by session: `streams.digest` has the definition."""
    found = hashlib.sha256()
    for label, rows in sessions.items():
        names = sorted({row.symbol for row in rows})
        found.update(f"{label}\nbars\n".encode() + "\n".join(names).encode() + b"\n\n")
        columns = [
            np.array([names.index(row.symbol) for row in rows], "<i4"),
            np.array([row.interval_ns for row in rows], "<i8"),
            np.array([row.ts_ns for row in rows], "<i8"),
            *(np.array([getattr(row, name) for row in rows], "<f8") for name in VALUES),
        ]
        if as_known:
            columns += [
                np.array([row.known_ns for row in rows], "<i8"),
                np.array([row.revision for row in rows], "<i4"),
            ]
        for column in columns:
            found.update(column.tobytes())
    return found.hexdigest()


def _sessions(source: str, calendar: str, start: str, end: str, hours: str) -> dict[str, list[Row]]:
    market = open_source(source)
    symbols = market.symbols()
    found: dict[str, list[Row]] = {}
    for session in sessions_between(calendar, start, end, hours):
        mine: list[Row] = []
        for block in market.load("bars", symbols, session.open_ns, session.close_ns, MINUTE_NS):
            if not isinstance(block, BarBlock):
                continue
            for at in range(len(block)):
                ts = int(block.ts_ns[at])
                name = block.symbols[block.symbol[at]]
                o, h, lo, c, v = (float(getattr(block, n)[at]) for n in VALUES)
                mine.append(Row(ts + MINUTE_NS, name, ts, MINUTE_NS, o, h, lo, c, v))
        found[session.label] = sorted(mine)
    return found
