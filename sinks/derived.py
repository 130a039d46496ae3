"""The sink of derived bars: final state and as known, by the interval of their topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sinks.native import Column
from sinks.rows import Rows, Sessions, by_symbol, version_of
from sinks.store import Store
from sinks.topic import TopicSink
from sinks.vocabulary import Vocabulary
from streams.positions import Delivered

__all__ = ["VALUES", "DerivedSink"]

VALUES = (
    *("ts_ns", "open", "high", "low", "close", "volume"),
    *("vwap", "count", "quality", "revision"),
)
_BEFORE = ("before_open", "before_high", "before_low", "before_close", "before_volume")


class DerivedSink(TopicSink):
    """Writes the bars of one derived interval.

    ``derived`` keeps, under FINAL, the last delivered of each (symbol, interval_ns, ts_ns),
    ``derived_as_known`` one of each (run, interval_ns, shard, row_number).

    Parameters
    ----------
    store
        Where to; closed with the sink.
    topic
        Topic of the interval.
    interval_ns
        Length of its bars, of which the last of a session may be cut.
    """

    def __init__(self, store: Store, topic: str, interval_ns: int) -> None:
        super().__init__(store, topic)
        self._interval_ns = interval_ns
        self._symbols = Vocabulary()
        self._sessions = Sessions()

    def resume(
        self, committed: Mapping[int, int | None], starts: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Return the offset to read on from: behind the last stored frame, or the start."""
        self._sessions.load(self._store)
        return super().resume(committed, starts)

    def _insert(self, taken: Sequence[Delivered]) -> None:
        for item in taken:
            self._sessions.learn(item.frame)
        pairs = [(d.frame, d.frame.derived) for d in taken if d.frame.derived is not None]
        pairs = [(frame, bars) for frame, bars in pairs if len(bars)]
        if pairs:
            self._insert_bars(Rows(pairs, self._symbols))
        self._insert_position(taken)

    def _insert_bars(self, rows: Rows) -> None:
        length = rows.values("interval_ns")["interval_ns"]
        values: dict[str, Column] = {
            "symbol": rows.symbols,
            "interval_ns": np.full(len(rows), self._interval_ns, np.int64),
            "length_ns": length,
            **rows.values(*VALUES),
            "session": rows.sessions(self._sessions),
        }
        final = values | {"version": version_of(self._generation, rows.numbers())}
        self._store.insert_block("derived", by_symbol(rows, self._symbols, final))
        as_known = rows.delivery() | values | rows.values(*_BEFORE)
        self._store.insert_block("derived_as_known", as_known)
