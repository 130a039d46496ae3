"""A trailing session as frames: pure.

What the store has and what sources sent stay apart: a symbol whose bars are all of the store
stands in frames whose only source is ``store``, so that nobody stores them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Command, DerivedColumns, Frame, empty_longs
from streams.coverage import expected_ends
from streams.days import Day
from streams.derived import BEFORE, DerivedBars, minutes_of
from streams.frames import ENVELOPE_BYTES
from streams.intervals import MINUTE_NS
from streams.merge import Index, ready_ns
from streams.minute_bars import MinuteBars
from streams.topics import MESSAGE_BYTES, room_of

__all__ = ["end_of", "frames_of"]

BASE = "1m"
"""Length of the bars that all others are made of."""
_COLUMNS = tuple(name for name in DerivedColumns.columns if name not in ("row", *BEFORE))
C = TypeVar("C", BarColumns, DerivedColumns)
ROW_BYTES = 128
"""A row of a frame with all its columns, and a slice of its own, at most."""


def end_of(command: Command, last: Frame | None, shard: int, shards: int) -> Frame:
    """Return the frame that says that a run's trailing sessions are all out.

    Parameters
    ----------
    command
        The run's.
    last
        Last frame of the shard on the topic: its numbers go on.
    shard, shards
        Number of the shard, and how many there are.
    """
    return Frame(
        run=command.run,
        shard=shard,
        shards=shards,
        frame=0 if last is None else last.frame + 1,
        first_row=0 if last is None else last.first_row + last.rows,
        rows=0,
        clock_ns=0,
        event="end",
        mode=command.mode,
        speed=command.speed,
        command=command.version,
        session="",
        open_ns=0,
        close_ns=0,
        open_offset=-1,
    )


def frames_of(
    day: Day,
    command: Command,
    last: Frame | None,
    shard: int,
    shards: int,
    *,
    message_bytes: int = MESSAGE_BYTES,
) -> list[Frame]:
    """Return a session as frames; one without rows where nothing is there.

    The parameters are those of `end_of`, and what was gathered. The clock of a frame is that of
    its last slice; marks of slices count rows only, for nothing more is to come.
    """
    session, bars = day.session, day.bars
    blank = replace(
        end_of(command, last, shard, shards),
        event="rows",
        session=session.label,
        open_ns=session.open_ns,
        close_ns=session.close_ns,
        clock_ns=session.close_ns,
        incomplete=bool(day.lacking),
        reason=day.reason,
        symbols=day.symbols,
        expected=len(expected_ends(session, MINUTE_NS)),
    )
    longer = _longer(blank, day, bars, [name for name in command.historical if name != BASE])
    of_sources = np.zeros(len(day.symbols), np.bool_)
    of_sources[bars.symbol[bars.source > 0]] = True
    shown = bars if BASE in command.historical else bars.take(slice(0, 0))
    room = message_bytes - ENVELOPE_BYTES - room_of(day.symbols)
    parts: list[Frame] = []
    for where in (~of_sources, of_sources):
        used = np.unique(bars.source[where[bars.symbol]])
        mine, more = shown.take(where[shown.symbol]), longer.take(where[longer.symbol])
        mine = replace(mine, source=np.searchsorted(used, mine.source).astype(np.int32))
        sources = tuple(day.sources[number] for number in used)
        parts += _cut(replace(blank, sources=sources), mine, more, max(room // ROW_BYTES, 1))
    found: list[Frame] = []
    number, row = blank.frame, blank.first_row
    for part in parts or [blank]:
        found.append(replace(part, frame=number, first_row=row))
        number, row = number + 1, row + part.rows
    return found


def _cut(blank: Frame, bars: BarColumns, longer: DerivedColumns, most: int) -> Iterator[Frame]:
    """Give rows in the order of the tape, at most so many a frame, whole slices where they fit."""
    ready = np.concatenate((ready_ns(bars), longer.ts_ns + longer.interval_ns))
    order = np.argsort(ready, kind="stable")  # each kind is in order, and bars stand first
    ready = ready[order]
    first = 0
    while first < len(ready):
        stop = min(first + most, len(ready))
        if stop < len(ready):
            begins = int(np.searchsorted(ready, ready[stop]))
            stop = begins if begins > first else stop
        slice_ns, rows = np.unique(ready[first:stop], return_counts=True)
        nothing = np.zeros(len(slice_ns), np.int32)
        at = order[first:stop]
        is_bar = at < len(bars)
        yield replace(
            blank,
            rows=stop - first,
            clock_ns=int(slice_ns[-1]),
            slice_ns=slice_ns,
            slice_rows=rows.astype(np.int32),
            slice_corrections=nothing,
            slice_expected=nothing,
            slice_received=nothing,
            slice_no_trade=nothing,
            slice_missing=nothing,
            bars=_placed(bars, at[is_bar], is_bar),
            derived=_placed(longer, at[~is_bar] - len(bars), ~is_bar),
        )
        first = stop


def _placed(columns: C, at: Index, is_mine: NDArray[np.bool_]) -> C | None:
    """Return the rows at some places, with their places in the frame; None where there are none."""
    if not len(at):
        return None
    return replace(columns.take(at), row=np.flatnonzero(is_mine).astype(np.int32))


def _longer(blank: Frame, day: Day, bars: BarColumns, intervals: Iterable[str]) -> DerivedColumns:
    """Return the bars of some lengths, in the order of the tape; ``blank`` is of the session."""
    base = MinuteBars(blank)
    base.expect(expected_ends(day.session, MINUTE_NS))
    base.put(bars)
    made = [DerivedBars(minutes_of(name), base).until(day.session.close_ns) for name in intervals]
    parts: list[Mapping[str, NDArray[Any]]] = [part.columns for part in made if part is not None]
    parts = parts or [dict.fromkeys(_COLUMNS, empty_longs())]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
    rows = len(columns["ts_ns"])
    longer = DerivedColumns(
        row=np.arange(rows, dtype=np.int32),
        **columns,
        **dict.fromkeys(BEFORE, np.broadcast_to(np.nan, rows)),
    )
    ready = longer.ts_ns + longer.interval_ns
    return longer.take(np.lexsort((longer.symbol, longer.interval_ns, ready)))
