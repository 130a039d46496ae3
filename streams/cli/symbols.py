"""``symbols``: the symbols of the run that is on, listed, added and removed."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from typing import Literal

from streams.cli.options import Json, Namespace, settings_of
from streams.cli.output import print_json, print_line, print_table

__all__ = ["symbols"]


def symbols(
    action: Literal["add", "remove"] | None = None,
    /,
    *names: str,
    namespace: Namespace = None,
    json: Json = False,
) -> int:
    """List the symbols of the run that is on, or add and remove some.

    Parameters
    ----------
    action
        add or remove; the symbols are listed when not given.
    names
        Symbols, with spaces or commas between.
    """
    from streams.errors import ConfigError
    from streams.local.running import connected
    from streams.symbols import change_symbols, symbol_states

    given = [name for part in names for name in part.split(",") if name]
    if action is not None and not given:
        msg = f"symbols {action} needs a symbol: sessiontape symbols {action} NAME"
        raise ConfigError(msg)
    settings = connected(settings_of(namespace=namespace))
    if action is not None:
        changed = change_symbols(settings, **{action: given})
        if json:
            print_json({"run": changed.run, "version": changed.version, action: given})
        else:
            print_line(f"{action} {', '.join(given)}: asked of run {changed.run}")
        return 0
    states = symbol_states(settings)
    if json:
        print_json([{"symbol": name, "state": state} for name, state in states.items()])
    else:
        print_table("", ("symbol", "state"), states.items())
    return 0
