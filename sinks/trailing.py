"""The sink of trailing sessions that were loaded: they are stored, and never win over the tape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.records import DerivedColumns, Frame, Longs
from sinks.clickhouse import FRAME_FIELDS, VALUES
from sinks.derived import VALUES as DERIVED_VALUES
from sinks.native import Column
from sinks.rows import Rows, Sessions, by_symbol
from sinks.store import Store
from sinks.topic import TopicSink
from sinks.vocabulary import Vocabulary
from streams.positions import Delivered

__all__ = ["STORED", "TrailingSink"]

STORED = ("store",)
"""Sources of a frame whose rows came out of the store."""


class TrailingSink(TopicSink):
    """Writes the bars of sessions before a run into ``bars`` and ``derived``, with version 0.

    What the tape delivered at any time wins over them. They are not in the tables of what was
    known, as nobody knew them on a session clock. Their sessions get rows in ``frames`` with event
    history and numbers below 0, which are no position on the tape. Frames whose rows came out of
    the store pass by.

    Parameters
    ----------
    store
        Where to; closed with the sink.
    topic
        Topic of trailing sessions.
    intervals
        Lengths of derived bars, ns, that a frame may hold beside each other.
    """

    def __init__(self, store: Store, topic: str, intervals: Sequence[int] = ()) -> None:
        super().__init__(store, topic)
        self._intervals = tuple(intervals)
        self._symbols = Vocabulary()
        self._sources = Vocabulary()

    def _insert(self, taken: Sequence[Delivered]) -> None:
        fresh = [d for d in taken if d.frame.rows and d.frame.sources != STORED]
        frames = [d.frame for d in fresh]
        sessions = Sessions()
        for frame in frames:
            sessions.learn(frame)
        bars = [(f, f.bars) for f in frames if f.bars is not None and len(f.bars)]
        if bars:
            self._insert_bars(Rows(bars, self._symbols), sessions)
        derived = [(f, f.derived) for f in frames if f.derived is not None and len(f.derived)]
        for interval_ns in sorted(self._intervals_of(derived)):
            mine = [(f, d.take(_is_of(f, d, interval_ns))) for f, d in derived]
            if mine := [(f, d) for f, d in mine if len(d)]:
                rows = Rows(mine, self._symbols)
                self._insert_derived(rows, sessions, interval_ns)
        if fresh:
            self._store.insert_rows("frames", _frame_rows(fresh))
        self._insert_position(taken)

    def _insert_bars(self, rows: Rows, sessions: Sessions) -> None:
        final: dict[str, Column] = {
            "symbol": rows.symbols,
            **rows.values(*VALUES),
            "source": rows.sources(self._sources),
            "session": rows.sessions(sessions),
            "version": np.zeros(len(rows), np.uint64),
        }
        self._store.insert_block("bars", by_symbol(rows, self._symbols, final))

    def _insert_derived(self, rows: Rows, sessions: Sessions, interval_ns: int) -> None:
        final: dict[str, Column] = {
            "symbol": rows.symbols,
            "interval_ns": np.full(len(rows), interval_ns, np.int64),
            "length_ns": rows.values("interval_ns")["interval_ns"],
            **rows.values(*DERIVED_VALUES),
            "session": rows.sessions(sessions),
            "version": np.zeros(len(rows), np.uint64),
        }
        self._store.insert_block("derived", by_symbol(rows, self._symbols, final))

    def _intervals_of(self, derived: Sequence[tuple[Frame, DerivedColumns]]) -> set[int]:
        """Return the intervals whose bars may be in frames."""
        found = set(self._intervals)
        for frame, bars in derived:
            is_open = bars.ts_ns + bars.interval_ns < frame.close_ns
            found |= set(np.unique(bars.interval_ns[is_open]).tolist())
        for frame, bars in derived:
            others = np.ones(len(bars), np.bool_)
            for interval_ns in found:
                others[_is_of(frame, bars, interval_ns)] = False
            found |= set(np.unique(bars.interval_ns[others]).tolist())
        return found


def _is_of(frame: Frame, bars: DerivedColumns, interval_ns: int) -> Longs:
    """Return the places of an interval's bars: those of its length, and the last, where it is cut.

    A bar that is the last of two intervals is the same bar in both: it holds the same minutes.
    """
    is_anchored = (bars.ts_ns - frame.open_ns) % interval_ns == 0
    is_cut = (bars.ts_ns + bars.interval_ns == frame.close_ns) & (bars.interval_ns < interval_ns)
    found: Longs = np.flatnonzero(is_anchored & ((bars.interval_ns == interval_ns) | is_cut))
    return found


def _frame_rows(taken: Sequence[Delivered]) -> dict[str, list[object]]:
    frames = [d.frame for d in taken]
    nothing: list[object] = [0] * len(frames)
    return {
        **{name: [getattr(f, name) for f in frames] for name in FRAME_FIELDS},
        "frame": [-1 - f.frame for f in frames],
        "event": ["history"] * len(frames),
        "offset": [d.offset for d in taken],
        "generation": nothing,
        "bars": [0 if f.bars is None else len(f.bars) for f in frames],
        **dict.fromkeys(("expected", "received", "no_trade", "missing"), nothing),
        "symbols": [list(f.symbols) for f in frames],
    }
