"""Frames with quotes and ticks among the bars, and what the store is to have of them, by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from schemas import Frame, QuoteColumns, TickColumns
from sinks.places import Held, Key, Places, Said
from sinks.rows import Pair, Rows
from sinks.vocabulary import Vocabulary
from streams.positions import Delivered
from tests.unit.sinks.frames import DAY_NS, FIRST_OPEN_NS, Tape, label

CONDITIONS = ("@", "@ I")
SOURCES = ("made", "other")
VALUES = {"quotes": ("bid", "bid_size", "ask", "ask_size"), "ticks": ("price", "size")}


@dataclass(frozen=True, slots=True)
class Told:
    """One quote or tick: ``value`` makes its columns, each another number."""

    kind: Literal["quotes", "ticks"]
    symbol: int
    at: int
    value: float = 1.0
    revision: int = 0
    source: int = 0
    condition: int = -1
    sequence: int = -1

    @property
    def ts_ns(self) -> int:
        return FIRST_OPEN_NS + self.at


@dataclass(frozen=True, slots=True)
class Slice:
    """What comes out at one time after the first open, in ns: late rows first."""

    at: int
    late: tuple[Told, ...] = ()
    rows: tuple[Told, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Stored:
    """A row of one of the tables."""

    symbol: str
    ts_ns: int
    place: int
    values: tuple[float | str, ...]
    sequence: int
    revision: int
    source: str
    session: str


def put(tape: Tape, slices: Sequence[Slice], day: int = 0) -> Delivered:
    """Add a frame of some slices, none of them with bars."""
    frame = replace(tape._plain("rows", day), sources=SOURCES)
    told = [row for found in slices for row in (*found.late, *found.rows)]
    none = np.zeros(len(slices), np.int32)
    return tape._add(
        replace(
            frame,
            rows=len(told),
            clock_ns=FIRST_OPEN_NS + slices[-1].at,
            slice_ns=np.array([FIRST_OPEN_NS + found.at for found in slices]),
            slice_rows=_ints([len(found.late) + len(found.rows) for found in slices]),
            slice_corrections=_ints([len(found.late) for found in slices]),
            slice_expected=none,
            slice_received=none,
            slice_no_trade=none,
            slice_missing=none,
            quotes=_columns(told, "quotes"),
            ticks=_columns(told, "ticks"),
        )
    )


def values_of(row: Told) -> tuple[float | str, ...]:
    """Return a row's values in the order of the tables."""
    if row.kind == "quotes":
        return (row.value, row.value + 100, row.value + 0.25, row.value + 200)
    return (row.value, row.value + 100, "" if row.condition < 0 else CONDITIONS[row.condition])


