"""The sink into ClickHouse: bars in their final state and as known, frames with their positions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Frame, Ints, Longs
from sinks.native import Column, Texts
from sinks.store import Store
from streams.errors import HoleError
from streams.positions import Delivered

__all__ = ["ClickHouseSink", "expire"]

log = logging.getLogger(__name__)

GENERATION_BITS = 44
"""Row numbers stay below 2^44, 17 million million; above them counts the generation."""


class ClickHouseSink:
    """Writes the bars of the tape; quotes and ticks pass by.

    Delivery guarantee: at least once on the wire. ``bars`` keeps, under FINAL, the last delivered
    of each (symbol, interval_ns, ts_ns), ``bars_as_known`` one of each (run, shard, row_number).
    The order of delivery is the row number in the shard, which goes on from run to run. When the
    topic is read anew from its start, because it was made anew or the group's offsets are gone, a
    generation begins, whose rows win over all before.

    Resume point: ``frames`` holds the offset of each frame and is inserted last, so that a frame
    in it is wholly in the store.

    Parameters
    ----------
    store
        Where to; closed with the sink.
    keep_sessions
        Sessions to keep when the tape rolls; 0 keeps all.
    """

    def __init__(self, store: Store, keep_sessions: int = 0) -> None:
        self._store = store
        self._keep_sessions = keep_sessions
        self._generation = 0
        self._known_frames: dict[int, tuple[int, str]] = {}
        self._buffer: list[Delivered] = []
        self._symbols = _Vocabulary()
        self._sources = _Vocabulary()
        self._sessions: dict[str, tuple[int, int]] = {}
        self._told: dict[int, tuple[str, str]] = {}

    def resume(
        self, committed: Mapping[int, int | None], starts: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Return the offset to read on from: behind the last stored frame, or the start."""
        stored = self._stored()
        self._sessions = {
            str(label): (int(open_ns), int(close_ns))
            for label, open_ns, close_ns in self._store.rows(_SESSIONS)
        }
        if not stored:
            return dict(starts)
        if None in committed.values():
            # A topic made anew has no committed offsets. Nor has one whose group was forgotten,
            # and then the check of the first frame tells whether something lies between.
            self._generation += 1
            self._known_frames = {s: (frame, run) for s, (_, frame, run) in stored.items()}
            log.info("reading the topic from its start, generation %d", self._generation)
            return dict(starts)
        return {
            shard: min(offset or 0, stored[shard][0] + 1) if shard in stored else starts[shard]
            for shard, offset in committed.items()
        }

    def write(self, delivered: Sequence[Delivered]) -> None:
        """Take frames; they are written by ``flush``."""
        for item in delivered:
            self._check_first(item.frame)
        self._buffer += delivered

    def flush(self) -> Mapping[int, int]:
        """Insert what was taken; return the offset behind it, by shard."""
        taken, self._buffer = self._buffer, []
        if not taken:
            return {}
        for item in taken:
            frame = item.frame
            if frame.session:
                self._sessions[frame.session] = (frame.open_ns, frame.close_ns)
        with_bars = [d.frame for d in taken if d.frame.bars is not None and len(d.frame.bars)]
        if with_bars:
            self._insert_bars(with_bars)
        self._store.insert_rows("frames", self._frame_rows(taken))
        if self._keep_sessions and any(d.frame.event == "roll" for d in taken):
            expire(self._store, self._keep_sessions)
        return {d.frame.shard: d.offset + 1 for d in taken}

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def _stored(self) -> dict[int, tuple[int, int, str]]:
        """Return offset, number and run of the last stored frame of every shard."""
        self._generation = int(self._store.rows("SELECT max(generation) FROM frames")[0][0])
        found = self._store.rows(_POSITIONS, {"generation": self._generation})
        return {int(s): (int(offset), int(frame), str(run)) for s, offset, frame, run in found}

    def _check_first(self, frame: Frame) -> None:
        """Raise where a topic read anew begins behind what is stored of the same run."""
        known = self._known_frames.pop(frame.shard, None)
        if known is None:
            return
        number, run = known
        if frame.run == run and frame.frame > number + 1:
            raise HoleError(
                "frame",
                topic="session",
                partition=frame.shard,
                expected=number + 1,
                got=frame.frame,
            )

    def _insert_bars(self, frames: Sequence[Frame]) -> None:
        bars = [frame.bars for frame in frames if frame.bars is not None]
        counts = [len(b) for b in bars]

        def joined(name: str) -> NDArray[np.generic]:
            return np.concatenate([getattr(b, name) for b in bars])

        def per_frame(values: Iterable[int], dtype: type[np.generic]) -> NDArray[np.generic]:
            return np.repeat(np.fromiter(values, dtype, len(counts)), counts)

        pairs = list(zip(frames, bars, strict=True))
        numbers = np.concatenate([f.first_row + b.row.astype(np.int64) for f, b in pairs])
        symbol = np.concatenate([self._symbols.codes(f.symbols)[b.symbol] for f, b in pairs])
        source = np.concatenate([self._sources.codes(f.sources)[b.source] for f, b in pairs])
        labels = _Vocabulary()
        session = np.concatenate([self._session_codes(f, b, labels) for f, b in pairs])
        runs = sorted({f.run for f in frames})
        values: dict[str, Column] = {
            "symbol": Texts(self._symbols.texts, symbol),
            **{name: joined(name) for name in _VALUES},
            "source": Texts(self._sources.texts, source),
            "session": Texts(labels.texts, session),
        }
        run = per_frame((runs.index(f.run) for f in frames), np.int32)
        as_known: dict[str, Column] = {
            "run": Texts(runs, run.astype(np.int32)),
            "shard": per_frame((f.shard for f in frames), np.int32),
            "row_number": numbers,
            "known_ns": np.concatenate([_known_ns(f, b) for f, b in pairs]),
            **values,
        }
        version = (np.uint64(self._generation << GENERATION_BITS)) + numbers.astype(np.uint64)
        # ClickHouse compares the symbols as texts when it sorts; here it is a radix sort.
        order = np.argsort(self._symbols.ranks()[symbol], kind="stable")
        final = {name: _taken(c, order) for name, c in (values | {"version": version}).items()}
        self._store.insert_block("bars", final)
        self._store.insert_block("bars_as_known", as_known)

    def _session_codes(self, frame: Frame, bars: BarColumns, labels: _Vocabulary) -> Ints:
        """Return, per bar, the code of its session: the frame's, save for corrections of earlier.

        A bar outside the frame's session belongs to the one that it lies in, if that is known.
        """
        found = np.full(len(bars), labels.code(frame.session), np.int32)
        ts_ns = bars.ts_ns
        if int(ts_ns.min()) >= frame.open_ns and int(ts_ns.max()) < frame.close_ns:
            return found
        astray = (ts_ns < frame.open_ns) | (ts_ns >= frame.close_ns)
        for label, (open_ns, close_ns) in self._sessions.items():
            inside = astray & (ts_ns >= open_ns) & (ts_ns < close_ns)
            if inside.any():
                found[inside] = labels.code(label)
        return found

    def _frame_rows(self, taken: Sequence[Delivered]) -> dict[str, list[object]]:
        frames = [d.frame for d in taken]
        columns: dict[str, list[object]] = {
            name: [getattr(f, name) for f in frames] for name in _FRAME_FIELDS
        }
        columns["offset"] = [d.offset for d in taken]
        columns["generation"] = [self._generation] * len(taken)
        columns["bars"] = [0 if f.bars is None else len(f.bars) for f in frames]
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


