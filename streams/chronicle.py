"""What the frames of a run say of the minutes of its sessions: folded, pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from schemas.records import BarColumns, Frame, Minutes
from streams.calendar import Session
from streams.coverage import Grid, Status
from streams.letters import LETTERS, SymbolQuality, quality_of
from streams.newcomers import with_symbols
from streams.story import Gap, Part, gaps_of

__all__ = ["Chronicle"]

_LETTERS = np.array([LETTERS[status] for status in Status])


@dataclass(slots=True)
class _Day:
    """What is known of one session, by shard."""

    session: Session
    grids: dict[int, Grid] = field(default_factory=dict)
    clocks: dict[int, int] = field(default_factory=dict)
    said: list[tuple[Minutes, int]] = field(default_factory=list)
    sources: dict[tuple[str, int], str] = field(default_factory=dict)

    def grid(self, frame: Frame) -> Grid:
        """Return the grid of a frame's shard, over the symbols that it has by now."""
        grid = self.grids.get(frame.shard)
        if grid is None:
            grid = Grid(self.session, frame.interval_ns, frame.symbols)
        elif frame.event in ("open", "rows") and frame.symbols != grid.symbols:
            grid = with_symbols(grid, frame.symbols, (minutes for minutes, _ in self.said))
        self.grids[frame.shard] = grid
        return grid

    def tell(self, frame: Frame, minutes: Minutes) -> None:
        """Take what is said of minutes."""
        self.grid(frame).apply(minutes)
        self.said.append((minutes, frame.clock_ns))

    def play(self, frame: Frame) -> None:
        """Take bars and clock."""
        grid = self.grid(frame)
        self.clocks[frame.shard] = frame.clock_ns
        if frame.bars is None:
            return
        bars = frame.bars.take(frame.bars.interval_ns == frame.interval_ns)
        grid.trade(bars.symbol, bars.ts_ns)
        if self.said:
            self._note_sources(grid, bars, frame.sources)

    def _note_sources(self, grid: Grid, bars: BarColumns, names: Sequence[str]) -> None:
        is_fill = grid.has(bars.symbol, bars.ts_ns, grid.is_(Status.FILLED))
        fills = bars.take(np.flatnonzero(is_fill))
        rows = zip(fills.symbol.tolist(), fills.ts_ns.tolist(), fills.source.tolist(), strict=True)
        for symbol, ts_ns, source in rows:
            self.sources[grid.symbols[symbol], ts_ns] = names[source]

    def minutes(self, shard: int) -> Iterator[tuple[str, str]]:
        """Give each symbol of a shard with the letters of its minutes."""
        grid = self.grids[shard]
        over = grid.expected(self.clocks.get(shard, 0))
        status = grid.status.copy()
        status[:, over:] = Status.PENDING
        status[:, :over][status[:, :over] == Status.PENDING] = Status.MISSING
        for symbol, letters in zip(grid.symbols, _LETTERS[status], strict=True):
            yield symbol, "".join(letters.tolist())

    def parts(self, shard: int) -> Iterator[Part]:
        """Give minutes of a shard without a bar that nobody spoke of: there is no upkeep."""
        grid = self.grids[shard]
        clock_ns = self.clocks.get(shard, 0)
        lacking = grid.is_(Status.PENDING)
        lacking[:, grid.expected(clock_ns) :] = False
        yield from _parts(grid.minutes(lacking), clock_ns, Status.MISSING)


def _parts(minutes: Minutes, clock_ns: int, status: Status | None = None) -> Iterator[Part]:
    names, ids = minutes.symbols, (*minutes.requests, "")
    columns = (minutes.symbol, minutes.ts_ns, minutes.end_ns, minutes.status, minutes.attempt)
    rows = zip(*(column.tolist() for column in (*columns, minutes.request)), strict=True)
    for symbol, start_ns, end_ns, number, attempt, request in rows:
        known = Status(number) if status is None else status
        yield Part(names[symbol], start_ns, end_ns, known, attempt, ids[request], clock_ns)


