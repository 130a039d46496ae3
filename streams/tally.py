"""What a run has played, counted from the batches of its tape: sessions, rows, gaps, quality.

Pure but for the wall time, which is passed in. A gap is a run of expected minutes, one behind the
other in their session, that had no bar of their own accord and no source that vouched for them on
the tape; whatever became of it: filled, without trade, given up or still open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas.records import Minutes
from streams.calendar import Session
from streams.client.batch import Batch
from streams.coverage import GOOD, Grid, Runs, Status
from streams.intervals import MINUTE_NS
from streams.newcomers import with_symbols

__all__ = ["Gaps", "Incomplete", "Tally"]


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A session that was played without complete coverage, and why."""

    session: str
    reason: str


@dataclass(slots=True)
class Gaps:
    """Gaps of a run, over all symbols, and the minutes in them.

    Attributes
    ----------
    found
        All of them: runs of minutes.
    filled
        Those in which every minute is filled.
    no_trade
        Those that are answered to the end, and not by rows alone.
    given_up
        Those in which a minute is given up.
    missing_minutes, filled_minutes, no_trade_minutes
        Minutes in all of them; those that were filled; those a source says had no trade.
    """

    found: int = 0
    filled: int = 0
    no_trade: int = 0
    given_up: int = 0
    missing_minutes: int = 0
    filled_minutes: int = 0
    no_trade_minutes: int = 0

    @property
    def open(self) -> int:
        """Those that nobody has answered to the end, nor given up."""
        return self.found - self.filled - self.no_trade - self.given_up

    def fill_rate(self) -> float | None:
        """Return filled / (missing - no-trade) minutes, 0 to 1; None where that is nothing."""
        wanted = self.missing_minutes - self.no_trade_minutes
        return round(self.filled_minutes / wanted, 6) if wanted else None

    def add(self, grid: Grid, where: NDArray[np.bool_]) -> None:
        """Take the gaps of a session, which are the runs of a mask (symbols, minutes)."""
        runs = grid.runs(where)
        sizes = runs.stop - runs.first
        filled, no_trade, given_up = (
            _within(grid.status[:, : where.shape[1]] == status, runs)
            for status in (Status.FILLED, Status.NO_TRADE, Status.GIVEN_UP)
        )
        is_filled = filled == sizes
        self.found += len(sizes)
        self.filled += int(is_filled.sum())
        self.no_trade += int(((filled + no_trade == sizes) & ~is_filled).sum())
        self.given_up += int((given_up > 0).sum())
        self.missing_minutes += int(sizes.sum())
        self.filled_minutes += int(filled.sum())
        self.no_trade_minutes += int(no_trade.sum())


def _within(mask: NDArray[np.bool_], runs: Runs) -> NDArray[np.int64]:
    """Return at how many minutes of each run a mask (symbols, minutes) holds, shape (runs,)."""
    sums = np.zeros(mask.size + 1, np.int64)
    np.cumsum(mask.reshape(-1), out=sums[1:])
    base = runs.symbol * mask.shape[1]
    counts: NDArray[np.int64] = sums[base + runs.stop] - sums[base + runs.first]
    return counts


