"""A run begun on the stack that runs on this machine, from the source that the stack has."""

from __future__ import annotations

from collections.abc import Sequence

from streams.controls import Controls
from streams.errors import ConfigError, SessiontapeError
from streams.local.groups import readers_of
from streams.local.running import running_stack
from streams.selection import (
    check_streams,
    is_feed,
    live_selection,
    opened_sources,
    range_of,
    symbols_of,
)
from streams.settings import Settings
from streams.standing import TapeState

__all__ = ["start_run"]


def start_run(
    settings: Settings,
    symbols: Sequence[str] | None,
    start: str | None,
    end: str | None,
    *,
    streams: Sequence[str] = ("bars",),
    paused: bool = False,
    lockstep: Sequence[str] = (),
    live: bool = False,
) -> TapeState:
    """Begin a run; what is not given is that of the stack's source.

    Parameters
    ----------
    settings
        Namespace, calendar, hours, speed and time-outs.
    symbols
        Symbols; None for all of the source.
    start, end
        First and last session, YYYY-MM-DD, both inclusive; None for those of the source.
    streams
        Kinds of rows that are played: bars, quotes, ticks.
    paused
        Whether the clock stands until it is resumed.
    lockstep
        Consumer groups that the clock waits for behind each slice.
    live
        Whether rows are taken as they come, from a stack whose source is a feed: of one that plays
        what was ``start`` may be a time, of others there is neither start nor end.

    Raises
    ------
    SessiontapeError
        No stack of the namespace is up here, or it has no source.
    CommandError
        A run is on.
    ConfigError, CalendarError, SourceError
        What was asked for can't be.
    """
    state = running_stack(settings)
    if state is not None and not state.is_ready:
        msg = f"the stack of namespace {state.namespace} is still starting: try again soon"
        raise SessiontapeError(msg)
    if state is None or state.kind != "up":
        msg = (
            f"no stack of namespace {settings.namespace} is up here: `sessiontape up --source …`, "
            "or, for one that runs elsewhere, `streams.Controls(…).start(…)`"
        )
        raise SessiontapeError(msg)
    if not state.source:
        msg = (
            f"the stack of namespace {settings.namespace} has no source: end it with `sessiontape "
            "down`, and start it by `sessiontape up --source …`"
        )
        raise SessiontapeError(msg)
    connected = settings.but(bootstrap_servers=state.bootstrap_servers)
    has_upkeep, readers = "upkeep" in state.workers, readers_of(settings, list(state.workers))
    if live:
        if not is_feed(state.source):
            msg = (
                f"{state.source} gives nothing as it happens: `sessiontape up --source "
                f"playback:{state.source}` plays it so"
            )
            raise ConfigError(msg)
        chosen = live_selection(settings, state.source, state.fallbacks, symbols, (start, end))
        with Controls(settings=connected) as controls:
            return controls.go_live(
                chosen.symbols,
                streams=streams,
                begin=chosen.begin,
                end=chosen.end,
                lockstep=lockstep,
                readers=readers,
                upkeep=has_upkeep,
            )
    source, others = opened_sources(settings, state.source, state.fallbacks)
    check_streams(source, state.source, streams)
    names = symbols_of(source, state.source, symbols, others)
    first, last = range_of(source, state.source, start, end)
    with Controls(settings=connected) as controls:
        return controls.start(
            names,
            first,
            last,
            streams=streams,
            paused=paused,
            lockstep=lockstep,
            readers=readers,
            upkeep=has_upkeep,
        )
