"""The topics that the sink reads, each with what its frames go into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from sinks.clickhouse import ClickHouseSink
from sinks.derived import DerivedSink
from sinks.store import Store
from sinks.trailing import TrailingSink
from sinks.worker import Line
from streams.delivery import FrameReader
from streams.errors import ConfigError
from streams.intervals import interval_ns
from streams.kafka import check_topics, topics_there
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["has_caught_up", "open_lines"]


@contextmanager
def open_lines(settings: Settings, store: Store, keep_sessions: int) -> Iterator[list[Line]]:
    """Give a line for every topic of the namespace that is there; the session topic's is first.

    Raises
    ------
    TopicError
        There is no session topic.
    BrokerError
        The brokers can't be reached.
    """
    topics = Topics(settings.namespace)
    shards, derived, has_history = _topics(settings)
    with ExitStack() as held:

        def line(sink: ClickHouseSink | DerivedSink | TrailingSink, topic: str, name: str) -> Line:
            held.callback(sink.close)
            reader = FrameReader(settings, topics.sink, range(shards), topic)
            return Line(sink, held.enter_context(closing(reader)), name, topic)

        lines = [line(ClickHouseSink(store, keep_sessions), topics.session, "")]
        for interval, length_ns in derived.items():
            topic = topics.derived(interval)
            lines.append(line(DerivedSink(store, topic, length_ns), topic, f"{interval}/"))
        if has_history:
            lengths = [interval_ns(interval) for interval in settings.historical]
            sink = TrailingSink(store, topics.history, lengths)
            lines.append(line(sink, topics.history, "history/"))
        yield lines


def has_caught_up(settings: Settings) -> bool:
    """Tell whether the sink has stored every frame that is on the topics it reads now.

    Raises
    ------
    TopicError, BrokerError
        A topic can't be read.
    """
    topics = Topics(settings.namespace)
    shards, derived, has_history = _topics(settings)
    names = [topics.session, *map(topics.derived, derived)] + [topics.history] * has_history
    return all(map(partial(_has_stored, settings, shards), names))


def _has_stored(settings: Settings, shards: int, topic: str) -> bool:
    group = Topics(settings.namespace).sink
    with FrameReader(settings, group, range(shards), topic) as reader:
        committed = reader.committed()
        # Not the end of the partition: behind the last frame come markers of transactions.
        return all(
            last is None or (committed[shard] or 0) > last.offset
            for shard, last in reader.last().items()
        )


def _topics(settings: Settings) -> tuple[int, Mapping[str, int], bool]:
    """Return the number of shards, the lengths of derived bars, and whether there is history.

    Of derived bars every topic counts that is there, whatever the settings of this process say: a
    replay may have asked for others.
    """
    topics = Topics(settings.namespace)
    shards = check_topics(settings, (topics.session,))
    names = topics_there(settings)
    derived: dict[str, int] = {}
    for name in names:
        interval = name.removeprefix(topics.derived(""))
        if interval == name:
            continue
        try:
            derived[interval] = interval_ns(interval)
        except ConfigError:  # somebody else's topic
            continue
    ordered = sorted(derived, key=derived.__getitem__)
    return shards, {name: derived[name] for name in ordered}, topics.history in names
