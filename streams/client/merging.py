"""Frames of all shards merged into one globally ordered tape: pure, whole columns at a time.

A slice is out when every shard has reached its ready time in the same run and session; an event
(open, close, roll, …) when every shard has said it. With one shard frames go through as they are.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from schemas import Frame
from schemas.records import Ints
from streams.client.batch import PLACES, ROWS, Batch, Position
from streams.client.pieces import Piece, merged

__all__ = ["Merger"]

_FAR = 2**63 - 1


class _Stage(NamedTuple):
    """Where on the tape something stands: ordered by run, session, place of the event."""

    run: int
    session: str
    place: int


@dataclass(slots=True)
class _Item:
    """An event, or the slices of a frame that are not out yet, from ``at`` on."""

    stage: _Stage
    frame: Frame
    offset: int
    before: tuple[int, int]
    repeat: Ints | None = None
    at: int = 0


@dataclass
class _Shard:
    queue: deque[_Item] = field(default_factory=deque)
    stage: _Stage | None = None
    clock_ns: int = 0
    repeat: int = 0
    next_offset: int = 0

    @property
    def head(self) -> _Stage | None:
        """Stage of what comes next; None if that can't be known yet."""
        if self.queue:
            return self.queue[0].stage
        if self.stage is not None and self.stage.place in (PLACES["open"], ROWS):
            return self.stage._replace(place=ROWS)
        return None


class _Names:
    """Symbols of all shards in one session, sorted, and where those of a frame stand in them."""

    def __init__(self) -> None:
        self.symbols: tuple[str, ...] = ()
        self._maps: dict[tuple[str, ...], Ints] = {}

    def add(self, names: tuple[str, ...]) -> None:
        """Take the symbols of a frame in."""
        if names in self._maps:
            return
        lists = [*self._maps, names]
        self.symbols = tuple(sorted({name for known in lists for name in known}))
        place = {name: i for i, name in enumerate(self.symbols)}
        self._maps = {known: np.array([place[name] for name in known], np.int32) for known in lists}

    def map_of(self, names: tuple[str, ...]) -> Ints | None:
        """Return the place of each of ``names`` among all; None if they are all, in that order."""
        return None if names == self.symbols else self._maps[names]


