"""What a replay is asked to play, held against what its sources and the stack have."""

from __future__ import annotations

from collections.abc import Sequence

from streams.errors import ConfigError, TopicError
from streams.intervals import MINUTE_NS, interval_name, interval_ns
from streams.kafka import check_topics
from streams.settings import Settings
from streams.sources import Source, open_source, withheld
from streams.topics import Topics

__all__ = ["BASE", "check_derived", "derived_of", "opened_sources", "range_of", "symbols_of"]

BASE = "1m"
"""Bars that everything else is made of: they are always played, whatever else is asked for."""


def opened_sources(
    settings: Settings, source: str, fallbacks: Sequence[str] = (), withhold: str = ""
) -> tuple[Source, list[Source]]:
    """Return the source of a run and its fallbacks, opened; what is to be withheld is checked.

    Raises
    ------
    ConfigError, SourceError
        One that is none, or nothing that can be withheld.
    """
    opened = open_source(source)
    if withhold:  # the producer withholds; here it is only held to be right
        withheld(opened, withhold, settings.calendar, settings.hours)
    return opened, [open_source(fallback) for fallback in fallbacks]


def symbols_of(
    source: Source, uri: str, symbols: Sequence[str] | None, others: Sequence[Source] = ()
) -> tuple[str, ...]:
    """Return the symbols to play, sorted: those named, or all that the source has.

    Parameters
    ----------
    source, uri
        The source and its URI, for the message.
    symbols
        Names; None for all of the source.
    others
        Sources that are asked for what it lacks: a symbol that one of them has may be named.

    Raises
    ------
    ConfigError
        Nobody has one of them, or there are none.
    """
    known = source.symbols()
    if symbols is None:
        if not known:
            msg = f"{uri} has no symbols: name another source"
            raise ConfigError(msg)
        return tuple(sorted(known))
    unknown = set(symbols).difference(known) if known else set()
    for other in others if unknown else ():
        unknown -= set(other.symbols())
    if unknown or not symbols:
        few = ", ".join(known[:8]) + (" …" if len(known) > 8 else "")
        lacking = ", ".join(sorted(unknown)) or "symbol without a name"
        msg = f"{uri} has no {lacking}; it has {few}"
        raise ConfigError(msg)
    return tuple(sorted(set(symbols)))


def range_of(source: Source, uri: str, start: str | None, end: str | None) -> tuple[str, str]:
    """Return the first and the last day to play: those given, or those of the source.

    Raises
    ------
    ConfigError
        One is not given, and the source does not say.
    """
    if start and end:
        return start, end
    has = source.sessions()
    if has is None:
        msg = f"{uri} does not say which days it has: give --start and --end"
        raise ConfigError(msg)
    return start or has[0], end or has[1]


def derived_of(intervals: Sequence[str], *, has_upkeep: bool) -> tuple[str, ...]:
    """Return those of some intervals that are derived, each once, ascending.

    Raises
    ------
    ConfigError
        One is no whole number of minutes, or there is nobody to derive it.
    """
    lengths = {interval_ns(text) for text in intervals}
    if odd := [length for length in lengths if length % MINUTE_NS]:
        msg = f"{interval_name(odd[0])} can't be derived from minutes: whole minutes, such as 5m"
        raise ConfigError(msg)
    derived = tuple(interval_name(length) for length in sorted(lengths - {MINUTE_NS}))
    if derived and not has_upkeep:
        msg = f"without an upkeep nothing derives bars of {', '.join(derived)}"
        raise ConfigError(msg)
    return derived


def check_derived(settings: Settings, derived: Sequence[str], *, has_upkeep: bool) -> None:
    """Check that a stack that runs derives bars of some lengths.

    Raises
    ------
    ConfigError
        It has no upkeep, or its upkeep derives others.
    """
    derived_of(derived, has_upkeep=has_upkeep)
    topics = Topics(settings.namespace)
    for interval in derived:
        try:
            check_topics(settings, (topics.derived(interval),))
        except TopicError as exc:
            msg = (
                f"the running stack has no bars of {interval}: end it with `sessiontape down`, set "
                "SESSIONTAPE_DERIVED_INTERVALS, and start it again"
            )
            raise ConfigError(msg) from exc