class Chronicle:
    """What the frames of a run say of the minutes of its sessions.

    Parameters
    ----------
    run
        The run; frames of others are left out.
    sessions
        Its sessions by label: one that is not among them is told of from its open on, and has no
        breaks.
    only
        Label of the session that is wanted; empty for the last that was opened.
    """

    def __init__(self, run: str, sessions: Mapping[str, Session], only: str = "") -> None:
        self.run = run
        self._sessions = sessions
        self._only = only
        self._days: dict[str, _Day] = {}
        self._early: dict[str, list[tuple[Frame, Minutes]]] = {}
        self._opened = ""
        self._ended: set[int] = set()

    def fold(self, frame: Frame) -> bool:
        """Take the next frame of its shard; tell whether anything changed."""
        if frame.run != self.run:
            return False
        if frame.event == "end":
            self._ended.add(frame.shard)
            return True
        is_playing = frame.event in ("open", "rows", "close") and not frame.waiting
        if frame.event == "open" and frame.session > self._opened:
            self._opened = frame.session
            self._forget(frame.session)
        day = self._day(frame.session, frame) if is_playing else None
        has_told = frame.minutes is not None and self._tell(frame, frame.minutes)
        if day is not None:
            day.play(frame)
        return day is not None or has_told

    def _tell(self, frame: Frame, minutes: Minutes) -> bool:
        day = self._day(minutes.session, frame)
        if day is not None:
            day.tell(frame, minutes)
        elif minutes.session > self._opened:
            self._early.setdefault(minutes.session, []).append((frame, minutes))
        return day is not None

    def _day(self, label: str, frame: Frame) -> _Day | None:
        if label < self._opened or (self._only and label != self._only):
            return self._days.get(label)
        if label not in self._days:
            session = self._sessions.get(label)
            if session is None and label == frame.session:
                session = Session(label, frame.open_ns, frame.close_ns)
            if session is None:
                return None
            day = self._days[label] = _Day(session)
            for early, minutes in self._early.pop(label, []):
                day.tell(early, minutes)
        return self._days[label]

    def _forget(self, label: str) -> None:
        """Let go of what is known of sessions before one, but for the one that is wanted."""
        gone = [old for old in (*self._days, *self._early) if old < label and old != self._only]
        for old in gone:
            self._days.pop(old, None)
            self._early.pop(old, None)

    @property
    def session(self) -> str:
        """Label of the session that is told of: the one wanted, or the last that was opened.

        Before the first is opened it is the one that comes; empty where there is none.
        """
        label = self._only or self._opened or min(self._days, default="")
        return label if label in self._days else ""

    def is_over(self, shards: int) -> bool:
        """Tell whether all shards have ended the run."""
        return len(self._ended) == shards

    @property
    def clock_ns(self) -> int:
        """Session clock: that of the slowest shard; 0 before the open."""
        day = self._days.get(self.session)
        return min(day.clocks.values(), default=0) if day is not None else 0

    def qualities(self) -> list[SymbolQuality]:
        """Return the quality of every symbol of the session, by name."""
        day = self._days.get(self.session)
        found = chain.from_iterable(day.minutes(shard) for shard in day.grids) if day else ()
        return [quality_of(symbol, minutes) for symbol, minutes in sorted(found)]

    def gaps(self) -> list[Gap]:
        """Return the gaps of the session, by symbol and time."""
        day = self._days.get(self.session)
        if day is None:
            return []
        said = (_parts(minutes, clock_ns) for minutes, clock_ns in day.said)
        lacking = (day.parts(shard) for shard in sorted(day.grids))
        here = {symbol for grid in day.grids.values() for symbol in grid.symbols}
        parts = (part for part in chain.from_iterable(chain(said, lacking)) if part.symbol in here)
        return gaps_of(day.session, parts, day.sources)
