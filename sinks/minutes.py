"""The expected minutes of the sessions that the sink reads, and the steps of their gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Frame, Ints, Minutes
from sinks.native import Column, Letters, Texts
from sinks.rows import Sessions, version_of
from sinks.vocabulary import Vocabulary
from streams.calendar import Session
from streams.coverage import Grid, Status
from streams.finals import late_rows
from streams.letters import LETTERS

__all__ = ["MinuteBook", "gap_steps"]

_NOT_EXPECTED = "-"
_LETTERS = np.frombuffer("".join(LETTERS[status] for status in Status).encode(), np.uint8)
_COUNTED = {
    "traded": (Status.TRADED,),
    "filled": (Status.FILLED,),
    "no_trade": (Status.NO_TRADE, Status.HALTED),
    "missing": (Status.MISSING, Status.REQUESTED),
    "given_up": (Status.GIVEN_UP,),
}
_GOOD = ("traded", "filled", "no_trade")
_KEPT_EVENTS = ("open", "rows", "close")

Loader = Callable[[str, str], Mapping[str, tuple[str, int]]]
"""Gives, for a run and a session, what is stored: by symbol the letters and their clock."""


@dataclass(slots=True, eq=False)
class _Day:
    """One shard's part of a session as a run plays it.

    Attributes
    ----------
    grid
        Its minutes, those of breaks among them.
    is_expected
        Which of them are no break, shape (minutes,); known up to ``over``.
    over
        Number of minutes that are over.
    clock_ns, frame
        Session clock and number of the last frame that was folded.
    is_changed
        Whether a frame was folded since it was stored.
    """

    run: str
    shard: int
    grid: Grid
    is_expected: NDArray[np.bool_]
    over: int = 0
    clock_ns: int = 0
    frame: int = -1
    is_changed: bool = False


class MinuteBook:
    """Folds frames into the status of every expected minute, by run, session and symbol.

    It needs no look at the bars where a slice has all that was expected. What a session was before
    this process read it comes from the store; a session of which neither is there is left out.

    Parameters
    ----------
    load
        Gives what the store has of a session.
    """

    def __init__(self, load: Loader) -> None:
        self._load = load
        self._days: dict[tuple[int, str, str], _Day] = {}
        self._playing: dict[int, tuple[int, str, str]] = {}
        self._left: list[_Day] = []

    def take(self, frame: Frame, sessions: Sessions) -> None:
        """Fold a frame; ``sessions`` are those that corrections may belong to."""
        if frame.waiting or frame.event not in _KEPT_EVENTS or not frame.symbols:
            return
        day = self._day(frame)
        if day is not None:
            _fold(day, frame)
        if frame.bars is not None and frame.slice_corrections.any():
            self._correct_earlier(frame, frame.bars, sessions)

    def rows(self, generation: int) -> dict[str, Column]:
        """Return the rows of what changed since the last call; no columns where nothing did."""
        days = self._left + [day for day in self._days.values() if day.is_changed]
        self._left = []
        self._days = {key: self._days[key] for key in self._playing.values() if key in self._days}
        blocks = [_block(day, generation) for day in days]
        if not blocks:
            return {}
        for day in days:
            day.is_changed = False
        width = max(block.letters.shape[1] for block in blocks)
        pad = ord(_NOT_EXPECTED)
        letters = [
            np.pad(b.letters, ((0, 0), (0, width - b.letters.shape[1])), constant_values=pad)
            for b in blocks
        ]
        sizes = [len(block.letters) for block in blocks]
        return {
            "run": _per_day([d.run for d in days], sizes),
            "session": _per_day([d.grid.session.label for d in days], sizes),
            "symbol": _per_day([name for d in days for name in d.grid.symbols], [1] * sum(sizes)),
            **{
                name: np.concatenate([block.numbers[name] for block in blocks])
                for name in blocks[0].numbers
            },
            "statuses": Letters(np.concatenate(letters)),
        }

    def _day(self, frame: Frame) -> _Day | None:
        key = (frame.shard, frame.run, frame.session)
        self._playing[frame.shard] = key
        if frame.event == "open":
            self._days[key] = _new_day(frame, frame.session, frame.open_ns, frame.close_ns)
        elif key not in self._days:
            self._restore(frame, frame.session, frame.open_ns, frame.close_ns)
        day = self._days.get(key)
        if day is not None and day.grid.symbols != frame.symbols:
            # Those that left keep what they had: it is stored once more, and for the last time.
            self._left.append(day)
            renamed = _Day(day.run, day.shard, day.grid.renamed(frame.symbols), day.is_expected)
            renamed.over = day.over
            self._days[key] = day = renamed
        return day

    def _restore(self, frame: Frame, label: str, open_ns: int, close_ns: int) -> _Day | None:
        """Return a session as the store has it, None where it has none of it."""
        stored = self._load(frame.run, label)
        day = _new_day(frame, label, open_ns, close_ns)
        status_of = np.zeros(256, np.int8)
        status_of[_LETTERS] = np.arange(len(_LETTERS), dtype=np.int8)
        found = False
        for place, symbol in enumerate(frame.symbols):
            if symbol not in stored:
                continue
            text, clock_ns = stored[symbol]
            letters = np.frombuffer(text.encode(), np.uint8)[: len(day.grid.ends)]
            day.grid.status[place, : len(letters)] = status_of[letters]
            day.is_expected[: len(letters)] &= letters != ord(_NOT_EXPECTED)
            day.over = max(day.over, day.grid.expected(clock_ns))
            day.clock_ns = max(day.clock_ns, clock_ns)
            found = True
        if found:
            self._days[frame.shard, frame.run, label] = day
        return day if found else None

    def _correct_earlier(self, frame: Frame, bars: BarColumns, sessions: Sessions) -> None:
        """Let rows that belong to sessions before the frame's fill their minutes."""
        astray = bars.ts_ns < frame.open_ns
        if not astray.any():
            return
        for label, (open_ns, close_ns) in sessions.bounds.items():
            mine = astray & (bars.ts_ns >= open_ns) & (bars.ts_ns < close_ns)
            if not mine.any():
                continue
            key = (frame.shard, frame.run, label)
            day = self._days.get(key) or self._restore(frame, label, open_ns, close_ns)
            if day is None:
                continue
            place = {name: number for number, name in enumerate(day.grid.symbols)}
            rows = np.array([place.get(name, -1) for name in frame.symbols], np.int32)
            day.grid.trade(rows[bars.symbol[mine]], bars.ts_ns[mine])
            day.frame, day.is_changed = frame.frame, True


