"""``subscribe``: print the tape as it comes."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from streams.cli.options import Namespace, names, settings_of
from streams.cli.output import clock, print_line

if TYPE_CHECKING:
    from streams.client import BarRow, Batch, QuoteRow, Slice, TickRow

    Line: TypeAlias = BarRow | QuoteRow | TickRow | Slice | Batch

__all__ = ["subscribe"]

VALUES = {
    "bars": ("interval_ns", "open", "high", "low", "close", "volume"),
    "quotes": ("bid", "bid_size", "ask", "ask_size"),
    "ticks": ("price", "size", "condition"),
}
BEFORE, BEHIND = ("session", "symbol", "ts_ns"), ("known_ns", "revision", "is_correction")
STARTS: dict[str, Literal["session", "now", "first"]] = {
    "session": "session",
    "now": "now",
    "start": "first",
}


def subscribe(
    *,
    symbols: str = "*",
    interval: str = "1m",
    kinds: str = "bars",
    view: Literal["as_known", "as_final"] = "as_known",
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
    kinds
        Of bars, quotes and ticks, with commas between.
    view
        Rows as they were known, corrections where they came; or what is on the tape by now in its
        final state, each row once and at its own time.
    since
        Begin at the open of the running session, at what comes now, or at the first frame kept.
    until
        Stop at the end of the run, when all that was there is printed, or never.
    unit
        What a line is: a row, a slice, or a batch of the tape.
    format_
        Lines for people, or CSV; with more than one kind the first column of CSV is the kind, and
        what a row has not is empty.
    limit
        Stop after so many lines.
    """
    from streams.client import SessionData, SessionStream
    from streams.local.running import connected

    settings = connected(settings_of(namespace=namespace))
    chosen = symbols.split(",") if "," in symbols else symbols
    wanted = names(kinds) or ()
    stream = SessionStream(
        settings=settings,
        symbols=chosen,
        kinds=wanted,
        intervals=names(interval) or (),
        start=STARTS[since],
        until=until,
        view=view,
        data=SessionData(trailing_sessions=0),
    )
    fields = _fields(wanted) if unit == "rows" else _MARKS[unit]
    line = _json if json else partial(_csv, fields=fields) if format_ == "csv" else _table
    count = 0
    with stream:
        if format_ == "csv" and not json:
            print_line(",".join(fields))
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


def _fields(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of CSV."""
    values = [name for kind in VALUES if kind in kinds for name in VALUES[kind]]
    first = ("kind",) if len(set(kinds)) > 1 else ()
    return (*first, *BEFORE, *values, *BEHIND)


def _kind_of(one: object) -> str:
    """Return the kind of a row; empty for a slice or batch."""
    return next((kind for kind, names in VALUES.items() if hasattr(one, names[0])), "")


def _values(one: Line) -> dict[str, Any]:
    if hasattr(one, "is_correction"):
        kind = _kind_of(one)
        found = asdict(one)
        return {"kind": kind, **{name: found[name] for name in (*BEFORE, *VALUES[kind], *BEHIND)}}
    names = _MARKS["slices"] if hasattr(one, "ready_ns") else _MARKS["frames"]
    return {name: getattr(one, name) for name in names}


def _json(one: Line) -> str:
    import json

    return json.dumps(_values(one))


def _csv(one: Line, fields: Sequence[str]) -> str:
    values = _values(one)
    return ",".join(str(values.get(name, "")) for name in fields)


def _table(one: Line) -> str:
    values = _values(one)
    if "ts_ns" in values:
        return _row(values)
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


def _row(values: Mapping[str, Any]) -> str:
    """Return a row as a line for people; quotes and ticks say their time to the microsecond."""
    mark = " corrected" if values["is_correction"] else ""
    known, at = clock(values["known_ns"]), clock(values["ts_ns"])[11:]
    if values["kind"] == "bars":
        return (
            f"{known}  {values['symbol']:<12} {at}  "
            f"{values['open']:>10.2f} {values['high']:>10.2f} {values['low']:>10.2f} "
            f"{values['close']:>10.2f} {values['volume']:>14,.0f}{mark}"
        )
    at += f".{values['ts_ns'] // 1_000 % 1_000_000:06d}"
    if values["kind"] == "quotes":
        return (
            f"{known}  {values['symbol']:<12} {at}  bid {values['bid']:>10.4f} x "
            f"{values['bid_size']:<10,.0f} ask {values['ask']:>10.4f} x "
            f"{values['ask_size']:<10,.0f}{mark}"
        )
    more = f" {values['condition']}" if values["condition"] else ""
    return (
        f"{known}  {values['symbol']:<12} {at}  {values['price']:>10.4f} x "
        f"{values['size']:<10,.0f}{more}{mark}"
    )
