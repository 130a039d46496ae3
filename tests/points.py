"""Tapes by hand with quotes and ticks beside the bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from schemas import Frame, QuoteColumns, TickColumns
from schemas.records import Ints
from tests.frames import OPEN_NS, Day, Row, Tape, bar_columns, full_day, symbols_of

SECOND_NS = 1_000_000_000
_KINDS = {2: "ticks", 4: "quotes"}
_ORDER = ("ticks", "quotes", "bars")


@dataclass(frozen=True)
class Point:
    """A quote (four values) or a tick (two), and the slice in which it comes out.

    ``sequence`` orders those of one time; ``number`` is what its source gave it.
    """

    known_ns: int
    symbol: str
    ts_ns: int
    values: tuple[float, ...]
    sequence: int = 0
    revision: int = 0
    number: int = -1
    is_late: bool = False
    condition: str = ""
    source: str = "hand"

    @property
    def kind(self) -> str:
        return _KINDS[len(self.values)]


@dataclass(frozen=True)
class Busy(Day):
    """A session with quotes and ticks."""

    points: tuple[Point, ...] = ()


def busy(day: Day, points: Sequence[Point]) -> Busy:
    """Return a day with quotes and ticks in it."""
    own = (day.label, day.open_ns, day.minutes, day.symbols, day.rows, day.no_trade)
    return Busy(*own, points=tuple(points))


def _key(row: Row | Point) -> tuple[Any, ...]:
    if isinstance(row, Row):
        ready, kind, interval, sequence = row.ts_ns + row.interval_ns, 2, row.interval_ns, 0
    else:
        ready, kind, interval, sequence = row.ts_ns, _ORDER.index(row.kind), 0, row.sequence
    return (row.known_ns, not row.is_late, ready, kind, interval, row.symbol, row.source, sequence)


def in_order(day: Day) -> list[Row | Point]:
    """Return all rows of a day in the order of the tape."""
    return sorted([*day.rows, *getattr(day, "points", ())], key=_key)


@dataclass
class PointTape(Tape):
    """Writes the frames of days with quotes and ticks."""

    cuts: Mapping[int, Sequence[int]] | None = field(default=None)

    def _frame(self, shard: int, day: Day, names: Sequence[str], times: Sequence[int]) -> Frame:
        frame = super()._frame(shard, day, names, times)
        if not isinstance(day, Busy):
            return frame
        rows = [r for r in in_order(day) if r.symbol in names and r.known_ns in set(times)]
        sources = tuple(sorted({r.source for r in rows} | {"hand"}))
        own: dict[str, Any] = {}
        bars = [(at, r) for at, r in enumerate(rows) if isinstance(r, Row)]
        if bars:
            columns = bar_columns([r for _, r in bars], names, sources)
            own["bars"] = replace(columns, row=_ints([at for at, _ in bars]))
        for kind in ("quotes", "ticks"):
            points = [(a, r) for a, r in enumerate(rows) if isinstance(r, Point) and r.kind == kind]
            own[kind] = _columns(kind, points, names, sources) if points else None
        in_slice = [[r for r in rows if r.known_ns == ns] for ns in times]
        return replace(
            frame,
            rows=len(rows),
            sources=sources,
            slice_rows=_ints([len(found) for found in in_slice]),
            slice_corrections=_ints([sum(r.is_late for r in found) for found in in_slice]),
            **{"bars": None, **own},
        )

    def times(self, day: Day, names: Sequence[str]) -> list[int]:
        """Return the ready times of a shard's slices."""
        more = {p.known_ns for p in getattr(day, "points", ()) if p.symbol in names}
        return sorted({*super().times(day, names), *more})


def _columns(
    kind: str,
    points: Sequence[tuple[int, Point]],
    names: Sequence[str],
    sources: Sequence[str],
) -> QuoteColumns | TickColumns:
    rows = [point for _, point in points]
    values = [np.array([r.values[i] for r in rows]) for i in range(len(rows[0].values))]
    common: dict[str, Any] = {
        "row": _ints([at for at, _ in points]),
        "symbol": _ints([names.index(row.symbol) for row in rows]),
        "ts_ns": np.array([row.ts_ns for row in rows], np.int64),
        "source": _ints([sources.index(row.source) for row in rows]),
        "revision": _ints([row.revision for row in rows]),
        "sequence": np.array([row.number for row in rows], np.int64),
    }
    if kind == "quotes":
        bid, bid_size, ask, ask_size = values
        return QuoteColumns(**common, bid=bid, bid_size=bid_size, ask=ask, ask_size=ask_size)
    texts = tuple(dict.fromkeys(row.condition for row in rows if row.condition))
    condition = _ints([texts.index(r.condition) if r.condition else -1 for r in rows])
    price, size = values
    return TickColumns(**common, price=price, size=size, condition=condition, conditions=texts)


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, np.int32)


def point_tape(
    days: Sequence[Day], shards: int = 1, cuts: Mapping[int, Sequence[int]] | None = None
) -> Tape:
    """Return a whole run over days."""
    tape = PointTape(shards=shards, cuts=cuts)
    tape.start()
    for number, day in enumerate(days):
        tape.day(day, roll=number > 0)
    tape.end()
    return tape


@st.composite
def busy_days(draw: st.DrawFn, most: int = 2, *, late: bool = True) -> list[Day]:
    """Draw days with bars, quotes and ticks; many share symbol and time, some come late."""
    days: list[Day] = []
    for number in range(draw(st.integers(1, most))):
        size = draw(st.integers(1, 4))
        day = full_day(size, 4, number, seed=draw(st.integers(0, 9)))
        points: list[Point] = []
        for sequence in range(draw(st.integers(0, 25))):
            ts_ns = day.open_ns + draw(st.integers(0, 16)) * 15 * SECOND_NS
            is_late = late and draw(st.integers(0, 3)) == 0 and ts_ns < day.close_ns
            delay_ns = draw(st.integers(1, 3)) * 15 * SECOND_NS if is_late else 0
            values = draw(st.lists(st.sampled_from((1.0, 2.5, 7.0)), min_size=2, max_size=2))
            is_quote = draw(st.booleans())
            points.append(
                Point(
                    known_ns=min(ts_ns + delay_ns, day.close_ns),
                    symbol=draw(st.sampled_from(symbols_of(size))),
                    ts_ns=ts_ns,
                    values=tuple(values * 2 if is_quote else values),
                    sequence=sequence,
                    revision=draw(st.integers(0, 2)) if is_late else 0,
                    number=draw(st.sampled_from((-1, -1, 0, 1))),
                    is_late=is_late,
                    condition="" if is_quote else draw(st.sampled_from(("", "A", "B"))),
                    source=draw(st.sampled_from(("hand", "other"))),
                )
            )
        days.append(busy(day, points) if draw(st.integers(0, 4)) else day)
    return days


def point(second: float, symbol: str, *values: float, **changes: Any) -> Point:
    """Return a quote or tick at a second of the first session; ``known`` is the second of it."""
    ts_ns = OPEN_NS + int(second * SECOND_NS)
    known = changes.pop("known", None)
    known_ns = ts_ns if known is None else OPEN_NS + int(known * SECOND_NS)
    return Point(known_ns, symbol, ts_ns, values, is_late=known_ns > ts_ns, **changes)