class Merger:
    """Takes the frames of each shard in order, gives batches of the merged tape.

    Parameters
    ----------
    shards
        Number of shards of the session topic.
    position
        Where to go on: what is behind it is left out. Empty for a fresh start.
    align
        Leave out what shards say before they all stand in one session, as a reader that joins
        from each shard's last ``open`` needs it.
    run
        Leave out every other run.
    """

    def __init__(
        self, shards: int, position: Position | None = None, *, align: bool = False, run: str = ""
    ) -> None:
        self._shards = [_Shard() for _ in range(shards)]
        self._runs: dict[str, int] = {}
        self._run = run
        self._align = align
        self._names = _Names()
        self._out = Position({})
        self._skip = position if position is not None and position.place >= 0 else None
        self._reached: tuple[_Stage | None, int] = (None, 0)
        if position is not None:
            self._resume(position)

    def _resume(self, position: Position) -> None:
        for number, offset in position.items():
            shard = self._shards[number]
            shard.next_offset = offset
            shard.clock_ns, shard.repeat = position.clocks.get(number, (0, 0))
        self._out = position

    def add(self, frame: Frame, offset: int) -> None:
        """Take the next frame of its shard, which stands at ``offset``."""
        shard = self._shards[frame.shard]
        shard.next_offset = offset + 1
        if self._run and frame.run != self._run:
            return
        run = self._runs.setdefault(frame.run, frame.command)
        place = PLACES[frame.event]
        session = "\U0010ffff" if frame.event == "end" else frame.session
        before = (shard.clock_ns, shard.repeat)
        has_slices = len(frame.slice_ns) > 0
        if place not in (ROWS, PLACES["close"]) or not has_slices:
            shard.queue.append(_Item(_Stage(run, session, place), frame, offset, before))
            shard.clock_ns, shard.repeat = frame.clock_ns, 0
        if has_slices:
            rows = _Stage(run, session, ROWS)
            repeat = self._repeat(shard, frame)
            shard.queue.append(_Item(rows, frame, offset, before, repeat))
            if place == PLACES["close"]:
                shard.queue.append(_Item(_Stage(run, session, place), frame, offset, before))
        if place == ROWS and not has_slices and before[0] == frame.clock_ns:
            shard.repeat = before[1]

    def _repeat(self, shard: _Shard, frame: Frame) -> Ints | None:
        """Return how often each slice came before at the shard's clock; None for never."""
        clock_ns = shard.clock_ns
        shard.clock_ns = max(frame.clock_ns, clock_ns)
        if int(frame.slice_ns[0]) > clock_ns:
            shard.repeat = 0
            return None
        times = shard.repeat + 1
        shard.repeat = times if shard.clock_ns == clock_ns else 0
        return np.where(frame.slice_ns <= clock_ns, times, 0).astype(np.int32)

    def drain(self) -> list[Batch]:
        """Return what is out by now, in order."""
        found: list[Batch] = []
        while self._step(found):
            pass
        return found

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self._shards)

    def _step(self, found: list[Batch]) -> bool:
        """Put what comes next into ``found``, if it is out; tell whether anything moved."""
        heads = [shard.head for shard in self._shards]
        known = [head for head in heads if head is not None]
        if len(known) < len(heads) or (self._align and not self._aligned(known)):
            return False
        stage = min(shard.head or known[0] for shard in self._shards)
        if stage.place == ROWS:
            return self._rows(stage, found)
        self._event(stage, found)
        return True

    def _aligned(self, heads: list[_Stage]) -> bool:
        """Drop what stands before the furthest shard's session; tell whether all stand there."""
        furthest = max(heads)
        for shard in self._shards:
            while shard.queue and shard.queue[0].stage < furthest:
                shard.stage = shard.queue.popleft().stage
        self._align = any(
            not shard.queue or shard.queue[0].stage != furthest for shard in self._shards
        )
        return not self._align

    def _event(self, stage: _Stage, found: list[Batch]) -> None:
        items = [
            shard.queue.popleft()
            for shard in self._shards
            if shard.queue and shard.queue[0].stage == stage
        ]
        frames = [item.frame for item in items]
        for frame in frames:
            self._shards[frame.shard].stage = stage
        if stage.place == PLACES["open"]:
            self._names = _Names()
            for frame in frames:
                self._names.add(frame.symbols)
        first = frames[0]
        was_out = self._was_out(first, stage.place, 0, 0)
        self._move(first, stage.place, 0, 0)
        if was_out:
            return
        found.append(
            Batch(
                run=first.run,
                event=first.event,
                mode=first.mode,
                session=first.session,
                open_ns=first.open_ns,
                close_ns=first.close_ns,
                clock_ns=min(frame.clock_ns for frame in frames),
                position=self._out,
                incomplete=any(frame.incomplete for frame in frames),
                reason="; ".join(sorted({frame.reason for frame in frames if frame.reason})),
                expected=max(frame.expected for frame in frames),
                symbols=self._names.symbols,
                sources=tuple(sorted({name for frame in frames for name in frame.sources})),
            )
        )

    def _limit(self, stage: _Stage) -> tuple[int, int]:
        """Return up to where slices are out, and the clock that says so."""
        if len(self._shards) == 1:  # one frame a batch, as it came, unless it ends in mid-slice
            for item in self._shards[0].queue:
                clock_ns, slice_ns = item.frame.clock_ns, item.frame.slice_ns
                if item.stage == stage and (not len(slice_ns) or slice_ns[-1] <= clock_ns):
                    return clock_ns, clock_ns
        limit, last = _FAR, 0
        for shard in self._shards:
            if shard.queue and shard.queue[-1].stage > stage:
                clocks = [item.frame.clock_ns for item in shard.queue if item.stage == stage]
                last = max([last, *clocks])
            else:
                limit = min(limit, shard.clock_ns)
        return limit, limit if limit < _FAR else last

    def _rows(self, stage: _Stage, found: list[Batch]) -> bool:
        limit, clock_ns = self._limit(stage)
        pieces: list[Piece] = []
        done: Frame | None = None
        for shard in self._shards:
            while shard.queue and shard.queue[0].stage == stage:
                item = shard.queue[0]
                frame = item.frame
                self._names.add(frame.symbols)
                end = int(np.searchsorted(frame.slice_ns, limit, "right"))
                if end > item.at:
                    pieces.append(Piece(frame, item.at, end, item.repeat))
                    item.at = end
                if end < len(frame.slice_ns) or frame.clock_ns > limit:
                    break
                shard.queue.popleft()
                shard.stage = stage
                done = frame
        some = pieces[-1].frame if pieces else done
        if some is None:
            return False
        if self._skip is not None:
            found_again = [self._kept(piece, self._skip) for piece in pieces]
            pieces = [piece for piece in found_again if piece is not None]
        was_out = self._was_out(some, stage.place, clock_ns, 0)
        last = max((piece.key(piece.end - 1) for piece in pieces), default=(0, 0))
        self._move(some, stage.place, *max(last, (clock_ns, 0)))
        if pieces or not (was_out or (stage, clock_ns) == self._reached):
            found.append(self._batch(some, pieces, clock_ns))
        self._reached = (stage, clock_ns)
        return True

    def _batch(self, some: Frame, pieces: list[Piece], clock_ns: int) -> Batch:
        return Batch(
            run=some.run,
            event="rows",
            mode=some.mode,
            session=some.session,
            open_ns=some.open_ns,
            close_ns=some.close_ns,
            clock_ns=clock_ns,
            position=self._out,
            incomplete=some.incomplete,
            reason=some.reason,
            expected=some.expected,
            symbols=self._names.symbols,
            **merged(pieces, [self._names.map_of(piece.frame.symbols) for piece in pieces]),
        )

    @staticmethod
    def _kept(piece: Piece, skip: Position) -> Piece | None:
        """Return what of a piece is beyond the position the reader started from."""
        frame = piece.frame
        if (frame.run, frame.session) != (skip.run, skip.session):
            return piece
        at = int(np.searchsorted(frame.slice_ns, skip.slice_ns, "left"))
        start = max(piece.start, at)
        while start < piece.end and piece.key(start) <= (skip.slice_ns, skip.repeat):
            start += 1
        return piece._replace(start=start) if start < piece.end else None

    def _was_out(self, frame: Frame, place: int, slice_ns: int, repeat: int) -> bool:
        skip = self._skip
        if skip is None or (frame.run, frame.session) != (skip.run, skip.session):
            return False
        return (place, slice_ns, repeat) <= (skip.place, skip.slice_ns, skip.repeat)

    def _move(self, frame: Frame, place: int, slice_ns: int, repeat: int) -> None:
        """Take down where a reader would go on behind what is out now."""
        items = [shard.queue[0] if shard.queue else None for shard in self._shards]
        both = list(zip(items, self._shards, strict=True))
        offsets = [item.offset if item else shard.next_offset for item, shard in both]
        clocks = [item.before if item else (shard.clock_ns, shard.repeat) for item, shard in both]
        if self._was_out(frame, place, slice_ns, repeat) and self._skip is not None:
            place, slice_ns, repeat = self._skip.place, self._skip.slice_ns, self._skip.repeat
        self._out = Position(
            dict(enumerate(offsets)),
            dict(enumerate(clocks)),
            *(frame.run, frame.session, place, slice_ns, repeat),
        )
