"""Options that several commands share, and the settings that they change."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

if TYPE_CHECKING:
    from streams.settings import Settings

__all__ = ["Json", "Namespace", "hours_of", "kinds_of", "names", "settings_of"]

Json: TypeAlias = Annotated[
    bool, Parameter(name="--json", negative="", help="Print JSON on stdout, for machines.")
]
Namespace: TypeAlias = Annotated[
    str | None, Parameter(name="--namespace", help="Prefix of every topic and group.")
]


def settings_of(**changes: Any) -> Settings:
    """Return the settings, with what the options say in place of what was set elsewhere.

    Raises
    ------
    ConfigError
        A value that can't be used.
    """
    from streams.settings import load

    given = {name: value for name, value in changes.items() if value is not None}
    settings = load()
    return settings.but(**given) if given else settings


def hours_of(hours: str | None, *, extended: bool) -> str | None:
    """Return what ``--hours`` and ``--extended-hours`` say together.

    Raises
    ------
    ConfigError
        They say two different things.
    """
    from streams.errors import ConfigError

    if extended and hours not in (None, "extended"):
        msg = "--extended-hours and --hours say two different things: give one of them"
        raise ConfigError(msg)
    return "extended" if extended else hours


def kinds_of(text: str) -> tuple[str, ...]:
    """Return the kinds of rows in a list with commas, each once, in their order on the tape.

    Raises
    ------
    ConfigError
        One that is none, or none at all.
    """
    from streams.errors import ConfigError
    from streams.kinds import KINDS

    said = set(names(text) or ())
    if not said or not said <= KINDS.keys():
        msg = f"--kinds {text}: bars, quotes and ticks are the kinds there are"
        raise ConfigError(msg)
    return tuple(stream for stream in KINDS if stream in said)


def names(text: str | None) -> list[str] | None:
    """Return the names in a list with commas, None for none given."""
    if text is None:
        return None
    return [name for part in text.split(",") if (name := part.strip())]
