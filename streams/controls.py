"""Start, pause, resume, speed, step, seek and stop: commands that begin and change a run.

Each waits until every shard of the tape says that it follows, so that what comes back is how the
tape stands, and not only what was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from schemas import Command, Frame
from streams.calendar import sessions_between
from streams.control import latest_command, live_of, send_command, sought_run
from streams.delivery import FrameReader
from streams.errors import CommandError, ConfigError
from streams.places import live_sessions, place_of
from streams.settings import Settings, load
from streams.standing import (
    TapeState,
    clock_of,
    counting,
    ends_of,
    is_at,
    last_of,
    no_run,
    run_that_is_on,
)
from streams.starting import NewRun, command_to_start

__all__ = ["Controls"]

ANSWER_S = 10.0
POLL_S = 0.01


class Controls:
    """The controls of a namespace.

    Parameters
    ----------
    namespace
        Default: that of the settings.
    settings, bootstrap_servers
        Default: the settings of the process.

    Raises
    ------
    ConfigError
        No broker is known.
    TopicError
        The namespace has no tape.
    """

    def __init__(
        self,
        namespace: str | None = None,
        *,
        settings: Settings | None = None,
        bootstrap_servers: str | None = None,
    ) -> None:
        changes = {"namespace": namespace, "bootstrap_servers": bootstrap_servers}
        given = {name: value for name, value in changes.items() if value is not None}
        settings = settings or load()
        self._settings = settings.but(**given) if given else settings
        self._reader = FrameReader(self._settings, only_looks=True)

    def close(self) -> None:
        """Let go of the brokers."""
        self._reader.close()

    def __enter__(self) -> Self:
        """Return the controls."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self.close()

    def state(self) -> TapeState:
        """Return how the tape stands.

        Raises
        ------
        CommandError
            The namespace never had a run.
        """
        command = latest_command(self._settings)
        if command is None:
            raise no_run(self._settings)
        return _state(command, last_of(self._reader, command.run))

    def start(
        self,
        symbols: Sequence[str],
        start: str,
        end: str,
        *,
        streams: Sequence[str] = ("bars",),
        paused: bool = False,
        lockstep: Sequence[str] = (),
        readers: Sequence[str] | None = None,
        upkeep: bool | None = None,
    ) -> TapeState:
        """Begin a run, which goes on by itself: whoever subscribes reads it.

        Calendar, hours, speed, time-outs, prefetch and trailing sessions are those of the settings.

        Parameters
        ----------
        symbols
            Symbols to play; the producer's source has to have them.
        start, end
            First and last session, YYYY-MM-DD, both inclusive.
        streams
            Kinds of rows to play: bars, quotes, ticks; the producer's source has to have them.
        paused
            Whether the clock stands until `resume`.
        lockstep
            Consumer groups that the clock waits for behind each slice, as those of
            ``SessionStream(group=…, lockstep=True)``.
        readers
            Consumer groups that the tape waits for before it deletes what they have not read;
            default: those of the tables and of the upkeep, where they are. A sink can't be seen
            from here: where one runs, name its group (``<namespace>.sink``) too.
        upkeep
            Whether gaps are filled and longer bars derived; default: where there is an upkeep.

        Raises
        ------
        CommandError
            A run is on, or nobody answers requests.
        BrokerError
            Workers are coming and going.
        CalendarError, ConfigError
            No such calendar, days or symbols.
        """
        settings = self._settings
        sessions = sessions_between(settings.calendar, start, end, settings.hours)
        return self._begin(
            NewRun(symbols, sessions, lockstep, readers, upkeep),
            lambda command: replace(
                command, streams=tuple(streams), paused=paused, anchor_wall_ns=time.time_ns()
            ),
        )

    def go_live(
        self,
        symbols: Sequence[str],
        *,
        streams: Sequence[str] = ("bars",),
        begin: str | int | None = None,
        end: str | None = None,
        lockstep: Sequence[str] = (),
        readers: Sequence[str] | None = None,
        upkeep: bool | None = None,
    ) -> TapeState:
        """Begin a live run, which goes on by itself: rows are taken as they come.

        Calendar, hours, lateness and the rest are those of the settings.

        Parameters
        ----------
        symbols
            Symbols that are expected to report.
        streams
            Streams of the run.
        begin
            Of a rehearsal the time or session on the tape that is now, as `seek` takes it; its
            clock goes at the speed of the settings (``max`` counts as 1). None: the time is that
            of the wall.
        end
            Last session of a rehearsal, YYYY-MM-DD.
        lockstep, readers, upkeep
            As those of `start`.

        Raises
        ------
        CommandError
            A run is on, or ``begin`` is no place.
        BrokerError
            Workers are coming and going.
        CalendarError, ConfigError
            No such calendar, days or symbols.
        """
        sessions, clock_ns = live_sessions(self._settings, begin, end)
        return self._begin(
            NewRun(symbols, sessions, lockstep, readers, upkeep, needs_producer=False),
            lambda command: live_of(
                replace(command, streams=tuple(streams)), time.time_ns(), clock_ns
            ),
        )

    def _begin(self, run: NewRun, at: Callable[[Command], Command]) -> TapeState:
        command = command_to_start(self._settings, self._reader, run)
        return self._ask(at(command), "start", _is_told)

    def pause(self) -> TapeState:
        """Stop the clock of all shards at the furthest one's; it stands until `resume`.

        Raises
        ------
        CommandError
            No run is on, or it is paused already.
        """
        command, frames = self._on()
        if command.paused:
            msg = f"run {command.run} is paused already: `sessiontape resume` goes on"
            raise CommandError(msg)
        if command.mode == "live":  # the time goes on; `resume` catches up
            return self._ask(command, "pause", _is_paused, paused=True)
        anchor = _anchor(command, frames)
        state = self._ask(command, "pause", _is_paused, paused=True, **anchor)
        return state if state.waits_for else self._level()

    def resume(self) -> TapeState:
        """Go on where the clock stands, with the speed that the run had.

        Raises
        ------
        CommandError
            No run is on, or it is not paused.
        """
        command, frames = self._on()
        if not command.paused:
            msg = f"run {command.run} is not paused"
            raise CommandError(msg)
        anchor = {} if command.mode == "live" else _anchor(command, frames)
        return self._ask(command, "resume", _is_told, paused=False, **anchor)

    def speed(self, factor: float) -> TapeState:
        """Change the speed: tape seconds a wall second, 0 for as fast as it goes.

        Raises
        ------
        CommandError
            No run is on.
        ConfigError
            No speed.
        """
        if not 0 <= factor < float("inf"):
            msg = f"{factor} is no speed: max, or a number above 0"
            raise ConfigError(msg)
        command, frames = self._on()
        _check_replay(command, "speed")
        return self._ask(command, "speed", _is_told, speed=factor, **_anchor(command, frames))

    def step(self, slices: int = 1) -> TapeState:
        """Play the next slices of a paused run, over all shards, and pause behind them.

        Raises
        ------
        CommandError
            No run is on, it is not paused, or there is no further slice.
        ConfigError
            Less than one slice.
        """
        if slices < 1:
            msg = f"{slices} slices are no step: 1 or more"
            raise ConfigError(msg)
        command, frames = self._on()
        _check_replay(command, "step")
        if not command.paused:
            msg = f"run {command.run} is not paused: `sessiontape pause` first"
            raise CommandError(msg)
        clock_ns = clock_of(command, frames)
        ends = ends_of(command)
        behind = int(np.searchsorted(ends, clock_ns, "right"))
        if behind == len(ends):
            msg = f"run {command.run} has no further slice: `sessiontape resume` ends it"
            raise CommandError(msg)
        target_ns = int(ends[min(behind + slices, len(ends)) - 1])
        return self._ask(
            command,
            "step",
            lambda frame, _: frame.clock_ns >= target_ns,
            anchor_clock_ns=target_ns,
            anchor_wall_ns=time.time_ns(),
        )

    def seek(self, to: str | int) -> TapeState:
        """Begin anew at a session or a time, at the speed of the run, paused if it is.

        A new run plays from the open of that session up to the time as fast as it goes: the state
        there is that of a run that came by. At full speed there is no time to stop at.

        Parameters
        ----------
        to
            A session (YYYY-MM-DD), a time in the calendar's time zone (YYYY-MM-DDTHH:MM[:SS]), or
            ns since the epoch. A time between two sessions is the open of the later.

        Raises
        ------
        CommandError
            No run is on, or the place is not within its calendar and end.
        """
        command, _ = self._on()
        _check_replay(command, "seek")
        session, clock_ns = place_of(command, to)
        return self._ask(
            command,
            "seek",
            _is_told,
            run=sought_run(command.run),
            start=session.label,
            anchor_wall_ns=time.time_ns(),
            anchor_clock_ns=clock_ns,
        )

    def stop(self) -> TapeState:
        """End the run where it stands.

        Raises
        ------
        CommandError
            No run is on.
        """
        command, _ = self._on()
        return self._ask(command, "stop", lambda frame, _: frame.event == "end", stopped=True)

    def _on(self) -> tuple[Command, list[Frame]]:
        """Return the command that counts, and the last frames of its run, if it is on."""
        command, frames = run_that_is_on(self._settings, self._reader)
        if not frames:
            msg = f"run {command.run} has not begun: is its stack up (`sessiontape status`)?"
            raise CommandError(msg)
        return command, frames

    def _ask(
        self,
        command: Command,
        action: str,
        is_done: Callable[[Frame, Command], bool],
        **changes: Any,
    ) -> TapeState:
        """Send a command and wait until each shard follows, or has nothing to follow with."""
        asked = replace(command, version=command.version + 1, action=action, **changes)
        send_command(self._settings, asked)
        latest = latest_command(self._settings)
        if latest is not None and latest != asked:
            msg = "another command came at the same moment: look at `sessiontape status`"
            raise CommandError(msg)
        deadline_s = time.monotonic() + ANSWER_S
        while True:
            frames = {frame.shard: frame for frame in last_of(self._reader, asked.run)}
            waits = [
                shard
                for shard in self._reader.shards
                if shard not in frames or not _follows(frames[shard], asked, is_done)
            ]
            if not waits or time.monotonic() > deadline_s:
                return _state(asked, list(frames.values()), waits)
            time.sleep(POLL_S)

    def _level(self) -> TapeState:
        """Let every shard go on to the clock of the furthest: they paused one by one."""
        command, frames = self._on()
        target_ns = clock_of(command, frames)
        if all(is_at(frame, target_ns) for frame in counting(command, frames)):
            return _state(command, frames)
        return self._ask(
            command,
            "pause",
            lambda frame, _: _is_paused(frame, command) and is_at(frame, target_ns),
            **_anchor(command, frames),
        )


