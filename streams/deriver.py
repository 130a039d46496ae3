"""The session topic in, the topics of derived bars out: pure.

The owner of a shard feeds it the frames of the session topic, asks `Deriver.release` for what is
due on each topic, and writes all of that in one transaction. Its position in the session topic
is in every frame: ``taken``, behind which everything is out as far as it could be, and ``keep``,
the open frame of the running session, from which a new owner folds anew what it must know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from schemas.records import Frame, RawPosition
from streams.derived import Part, minutes_of
from streams.derived_frames import Piece, pieces
from streams.derived_session import DerivedSession, Parts
from streams.errors import HoleError
from streams.frames import NO_SLICES
from streams.topics import room_of

__all__ = ["Deriver"]


@dataclass
class _Item:
    """What becomes a frame of each topic, or some: an event, or slices coalesced.

    Attributes
    ----------
    frame
        The session frame whose fields they carry.
    taken, keep
        Position in the session topic behind it.
    parts
        Bars by interval, of ``rows`` only.
    """

    frame: Frame
    taken: int
    keep: int
    parts: dict[str, list[Part]] = field(default_factory=dict)

    def add(self, parts: Parts) -> None:
        """Add bars behind those that are there."""
        for interval, part in parts:
            self.parts.setdefault(interval, []).append(part)


@dataclass
class _Track:
    """Where one topic of derived bars stands.

    Attributes
    ----------
    frame, row
        Numbers of the frame and the row that come next.
    clock_ns
        Session clock behind the last frame.
    open_offset
        Offset of the session's open frame on this topic; -1 for none.
    taken
        Offset of the session topic before which everything is out already.
    has_begun
        Whether it holds a run, or a session, from its start on.
    is_waiting
        Whether an open frame is out whose offset was not told yet.
    """

    frame: int = 0
    row: int = 0
    clock_ns: int = 0
    open_offset: int = -1
    taken: int = -1
    has_begun: bool = False
    is_waiting: bool = False


class Deriver:
    """Derives the longer bars of one shard.

    Parameters
    ----------
    shard, shards
        Its number, and how many there are.
    intervals
        Lengths of the bars, such as ``5m``: whole minutes, a topic each.
    topic
        The session topic.

    Raises
    ------
    ConfigError
        A length that is no whole number of minutes.
    """

    def __init__(self, shard: int, shards: int, intervals: Sequence[str], topic: str) -> None:
        self.shard, self.shards, self.topic = shard, shards, topic
        self._minutes = {interval: minutes_of(interval) for interval in intervals}
        self._tracks = {interval: _Track() for interval in intervals}
        self._session: DerivedSession | None = None
        self._over: DerivedSession | None = None
        """The session, or the one before: its memory is used again."""
        self._queue: list[_Item] = []
        self._rows: _Item | None = None
        """The last item, as long as slices may be added to it."""
        self._taken = 0
        self._open_offset = -1

    # After a crash.

    @staticmethod
    def first_offset(last: Mapping[str, Frame | None]) -> int | None:
        """Return the offset of the session topic to go on from, None where nothing says.

        Parameters
        ----------
        last
            Last committed frame of each topic by interval, None for an empty topic.
        """
        frames = [frame for frame in last.values() if frame is not None]
        return min((frame.positions[0].keep for frame in frames), default=None)

    def resume(self, last: Mapping[str, Frame | None]) -> None:
        """Stand where the last committed frames say; to be called before anything else.

        Then the frames of the session topic are to be fed from `first_offset` on: what is out
        already does not go out again.

        Parameters
        ----------
        last
            As for `first_offset`; an open frame with its own offset as ``open_offset``.
        """
        for interval, frame in last.items():
            if frame is not None and interval in self._tracks:
                self._tracks[interval] = _Track(
                    frame=frame.frame + 1,
                    row=frame.first_row + frame.rows,
                    clock_ns=frame.clock_ns,
                    open_offset=frame.open_offset,
                    taken=frame.positions[0].taken,
                    has_begun=True,
                )

    # What comes in.

    def take(self, frame: Frame, offset: int) -> None:
        """Take the next frame of the session topic, which stands at ``offset``.

        Raises
        ------
        HoleError
            Rows of a session whose open frame was not fed, though some of it is out.
        """
        if offset < self._taken:
            return
        if any(self._taken <= track.taken <= offset for track in self._tracks.values()):
            self._seal()  # what came up to here is out on some topic
        self._taken = offset + 1
        if frame.event in ("rows", "close"):
            self._fold(frame)
        if frame.event == "rows":
            return
        self._seal()
        if frame.event == "open":
            self._session = self._over = DerivedSession(frame, self._minutes, self._over)
            self._open_offset = offset
            self._put(_Item(frame, self._taken, offset))
            return
        last = self._session.last() if frame.event == "close" and self._session else []
        if last:
            self._add(frame, last)
            self._seal()
        self._session = None
        self._put(_Item(frame, self._taken, self._taken))

    def opened(self, interval: str, offset: int) -> None:
        """Take note of where the open frame of the last release stands on its topic."""
        track = self._tracks[interval]
        track.open_offset, track.is_waiting = offset, False

    # What is due.

    @property
    def is_due(self) -> bool:
        """Whether there is something to release."""
        return bool(self._queue)

    def release(self) -> dict[str, list[Frame]]:
        """Return what is to go out now, by interval; a topic without anything is left out.

        An open frame is the last of its release: what comes behind it carries its offset, which
        is to be told by `opened` first.
        """
        if any(track.is_waiting for track in self._tracks.values()):
            msg = "the offset of an open frame was not told"
            raise RuntimeError(msg)
        self._flush()
        events = [item.frame.event for item in self._queue]
        stop = events.index("open") + 1 if "open" in events else len(events)
        items, self._queue = self._queue[:stop], self._queue[stop:]
        if not self._queue:
            self._rows = None
        found = {name: list(self._frames(name, items)) for name in self._tracks}
        return {name: frames for name, frames in found.items() if frames}

    # The way of a frame.

    def _fold(self, frame: Frame) -> None:
        session = self._session
        if session is None or frame.session != session.label or frame.waiting:
            has_begun = any(track.has_begun for track in self._tracks.values())
            if session is None and has_begun and len(frame.slice_ns):
                raise HoleError(
                    "offset",
                    topic=self.topic,
                    partition=self.shard,
                    expected=frame.open_offset,
                    got=self._taken - 1,
                )
            return
        if frame.event == "rows" and frame.symbols != session.base.symbols:
            self._seal()
            session.rename(frame.symbols)
        clock_ns = session.clock_ns
        parts = session.fold(frame)
        if parts or session.clock_ns > clock_ns:
            self._add(frame, parts)

    def _add(self, frame: Frame, parts: Parts) -> None:
        """Add bars to the rows that are due, which carry the fields of ``frame`` from now on."""
        if frame.event == "close" and self._session is not None:
            frame = replace(frame, event="rows", symbols=self._session.base.symbols)
        if self._rows is None:
            self._rows = _Item(frame, self._taken, self._open_offset)
            self._put(self._rows)
        self._rows.frame, self._rows.taken = frame, self._taken
        self._rows.add(parts)

    def _flush(self) -> None:
        if self._rows is not None and self._session is not None:
            self._rows.add(self._session.due(self._session.clock_ns))

    def _seal(self) -> None:
        """Let no more slices be added to the rows that are due."""
        self._flush()
        self._rows = None

    def _put(self, item: _Item) -> None:
        if any(item.taken > track.taken for track in self._tracks.values()):
            self._queue.append(item)

    def _frames(self, interval: str, items: Sequence[_Item]) -> Iterator[Frame]:
        track = self._tracks[interval]
        for item in items:
            if item.taken <= track.taken:
                continue
            event = item.frame.event
            track.has_begun = track.has_begun or event in ("start", "open")
            if not track.has_begun:
                continue
            if event in ("start", "open"):
                track.open_offset = -1
            if event == "rows":
                yield from self._rows_frames(track, item, item.parts.get(interval, ()))
            else:
                yield self._frame(track, item, item.frame.clock_ns)
            track.is_waiting = event == "open"

    def _rows_frames(self, track: _Track, item: _Item, parts: Sequence[Part]) -> Iterator[Frame]:
        cut = list(pieces(parts, symbols_bytes=room_of(item.frame.symbols)))
        for piece in cut[:-1]:
            clock_ns = track.clock_ns if piece.clock_ns is None else piece.clock_ns
            yield self._frame(track, item, clock_ns, piece)
        yield self._frame(track, item, item.frame.clock_ns, cut[-1] if cut else None)

    def _frame(
        self, track: _Track, item: _Item, clock_ns: int, piece: Piece | None = None
    ) -> Frame:
        rows = 0 if piece is None else len(piece.derived)
        slices = NO_SLICES if piece is None else piece.slices
        frame = replace(
            item.frame,
            frame=track.frame,
            first_row=track.row,
            rows=rows,
            clock_ns=clock_ns,
            open_offset=track.open_offset,
            positions=(RawPosition(self.topic, self.shard, item.taken, item.keep),),
            sources=(),
            **slices,
            bars=None,
            quotes=None,
            ticks=None,
            minutes=None,
            derived=None if piece is None else piece.derived,
        )
        track.frame, track.row, track.clock_ns = track.frame + 1, track.row + rows, clock_ns
        return frame
