"""A run on a stack: commanded, read to its end, counted. What replays and live runs share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import psutil

from schemas import Command
from streams.calendar import Session, sessions_between
from streams.client import Batch, SessionData, SessionStream
from streams.client.reader import Start
from streams.control import is_one_replay, latest_command, new_run, send_command
from streams.digest import Digest
from streams.errors import BrokerError, CommandError, DeliveryError, SessiontapeError
from streams.local.attach import AttachedStack
from streams.local.stack import Stack
from streams.local.state import locked
from streams.opening import TIMED_OUT
from streams.outcome import Progress, ReplayResult
from streams.positions import FrameReader
from streams.rejected import rejected_end, rejected_since
from streams.selection import BASE, check_derived
from streams.settings import Settings
from streams.tally import Tally

__all__ = ["Run", "anchored", "group_of", "run_on"]

SILENCE_S = 0.5
COMMAND_CHECK_S = 1.0
COMMIT_S = 0.5
DRAIN_POLL_S = 0.02
DRAIN_S = 60.0


@contextmanager
def run_on(
    settings: Settings,
    make: Callable[[], Stack | AttachedStack],
    sessions: Sequence[Session],
    derived: Sequence[str],
    *,
    busy: str,
    data: SessionData | None,
    on_batch: Callable[[Batch], None],
    on_progress: Callable[[Progress], None],
    on_stack: Callable[[Stack | AttachedStack], None] = lambda _: None,
) -> Iterator[Run]:
    """Give a run on a stack that is up meanwhile, the only one of its namespace.

    Parameters
    ----------
    settings
        Those of the namespace.
    make
        Makes the stack, once the namespace is ours.
    sessions, derived
        What is played, and the lengths of derived bars that come into the replica.
    busy
        What is said where another holds the namespace.
    data, on_batch, on_progress, on_stack
        Those of `streams.replay.replay`.

    Raises
    ------
    ConfigError
        The stack derives other lengths.
    SessiontapeError
        Another run goes in this namespace, or a part of the stack does not come up.
    """
    with locked(settings.data_dir, f"{settings.namespace}.replay", busy), make() as stack:
        on_stack(stack)
        check_derived(stack.settings, derived, has_upkeep=stack.has_upkeep)
        yield Run(
            stack,
            sessions,
            derived,
            data=data or SessionData(),
            on_batch=on_batch,
            on_progress=on_progress,
        )


def anchored(command: Command) -> Command:
    """Return a command whose clock stands at the first open now."""
    return replace(command, anchor_wall_ns=time.time_ns())


def group_of(settings: Settings) -> str:
    """Return the group under which a replay's own reader commits."""
    return f"{settings.namespace}.replay"


