"""Frames of all shards merged into one globally ordered tape: pure, whole columns at a time.

A slice is out when every shard has reached its ready time in the same run and session; an event
(open, close, roll, …) when every shard has said it. With one shard frames go through as they are.
Topics of derived bars are shards like the others.
"""

from __future__ import annotations

import numpy as np

from schemas import Frame
from schemas.records import Ints
from streams.client.batch import PLACES, ROWS, Batch, Position
from streams.client.pieces import Piece, merged
from streams.client.queues import FAR, Item, Names, Place, Queue, Stage, Taken, before
from streams.client.reader import clock_behind

__all__ = ["Merger"]


class Merger:
    """Takes the frames of each shard in order, gives batches of the merged tape.

    Parameters
    ----------
    shards
        Number of shards, over all topics.
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
        self._shards = [Queue() for _ in range(shards)]
        self._runs: dict[str, int] = {}
        self._run = run
        self._align = align
        self._names = Names()
        self._interval_ns = FAR
        self._out = Position({})
        self._skip = position if position is not None and position.place >= 0 else None
        self._begun: dict[int, Frame] = {}
        self._reached: tuple[Stage | None, int] = (None, 0)
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
        if self._run and frame.run != self._run:
            # Of a run behind ours, nothing is passed: who goes on with that begins there.
            if frame.command <= self._runs.get(self._run, FAR):
                shard.next_offset = offset + 1
            return
        shard.next_offset = offset + 1
        if _is_of_others(frame):
            return
        skip = self._skip
        if skip is not None and skip.begun is not None and frame.shard in skip.begun:
            self._begun.setdefault(frame.shard, frame)
        run = self._runs.setdefault(frame.run, frame.command)
        place = PLACES[frame.event]
        session = "\U0010ffff" if frame.event == "end" else frame.session
        before = (shard.clock_ns, shard.repeat)
        has_slices = len(frame.slice_ns) > 0
        minutes = frame.minutes
        if minutes is not None and minutes.session != frame.session:
            minutes = None
        if place not in (ROWS, PLACES["close"]) or not has_slices:
            stage = Stage(run, session, place)
            shard.put(Item(stage, frame, offset, before, frame.symbols, minutes))
            shard.clock_ns, shard.repeat = clock_behind(frame), 0
        if has_slices:
            rows = Stage(run, session, ROWS)
            repeat = self._repeat(shard, frame)
            own = minutes if place == ROWS else None
            shard.put(Item(rows, frame, offset, before, frame.symbols, own, repeat))
            if place == PLACES["close"]:
                stage = Stage(run, session, place)
                shard.put(Item(stage, frame, offset, before, minutes=minutes))
        if place == ROWS and not has_slices and before[0] == frame.clock_ns:
            shard.repeat = before[1]

    def _repeat(self, shard: Queue, frame: Frame) -> Ints | None:
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

    def taken(self) -> dict[int, int]:
        """Return of every shard the offset behind the frames that are wholly out."""
        return {
            number: shard.queue[0].offset if shard.queue else shard.next_offset
            for number, shard in enumerate(self._shards)
        }

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

    def _aligned(self, heads: list[Stage]) -> bool:
        """Drop what stands before the furthest shard's session; tell whether all stand there."""
        furthest = max(heads)
        for shard in self._shards:
            while shard.queue and shard.queue[0].stage < furthest:
                shard.stage = shard.pop().stage
        self._align = any(
            not shard.queue or shard.queue[0].stage != furthest for shard in self._shards
        )
        return not self._align

    def _event(self, stage: Stage, found: list[Batch]) -> None:
        items = [
            shard.pop() for shard in self._shards if shard.queue and shard.queue[0].stage == stage
        ]
        frames = [item.frame for item in items]
        for frame in frames:
            self._shards[frame.shard].stage = stage
        if stage.place == PLACES["open"]:
            for item in items:
                self._shards[item.frame.shard].symbols = item.names
            self._names.take([item.names for item in items])
            self._interval_ns = min(frame.interval_ns for frame in frames)
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
                prefetched=all(frame.prefetched for frame in frames),
                reason="; ".join(sorted({frame.reason for frame in frames if frame.reason})),
                expected=max(frame.expected for frame in frames),
                symbols=self._names.symbols,
                sources=tuple(sorted({name for frame in frames for name in frame.sources})),
                interval_ns=min(self._interval_ns, first.interval_ns),
                minutes=tuple(item.minutes for item in items if item.minutes is not None),
                catching_up=any(frame.catching_up for frame in frames),
            )
        )

    def _limit(self, stage: Stage) -> tuple[int, int]:
        """Return up to where slices are out, and the clock that says so."""
        if len(self._shards) == 1:  # one frame a batch, as it came, unless it ends in mid-slice
            for item in self._shards[0].queue:
                clock_ns, slice_ns = item.frame.clock_ns, item.frame.slice_ns
                if item.stage == stage and (not len(slice_ns) or slice_ns[-1] <= clock_ns):
                    return clock_ns, clock_ns
        limit, last = FAR, 0
        for shard in self._shards:
            if shard.queue and shard.queue[-1].stage > stage:
                clocks = [item.frame.clock_ns for item in shard.queue if item.stage == stage]
                last = max([last, *clocks])
            else:
                limit = min(limit, shard.clock_ns)
        return limit, limit if limit < FAR else last

    def _rows(self, stage: Stage, found: list[Batch]) -> bool:
        limit, clock_ns = self._limit(stage)
        taken = self._take(stage, (limit, FAR))
        some = taken.some
        if some is None:
            return False
        if taken.is_short:
            clock_ns = taken.clock_ns
        pieces = taken.pieces
        if self._skip is not None:
            found_again = [self._kept(piece, self._skip) for piece in pieces]
            pieces = [piece for piece in found_again if piece is not None]
        lists = [shard.symbols for shard in self._shards if shard.symbols is not None]
        own = (piece for piece in pieces if not any(piece.names is names for names in lists))
        self._names.take([*lists, *(piece.names for piece in own)])
        was_out = self._was_out(some, stage.place, clock_ns, 0)
        last = max((piece.key(piece.end - 1) for piece in pieces), default=(0, 0))
        self._move(some, stage.place, *max(last, (clock_ns, 0)))
        is_new = pieces or taken.minutes or taken.lists_others
        if is_new or not (was_out or (stage, clock_ns) == self._reached):
            found.append(self._batch(some, pieces, clock_ns, taken))
        self._reached = (stage, clock_ns)
        return True

    def _take(self, stage: Stage, until: Place) -> Taken:
        """Take what is out at or before a place, up to where a shard lists other symbols.

        What stands before that goes out first; then what lists them is the first of its batch.
        """
        change = self._change(stage, until)
        if change is None:
            return self._taken(stage, until)
        taken = self._taken(stage, before(change), is_short=True)
        if taken.some is not None:
            return taken
        for shard in self._shards:
            shard.accept(stage, change)
        after = self._change(stage, until)
        if after is None:
            taken = self._taken(stage, until)
        else:
            taken = self._taken(stage, before(after), is_short=True)
        taken.lists_others = True
        return taken

    def _change(self, stage: Stage, until: Place) -> Place | None:
        """Return where the first shard lists other symbols, None if none does until then."""
        places = [shard.change(stage) for shard in self._shards if shard.changes]
        return min((at for at in places if at is not None and at <= until), default=None)

    def _taken(self, stage: Stage, until: Place, *, is_short: bool = False) -> Taken:
        taken = Taken(is_short=is_short)
        for shard in self._shards:
            shard.take(stage, until, taken)
        if taken.some is not None:
            self._interval_ns = min(self._interval_ns, taken.interval_ns)
        return taken

    def _batch(self, some: Frame, pieces: list[Piece], clock_ns: int, taken: Taken) -> Batch:
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
            interval_ns=self._interval_ns,
            minutes=tuple(taken.minutes),
            catching_up=any(one.catching_up for one in (some, *(p.frame for p in pieces))),
            **merged(pieces, [self._names.map_of(piece.names) for piece in pieces]),
        )

    def _kept(self, piece: Piece, skip: Position) -> Piece | None:
        """Return what of a piece is beyond the position the reader started from."""
        frame = piece.frame
        if (frame.run, frame.session) != (skip.run, skip.session):
            return piece
        # What had not come then is not out, even if it stands at a slice that others had given.
        if skip.begun is not None and self._begun.get(frame.shard) is not frame:
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
            begun=tuple(n for n, item in enumerate(items) if item is not None and item.at > 0),
        )


def _is_of_others(frame: Frame) -> bool:
    """Tell whether a frame says nothing of the session that plays: of one to come, at most."""
    if frame.waiting:
        return True
    minutes = frame.minutes
    is_bare = frame.event == "rows" and not len(frame.slice_ns)
    return is_bare and minutes is not None and minutes.session != frame.session
