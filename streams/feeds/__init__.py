"""Feeds: where rows come from as they happen; one file a vendor."""

from streams.feeds.protocol import Clock, Event, Feed, Heard, Lost, Regained

__all__ = ["Clock", "Event", "Feed", "Heard", "Lost", "Regained"]