class Run:
    """One run: command, subscriber, counts.

    Parameters
    ----------
    stack
        The stack that plays it.
    sessions
        Its sessions.
    derived
        Lengths of derived bars that come into the replica, too.
    data, on_batch, on_progress
        Those of `replay`.
    """

    def __init__(
        self,
        stack: Stack | AttachedStack,
        sessions: Sequence[Session],
        derived: Sequence[str],
        *,
        data: SessionData,
        on_batch: Callable[[Batch], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._stack = stack
        self._settings = stack.settings
        self._intervals = (BASE, *derived)
        self._data = data
        self._on_batch = on_batch
        self._on_progress = on_progress
        self._committed_s = 0.0
        self._is_ended = threading.Event()
        self._begin(sessions)

    def _begin(self, sessions: Sequence[Session]) -> None:
        self._tally = Tally(sessions)
        self._digest = Digest()
        self._lengths = [session.close_ns - session.open_ns for session in sessions]

    @property
    def has_upkeep(self) -> bool:
        """Whether the stack has an upkeep."""
        return self._stack.has_upkeep

    @property
    def processes(self) -> Mapping[str, psutil.Process]:
        """Processes of the stack by name."""
        return self._stack.processes

    def end(self) -> None:
        """Stop the run soon; `play` reads it to its end then. For a signal or another thread."""
        self._is_ended.set()

    def play(self, command: Command, at: Callable[[Command], Command] = anchored) -> ReplayResult:
        """Send the command and read the tape to the end of its run.

        When somebody seeks, another run takes its place: then that is read, from its start.

        Parameters
        ----------
        command
            The command, but for version, run, readers and anchor.
        at
            Anchors it, in the moment in which it is sent.
        """
        settings, stack = self._settings, self._stack
        latest = latest_command(settings)
        command = replace(
            command,
            version=1 if latest is None else latest.version + 1,
            run=new_run(),
            readers=(*stack.readers, group_of(settings)),
        )
        start: Start = "now"
        sought: Command | None = command
        try:
            while sought is not None:
                if sought is not command:
                    days = (sought.calendar, sought.start, sought.end, sought.hours)
                    self._begin(sessions_between(*days))
                rejected_from, is_first, command = rejected_end(settings), start == "now", sought
                with self._stream(command, start) as stream:
                    stream.commit()
                    began_s = time.monotonic()
                    if is_first:
                        command = at(command)
                        send_command(settings, command)
                    sought = self._read(stream, command, began_s)
                    elapsed_s = time.monotonic() - began_s
                    with suppress(BrokerError):
                        stream.commit()
                    start = stream.position
        except BaseException:
            # The namespace is not left with a run that nobody reads.
            with suppress(SessiontapeError):
                stack.check()
                _stop(settings, lambda run: is_one_replay(run, command.run))
            raise
        self._drain(command)
        return self._result(command, elapsed_s, rejected_since(settings, rejected_from))

    def _stream(self, command: Command, start: Start) -> SessionStream:
        return SessionStream(
            settings=self._settings,
            start=start,
            run=command.run,
            data=self._data,
            group=group_of(self._settings),
            intervals=self._intervals,
            kinds=command.streams,
        )

    def _read(self, stream: SessionStream, command: Command, began_s: float) -> Command | None:
        """Read a run to its end, or until a seek puts another in its place: its command."""
        heard_s = asked_s = time.monotonic()
        is_given_up = is_stopped = False
        while True:
            for batch in stream.frames(SILENCE_S):
                now_s = time.monotonic()
                if is_given_up and batch.event != "end":
                    continue  # of shards that had not heard of it yet
                self._digest.add(batch)
                # Of a transition only what the tape takes: the digest of a session is our own work.
                self._tally.add(batch, time.monotonic())
                self._on_batch(batch)
                self._commit(stream, batch, now_s)
                self._report(batch, now_s - began_s)
                if batch.event == "end":
                    return None
                if _gives_up(command, batch) and not is_given_up:
                    is_given_up = True
                    _stop(self._settings, command.run.__eq__)
                heard_s = now_s
                is_stopped = is_stopped or self._end(command)
            is_stopped = is_stopped or self._end(command)
            self._stack.check()
            now_s = time.monotonic()
            if now_s - max(heard_s, asked_s) >= COMMAND_CHECK_S:
                asked_s = now_s
                if (sought := self._sought(command)) is not None:
                    return sought

    def _end(self, command: Command) -> bool:
        """Stop the run if it was asked for; tell whether that is done."""
        if not self._is_ended.is_set():
            return False
        try:
            _stop(self._settings, command.run.__eq__)
        except (BrokerError, DeliveryError):  # it is away: stopped in the next round
            return False
        return True

    def _sought(self, command: Command) -> Command | None:
        """Return the command of the run that a seek put in the place of ours, None for none."""
        try:
            latest = latest_command(self._settings)
        except BrokerError:  # it is away: asked again soon
            return None
        if latest is None or latest.run == command.run:
            return None
        if is_one_replay(latest.run, command.run):
            return latest
        msg = (
            f"run {latest.run} took the place of this one ({command.run}) in namespace "
            f"{self._settings.namespace}: take another --namespace to run side by side"
        )
        raise CommandError(msg)

    def _commit(self, stream: SessionStream, batch: Batch, now_s: float) -> None:
        """Say how far we are: the tape waits before it runs away from its readers."""
        if batch.event == "close" or now_s - self._committed_s >= COMMIT_S:
            self._committed_s = now_s
            with suppress(BrokerError):  # it is away: the next commit says it all again
                stream.commit()

    def _report(self, batch: Batch, elapsed_s: float) -> None:
        tally = self._tally
        closed = tally.closed
        played = sum(self._lengths[:closed])
        if batch.event in ("open", "rows"):
            played += max(batch.clock_ns - batch.open_ns, 0)
        self._on_progress(
            Progress(
                session=batch.session,
                clock_ns=batch.clock_ns,
                share=min(played / sum(self._lengths), 1.0),
                closed=closed,
                sessions=len(self._lengths),
                rows=sum(tally.rows.values()),
                elapsed_s=elapsed_s,
            )
        )

    def _drain(self, command: Command) -> None:
        """Wait until the other readers have taken the run to its end."""
        settings = self._settings
        with FrameReader(settings) as reader:
            last = reader.last()
        # The last frame is the end of the run: whoever has committed it has done all before.
        wanted = {
            group: {
                shard: one.offset + 1
                for shard, one in last.items()
                if one is not None and one.frame.run == command.run
            }
            for group in self._stack.readers
        }
        for group, shards in wanted.items():
            with FrameReader(settings, group) as reader:
                self._await(group, reader, shards)

    def _await(self, group: str, reader: FrameReader, wanted: Mapping[int, int]) -> None:
        """Wait until a group has committed these offsets, as long as it goes on."""
        before: Mapping[int, int | None] = {}
        moved_s = time.monotonic()
        while _is_behind(committed := reader.committed(), wanted):
            self._stack.check()
            if committed != before:
                before, moved_s = committed, time.monotonic()
            elif time.monotonic() - moved_s > DRAIN_S:
                msg = (
                    f"{group} has not read the run to its end: "
                    f"it has stood still for {DRAIN_S:.0f} s"
                )
                raise SessiontapeError(msg)
            time.sleep(DRAIN_POLL_S)

    def _result(self, command: Command, elapsed_s: float, rejected: int) -> ReplayResult:
        tally = self._tally
        rows = sum(tally.rows.values())
        return ReplayResult(
            namespace=self._settings.namespace,
            run=command.run,
            sessions=tally.closed,
            rows=dict(tally.rows),
            bars=tally.rows["bars"],
            elapsed_s=round(elapsed_s, 6),
            rows_per_s=round(rows / elapsed_s, 1),
            gaps_found=tally.gaps.found,
            gaps_filled=tally.gaps.filled,
            gaps_no_trade=tally.gaps.no_trade,
            gaps_given_up=tally.gaps.given_up,
            missing_minutes=tally.gaps.missing_minutes,
            filled_minutes=tally.gaps.filled_minutes,
            no_trade_minutes=tally.gaps.no_trade_minutes,
            fill_rate=tally.gaps.fill_rate(),
            quality=tally.quality(),
            prefetch_hit_rate=tally.prefetch_hit_rate(),
            transition_ms=tally.transition_ms(),
            digest=self._digest.final(),
            digest_as_known=self._digest.as_known(),
            incomplete=tuple(tally.incomplete),
            rejected=rejected,
        )


def _gives_up(command: Command, batch: Batch) -> bool:
    """Tell whether a session of some shard timed out, and the run is to stop with it."""
    is_timed_out = batch.event == "close" and batch.incomplete and TIMED_OUT in batch.reason
    return is_timed_out and command.on_timeout == "stop"


def _is_behind(committed: Mapping[int, int | None], wanted: Mapping[int, int]) -> bool:
    return any((committed[shard] or 0) < offset for shard, offset in wanted.items())


def _stop(settings: Settings, is_ours: Callable[[str], bool]) -> None:
    latest = latest_command(settings)
    if latest is not None and is_ours(latest.run):
        stopped = replace(latest, version=latest.version + 1, action="stop", stopped=True)
        send_command(settings, stopped)
