"""``history``: trailing sessions, read back from ClickHouse."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from streams.cli.options import Json, Namespace, names, settings_of
from streams.cli.output import atomic_file, clock, note, print_json, print_table

__all__ = ["history"]

Format = Literal["table", "csv", "json", "parquet"]
Kind = Literal["bars", "quotes", "ticks"]

_VALUES = {
    "quotes": ("bid", "bid_size", "ask", "ask_size"),
    "ticks": ("price", "size"),
}
"""Numbers of quotes and ticks, in the order in which they are shown."""


def history(
    symbol: str,
    *,
    kind: Kind = "bars",
    interval: str = "1m",
    sessions: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    format_: Annotated[Format | None, Parameter(name="--format")] = None,
    output: Path | None = None,
    namespace: Namespace = None,
    json: Json = False,
) -> int:
    """Read trailing sessions of a symbol back from ClickHouse.

    Parameters
    ----------
    symbol
        A symbol, or some with commas between.
    kind
        bars, quotes or ticks, each row in its final state.
    interval
        Length of the bars, such as 1m; derived ones, such as 5m, come with VWAP, the number of
        bars they are made of and their quality in %.
    sessions
        Newest sessions to read; default: 5, of quotes and ticks 1.
    format_
        table, csv, json or parquet; by the name of the file when there is one.
    output
        File to write, whole or not at all; stdout when not given.
    """
    from sinks.history import open_history
    from streams.errors import ConfigError

    chosen: str = "json" if json else format_ or _format_of(output)
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        msg = "parquet is not for a terminal: name a file by --output"
        raise ConfigError(msg)
    reader = open_history(settings_of(namespace=namespace))
    try:
        if kind == "bars":
            table = reader.bars(names(symbol), interval, sessions or 5)
        else:
            table = getattr(reader, kind)(names(symbol), sessions or 1)
    finally:
        reader.close()
    if output is not None:
        with atomic_file(output) as file:
            _write(table, chosen, file)
        note(f"{table.num_rows:,} {kind} to {output}")
    elif chosen == "table" and kind == "bars":
        _show(table)
    elif chosen == "table":
        _show_points(table, kind)
    elif chosen == "json":
        print_json(table.to_pylist())
    else:
        _write(table, chosen, sys.stdout.buffer)
    return 0


def _format_of(output: Path | None) -> str:
    ending = "" if output is None else output.suffix.removeprefix(".")
    return ending if ending in ("csv", "json", "parquet") else "table" if output is None else "csv"


def _write(table: Any, chosen: str, file: IO[bytes]) -> None:
    import json

    from pyarrow import csv, parquet

    if chosen == "parquet":
        parquet.write_table(table, file)
    elif chosen == "json":
        file.write(json.dumps(table.to_pylist(), indent=2).encode() + b"\n")
    else:
        csv.write_csv(table, file)


def _show(table: Any) -> None:
    # Only derived bars are known to be made of others.
    is_derived = table["count"].null_count < len(table)
    rows = [
        (
            row["symbol"],
            row["session"],
            clock(row["ts_ns"])[11:],
            *(f"{row[name]:,.2f}" for name in ("open", "high", "low", "close")),
            f"{row['volume']:,.0f}",
            *(_derived(row) if is_derived else ()),
        )
        for row in table.to_pylist()
    ]
    columns = ("symbol", "session", "UTC", "open>", "high>", "low>", "close>", "volume>")
    more = ("VWAP>", "bars>", "quality %>") if is_derived else ()
    print_table("", (*columns, *more), rows)
    note(f"{len(rows):,} bars")


def _show_points(table: Any, kind: Kind) -> None:
    values = _VALUES[kind]
    rows = [
        (
            row["symbol"],
            row["session"],
            f"{clock(row['ts_ns'] // 10**9 * 10**9)[11:]}.{row['ts_ns'] % 10**9:09d}",
            *(f"{row[name]:,.6g}" if "size" in name else f"{row[name]:,.4f}" for name in values),
            *((row["condition"],) if kind == "ticks" else ()),
        )
        for row in table.to_pylist()
    ]
    numbers = [f"{name.replace('_', ' ')}>" for name in values]
    more = ("condition",) if kind == "ticks" else ()
    print_table("", ("symbol", "session", "UTC", *numbers, *more), rows)
    note(f"{len(rows):,} {kind}")


def _derived(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what is known of a derived bar beside its prices; - for what isn't."""
    forms = {"vwap": ",.2f", "count": "d", "quality": ".1f"}
    return tuple(
        "-" if row[name] is None else format(row[name], form) for name, form in forms.items()
    )
