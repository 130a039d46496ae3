"""``quality``: what is known of each symbol's minutes, worst first."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from streams.cli.options import Json, Namespace, names, settings_of
from streams.cli.output import clock, console, print_each, print_json, table_of

if TYPE_CHECKING:
    from rich.text import Text

    from streams.letters import SymbolQuality
    from streams.local.told import Told

__all__ = ["head", "quality"]

WORST = 20
CELLS = 60
LEAST_CELLS = 10
COUNTS = ("expected", "traded", "filled", "no_trade", "missing", "given_up")
BESIDE = 92
"""Columns that the counts take beside the bar of minutes."""

COLOURS = {
    "t": ("traded", "green"),
    "f": ("filled", "cyan"),
    "n": ("no trade", "blue"),
    "r": ("requested", "yellow"),
    "m": ("missing", "bright_red"),
    "g": ("given up", "magenta"),
    "h": ("halted", "white"),
    "p": ("to come", "bright_black"),
}


def quality(
    *,
    session: str | None = None,
    symbols: str | None = None,
    worst: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    watch: Annotated[bool, Parameter(negative="")] = False,
    namespace: Namespace = None,
    json: Json = False,
) -> int:
    """Show how complete a session is, symbol by symbol, worst first.

    Parameters
    ----------
    session
        Label of the session, YYYY-MM-DD; the one that runs or ran last when not given.
    symbols
        Symbols with commas between; all when not given.
    worst
        So many symbols; 20 for people and all in JSON when not given.
    watch
        Show it again whenever it changes, until the run ends; with --json one object a line.
    """
    from streams.local import told

    settings, wanted = settings_of(namespace=namespace), names(symbols)
    if watch:
        print_each(
            told.watch(settings, "quality", session or "", wanted),
            as_json=json,
            value=lambda one: _value(one, worst),
            view=lambda one: _view(one, worst or WORST),
        )
        return 0
    found = told.tell(settings, "quality", session or "", wanted)
    if json:
        print_json(_value(found, worst))
    else:
        console().print(_view(found, worst or WORST))
    return 0


def head(found: Told) -> dict[str, Any]:
    """Return what JSON says of every answer."""
    return {
        "namespace": found.namespace,
        "run": found.run,
        "session": found.session,
        "from": found.origin,
        "clock_ns": found.clock_ns,
    }


def _sorted(found: Told, worst: int | None) -> list[SymbolQuality]:
    return sorted(found.qualities, key=lambda one: (one.quality, one.symbol))[:worst]


def _value(found: Told, worst: int | None) -> dict[str, Any]:
    from dataclasses import asdict

    return head(found) | {"symbols": [asdict(one) for one in _sorted(found, worst)]}


def _view(found: Told, worst: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    out = console()
    width = max(LEAST_CELLS, min(CELLS, out.width - BESIDE))
    shown = _sorted(found, worst)
    rows = [
        (
            one.symbol,
            f"{one.quality:.2f} %",
            *(f"{getattr(one, name):,}" for name in COUNTS),
            _bar(one.minutes, width, is_coloured=out.is_terminal),
        )
        for one in shown
    ]
    counts = [name.replace("_", " ") + ">" for name in COUNTS]
    when = f", session clock {clock(found.clock_ns)} UTC" if found.clock_ns else ""
    title = f"session {found.session} of {found.namespace}/{found.run}{when}"
    many = f"the {len(shown)} worst of {len(found.qualities)} symbols"
    return Group(
        Text(title, style="bold"),
        Text(many),
        table_of(("symbol", "quality>", *counts, "minutes"), rows),
        _legend(found, is_coloured=out.is_terminal),
    )


def _bar(minutes: str, width: int, *, is_coloured: bool) -> Text:
    from rich.text import Text

    from streams.letters import cells

    letters = cells(minutes, width)
    if not is_coloured:
        return Text(letters)
    return Text.assemble(*(("█", COLOURS[letter][1]) for letter in letters))


def _legend(found: Told, *, is_coloured: bool) -> Text:
    """Say what the colours or letters mean that are there."""
    from rich.text import Text

    there = {letter for one in found.qualities for letter in set(one.minutes)}
    text = Text()
    for letter, (name, colour) in COLOURS.items():
        if letter in there:
            text.append("█" if is_coloured else letter, colour if is_coloured else "")
            text.append(f" {name}  ")
    text.append("a cell is the worst of its minutes", "dim")
    return text
