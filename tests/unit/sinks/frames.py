"""Frames of a made-up tape, for tests of what reads the session topic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from schemas import BarColumns, Frame
from streams.intervals import MINUTE_NS
from streams.positions import Delivered

DAY_NS = 1440 * MINUTE_NS
FIRST_OPEN_NS = 1_381_152_600_000_000_000  # 2013-10-07 09:30 New York


def label(day: int) -> str:
    """Return the label of the session ``day`` days after the first."""
    return str(np.datetime64("2013-10-07") + np.timedelta64(day, "D"))


@dataclass(slots=True)
class Tape:
    """One shard's frames, numbered on from call to call like those of a real shard."""

    symbols: tuple[str, ...] = ("AAA", "BBB", "CCC")
    run: str = "run-1"
    shard: int = 0
    shards: int = 1
    minutes: int = 10
    frames_a_session: int = 2
    offset: int = 0
    frames: list[Delivered] = field(default_factory=list)
    _frame: int = 0
    _row: int = 0

    def start(self) -> Delivered:
        """Add the frame that begins the run."""
        return self._add(self._plain("start", 0, session="", open_ns=0, close_ns=0))

    def session(self, day: int, price: float = 100.0) -> list[Delivered]:
        """Add one whole session: open, rows, close."""
        parts = np.array_split(np.arange(self.minutes), self.frames_a_session)
        return [
            self._add(self._plain("open", day)),
            *(self._add(self._rows(day, part, price)) for part in parts),
            self._add(self._plain("close", day)),
        ]

    def roll(self, day: int) -> Delivered:
        """Add the step to the session of ``day``."""
        return self._add(self._plain("roll", day))

    def correction(self, day: int, minute: int, price: float, revision: int = 1) -> Delivered:
        """Add a frame that corrects one minute of the first symbol, while ``day`` + 0 plays."""
        return self.late(day, day, minute, price, revision)

    def late(
        self, playing: int, day: int, minute: int, price: float, revision: int = 1
    ) -> Delivered:
        """Add a frame of session ``playing`` that corrects a minute of session ``day``."""
        frame = self._rows(day, np.array([minute]), price, symbols=1, revision=revision)
        now = replace(frame, **_session_of(playing, self.minutes))  # type: ignore[arg-type]
        now = replace(now, slice_ns=np.array([now.close_ns]), slice_corrections=now.slice_rows)
        now = replace(now, clock_ns=now.close_ns)
        return self._add(now)

    def _add(self, frame: Frame) -> Delivered:
        placed = replace(frame, frame=self._frame, first_row=self._row)
        self._frame += 1
        self._row += frame.rows
        delivered = Delivered(placed, self.offset)
        self.offset += 1
        self.frames.append(delivered)
        return delivered

    def _plain(self, event: str, day: int, **changes: object) -> Frame:
        values: dict[str, object] = {
            **{"run": self.run, "shard": self.shard, "shards": self.shards, "frame": 0},
            **{"first_row": 0, "rows": 0, "event": event, "mode": "replay", "speed": 0.0},
            **{"command": 1, "open_offset": -1, "symbols": self.symbols, "sources": ("made",)},
            "expected": self.minutes,
            **_session_of(day, self.minutes),
            **changes,
        }
        values["clock_ns"] = values["close_ns" if event == "close" else "open_ns"]
        return Frame(**values)  # type: ignore[arg-type]

    def _rows(
        self,
        day: int,
        minutes: np.ndarray[tuple[int], np.dtype[np.int64]],
        price: float,
        symbols: int = 0,
        revision: int = 0,
    ) -> Frame:
        count = symbols or len(self.symbols)
        rows = len(minutes) * count
        frame = self._plain("rows", day)
        ts_ns = frame.open_ns + np.repeat(minutes.astype(np.int64), count) * MINUTE_NS
        symbol = np.tile(np.arange(count, dtype=np.int32), len(minutes))
        # Every column differs from every other in every row, so that one put for another shows.
        base = price + symbol + np.repeat(minutes, count) / 100 + day
        bars = BarColumns(
            row=np.arange(rows, dtype=np.int32),
            symbol=symbol,
            ts_ns=ts_ns,
            interval_ns=np.broadcast_to(np.int64(MINUTE_NS), rows),
            open=base,
            high=base + 0.5,
            low=base - 0.5,
            close=base + 0.25,
            volume=np.arange(rows, dtype=np.float64) + 0.125,
            source=np.zeros(rows, np.int32),
            revision=np.full(rows, revision, np.int32),
        )
        per_slice = np.full(len(minutes), count, np.int32)
        none = np.zeros(len(minutes), np.int32)
        return replace(
            frame,
            rows=rows,
            clock_ns=frame.open_ns + (int(minutes[-1]) + 1) * MINUTE_NS,
            slice_ns=frame.open_ns + (minutes.astype(np.int64) + 1) * MINUTE_NS,
            slice_rows=per_slice,
            slice_corrections=none,
            slice_expected=per_slice,
            slice_received=per_slice,
            slice_no_trade=none,
            slice_missing=none,
            bars=bars,
        )


def _session_of(day: int, minutes: int) -> dict[str, object]:
    open_ns = FIRST_OPEN_NS + day * DAY_NS
    return {"session": label(day), "open_ns": open_ns, "close_ns": open_ns + minutes * MINUTE_NS}


@dataclass(frozen=True, slots=True)
class BarRow:
    """One bar as the tests compare it."""

    symbol: str
    ts_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    revision: int
    session: str


def bars_of(frames: Sequence[Delivered]) -> Iterator[tuple[Frame, int, int, BarRow]]:
    """Yield frame, row number, known time and bar of every row, one by one, in plain Python."""
    for item in frames:
        frame, bars = item.frame, item.frame.bars
        if bars is None:
            continue
        known = [
            int(ns)
            for ns, n in zip(frame.slice_ns, frame.slice_rows, strict=True)
            for _ in range(n)
        ]
        for i, place in enumerate(bars.row):
            ts_ns = int(bars.ts_ns[i])
            yield (
                frame,
                frame.first_row + int(place),
                known[place],
                BarRow(
                    symbol=frame.symbols[bars.symbol[i]],
                    ts_ns=ts_ns,
                    open=float(bars.open[i]),
                    high=float(bars.high[i]),
                    low=float(bars.low[i]),
                    close=float(bars.close[i]),
                    volume=float(bars.volume[i]),
                    revision=int(bars.revision[i]),
                    session=label((ts_ns - FIRST_OPEN_NS) // DAY_NS),
                ),
            )


def final_of(frames: Sequence[Delivered]) -> list[BarRow]:
    """Return the final state: of each (symbol, ts_ns) the last one, in that order."""
    last = {(row.symbol, row.ts_ns): row for _, _, _, row in bars_of(frames)}
    return [last[key] for key in sorted(last)]
