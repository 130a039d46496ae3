"""A live run from the command to the result, without printing: what the command line calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from schemas import Command
from streams.client import Batch, SessionData
from streams.control import command_of, live_of
from streams.errors import ConfigError
from streams.feeds import open_feed
from streams.local.attach import a_stack
from streams.local.state import locked
from streams.outcome import Progress, ReplayResult
from streams.places import rehearsed
from streams.replay import Run
from streams.selection import (
    check_derived,
    derived_of,
    is_of_the_past,
    opened_sources,
    range_of,
    sessions_from,
    symbols_of,
)
from streams.settings import Settings

__all__ = ["live"]


def live(
    settings: Settings,
    source: str = "",
    *,
    fallbacks: Sequence[str] = (),
    symbols: Sequence[str] | None = None,
    streams: Sequence[str] = ("bars",),
    begin: str | None = None,
    end: str | None = None,
    intervals: Sequence[str] = (),
    workers: int | None = None,
    partitions: int | None = None,
    upkeep: bool = True,
    tables: bool = True,
    sink: bool = True,
    data: SessionData | None = None,
    on_batch: Callable[[Batch], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
    on_run: Callable[[Run], None] = lambda _: None,
) -> ReplayResult:
    """Take rows as they come, until the run is stopped or over; return what came to be.

    The stack is the one that runs, or one of our own. Calendar, hours, lateness and, of a
    rehearsal, speed are those of the settings.

    Parameters
    ----------
    settings
        Where and how.
    source
        URI of a feed, see ``streams.feeds``; empty: rows come from elsewhere, by ``sessiontape
        ingest`` or any producer.
    fallbacks
        URIs of sources that are asked for a gap after the feed's own.
    symbols
        Symbols that are expected to report; None for all of a feed that plays what was.
    streams
        Streams of the run.
    begin, end
        Of a feed that plays what was: the session or time at which it begins, and the last
        session; None for those that its source has.
    intervals, workers, partitions, upkeep, tables, sink, data, on_batch, on_progress, tell
        As those of `streams.replay.replay`.
    on_run
        Given the run before it begins: `Run.end` stops it.

    Raises
    ------
    ConfigError, CalendarError, SourceError, CommandError
        What was asked for can't be.
    SessiontapeError
        Another run goes in this namespace, or a part of the stack does not stay up.
    """
    names, begin, end = _selected(settings, source, fallbacks, symbols, (begin, end))
    clock_ns = 0
    sessions = sessions_from(settings, time.time_ns()) if begin is None else ()
    if begin is not None:
        sessions, clock_ns = rehearsed(settings, begin, end)
    derived = derived_of(intervals, has_upkeep=upkeep)
    settings = settings.but(derived_intervals=",".join({*settings.derived, *derived}))

    def now(command: Command) -> Command:
        return live_of(replace(command, streams=tuple(streams)), time.time_ns(), clock_ns)

    busy = (
        f"another run goes in namespace {settings.namespace}: end it, or take another --namespace"
    )
    with ExitStack() as held:
        held.enter_context(locked(settings.data_dir, f"{settings.namespace}.replay", busy))
        stack = a_stack(
            settings,
            source,
            fallbacks=fallbacks,
            feed=source,
            workers=workers,
            partitions=partitions,
            upkeep=upkeep,
            tables=tables,
            sink=sink,
            tell=tell,
        )
        held.enter_context(stack)
        check_derived(stack.settings, derived, has_upkeep=stack.has_upkeep)
        run = Run(
            stack,
            sessions,
            derived,
            data=data or SessionData(),
            on_batch=on_batch,
            on_progress=on_progress,
        )
        on_run(run)
        has_upkeep = upkeep and stack.has_upkeep
        return run.play(command_of(settings, names, sessions, upkeep=has_upkeep), now)


def _selected(
    settings: Settings,
    source: str,
    fallbacks: Sequence[str],
    symbols: Sequence[str] | None,
    span: tuple[str | None, str | None],
) -> tuple[tuple[str, ...], str | None, str | None]:
    """Return the symbols, and of a feed that plays what was its begin and end."""
    begin, end = span
    if not source:
        if not symbols:
            msg = "without a --source the symbols that are to come have to be named: --symbols"
            raise ConfigError(msg)
        return tuple(sorted(set(symbols))), begin, end
    open_feed(source)
    opened, others = opened_sources(settings, source, fallbacks)
    if is_of_the_past(source):
        first, last = range_of(opened, source, begin and begin.partition("T")[0], end)
        return symbols_of(opened, source, symbols, others), begin or first, end or last
    if begin or end:
        msg = f"{source} goes by the clock on the wall: --begin and --end are for what is rehearsed"
        raise ConfigError(msg)
    if not symbols:
        msg = f"{source} does not say which symbols: name them by --symbols"
        raise ConfigError(msg)
    return tuple(sorted(set(symbols))), None, None
