"""``replay``: parse, run, print."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from streams.cli.options import Json, Namespace, names, settings_of
from streams.cli.output import Bar, bar, clock, note, print_json, print_line, print_table

if TYPE_CHECKING:
    from streams.replay import Progress, ReplayResult

__all__ = ["moved", "replay", "result_lines"]

Count = Annotated[int | None, Parameter(validator=Number(gte=1, lte=1024))]
WORST = 5


def replay(
    *,
    source: str,
    calendar: str | None = None,
    symbols: str | None = None,
    start: str | None = None,
    end: str | None = None,
    speed: str | None = None,
    kinds: str = "bars",
    partitions: Count = None,
    workers: Count = None,
    namespace: Namespace = None,
    extended_hours: Annotated[bool, Parameter(negative="")] = False,
    hours: str | None = None,
    session_timeout: float | None = None,
    on_timeout: Literal["go_on", "stop"] | None = None,
    sink: bool = True,
    tables: bool = True,
    json: Json = False,
) -> int:
    """Replay the sessions of a source.

    Parameters
    ----------
    source
        Where the rows come from: lean:DIR, csv:PATH, parquet:PATH, synthetic:[key=value,...] or
        clickhouse:DSN.
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
        Streams with commas between; bars is the one there is.
    partitions
        Shards of the namespace; those it has when not given.
    workers
        Number of coordinators of a stack of our own.
    extended_hours
        Pre-market and after-hours too.
    hours
        regular, extended, or HH:MM-HH:MM in the calendar's time zone.
    session_timeout
        Seconds without progress until a session is played incomplete.
    on_timeout
        What to do after such a session: go on, or stop.
    sink
        Whether a stack of our own writes the tape to ClickHouse.
    tables
        Whether a stack of our own keeps the session_data tables.
    """
    from streams.errors import ConfigError
    from streams.replay import replay as run

    if kinds != "bars":
        msg = f"--kinds {kinds}: bars is the one stream that can be replayed"
        raise ConfigError(msg)
    if extended_hours and hours not in (None, "extended"):
        msg = "--extended-hours and --hours say two different things: give one of them"
        raise ConfigError(msg)
    settings = settings_of(
        namespace=namespace,
        calendar=calendar,
        speed=speed,
        hours="extended" if extended_hours else hours,
        session_timeout_s=session_timeout,
        on_timeout=on_timeout,
    )
    with bar("replay") as shown:
        result = run(
            settings,
            source,
            symbols=names(symbols),
            start=start,
            end=end,
            workers=workers,
            partitions=partitions,
            tables=tables,
            sink=sink,
            on_progress=moved(shown),
            tell=shown.say,
        )
    warn(result)
    if json:
        print_json(result.as_dict())
    else:
        result_lines(result)
    return 0


def moved(shown: Bar) -> Any:
    """Return what moves a progress bar with a replay."""

    def move(at: Progress) -> None:
        rate = at.rows / at.elapsed_s if at.elapsed_s > 0 else 0.0
        what = f"session {at.closed}/{at.sessions} {clock(at.clock_ns)} {rate:,.0f} rows/s"
        shown.move(at.share, what)

    return move


def warn(result: ReplayResult) -> None:
    """Say which sessions are not whole, on stderr."""
    for one in result.incomplete:
        note(f"warning: session {one.session} is incomplete: {one.reason}")
    if result.rejected:
        topic = f"{result.namespace}.rejected"
        note(f"warning: {result.rejected} messages or rows were refused, with reasons on {topic}")


def result_lines(result: ReplayResult) -> None:
    """Print a result for people."""
    quality = sorted(result.quality.items(), key=lambda pair: (pair[1], pair[0]))
    times = result.transition_ms
    rows = [
        ("run", f"{result.namespace}/{result.run}"),
        ("sessions", f"{result.sessions:,}"),
        ("bars", f"{result.bars:,}"),
        ("seconds", f"{result.elapsed_s:.3f}"),
        ("bars/s", f"{result.bars / result.elapsed_s:,.0f}"),
        ("gaps", f"{result.gaps_found:,} found, {result.gaps_filled:,} filled"),
        (
            "transition",
            "-"
            if times is None
            else f"p50 {times['p50']:.1f} ms, p99 {times['p99']:.1f} ms, max {times['max']:.1f} ms",
        ),
        ("digest", result.digest),
        ("as known", result.digest_as_known),
    ]
    print_table("", ("", ""), rows)
    if quality:
        print_table(
            f"\nquality, the {min(WORST, len(quality))} worst of {len(quality)} symbols",
            ("symbol", "quality>"),
            [(name, f"{value:.2f} %") for name, value in quality[:WORST]],
        )
    print_line("")
