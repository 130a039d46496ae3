"""Longer bars of tapes by hand, made row by row, and their frames as an upkeep writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import nan

import numpy as np

from schemas import DerivedColumns, Frame
from streams.client.rows import BarRow
from streams.intervals import MINUTE_NS
from tests.frames import Day, Row, Tape

__all__ = ["Longer", "all_rows", "frame_of", "keys_of", "longer_bars", "with_derived"]


@dataclass(frozen=True)
class Longer:
    """A derived bar, and the slice in which it comes out."""

    known_ns: int
    symbol: str
    ts_ns: int
    interval_ns: int
    length_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float
    count: int
    quality: float
    revision: int = 0
    is_late: bool = False


def longer_bars(day: Day, minutes: int) -> list[Longer]:
    """Fold a day slice by slice: a bar when its last minute is in, again when a minute changes."""
    length = minutes * MINUTE_NS
    values: dict[tuple[str, int], dict[int, Row]] = {}
    out: dict[tuple[str, int], int] = {}
    found: list[Longer] = []
    ends = [min(day.open_ns + n * length, day.close_ns) for n in range(1, day.minutes + 1)]
    times = sorted({row.known_ns for row in day.rows} | set(ends))
    for known_ns in times:
        touched = set()
        for row in day.rows:
            if row.known_ns == known_ns and row.interval_ns == MINUTE_NS:
                start = day.open_ns + (row.ts_ns - day.open_ns) // length * length
                own = values.setdefault((row.symbol, start), {})
                if row.ts_ns not in own or own[row.ts_ns].revision <= row.revision:
                    own[row.ts_ns] = row
                    touched.add((row.symbol, start))
        for key in sorted(values, key=lambda key: (key[1], key[0])):
            end = min(key[1] + length, day.close_ns)
            if key in out and key in touched:
                out[key] += 1
                late = True
            elif key not in out and end <= known_ns:
                late = end < known_ns  # a bar whose first minute came behind its end
                out[key] = 0
            else:
                continue
            bar = _bar(known_ns, key, end, length, list(values[key].values()))
            found.append(replace(bar, revision=out[key], is_late=late))
    return sorted(found, key=order_of)


def _bar(known_ns: int, key: tuple[str, int], end: int, length: int, rows: Sequence[Row]) -> Longer:
    rows = sorted(rows, key=lambda row: row.ts_ns)
    volume = sum(row.volume for row in rows)
    money = sum(row.volume * (row.close * 3) / 3 for row in rows)  # high + low is twice the close
    expected = (end - key[1]) // MINUTE_NS
    return Longer(
        *(known_ns, key[0], key[1], end - key[1], length),
        open=rows[0].close - 0.5,
        high=max(row.close for row in rows) + 1,
        low=min(row.close for row in rows) - 1,
        close=rows[-1].close,
        volume=volume,
        vwap=money / volume if volume else nan,
        count=len(rows),
        quality=100.0 * len(rows) / expected,
    )


def order_of(row: Row | Longer) -> tuple[int, bool, int, bool, int, str]:
    """Where a row stands on the tape."""
    is_longer = isinstance(row, Longer)
    length = row.length_ns if isinstance(row, Longer) else row.interval_ns
    ready = row.ts_ns + row.interval_ns
    return (row.known_ns, not row.is_late, ready, is_longer, length, row.symbol)


def all_rows(
    days: Sequence[Day], minutes: Sequence[int], *, base: bool = True
) -> list[Row | Longer]:
    """Return the rows of days with longer bars, in the order of the tape."""
    found: list[Row | Longer] = []
    for day in days:
        rows = [row for length in minutes for row in longer_bars(day, length)]
        found += sorted([*rows, *(day.rows if base else ())], key=order_of)
    return found


Key = tuple[int, str, int, int, float, int, bool]


def keys_of(rows: Sequence[Row | Longer | BarRow]) -> list[Key]:
    """Return rows, wherever from, in a form that can be compared."""
    return [
        (
            *(row.known_ns, row.symbol, row.ts_ns, row.interval_ns, row.close, row.revision),
            row.is_correction if isinstance(row, BarRow) else row.is_late,
        )
        for row in rows
    ]


def with_derived(
    tape: Tape,
    days: Sequence[Day],
    minutes: Sequence[int],
    cuts: Mapping[int, Sequence[int]] | None = None,
) -> Tape:
    """Return a tape with topics of longer bars as more shards; days are those of its one run."""
    both = Tape(shards=tape.shards * (1 + len(minutes)), run=tape.run)
    for shard, frames in enumerate(tape.frames):
        both.frames[shard] = list(frames)
    by_label = {day.label: day for day in days}
    for number, length in enumerate(minutes, 1):
        for shard, frames in enumerate(tape.frames):
            mine = number * tape.shards + shard
            for frame in (one.frame for one in frames):
                plain = replace(
                    frame, shard=mine, interval_ns=length * MINUTE_NS, minutes=None, sources=()
                )
                if frame.event == "rows":
                    continue
                both.put(plain)
                if frame.event == "open":
                    rows = longer_bars(by_label[frame.session], length)
                    own = [row for row in rows if row.symbol in frame.symbols]
                    for part in _cut(plain, own, (cuts or {}).get(mine, ())):
                        both.put(part)
    return both


def _cut(opened: Frame, rows: Sequence[Longer], cuts: Sequence[int]) -> list[Frame]:
    times = sorted({row.known_ns for row in rows})
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(times)}), len(times)]
    frames = [
        frame_of(opened, [row for row in rows if row.known_ns in times[start:end]])
        for start, end in pairwise(edges)
        if start < end
    ]
    return [*frames, replace(frame_of(opened, ()), clock_ns=opened.close_ns)]


def frame_of(opened: Frame, rows: Sequence[Longer]) -> Frame:
    """Return a frame of longer bars in order, in the session of its open frame."""
    times = sorted({row.known_ns for row in rows})
    slices = [[row for row in rows if row.known_ns == ns] for ns in times]
    nothing = np.zeros(len(times), np.int32)
    names = opened.symbols
    columns = {
        name: np.array([getattr(row, name) for row in rows], np.float64)
        for name in ("open", "high", "low", "close", "volume", "vwap", "quality")
    }
    before = {
        f"before_{name}": np.full(len(rows), np.nan)
        for name in ("open", "high", "low", "close", "volume")
    }
    derived = DerivedColumns(
        row=np.arange(len(rows), dtype=np.int32),
        symbol=np.array([names.index(row.symbol) for row in rows], np.int32),
        ts_ns=np.array([row.ts_ns for row in rows], np.int64),
        interval_ns=np.array([row.interval_ns for row in rows], np.int64),
        count=np.array([row.count for row in rows], np.int32),
        revision=np.array([row.revision for row in rows], np.int32),
        **columns,
        **before,
    )
    return replace(
        opened,
        event="rows",
        rows=len(rows),
        clock_ns=times[-1] if times else opened.clock_ns,
        slice_ns=np.array(times, np.int64),
        slice_rows=np.array([len(found) for found in slices], np.int32),
        slice_corrections=np.array([sum(r.is_late for r in f) for f in slices], np.int32),
        slice_expected=nothing,
        slice_received=nothing,
        slice_no_trade=nothing,
        slice_missing=nothing,
        derived=derived if rows else None,
    )
