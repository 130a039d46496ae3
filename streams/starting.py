"""What a run that begins needs to know: whether it may, who reads it, and who is there for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas import Command
from streams.calendar import Session
from streams.control import command_of, latest_command, new_run
from streams.delivery import FrameReader
from streams.errors import CommandError, ConfigError
from streams.groups import settled_members
from streams.kafka import admin
from streams.settings import Settings
from streams.standing import is_over, last_of
from streams.topics import Topics

__all__ = ["NewRun", "command_to_start"]

SETTLED_S = 10.0


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that is to begin.

    Attributes
    ----------
    symbols, sessions
        What is played.
    lockstep
        Consumer groups that the clock waits for behind each slice.
    readers
        Consumer groups that the tape waits for; None: those of the workers that are there.
    upkeep
        Whether gaps are filled and longer bars derived; None: where there is an upkeep.
    needs_producer
        Whether nothing comes without somebody who answers requests.
    """

    symbols: Sequence[str]
    sessions: Sequence[Session]
    lockstep: Sequence[str] = ()
    readers: Sequence[str] | None = None
    upkeep: bool | None = None
    needs_producer: bool = True


def command_to_start(settings: Settings, reader: FrameReader, run: NewRun) -> Command:
    """Return the command that starts a run, with the version of the last one; no anchor yet.

    Raises
    ------
    CommandError
        A run is on, or nobody answers requests.
    BrokerError
        Workers are coming and going.
    ConfigError
        No symbols.
    """
    if not run.symbols:
        msg = "a run needs symbols: name one or more"
        raise ConfigError(msg)
    latest = latest_command(settings)
    frames = [] if latest is None else last_of(reader, latest.run)
    if latest is not None and not (latest.stopped or is_over(reader, frames)):
        msg = f"run {latest.run} is on in namespace {settings.namespace}: stop it first"
        raise CommandError(msg)
    topics = Topics(settings.namespace)
    with admin(settings) as client:
        groups = {topics.producer, topics.tables, topics.upkeep}
        there = settled_members(client, groups, SETTLED_S)
    if run.needs_producer and not there[topics.producer]:
        msg = (
            f"nobody answers requests in namespace {settings.namespace}: start its stack with "
            "a source (`sessiontape up --source …`)"
        )
        raise CommandError(msg)
    readers = run.readers
    if readers is None:
        readers = [group for group in (topics.tables, topics.upkeep) if there[group]]
    has_upkeep = there[topics.upkeep] > 0 if run.upkeep is None else run.upkeep
    names = sorted(set(run.symbols))
    lockstep = run.lockstep
    plain = command_of(settings, names, run.sessions, upkeep=has_upkeep, lockstep=lockstep)
    version = 0 if latest is None else latest.version
    return replace(plain, version=version, run=new_run(), readers=tuple(readers))
