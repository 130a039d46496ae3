"""The readers of a stream: of the tape with its derived bars, and of what was before the run."""

from __future__ import annotations

from collections.abc import Mapping

from streams.client.choice import Choice
from streams.client.reader import Reader
from streams.client.trailing import TrailingReader
from streams.errors import TopicError
from streams.kafka import check_topics
from streams.positions import FrameReader
from streams.settings import Settings, load
from streams.topics import Topics

__all__ = ["opened"]

MOST = 4
"""Frames of the history topic taken in between two polls of the tape: a millisecond or two."""


def opened(
    *,
    given: tuple[Reader | None, Reader | None],
    choice: Choice,
    sessions_wanted: int,
    group: str,
    settings: Settings | None,
    changes: Mapping[str, str | None],
) -> tuple[Reader, TrailingReader | None]:
    """Return what a stream reads from; the second is None where no trailing sessions are wanted.

    Parameters
    ----------
    given
        Readers of the tape and of the history topic that its user brings along.
    choice
        What it takes of the tape.
    sessions_wanted
        Sessions before the first one that its replica is to have.
    group
        Group that offsets are committed for.
    settings
        Default: those of the process.
    changes
        Settings that differ from these; None: they don't.

    Raises
    ------
    ConfigError
        No broker is known.
    TopicError
        The namespace has no tape, or no bars of one of the lengths.
    """
    reader, past = given
    lengths = set(choice.derived)
    if reader is None:
        settings = settings or load()
        wanted = {name: value for name, value in changes.items() if value is not None}
        settings = settings.but(**wanted) if wanted else settings
        reader = FrameReader(settings, group, derived=choice.derived)
        if past is None and sessions_wanted:
            shards = len(reader.shards) // (1 + len(choice.derived))
            lengths |= {*settings.historical}
            try:
                past = _history(settings, shards)
            except BaseException:
                reader.close()
                raise
    if past is None or not sessions_wanted:
        return reader, None
    try:
        return reader, TrailingReader(past, sorted(lengths), choice.wants)
    except BaseException:
        past.close()
        reader.close()
        raise


def _history(settings: Settings, shards: int) -> FrameReader | None:
    """Return a reader of the history topic, None in a namespace that was made without."""
    topic = Topics(settings.namespace).history
    try:
        check_topics(settings, {topic: shards})
    except TopicError:
        return None
    return FrameReader(settings, shards=range(shards), topic=topic, most=MOST)
