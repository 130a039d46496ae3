"""What a run was, minute by minute and symbol by symbol, in a few bytes each: pure.

Two certificates name the first minute and symbol at which their runs differ, where two digests only
say that they do. For each session, kind, symbol and minute in which the symbol has rows there are
two rolling digests of 64 bits: over all rows of that symbol and kind from the open of the session
to the end of that minute, in their final state and as they were known. Rows belong to the minute of
their ``ts_ns``. These hashes find a place, they prove nothing: that two runs are equal is for the
digests to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.records import Ints, Longs
from streams.digest import KINDS, VALUES, Tape, counted
from streams.finals import final_order, known_ns, late_rows, standing
from streams.intervals import MINUTE_NS

__all__ = ["Cells", "Certificate", "Certifier", "Place"]

Hashes: TypeAlias = NDArray[np.uint64]

_OUTSIDE = frozenset({"start", "roll", "end"})
# The finalizer of splitmix64.
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_STEP = np.uint64(0x9E3779B97F4A7C15)


class Place(NamedTuple):
    """A minute of a symbol: session, start of the minute in ns, symbol, kind; in that order."""

    session: str
    minute_ns: int
    symbol: str
    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Rolling digests of one session and kind, in the order of symbol, minute; shape (cells,).

    Attributes
    ----------
    symbols
        Names that the symbol column counts in, sorted.
    symbol, minute
        Which symbol; the start of the minute in minutes since the epoch.
    final, known
        Digests of all its rows from the open to the end of that minute.
    """

    symbols: tuple[str, ...]
    symbol: Ints
    minute: Ints
    final: Hashes
    known: Hashes


@dataclass(frozen=True, slots=True)
class Certificate:
    """Cells of a run by session and kind."""

    cells: Mapping[tuple[str, str], Cells]
    sessions: tuple[str, ...]

    def first(self, other: Certificate, *, as_known: bool) -> Place | None:
        """Return the first place at which two runs differ, over the sessions that both have."""
        for session in (one for one in self.sessions if one in other.sessions):
            found = [
                place
                for kind in KINDS
                if (place := self._first(other, session, kind, as_known=as_known)) is not None
            ]
            if found:
                return min(found, key=lambda place: (place.minute_ns, place.symbol))
        return None

    def _first(
        self, other: Certificate, session: str, kind: str, *, as_known: bool
    ) -> Place | None:
        both = [one.cells.get((session, kind)) for one in (self, other)]
        names = sorted({name for cells in both if cells is not None for name in cells.symbols})
        keys, digests = [], []
        for cells in both:
            if cells is not None:
                place = np.array([names.index(name) for name in cells.symbols], np.int64)
                keys.append(cells.minute.astype(np.int64) * len(names) + place[cells.symbol])
                digests.append(cells.known if as_known else cells.final)
        if not keys:
            return None
        # A cell that both have with the same digest stands there twice.
        both_cells = np.stack((np.concatenate(keys).view(np.uint64), np.concatenate(digests)))
        unlike, counts = np.unique(both_cells, axis=1, return_counts=True)
        differs = unlike[0][counts == 1]
        if not len(differs):
            return None
        minute, symbol = divmod(int(differs.min()), len(names))
        return Place(session, minute * MINUTE_NS, names[symbol], kind)