def _new_day(frame: Frame, label: str, open_ns: int, close_ns: int) -> _Day:
    grid = Grid(Session(label, open_ns, close_ns), frame.interval_ns, frame.symbols)
    return _Day(frame.run, frame.shard, grid, np.ones(len(grid.ends), np.bool_))


def _fold(day: _Day, frame: Frame) -> None:
    grid, start = day.grid, day.over
    stop = max(grid.expected(frame.clock_ns), start)
    is_marked = frame.slice_expected > 0
    is_whole = not (
        (frame.slice_received != frame.slice_expected).any()
        or frame.slice_corrections.any()
        or frame.slice_rows[~is_marked].any()  # a slice that goes on in the next frame
    )
    if frame.minutes is not None and frame.minutes.session == frame.session:
        grid.apply(frame.minutes)
    late: BarColumns | None = None
    if not is_whole and frame.bars is not None:
        base = frame.bars.take(frame.bars.interval_ns == frame.interval_ns)
        is_late = late_rows(frame, base.row)
        fresh = base if is_late is None else base.take(~is_late)
        late = None if is_late is None else base.take(is_late)
        grid.trade(fresh.symbol, fresh.ts_ns)
    told = np.isin(grid.ends[start:stop], frame.slice_ns[is_marked])
    if frame.expected < len(grid.ends) and frame.event == "rows":
        # The calendar's breaks are not on the wire: a minute of theirs has no mark.
        day.is_expected[start:stop] = told
    over = grid.status[:, start:stop]  # a view
    if is_whole and told.all():
        np.maximum(over, np.int8(Status.TRADED), out=over)  # pending is the least of all
    else:
        is_pending = over == Status.PENDING
        over[is_pending] = Status.MISSING
        if is_whole:
            over[is_pending & told] = Status.TRADED
    if late is not None:  # their slices may be of this frame, too
        grid.trade(late.symbol, late.ts_ns)
    day.over, day.clock_ns, day.frame = stop, max(day.clock_ns, frame.clock_ns), frame.frame
    day.is_changed = True


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    numbers: Mapping[str, NDArray[np.generic]]
    letters: NDArray[np.uint8]


