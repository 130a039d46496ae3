"""One shard of the tape: what came in, what is due, where it stands. Pure.

The owner of a shard feeds it messages and commands, asks `Shard.advance` for the next release,
and writes that in one transaction. It never asks past a release that was not written: it ends,
and the next owner recovers from the last frame that is committed.

The position rule: a row from before ``taken`` is out if its ready time is at or behind the clock,
and not out otherwise; a row from ``taken`` on is not out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from schemas.records import Command, DataRequest, Frame, Longs, Record
from streams import live
from streams.arrival import Rejection
from streams.frames import Slices, cut, mark
from streams.inbox import Inbox
from streams.joiner import PATIENCE, Patience
from streams.mixed import Mixed
from streams.opening import TIMED_OUT, why_incomplete
from streams.pace import Stand, beat_ns, due_ns, stand_of
from streams.plan import Plan, plan_of
from streams.release import RELEASE_ROWS, Release
from streams.sessions import Sessions
from streams.tape import Tape

__all__ = ["Release", "Shard"]


class Shard:
    """The state machine of one shard.

    Parameters
    ----------
    shard, shards
        Its number, and how many there are.
    topics
        Its raw topics by stream.
    plan_of
        Makes the plan of a command for a shard.
    patience
        That with symbols that join.
    """

    def __init__(
        self,
        shard: int,
        shards: int,
        topics: Mapping[str, str],
        plan_of: Callable[[Command, int, int], Plan] = plan_of,
        patience: Patience = PATIENCE,
    ) -> None:
        self.tape = Tape(shard, shards)
        self._held = Sessions(topics, patience)
        self._plan_of = plan_of
        self._plan: Plan | None = None
        self._command: Command | None = None
        self._version = 0
        self._is_at_end = True
        self._recovered: tuple[Frame, tuple[Frame, ...]] | None = None

    @property
    def inboxes(self) -> Mapping[str, Inbox]:
        """What came in, by stream."""
        return self._held.inboxes

    # What comes in.

    def recover(self, last: Frame, since_open: Sequence[Frame], opens: Sequence[int] = ()) -> None:
        """Stand where the last committed frame says; to be called before anything else.

        Parameters
        ----------
        last
            Last committed frame of the shard.
        since_open
            Frames of its session from the open frame on; empty where none is open.
        opens
            Offsets of the open frames that the topic still holds, ascending.
        """
        self.tape.stand_at(last)
        self.tape.opens = deque(opens)
        self._held.resume(last)
        # A new worker reads the commands from the first on; those before this one are history.
        self._version = last.command
        self._recovered = (last, tuple(since_open))

    def command(self, command: Command) -> None:
        """Take a command; one of an older version than the one that counts is left out."""
        if self._command is None or command.version > self._command.version:
            self._command = command

    def take(
        self, offset: int, record: Record | Rejection, wall_ns: int, stream: str = "bars"
    ) -> None:
        """Take a message of a raw topic, or the reason why it can't be decoded."""
        self.inboxes[stream].put(offset, record)
        # What is of another run, or can't be read, is no progress of this one; nor, while a live
        # run waits for what was before it, what comes by itself.
        is_ours = getattr(record, "run", None) in ("", self.tape.run)
        waits = self.is_waiting and self._plan is not None and self._plan.is_live
        is_answer = bool(getattr(record, "request", ""))
        if is_ours and (is_answer or not waits):
            self.tape.progress_ns = wall_ns

    def opened(self, offset: int) -> None:
        """Take note of where the open frame of the last release stands."""
        self.tape.open_offset = offset
        self.tape.opens.append(offset)

    # What is due.

    @property
    def is_idle(self) -> bool:
        """Whether no run is on, so that nothing is due until a command comes."""
        return self.tape.phase in ("idle", "ended")

    @property
    def is_waiting(self) -> bool:
        """Whether a session is to open next."""
        return self.tape.phase == "waiting"

    @property
    def readers_needed_at(self) -> int:
        """Offset that every reader must have passed before the next session opens; 0 for none.

        It is known while the session before plays.
        """
        plan = self._plan
        if plan is None or self.is_idle:
            return 0
        return self.tape.open_back(max(plan.command.trailing_sessions, 1))

    @property
    def delete_before(self) -> int:
        """Offset of the session topic before which nothing is kept; 0 for nothing to delete."""
        plan = self._plan
        return 0 if plan is None else self.tape.cut(1 + max(plan.command.trailing_sessions, 1))

    @property
    def stand(self) -> Stand | None:
        """Where the clock stands; None while no run is on."""
        return stand_of(self._plan, self.tape)

    def due_ns(self) -> int | None:
        """Return the wall time at which something falls due by itself, None for nothing."""
        plan, tape = self._plan, self.tape
        if plan is None or self.is_idle or self._held.is_behind:
            return None
        if plan.is_live:
            return live.due_ns(plan, self._held, tape)
        return due_ns(plan, self._held, tape)

    def advance(
        self, wall_ns: int, *, may_open: bool = True, may_go: bool = True, is_at_end: bool = True
    ) -> Release | None:
        """Return what is to go out now, None where nothing is due.

        Parameters
        ----------
        wall_ns
            Wall time, ns since the epoch, UTC.
        may_open
            Whether the readers are far enough for another session to open.
        may_go
            Whether all that are in lock-step have taken what is out.
        is_at_end
            Whether all that the raw topics hold was handed to us: a live run needs to know.

        Raises
        ------
        CalendarError
            The command names a calendar, days or hours that don't exist.
        """
        command = self._command  # once: another thread may put a newer one in its place
        if command is None or command.version < self._version:
            return None
        plan, before = self._plan, self._plan
        if plan is None or plan.command is not command:
            plan = self._plan = self._plan_of(command, self.tape.shard, self.tape.shards)
        if command.run != self.tape.run:
            return self._start(plan, wall_ns)
        if before is not None and before.symbols != plan.symbols and not self.is_idle:
            until_ns = plan.whole_ns(self.tape.number, wall_ns)
            self._held.change(plan, self.tape, before.symbols, until_ns)
        if self.tape.phase == "idle" and self._recovered is not None:
            self._go_on(plan, *self._recovered, wall_ns)
            self._recovered = None
        if self.is_idle or self._held.is_behind:
            return None
        if before is not plan and before is not None and before.command.paused:
            self.tape.progress_ns = wall_ns  # nothing was to come while the clock stood
        self._held.sort_in(plan, self.tape, wall_ns if is_at_end else None)
        if plan.command.stopped:
            return self._stop(plan)
        self._is_at_end = is_at_end
        release = self._go(plan, wall_ns, may_open=may_open) if may_go else None
        return release or self._tell(plan)

    # The steps of a run.

    def _start(self, plan: Plan, wall_ns: int) -> Release:
        tape = self.tape
        self._held.forget()
        tape.run, tape.phase = plan.command.run, "waiting"
        tape.number, tape.requested, tape.open_offset, tape.has_begun = 0, -1, -1, False
        tape.clock_ns, tape.progress_ns = plan.sessions[0].open_ns, wall_ns
        tape.incomplete, tape.reason, tape.left_out = False, "", ()
        requests = self._requests(plan)
        return self._release([self._frame(plan, "start", session="")], requests)

    def _go_on(self, plan: Plan, last: Frame, since_open: Sequence[Frame], wall_ns: int) -> None:
        """Find out from the last frame what was under way when the shard was taken over."""
        tape = self.tape
        tape.progress_ns = wall_ns
        tape.requested = plan.index(last.requested) if last.requested else -1
        tape.number = plan.index(last.session) if last.session else 0
        tape.phase = {"open": "opened", "rows": "opened", "end": "ended"}.get(last.event, "waiting")
        if last.waiting:
            tape.phase = "waiting"
        self._held.recall(plan, tape, last, since_open, plan.whole_ns(tape.number, wall_ns))

    def _tell(self, plan: Plan) -> Release | None:
        """Say what became known of minutes, or of the state, where nothing else is due.

        Not while late rows wait for their slice: what goes out moves ``taken`` past them.
        """
        held = self._held
        if held.has_late:
            return None
        frames = self._steps(plan)
        is_news = held.has_changed or held.has_much_refused or self.tape.is_news(plan.command)
        if not frames and (held.asks or is_news):
            frames = [self._frame(plan, "rows", waiting=self.tape.phase == "waiting")]
        return self._release(frames) if frames else None

    def _steps(self, plan: Plan) -> list[Frame]:
        """Return frames of what changed in the minutes of sessions and is not on the tape."""
        waiting = self.tape.phase == "waiting"
        return [
            self._frame(plan, "rows", minutes=minutes, waiting=waiting)
            for minutes in self._held.ledgers.steps()
        ]

    def _go(self, plan: Plan, wall_ns: int, *, may_open: bool) -> Release | None:
        if self.tape.phase != "waiting":
            return self._play(plan, wall_ns, may_open=may_open)
        frames = self._opening(plan, wall_ns) if may_open else []
        return self._release(frames) if frames else None

    def _opening(self, plan: Plan, wall_ns: int) -> list[Frame]:
        """Return the frames that open the session that comes, if it may open now.

        The open frame is the last of its release: what comes behind it carries its offset.
        """
        tape, held = self.tape, self._held
        if plan.is_live:
            reason = live.why_incomplete(plan, held, tape, wall_ns)
        elif plan.clock_ns(tape.number, wall_ns) is None:
            reason = None
        else:
            reason = why_incomplete(
                held.buffer(plan, tape.number),
                held.ledgers.get(tape.number),
                wall_ns - tape.progress_ns,
                plan.command.session_timeout_s,
            )
        if reason is None:
            return []
        tape.incomplete, tape.reason = bool(reason), reason
        ledger = held.ledger_at_open(plan, tape.number)
        minutes = None if ledger is None else ledger.all()
        # What goes out moves ``taken`` past all that was looked at: nothing of it may stay unsaid.
        frames = self._steps(plan)
        tape.phase, tape.clock_ns = "opened", plan.sessions[tape.number].open_ns
        tape.open_offset = -1
        frames.append(self._frame(plan, "open", minutes=minutes))
        return frames

    def _play(self, plan: Plan, wall_ns: int, *, may_open: bool) -> Release | None:
        tape, held = self.tape, self._held
        buffer = held.buffer(plan, tape.number)
        if plan.is_live:
            target_ns = live.target_ns(plan, held, tape, wall_ns, is_at_end=self._is_at_end)
        else:
            # The wall clock may be set back, and commands have anchors of other shards' clocks.
            target_ns = max(plan.clock_ns(tape.number, wall_ns) or 0, tape.clock_ns)
        close_ns = plan.sessions[tape.number].close_ns
        until_ns = buffer.bound(target_ns, RELEASE_ROWS)
        ends = plan.ends_behind(tape.number, tape.clock_ns)
        if plan.command.lockstep:
            until_ns = min(until_ns, buffer.next_slice(ends, close_ns))
        due = ends[ends <= until_ns]
        if plan.is_live and until_ns == close_ns and self._may_close(plan, wall_ns):
            held.let_in(plan, tape)
        fresh = buffer.take(until_ns)
        moves = len(fresh) > 0 or len(due) > 0
        closes, is_out = self._ends(plan, wall_ns, until_ns, moves=moves)
        if not (moves or closes or is_out):
            return self._beat(plan, until_ns)
        frames = self._rows(plan, fresh, due, until_ns)
        if closes:
            held.ledgers.give_up(tape.number)
        frames += self._steps(plan)
        if not (frames or closes):  # what came late was out already
            return None
        if closes and tape.clock_ns < close_ns:
            tape.clock_ns = close_ns
            frames.append(self._frame(plan, "rows"))
        requests: tuple[DataRequest, ...] = ()
        if closes:
            requests = self._close(plan, frames, wall_ns)
            # Readers see the close and the open with one commit if all is there by now.
            if may_open and self.is_waiting and self._held.is_complete(plan, tape.number):
                frames += self._opening(plan, wall_ns)
        return self._release(frames, requests)

    def _ends(self, plan: Plan, wall_ns: int, until_ns: int, *, moves: bool) -> tuple[bool, bool]:
        """Tell whether the session is to close, and whether late rows wait for no other slice."""
        held, tape = self._held, self.tape
        closes = until_ns == plan.sessions[tape.number].close_ns
        # A clock that is to stand brings late rows no further slice: they make one of their own.
        is_told = plan.command.paused and tape.is_news(plan.command)
        if not plan.is_live:
            return closes, held.has_late and is_told
        if self._is_at_end or moves:  # else nothing tells how far we are
            tape.catching_up = live.is_behind(plan, tape, wall_ns, until_ns)
        closes = closes and self._may_close(plan, wall_ns)
        return closes, held.has_late and (is_told or not plan.command.paused)

    def _may_close(self, plan: Plan, wall_ns: int) -> bool:
        return live.may_close(plan, self._held, self.tape, wall_ns, is_at_end=self._is_at_end)

    def _beat(self, plan: Plan, until_ns: int) -> Release | None:
        """Say where the clock is though nothing is due, where it would stand for too long."""
        if until_ns < beat_ns(plan, self._held, self.tape):
            return None
        self.tape.clock_ns, self.tape.has_begun = until_ns, True
        return self._release([self._frame(plan, "rows")])

    def _rows(self, plan: Plan, fresh: Mixed, due: Longs, until_ns: int) -> list[Frame]:
        """Return the frames of the rows that are due; the clock moves to their last slice."""
        tape = self.tape
        tape.has_begun = True
        if not plan.symbols:
            if len(due):
                tape.clock_ns = int(due[-1])
            return [self._frame(plan, "rows")] if len(due) else []
        late = self._held.late(plan, tape.number)
        active = self._held.active(plan)
        slices = mark(
            fresh,
            due,
            corrections=len(late),
            until_ns=until_ns,
            symbols=len(active) if plan.has_bars else 0,
            interval_ns=plan.interval_ns,
            no_trade=self._held.no_trade(plan, tape.number, due, until_ns),
        )
        frames = []
        parts = cut(late, fresh, slices, clock_ns=tape.clock_ns, symbols_bytes=plan.symbols_bytes)
        for part in parts:
            tape.clock_ns = part.clock_ns
            marks = {f.name: getattr(part.slices, f.name) for f in fields(Slices)}
            kinds: Mapping[str, Any] = self._held.shown(part.rows).columns
            frames.append(self._frame(plan, "rows", rows=len(part.rows), **kinds, **marks))
        return frames

    def _close(self, plan: Plan, frames: list[Frame], wall_ns: int) -> tuple[DataRequest, ...]:
        """Close the session, and roll to the next or end the run."""
        tape = self.tape
        frames.append(self._frame(plan, "close"))
        self._held.drop(tape.number)
        gives_up = plan.command.on_timeout == "stop" and tape.reason.startswith(TIMED_OUT)
        if tape.number + 1 == len(plan.sessions) or gives_up:
            frames.append(self._frame(plan, "end", session=""))
            tape.phase = "ended"
            return ()
        tape.number, tape.has_begun = tape.number + 1, False
        tape.phase, tape.incomplete, tape.reason = "waiting", False, ""
        prefetched = self._held.is_complete(plan, tape.number)
        requests = self._requests(plan)
        if requests:  # what was asked just now takes its time, however long the session took
            tape.progress_ns = wall_ns
        frames.append(self._frame(plan, "roll", prefetched=prefetched))
        return requests

    def _stop(self, plan: Plan) -> Release:
        self.tape.reason = "stopped by command"
        frame = self._frame(plan, "end", session="")
        self.tape.phase = "ended"
        return self._release([frame])

    # What goes out.

    def _requests(self, plan: Plan) -> tuple[DataRequest, ...]:
        """Ask for the session that comes and for those to be prefetched, each once."""
        tape = self.tape
        last = plan.last_asked(tape.number)
        numbers = range(tape.requested + 1, last + 1)
        tape.requested = max(tape.requested, last)
        return tuple(plan.request(n, n == tape.number) for n in numbers) if plan.symbols else ()

    def _frame(self, plan: Plan, event: str, session: str | None = None, **changes: Any) -> Frame:
        playing = plan.sessions[self.tape.number]
        return self.tape.write(
            event,
            plan.command,
            session=playing.label if session is None else session,
            open_ns=playing.open_ns,
            close_ns=playing.close_ns,
            requested=plan.label(self.tape.requested),
            positions=self._held.positions(plan, self.tape),
            symbols=() if event in ("close", "end") else self._held.active(plan),
            sources=tuple(self._held.sources),
            interval_ns=plan.interval_ns,
            expected=len(plan.expected_ends(self.tape.number)) if plan.has_bars else 0,
            **changes,
        )

    def _release(self, frames: list[Frame], requests: Sequence[DataRequest] = ()) -> Release:
        held, keep = self._held, {place.topic: place.keep for place in frames[-1].positions}
        asks, held.asks, held.has_changed = held.asks, [], False
        warnings, held.warnings = tuple(held.warnings), []
        return Release(tuple(frames), (*requests, *asks), held.rejections(), keep, warnings)
