"""What of each shard has come and is not out yet, and the symbols that its frames list: pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from schemas import Frame
from schemas.records import Ints, Minutes
from streams.client.batch import PLACES, ROWS
from streams.client.pieces import Piece

__all__ = ["FAR", "Item", "Names", "Place", "Queue", "Stage", "Taken", "before"]

FAR = 2**63 - 1

Place: TypeAlias = tuple[int, int]
"""A ready time, and how often slices had come at it before."""


def before(place: Place) -> Place:
    """Return the last place before one."""
    ns, repeat = place
    return (ns, repeat - 1) if repeat else (ns - 1, FAR)


class Stage(NamedTuple):
    """Where on the tape something stands: ordered by run, session, place of the event."""

    run: int
    session: str
    place: int


@dataclass(slots=True)
class Item:
    """An event, or the slices of a frame that are not out yet, from ``at`` on.

    Attributes
    ----------
    before
        Clock of the shard before it, and how often slices had come at that.
    names
        Symbols of the frame: one object for all frames of the shard that list the same.
    minutes
        What the frame says of minutes of its own session.
    lists_others
        Whether its symbols are others than those of the frame before it.
    """

    stage: Stage
    frame: Frame
    offset: int
    before: Place
    names: tuple[str, ...] = ()
    minutes: Minutes | None = None
    repeat: Ints | None = None
    at: int = 0
    lists_others: bool = False

    @property
    def begins(self) -> Place:
        """Where its first slice stands, or its clock where it has none."""
        frame = self.frame
        if len(frame.slice_ns):
            return int(frame.slice_ns[0]), 0 if self.repeat is None else int(self.repeat[0])
        clock_ns, repeat = self.before
        return frame.clock_ns, repeat + 1 if clock_ns == frame.clock_ns else 0

    def end(self, until: Place) -> int:
        """Return how many of its slices stand at a place or before it."""
        ns, repeat = until
        slice_ns = self.frame.slice_ns
        end = int(np.searchsorted(slice_ns, ns, "right"))
        if self.repeat is not None:
            while end and slice_ns[end - 1] == ns and self.repeat[end - 1] > repeat:
                end -= 1
        return end


@dataclass(slots=True)
class Taken:
    """What a step takes out of the queues.

    Attributes
    ----------
    is_short
        Whether it ends before the clock of the slowest shard, and so has a clock of its own.
    last
        A frame that is wholly out with it.
    lists_others
        Whether other symbols are listed from its beginning on.
    """

    is_short: bool = False
    pieces: list[Piece] = field(default_factory=list)
    minutes: list[Minutes] = field(default_factory=list)
    last: Frame | None = None
    clock_ns: int = 0
    interval_ns: int = FAR
    lists_others: bool = False

    @property
    def some(self) -> Frame | None:
        """A frame of it, None where nothing moved."""
        return self.pieces[-1].frame if self.pieces else self.last


@dataclass
class Queue:
    """Items of one shard, in order.

    Attributes
    ----------
    stage
        Of the last that is out.
    clock_ns, repeat, next_offset
        Behind the last frame that came.
    listed, symbols
        Symbols of the last frame that came, and of the last that is out.
    changes
        How many of its items list others than the frame before them.
    """

    queue: deque[Item] = field(default_factory=deque)
    stage: Stage | None = None
    clock_ns: int = 0
    repeat: int = 0
    next_offset: int = 0
    listed: tuple[str, ...] | None = None
    symbols: tuple[str, ...] | None = None
    changes: int = 0

    @property
    def head(self) -> Stage | None:
        """Stage of what comes next; None if that can't be known yet."""
        if self.queue:
            return self.queue[0].stage
        if self.stage is not None and self.stage.place in (PLACES["open"], ROWS):
            return self.stage._replace(place=ROWS)
        return None

    def put(self, item: Item) -> None:
        """Take an item in, behind the others."""
        self.queue.append(item)
        if item.stage.place not in (PLACES["open"], ROWS):
            return
        if item.names == self.listed:
            item.names = self.listed
            return
        # In mid-session only: who begins there, or opens a session, has nothing to compare with.
        item.lists_others = self.listed is not None and item.stage.place == ROWS
        self.changes += item.lists_others
        self.listed = item.names

    def pop(self) -> Item:
        """Give the first item out."""
        item = self.queue.popleft()
        self.changes -= item.lists_others
        return item

    def change(self, stage: Stage) -> Place | None:
        """Return where the first item of a stage stands that lists other symbols."""
        places = (item.begins for item in self.queue if item.lists_others and item.stage == stage)
        return next(places, None)

    def accept(self, stage: Stage, place: Place) -> None:
        """Let items that list other symbols at a place be taken."""
        for item in self.queue:
            if item.lists_others and item.stage == stage and item.begins == place:
                item.lists_others = False
                self.changes -= 1

    def take(self, stage: Stage, until: Place, taken: Taken) -> None:
        """Put what stands at a place or before it into ``taken``."""
        while self.queue and self.queue[0].stage == stage:
            item = self.queue[0]
            frame = item.frame
            if item.lists_others:
                return
            if self.symbols is None:
                self.symbols = item.names
            end = item.end(until)
            if end > item.at:
                taken.pieces.append(Piece(frame, item.at, end, item.repeat, item.names))
                taken.clock_ns = max(taken.clock_ns, int(frame.slice_ns[end - 1]))
                taken.interval_ns = min(taken.interval_ns, frame.interval_ns)
                item.at, self.symbols = end, item.names
            if end < len(frame.slice_ns) or frame.clock_ns > until[0]:
                return
            self.queue.popleft()
            self.stage, self.symbols = stage, item.names
            taken.last = frame
            taken.clock_ns = max(taken.clock_ns, frame.clock_ns)
            taken.interval_ns = min(taken.interval_ns, frame.interval_ns)
            if item.minutes is not None:
                taken.minutes.append(item.minutes)


class Names:
    """Symbols of all shards, sorted, and where those of a frame stand in them."""

    def __init__(self) -> None:
        self.symbols: tuple[str, ...] = ()
        self._lists: list[tuple[str, ...]] = []
        self._maps: dict[tuple[str, ...], Ints] = {}

    def take(self, lists: list[tuple[str, ...]]) -> None:
        """Be those of some lists from now on."""
        if lists == self._lists:
            return
        self._lists = lists
        symbols = tuple(sorted({name for names in lists for name in names}))
        if symbols != self.symbols:
            # The object that the frames have, if there is one: it is compared often.
            self.symbols = next((names for names in lists if names == symbols), symbols)
            self._maps = {}

    def map_of(self, names: tuple[str, ...]) -> Ints | None:
        """Return the place of each of ``names`` among all; None if they are all, in that order."""
        if names == self.symbols:
            return None
        if names not in self._maps:
            place = {name: i for i, name in enumerate(self.symbols)}
            self._maps[names] = np.array([place[name] for name in names], np.int32)
        return self._maps[names]
