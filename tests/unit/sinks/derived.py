"""Frames of derived bars by hand, for tests of what stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from schemas import DerivedColumns, Frame
from streams.intervals import MINUTE_NS
from streams.positions import Delivered
from tests.unit.sinks.frames import DAY_NS, FIRST_OPEN_NS, Tape, label

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Longer:
    """One derived bar; what it was before is told by one number, NaN for nothing."""

    symbol: str
    day: int
    minute: int
    price: float
    length: int = 5
    volume: float = 10.0
    count: int = 5
    quality: float = 100.0
    revision: int = 0
    before: float = NAN

    @property
    def ts_ns(self) -> int:
        """Start of the bar."""
        return FIRST_OPEN_NS + self.day * DAY_NS + self.minute * MINUTE_NS

    @property
    def values(self) -> tuple[object, ...]:
        """Its columns in the order of the tables, from length_ns to revision."""
        p = self.price
        vwap = p + 0.125 if self.volume else NAN
        ohlc = (p, p + 0.5, p - 0.5, p + 0.25)
        return (
            *(self.length * MINUTE_NS, self.ts_ns, *ohlc, self.volume, vwap, self.count),
            *(self.quality, self.revision),
        )


NAMES = (
    *("interval_ns", "ts_ns", "open", "high", "low", "close", "volume"),
    *("vwap", "count", "quality", "revision"),
)


def columns_of(bars: Sequence[Longer], symbols: Sequence[str]) -> DerivedColumns:
    """Return bars as a frame has them."""
    kinds = {"interval_ns": np.int64, "ts_ns": np.int64, "count": np.int32, "revision": np.int32}
    found = zip(*(bar.values for bar in bars), strict=True)
    columns = {
        name: np.array(values, kinds.get(name, np.float64))
        for name, values in zip(NAMES, found, strict=True)
    }
    before = np.array([bar.before for bar in bars])
    return DerivedColumns(
        row=np.arange(len(bars), dtype=np.int32),
        symbol=np.array([symbols.index(bar.symbol) for bar in bars], np.int32),
        before_open=before,
        before_high=before + 1,
        before_low=before - 1,
        before_close=before + 2,
        before_volume=before + 3,
        **columns,
    )


def put(tape: Tape, day: int, bars: Sequence[Longer], known: int | None = None) -> Delivered:
    """Add a frame of derived bars that come out in one slice, at the ready time of the last."""
    start = tape.correction(day, 0, 1.0)  # a frame of that session, numbered on
    tape.frames.pop()
    ready = max(bar.ts_ns + bar.length * MINUTE_NS for bar in bars)
    frame = replace(
        start.frame,
        rows=len(bars),
        bars=None,
        derived=columns_of(bars, tape.symbols),
        slice_ns=np.array([ready if known is None else known], np.int64),
        slice_rows=np.array([len(bars)], np.int32),
        slice_corrections=np.array([sum(b.revision > 0 for b in bars)], np.int32),
    )
    tape._row = frame.first_row + len(bars)
    delivered = Delivered(frame, start.offset)
    tape.frames.append(delivered)
    return delivered


def as_known(tape: Sequence[Delivered]) -> list[tuple[object, ...]]:
    """Return each row as it stands in the frames: run, shard, number, clock, symbol, values."""
    found = []
    for item in tape:
        frame, bars = item.frame, item.frame.derived
        if bars is None:
            continue
        for at in range(len(bars)):
            values = [getattr(bars, name)[at].item() for name in NAMES]
            before = [getattr(bars, name)[at].item() for name in bars.columns[-5:]]
            head = (frame.run, frame.shard, frame.first_row + at, int(frame.slice_ns[0]))
            symbol = frame.symbols[bars.symbol[at]]
            session = label((int(bars.ts_ns[at]) - FIRST_OPEN_NS) // DAY_NS)
            found.append((*head, symbol, *values, *before, session))
    return found


def frame_of(item: Delivered, **changes: object) -> Delivered:
    """Return a frame with some fields changed."""
    return Delivered(replace(item.frame, **changes), item.offset)  # type: ignore[arg-type]


__all__ = ["NAMES", "Frame", "Longer", "as_known", "columns_of", "frame_of", "put"]
