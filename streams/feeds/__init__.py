"""Feeds: where rows come from as they happen, found by URI; one file a vendor.

``open_feed`` takes one of

=====================================  ============================================================
``playback:SOURCE``                    any source, played on the clock of the run
``rehearsal:[key=value,…:]SOURCE``     the same with faults, by a seed; for the keys see
                                       ``streams.sources.rehearsal``
=====================================  ============================================================

See ``streams.sources`` for the sources.
"""

from __future__ import annotations

from functools import partial

from streams.errors import ConfigError
from streams.feeds.playback import Playback
from streams.feeds.protocol import Clock, Event, Feed, Heard, Lost, Regained
from streams.feeds.rehearsal import rehearsed
from streams.sources import open_source
from streams.sources.rehearsal import inner_of, parse

__all__ = ["Clock", "Event", "Feed", "Heard", "Lost", "Regained", "open_feed"]

FORMS = "playback:SOURCE or rehearsal:key=value,…:SOURCE"


def open_feed(uri: str) -> Feed:
    """Return the feed at ``uri``.

    Raises
    ------
    ConfigError
        No such form, or an option that is none.
    SourceError
        What it plays is not there, or is none of that kind.
    """
    scheme, colon, rest = uri.partition(":")
    if colon and scheme == "playback":
        return Playback(open_source(rest))
    if colon and scheme == "rehearsal":
        options, source = inner_of(rest)
        return Playback(open_source(source), partial(rehearsed, parse(options)))
    msg = f"{uri!r} is no feed: write {FORMS}"
    raise ConfigError(msg)