def _block(day: _Day, generation: int) -> _Block:
    """Return a day's rows, one a symbol."""
    status, size = day.grid.status, len(day.grid.symbols)
    seen = status[:, : day.over]
    if not day.is_expected.all():
        seen = seen[:, day.is_expected[: day.over]]
    counts = {
        name: np.isin(seen, kinds).sum(axis=1) if len(kinds) > 1 else (seen == kinds[0]).sum(axis=1)
        for name, kinds in _COUNTED.items()
    }
    expected = seen.shape[1]
    good = sum(counts[name] for name in _GOOD)
    letters = _LETTERS[status]
    letters[:, ~day.is_expected] = ord(_NOT_EXPECTED)
    frame = np.full(size, max(day.frame, 0), np.int64)
    return _Block(
        {
            "shard": np.full(size, day.shard, np.int32),
            "clock_ns": np.full(size, day.clock_ns, np.int64),
            "expected": np.full(size, expected, np.int32),
            **{name: count.astype(np.int32) for name, count in counts.items()},
            "quality": 100.0 * good / expected if expected else np.full(size, 100.0),
            "version": version_of(generation, frame),
        },
        letters,
    )


def _per_day(texts: Sequence[str], sizes: Sequence[int]) -> Texts:
    vocabulary = Vocabulary()
    codes = np.array([vocabulary.code(text) for text in texts], np.int32)
    return Texts(vocabulary.texts, np.repeat(codes, sizes))


def gap_steps(frames: Sequence[Frame]) -> dict[str, Column]:
    """Return the rows of table ``gaps`` that frames tell; no columns where there are none."""
    told = [(f, f.minutes) for f in frames if f.minutes is not None and len(f.minutes)]
    if not told:
        return {}
    sizes = [len(minutes) for _, minutes in told]
    symbols, requests = Vocabulary(), Vocabulary()
    symbol = [symbols.codes(m.symbols)[m.symbol] for _, m in told]
    request = [_requests(m, requests) for _, m in told]

    def joined(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(minutes, name) for _, minutes in told])

    return {
        "run": _per_day([f.run for f, _ in told], sizes),
        "shard": np.repeat(np.array([f.shard for f, _ in told], np.int32), sizes),
        "frame": np.repeat(np.array([f.frame for f, _ in told], np.int64), sizes),
        "number": np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
        "event": _per_day([f.event for f, _ in told], sizes),
        "session": _per_day([m.session for _, m in told], sizes),
        "symbol": Texts(symbols.texts, np.concatenate(symbol)),
        "start_ns": joined("ts_ns"),
        "end_ns": joined("end_ns"),
        "status": Texts([s.label for s in Status], joined("status").astype(np.int32)),
        "attempt": joined("attempt"),
        "request": Texts(requests.texts, np.concatenate(request)),
        "loaded": np.repeat(np.array([m.loaded for _, m in told], np.bool_), sizes),
        "clock_ns": np.repeat(np.array([f.clock_ns for f, _ in told], np.int64), sizes),
    }


def _requests(minutes: Minutes, requests: Vocabulary) -> Ints:
    """Return the number of the request of each run; none is the empty text."""
    codes = requests.codes((*minutes.requests, ""))
    found: Ints = codes[np.where(minutes.request < 0, len(minutes.requests), minutes.request)]
    return found
