"""Start, pause, resume, speed, step, seek and stop: commands that begin and change a run.

Each waits until every shard of the tape says that it follows, so that what comes back is how the
tape stands, and not only what was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from schemas import Command, Frame
from schemas.records import Longs
from streams.calendar import sessions_between
from streams.control import command_of, latest_command, new_run, send_command, sought_run
from streams.coverage import expected_ends
from streams.delivery import FrameReader
from streams.errors import CommandError, ConfigError
from streams.intervals import interval_ns
from streams.kafka import admin, members_of
from streams.places import place_of
from streams.settings import Settings, load
from streams.topics import Topics, shards_of

__all__ = ["Controls", "TapeState", "run_that_is_on"]

ANSWER_S = 10.0
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class TapeState:
    """How the tape of a namespace stands.

    Attributes
    ----------
    run
        Id of the run.
    state
        ``running``, ``paused`` or ``stopped`` (over, too).
    session
        Label of the session that plays or comes; empty before the first and behind the last.
    clock_ns
        Session clock that every shard has reached, ns since the epoch, UTC.
    speed
        Tape seconds a wall second; 0 for as fast as it goes.
    waits_for
        Shards that do not follow yet: they wait for their data, or nobody owns them.
    """

    run: str
    state: str
    session: str
    clock_ns: int
    speed: float
    waits_for: tuple[int, ...] = ()


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
        self._reader = FrameReader(self._settings)

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
            raise _no_run(self._settings)
        return self._state(command, ())

    def start(
        self,
        symbols: Sequence[str],
        start: str,
        end: str,
        *,
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
        paused
            Whether the clock stands until `resume`.
        lockstep
            Consumer groups that the clock waits for behind each slice, as those of
            ``SessionStream(group=…, lockstep=True)``.
        readers
            Consumer groups that the tape waits for before it deletes what they have not read;
            default: those of the tables, the upkeep and the sink, as far as they are there.
        upkeep
            Whether gaps are filled and longer bars derived; default: where there is an upkeep.

        Raises
        ------
        CommandError
            A run is on, or nobody answers requests.
        CalendarError, ConfigError
            No such calendar, days or symbols.
        """
        settings = self._settings
        if not symbols:
            msg = "a run needs symbols: name one or more"
            raise ConfigError(msg)
        sessions = sessions_between(settings.calendar, start, end, settings.hours)
        latest = latest_command(settings)
        if latest is not None and not latest.stopped and self._is_on(latest):
            msg = f"run {latest.run} is on in namespace {settings.namespace}: stop it first"
            raise CommandError(msg)
        there = self._groups()
        topics = Topics(settings.namespace)
        if topics.producer not in there:
            msg = (
                f"nobody answers requests in namespace {settings.namespace}: start its stack with "
                "a source (`sessiontape up --source …`)"
            )
            raise CommandError(msg)
        if readers is None:
            readers = [g for g in (topics.sink, topics.tables, topics.upkeep) if g in there]
        has_upkeep = topics.upkeep in there if upkeep is None else upkeep
        asked = replace(
            command_of(
                settings, sorted(set(symbols)), sessions, upkeep=has_upkeep, lockstep=lockstep
            ),
            version=0 if latest is None else latest.version,
            run=new_run(),
            readers=tuple(readers),
            paused=paused,
        )
        return self._ask(asked, "start", _is_told, anchor_wall_ns=time.time_ns())

    def _is_on(self, command: Command) -> bool:
        """Tell whether a run goes on, or is still to begin."""
        frames = _last_of(self._reader, command.run)
        return len(frames) < len(self._reader.shards) or any(f.event != "end" for f in frames)

    def _groups(self) -> set[str]:
        """Return the groups of the namespace that have members; the sink's where it has read."""
        topics = Topics(self._settings.namespace)
        with admin(self._settings) as client:
            found = members_of(client, {topics.producer, topics.tables, topics.upkeep})
        there = {group for group, (members, _) in found.items() if members}
        with FrameReader(self._settings, topics.sink) as reader:
            if any(offset is not None for offset in reader.committed().values()):
                there.add(topics.sink)
        return there

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
        anchor = _anchor(command, frames)
        state = self._ask(command, "pause", _is_paused, paused=True, **anchor)
        return state if state.waits_for else self._level(state)

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
        return self._ask(command, "resume", _is_told, paused=False, **_anchor(command, frames))

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
        if not command.paused:
            msg = f"run {command.run} is not paused: `sessiontape pause` first"
            raise CommandError(msg)
        clock_ns = _clock_ns(command, frames)
        ends = _ends(command)
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
            frames = {frame.shard: frame for frame in _last_of(self._reader, asked.run)}
            waits = [
                shard
                for shard in self._reader.shards
                if shard not in frames or not _follows(frames[shard], asked, is_done)
            ]
            if not waits or time.monotonic() > deadline_s:
                return self._state(asked, waits)
            time.sleep(POLL_S)

    def _level(self, state: TapeState) -> TapeState:
        """Let every shard go on to the clock of the furthest: they paused one by one."""
        command, frames = self._on()
        target_ns = _clock_ns(command, frames)
        if all(_is_at(frame, target_ns) for frame in _counting(command, frames)):
            return state
        return self._ask(
            command,
            "pause",
            lambda frame, _: _is_paused(frame, command) and _is_at(frame, target_ns),
            **_anchor(command, frames),
        )

    def _state(self, command: Command, waits: Sequence[int]) -> TapeState:
        frames = _last_of(self._reader, command.run)
        is_over = bool(frames) and all(frame.event == "end" for frame in frames)
        slowest = min(frames, key=lambda frame: frame.clock_ns, default=None)
        state = "paused" if command.paused else "running"
        return TapeState(
            run=command.run,
            state="stopped" if is_over or command.stopped else state,
            session=slowest.session if slowest is not None else "",
            clock_ns=slowest.clock_ns if slowest is not None else 0,
            speed=command.speed,
            waits_for=tuple(waits),
        )


