"""``gaps``: each gap of a session with its story."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from streams.cli.options import Json, Namespace, names, settings_of
from streams.cli.output import clock, console, print_each, print_json, table_of
from streams.cli.quality import head

if TYPE_CHECKING:
    from streams.local.told import Told
    from streams.story import Gap, Stage

__all__ = ["gaps"]

STATUSES = ("filled", "no_trade", "given_up", "open")
SHOWN = 40
"""Gaps shown while they are watched: what is above the screen nobody sees."""


def gaps(
    *,
    session: str | None = None,
    symbols: str | None = None,
    status: Literal["open", "filled", "no_trade", "given_up"] | None = None,
    watch: Annotated[bool, Parameter(negative="")] = False,
    namespace: Namespace = None,
    json: Json = False,
) -> int:
    """Show each gap of a session with its story: found, requested, what came of it.

    Parameters
    ----------
    session
        Label of the session, YYYY-MM-DD; the one that runs or ran last when not given.
    symbols
        Symbols with commas between; all when not given.
    status
        Only gaps that are open, filled, no_trade (answered, not by rows alone) or given_up.
    watch
        Show them again whenever one changes, until the run ends; with --json one object a line.
    """
    from streams.local import told

    settings, wanted = settings_of(namespace=namespace), names(symbols)
    if watch:
        print_each(
            told.watch(settings, "gaps", session or "", wanted),
            as_json=json,
            value=lambda one: _value(one, status),
            view=lambda one: _view(one, status, SHOWN),
        )
        return 0
    found = told.tell(settings, "gaps", session or "", wanted)
    if json:
        print_json(_value(found, status))
    else:
        console().print(_view(found, status))
    return 0


def _value(found: Told, status: str | None) -> dict[str, Any]:
    from dataclasses import asdict

    return head(found) | {"gaps": [asdict(gap) for gap in _chosen(found, status)]}


def _chosen(found: Told, status: str | None) -> list[Gap]:
    return [gap for gap in found.gaps if status in (None, gap.status)]


def _view(found: Told, status: str | None, most: int | None = None) -> Any:
    from rich.console import Group
    from rich.text import Text

    chosen = _chosen(found, status)
    counts = {name: sum(gap.status == name for gap in found.gaps) for name in STATUSES}
    said = ", ".join(f"{count:,} {_word(name)}" for name, count in counts.items() if count)
    title = f"session {found.session} of {found.namespace}/{found.run}"
    lines = [Text(title, style="bold"), Text(f"{len(found.gaps):,} gaps: {said or 'none'}")]
    if not chosen:
        return Group(*lines)
    rows = [
        (
            gap.symbol,
            clock(gap.start_ns)[11:16],
            f"{gap.minutes:,}",
            _word(gap.status),
            "; ".join(_step(gap, step) for step in gap.steps),
        )
        for gap in chosen[:most]
    ]
    return Group(*lines, table_of(("symbol", "UTC", "minutes>", "now", "story"), rows))


def _word(status: str) -> str:
    return "without trade" if status == "no_trade" else status.replace("_", " ")


def _step(gap: Gap, step: Stage) -> str:
    """Return a step for people; how many minutes where it was not all of them."""
    some = "" if step.minutes == gap.minutes else f" ({step.minutes} min)"
    if step.status == "missing":
        return f"found{some}" if not step.attempt else f"attempt {step.attempt}: no answer{some}"
    if step.status == "requested":
        return f"requested, attempt {step.attempt} [{step.request}]{some}"
    if step.status == "filled" and gap.sources:
        return f"filled from {', '.join(gap.sources)}{some}"
    return f"{step.status.replace('_', ' ')}{some}"
