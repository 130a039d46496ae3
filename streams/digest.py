r"""Two digests of a run, from the rows a reader received: pure.

Both are SHA-256 over the sessions of the run in the order of the tape; a session counts from its
``open`` (or the first frame that names it), also when it has no rows. For each session, and each
kind in it (``bars`` now), the hash takes

1. the UTF-8 of ``f"{session}\n{kind}\n"``,
2. the UTF-8 of the symbols that have rows, sorted, joined by ``"\n"``, then ``"\n\n"``,
3. the columns one after the other, each as one packed little-endian array over all rows: the
   symbol as int32 (index into those symbols), ``interval_ns`` int64, ``ts_ns`` int64, ``open``,
   ``high``, ``low``, ``close``, ``volume`` float64.

``final`` is over the final state: of each (symbol, interval, ts) the row of the highest revision,
of equal ones the later; sorted by ready time (``ts_ns + interval_ns``), interval, symbol.
``as_known`` is over the rows as delivered, in the global order of the tape, and takes two more
columns at the end: the known time (``slice_ns`` of the row's slice) int64 and ``revision`` int32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Ints, Longs

__all__ = ["Digest", "Tape", "final_order", "known_ns"]

_VALUES = ("open", "high", "low", "close", "volume")
_OUTSIDE = frozenset({"start", "roll", "end"})


class Tape(Protocol):
    """What a digest reads of a batch (or of a frame, where there is one shard)."""

    @property
    def run(self) -> str:
        """Id of the run."""
        ...

    @property
    def event(self) -> str:
        """What it says: start, open, rows, close, roll, end."""
        ...

    @property
    def session(self) -> str:
        """Label of the session."""
        ...

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names the symbol column counts in."""
        ...

    @property
    def slice_ns(self) -> Longs:
        """Ready time of each slice."""
        ...

    @property
    def slice_rows(self) -> Ints:
        """Rows of each slice, over all kinds."""
        ...

    @property
    def bars(self) -> BarColumns | None:
        """Bars in order."""
        ...


class _Chunk(NamedTuple):
    symbols: tuple[str, ...]
    bars: BarColumns
    known_ns: Longs


_Column: TypeAlias = list[NDArray[Any]]
"""A column in parts, one a batch."""


def known_ns(slice_ns: Longs, slice_rows: Ints, row: Ints, rows: int) -> Longs:
    """Return the known time of rows that stand at places ``row`` of a batch, shape (rows,)."""
    known = np.repeat(slice_ns, slice_rows)
    return known if len(known) == rows else known[row]


def final_order(
    symbol: NDArray[Any], interval_ns: Longs, ts_ns: Longs, revision: Ints
) -> NDArray[np.intp]:
    """Return the places of the final rows, sorted by ready time, interval, symbol.

    Of each (symbol, interval, ts) it is the row of the highest revision, of equal ones the last.
    """
    order = np.lexsort((revision, symbol, interval_ns, ts_ns + interval_ns))
    if not len(order):
        return order
    is_last = np.ones(len(order), bool)
    for column in (symbol, interval_ns, ts_ns):
        ordered = column[order]
        is_last[:-1] &= ordered[1:] == ordered[:-1]
    is_last[:-1] = ~is_last[:-1]
    return order[is_last]


