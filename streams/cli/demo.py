"""``demo``: a synthetic week, shown as it moves."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streams.cli.options import Json, Namespace, settings_of
from streams.cli.output import bar, clock, print_json, print_line
from streams.cli.replay import moved, result_lines, warn

if TYPE_CHECKING:
    from streams.client import Batch, SessionData
    from streams.replay import Progress

__all__ = ["demo"]

SOURCE = "synthetic:symbols=50,missing=0.01"
# Thanksgiving is a holiday, the Friday after it a half-day.
START, END = "2024-11-25", "2024-11-29"
SPEED = 14_400
"""Tape seconds a wall second: a week of 29.5 hours passes in some 7 seconds."""
SHOWN = 8
FRAME_S = 0.1
ZONE = "America/New_York"

NEXT = """\
where to go next

how complete each symbol was, and what became of each gap
  {program} quality --namespace {namespace}
  {program} gaps --namespace {namespace}
the bars, read back from ClickHouse
  {program} history SYN0001 --sessions 2 --namespace {namespace}
the same week as fast as it goes: the same digest
  {program} replay --source {source} --start {start} --end {end}
the same stack, left running
  {program} up
everything else
  {program} --help"""


def demo(*, speed: str = str(SPEED), namespace: Namespace = None, json: Json = False) -> int:
    """Replay a synthetic week of 50 symbols with a holiday and a half-day in it.

    Parameters
    ----------
    speed
        max, or tape seconds a wall second.
    """
    from streams.client import SessionData
    from streams.replay import replay

    settings = settings_of(
        namespace=namespace or "demo", calendar="XNYS", hours="regular", speed=speed
    )
    data = SessionData()
    with _view(data) as view:
        result = replay(
            settings,
            SOURCE,
            start=START,
            end=END,
            data=data,
            on_batch=view.batch,
            on_progress=view.progress,
            tell=view.say,
        )
    warn(result)
    if json:
        print_json(result.as_dict())
        return 0
    result_lines(result)
    program = sys.argv[0]
    names = {"source": SOURCE, "start": START, "end": END, "namespace": result.namespace}
    print_line(NEXT.format(program=program, **names))
    return 0


class _Plain:
    """The view where stderr is no terminal: lines."""

    def __init__(self, shown: Any) -> None:
        self.say = shown.say
        self.progress = moved(shown)

    def batch(self, batch: Batch) -> None:
        if batch.event in ("open", "close"):
            hour = clock(batch.clock_ns, ZONE)
            self.say(f"{batch.event} {batch.session}, session clock {hour} New York")


class _Live:
    """The view on a terminal: some symbols, the session clock, how far."""

    def __init__(self, live: Any, data: SessionData) -> None:
        self._live = live
        self._data = data
        self._said = ""
        self._at: Progress | None = None
        self._drawn_s = 0.0
        self._event = ""

    def say(self, text: str) -> None:
        self._said = text
        self._draw()

    def progress(self, at: Progress) -> None:
        self._at = at
        if time.monotonic() - self._drawn_s >= FRAME_S:
            self._draw()

    def batch(self, batch: Batch) -> None:
        self._said = ""
        self._event = batch.event

    def _draw(self) -> None:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        self._drawn_s = time.monotonic()
        if self._at is None or self._said:
            self._live.update(Text(f"{self._said} …", style="dim"), refresh=True)
            return
        at, data = self._at, self._data
        head = Text.assemble(
            (f"{at.session}  {clock(at.clock_ns, ZONE)} New York", "bold"),
            f"   session {min(at.closed + 1, at.sessions)} of {at.sessions}",
            f"   {at.rows:,} bars   {at.share:.0%}",
        )
        table = Table(box=None)
        for name in ("symbol", "bar", "close", "volume", "high", "low", "quality"):
            table.add_column(name, justify="left" if name == "symbol" else "right")
        for symbol in data.symbols[:SHOWN]:
            latest, metrics = data.get_latest_bar(symbol), data.get_session_metrics(symbol)
            if latest is None or metrics["session_high"] is None:
                continue
            table.add_row(
                symbol,
                clock(int(latest.ts_ns), ZONE)[11:16],
                f"{latest.close:.2f}",
                f"{metrics['session_volume']:,.0f}",
                f"{metrics['session_high']:.2f}",
                f"{metrics['session_low']:.2f}",
                f"{metrics['bar_quality'] or 0:.1f} %",
            )
        self._live.update(Group(head, table), refresh=True)


@contextmanager
def _view(data: SessionData) -> Iterator[_Plain | _Live]:
    if not sys.stderr.isatty():
        with bar("demo") as shown:
            yield _Plain(shown)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stderr)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield _Live(live, data)
