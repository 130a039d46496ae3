"""Every error of sessiontape: one base, what went wrong as attributes, what to do as message."""

from __future__ import annotations

__all__ = [
    "BrokerError",
    "CalendarError",
    "CommandError",
    "ConfigError",
    "DecodeError",
    "DeliveryError",
    "FeedError",
    "FencedError",
    "HistoryError",
    "HoleError",
    "SessiontapeError",
    "SourceError",
    "TopicError",
]


class SessiontapeError(Exception):
    """Base of every error that sessiontape raises on purpose."""


class ConfigError(SessiontapeError):
    """A setting has a value that can't be used; the message names it and what is allowed."""


class CalendarError(SessiontapeError):
    """A calendar, a session label or trading hours that don't exist."""


class BrokerError(SessiontapeError):
    """The Kafka broker can't be started, reached or stopped."""


class TopicError(SessiontapeError):
    """A topic is missing or has another shape than the namespace needs."""


class CommandError(SessiontapeError):
    """A command that is out of place in the present state of the tape."""


class HistoryError(SessiontapeError):
    """The store of trailing days can't be opened, read or written."""


class DecodeError(SessiontapeError):
    """A message that can't be decoded.

    Attributes
    ----------
    topic, partition, offset
        Where the message stands; ``""``, -1 and -1 when it came from nowhere in Kafka.
    reason
        What is wrong with it.
    """

    def __init__(
        self, reason: str, *, topic: str = "", partition: int = -1, offset: int = -1
    ) -> None:
        self.reason = reason
        self.topic = topic
        self.partition = partition
        self.offset = offset
        place = f"{topic}[{partition}]@{offset}: " if topic else ""
        super().__init__(f"{place}{reason}")


class SourceError(SessiontapeError):
    """Input that can't be read as rows.

    Attributes
    ----------
    path
        File (or URI) it stands in; ``""`` if none.
    line
        Line in that file, from 1; 0 if the whole file is meant.
    reason
        What is wrong with it.
    """

    def __init__(self, reason: str, *, path: str = "", line: int = 0) -> None:
        self.reason = reason
        self.path = path
        self.line = line
        place = f"{path}:{line}: " if line else f"{path}: " if path else ""
        super().__init__(f"{place}{reason}")


class FeedError(SessiontapeError):
    """A connection of a feed that is of no use any more: it is made again.

    Attributes
    ----------
    reason
        Why.
    is_slow
        Whether the other side asks for patience: it is made again late.
    """

    def __init__(self, reason: str, *, is_slow: bool = False) -> None:
        self.reason = reason
        self.is_slow = is_slow
        super().__init__(reason)


class DeliveryError(SessiontapeError):
    """Messages that the broker did not acknowledge.

    Attributes
    ----------
    failed, sent
        How many of the messages failed, of how many.
    """

    def __init__(self, reason: str, *, failed: int, sent: int) -> None:
        self.failed = failed
        self.sent = sent
        super().__init__(f"{failed} of {sent} messages were not acknowledged: {reason}")


class FencedError(SessiontapeError):
    """Another worker has taken this shard over; this one must stop writing."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        super().__init__(f"shard {shard} was taken over by another worker; this one stops")


class HoleError(SessiontapeError):
    """Messages or rows are missing between two that came.

    Attributes
    ----------
    topic, partition
        Where.
    expected, got
        The number (offset, frame or row) that had to come, and the one that came.
    """

    def __init__(self, what: str, *, topic: str, partition: int, expected: int, got: int) -> None:
        self.topic = topic
        self.partition = partition
        self.expected = expected
        self.got = got
        super().__init__(
            f"{topic}[{partition}]: {what} {expected} had to come, {got} came; "
            "what lies between is lost or was deleted"
        )