@dataclass
class _Playing:
    """Minutes of the session that plays.

    ``is_vouched`` says at which minutes the marks alone explain what is not there; that is for
    tapes that don't tell of minutes.
    """

    grid: Grid
    is_vouched: NDArray[np.bool_]
    said: list[Minutes] = field(default_factory=list)
    clock_ns: int = 0

    @classmethod
    def of(cls, session: Session, symbols: tuple[str, ...]) -> _Playing:
        grid = Grid(session, MINUTE_NS, symbols)
        return cls(grid, np.zeros(len(grid.ends), np.bool_))

    def take(self, batch: Batch) -> None:
        """Take in what came."""
        self.clock_ns = max(self.clock_ns, batch.clock_ns)
        if batch.symbols and batch.symbols != self.grid.symbols:
            self.grid = with_symbols(self.grid, batch.symbols, self.said)
        for minutes in batch.minutes:
            self.said.append(minutes)
            self.grid.apply(minutes)
        if not self.said and batch.slice_no_trade.any():
            quiet = batch.slice_ns[(batch.slice_no_trade > 0) & (batch.slice_missing == 0)]
            self.is_vouched |= np.isin(self.grid.ends, quiet)
        bars = batch.bars
        if bars is None or not len(bars):
            return
        symbol, ts_ns = bars.symbol, bars.ts_ns
        is_mine = bars.interval_ns == MINUTE_NS
        if not is_mine.all():
            symbol, ts_ns = symbol[is_mine], ts_ns[is_mine]
        self.grid.trade(symbol, ts_ns)

    def gaps(self) -> NDArray[np.bool_]:
        """Return the minutes behind the clock without a bar of their own accord."""
        expected = self.grid.expected(self.clock_ns)
        status = self.grid.status[:, :expected]
        own = (status == Status.TRADED) | (status == Status.HALTED)
        own |= (status == Status.PENDING) & self.is_vouched[None, :expected]
        gaps: NDArray[np.bool_] = ~own
        return gaps

    def bad(self, gaps: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return how many minutes of each symbol are in gaps, neither filled nor without trade."""
        status = self.grid.status[:, : gaps.shape[1]]
        counts: NDArray[np.int64] = (gaps & ~np.isin(status, GOOD)).sum(axis=1)
        return counts


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
        Gaps found on the tape, and what became of them.
    incomplete
        Sessions without complete coverage.
    transitions_s
        What the reader waited at each roll: from when it was done with the close, its digest too,
        until it had the next open.
    rolls, hits
        Rolls, and those at which the session to come was complete before this one closed.
    """

    sessions: Sequence[Session]
    closed: int = 0
    rows: dict[str, int] = field(default_factory=lambda: {"bars": 0, "quotes": 0, "ticks": 0})
    gaps: Gaps = field(default_factory=Gaps)
    incomplete: list[Incomplete] = field(default_factory=list)
    transitions_s: list[float] = field(default_factory=list)
    rolls: int = 0
    hits: int = 0
    _playing: _Playing | None = None
    _quality: dict[str, list[int]] = field(default_factory=dict)
    _closed_s: float | None = None

    def add(self, batch: Batch, wall_s: float) -> None:
        """Take the next batch, with which the reader was done at ``wall_s``."""
        if batch.event == "open":
            if self._closed_s is not None:
                self.transitions_s.append(wall_s - self._closed_s)
            self._closed_s = None
            self._open(batch)
        if batch.event == "roll":
            self.rolls += 1
            self.hits += batch.prefetched
        if batch.event in ("open", "rows", "close"):
            self._take(batch)
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
            name: round(100.0 * (expected - bad) / expected, 4)
            for name, (expected, bad) in sorted(self._quality.items())
            if expected
        }

    def prefetch_hit_rate(self) -> float | None:
        """Return hits / rolls, 0 to 1; None where there was no roll."""
        return round(self.hits / self.rolls, 6) if self.rolls else None

    def transition_ms(self) -> dict[str, float] | None:
        """Return p50, p99 and max of the transitions in ms; None where there was none."""
        if not self.transitions_s:
            return None
        ms = np.array(self.transitions_s) * 1000
        p50, p99 = np.percentile(ms, (50, 99))
        found = {"p50": p50, "p99": p99, "max": ms.max()}
        return {name: round(float(value), 3) for name, value in found.items()}

    def _take(self, batch: Batch) -> None:
        if self._playing is None or self._playing.grid.session.label != batch.session:
            self._open(batch)
        if self._playing is not None:
            self._playing.take(batch)
        for kind in self.rows:
            columns = getattr(batch, kind)
            self.rows[kind] += 0 if columns is None else len(columns)

    def _open(self, batch: Batch) -> None:
        for session in self.sessions:
            if session.label == batch.session:
                self._playing = _Playing.of(session, batch.symbols)

    def _count(self) -> None:
        playing, self._playing = self._playing, None
        if playing is None:
            return
        gaps = playing.gaps()
        self.gaps.add(playing.grid, gaps)
        expected = gaps.shape[1]
        bad = playing.bad(gaps).tolist()
        for name, count in zip(playing.grid.symbols, bad, strict=True):
            counts = self._quality.setdefault(name, [0, 0])
            counts[0] += expected
            counts[1] += count
