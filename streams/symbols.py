"""The symbols of a run: which are in play, and commands that add and remove some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from schemas import Command
from streams.control import send_command
from streams.delivery import Delivered, FrameReader
from streams.errors import CommandError
from streams.settings import Settings
from streams.standing import run_that_is_on

__all__ = ["change_symbols", "symbol_states"]

POLL_S = 0.2


def symbol_states(settings: Settings) -> dict[str, str]:
    """Return the symbols of the run that is on, sorted, each with its state.

    ``active``: in the frames; ``joining``: named by the command, and not in the frames yet;
    ``leaving``: in the frames still.

    Raises
    ------
    CommandError
        No run is on.
    """
    with FrameReader(settings) as reader:
        command, _ = run_that_is_on(settings, reader)
        active = set(_in_frames(reader, command.run))
    states = dict.fromkeys(active - set(command.symbols), "leaving")
    states |= {name: "active" if name in active else "joining" for name in command.symbols}
    return dict(sorted(states.items()))


def change_symbols(
    settings: Settings, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> Command:
    """Add and remove symbols of the run that is on; return the command that says so.

    Raises
    ------
    CommandError
        No run is on; one to add is there, one to remove is not, or none would be left; a name is
        too long, or there are too many.
    """
    with FrameReader(settings) as reader:
        command, _ = run_that_is_on(settings, reader)
    has = set(command.symbols)
    if there := sorted(has.intersection(add)):
        msg = f"run {command.run} has {', '.join(there)} already"
        raise CommandError(msg)
    if absent := sorted(set(remove) - has):
        msg = f"run {command.run} has no {', '.join(absent)}: `sessiontape symbols` lists them"
        raise CommandError(msg)
    if not (symbols := (has | set(add)) - set(remove)):
        msg = f"run {command.run} would have no symbol left: end it instead"
        raise CommandError(msg)
    changed = replace(command, version=command.version + 1, symbols=tuple(sorted(symbols)))
    send_command(settings, changed)
    return changed


def _in_frames(reader: FrameReader, run: str) -> list[str]:
    """Return the symbols that the last frames of the shards have."""
    last = {s: one for s, one in reader.last().items() if one is not None and one.frame.run == run}
    found: dict[int, tuple[str, ...]] = {}
    for shard, one in last.items():
        if _has_symbols(one):
            found[shard] = one.frame.symbols
    # A shard that stands between two sessions had its symbols in the one before.
    rest = {
        shard: one.frame.open_offset
        for shard, one in last.items()
        if shard not in found and one.frame.open_offset >= 0
    }
    until = {shard: last[shard].offset for shard in rest}
    if rest:
        reader.assign(rest)
    while until:
        for one in reader.poll(POLL_S):
            shard = one.frame.shard
            if _has_symbols(one):
                found[shard] = one.frame.symbols
            if one.offset >= until.get(shard, one.offset + 1):
                del until[shard]
    return [name for names in found.values() for name in names]


def _has_symbols(one: Delivered) -> bool:
    return one.frame.event in ("open", "rows")
