"""``verify``: two runs compared."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from streams.cli.options import Json, settings_of
from streams.cli.output import atomic_file, clock, print_json, print_line, print_table

if TYPE_CHECKING:
    from streams.compare import Difference, RunDigest, Value, Verdict

__all__ = ["verify"]


def verify(a: str, b: str | None = None, /, *, save: Path | None = None, json: Json = False) -> int:
    """Compare two runs; exit code 1 when their final states differ.

    Parameters
    ----------
    a
        A namespace (its last run), namespace/run, or a file that --save or `replay --json` wrote.
    b
        The other; none: only save.
    save
        Write what is needed to compare run A with others when its tape is gone.
    """
    from dataclasses import asdict

    from streams.compare import compare
    from streams.compare import save as write
    from streams.errors import ConfigError
    from streams.local.running import connected

    if b is None and save is None:
        msg = "name two runs to compare, or one and --save FILE"
        raise ConfigError(msg)
    settings = settings_of()
    if not all(Path(name).is_file() for name in (a, b) if name is not None):
        settings = connected(settings)
    if save is not None:
        with atomic_file(save) as file:
            saved = write(settings, a, file)
        if b is None:
            if json:
                print_json(asdict(saved))
            else:
                _print_runs([saved])
            return 0
    found = compare(settings, a, b or a)
    if json:
        print_json(asdict(found))
    else:
        _print_runs([found.a, found.b])
        _print(found)
    return 0 if found.equal else 1


def _print_runs(runs: list[RunDigest]) -> None:
    print_table(
        "",
        ("", "run", "bars>", "quotes>", "ticks>", "digest"),
        [
            (one.name, one.run, *(f"{one.rows.get(kind, 0):,}" for kind in _KINDS), one.digest)
            for one in runs
        ],
    )


_KINDS = ("bars", "quotes", "ticks")
_UNSEEN = (
    "where can't be told: compare namespaces or files of verify --save, over sessions both have"
)


def _print(found: Verdict) -> None:
    if found.equal and found.equal_as_known:
        print_line("equal in their final state, and as known")
        return
    if found.equal:
        at = found.first_as_known
        where = _UNSEEN if at is None else f"first at {_place(at)}"
        print_line(f"equal in their final state, but were known differently, {where}")
        return
    if found.first is None:
        print_line(f"they differ; {_UNSEEN}")
    else:
        print_line(f"they differ, first at {_place(found.first)}")
    if found.first_as_known is not None and found.first_as_known != found.first:
        print_line(f"as known they differ first at {_place(found.first_as_known)}")


def _place(first: Difference) -> str:
    when = clock(first.ts_ns)
    if first.ts_ns % 1_000_000_000:
        when += f".{first.ts_ns % 1_000_000_000:09d}".rstrip("0")
    where = f"{when} UTC (session {first.session}), {first.symbol}"
    if not first.field:
        return f"{where}, {first.kind} of that minute"
    a, b = (_value(first, value) for value in (first.a, first.b))
    return f"{where}, {first.field}: {a} and {b}"


def _value(first: Difference, value: Value) -> str:
    return f"no {first.field}" if value is None else repr(value)
