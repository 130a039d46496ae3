"""A recorded run played again as it was known, without printing: what the command line calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from schemas import Command
from streams.calendar import Session, sessions_between
from streams.client import Batch, SessionData
from streams.control import command_of, latest_command
from streams.errors import ConfigError, SessiontapeError
from streams.groups import members_of
from streams.intervals import interval_name
from streams.kafka import admin, topics_there
from streams.kept import KeptRun, read_kept
from streams.local.running import running_stack
from streams.local.stack import Stack
from streams.local.state import locked
from streams.outcome import Progress, ReplayResult
from streams.player import Player
from streams.run import Run
from streams.selection import check_derived, derived_of
from streams.settings import NAMESPACE, Settings
from streams.topics import Topics

__all__ = ["replay_as_known"]


def replay_as_known(
    settings: Settings,
    name: str,
    *,
    intervals: Sequence[str] = (),
    upkeep: bool = True,
    tables: bool = True,
    sink: bool = True,
    data: SessionData | None = None,
    on_batch: Callable[[Batch], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> ReplayResult:
    """Play a run that a tape holds onto the tape of another namespace, as it was known.

    The other tape gets the same rows, slices, marks, corrections and minutes in the same order, so
    both digests are those of the run. What is played is what is there at the start: a run of which
    the first sessions were deleted begins with the first that all shards hold, one that goes on
    ends where it stands. Clocks go at the speed of the settings; trailing days from before the run
    do not come again.

    Parameters
    ----------
    settings
        Where to, and how fast. Calendar and hours are those of the run; where the namespace of the
        run has forgotten them, those of the settings.
    name
        A namespace, for its last run, or namespace/run.
    intervals, upkeep, tables, sink, data, on_batch, on_progress, tell
        As those of `streams.replay.replay`; an upkeep derives bars, and asks for nothing.

    Raises
    ------
    ConfigError
        There is no such run, or what was asked for can't be.
    TopicError
        The namespaces differ in their partitions.
    SessiontapeError
        Another run goes in this namespace, or a part of the stack does not stay up.
    """
    derived = derived_of(intervals, has_upkeep=upkeep)
    settings = settings.but(derived_intervals=",".join({*settings.derived, *derived}))
    recorded = _Recorded(settings, name)
    busy = (
        f"another run goes in namespace {settings.namespace}: end it, or take another --namespace"
    )
    with ExitStack() as held:
        held.enter_context(locked(settings.data_dir, f"{settings.namespace}.replay", busy))
        if running_stack(settings) is not None:
            raise _is_coordinated(settings)
        stack = _PlayedStack(
            settings,
            coordinators=0,
            upkeep=upkeep,
            tables=tables,
            sink=sink,
            partitions=recorded.find,
            tell=tell,
        )
        held.enter_context(stack)
        check_derived(stack.settings, derived, has_upkeep=stack.has_upkeep)
        player = Player(recorded.origin, stack.settings, recorded.kept)
        stack.player = held.enter_context(closing(player))
        run = Run(
            stack,
            recorded.sessions,
            derived,
            data=data or SessionData(),
            on_batch=on_batch,
            on_progress=on_progress,
        )
        result = run.play(recorded.command, player.begin)
        player.tidy()
        return result


class _PlayedStack(Stack):
    """A stack whose tape is written by a player, and not by coordinators."""

    player: Player | None = None

    def check(self) -> None:
        """Raise what can't be mended, the player's fault too."""
        super().check()
        if self.player is not None:
            self.player.check()


class _Recorded:
    """The run that is played: found once the brokers are there, before anything is made.

    Attributes
    ----------
    origin
        Settings of its namespace.
    kept, sessions
        What its tape holds.
    command
        The command that plays it, but for version, run, readers and anchor.
    """

    origin: Settings
    kept: KeptRun
    sessions: tuple[Session, ...]
    command: Command

    def __init__(self, settings: Settings, name: str) -> None:
        self._namespace, _, self._run = name.partition("/")
        if not NAMESPACE.fullmatch(self._namespace):
            msg = f"{name} is no namespace and no namespace/run"
            raise ConfigError(msg)
        if self._namespace == settings.namespace:
            msg = f"a run can't be played onto its own tape {self._namespace}: name a --namespace"
            raise ConfigError(msg)

    def find(self, settings: Settings) -> int:
        """Find the run; return the number of its shards."""
        topics = Topics(settings.namespace)
        with admin(settings) as client:
            if members_of(client, {topics.coordinator}).get(topics.coordinator, (0, 0))[0]:
                raise _is_coordinated(settings)
        origin = self.origin = settings.but(namespace=self._namespace)
        there = topics_there(settings)
        if Topics(self._namespace).session not in there:
            msg = f"there is no namespace {self._namespace} on these brokers"
            raise ConfigError(msg)
        kept = self.kept = read_kept(origin, self._run)
        has = len(there[topics.session].partitions) if topics.session in there else kept.shards
        if has != kept.shards:
            msg = (
                f"namespace {settings.namespace} has {has} partitions, {self._namespace} has "
                f"{kept.shards}: take another --namespace"
            )
            raise ConfigError(msg)
        asked = latest_command(origin, kept.run)
        self.command = _command(settings, kept, asked)
        self.sessions = _sessions(self.command, kept)
        return kept.shards


def _command(settings: Settings, kept: KeptRun, asked: Command | None) -> Command:
    """Return the command that plays a kept run, by the last one it was played with, if known."""
    changes: dict[str, Any] = {"streams": kept.streams or ("bars",)}
    if asked is not None:
        names = ("calendar", "hours", "streams", "trailing_sessions")
        changes |= {name: getattr(asked, name) for name in names}
    sessions = [Session(*one) for one in kept.sessions]
    plain = command_of(settings, kept.symbols, sessions)
    # The trailing days would be those that are known today. A session that timed out stays so.
    return replace(
        plain,
        interval=interval_name(kept.interval_ns),
        historical=(),
        on_timeout="go_on",
        **changes,
    )


def _sessions(command: Command, kept: KeptRun) -> tuple[Session, ...]:
    """Return the sessions of a kept run as its calendar has them.

    Raises
    ------
    ConfigError
        They are not those of the calendar and the hours.
    """
    days = (command.calendar, command.start, command.end, command.hours)
    sessions = sessions_between(*days)
    for one in kept.sessions:
        if one not in {(found.label, found.open_ns, found.close_ns) for found in sessions}:
            msg = (
                f"session {one[0]} of run {kept.run} is not one of {command.calendar} with hours "
                f"{command.hours}: name its --calendar and --hours"
            )
            raise ConfigError(msg)
    return sessions


def _is_coordinated(settings: Settings) -> SessiontapeError:
    msg = (
        f"a stack of namespace {settings.namespace} runs, and its coordinators write the tape: end "
        "it with `sessiontape down`, or take another --namespace"
    )
    return SessiontapeError(msg)
