"""How the tape of a namespace stands, by the last frames of its shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas import Command, Frame
from schemas.records import Longs
from streams.calendar import sessions_between
from streams.control import latest_command
from streams.coverage import expected_ends
from streams.delivery import FrameReader
from streams.errors import CommandError
from streams.intervals import interval_ns
from streams.settings import Settings
from streams.topics import shards_of

__all__ = [
    "TapeState",
    "clock_of",
    "counting",
    "ends_of",
    "is_at",
    "is_over",
    "last_of",
    "no_run",
    "run_that_is_on",
]


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


def run_that_is_on(settings: Settings, reader: FrameReader) -> tuple[Command, list[Frame]]:
    """Return the command that counts, and the last frames of its run; none before it begins.

    Raises
    ------
    CommandError
        No run is on.
    """
    command = latest_command(settings)
    if command is None or command.stopped:
        raise no_run(settings)
    frames = last_of(reader, command.run)
    if is_over(reader, frames):
        raise no_run(settings)
    return command, frames


def is_over(reader: FrameReader, frames: Sequence[Frame]) -> bool:
    """Tell whether every shard has ended a run; ``frames`` are their last ones in it."""
    return len(frames) == len(reader.shards) and all(frame.event == "end" for frame in frames)


def last_of(reader: FrameReader, run: str) -> list[Frame]:
    """Return the last frame of each shard, of those that are in a run."""
    last = (one.frame for one in reader.last().values() if one is not None)
    return [frame for frame in last if frame.run == run]


def counting(command: Command, frames: Sequence[Frame]) -> Sequence[Frame]:
    """Return the frames of the shards that have something to play, all where none has.

    Those without symbols run ahead of the others, and may be at the end long before them.
    """
    names = shards_of(command.symbols, frames[0].shards)
    playing = [frame for frame in frames if names[frame.shard] and frame.event != "end"]
    return playing or frames


def clock_of(command: Command, frames: Sequence[Frame]) -> int:
    """Return where the clock of a run stands, or is to stand: of a seek the shards may be short."""
    clock_ns = max(frame.clock_ns for frame in counting(command, frames))
    is_bound = command.paused or command.speed > 0
    return max(clock_ns, command.anchor_clock_ns) if is_bound else clock_ns


def is_at(frame: Frame, clock_ns: int) -> bool:
    """Tell whether a shard has come to a clock; a session that is to open there may be closed."""
    is_before = frame.event == "roll" or frame.waiting
    return frame.clock_ns >= clock_ns or (is_before and frame.open_ns >= clock_ns)


def ends_of(command: Command) -> Longs:
    """Return the ready times of all bars that a run expects, ascending."""
    sessions = sessions_between(command.calendar, command.start, command.end, command.hours)
    length = interval_ns(command.interval)
    return np.concatenate([expected_ends(session, length) for session in sessions])


def no_run(settings: Settings) -> CommandError:
    """Return the error that says that no run is on."""
    msg = f"no run is on in namespace {settings.namespace}: start one, or name another"
    return CommandError(msg)