def run_that_is_on(settings: Settings, reader: FrameReader) -> tuple[Command, list[Frame]]:
    """Return the command that counts, and the last frames of its run; none before it begins.

    Raises
    ------
    CommandError
        No run is on.
    """
    command = latest_command(settings)
    if command is None or command.stopped:
        raise _no_run(settings)
    frames = _last_of(reader, command.run)
    if len(frames) == len(reader.shards) and all(frame.event == "end" for frame in frames):
        raise _no_run(settings)
    return command, frames


def _last_of(reader: FrameReader, run: str) -> list[Frame]:
    """Return the last frame of each shard, of those that are in a run."""
    last = (one.frame for one in reader.last().values() if one is not None)
    return [frame for frame in last if frame.run == run]


def _counting(command: Command, frames: Sequence[Frame]) -> Sequence[Frame]:
    """Return the frames of the shards that have something to play, all where none has.

    Those without symbols run ahead of the others, and may be at the end long before them.
    """
    names = shards_of(command.symbols, frames[0].shards)
    playing = [frame for frame in frames if names[frame.shard] and frame.event != "end"]
    return playing or frames


def _clock_ns(command: Command, frames: Sequence[Frame]) -> int:
    """Return where the clock of a run stands, or is to stand: of a seek the shards may be short."""
    clock_ns = max(frame.clock_ns for frame in _counting(command, frames))
    is_bound = command.paused or command.speed > 0
    return max(clock_ns, command.anchor_clock_ns) if is_bound else clock_ns


def _anchor(command: Command, frames: Sequence[Frame]) -> dict[str, int]:
    return {"anchor_clock_ns": _clock_ns(command, frames), "anchor_wall_ns": time.time_ns()}


def _is_at(frame: Frame, clock_ns: int) -> bool:
    """Tell whether a shard has come to a clock; a session that is to open there may be closed."""
    is_before = frame.event == "roll" or frame.waiting
    return frame.clock_ns >= clock_ns or (is_before and frame.open_ns >= clock_ns)


def _ends(command: Command) -> Longs:
    sessions = sessions_between(command.calendar, command.start, command.end, command.hours)
    length = interval_ns(command.interval)
    return np.concatenate([expected_ends(session, length) for session in sessions])


def _follows(frame: Frame, asked: Command, is_done: Callable[[Frame, Command], bool]) -> bool:
    # By what it says, not by the version: a shard that stands so already says nothing more.
    return frame.event == "end" or is_done(frame, asked)


def _is_paused(frame: Frame, _: Command) -> bool:
    return frame.state == "paused"


def _is_told(frame: Frame, asked: Command) -> bool:
    return frame.speed == asked.speed and (frame.state == "paused") == asked.paused


def _no_run(settings: Settings) -> CommandError:
    msg = f"no run is on in namespace {settings.namespace}: start one, or name another"
    return CommandError(msg)
