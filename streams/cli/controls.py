"""``start``, ``pause``, ``resume``, ``speed``, ``step``, ``seek``, ``stop``: the run of a tape."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from streams.cli.options import Json, Namespace, hours_of, kinds_of, names, settings_of
from streams.cli.output import clock, note, print_json, print_line

if TYPE_CHECKING:
    from streams.controls import Controls
    from streams.standing import TapeState

__all__ = ["pause", "resume", "seek", "speed", "start", "step", "stop"]


def start(
    *,
    calendar: str | None = None,
    symbols: str | None = None,
    start: str | None = None,
    end: str | None = None,
    speed: str | None = None,
    kinds: str = "bars",
    extended_hours: Annotated[bool, Parameter(negative="")] = False,
    hours: str | None = None,
    session_timeout: float | None = None,
    on_timeout: Literal["go_on", "stop"] | None = None,
    prefetch: bool = True,
    paused: Annotated[bool, Parameter(negative="")] = False,
    lockstep: str | None = None,
    live: Annotated[bool, Parameter(negative="")] = False,
    namespace: Namespace = None,
    json: Json = False,
) -> int:
    """Begin a run on a stack that has a source; it goes on by itself.

    Parameters
    ----------
    calendar
        Calendar by its exchange_calendars name, such as XNYS or 24/7.
    symbols
        Symbols with commas between; all of the source when not given.
    start
        First session, YYYY-MM-DD; that of the source when not given.
    end
        Last session, inclusive.
    speed
        max, or tape seconds a wall second: 60 plays an hour a minute, 1 is real time.
    kinds
        Kinds of rows with commas between, of those that the source has: bars, quotes, ticks.
    extended_hours
        Pre-market and after-hours too.
    hours
        regular, extended, or HH:MM-HH:MM in the calendar's time zone.
    session_timeout
        Seconds without progress until a session is played incomplete.
    on_timeout
        What to do after such a session: go on, or stop.
    prefetch
        Whether sessions are asked for while the one before them plays.
    paused
        Let the clock stand until `sessiontape resume`.
    lockstep
        Consumer groups, with commas between, that the clock waits for behind each slice.
    live
        Take rows as they come, of a stack whose source is a feed; start may be a time of what a
        playback or a rehearsal plays.
    """
    from streams.local.start import start_run

    settings = settings_of(
        namespace=namespace,
        calendar=calendar,
        speed=speed,
        hours=hours_of(hours, extended=extended_hours),
        session_timeout_s=session_timeout,
        on_timeout=on_timeout,
        prefetch_sessions=None if prefetch else 0,
    )
    found = start_run(
        settings,
        names(symbols),
        start,
        end,
        streams=kinds_of(kinds),
        paused=paused,
        lockstep=names(lockstep) or (),
        live=live,
    )
    return _show(found, is_json=json)


def pause(*, namespace: Namespace = None, json: Json = False) -> int:
    """Stop the session clock; it stands until `sessiontape resume`."""
    return _asked(lambda controls: controls.pause(), namespace, is_json=json)


def resume(*, namespace: Namespace = None, json: Json = False) -> int:
    """Go on where the clock stands."""
    return _asked(lambda controls: controls.resume(), namespace, is_json=json)


def speed(factor: str, /, *, namespace: Namespace = None, json: Json = False) -> int:
    """Change the speed of the run.

    Parameters
    ----------
    factor
        max, or tape seconds a wall second: 1 is real time, 60 an hour a minute.
    """
    wanted = settings_of(speed=factor).speed_factor
    return _asked(lambda controls: controls.speed(wanted), namespace, is_json=json)


def step(slices: int = 1, /, *, namespace: Namespace = None, json: Json = False) -> int:
    """Play the next slices of a paused run, and pause behind them.

    Parameters
    ----------
    slices
        How many.
    """
    return _asked(lambda controls: controls.step(slices), namespace, is_json=json)


def seek(to: str, /, *, namespace: Namespace = None, json: Json = False) -> int:
    """Begin anew at a session or a time; the state there is that of a run that came by.

    Parameters
    ----------
    to
        A session (YYYY-MM-DD), or a time in the calendar's time zone (YYYY-MM-DDTHH:MM).
    """
    return _asked(lambda controls: controls.seek(to), namespace, is_json=json)


def stop(*, namespace: Namespace = None, json: Json = False) -> int:
    """End the run where it stands."""
    return _asked(lambda controls: controls.stop(), namespace, is_json=json)


def _asked(ask: Callable[[Controls], TapeState], namespace: str | None, *, is_json: bool) -> int:
    """Ask, and say how the tape stands then."""
    from streams.controls import Controls
    from streams.local.running import connected

    with Controls(settings=connected(settings_of(namespace=namespace))) as controls:
        return _show(ask(controls), is_json=is_json)


def _show(found: TapeState, *, is_json: bool) -> int:
    """Say how the tape stands; 1 where a shard does not follow."""
    from dataclasses import asdict

    if is_json:
        print_json(asdict(found))
    else:
        factor = "max" if found.speed == 0 else f"{found.speed:g}"
        where = f"session {found.session or '-'}, clock {clock(found.clock_ns)} UTC"
        print_line(f"{found.state}: run {found.run}, {where}, speed {factor}")
    if found.waits_for:
        shards = ", ".join(map(str, found.waits_for))
        note(f"shard {shards} does not follow yet: it waits for its data, or has no worker")
    return 1 if found.waits_for else 0
