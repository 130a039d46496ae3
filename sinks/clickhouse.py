"""The sink of the session topic: rows of all kinds, minutes and gaps, then the frames."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from schemas.records import Frame
from sinks.expiry import expire
from sinks.minutes import MinuteBook, gap_steps
from sinks.native import Column
from sinks.rows import Rows, Sessions, by_symbol, version_of
from sinks.store import Store
from sinks.ticks import TICKS, TickTables
from sinks.topic import Position, TopicSink
from sinks.vocabulary import Vocabulary
from streams.positions import Delivered

__all__ = ["ClickHouseSink"]

MINUTES = "minutes"
"""What the position of the minutes is called among those of topics."""

MINUTES_S = 2.0
"""How long minutes may wait while more frames come."""

_SETTLES = frozenset({"start", "roll", "end"})
"""Events that minutes do not wait beyond: earlier sessions' frames may be deleted from here on."""


class ClickHouseSink(TopicSink):
    """Writes the bars, quotes and ticks of the tape.

    Delivery guarantee: at least once on the wire. ``bars`` keeps, under FINAL, the last delivered
    of each (symbol, interval_ns, ts_ns), ``quotes`` and ``ticks`` of each (symbol, ts_ns, place),
    and each one's ``…_as_known`` one of each (run, shard, row_number),
    ``gaps`` one of each (run, shard, frame, number), ``minutes`` one a run, session and symbol.

    Resume point: ``frames`` holds the offset of each frame and is inserted last, so that a frame
    in it is wholly in the store, but for its minutes: those are written every ``MINUTES_S`` and
    when a session is over, with a position of their own. What lies between is read again, which
    changes no row; the tape keeps it, as it deletes nothing of the session that plays.

    Parameters
    ----------
    store
        Where to; closed with the sink.
    keep_sessions
        Sessions to keep when the tape rolls; 0 keeps all.
    clock
        Gives seconds.
    """

    def __init__(
        self,
        store: Store,
        keep_sessions: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(store, "session")
        self._keep_sessions = keep_sessions
        self._clock = clock
        self._symbols = Vocabulary()
        self._sources = Vocabulary()
        self._sessions = Sessions()
        self._ticks = [TickTables(store, kind, self._symbols, self._sources) for kind in TICKS]
        self._book = MinuteBook(self._stored_minutes)
        self._folded: dict[int, Delivered] = {}
        self._written_s = -math.inf
        self._told: dict[int, tuple[str, str]] = {}

    def resume(
        self, committed: Mapping[int, int | None], starts: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Return the offset to read on from: behind the last stored frame, or the start."""
        self._sessions.load(self._store)
        offsets = super().resume(committed, starts)
        generation, folded = self._positions(MINUTES)
        if generation != self._generation:
            return offsets
        # No further than the topic reaches: a hole in the minutes is none in the rows.
        return {
            shard: min(offset, max(folded[shard][0] + 1, starts[shard]))
            if shard in folded
            else offset
            for shard, offset in offsets.items()
        }

    @property
    def is_behind(self) -> bool:
        """Whether minutes were folded that are not written."""
        return bool(self._folded)

    def flush(self) -> Mapping[int, int]:
        """Insert what was taken; return the offset behind it, by shard."""
        if not self._buffer:
            self._insert_minutes()
        return super().flush()

    def _insert(self, taken: Sequence[Delivered]) -> None:
        frames = [d.frame for d in taken]
        for item in taken:
            self._sessions.learn(item.frame)
            self._book.take(item.frame, self._sessions)
            self._folded[item.frame.shard] = item
        pairs = [(f, f.bars) for f in frames if f.bars is not None and len(f.bars)]
        if pairs:
            self._insert_bars(Rows(pairs, self._symbols))
        for tables in self._ticks:
            tables.insert(frames, self._sessions, self._generation)
        steps = gap_steps(frames)
        if steps:
            self._store.insert_block("gaps", steps)
        # An insert costs as much as 10,000 bars do, however few rows it has.
        is_due = self._clock() - self._written_s >= MINUTES_S
        if is_due or any(f.event in _SETTLES for f in frames):
            self._insert_minutes()
        self._store.insert_rows("frames", self._frame_rows(taken))
        if self._keep_sessions and any(f.event == "roll" for f in frames):
            expire(self._store, self._keep_sessions)

    def _insert_bars(self, rows: Rows) -> None:
        values: dict[str, Column] = {
            "symbol": rows.symbols,
            **rows.values(*VALUES),
            "source": rows.sources(self._sources),
            "session": rows.sessions(self._sessions),
        }
        final = values | {"version": version_of(self._generation, rows.numbers())}
        self._store.insert_block("bars", by_symbol(rows, self._symbols, final))
        self._store.insert_block("bars_as_known", rows.delivery() | values)

    def _insert_minutes(self) -> None:
        """Write the minutes of what was folded, and the position behind it."""
        rows = self._book.rows(self._generation)
        if rows:
            self._store.insert_block("minutes", rows)
        if self._folded:
            self._insert_position(list(self._folded.values()), MINUTES)
        self._folded = {}
        self._written_s = self._clock()

    def _stored(self) -> tuple[int, Mapping[int, Position]]:
        generation = int(self._store.rows("SELECT max(generation) FROM frames")[0][0])
        found = self._store.rows(_POSITIONS, {"generation": generation})
        return generation, {
            int(s): (int(offset), int(frame), str(run)) for s, offset, frame, run in found
        }

    def _stored_minutes(self, run: str, session: str) -> Mapping[str, tuple[str, int]]:
        found = self._store.rows(_MINUTES, {"run": run, "session": session})
        return {str(symbol): (str(letters), int(ns)) for symbol, letters, ns in found}

    def _frame_rows(self, taken: Sequence[Delivered]) -> dict[str, list[object]]:
        frames = [d.frame for d in taken]
        columns: dict[str, list[object]] = {
            name: [getattr(f, name) for f in frames] for name in FRAME_FIELDS
        }
        columns["offset"] = [d.offset for d in taken]
        columns["generation"] = [self._generation] * len(taken)
        for kind in ("bars", *TICKS):
            groups = [getattr(f, kind) for f in frames]
            columns[kind] = [0 if group is None else len(group) for group in groups]
        for name in ("expected", "received", "no_trade", "missing"):
            columns[name] = [int(getattr(f, f"slice_{name}").sum()) for f in frames]
        columns["symbols"] = [self._new_symbols(f) for f in frames]
        return columns

    def _new_symbols(self, frame: Frame) -> list[str]:
        """Return the symbols in the first frame of a session that this process sees, else none."""
        key = (frame.run, frame.session)
        if not frame.symbols or self._told.get(frame.shard) == key:
            return []
        self._told[frame.shard] = key
        return list(frame.symbols)


VALUES = ("interval_ns", "ts_ns", "open", "high", "low", "close", "volume", "revision")
FRAME_FIELDS = (
    *("run", "shard", "frame", "event", "mode", "session", "open_ns", "close_ns", "clock_ns"),
    *("shards", "first_row", "rows", "incomplete", "reason"),
)
# Frames of trailing sessions have numbers below 0: they are no place on the tape.
_POSITIONS = """
SELECT shard, argMax(offset, frame), max(frame), argMax(run, frame) FROM frames
WHERE generation = {generation:UInt64} AND frame >= 0 GROUP BY shard
"""
_MINUTES = """
SELECT symbol, statuses, clock_ns FROM minutes FINAL
WHERE run = {run:String} AND session = {session:String}
"""
