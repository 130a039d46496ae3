"""One replay from the command to the result, without printing: what command line and bench call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from streams.calendar import sessions_between
from streams.client import Batch, SessionData
from streams.control import command_of
from streams.local.attach import AttachedStack, a_stack
from streams.local.stack import Stack
from streams.outcome import Progress, ReplayResult
from streams.run import run_on
from streams.selection import check_streams, derived_of, opened_sources, range_of, symbols_of
from streams.settings import Settings

__all__ = ["Progress", "ReplayResult", "replay"]


def replay(
    settings: Settings,
    source: str,
    *,
    fallbacks: Sequence[str] = (),
    withhold: str = "",
    symbols: Sequence[str] | None = None,
    start: str | None = None,
    end: str | None = None,
    streams: Sequence[str] = ("bars",),
    intervals: Sequence[str] = (),
    lockstep: Sequence[str] = (),
    workers: int | None = None,
    partitions: int | None = None,
    upkeep: bool = True,
    tables: bool = True,
    sink: bool = True,
    data: SessionData | None = None,
    on_batch: Callable[[Batch], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
    on_stack: Callable[[Stack | AttachedStack], None] = lambda _: None,
) -> ReplayResult:
    """Replay a source; use the stack that runs, or start one and stop it at the end.

    Calendar, hours, speed, timeouts and prefetch are those of the settings.

    Parameters
    ----------
    settings
        Where and how.
    source
        URI of the source, see ``streams.sources``.
    fallbacks
        URIs of those that are asked for what it lacks, in order.
    withhold
        What the source is made to lack, such as ``2%@7``: see ``streams.sources.withheld``.
    symbols
        Symbols; None for all of the source.
    start, end
        First and last session, YYYY-MM-DD, both inclusive; None for those of the source.
    streams
        Kinds of rows that are played: bars, quotes, ticks.
    intervals
        Lengths of derived bars that come into ``data``, too, beside the bars of 1m.
    lockstep
        Consumer groups that the clock waits for behind each slice.
    workers, partitions
        Coordinators and shards; None takes what there is.
    upkeep
        Whether gaps are filled and longer bars derived; a running stack may have no upkeep.
    tables, sink
        Whether a stack of our own has the session_data tables and the sink.
    data
        The replica that is fed; default one of our own.
    on_batch
        Called with each batch when it is in ``data``.
    on_progress, tell
        Told where the replay stands; told in words what is done and what goes wrong.
    on_stack
        Given the stack once it is up.

    Raises
    ------
    ConfigError, CalendarError, SourceError
        What was asked for can't be.
    SessiontapeError
        Another replay plays in this namespace, or a part of the stack does not stay up.
    """
    opened, others = opened_sources(settings, source, fallbacks, withhold)
    check_streams(opened, source, streams)
    names = symbols_of(opened, source, symbols, others)
    first, last = range_of(opened, source, start, end)
    sessions = sessions_between(settings.calendar, first, last, settings.hours)
    derived = derived_of(intervals, has_upkeep=upkeep)
    settings = settings.but(derived_intervals=",".join({*settings.derived, *derived}))
    busy = (
        f"another replay plays in namespace {settings.namespace}: wait for it, or take another "
        "--namespace"
    )
    make = partial(
        a_stack,
        settings,
        source,
        fallbacks=fallbacks,
        withhold=withhold,
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
        on_stack=on_stack,
    ) as run:
        has_upkeep = upkeep and run.has_upkeep
        asked = command_of(settings, names, sessions, upkeep=has_upkeep, lockstep=lockstep)
        return run.play(replace(asked, streams=tuple(streams)))