def _state(command: Command, frames: Sequence[Frame], waits_for: Sequence[int] = ()) -> TapeState:
    """Return how the tape stands, by the last frames of the shards that are in the run."""
    is_over = bool(frames) and all(frame.event == "end" for frame in frames)
    slowest = min(frames, key=lambda frame: frame.clock_ns, default=None)
    state = "paused" if command.paused else "running"
    return TapeState(
        run=command.run,
        state="stopped" if is_over or command.stopped else state,
        session=slowest.session if slowest is not None else "",
        clock_ns=slowest.clock_ns if slowest is not None else 0,
        speed=command.speed,
        waits_for=tuple(waits_for),
    )


def _check_replay(command: Command, action: str) -> None:
    """Check that a run can do what only a replay can."""
    if command.mode == "live":
        msg = (
            f"run {command.run} is live, and {action} is for replays: it goes by its own clock, "
            "and can only be paused, resumed and stopped"
        )
        raise CommandError(msg)


def _anchor(command: Command, frames: Sequence[Frame]) -> dict[str, int]:
    return {"anchor_clock_ns": clock_of(command, frames), "anchor_wall_ns": time.time_ns()}


def _follows(frame: Frame, asked: Command, is_done: Callable[[Frame, Command], bool]) -> bool:
    # By what it says, not by the version: a shard that stands so already says nothing more.
    return frame.event == "end" or is_done(frame, asked)


def _is_paused(frame: Frame, _: Command) -> bool:
    return frame.state == "paused"


def _is_told(frame: Frame, asked: Command) -> bool:
    return frame.speed == asked.speed and (frame.state == "paused") == asked.paused
