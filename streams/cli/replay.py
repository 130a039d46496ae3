"""``replay``: parse, run, print."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from streams.cli.options import Json, Namespace, hours_of, kinds_of, names, settings_of
from streams.cli.output import Bar, bar, clock, note, print_json, print_line, print_table

if TYPE_CHECKING:
    from streams.replay import Progress, ReplayResult

__all__ = ["moved", "replay", "result_lines"]

Count = Annotated[int | None, Parameter(validator=Number(gte=1, lte=1024))]
WORST = 5


def replay(
    *,
    source: str | None = None,
    as_known: str | None = None,
    fallback: Annotated[list[str] | None, Parameter(negative="")] = None,
    withhold: str | None = None,
    calendar: str | None = None,
    symbols: str | None = None,
    start: str | None = None,
    end: str | None = None,
    speed: str | None = None,
    kinds: str = "bars",
    interval: str | None = None,
    partitions: Count = None,
    workers: Count = None,
    namespace: Namespace = None,
    extended_hours: Annotated[bool, Parameter(negative="")] = False,
    hours: str | None = None,
    session_timeout: float | None = None,
    on_timeout: Literal["go_on", "stop"] | None = None,
    prefetch: bool = True,
    lockstep: str | None = None,
    upkeep: bool = True,
    sink: bool = True,
    tables: bool = True,
    json: Json = False,
) -> int:
    """Replay the sessions of a source, or a run that a tape still holds as it was known.

    Parameters
    ----------
    source
        Where the rows come from: lean:DIR, csv:PATH, parquet:PATH, synthetic:[key=value,...] or
        clickhouse:DSN; built: before one of them makes bars of its ticks where it has none.
    as_known
        Instead of a source: a namespace, for its last run, or namespace/run. Its tape is played
        onto that of --namespace, with each late row and correction when it came.
    fallback
        Source that is asked for what the first one lacks; give it again for more, in order.
    withhold
        What the source is made to lack, to see it filled: 2%@7 (a share, by a seed), hour@7, ends,
        symbol:AIG, joined by +.
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
    interval
        Lengths of bars that the replay itself reads, with commas between, such as 1m,5m; those of
        1m are always played, and made into the longer ones.
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
    prefetch
        Whether sessions are asked for while the one before them plays.
    lockstep
        Consumer groups, with commas between, that the clock waits for behind each slice.
    upkeep
        Whether gaps are filled and longer bars derived, as far as the stack has an upkeep.
    sink
        Whether a stack of our own writes the tape to ClickHouse.
    tables
        Whether a stack of our own keeps the session_data tables.
    """
    from streams.as_known import replay_as_known
    from streams.replay import replay as run

    of_source = {
        "source": source,
        "fallback": fallback,
        "withhold": withhold,
        "symbols": symbols,
        "start": start,
        "end": end,
        "kinds": kinds != "bars",
        "partitions": partitions,
        "workers": workers,
        "session-timeout": session_timeout,
        "on-timeout": on_timeout,
        "no-prefetch": not prefetch,
        "lockstep": lockstep,
    }
    _check(as_known, source, [f"--{name}" for name, value in of_source.items() if value])
    settings = settings_of(
        namespace=namespace,
        calendar=calendar,
        speed=speed,
        hours=hours_of(hours, extended=extended_hours),
        session_timeout_s=session_timeout,
        on_timeout=on_timeout,
        prefetch_sessions=None if prefetch else 0,
    )
    with bar("replay") as shown:
        workers_of: dict[str, Any] = {"upkeep": upkeep, "tables": tables, "sink": sink}
        told: dict[str, Any] = {"on_progress": moved(shown), "tell": shown.say}
        lengths = names(interval) or ()
        if as_known is not None:
            result = replay_as_known(settings, as_known, intervals=lengths, **workers_of, **told)
        else:
            result = run(
                settings,
                source or "",
                fallbacks=fallback or (),
                withhold=withhold or "",
                symbols=names(symbols),
                start=start,
                end=end,
                streams=kinds_of(kinds),
                intervals=lengths,
                lockstep=names(lockstep) or (),
                workers=workers,
                partitions=partitions,
                **workers_of,
                **told,
            )
    warn(result)
    if json:
        print_json(result.as_dict())
    else:
        result_lines(result)
    return 0


def _check(as_known: str | None, source: str | None, given: list[str]) -> None:
    """Check that there is one thing to play; ``given`` are the options that ask a source."""
    from streams.errors import ConfigError

    if as_known is None and source is None:
        msg = "name what is to be played: --source, or --as-known for a run that a tape holds"
        raise ConfigError(msg)
    if as_known is not None and given:
        msg = f"--as-known plays what a tape holds: leave {', '.join(given)} out"
        raise ConfigError(msg)


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
        *((kind, f"{count:,}") for kind, count in result.rows.items() if count or kind == "bars"),
        ("seconds", f"{result.elapsed_s:.3f}"),
        ("rows/s", f"{result.rows_per_s:,.0f}"),
        ("gaps", _gaps(result)),
        ("minutes", _minutes(result)),
        ("prefetched", _share(result.prefetch_hit_rate, "of the rolls")),
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
    if quality and quality[0][1] == 100:
        print_line(f"\nquality: 100 % of each of {len(quality)} symbols")
    elif quality:
        print_table(
            f"\nquality, the {min(WORST, len(quality))} worst of {len(quality)} symbols",
            ("symbol", "quality>"),
            [(name, f"{value:.2f} %") for name, value in quality[:WORST]],
        )
    print_line("")


def _gaps(result: ReplayResult) -> str:
    found, known = result.gaps_found, result.gaps_filled + result.gaps_no_trade
    left = found - known - result.gaps_given_up
    said = (
        f"{found:,} found, {result.gaps_no_trade:,} without trade, {result.gaps_filled:,} filled, "
        f"{result.gaps_given_up:,} given up"
    )
    return f"{said}, {left:,} open" if left else said


def _minutes(result: ReplayResult) -> str:
    said = (
        f"{result.missing_minutes:,} missing, {result.no_trade_minutes:,} without trade, "
        f"{result.filled_minutes:,} filled"
    )
    if result.fill_rate is None:
        return said
    return f"{said} ({_share(result.fill_rate, 'of what had a trade')})"


def _share(value: float | None, of: str) -> str:
    return "-" if value is None else f"{100 * value:.4g} % {of}"
