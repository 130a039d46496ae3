"""What each worker may do at brokers that ask: one table, which the docs and the examples follow.

A worker that has these operations works, and one that lacks one ends and says which topic, group
or transactional id it is refused. ``READ``, ``WRITE`` and ``DELETE`` imply ``DESCRIBE``, as in
Kafka. Nothing here is about the whole cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from streams.errors import ConfigError
from streams.topics import Topics

__all__ = ["WORKERS", "Rule", "principals_of", "rules_of"]

Resource: TypeAlias = Literal["topic", "group", "transactional_id"]

WORKERS: Mapping[str, str] = {
    "coordinator": "python -m streams.coordinator",
    "tables": "python -m streams.tables",
    "upkeep": "python -m streams.upkeep",
    "producer": "python -m streams.producer",
    "feeder": "python -m streams.feeder",
    "sink": "python -m sinks",
    "sender": "sessiontape ingest, and every producer of your own on the raw topics",
    "reader": "SessionStream, sessiontape subscribe, plain consumers of the tape",
    "operator": "all other commands: who makes the topics, begins, steers and watches runs",
}
"""Who there is, and what is run as it."""

_READER_GROUP = "reader-"
"""How the groups begin that a reader commits for, unless others are named."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is allowed on one resource, or on all whose names begin alike.

    Attributes
    ----------
    resource
        Kind of the resource, as in Kafka.
    name
        Its name, or how the names begin.
    operations
        Names of Kafka's operations.
    is_prefix
        Whether all names that begin so are meant.
    """

    resource: Resource
    name: str
    operations: tuple[str, ...]
    is_prefix: bool = False

    @property
    def pattern(self) -> str:
        """Kafka's name of how the name is meant: ``literal`` or ``prefixed``."""
        return "prefixed" if self.is_prefix else "literal"


def rules_of(namespace: str, groups: Sequence[str] = ()) -> dict[str, tuple[Rule, ...]]:
    """Return what each worker of a namespace is to be allowed, by the names of `WORKERS`.

    Parameters
    ----------
    namespace
        Prefix of topics and groups.
    groups
        Groups of readers whose names don't begin with ``<namespace>.reader-``.
    """
    topics = Topics(namespace)
    raw, session = topics.raw, topics.session
    requests, control = topics.requests, topics.control
    derived = topics.derived("")
    named = tuple(_group(name, "READ") for name in groups)
    # librdkafka asks for a group's coordinator even where nothing is committed; and the coordinator
    # and the upkeep delete what all readers have passed.
    seen = _group(topics.prefix, "DESCRIBE", is_prefix=True)
    return {
        "coordinator": (
            *(_topic(name, "READ", "DELETE") for name in raw),
            _topic(session, "READ", "WRITE", "DELETE"),
            _topic(control, "READ"),
            _topic(requests, "WRITE"),
            _topic(topics.rejected, "WRITE"),
            _group(topics.coordinator, "READ"),
            seen,
            *(_group(name, "DESCRIBE") for name in groups),
            _writer(session),
        ),
        "tables": (
            _topic(session, "READ"),
            *(_topic(topics.changelog(name), "READ", "WRITE") for name in ("symbols", "shards")),
            _group(topics.tables, "READ"),
            seen,
        ),
        "upkeep": (
            _topic(session, "READ"),
            _topic(control, "READ"),
            _topic(requests, "READ", "WRITE"),
            _topic(topics.raw_bars, "WRITE"),
            _topic(topics.raw_history, "READ"),
            _topic(derived, "READ", "WRITE", "DELETE", is_prefix=True),
            _topic(topics.history, "READ", "WRITE", "DELETE"),
            _topic(topics.rejected, "WRITE"),
            _group(topics.upkeep, "READ"),
            seen,
            _writer(topics.upkeep),
            _writer(topics.history),
        ),
        "producer": (
            _topic(requests, "READ"),
            *(_topic(name, "WRITE") for name in (*raw, topics.raw_history)),
            _topic(session, "DESCRIBE"),
            _topic(topics.rejected, "WRITE"),
            _group(topics.producer, "READ"),
        ),
        "feeder": (
            _topic(control, "READ"),
            *(_topic(name, "WRITE") for name in (*raw, requests)),
            _topic(session, "DESCRIBE"),
            seen,
        ),
        "sink": (
            _topic(session, "READ"),
            _topic(derived, "READ", is_prefix=True),
            _topic(topics.history, "READ"),
            _group(topics.sink, "READ"),
            seen,
        ),
        "sender": (
            *(_topic(name, "WRITE") for name in (*raw, topics.rejected)),
            _topic(session, "DESCRIBE"),
        ),
        "reader": (
            _topic(session, "READ"),
            _topic(derived, "READ", is_prefix=True),
            _topic(topics.history, "READ"),
            _group(f"{topics.prefix}{_READER_GROUP}", "READ", is_prefix=True),
            *named,
        ),
        "operator": (
            _topic(topics.prefix, "CREATE", "READ", is_prefix=True),
            _topic(control, "WRITE"),
            _group(topics.prefix, "READ", is_prefix=True),
            *named,
        ),
    }


def principals_of(namespace: str, given: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """Return the principals of each worker: one, or those that are given.

    Parameters
    ----------
    namespace
        Without more, a worker is ``User:<namespace>-<worker>``.
    given
        ``<worker>=<principal>`` for one worker, again for another that may do as much;
        ``<principal>`` for all that are not named; one without a type is a ``User``.

    Raises
    ------
    ConfigError
        One is empty.
    """
    others, own = "", dict[str, tuple[str, ...]]()
    for text in given:
        worker, equals, name = text.partition("=")
        is_own = bool(equals) and worker in WORKERS
        name = name if is_own else text
        if not name.removeprefix("User:"):
            msg = (
                f"--principal {text!r} names nobody: coordinator=User:alice, or User:alice for all"
            )
            raise ConfigError(msg)
        name = name if name.startswith("User:") else f"User:{name}"
        if is_own:
            own[worker] = (*own.get(worker, ()), name)
        else:
            others = name
    return {name: own.get(name, (others or f"User:{namespace}-{name}",)) for name in WORKERS}


def _topic(name: str, *operations: str, is_prefix: bool = False) -> Rule:
    return Rule("topic", name, operations, is_prefix)


def _group(name: str, *operations: str, is_prefix: bool = False) -> Rule:
    return Rule("group", name, operations, is_prefix)


def _writer(name: str) -> Rule:
    """Allow the transactional ids of the shards, which are the name, a dot and a number."""
    return Rule("transactional_id", f"{name}.", ("DESCRIBE", "WRITE"), is_prefix=True)
