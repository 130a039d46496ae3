"""``bench``: measure the budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streams.cli.options import Json
from streams.cli.output import bar, note, print_json, print_table

__all__ = ["bench"]

WORSE = 0.10
"""A ratio may be so much worse than in the file compared with."""


def bench(*names: str, compare: Path | None = None, json: Json = False) -> int:
    """Measure what the tape costs on this machine.

    Parameters
    ----------
    names
        Measurements to make; all when none is named.
    compare
        Fail when a ratio is more than 10 % worse than in this JSON file of an earlier run.
    """
    from importlib import import_module

    before = _read(compare)
    run = import_module("bench").run
    with bar("bench") as shown:
        shown.say(f"measuring {', '.join(names) or 'everything'}")
        found = run(list(names))
    if json:
        print_json(found)
    else:
        for name, values in found.items():
            if isinstance(values, dict):
                print_table(name, ("", ">"), _rows(values))
    worse = _worse(before, found) if before is not None else []
    for line in worse:
        note(line)
    return 1 if worse else 0


def _read(path: Path | None) -> dict[str, Any] | None:
    import json

    from streams.errors import ConfigError

    if path is None:
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        msg = f"{path} can't be read as the JSON of an earlier bench: {exc}"
        raise ConfigError(msg) from exc
    return found


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


def _worse(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a sentence for each ratio of both that fell by more than WORSE."""
    found = []
    for name, values in before.items():
        for key, was in values.items() if isinstance(values, dict) else ():
            is_ = now.get(name, {}).get(key)
            if key.startswith("ratio") and isinstance(was, float) and isinstance(is_, float | int):
                if is_ < was * (1 - WORSE):
                    found.append(f"{name}.{key} fell from {was:.2f} to {is_:.2f}")
    return found
