r"""Two digests of a run, from the rows a reader received: pure.

Both are SHA-256 over the sessions of the run in the order of the tape; a session counts from its
``open`` (or the first frame that names it), also when it has no rows. For each session, and each
kind in it (``bars`` always, then ``quotes`` and ``ticks`` where there are any), the hash takes

1. the UTF-8 of ``f"{session}\n{kind}\n"``,
2. the UTF-8 of the symbols that have rows, sorted, joined by ``"\n"``, then ``"\n\n"``; for ticks
   the same of the conditions that rows have,
3. the columns one after the other, each as one packed little-endian array over all rows: the
   symbol as int32 (index into those symbols), ``interval_ns`` int64 (of bars only), ``ts_ns``
   int64, the values float64 (``open``, ``high``, ``low``, ``close``, ``volume``; ``bid``,
   ``bid_size``, ``ask``, ``ask_size``; ``price``, ``size``); of ticks the condition as int32 (index
   into those conditions, -1 for none).

``final`` is over the final state. Of bars that is, of each (symbol, interval, ts), the row of the
highest revision, of equal ones the later; sorted by ready time (``ts_ns + interval_ns``), interval,
symbol. Of quotes and ticks it is all rows but those that a later one corrects
(``finals.corrected``), sorted by ``ts_ns``, symbol, then the values in the order above: with one
symbol and time it tells which rows there are, not in which order they came. ``as_known`` is over
the rows as delivered, sorted by known time (``slice_ns`` of the row's slice), ready time, interval,
symbol, those of one symbol as they came: see ``finals.known_order``. It takes two more columns at
the end: the known time int64 and ``revision`` int32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Ints, Longs, QuoteColumns, TickColumns
from streams.finals import (
    final_order,
    known_ns,
    known_order,
    late_rows,
    point_order,
    standing,
)

__all__ = ["KINDS", "VALUES", "Digest", "Tape", "counted"]

KINDS = ("bars", "quotes", "ticks")
"""The kinds that a digest is over, in its order."""

VALUES = {
    "bars": ("open", "high", "low", "close", "volume"),
    "quotes": ("bid", "bid_size", "ask", "ask_size"),
    "ticks": ("price", "size"),
}
"""The values of each kind, in the order in which they are hashed."""

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
    def sources(self) -> tuple[str, ...]:
        """Names the source column counts in."""
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
    def slice_corrections(self) -> Ints:
        """Corrections of each slice; they come first in it."""
        ...

    @property
    def bars(self) -> BarColumns | None:
        """Bars in order."""
        ...

    @property
    def quotes(self) -> QuoteColumns | None:
        """Quotes in order."""
        ...

    @property
    def ticks(self) -> TickColumns | None:
        """Ticks in order."""
        ...


class _Chunk(NamedTuple):
    symbols: tuple[str, ...]
    sources: tuple[str, ...]
    rows: Any
    known_ns: Longs
    late: NDArray[np.bool_] | None


_Column: TypeAlias = list[NDArray[Any]]
"""A column in parts, one a batch."""


class Digest:
    """Running digests of one run; memory is that of one session.

    Attributes
    ----------
    sessions
        Sessions that went in.
    counts
        Rows that went in, by kind.
    """

    def __init__(self) -> None:
        self.sessions = 0
        self.counts = dict.fromkeys(KINDS, 0)
        self._final = hashlib.sha256()
        self._known = hashlib.sha256()
        self._session: tuple[str, str] | None = None
        self._chunks: dict[str, list[_Chunk]] = {kind: [] for kind in KINDS}

    @property
    def rows(self) -> int:
        """Rows that went in, over all kinds."""
        return sum(self.counts.values())

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
        for kind, chunks in self._chunks.items():
            rows = getattr(batch, kind)
            if rows is None or not len(rows):
                continue
            known = known_ns(batch.slice_ns, batch.slice_rows, rows.row, len(rows))
            late = None if kind == "bars" else late_rows(batch, rows.row)
            chunks.append(_Chunk(batch.symbols, batch.sources, rows, known, late))
            self.counts[kind] += len(rows)
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
        self._chunks = {kind: [] for kind in KINDS}


def _take(session: str, chunks: Mapping[str, Sequence[_Chunk]], final: Any, known: Any) -> None:
    """Update both hashes with one session's rows."""
    _take_bars(session, chunks["bars"], final, known)
    for kind in ("quotes", "ticks"):
        if chunks[kind]:
            _take_points(session, kind, chunks[kind], final, known)


