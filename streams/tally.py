"""What a run has played, counted from the batches of its tape: sessions, rows, gaps, quality.

Pure but for the wall time, which is passed in. A gap is a run of expected minutes, one behind the
other in their session, without a bar and without a source that vouches that nothing was traded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns
from streams.calendar import Session
from streams.client.batch import Batch
from streams.intervals import MINUTE_NS

__all__ = ["Incomplete", "Tally"]


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A session that was played without complete coverage, and why."""

    session: str
    reason: str


@dataclass
class _Grid:
    """Expected minutes of the session that plays: which symbols have a bar in which."""

    session: Session
    symbols: tuple[str, ...]
    is_expected: NDArray[np.bool_]
    has_bar: NDArray[np.bool_]
    is_vouched: NDArray[np.bool_]
    clock_ns: int = 0

    @classmethod
    def of(cls, session: Session, symbols: tuple[str, ...]) -> _Grid:
        minutes = -(-(session.close_ns - session.open_ns) // MINUTE_NS)
        is_expected = np.zeros(minutes, bool)
        starts = session.starts(MINUTE_NS)
        starts = starts[starts + MINUTE_NS <= session.close_ns]
        is_expected[(starts - session.open_ns) // MINUTE_NS] = True
        has_bar = np.zeros((len(symbols), minutes), bool)
        return cls(session, symbols, is_expected, has_bar, np.zeros(minutes, bool))

    def take(self, batch: Batch, bars: BarColumns | None) -> None:
        """Mark what came."""
        self.clock_ns = max(self.clock_ns, batch.clock_ns)
        if batch.symbols != self.symbols:
            self._extend(batch.symbols)
        minutes = len(self.is_expected)
        quiet = (batch.slice_expected > 0) & (batch.slice_missing == 0)
        places = (batch.slice_ns[quiet] - self.session.open_ns) // MINUTE_NS - 1
        self.is_vouched[places[(places >= 0) & (places < minutes)]] = True
        if bars is None or not len(bars):
            return
        place = (bars.ts_ns - self.session.open_ns) // MINUTE_NS
        is_mine = (bars.interval_ns == MINUTE_NS) & (place >= 0) & (place < minutes)
        symbol = bars.symbol
        if not is_mine.all():
            place, symbol = place[is_mine], symbol[is_mine]
        self.has_bar.reshape(-1)[symbol * minutes + place] = True

    def missing(self) -> NDArray[np.bool_]:
        """Return the expected minutes behind the clock that are missing, (symbols, expected)."""
        ends = self.session.open_ns + MINUTE_NS * np.arange(1, len(self.is_expected) + 1)
        counted = self.is_expected & (ends <= self.clock_ns)
        missing: NDArray[np.bool_] = ~self.has_bar[:, counted] & ~self.is_vouched[counted]
        return missing

    def _extend(self, symbols: tuple[str, ...]) -> None:
        has_bar = np.zeros((len(symbols), len(self.is_expected)), bool)
        place = {name: number for number, name in enumerate(symbols)}
        for number, name in enumerate(self.symbols):
            if name in place:
                has_bar[place[name]] = self.has_bar[number]
        self.symbols, self.has_bar = symbols, has_bar


@dataclass
class Tally:
    """Counts of one run.

    Attributes
    ----------
    sessions
        The sessions that the run is to play.
    closed
        How many have been closed.
    rows
        Rows by kind.
    gaps
        Gaps found on the tape, over all symbols.
    incomplete
        Sessions without complete coverage.
    transitions_s
        Wall time from each session's close to the next one's open.
    """

    sessions: Sequence[Session]
    closed: int = 0
    rows: dict[str, int] = field(default_factory=lambda: {"bars": 0, "quotes": 0, "ticks": 0})
    gaps: int = 0
    incomplete: list[Incomplete] = field(default_factory=list)
    transitions_s: list[float] = field(default_factory=list)
    _grid: _Grid | None = None
    _quality: dict[str, list[int]] = field(default_factory=dict)
    _closed_s: float | None = None

    def add(self, batch: Batch, wall_s: float) -> None:
        """Take the next batch, which was applied at ``wall_s``."""
        if batch.event == "open":
            if self._closed_s is not None:
                self.transitions_s.append(wall_s - self._closed_s)
            self._closed_s = None
            self._open(batch)
        if batch.event in ("open", "rows", "close"):
            if self._grid is None or self._grid.session.label != batch.session:
                self._open(batch)
            if self._grid is not None:
                self._grid.take(batch, batch.bars)
            for kind in self.rows:
                columns = getattr(batch, kind)
                self.rows[kind] += 0 if columns is None else len(columns)
        if batch.event == "close":
            self.closed += 1
            self._closed_s = wall_s
            if batch.incomplete:
                self.incomplete.append(Incomplete(batch.session, batch.reason))
        if batch.event in ("close", "end"):
            self._count()

    def quality(self) -> dict[str, float]:
        """Return (bars + no-trade minutes) / expected minutes by symbol, in %."""
        return {
            name: round(100.0 * (expected - missing) / expected, 4)
            for name, (expected, missing) in sorted(self._quality.items())
            if expected
        }

    def transition_ms(self) -> dict[str, float] | None:
        """Return p50, p99 and max of the transitions in ms; None where there was none."""
        if not self.transitions_s:
            return None
        ms = np.array(self.transitions_s) * 1000
        p50, p99 = np.percentile(ms, (50, 99))
        found = {"p50": p50, "p99": p99, "max": ms.max()}
        return {name: round(float(value), 3) for name, value in found.items()}

    def _open(self, batch: Batch) -> None:
        for session in self.sessions:
            if session.label == batch.session:
                self._grid = _Grid.of(session, batch.symbols)

    def _count(self) -> None:
        grid, self._grid = self._grid, None
        if grid is None:
            return
        missing = grid.missing()
        begins = missing.copy()
        begins[:, 1:] &= ~missing[:, :-1]
        self.gaps += int(begins.sum())
        expected = missing.shape[1]
        for name, count in zip(grid.symbols, missing.sum(axis=1).tolist(), strict=True):
            counts = self._quality.setdefault(name, [0, 0])
            counts[0] += expected
            counts[1] += count
