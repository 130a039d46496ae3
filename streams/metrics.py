"""All that a worker tells of itself in figures: the metrics, declared in one place.

They are counted once a frame or batch, never once a row, whether somebody asks for them or not;
``streams.endpoint`` serves them. The page docs/reference/metrics.md and the dashboard are made from
what stands here, and held against it by tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

__all__ = [
    "ANSWER",
    "CLOCK_DELAY",
    "CORRECTIONS",
    "DECLARED",
    "FEED_LOSSES",
    "FLUSH",
    "GAPS_GIVEN_UP",
    "GAP_MINUTES",
    "GAP_REQUESTS",
    "INCOMPLETE",
    "LAG",
    "OPEN_REQUESTS",
    "OPEN_SESSIONS",
    "PREFETCH_HITS",
    "PROCESS",
    "QUALITY",
    "REGISTRY",
    "REJECTED",
    "ROLLS",
    "ROWS",
    "SESSIONS",
    "SESSION_CLOCK",
    "TAKEOVERS",
    "TRANSITION",
    "UNACKNOWLEDGED",
    "WORKER_INFO",
    "Declared",
    "Lag",
]

BUCKETS_MS = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000)

REGISTRY = CollectorRegistry()
"""What a worker serves: ours, and what its process costs."""

PROCESS: Mapping[str, str] = {
    "process_resident_memory_bytes": "Memory of the process.",
    "process_cpu_seconds_total": "CPU time of the process.",
    "process_open_fds": "Files and connections that the process holds open.",
    "process_start_time_seconds": "When the process was started, seconds since the epoch.",
}
"""What the collector of the process gives by itself, where there is a /proc."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric.

    Attributes
    ----------
    name
        ``sessiontape_<what>_<unit>``; base units, counters end in ``_total``.
    kind
        ``counter``, ``gauge`` or ``histogram``.
    text
        What it says.
    workers
        Who tells it.
    labels
        Names of its labels.
    """

    name: str
    kind: str
    text: str
    workers: str
    labels: tuple[str, ...]


DECLARED: dict[str, Declared] = {}
"""All of them by name."""

# They would be a series more for each counter, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]
ProcessCollector(registry=REGISTRY)


def _declare(kind: str, what: str, text: str, workers: str, labels: tuple[str, ...]) -> str:
    name = f"sessiontape_{what}"
    DECLARED[name] = Declared(name, kind, text, workers, labels)
    return name


def _counter(what: str, text: str, workers: str, *labels: str) -> Counter:
    name = _declare("counter", what, text, workers, labels)
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(what: str, text: str, workers: str, *labels: str) -> Gauge:
    name = _declare("gauge", what, text, workers, labels)
    return Gauge(name, text, labels, registry=REGISTRY)


def _seconds(what: str, text: str, workers: str, *labels: str) -> Histogram:
    name = _declare("histogram", f"{what}_seconds", text, workers, labels)
    return Histogram(
        name, text, labels, registry=REGISTRY, buckets=[ms / 1000 for ms in BUCKETS_MS]
    )


# What every worker tells.

WORKER_INFO = _gauge(
    "worker_info",
    "1: a worker runs, of this kind and version.",
    "all",
    *("namespace", "worker", "version"),
)
ROWS = _counter(
    "rows_total",
    "Rows that a worker has written to a topic (producer, feeder, coordinator; upkeep: derived "
    "bars) or taken from it (tables, sink; upkeep: the session topic).",
    "all",
    *("namespace", "worker", "shard", "topic"),
)
LAG = _gauge(
    "lag_offsets",
    "Offsets of a partition that a worker has not taken yet; the mark of the last transaction "
    "counts as one, so 1 may stay at the end.",
    "coordinator, tables, upkeep, sink, producer",
    *("namespace", "worker", "shard", "topic"),
)
REJECTED = _counter(
    "rejected_total",
    "Messages and rows that a worker has set aside on the rejected topic, by the topic they came "
    "from or were to go to; the reason of each stands in its headers.",
    "coordinator, producer, upkeep",
    *("namespace", "worker", "topic"),
)
TAKEOVERS = _counter(
    "takeovers_total",
    "Times that a worker took a shard over from another one, or from its own earlier life.",
    "coordinator, tables, upkeep",
    *("namespace", "worker", "shard"),
)
FLUSH = _seconds(
    "flush",
    "Time to make durable what was gathered: a transaction (coordinator, upkeep), changelogs "
    "(tables), a batch in the store (sink).",
    "coordinator, tables, upkeep, sink",
    *("namespace", "worker"),
)

# The tape, as its coordinator has it.

SESSION_CLOCK = _gauge(
    "session_clock_seconds",
    "The session clock, seconds since the epoch.",
    "coordinator",
    *("namespace", "shard"),
)
CLOCK_DELAY = _gauge(
    "clock_delay_seconds",
    "Wall time that the session clock is behind: in a live run from the clock to now, at most to "
    "the close; in a replay since the next slice or open was due, 0 at full speed; 0 while paused.",
    "coordinator",
    *("namespace", "shard"),
)
OPEN_SESSIONS = _gauge(
    "open_sessions",
    "1 while a session is open, else 0.",
    "coordinator",
    *("namespace", "shard"),
)
CORRECTIONS = _counter(
    "corrections_total",
    "Rows that were delivered behind the clock.",
    "coordinator",
    *("namespace", "shard"),
)
SESSIONS = _counter(
    "sessions_total",
    "Sessions that were closed.",
    "coordinator",
    *("namespace", "shard"),
)
INCOMPLETE = _counter(
    "incomplete_sessions_total",
    "Sessions that were opened without complete coverage.",
    "coordinator",
    *("namespace", "shard"),
)
ROLLS = _counter(
    "rolls_total",
    "Steps from one session to the next.",
    "coordinator",
    *("namespace", "shard"),
)
PREFETCH_HITS = _counter(
    "prefetch_hits_total",
    "Rolls at which the session to come was complete before the one before it closed.",
    "coordinator",
    *("namespace", "shard"),
)
TRANSITION = _seconds(
    "transition",
    "Time from the begin of the release that closes a session until the next one is open.",
    "coordinator",
    *("namespace", "shard"),
)

# What is missing, as the upkeep has it.

QUALITY = _gauge(
    "quality_ratio",
    "Minutes of the session that were traded, filled, without trade or halted, over the minutes "
    "expected so far, all symbols of the shard; 0 to 1.",
    "upkeep",
    *("namespace", "shard"),
)
GAP_MINUTES = _gauge(
    "gap_minutes",
    "Minutes without a bar of their own accord in the sessions that play or are loaded, by status.",
    "upkeep",
    *("namespace", "shard", "status"),
)
GAP_REQUESTS = _counter(
    "gap_requests_total",
    "Requests for what is missing, each repetition too.",
    "upkeep",
    *("namespace", "shard"),
)
GAPS_GIVEN_UP = _counter(
    "gaps_given_up_total",
    "Gaps, runs of minutes of one symbol, that were given up by number of attempts.",
    "upkeep",
    *("namespace", "shard"),
)

# Where rows come from.

ANSWER = _seconds(
    "answer",
    "Time from the begin of an answer to a request until the last of it was handed over.",
    "producer",
    *("namespace", "kind"),
)
OPEN_REQUESTS = _gauge(
    "open_requests",
    "Requests that were taken and are not wholly acknowledged.",
    "producer",
    "namespace",
)
UNACKNOWLEDGED = _gauge(
    "unacknowledged_messages",
    "Messages on their way to the brokers.",
    "feeder",
    "namespace",
)
FEED_LOSSES = _counter(
    "feed_losses_total",
    "Times that the connection to the feed was lost.",
    "feeder",
    "namespace",
)


class Lag:
    """Tells how far a worker is behind on a topic; of shards that it has no more, nothing.

    Parameters
    ----------
    namespace, worker, topic
        Whose it is, and of what.
    """

    def __init__(self, namespace: str, worker: str, topic: str) -> None:
        self._names = namespace, worker
        self._topic = topic
        self._told: set[int] = set()

    def tell(self, offsets: Mapping[int, int]) -> None:
        """Take the offsets not taken yet, by shard; below 0 where nobody knows: then it stays."""
        for shard in self._told - set(offsets):
            LAG.remove(*self._names, shard, self._topic)
        self._told &= set(offsets)
        for shard, count in offsets.items():
            if count >= 0:
                self._told.add(shard)
                LAG.labels(*self._names, shard, self._topic).set(count)
