"""``bench``: measure the budgets."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from streams.cli.options import Json
from streams.cli.output import bar, note, print_json, print_table

__all__ = ["bench"]


def bench(*names: str, compare: Path | None = None, json: Json = False) -> int:
    """Measure what the tape costs on this machine.

    Parameters
    ----------
    names
        Measurements to make; all when none is named.
    compare
        Fail when a ratio is more than 10 % worse than in this JSON file of an earlier run.
    """
    # By name: it is above the command line in the layers, and runs what the command line runs.
    package = import_module("bench")
    before = package.read(compare) if compare is not None else {}
    with bar("bench") as shown:
        found = package.run(names, shown.say)
    if json:
        print_json(found)
    else:
        for name, values in found.items():
            print_table(f"\n{name}", ("", ">"), _rows(values))
    worse = package.worse(found, before)
    for line in worse:
        note(f"worse: {line}")
    return 1 if worse else 0


def _rows(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            rows.append((f"{prefix}{name}", f"{value:,.3f}"))
        else:
            rows.append((f"{prefix}{name}", f"{value:,}" if isinstance(value, int) else str(value)))
    return rows