def _take_bars(session: str, chunks: Sequence[_Chunk], final: Any, known: Any) -> None:
    names, symbol = _renumbered(chunks)
    head = _head(session, "bars", names)
    final.update(head)
    known.update(head)
    interval, ts, revision = (_of(chunks, name) for name in ("interval_ns", "ts_ns", "revision"))
    columns = [symbol, interval, ts, *(_of(chunks, name) for name in VALUES["bars"])]
    known_time = [chunk.known_ns for chunk in chunks]
    if _is_final(symbol, interval, ts, known_time):
        for column in (*columns, known_time, revision):
            _update(known, column)
    else:
        *whole, times, revisions = map(np.concatenate, (*columns, known_time, revision))
        symbols, intervals, starts = whole[:3]
        order = known_order(times, starts + intervals, intervals, symbols)
        for part in (*whole, times, revisions):
            _update(known, [part[order]])
        order = final_order(symbols, intervals, starts, revisions)
        columns = [[part[order]] for part in whole]
    for column in columns:
        _update(final, column)


def _take_points(session: str, kind: str, chunks: Sequence[_Chunk], final: Any, known: Any) -> None:
    """Update both hashes with one session's quotes or ticks."""
    names, symbol = _renumbered(chunks)
    head = _head(session, kind, names)
    ts, revision = _of(chunks, "ts_ns"), _of(chunks, "revision")
    columns = [symbol, ts, *(_of(chunks, name) for name in VALUES[kind])]
    texts: list[str] = []
    if kind == "ticks":
        texts, condition = _conditions(chunks)
        columns.append(condition)
    known.update(head)
    known.update(_text(texts) if kind == "ticks" else b"")
    delivered = [*columns, [chunk.known_ns for chunk in chunks], revision]
    if any(chunk.late is not None for chunk in chunks):
        whole = [np.concatenate(column) for column in delivered]
        order = known_order(whole[-2], whole[1], np.zeros(len(whole[1]), np.int64), whole[0])
        delivered = [[part[order]] for part in whole]
    for column in delivered:
        _update(known, column)
    columns = _final_points(columns, chunks)
    final.update(head)
    if kind == "ticks":
        used = np.unique(np.concatenate(columns[-1]))
        used = used[used >= 0]
        if len(used) < len(texts):  # a condition that revised rows alone had is none of these
            place = np.full(len(texts) + 1, -1, np.int32)
            place[used] = np.arange(len(used))
            columns[-1] = [place[part] for part in columns[-1]]
        final.update(_text([texts[i] for i in used.tolist()]))
    for column in columns:
        _update(final, column)


def _final_points(columns: list[_Column], chunks: Sequence[_Chunk]) -> list[_Column]:
    """Return the columns (symbol, ts, values) of the rows that stand, in their order."""
    has_late = any(chunk.late is not None for chunk in chunks)
    if not has_late:
        orders = _orders(columns)
        if orders is not None:
            return [
                [p if o is None else p[o] for p, o in zip(column, orders, strict=True)]
                for column in columns
            ]
    whole = [np.concatenate(column) for column in columns]
    stands = _standing(whole[0], whole[1], chunks) if has_late else None
    if stands is not None:
        whole = [column[stands] for column in whole]
    order = point_order(whole[0], whole[1], whole[2:])
    return [[column if order is None else column[order]] for column in whole]


