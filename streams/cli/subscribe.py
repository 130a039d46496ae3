"""``subscribe``: print the tape as it comes."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from streams.cli.options import Namespace, names, settings_of
from streams.cli.output import clock, print_line

if TYPE_CHECKING:
    from streams.client import BarRow, Batch, Slice

__all__ = ["subscribe"]

FIELDS = (
    *("session", "symbol", "ts_ns", "interval_ns", "open", "high", "low", "close", "volume"),
    *("known_ns", "revision", "is_correction"),
)
STARTS: dict[str, Literal["session", "now", "first"]] = {
    "session": "session",
    "now": "now",
    "start": "first",
}


def subscribe(
    *,
    symbols: str = "*",
    interval: str = "1m",
    since: Annotated[
        Literal["session", "now", "start"], Parameter(name="--from", negative="")
    ] = "session",
    until: Literal["end", "idle", "never"] = "never",
    unit: Literal["rows", "slices", "frames"] = "rows",
    format_: Annotated[Literal["table", "csv"], Parameter(name="--format")] = "table",
    limit: int | None = None,
    namespace: Namespace = None,
    json: Annotated[
        bool, Parameter(name="--json", negative="", help="Print one JSON object a line.")
    ] = False,
) -> int:
    """Print the tape as it comes.

    Parameters
    ----------
    symbols
        A glob such as SYN*, or names with commas between.
    interval
        Lengths of bars with commas between, such as 1m,5m; longer ones come from the upkeep.
    since
        Begin at the open of the running session, at what comes now, or at the first frame kept.
    until
        Stop at the end of the run, when all that was there is printed, or never.
    unit
        What a line is: a bar, a slice, or a batch of the tape.
    format_
        Lines for people, or CSV.
    limit
        Stop after so many lines.
    """
    from streams.client import SessionData, SessionStream
    from streams.local.running import connected

    settings = connected(settings_of(namespace=namespace))
    chosen = symbols.split(",") if "," in symbols else symbols
    stream = SessionStream(
        settings=settings,
        symbols=chosen,
        intervals=names(interval) or (),
        start=STARTS[since],
        until=until,
        data=SessionData(trailing_sessions=0),
    )
    line = _json if json else _csv if format_ == "csv" else _table
    count = 0
    with stream:
        if format_ == "csv" and not json:
            print_line(",".join(FIELDS if unit == "rows" else _MARKS[unit]))
        for one in _units(stream, unit):
            if limit is not None and count >= limit:
                break
            count += 1
            print_line(line(one))
    return 0


_MARKS = {
    "slices": ("session", "ready_ns", "expected", "received", "no_trade", "missing", "corrections"),
    "frames": ("run", "event", "session", "clock_ns", "rows", "incomplete", "reason"),
}


def _units(stream: Any, unit: str) -> Any:
    return getattr(stream, unit)()


def _values(one: BarRow | Slice | Batch) -> dict[str, Any]:
    if hasattr(one, "is_correction"):
        found = asdict(one)
        return {name: found[name] for name in FIELDS}
    names = _MARKS["slices"] if hasattr(one, "ready_ns") else _MARKS["frames"]
    return {name: getattr(one, name) for name in names}


def _json(one: BarRow | Slice | Batch) -> str:
    import json

    return json.dumps(_values(one))


def _csv(one: BarRow | Slice | Batch) -> str:
    return ",".join(str(value) for value in _values(one).values())


def _table(one: BarRow | Slice | Batch) -> str:
    values = _values(one)
    if "ts_ns" in values:
        mark = " corrected" if values["is_correction"] else ""
        return (
            f"{clock(values['known_ns'])}  {values['symbol']:<12} {clock(values['ts_ns'])[11:]}  "
            f"{values['open']:>10.2f} {values['high']:>10.2f} {values['low']:>10.2f} "
            f"{values['close']:>10.2f} {values['volume']:>14,.0f}{mark}"
        )
    if "ready_ns" in values:
        return (
            f"{clock(values['ready_ns'])}  {values['session']}  received {values['received']} of "
            f"{values['expected']}, no trade {values['no_trade']}, missing {values['missing']}"
        )
    reason = f" incomplete: {values['reason']}" if values["incomplete"] else ""
    return (
        f"{clock(values['clock_ns'])}  {values['event']:<5} {values['session'] or '-':<10} "
        f"{values['rows']:>8,} rows{reason}"
    )
