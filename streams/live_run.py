"""A live run from the command to the result, without printing: what the command line calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from schemas import Command
from streams.client import Batch, SessionData
from streams.control import command_of, live_of
from streams.feeds import open_feed
from streams.local.attach import a_stack
from streams.outcome import Progress, ReplayResult
from streams.places import live_sessions
from streams.run import Run, run_on
from streams.selection import derived_of, live_selection
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
    chosen = live_selection(settings, source, fallbacks, symbols, (begin, end))
    if source:
        open_feed(source)  # the feeder opens it again; here it is only held to be right
    sessions, clock_ns = live_sessions(settings, chosen.begin, chosen.end)
    derived = derived_of(intervals, has_upkeep=upkeep)
    settings = settings.but(derived_intervals=",".join({*settings.derived, *derived}))

    def now(command: Command) -> Command:
        return live_of(replace(command, streams=tuple(streams)), time.time_ns(), clock_ns)

    busy = (
        f"another run goes in namespace {settings.namespace}: end it, or take another --namespace"
    )
    make = partial(
        a_stack,
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
    with run_on(
        settings,
        make,
        sessions,
        derived,
        busy=busy,
        data=data,
        on_batch=on_batch,
        on_progress=on_progress,
    ) as run:
        on_run(run)
        has_upkeep = upkeep and run.has_upkeep
        return run.play(command_of(settings, chosen.symbols, sessions, upkeep=has_upkeep), now)
