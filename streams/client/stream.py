"""SessionStream: subscribe to the tape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, Literal, Self, TypeAlias

from streams.client.batch import Batch, Position, Slice
from streams.client.choice import Choice
from streams.client.corrected import Corrected
from streams.client.data import SessionData
from streams.client.joining import Join, joined
from streams.client.line import Line
from streams.client.merging import Merger
from streams.client.reader import DeliveredFrame, Reader, Start, first_position
from streams.client.readers import opened
from streams.client.rows import rows_of
from streams.errors import BrokerError, ConfigError, HoleError
from streams.settings import Settings

__all__ = ["SessionStream", "Until", "View"]

Until: TypeAlias = Literal["end", "never", "idle"]
"""When iteration is over: see `SessionStream`."""

View: TypeAlias = Literal["as_known", "as_final"]
"""What corrections do: see `SessionStream`."""

POLL_S = 0.2
_FAR = 2**63 - 1


class SessionStream:
    """The tape of a namespace, all shards merged in one order, each row exactly once.

    Iterate `frames`, `slices` or `rows` (or ``aframes``, ``aslices``, ``arows`` under asyncio);
    the stream itself iterates slices. With slices and rows ``data`` moves slice by slice, so it
    never knows more than the slice at hand; with frames it stands behind the whole batch.

    Parameters
    ----------
    namespace
        Default: that of the settings.
    symbols
        ``"*"`` for all, a glob such as ``"BTC*"``, or a list of names.
    kinds
        Of ``bars``, ``quotes`` and ``ticks``.
    intervals
        Lengths of the bars, such as ``("1m", "5m")``; 1m are those of the tape, the others are
        derived from them by the upkeep. Without 1m slices keep their marks and have derived bars
        only. Default: the bars of the tape.
    start
        ``"session"``: the open of the running session, with the sessions of its run that the tape
        keeps before it in ``data``, as many as that keeps (unless it has a history of its own);
        those from before the run come in from the history topic when it is read from its start;
        ``"first"``: the first frame that is still kept; ``"now"``: only what comes; a time in ns:
        the first slice at or behind it; a position of an earlier stream, or an offset a shard.
    run
        Only this run.
    until
        ``"end"``: iteration is over at the end of the run; ``"never"``; ``"idle"``: over when it
        has given out what was there at the start.
    data
        The replica it feeds; default its own.
    settings, bootstrap_servers
        Default: the settings of the process.
    view
        ``"as_known"``: the tape as it was delivered, corrections behind the clock and marked, as a
        live strategy sees it. ``"as_final"``: what is on the tape when the stream is made comes in
        its final state, each row once, at its own ready time: closed sessions with all their later
        corrections, the running one with those up to its clock. That is for looking back, not for
        decisions. From there on the tape comes as known. The past comes a session a batch, and is
        one step of ``position``; who goes on in the middle of a session gets its rest as known.
    group
        Group for `commit`; none by default.
    lockstep
        Commit for the group behind each slice, when the next is asked for: a run that names the
        group in its lock-step waits for that.
    reader, history_reader
        Where frames, and sessions from before the run, come from; default the brokers.

    Raises
    ------
    ConfigError
        A kind, length, start, end or view that is none; lock-step with a view that can't have it;
        no broker is known.
    TopicError
        The namespace has no tape, or no bars of one of the lengths.
    """

    def __init__(
        self,
        namespace: str | None = None,
        *,
        symbols: str | Sequence[str] = "*",
        kinds: Sequence[str] = ("bars",),
        intervals: str | Sequence[str | int] | None = None,
        start: Start = "session",
        run: str | None = None,
        until: Until = "end",
        view: View = "as_known",
        data: SessionData | None = None,
        settings: Settings | None = None,
        bootstrap_servers: str | None = None,
        group: str = "",
        lockstep: bool = False,
        reader: Reader | None = None,
        history_reader: Reader | None = None,
    ) -> None:
        if until not in ("end", "never", "idle"):
            msg = f"a stream goes on until end, never or idle, not {until!r}"
            raise ConfigError(msg)
        if lockstep and not group:
            msg = "lock-step needs a group: the run names it, and the clock waits for it"
            raise ConfigError(msg)
        if view not in ("as_known", "as_final") or (lockstep and view == "as_final"):
            msg = f"a view is as_known, or as_final without lock-step, not {view!r}"
            raise ConfigError(msg)
        self.data = SessionData() if data is None else data
        self._acks: dict[int, int] | None = {} if lockstep else None
        self._owed: dict[int, int] = {}
        self._choice = Choice(symbols, kinds, intervals)
        self.data.takes_bars(self._choice.has_bars)
        self._until = until
        self._ready = Line(start if isinstance(start, int) else 0)
        self._past: list[Batch] = []
        self._silent = 0
        self._lock = Lock()
        self._is_closed = False
        self._whole_run = ""
        self._reader, self._trailing = opened(
            given=(reader, history_reader),
            choice=self._choice,
            sessions_wanted=self.data.sessions_wanted,
            group=group,
            settings=settings,
            changes={"namespace": namespace, "bootstrap_servers": bootstrap_servers},
        )
        try:
            last = self._reader.last()
            self._join = self._joined(last, run) if start == "session" else None
            running = None if self._join is None else Position(self._join.running)
            if running is None:
                running = first_position(start, self._reader, last)
            self.position = self._before = running
            """Where to go on behind what was given out: store it with your own results."""
            self._ends = {
                shard: delivered.offset
                for shard, delivered in last.items()
                if delivered is not None and delivered.offset >= self.position[shard]
            }
            self._is_aligned = start in ("session", "now")
            self._run = run or ""
            first = self.position if self._join is None else Position(self._join.first)
            self._merger = self._read_from(first)
            is_past = view == "as_final" and bool(self._target)
            self._view = Corrected.behind(start) if is_past else None
            self._is_from_first = start == "first" or isinstance(start, int)
            """Whether it begins where the tape begins, and nothing of it is in line yet."""
            if self._trailing is not None and not (self._whole_run or self._is_from_first):
                self._trailing.dont_wait()
        except BaseException:
            self._close()
            raise
        self.data.caught_up = not self._target
        self._is_over = until == "idle" and self.data.caught_up

    def frames(self, timeout_s: float | None = None) -> Iterator[Batch]:
        """Give batches in order; over after ``timeout_s`` without one (None: it waits for ever)."""
        return self._walk(timeout_s, by_slice=False)

    def aframes(self, timeout_s: float | None = None) -> AsyncIterator[Batch]:
        """Give batches in order as `frames` does; the event loop goes on while it waits."""
        return self._awalk(timeout_s, by_slice=False)

    def slices(self, timeout_s: float | None = None) -> Iterator[Slice]:
        """Give slices in order, each when it is complete."""
        for part in self._walk(timeout_s, by_slice=True):
            yield from part.slices()

    async def aslices(self, timeout_s: float | None = None) -> AsyncIterator[Slice]:
        """Give slices in order as `slices` does."""
        async for part in self._awalk(timeout_s, by_slice=True):
            for found in part.slices():
                yield found

    def rows(self, timeout_s: float | None = None) -> Iterator[Any]:
        """Give `BarRow`, `QuoteRow` and `TickRow` one by one, in the order of the tape.

        The rows of a slice are one step of ``position``: with the last of them it moves behind it.
        """
        for part in self._walk(timeout_s, by_slice=True):
            yield from self._row_by_row(part)

    async def arows(self, timeout_s: float | None = None) -> AsyncIterator[Any]:
        """Give bars, quotes and ticks one by one as `rows` does."""
        async for part in self._awalk(timeout_s, by_slice=True):
            for row in self._row_by_row(part):
                yield row

    def __iter__(self) -> Iterator[Slice]:
        """Give slices in order."""
        return self.slices()

    def __aiter__(self) -> AsyncIterator[Slice]:
        """Give slices in order."""
        return self.aslices()

    def commit(self) -> None:
        """Commit the offsets of ``position`` for the group, synchronously.

        Offsets alone tell whole frames: with more than one shard store ``position`` itself.

        Raises
        ------
        BrokerError
            The broker did not take them.
        """
        with self._lock:
            self._reader.commit(self.position.offsets)

    def close(self) -> None:
        """Stop reading; an iteration under way ends. A second call does nothing."""
        self._is_over = True
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._close()

    def __enter__(self) -> Self:
        """Return the stream."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return the stream."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await asyncio.to_thread(self.close)

    def _close(self) -> None:
        self._reader.close()
        if self._trailing is not None:
            self._trailing.close()

    def _joined(self, last: Mapping[int, DeliveredFrame | None], run: str | None) -> Join | None:
        join = joined(self._reader, last, self.data.sessions_wanted)
        return join if join is None or run in (None, join.run) else None

    def _read_from(self, position: Position) -> Merger:
        self._reader.assign(position.offsets)
        self._target = dict(self._ends)
        join = self._join
        if join is not None:
            lacks = len(join.opens) <= self.data.sessions_wanted
            self._whole_run = join.run if join.from_start and lacks else ""
        return Merger(len(position), position, align=self._is_aligned, run=self._run)

    def _walk(self, timeout_s: float | None, *, by_slice: bool) -> Iterator[Batch]:
        waited = 0.0
        while not self._is_over:
            self._hand_on_past()
            if self._acknowledge() and self._ready:
                waited = 0.0
                if (batch := self._next(by_slice=by_slice)) is not None:
                    yield batch
                continue
            step = POLL_S if timeout_s is None else min(POLL_S, timeout_s - waited)
            if not self._fill(step):
                waited += step
                if timeout_s is not None and waited >= timeout_s:
                    return

    async def _awalk(self, timeout_s: float | None, *, by_slice: bool) -> AsyncIterator[Batch]:
        waited = 0.0
        while not self._is_over:
            self._hand_on_past()
            is_due = self._acks is None or await asyncio.to_thread(self._acknowledge)
            if is_due and self._ready:
                waited = 0.0
                if (batch := self._next(by_slice=by_slice)) is not None:
                    yield batch
                continue
            step = POLL_S if timeout_s is None else min(POLL_S, timeout_s - waited)
            # Cancelled here, the thread still puts what came where the next call finds it.
            if not await asyncio.to_thread(self._fill, step):
                waited += step
                if timeout_s is not None and waited >= timeout_s:
                    return

    def _fill(self, timeout_s: float) -> bool:
        """Wait for frames, put what is out by now where `_next` takes it from; tell if any came."""
        with self._lock:
            if self._is_closed:
                return False
            came = self._trailing is not None and self._trailing.poll(self._whole_run)
            try:
                delivered = self._reader.poll(0.0 if came else timeout_s)
            except HoleError:
                if not self._began_again():
                    raise
                return True
            for number, one in enumerate(delivered, 1):
                self._merger.add(one.frame, one.offset)
                if one.offset >= self._target.get(one.frame.shard, _FAR):
                    del self._target[one.frame.shard]
                if number % self._merger.shards == 0 or number == len(delivered):
                    self._put(self._merger.drain())
            if not self._ready:
                self._note_if_caught_up()
            return came or bool(delivered)

    def _acknowledge(self) -> bool:
        """In lock-step, commit what was given out, once all that came is; False: not yet taken."""
        if self._acks is None:
            return True
        with self._lock:
            if not self._ready:
                self._owed = self._merger.taken()
            if self._owed == self._acks or self._is_closed:
                return True
            try:
                self._reader.commit(self._owed)
            except BrokerError:  # it is away: the next time says it again
                return False
            self._acks = self._owed
            return True

    def _hand_on_past(self) -> None:
        """Hand on the sessions from before the run that are whole by now."""
        if self._trailing is not None and self._whole_run:
            for session, load in self._trailing.take(self._whole_run):
                self.data.add_past(self._whole_run, session, load)

    def _put(self, batches: list[Batch]) -> None:
        """Put what is wanted where `_next` takes it; nothing before the running session's open.

        Only then is it certain that nothing of the sessions before it was cut while it was read.
        """
        if self._view is not None:
            batches = self._view.of(batches, is_past=bool(self._target))
        batches = [self._choice.of(batch) for batch in batches]
        for batch in batches:
            self._is_from_first = False
            if batch.event == "start":
                self._whole_run = batch.run
        join = self._join
        if join is None or len(join.opens) == 1:
            self._ready.put(batches)
            return
        for batch in batches:
            if (batch.event, batch.run, batch.session) == ("open", join.run, join.session):
                self._join, self._silent = None, len(self._past)
            self._past.append(batch)
        if self._join is None:
            self._ready.put(self._past)
            self._past = []

    def _began_again(self) -> bool:
        """Begin behind what was cut of what was not given out yet; tell if any was."""
        if self._is_from_first:
            return self._first_moved()
        kept = None if self._join is None else self._join.kept(self._reader.starts())
        if kept is None or kept == self._join:
            return False
        self._join, self._past = kept, []
        self._view = None if self._view is None else Corrected()
        self._merger = self._read_from(Position(kept.first))
        return True

    def _first_moved(self) -> bool:
        """Begin where the tape begins by now; tell if that is another place."""
        first = Position(self._reader.starts())
        if first.offsets == self.position.offsets:
            return False
        self.position = self._before = first
        self._ends = {s: end for s, end in self._ends.items() if end >= first[s]}
        self._merger = self._read_from(first)
        return True

    def _next(self, *, by_slice: bool) -> Batch | None:
        """Hand on what is first in line: a batch, or its next slice; None before the start time."""
        if self._silent:
            self._silent -= 1
            self.data.apply(self._ready.whole())
            return None
        part, is_wanted = self._ready.next(self.position, by_slice=by_slice)
        if not self._ready:
            self._note_if_caught_up()
        if part.event == "end" and self._until == "end":
            self._is_over = True
        self.data.apply(part)
        self._before, self.position = self.position, part.position
        return part if is_wanted else None

    def _row_by_row(self, part: Batch) -> Iterator[Any]:
        after, self.position = self.position, self._before
        rows = list(rows_of(part))
        yield from rows[:-1]
        self.position = after
        yield from rows[-1:]

    def _note_if_caught_up(self) -> None:
        """Note when all that was there at the start is out."""
        if not self._target:
            self.data.caught_up = True
            self._is_over = self._is_over or self._until == "idle"
