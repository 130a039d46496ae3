"""What a feed that plays something back gives in one session, in its order: pure.

A script is the same at any speed: how it is cut into blocks depends on the clock, what stands in
it, and in which order, does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarBlock, Longs
from streams.calendar import Session
from streams.coverage import expected_ends
from streams.feeds.protocol import Event, Heard
from streams.sources.protocol import Block
from streams.sources.rehearsal import Window

__all__ = ["Cue", "Script", "Window", "ready_ns"]

Mask = NDArray[np.bool_]


def ready_ns(block: Block) -> Longs:
    """Return when each row could first be known."""
    if isinstance(block, BarBlock):
        ready: Longs = block.ts_ns + block.interval_ns
        return ready
    return block.ts_ns


@dataclass(frozen=True, slots=True, eq=False)
class Cue:
    """The rows of one stream, in the order in which they are given.

    Attributes
    ----------
    rows
        The rows.
    due_ns
        Tape time at which each is given, ascending, not before it is ready; shape (rows,).
    is_held
        Whether the feed vouches for nothing of the symbol while the row is ready and not given.
    """

    rows: Block
    due_ns: Longs
    is_held: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """One session.

    Attributes
    ----------
    session
        The session.
    interval_ns
        Length of its bars.
    symbols
        Symbols that are played.
    cues
        By stream; one without rows is left out.
    streams
        Streams that are played.
    away
        When there is no connection, ascending, apart from each other.
    dead
        By symbol, when nothing is heard of it.
    """

    session: Session
    interval_ns: int
    symbols: tuple[str, ...]
    streams: tuple[str, ...]
    cues: Mapping[str, Cue]
    away: tuple[Window, ...] = ()
    dead: Mapping[str, tuple[Window, ...]] = field(default_factory=dict)

    def next_ns(self, after_ns: int) -> int:
        """Return when there is something to do next: rows, or the end of a bar; at last the close.

        Parameters
        ----------
        after_ns
            Tape time up to which everything was given.
        """
        ends = expected_ends(self.session, self.interval_ns)
        times = [self.session.close_ns, *_next(ends, after_ns)]
        for cue in self.cues.values():
            times += _next(cue.due_ns, after_ns)
        return min(times)

    def between(self, after_ns: int, until_ns: int) -> Iterator[Event]:
        """Give what is due in (after_ns, until_ns], rows before what vouches for them."""
        for cue in self.cues.values():
            low, high = np.searchsorted(cue.due_ns, (after_ns, until_ns), "right").tolist()
            if low < high:
                yield cue.rows.take(slice(low, high))
        # What is ready at the ends of a silence is heard.
        silent = {
            name
            for name, some in self.dead.items()
            if any(low < until_ns < high for low, high in some)
        }
        heard = tuple(name for name in self.symbols if name not in silent)
        by_names: dict[tuple[str, ...], list[str]] = {}
        for stream in self.streams:
            held = self._held(stream, until_ns)
            names = tuple(name for name in heard if name not in held) if held else heard
            by_names.setdefault(names, []).append(stream)
        for names, streams in by_names.items():
            if names:
                yield Heard(tuple(streams), names, until_ns)

    def _held(self, stream: str, at_ns: int) -> set[str]:
        """Return the symbols of which rows are ready and held."""
        cue = self.cues.get(stream)
        if cue is None or not cue.is_held.any():
            return set()
        late = cue.is_held & (cue.due_ns > at_ns) & (ready_ns(cue.rows) <= at_ns)
        return {cue.rows.symbols[n] for n in np.unique(cue.rows.symbol[late]).tolist()}


def _next(times: Longs, after_ns: int) -> list[int]:
    """Return the first time after one, if there is any."""
    at = int(np.searchsorted(times, after_ns, "right"))
    return [int(ns) for ns in times[at : at + 1]]
