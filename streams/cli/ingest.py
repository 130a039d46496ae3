"""``ingest``: rows of a pipe or a file onto the raw topics."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from streams.cli.options import Json, Namespace, settings_of
from streams.cli.output import clock, note, print_json, print_line

if TYPE_CHECKING:
    from streams.sources.files import Form
    from streams.sources.protocol import BadRow

__all__ = ["ingest"]

TOLD = 20
"""Lines that are no row which are shown; all of them are on ``rejected``."""


def ingest(
    file: Path | None = None,
    /,
    *,
    stream: Literal["bars", "quotes", "ticks"],
    format_: Annotated[Literal["csv", "jsonl"], Parameter(name="--format")] = "csv",
    source: str = "ingest",
    symbol: str = "",
    interval: str = "1m",
    tz: str = "UTC",
    map_: Annotated[str, Parameter(name="--map")] = "",
    scale: float = 0.0,
    heartbeat: Annotated[bool, Parameter(negative="")] = False,
    namespace: Namespace = None,
    json: Json = False,
) -> int:
    """Send rows of a pipe or a file onto the raw topics as they come.

    Parameters
    ----------
    file
        File to read; standard input when not given.
    stream
        What the rows are: bars, quotes or ticks.
    format_
        csv with a header, or jsonl, an object a line.
    source
        Name that the rows carry as their source.
    symbol
        Symbol of rows that name none.
    interval
        Length of bars.
    tz
        Time zone of times that name none.
    map_
        Which column is what, as field:column,field:column; common names are known.
    scale
        What prices are to be divided by; 0 for nothing.
    heartbeat
        At the end vouch for what was sent: there is no more of these symbols over that time.
    """
    from dataclasses import asdict

    from streams.ingest import Ingest, lines_of
    from streams.local.running import connected

    form = _form(stream, map_, symbol=symbol, interval=interval, zone=tz, scale=scale)
    settings = connected(settings_of(namespace=namespace))
    path = str(file) if file else "stdin"
    with _reader(file) as read:
        taking = Ingest(
            settings, stream, form, source, path=path, is_json=format_ == "jsonl", tell=_Told()
        )
        try:
            for lines in lines_of(read):
                taking.take(lines)
        except KeyboardInterrupt:
            taking.finish()  # what was handed over is out; nobody says that there is no more
            raise
        sent = taking.finish(heartbeat=heartbeat)
    if json:
        print_json(asdict(sent))
    else:
        span = f", {clock(sent.first_ns)} to {clock(sent.last_ns)}" if sent.rows else ""
        print_line(
            f"{sent.rows:,} {stream} of {sent.symbols:,} symbols in {sent.blocks:,} blocks{span}; "
            f"{sent.rejected:,} lines rejected"
        )
    return 1 if sent.rejected and not sent.rows else 0


class _Told:
    """Says what is no row, the first few times."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, row: BadRow) -> None:
        self._count += 1
        if self._count <= TOLD:
            text = row.text[:80].decode(errors="replace")
            note(f"{row.path}:{row.line}: {row.reason}: {text}")
        elif self._count == TOLD + 1:
            note("more lines are no rows: see them with their reasons on the rejected topic")


def _form(
    stream: str, mapping: str, *, symbol: str, interval: str, zone: str, scale: float
) -> Form:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from streams.errors import ConfigError
    from streams.intervals import interval_ns
    from streams.sources.columns import SHAPES, mapping_of
    from streams.sources.files import Form

    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        msg = f"--tz {zone} has to be a time zone such as America/New_York"
        raise ConfigError(msg) from exc
    if scale < 0:
        msg = f"--scale {scale:g} has to be a number above 0"
        raise ConfigError(msg)
    shape = SHAPES[stream]
    return Form(shape, mapping_of(mapping, shape), zone, symbol, interval_ns(interval), scale)


@contextmanager
def _reader(file: Path | None) -> Iterator[Callable[[int], bytes]]:
    """Give what reads bytes as they are at hand."""
    from streams.errors import SourceError

    if file is None:
        yield lambda size: os.read(sys.stdin.fileno(), size)
        return
    try:
        opened = file.open("rb", buffering=0)
    except OSError as exc:
        raise SourceError(f"it can't be read: {exc.strerror}", path=str(file)) from exc
    with opened:
        yield lambda size: opened.read(size) or b""
