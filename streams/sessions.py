"""What a shard holds of the sessions that play or come: rows, coverage, minutes, symbols. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from schemas.records import (
    BarColumns,
    Coverage,
    DataRequest,
    Frame,
    Halt,
    Ints,
    Longs,
    RawPosition,
)
from streams.arrival import Arrival, Clock, Noted, Rejection
from streams.buffer import SessionBuffer
from streams.coverage import Status
from streams.inbox import Inbox
from streams.joiner import PATIENCE, Joiner, Patience, places
from streams.kinds import KINDS, Rows, kind_of
from streams.ledger import Ledger
from streams.ledgers import Ledgers
from streams.merge import renumbered
from streams.mixed import Mixed
from streams.plan import Plan
from streams.tape import Tape
from streams.watermark import Watermark

__all__ = ["Sessions"]

REFUSED = 500
"""Refused messages that are held at most: between sessions nothing else would let them out."""


class Sessions:
    """The sessions of one shard, by their numbers in the plan of its run.

    Attributes
    ----------
    inboxes
        What came in, by stream.
    sources
        Names of the sources, as the rows count them.
    ledgers
        What is known of minutes without a bar.
    asks
        Requests that are to go out with the next release.
    has_changed
        Whether the symbols have changed since the last release.
    warnings
        What people are to be told with the next release.
    """

    def __init__(self, topics: Mapping[str, str], patience: Patience = PATIENCE) -> None:
        self.sources: list[str] = []
        self.inboxes = {
            stream: Inbox(kind, self.sources, topics.get(stream, ""))
            for stream, kind in KINDS.items()
        }
        self.ledgers = Ledgers()
        self.asks: list[DataRequest] = []
        self.has_changed = False
        self.warnings: list[str] = []
        self._patience = patience
        self._buffers: dict[int, SessionBuffer] = {}
        self._watermarks: dict[int, Watermark] = {}
        self._halts: dict[str, Halt] = {}
        self._joiner: Joiner | None = None
        self._joined: list[Rows] = []

    def forget(self) -> None:
        """Begin a new run."""
        for inbox in self.inboxes.values():
            inbox.forget()
        self.ledgers, self.asks, self.has_changed = Ledgers(), [], False
        self._buffers, self._joiner, self._joined = {}, None, []
        self._watermarks, self._halts = {}, {}

    def resume(self, last: Frame) -> None:
        """Expect of the raw topics what the last frame needs; an older one may know bars alone."""
        for inbox in self.inboxes.values():
            for place in last.positions:
                if place.topic == inbox.topic:
                    inbox.resume(place.keep, place.taken)
        self.sources[:] = last.sources

    def recall(
        self,
        plan: Plan,
        tape: Tape,
        last: Frame,
        since_open: Sequence[Frame],
        until_ns: int = 0,
    ) -> None:
        """Hold again what was held behind a frame of an earlier owner, as far as frames say it.

        ``until_ns`` is that of `change`.
        """
        if last.symbols != plan.symbols and tape.phase in ("waiting", "opened"):
            self.change(plan, tape, last.symbols, until_ns)
        buffer = self.buffer(plan, tape.number)
        self._recall_frames(plan, tape, since_open)
        if plan.is_live and plan.has_upkeep and since_open:
            self._recall_live(plan, tape)
        if (ledger := self.ledgers.get(tape.number)) is not None:
            for rows in buffer.released:
                if isinstance(rows, BarColumns):
                    ledger.take(rows, "", is_new=False)

    def _recall_frames(self, plan: Plan, tape: Tape, since_open: Sequence[Frame]) -> None:
        """Take what is out of the session, and what is known of its minutes."""
        buffer = self.buffer(plan, tape.number)
        for frame in since_open:
            tape.has_begun |= len(frame.slice_ns) > 0 or frame.clock_ns > frame.open_ns
            there = None
            if frame.symbols != plan.symbols:
                there = places(frame.symbols, plan.symbols)
            for rows in (frame.ticks, frame.quotes, frame.bars):
                if rows is not None:
                    buffer.recall(rows if there is None else renumbered(rows, there))
            if frame.minutes is not None and frame.minutes.session == frame.session:
                self.ledgers.of(plan, tape.number).recall(frame.minutes)

    def _recall_live(self, plan: Plan, tape: Tape) -> None:
        """Take from the minutes on the tape who is halted."""
        ledger = self.ledgers.of(plan, tape.number)
        ledger.begin(self.buffer(plan, tape.number).rows())
        if passed := ledger.grid.expected(tape.clock_ns):
            halted = ledger.grid.status[:, passed - 1] == Status.HALTED
            self.watermark(plan, tape.number).halt_again(halted, tape.clock_ns)

    def watermark(self, plan: Plan, number: int) -> Watermark:
        """Return how far the symbols of a live session have reported."""
        if number not in self._watermarks:
            session, streams = plan.sessions[number], plan.command.streams
            found = Watermark(session, plan.interval_ns, plan.symbols, streams)
            for halt in self._halts.values():
                found.halt(halt)
            self._watermarks[number] = found
        return self._watermarks[number]

    def buffer(self, plan: Plan, number: int) -> SessionBuffer:
        """Return the rows and the coverage of a session."""
        if number not in self._buffers:
            self._buffers[number] = SessionBuffer(
                plan.sessions[number], plan.numbers, plan.streams, self.sources
            )
        return self._buffers[number]

    def is_settled(self, number: int) -> bool:
        """Whether nothing of the session that plays is missing or asked for."""
        return self.ledgers.is_settled(number) and self._joiner is None

    def reached(self, plan: Plan, tape: Tape) -> int:
        """Return how far all have reported that are in the session that plays."""
        joining = () if self._joiner is None else self._joiner.joining
        return self.watermark(plan, tape.number).reached(self.begun_ns(plan, tape), joining)

    def begun_ns(self, plan: Plan, tape: Tape) -> int:
        """Return the session clock, or just before the open while rows of that time are to come."""
        if tape.has_begun:
            return tape.clock_ns
        return min((self.out_ns(plan, tape, name) for name in plan.streams), default=tape.clock_ns)

    def drop(self, number: int) -> None:
        """Forget a session that is over; symbols that did not join it begin with the next."""
        if self._joiner is not None:
            for stream, came, mask in self._joiner.refused():
                self.inboxes[stream].refuse(came, mask, "its symbol did not join the session")
        self._buffers.pop(number, None)
        self.ledgers.drop(number)
        self._watermarks.pop(number, None)
        self._joiner = None

    def is_complete(self, plan: Plan, number: int) -> bool:
        """Tell whether a session needs nothing more before it opens."""
        return self.buffer(plan, number).is_covered and self.ledgers.is_settled(number)

    # What comes in.

    def sort_in(self, plan: Plan, tape: Tape, wall_ns: int | None = None) -> None:
        """Put what came in where it belongs.

        By ``wall_ns`` answers may be overdue: None while not all is read that there is.
        """
        for stream, inbox in self.inboxes.items():
            if stream not in plan.streams:
                for halt in inbox.pass_over(tape.run):
                    self._halt(plan, tape, halt)
                continue
            clock_ns = self.out_ns(plan, tape, stream)
            at = Clock(tape.run, tape.number, tape.phase == "opened", clock_ns)
            for came in inbox.sort(plan, at, self.ledgers.wanted):
                if isinstance(came, Arrival):
                    self._arrive(plan, tape, came)
                elif stream != "bars" or not self.ledgers.note(plan, came):
                    self._note(plan, tape, came, stream)
        if self._joiner is not None and self._joiner.is_ready:
            self._join(plan, tape, self._joiner)
        elif self._joiner is not None and plan.is_live and wall_ns is not None:
            self._press(plan, tape, self._joiner, wall_ns)

    def out_ns(self, plan: Plan, tape: Tape, stream: str) -> int:
        """Return the ready time up to which the rows of a kind are out.

        Bars are never ready when their session opens: the clock says it.
        """
        if stream == "bars":
            return tape.clock_ns
        return plan.out_ns(tape.number + tape.has_begun, tape.clock_ns)

    def _note(self, plan: Plan, tape: Tape, came: Noted, stream: str) -> None:
        if isinstance(came.record, Coverage):
            self._cover(plan, tape, came.record, stream, is_new=came.is_new)
        if isinstance(came.record, Halt):
            self._halt(plan, tape, came.record)

    def _halt(self, plan: Plan, tape: Tape, halt: Halt) -> None:
        if plan.is_live:
            self.watermark(plan, tape.number).halt(halt)
            for name in halt.symbols:
                self._halts[name] = replace(halt, symbols=(name,))

    def _arrive(self, plan: Plan, tape: Tape, came: Arrival) -> None:
        if plan.is_live and isinstance(came.rows, BarColumns):
            self.watermark(plan, came.number).take(came.rows)
        if self._joiner is not None and came.number == tape.number:
            came = self._joiner.hold(came)
        if not came.is_late:
            self.buffer(plan, came.number).add(came.rows)
        self.ledgers.take(came)

    def _cover(
        self, plan: Plan, tape: Tape, coverage: Coverage, stream: str, *, is_new: bool
    ) -> None:
        if self._joiner is not None:
            self._joiner.cover(coverage, stream, is_new=is_new)
        first = int(np.searchsorted(plan.closes, coverage.start_ns, "right"))
        last = int(np.searchsorted(plan.opens, coverage.end_ns, "left"))
        for number in range(max(first, tape.number), last):
            buffer = self.buffer(plan, number)
            is_open = number == tape.number and tape.phase == "opened"
            if plan.is_live:
                clock_ns = self.out_ns(plan, tape, stream) if is_open else 0
                self.watermark(plan, number).cover(stream, coverage, clock_ns)
            if plan.is_live and (is_open or coverage.start_ns >= plan.catchup_end_ns):
                continue  # what came before a run that began in mid-session is not in question
            buffer.cover(coverage, stream)
            is_loaded = stream == "bars" and plan.has_upkeep and buffer.has_bars
            if is_loaded and not is_open and not plan.is_live:
                self._load(plan, number, is_new=is_new)

    def _load(self, plan: Plan, number: int, *, is_new: bool) -> None:
        """Find out which minutes of a session have no bar, once all of it came."""
        buffer, ends = self.buffer(plan, number), plan.expected_ends(number)
        if self.ledgers.get(number) is not None or not buffer.lacks_none(
            ends, plan.interval_ns, len(plan.symbols)
        ):
            self.ledgers.of(plan, number).load(buffer.rows(), is_new=is_new)

    def late(self, plan: Plan, number: int) -> Mixed:
        """Return the corrections of a session that are to go out, in order."""
        buffer = self.buffer(plan, number)
        pending = [
            rows for inbox in self.inboxes.values() for rows in inbox.take_late(buffer.outdone)
        ]
        if self._joiner is not None:
            pending = [self._joiner.without(rows) for rows in pending]
        pending += self._joined
        self._joined = []
        return buffer.correct([rows for rows in pending if len(rows)])

    @property
    def has_late(self) -> bool:
        """Whether rows from behind the clock wait for the next slice."""
        return bool(self._joined) or any(inbox.has_late for inbox in self.inboxes.values())

    @property
    def is_behind(self) -> bool:
        """Whether messages that an earlier owner had looked at have not come again yet."""
        return any(inbox.is_behind for inbox in self.inboxes.values())

    def positions(self, plan: Plan, tape: Tape) -> tuple[RawPosition, ...]:
        """Return where the shard stands in its raw partitions; bars come first."""
        return tuple(
            RawPosition(
                *(inbox.topic, tape.shard, inbox.taken),
                inbox.keep(self.out_ns(plan, tape, stream)),
            )
            for stream, inbox in reversed(self.inboxes.items())
        )

    @property
    def has_much_refused(self) -> bool:
        """Whether so much was refused that it is not to wait for the next slice."""
        return sum(len(inbox.rejections) for inbox in self.inboxes.values()) >= REFUSED

    def rejections(self) -> tuple[Rejection, ...]:
        """Return what was refused since the last call."""
        found = [r for inbox in self.inboxes.values() for r in inbox.rejections]
        for inbox in self.inboxes.values():
            inbox.rejections = []
        return tuple(found)

    def ledger_at_open(self, plan: Plan, number: int) -> Ledger | None:
        """Return what is known of the minutes of a session that opens; None: all are there."""
        buffer = self.buffer(plan, number)
        if plan.has_upkeep and plan.is_live:
            self.ledgers.of(plan, number).begin(buffer.rows())
        elif plan.has_upkeep and not buffer.has_bars:
            self.ledgers.of(plan, number).load(buffer.rows(), is_new=False)
        return self.ledgers.get(number)

    def no_trade(self, plan: Plan, number: int, due: Longs, until_ns: int) -> Ints | None:
        """Return how many symbols had no trade, or were halted, in minutes due; see `Ledgers`."""
        if self.ledgers.get(number) is None:  # nobody is told which minutes were halted
            return None
        halted = self.watermark(plan, number).halted() if plan.is_live else None
        return self.ledgers.no_trade(number, due, until_ns, self.active(plan), halted)

    # Symbols that come and go.

    def active(self, plan: Plan) -> tuple[str, ...]:
        """Return the symbols that the tape has now."""
        return plan.symbols if self._joiner is None else self._joiner.active

    def shown(self, rows: Mixed) -> Mixed:
        """Return rows with the symbols numbered as the tape has them now."""
        return rows if self._joiner is None else rows.map(self._joiner.shown)

    def change(self, plan: Plan, tape: Tape, old: tuple[str, ...], until_ns: int = 0) -> None:
        """Have the symbols of a plan from now on instead of ``old``.

        Those that go leave at once. Those that come are asked for, in a live run up to
        ``until_ns``; they are in the session that is open when all of it is there.
        """
        moved = places(old, plan.symbols)
        for buffer in self._buffers.values():
            buffer.rename(moved, plan.symbols)
        self.ledgers.rename(plan.symbols)
        for inbox in self.inboxes.values():
            inbox.rename(moved)
        marks = self._watermarks.items()
        self._watermarks = {n: mark.renamed(plan.symbols) for n, mark in marks}
        self._joined = [renumbered(rows, moved) for rows in self._joined]
        active, held = old, []
        if self._joiner is not None:
            active, held = self._joiner.active, list(self._joiner.held(moved))
        self._joiner = None
        first = tape.number
        if tape.phase == "opened":
            stay = tuple(name for name in active if name in plan.numbers)
            if stay != plan.symbols:
                self._joiner = Joiner(
                    *(plan, tape.number, stay, f"{tape.frame}"), until_ns=until_ns, held=held
                )
                if self._joiner.is_asked and self._joiner.joining:
                    self.asks.append(self._joiner.request)
            first += 1
        added = tuple(name for name in plan.symbols if name not in set(old))
        for number in range(first, tape.requested + 1 if added else 0):
            asked = plan.request(number, is_now=number == tape.number)
            name = f"{asked.id}/{plan.command.version}"
            self.asks.append(replace(asked, id=name, symbols=added, reason="symbols were added"))
        self.has_changed = True

    def _press(self, plan: Plan, tape: Tape, joiner: Joiner, wall_ns: int) -> None:
        """Ask again for symbols that nobody answers for; in the end they join with what came."""
        if not joiner.is_overdue(wall_ns, self._patience.timeout_ns):
            return
        if joiner.attempts < self._patience.attempts:
            self.asks.append(joiner.ask_again())
        else:
            self.let_in(plan, tape)

    def let_in(self, plan: Plan, tape: Tape) -> None:
        """Let symbols in that were not answered for: what did not come of them is missing."""
        joiner = self._joiner
        if joiner is not None:
            lacking = ", ".join(joiner.lacking)
            times = f"{joiner.attempts} requests"
            self.warnings.append(f"{lacking}: no answer to {times}: joined with what came")
            self._join(plan, tape, joiner)
            self.has_changed = True

    def _join(self, plan: Plan, tape: Tape, joiner: Joiner) -> None:
        """Let symbols in: what they had until now goes out in front of the next slice."""
        self._joiner = None
        late, fresh = joiner.take(lambda rows: self.out_ns(plan, tape, kind_of(rows).stream))
        self._joined += late
        for rows in fresh:
            self.buffer(plan, tape.number).add(rows)
        if plan.has_upkeep:
            bars = [rows for rows in (*late, *fresh) if isinstance(rows, BarColumns)]
            until_ns = tape.clock_ns if plan.is_live else None
            self.ledgers.of(plan, tape.number).join(bars, joiner.joining, until_ns)