_VALUES = ("interval_ns", "ts_ns", "open", "high", "low", "close", "volume", "revision")
_FRAME_FIELDS = (
    *("run", "shard", "frame", "event", "mode", "session", "open_ns", "close_ns", "clock_ns"),
    *("shards", "first_row", "rows", "incomplete", "reason"),
)
_POSITIONS = """
SELECT shard, argMax(offset, frame), max(frame), argMax(run, frame) FROM frames
WHERE generation = {generation:UInt64} GROUP BY shard
"""
_SESSIONS = """
SELECT session, max(open_ns), max(close_ns) FROM frames WHERE session != '' GROUP BY session
"""


def expire(store: Store, sessions_to_keep: int) -> tuple[str, ...]:
    """Drop all but the last ``sessions_to_keep`` (>= 0) sessions; return their labels, sorted.

    The last ones are those that the tape delivered last, whatever their dates: a replay of 2013
    does not expire under its own feet because 2024 was replayed before.
    """
    newest = [str(label) for (label,) in store.rows(_NEWEST)]
    kept, dropped = newest[:sessions_to_keep], sorted(newest[sessions_to_keep:])
    if not dropped:
        return ()
    months = {label[:7] for label in dropped} - {label[:7] for label in kept}
    left = [label for label in dropped if label[:7] not in months]
    for table in ("bars", "bars_as_known", "frames"):
        for month in sorted(months):
            store.run(f"ALTER TABLE {table} DROP PARTITION {{month:String}}", {"month": month})
        if left:
            # Hidden at once, gone with the next merge, at the latest with the month.
            where = "session IN {labels:Array(String)}"
            store.run(f"DELETE FROM {table} WHERE {where}", {"labels": left})  # noqa: S608
    return tuple(dropped)


# Shard 0 has frames of every session, also of those in which it has no symbols.
_NEWEST = """
SELECT session FROM frames WHERE session != ''
GROUP BY session ORDER BY max((generation, if(shard = 0, frame, 0))) DESC
"""


def _known_ns(frame: Frame, bars: BarColumns) -> Longs:
    """Return, per bar, the session clock at which it was delivered."""
    per_row: Longs = np.repeat(frame.slice_ns, frame.slice_rows)
    return per_row if len(bars) == frame.rows else per_row[bars.row]


def _taken(column: Column, order: NDArray[np.intp]) -> Column:
    if isinstance(column, Texts):
        return Texts(column.values, column.index[order])
    return column[order]


class _Vocabulary:
    """Numbers different texts in the order in which they come."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._codes: dict[str, int] = {}
        self._by_tuple: dict[tuple[str, ...], Ints] = {}
        self._ranks: NDArray[np.uint16] | Ints = np.empty(0, np.uint16)

    def code(self, text: str) -> int:
        """Return the number of one text."""
        found = self._codes.setdefault(text, len(self.texts))
        if found == len(self.texts):
            self.texts.append(text)
        return found

    def codes(self, texts: tuple[str, ...]) -> Ints:
        """Return the numbers of texts; those of a tuple seen lately are at hand."""
        found = self._by_tuple.get(texts)
        if found is None:
            if len(self._by_tuple) >= 64:
                self._by_tuple.clear()
            found = np.fromiter((self.code(t) for t in texts), np.int32, len(texts))
            self._by_tuple[texts] = found
        return found

    def ranks(self) -> NDArray[np.uint16] | Ints:
        """Return the place of each text among all, sorted; 16 bits wide where that does."""
        if len(self._ranks) != len(self.texts):
            order = sorted(range(len(self.texts)), key=self.texts.__getitem__)
            ranks = np.empty(len(order), np.int32)
            ranks[order] = np.arange(len(order), dtype=np.int32)
            self._ranks = ranks.astype(np.uint16) if len(order) <= 1 << 16 else ranks
        return self._ranks
