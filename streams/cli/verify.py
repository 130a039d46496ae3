"""``verify``: two runs compared."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from streams.cli.options import Json, settings_of
from streams.cli.output import clock, print_json, print_line, print_table

if TYPE_CHECKING:
    from streams.compare import Difference

__all__ = ["verify"]


def verify(a: str, b: str, *, json: Json = False) -> int:
    """Compare two runs by their digests; exit code 1 when they differ.

    Parameters
    ----------
    a
        A namespace (its last run), namespace/run, or a file that `replay --json` wrote.
    b
        The other.
    """
    from dataclasses import asdict

    from streams.compare import compare
    from streams.local.running import connected

    settings = settings_of()
    if not (Path(a).is_file() and Path(b).is_file()):
        settings = connected(settings)
    found = compare(settings, a, b)
    if json:
        print_json(asdict(found))
        return 0 if found.equal else 1
    print_table(
        "",
        ("", "run", "bars>", "digest"),
        [(one.name, one.run, f"{one.bars:,}", one.digest) for one in (found.a, found.b)],
    )
    if found.equal:
        as_known = "and as known" if found.equal_as_known else "but were known differently"
        print_line(f"equal in their final state, {as_known}")
    elif found.first is not None:
        print_line(f"they differ, first at {_place(found.first)}")
    else:
        print_line("they differ")
    return 0 if found.equal else 1


def _place(first: Difference) -> str:
    a, b = ("no bar" if value is None else repr(value) for value in (first.a, first.b))
    when = clock(first.ts_ns)
    return f"{when} UTC (session {first.session}), {first.symbol}, {first.field}: {a} and {b}"
