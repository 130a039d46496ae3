"""Feeds: where rows come from as they happen, found by URI; one file a vendor.

``open_feed`` takes one of

=====================================  ============================================================
``alpaca:[key=value,…]``               US stocks as they trade, see ``streams.feeds.alpaca``
``coinbase:[key=value,…]``             crypto as it trades, see ``streams.feeds.coinbase``
``built:[key=value,…:]FEED``           another feed, with bars built of its ticks or quotes
``playback:SOURCE``                    any source, played on the clock of the run
``rehearsal:[key=value,…:]SOURCE``     the same with faults, by a seed; for the keys see
                                       ``streams.sources.rehearsal``
=====================================  ============================================================

See ``streams.sources`` for the sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from streams.errors import ConfigError
from streams.feeds.alpaca import AlpacaFeed
from streams.feeds.built import BuiltFeed
from streams.feeds.coinbase import CoinbaseFeed
from streams.feeds.playback import Playback
from streams.feeds.protocol import Clock, Event, Feed, Heard, Lost, Regained
from streams.feeds.rehearsal import rehearsed
from streams.sources import open_source, split_built
from streams.sources.built import BuiltSource
from streams.sources.rehearsal import inner_of, parse

__all__ = ["Clock", "Event", "Feed", "Heard", "Lost", "Regained", "open_feed"]

FORMS = "alpaca:, coinbase:, playback:SOURCE, rehearsal:key=value,…:SOURCE or built:FEED"


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
    if not colon or scheme not in _OPENERS:
        msg = f"{uri!r} is no feed: write {FORMS}"
        raise ConfigError(msg)
    return _OPENERS[scheme](rest)


def _open_rehearsal(rest: str) -> Feed:
    options, source = inner_of(rest)
    return Playback(open_source(source), partial(rehearsed, parse(options)))


def _open_built(rest: str) -> Feed:
    options, inner = split_built(rest)
    # The source of the same name says how: what it builds of the past is to be the same.
    built = BuiltSource.open(open_source(inner), options.removesuffix(":"))
    return BuiltFeed(open_feed(inner), built.made_of, built.rules)


_OPENERS: Mapping[str, Callable[[str], Feed]] = {
    "alpaca": AlpacaFeed.open,
    "built": _open_built,
    "coinbase": CoinbaseFeed.open,
    "playback": lambda rest: Playback(open_source(rest)),
    "rehearsal": _open_rehearsal,
}