class Digest:
    """Running digests of one run; memory is that of one session.

    Attributes
    ----------
    sessions, rows
        Sessions and rows that went in.
    """

    def __init__(self) -> None:
        self.sessions = 0
        self.rows = 0
        self._final = hashlib.sha256()
        self._known = hashlib.sha256()
        self._session: tuple[str, str] | None = None
        self._chunks: list[_Chunk] = []

    def add(self, batch: Tape) -> None:
        """Take the next batch of the tape."""
        if batch.event in _OUTSIDE:
            self._close()
            return
        session = (batch.run, batch.session)
        if session != self._session:
            self._close()
            self._session = session
            self.sessions += 1
        bars = batch.bars
        if bars is not None and len(bars):
            known = known_ns(batch.slice_ns, batch.slice_rows, bars.row, len(bars))
            self._chunks.append(_Chunk(batch.symbols, bars, known))
            self.rows += len(bars)
        if batch.event == "close":
            self._close()

    def final(self) -> str:
        """Return the digest of the final state so far, as hex."""
        return self._hex(self._final, of_final=True)

    def as_known(self) -> str:
        """Return the digest of the rows as delivered so far, as hex."""
        return self._hex(self._known, of_final=False)

    def _hex(self, running: Any, *, of_final: bool) -> str:
        found = running.copy()
        if self._session is not None:
            other = hashlib.sha256()
            pair = (found, other) if of_final else (other, found)
            _take(self._session[1], self._chunks, *pair)
        return str(found.hexdigest())

    def _close(self) -> None:
        if self._session is not None:
            _take(self._session[1], self._chunks, self._final, self._known)
        self._session = None
        self._chunks = []


def _take(session: str, chunks: Sequence[_Chunk], final: Any, known: Any) -> None:
    """Update both hashes with one session's bars."""
    names, symbol = _renumbered(chunks)
    head = f"{session}\nbars\n{chr(10).join(names)}\n\n".encode()
    final.update(head)
    known.update(head)
    interval, ts, revision = (_of(chunks, name) for name in ("interval_ns", "ts_ns", "revision"))
    columns = [symbol, interval, ts, *(_of(chunks, name) for name in _VALUES)]
    known_time = [chunk.known_ns for chunk in chunks]
    for column in (*columns, known_time, revision):
        _update(known, column)
    if not _is_final(symbol, interval, ts, known_time):
        order = final_order(*(np.concatenate(part) for part in (symbol, interval, ts, revision)))
        columns = [[np.concatenate(column)[order]] for column in columns]
    for column in columns:
        _update(final, column)


def _of(chunks: Sequence[_Chunk], name: str) -> _Column:
    return [getattr(chunk.bars, name) for chunk in chunks]


def _update(running: Any, column: _Column) -> None:
    for part in column:
        running.update(np.ascontiguousarray(part, part.dtype.newbyteorder("<")))


def _renumbered(chunks: Sequence[_Chunk]) -> tuple[list[str], _Column]:
    """Return the names that have rows, sorted, and the symbol column that counts in them."""
    used: dict[tuple[str, ...], NDArray[np.intp]] = {}
    for symbols, bars, _ in chunks:
        counts = np.bincount(bars.symbol, minlength=len(symbols))
        used[symbols] = used[symbols] + counts if symbols in used else counts
    names = sorted({symbols[i] for symbols, counts in used.items() for i in np.flatnonzero(counts)})
    place = {name: i for i, name in enumerate(names)}
    maps = {
        symbols: np.array([place.get(name, -1) for name in symbols], np.int32) for symbols in used
    }
    return names, [
        bars.symbol if list(symbols) == names else maps[symbols][bars.symbol]
        for symbols, bars, _ in chunks
    ]


def _is_final(symbols: _Column, intervals: _Column, starts: _Column, known: _Column) -> bool:
    """Tell whether rows as delivered are the final ones in their order: none late, none twice."""
    before: tuple[int, int, int] = (-(2**63), 0, 0)
    for symbol, interval, ts, known_ns in zip(symbols, intervals, starts, known, strict=True):
        first = (int(known_ns[0]), int(interval[0]), int(symbol[0]))
        if first <= before or not np.array_equal(ts + interval, known_ns):
            return False
        before = (int(known_ns[-1]), int(interval[-1]), int(symbol[-1]))
        step = np.diff(known_ns)
        is_next = symbol[1:] > symbol[:-1]
        if not bool((interval == interval[0]).all()):
            longer = np.diff(interval)
            is_next = (longer > 0) | ((longer == 0) & is_next)
        if not bool(((step > 0) | ((step == 0) & is_next)).all()):
            return False
    return True