def _ints(values: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(values, np.int32)


def _columns(told: Sequence[Told], kind: str) -> Any:
    mine = [(place, row) for place, row in enumerate(told) if row.kind == kind]
    if not mine:
        return None
    values = [values_of(row) for _, row in mine]
    shared: dict[str, Any] = {
        "row": _ints([place for place, _ in mine]),
        "symbol": _ints([row.symbol for _, row in mine]),
        "ts_ns": np.array([row.ts_ns for _, row in mine]),
        "source": _ints([row.source for _, row in mine]),
        "revision": _ints([row.revision for _, row in mine]),
        "sequence": np.array([row.sequence for _, row in mine]),
        **{n: np.array([v[i] for v in values], np.float64) for i, n in enumerate(VALUES[kind])},
    }
    if kind == "quotes":
        return QuoteColumns(**shared)
    condition = _ints([row.condition for _, row in mine])
    conditions = CONDITIONS if (condition >= 0).any() else ()
    return TickColumns(**shared, condition=condition, conditions=conditions)


def rows_of(frames: Sequence[Delivered], kind: str) -> Iterator[tuple[Frame, int, int, Stored]]:
    """Yield frame, row number, known time and row, one by one, each with its place."""
    values: tuple[float | str, ...]
    held: dict[tuple[str, int, str, int], list[tuple[int, int, int]]] = {}
    for item in frames:
        frame, columns = item.frame, getattr(item.frame, kind)
        if columns is None:
            continue
        spread = [
            (int(ns), at < late)
            for ns, rows, late in zip(
                frame.slice_ns, frame.slice_rows, frame.slice_corrections, strict=True
            )
            for at in range(rows)
        ]
        for i, number in enumerate(columns.row.tolist()):
            known_ns, is_late = spread[number]
            symbol, ts_ns = frame.symbols[columns.symbol[i]], int(columns.ts_ns[i])
            source, revision = int(columns.source[i]), int(columns.revision[i])
            out = held.setdefault((frame.run, frame.shard, symbol, ts_ns), [])
            place = len(out)
            sequence = int(columns.sequence[i])
            if is_late and revision > 0:
                same = [
                    at
                    for at, (other, number_, before) in enumerate(out)
                    if (other, number_) == (source, sequence) and before < revision
                ]
                place = same[0] if len(same) == 1 else place
            out[place : place + 1] = [(source, sequence, revision)]
            values = tuple(getattr(columns, name)[i].item() for name in VALUES[kind])
            if kind == "ticks":
                condition = int(columns.condition[i])
                values += ("" if condition < 0 else columns.conditions[condition],)
            session = label((ts_ns - FIRST_OPEN_NS) // DAY_NS)
            stored = Stored(
                symbol, ts_ns, place, values, sequence, revision, SOURCES[source], session
            )
            yield frame, frame.first_row + number, known_ns, stored


def final_of(frames: Sequence[Delivered], kind: str) -> list[Stored]:
    """Return the final state: of each (symbol, ts_ns, place) the last one, in that order."""
    last = {(r.symbol, r.ts_ns, r.place): r for _, _, _, r in rows_of(frames, kind)}
    return [last[key] for key in sorted(last)]


@dataclass
class Kept:
    """What was stored, row by row, as the tables of what was known keep it."""

    kind: Literal["quotes", "ticks"] = "ticks"
    rows: dict[tuple[str, int, int], tuple[Key, int, Said]] = field(default_factory=dict)
    looks: int = 0

    def load(self, run: str, shard: int, before: int, keys: Sequence[Key]) -> Mapping[Key, Held]:
        self.looks += 1
        found: dict[Key, dict[int, Said]] = {}
        for (of, at, number), (key, place, said) in sorted(self.rows.items()):
            if (of, at) == (run, shard) and number < before and key in keys:
                found.setdefault(key, {})[place] = said
        return {key: [held[place] for place in sorted(held)] for key, held in found.items()}

    def final(self) -> dict[tuple[Key, int], tuple[str, int, int]]:
        """Return which row (run, shard, number) stands at each place of a symbol and time."""
        return {(key, place): at for at, (key, place, _) in sorted(self.rows.items())}

    def take(self, places: Places, frames: Sequence[Delivered]) -> None:
        """Count the rows of a batch, and store them."""
        pairs: list[Pair] = [
            (d.frame, columns) for d in frames if (columns := getattr(d.frame, self.kind))
        ]
        if not pairs:
            return
        rows = Rows(pairs, Vocabulary())
        sources = Vocabulary()
        counted = places.of(rows, rows.sources(sources)).tolist()
        for (frame, columns), start in zip(pairs, starts(pairs), strict=True):
            for i, row in enumerate(columns.row.tolist()):
                key = (frame.symbols[columns.symbol[i]], int(columns.ts_ns[i]))
                said = (
                    *(frame.sources[columns.source[i]], int(columns.sequence[i])),
                    int(columns.revision[i]),
                )
                at = (frame.run, frame.shard, frame.first_row + row)
                kept = (key, counted[start + i], said)
                assert self.rows.get(at, kept) == kept
                self.rows[at] = kept


def starts(pairs: Sequence[Pair]) -> list[int]:
    sizes = [len(columns) for _, columns in pairs]
    return [sum(sizes[:number]) for number in range(len(sizes))]
