"""What commands print with: results on stdout, everything else on stderr."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "Bar",
    "atomic_file",
    "bar",
    "clock",
    "console",
    "fail",
    "note",
    "print_each",
    "print_json",
    "print_line",
    "print_table",
    "table_of",
]

T = TypeVar("T")
LINE_EVERY_S = 5.0


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout, and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=False) + "\n")


def print_line(text: str) -> None:
    """Print a line of the result on stdout."""
    sys.stdout.write(text + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on stdout; columns whose name ends in ``>`` stand to the right."""
    out = console()
    if title:
        out.print(title, style="bold")
    out.print(table_of(columns, rows))


def console() -> Console:
    """Return what prints on stdout; nothing is cut where that is no terminal."""
    from rich.console import Console

    made = Console(file=sys.stdout, highlight=False, markup=False)
    if not made.is_terminal:
        made.width = 200
    return made


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table as `print_table` prints it; cells that have colours keep them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for name in columns:
        is_right = name.endswith(">")
        table.add_column(name.rstrip(">"), justify="right" if is_right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    return table


def print_each(
    found: Iterable[T], *, as_json: bool, value: Callable[[T], Any], view: Callable[[T], Any]
) -> None:
    """Print values as they come: JSON lines, a view that moves on a terminal, or one by one.

    Parameters
    ----------
    found
        What comes.
    as_json
        Whether each is a line of JSON.
    value
        Returns what JSON can hold.
    view
        Returns what is shown to people.
    """
    out = console()
    if as_json or not out.is_terminal:
        for one in found:
            if as_json:
                print_line(json.dumps(value(one)))
            else:
                out.print(view(one))
            sys.stdout.flush()
        return
    from rich.live import Live

    with Live(console=out, auto_refresh=False) as live:
        for one in found:
            live.update(view(one), refresh=True)


def note(text: str) -> None:
    """Say something to a person, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def fail(text: str, code: int) -> int:
    """Say in a sentence what went wrong, on stderr; return the exit code."""
    note(f"sessiontape: {text}")
    return code


def clock(ns: int, zone: str = "UTC") -> str:
    """Return a time for people, such as ``2024-11-29 09:31:00``; ``-`` for none."""
    if ns <= 0:
        return "-"
    found = datetime.fromtimestamp(ns / 1e9, UTC)
    if zone != "UTC":
        from zoneinfo import ZoneInfo

        found = found.astimezone(ZoneInfo(zone))
    return f"{found:%Y-%m-%d %H:%M:%S}"


class Bar(Protocol):
    """A progress bar, or lines where stderr is no terminal."""

    def say(self, text: str) -> None:
        """Say a line above the bar."""
        ...

    def move(self, share: float, what: str) -> None:
        """Move to a share of the whole, 0 to 1, at ``what``."""
        ...


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """Show progress on stderr: a bar on a terminal, else a line every few seconds."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[what]}", markup=False),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=1.0, what="")
        yield _Rich(progress, task)


class _Rich:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress = progress
        self._task = task
        self._moved_s = 0.0

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, style="dim")

    def move(self, share: float, what: str) -> None:
        now_s = time.monotonic()
        if now_s - self._moved_s > 0.05 or share >= 1:
            self._moved_s = now_s
            self._progress.update(self._task, completed=share, what=what)


class _Lines:
    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def say(self, text: str) -> None:
        note(text)

    def move(self, share: float, what: str) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= LINE_EVERY_S:
            self._said_s = now_s
            note(f"{share:.0%} {what}")


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name when it is whole, and not at all on an error.

    Raises
    ------
    ConfigError
        It can't be written there.
    """
    from streams.errors import ConfigError

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        file = part.open("wb")
    except OSError as exc:
        msg = f"{path} can't be written ({exc.strerror}): name another file"
        raise ConfigError(msg) from exc
    try:
        with file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
