"""Workers by their consumer groups: what they are called, and who is seen at the brokers."""

from __future__ import annotations

from collections.abc import Sequence

from streams.groups import groups_there, settled_members
from streams.kafka import admin, topics_there
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["group_of", "readers_of", "workers_elsewhere"]

SETTLED_S = 60.0
"""Seconds within which groups whose workers come or go have to stand still."""
_READERS = ("sink", "tables", "upkeep")
"""Workers that read the session topic."""


def readers_of(settings: Settings, workers: Sequence[str]) -> tuple[str, ...]:
    """Return the groups of those workers that read the session topic."""
    topics = Topics(settings.namespace)
    return tuple(group_of(topics, name) for name in _READERS if name in workers)


def workers_elsewhere(settings: Settings) -> dict[str, int]:
    """Return how many workers of each kind there are at the brokers, by their groups.

    Where nobody made the namespace nobody is asked, and there are none. A sink is seen from its
    first commit on.

    Raises
    ------
    BrokerError
        The brokers can't be reached, or the groups go on changing.
    """
    topics = Topics(settings.namespace)
    if not settings.bootstrap_servers or topics.session not in topics_there(settings):
        return {}
    kinds = {group_of(topics, kind): kind for kind in ("coordinator", *_READERS, "producer")}
    sink = group_of(topics, "sink")
    with admin(settings) as client:
        found = settled_members(client, groups_there(client) & set(kinds), SETTLED_S)
    # The sink is no member of its group: it is one that has committed what it stored.
    return {kinds[group]: count or 1 for group, count in found.items() if count or group == sink}


def group_of(topics: Topics, kind: str) -> str:
    """Return the consumer group of a kind of worker."""
    return {
        "coordinator": topics.coordinator,
        "producer": topics.producer,
        "sink": topics.sink,
        "tables": topics.tables,
        "upkeep": topics.upkeep,
    }[kind]