class Certifier:
    """Makes the certificate of a run from its batches; memory is that of one session and cells."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], Cells] = {}
        self._sessions: list[str] = []
        self._rows: dict[str, list[_Rows]] = {kind: [] for kind in KINDS}

    def add(self, batch: Tape) -> None:
        """Take the next batch of the tape."""
        if batch.event in _OUTSIDE:
            self._close()
            return
        if not self._sessions or self._sessions[-1] != batch.session:
            self._close()
            self._sessions.append(batch.session)
        for kind, parts in self._rows.items():
            parts.extend(_rows_of(batch, kind))
        if batch.event == "close":
            self._close()

    def certificate(self) -> Certificate:
        """Return the certificate of what came so far."""
        found = dict(self._cells)
        if self._sessions:
            found |= self._running(self._sessions[-1])
        return Certificate(found, tuple(self._sessions))

    def _close(self) -> None:
        if self._sessions:
            self._cells |= self._running(self._sessions[-1])
        self._rows = {kind: [] for kind in KINDS}

    def _running(self, session: str) -> dict[tuple[str, str], Cells]:
        return {(session, kind): _cells(kind, parts) for kind, parts in self._rows.items() if parts}


class _Rows(NamedTuple):
    """Rows of a batch: what cells need of them, and the hash of each but for its known time."""

    symbols: tuple[str, ...]
    symbol: Ints
    sources: tuple[str, ...]
    source: Ints
    sequence: Longs
    ts_ns: Longs
    interval_ns: Longs
    revision: Ints
    late: NDArray[np.bool_]
    known_ns: Longs
    hashes: Hashes


def _rows_of(batch: Tape, kind: str) -> Iterator[_Rows]:
    """Give the rows of a kind, if there are any."""
    columns: Any = getattr(batch, kind)
    if columns is None or not len(columns):
        return
    size = len(columns)
    known = known_ns(batch.slice_ns, batch.slice_rows, columns.row, size)
    late = late_rows(batch, columns.row)
    nought = np.zeros(size, np.int64)
    interval = columns.interval_ns if kind == "bars" else nought
    hashes = _mixed(np.full(size, _STEP), columns.ts_ns, interval)
    hashes = _mixed(hashes, *(getattr(columns, name) for name in VALUES[kind]))
    if kind == "ticks":
        texts = (*columns.conditions, "")  # -1, which is none, finds the last
        numbers = np.array([_number(text) for text in texts], np.uint64)
        hashes = _mixed(hashes, numbers[columns.condition])
    yield _Rows(
        batch.symbols,
        columns.symbol,
        batch.sources,
        columns.source,
        nought if kind == "bars" else columns.sequence,
        columns.ts_ns,
        interval,
        columns.revision,
        nought.astype(np.bool_) if late is None else late,
        known,
        hashes,
    )


def _cells(kind: str, parts: list[_Rows]) -> Cells:
    names, symbols = counted([(part.symbols, part.symbol) for part in parts])
    symbol = np.concatenate(symbols)
    ts, interval, revision, late, known, hashes = (
        np.concatenate(columns) for columns in zip(*(part[5:] for part in parts), strict=True)
    )
    minute = ts // MINUTE_NS
    first = int(minute.min())
    key = symbol.astype(np.int64) * (int(minute.max()) - first + 1) + (minute - first)
    cells, cell = np.unique(key, return_inverse=True)
    at = np.zeros(len(cells), np.intp)
    at[cell] = np.arange(len(cell))  # a row of each
    if kind == "bars":
        final = final_order(symbol, interval, ts, revision)
    else:
        stands = None
        if late.any():
            _, sources = counted([(part.sources, part.source) for part in parts])
            sequence = np.concatenate([part.sequence for part in parts])
            stands = standing((ts, symbol, np.concatenate(sources), sequence), revision, late)
        final = np.arange(len(ts)) if stands is None else stands
    # In the final state only which rows there are counts, as known also their order.
    sums = _sums(hashes[final], cell[final])
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(len(cells)))
    rank = np.empty(len(cell), np.int64)
    rank[order] = np.arange(len(cell)) - starts[cell[order]]
    as_known = _sums(_mixed(hashes, known, revision.astype(np.int64), rank), cell)
    owner = symbol[at]
    return Cells(
        tuple(names),
        owner,
        minute[at].astype(np.int32),
        _rolling(sums, owner),
        _rolling(as_known, owner),
    )


def _sums(hashes: Hashes, cell: NDArray[np.intp]) -> Hashes:
    """Return the sum of the hashes in each cell, mod 2**64; every cell has a row."""
    order = np.argsort(cell, kind="stable")
    ordered = cell[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    found: Hashes = np.add.reduceat(hashes[order], starts)
    return found


def _rolling(sums: Hashes, owner: Ints) -> Hashes:
    """Return, for each cell, the sum over those of its symbol up to it, mod 2**64."""
    total = np.cumsum(sums)
    starts = np.flatnonzero(np.concatenate(([True], owner[1:] != owner[:-1])))
    before = total[starts] - sums[starts]
    found: Hashes = total - np.repeat(before, np.diff(np.append(starts, len(owner))))
    return found


def _mixed(hashes: Hashes, *columns: NDArray[Any]) -> Hashes:
    """Return hashes of rows that take columns of 64-bit values in, one after the other."""
    for column in columns:
        hashes = hashes * _MULTIPLIERS[0] + (np.ascontiguousarray(column).view(np.uint64) + _STEP)
        hashes = (hashes ^ (hashes >> _SHIFTS[0])) * _MULTIPLIERS[0]
        hashes = (hashes ^ (hashes >> _SHIFTS[1])) * _MULTIPLIERS[1]
        hashes ^= hashes >> _SHIFTS[2]
    return hashes


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") if text else 0