def _standing(
    symbol: NDArray[Any], ts_ns: NDArray[Any], chunks: Sequence[_Chunk]
) -> NDArray[np.intp] | None:
    late = [
        np.zeros(len(chunk.rows), np.bool_) if chunk.late is None else chunk.late
        for chunk in chunks
    ]
    _, source = counted([(chunk.sources, chunk.rows.source) for chunk in chunks])
    sequence, revision = _of(chunks, "sequence"), _of(chunks, "revision")
    keys = (ts_ns, symbol, np.concatenate(source), np.concatenate(sequence))
    return standing(keys, np.concatenate(revision), np.concatenate(late))


def _orders(columns: Sequence[_Column]) -> list[NDArray[np.intp] | None] | None:
    """Return the order of each part; None where one part does not wholly lie behind another."""
    orders: list[NDArray[np.intp] | None] = []
    before = (-(2**63), -1)
    for symbol, ts, *values in zip(*columns, strict=True):
        order = point_order(symbol, ts, values)
        first, last = (0, -1) if order is None else (int(order[0]), int(order[-1]))
        if (int(ts[first]), int(symbol[first])) <= before:
            return None
        before = (int(ts[last]), int(symbol[last]))
        orders.append(order)
    return orders


def _head(session: str, kind: str, names: Sequence[str]) -> bytes:
    return f"{session}\n{kind}\n".encode() + _text(names)


def _text(names: Sequence[str]) -> bytes:
    return "\n".join(names).encode() + b"\n\n"


def _of(chunks: Sequence[_Chunk], name: str) -> _Column:
    return [getattr(chunk.rows, name) for chunk in chunks]


def _update(running: Any, column: _Column) -> None:
    for part in column:
        running.update(np.ascontiguousarray(part, part.dtype.newbyteorder("<")))


def _renumbered(chunks: Sequence[_Chunk]) -> tuple[list[str], _Column]:
    """Return the names that have rows, sorted, and the symbol column that counts in them."""
    return counted([(chunk.symbols, chunk.rows.symbol) for chunk in chunks])


def _conditions(chunks: Sequence[_Chunk]) -> tuple[list[str], _Column]:
    """Return the conditions that ticks have, sorted, and the column that counts in them."""
    # Behind the last stands the empty text, which is none, too.
    parts = []
    for chunk in chunks:
        texts, condition = chunk.rows.conditions, chunk.rows.condition
        place = np.where(condition < 0, np.int32(len(texts)), condition)
        parts.append(((*texts, ""), place))
    names, columns = counted(parts)
    if "" not in names:
        return names, columns
    return names[1:], [column - np.int32(1) for column in columns]


def counted(parts: Sequence[tuple[tuple[str, ...], Ints]]) -> tuple[list[str], _Column]:
    """Return the names that columns of places in them have, sorted; columns that count in those."""
    used: dict[tuple[str, ...], NDArray[np.intp]] = {}
    for names, column in parts:
        counts = np.bincount(column, minlength=len(names))
        used[names] = used[names] + counts if names in used else counts
    found = sorted({names[i] for names, counts in used.items() for i in np.flatnonzero(counts)})
    place = {name: i for i, name in enumerate(found)}
    maps = {names: np.array([place.get(name, -1) for name in names], np.int32) for names in used}
    return found, [
        column if list(names) == found else maps[names][column] for names, column in parts
    ]


def _is_final(symbols: _Column, intervals: _Column, starts: _Column, known: _Column) -> bool:
    """Tell whether rows as delivered are the final ones in their order: none late, none twice."""
    before: tuple[int, int, int] = (-(2**63), 0, 0)
    for symbol, interval, ts, time in zip(symbols, intervals, starts, known, strict=True):
        first = (int(time[0]), int(interval[0]), int(symbol[0]))
        if first <= before or not np.array_equal(ts + interval, time):
            return False
        before = (int(time[-1]), int(interval[-1]), int(symbol[-1]))
        step = np.diff(time)
        is_next = symbol[1:] > symbol[:-1]
        if not bool((interval == interval[0]).all()):
            longer = np.diff(interval)
            is_next = (longer > 0) | ((longer == 0) & is_next)
        if not bool(((step > 0) | ((step == 0) & is_next)).all()):
            return False
    return True
