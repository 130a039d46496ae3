"""``live``: parse, run, print."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from streams.cli.options import Json, Namespace, hours_of, kinds_of, names, settings_of
from streams.cli.output import bar, print_json
from streams.cli.replay import moved, result_lines, warn

if TYPE_CHECKING:
    from streams.run import Run

__all__ = ["live"]


def live(
    *,
    source: str | None = None,
    fallback: Annotated[list[str] | None, Parameter(negative="")] = None,
    calendar: str | None = None,
    symbols: str | None = None,
    kinds: str = "bars",
    interval: str | None = None,
    begin: str | None = None,
    end: str | None = None,
    speed: str | None = None,
    lateness: float | None = None,
    partitions: Annotated[int | None, Parameter(validator=Number(gte=1, lte=1024))] = None,
    workers: Annotated[int | None, Parameter(validator=Number(gte=1, lte=1024))] = None,
    namespace: Namespace = None,
    extended_hours: Annotated[bool, Parameter(negative="")] = False,
    hours: str | None = None,
    upkeep: bool = True,
    sink: bool = True,
    tables: bool = True,
    json: Json = False,
) -> int:
    """Take rows of a feed as they come; Ctrl-C ends the run and says what came to be.

    Parameters
    ----------
    source
        Where the rows come from: alpaca:, coinbase:, playback:SOURCE or rehearsal:…:SOURCE; none
        where others send them, such as `sessiontape ingest`.
    fallback
        Source that is asked for a gap after the feed's own history; give it again for more.
    calendar
        Calendar by its exchange_calendars name, such as XNYS or 24/7.
    symbols
        Symbols with commas between that are expected to report.
    kinds
        Streams with commas between: bars, quotes, ticks.
    interval
        Lengths of bars that are read beside those of 1m, with commas between, such as 5m,15m.
    begin
        Of a rehearsal: the session, or the time in the calendar's zone, at which it begins.
    end
        Of a rehearsal: its last session.
    speed
        Of a rehearsal: tape seconds a wall second.
    lateness
        Seconds behind the end of a minute after which nothing more is waited for.
    partitions
        Shards of the namespace; those it has when not given.
    workers
        Number of coordinators of a stack of our own.
    extended_hours
        Pre-market and after-hours too.
    hours
        regular, extended, or HH:MM-HH:MM in the calendar's time zone.
    upkeep
        Whether gaps are filled and longer bars derived, as far as the stack has an upkeep.
    sink
        Whether a stack of our own writes the tape to ClickHouse.
    tables
        Whether a stack of our own keeps the session_data tables.
    """
    from streams.live_run import live as run

    settings = settings_of(
        namespace=namespace,
        calendar=calendar,
        speed=speed,
        lateness_s=lateness,
        hours=hours_of(hours, extended=extended_hours),
    )
    with bar("live") as shown:
        result = run(
            settings,
            source or "",
            fallbacks=fallback or (),
            symbols=names(symbols),
            streams=kinds_of(kinds),
            begin=begin,
            end=end,
            intervals=names(interval) or (),
            workers=workers,
            partitions=partitions,
            upkeep=upkeep,
            tables=tables,
            sink=sink,
            on_progress=moved(shown),
            tell=shown.say,
            on_run=_end_on_signals,
        )
    warn(result)
    if json:
        print_json(result.as_dict())
    else:
        result_lines(result)
    return 0


def _end_on_signals(run: Run) -> None:
    """Let Ctrl-C and SIGTERM end the run, and not us: a second one does."""

    def asked(*_: object) -> None:
        run.end()
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, asked)
