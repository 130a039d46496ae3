"""``pause``, ``resume``, ``speed``, ``step``, ``seek`` and ``stop``: the run that is on."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from streams.cli.options import Json, Namespace, settings_of
from streams.cli.output import clock, note, print_json, print_line

if TYPE_CHECKING:
    from streams.controls import Controls, TapeState

__all__ = ["pause", "resume", "seek", "speed", "step", "stop"]


def pause(*, namespace: Namespace = None, json: Json = False) -> int:
    """Stop the session clock; it stands until `sessiontape resume`."""
    return _asked(lambda controls: controls.pause(), namespace, is_json=json)


def resume(*, namespace: Namespace = None, json: Json = False) -> int:
    """Go on where the clock stands."""
    return _asked(lambda controls: controls.resume(), namespace, is_json=json)


def speed(factor: str, /, *, namespace: Namespace = None, json: Json = False) -> int:
    """Change the speed of the run.

    Parameters
    ----------
    factor
        max, or tape seconds a wall second: 1 is real time, 60 an hour a minute.
    """
    wanted = settings_of(speed=factor).speed_factor
    return _asked(lambda controls: controls.speed(wanted), namespace, is_json=json)


def step(slices: int = 1, /, *, namespace: Namespace = None, json: Json = False) -> int:
    """Play the next slices of a paused run, and pause behind them.

    Parameters
    ----------
    slices
        How many.
    """
    return _asked(lambda controls: controls.step(slices), namespace, is_json=json)


def seek(to: str, /, *, namespace: Namespace = None, json: Json = False) -> int:
    """Begin anew at a session or a time; the state there is that of a run that came by.

    Parameters
    ----------
    to
        A session (YYYY-MM-DD), or a time in the calendar's time zone (YYYY-MM-DDTHH:MM).
    """
    return _asked(lambda controls: controls.seek(to), namespace, is_json=json)


def stop(*, namespace: Namespace = None, json: Json = False) -> int:
    """End the run where it stands."""
    return _asked(lambda controls: controls.stop(), namespace, is_json=json)


def _asked(ask: Callable[[Controls], TapeState], namespace: str | None, *, is_json: bool) -> int:
    """Ask, and say how the tape stands then; 1 where a shard does not follow."""
    from dataclasses import asdict

    from streams.controls import Controls
    from streams.local.running import connected

    with Controls(settings=connected(settings_of(namespace=namespace))) as controls:
        found = ask(controls)
    if is_json:
        print_json(asdict(found))
    else:
        factor = "max" if found.speed == 0 else f"{found.speed:g}"
        where = f"session {found.session or '-'}, clock {clock(found.clock_ns)} UTC"
        print_line(f"{found.state}: run {found.run}, {where}, speed {factor}")
    if found.waits_for:
        shards = ", ".join(map(str, found.waits_for))
        note(f"shard {shards} does not follow yet: it waits for its data, or has no worker")
    return 1 if found.waits_for else 0
