"""Answers requests: source → raw topics, blocks first, their coverage behind them.

Delivery: at least once. A request's offset is committed when the broker has acknowledged the whole
answer, and those of all requests before it; a producer that died answers it again, with the same
blocks cut the same way as long as the same source has them, and readers drop what they have seen.
It never runs ahead of what was requested.

Sessions are loaded from the primary source, one by one; gaps and history are answered beside them
from all sources, so that neither waits for a slow or a hanging load. One thread alone, that of
`Producer.run`, speaks with the broker.

Run it as ``python -m streams.producer --source URI [--fallback URI]… [--withhold SPEC]``; see
``streams.sources`` for the URIs and ``streams.sources.withheld`` for what can be withheld.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from schemas import Codec, Coverage, DataRequest
from schemas.registry import codec_for
from streams.answers import Answers, Out, Refusal
from streams.endpoint import BEAT_S, Health, served
from streams.entry import Parser, exit_code, log_to_stderr
from streams.errors import ConfigError, DecodeError
from streams.filler import minutes_asked
from streams.intervals import interval_ns
from streams.kafka import check_topics, consumer_config
from streams.lanes import Lanes
from streams.metrics import ANSWER, OPEN_REQUESTS, REJECTED, ROWS, Lag
from streams.outbox import Answered, Outbox
from streams.settings import Settings, load
from streams.sources import open_source
from streams.sources.protocol import BadRow, Source
from streams.sources.withheld import withheld
from streams.topics import Topics

__all__ = ["Producer", "main"]

log = logging.getLogger("sessiontape.producer")

BATCH = 100
"""Requests taken at once: they are seen before they are answered, so that old runs are skipped."""
POLL_S = 0.1
PAUSES_S = (0.001, 0.010)
"""Shortest and longest wait for what is being loaded, before requests are looked for again."""
FLUSH_S = 10.0
"""How long a worker that is told to stop waits for delivery reports."""
THREADS: Mapping[str, int] = {"session": 1, "gap": 4, "history": 1}
"""How many requests of a kind are answered at once; a prefetch is a session."""
MINUTES = 5_000_000
"""Minutes that a request for gaps or history may name: what it needs of memory has to end."""
USAGE = "usage: python -m streams.producer --source URI [--fallback URI]… [--withhold SPEC]"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A message of the requests topic; a ``request`` that is text says why it is none."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    value: bytes
    request: DataRequest | str


@dataclass(slots=True)
class _Job:
    """A request on its way to its answer; one of a run that was left is skipped."""

    partition: int
    request: DataRequest
    answered: Answered
    start_s: float = 0.0
    is_skipped: bool = False


class Producer:
    """The worker: takes requests of the group, answers each from its sources.

    Parameters
    ----------
    settings, source
        Brokers and namespace; where rows come from.
    codec
        Writes the messages.
    fallbacks
        Sources that gaps and history are asked from where the one before can't say.
    changes
        librdkafka properties of the sending client, with ``_`` for ``.``.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        codec: Codec | None = None,
        fallbacks: Sequence[Source] = (),
        **changes: str | float | bool,
    ) -> None:
        self.topics = Topics(settings.namespace)
        self.sources = (source, *fallbacks)
        self.health = Health()
        self._codec = codec or codec_for(settings.schema_registry_url)
        names = (*self.topics.raw, self.topics.session, self.topics.requests, self.topics.rejected)
        self._shards = check_topics(settings, names)
        self._stop = threading.Event()
        self._outbox = Outbox(settings, self._stop, changes)
        self._consumer = Consumer(
            # A slow source may take its time: whether the worker lives is told by heartbeats.
            consumer_config(settings, self.topics.producer, max_poll_interval_ms=3_600_000)
        )
        self._answers = Answers(
            self.topics,
            self.sources,
            gap_timeout_s=settings.source_timeout_s,
            history_timeout_s=settings.session_timeout_s,
        )
        self._is_member, self._told_s = False, 0.0
        self._worker = settings.namespace, "producer"
        self._lag = Lag(*self._worker, self.topics.requests)
        for topic in (*self.topics.raw, self.topics.raw_history, self.topics.requests):
            REJECTED.labels(*self._worker, topic)  # from 0 on: else the first is no increase
        self._lanes: Lanes[_Job, Out] = Lanes(self._work, THREADS)
        self._pause_s = PAUSES_S[0]
        self._runs: dict[int, dict[str, None]] = {}
        self._newest: dict[int, str] = {}
        self._committed: dict[int, TopicPartition] = {}

    def stop(self) -> None:
        """Let ``run`` end soon; what is unanswered then is left to the next start."""
        self._stop.set()

    def run(self) -> None:
        """Answer requests until ``stop`` is called.

        Raises
        ------
        DeliveryError
            Messages were not acknowledged; their request is answered again at the next start.
        """
        self._consumer.subscribe([self.topics.requests], on_assign=self._joined)
        names = "+".join(source.name for source in self.sources)
        log.info("ready source=%s namespace=%s", names, self.topics.namespace)
        try:
            while not self._stop.is_set():
                self._receive()
                self._send_steps()
                self._commit(self._outbox.settle())
                self._tell()
            # What is not acknowledged by then is not committed: the next start answers it again.
            self._commit(self._outbox.settle(FLUSH_S))
            self._confirm()
        finally:
            self._lanes.stop()
            self._consumer.close()

    def _joined(self, *_: object) -> None:
        self._is_member = True

    def _tell(self) -> None:
        """Say now and then that the loop goes round, and how far it is behind."""
        now_s = time.monotonic()
        if now_s - self._told_s < BEAT_S:
            return
        self._told_s = now_s
        self.health.beat("" if self._is_member else "the group has given it no requests to answer")
        OPEN_REQUESTS.labels(self._worker[0]).set(len(self._outbox))
        behind: dict[int, int] = {}
        for place in self._consumer.position(self._consumer.assignment()):
            _, end = self._consumer.get_watermark_offsets(place, cached=True)
            is_known = place.offset >= 0 and end >= 0
            behind[place.partition] = max(end - place.offset, 0) if is_known else -1
        self._lag.tell(behind)

    def _receive(self) -> None:
        """Take the requests at hand; wait for one if there is nothing else to do."""
        idle_s = 0.005 if len(self._outbox) else POLL_S
        first = self._consumer.poll(0 if self._lanes.is_busy else idle_s)
        if first is None:
            return
        jobs: list[tuple[int, _Job]] = []
        for message in (first, *self._consumer.consume(BATCH - 1, 0)):
            error = message.error()
            if error is not None:
                log.warning("requests can't be read for now: %s", error.str())
                continue
            asked = self._read(message)
            # In the order of the partition, whatever is answered first: the commits follow it.
            position = TopicPartition(asked.topic, asked.partition, asked.offset + 1)
            answered = self._outbox.begin(position)
            if isinstance(asked.request, str):
                log.warning(
                    "rejected topic=%s offset=%d: %s", asked.topic, asked.offset, asked.request
                )
                self._reject(answered, asked.topic, asked.value, {"reason": asked.request})
                answered.complete = not self._stop.is_set()
                continue
            if asked.request.run:
                runs = self._runs.setdefault(asked.partition, {})
                runs.setdefault(asked.request.run)
                self._newest[asked.partition] = next(reversed(runs))
            jobs.append((asked.time_ms, _Job(asked.partition, asked.request, answered)))
        # All shards' first session before any shard's second: the tape waits for the slowest.
        for _, job in sorted(jobs, key=lambda timed: timed[0]):
            kind = job.request.kind
            self._lanes.put(kind if kind in THREADS else "session", job)

    def _work(self, job: _Job) -> Iterator[Out]:
        """Make an answer; runs in a thread of its lane."""
        job.start_s = time.monotonic()
        run = job.request.run
        # A run that began later, on the same partition, has asked meanwhile.
        job.is_skipped = bool(run) and run != self._newest[job.partition]
        if not job.is_skipped:
            yield from self._answers.to(job.request)

    def _send_steps(self) -> None:
        """Send what was made meanwhile, as much as there may be at once."""
        for number in range(BATCH):
            wait_s = self._pause_s if self._lanes.is_busy and not number else 0.0
            step = self._lanes.take(wait_s)
            if step is None:
                # Beside a load that takes its time a request may wait a little, and never long.
                self._pause_s = PAUSES_S[0] if number else min(2 * self._pause_s, PAUSES_S[1])
                return
            if self._stop.is_set():  # the rest of it is left: nothing vouches for it
                return
            if step.error is not None:
                raise step.error
            if step.out is None:
                self._end(step.job)
            elif isinstance(step.out, Refusal):
                self._reject_row(step.job.answered, step.out.topic, step.out.row)
            else:
                self._send(step.job, step.out.topic, step.out.record)

    def _end(self, job: _Job) -> None:
        request, answered = job.request, job.answered
        if job.is_skipped:
            log.info("skipped request=%s run=%s: a newer run asks", request.id, request.run)
        else:
            took_s = time.monotonic() - job.start_s
            log.info(
                "answered request=%s run=%s kind=%s session=%s shard=%d symbols=%d blocks=%d "
                "rows=%d bad=%d ms=%.0f",
                *(request.id, request.run, request.kind, request.session, request.shard),
                *(len(request.symbols), answered.blocks, answered.rows, answered.bad),
                took_s * 1000,
            )
            ANSWER.labels(self._worker[0], request.kind).observe(took_s)
        answered.complete = not self._stop.is_set()

    def _read(self, message: Message) -> _Asked:
        value = message.value() or b""
        return _Asked(
            topic=message.topic() or "",
            partition=cast("int", message.partition()),
            offset=cast("int", message.offset()),
            time_ms=message.timestamp()[1],
            value=value,
            request=self._request(value),
        )

    def _request(self, value: bytes) -> DataRequest | str:
        """Return the request, or why it can't be answered at all."""
        try:
            request = self._codec.decode(value)
        except DecodeError as exc:
            return exc.reason
        if not isinstance(request, DataRequest):
            return f"a {type(request).__name__} is no request"
        return self._objection(request) or request

    def _objection(self, request: DataRequest) -> str:
        """Return why a request can't be answered, empty if it can."""
        if not 0 <= request.shard < self._shards:
            return f"shard {request.shard} is none of the {self._shards} there are"
        unknown = set(request.streams) - {"bars", "quotes", "ticks"}
        if unknown:
            return f"stream {min(unknown)!r} is none of bars, quotes and ticks"
        try:
            interval_ns(request.interval)
        except ConfigError as exc:
            return str(exc)
        minutes = minutes_asked(request) if request.kind in ("gap", "history") else 0
        if minutes > MINUTES:
            return f"it asks for {minutes} minutes, more than {MINUTES}: ask in parts"
        return ""

    def _send(self, job: _Job, topic: str, record: Any) -> None:
        if not isinstance(record, Coverage):
            job.answered.blocks += 1
            job.answered.rows += len(record)
            ROWS.labels(*self._worker, job.request.shard, topic).inc(len(record))
        key = record.symbols[0] if record.symbols else ""
        value = self._codec.encode(record, topic)
        self._outbox.send(job.answered, topic, value, key, partition=job.request.shard)

    def _reject_row(self, answered: Answered, topic: str, row: BadRow) -> None:
        answered.bad += 1
        log.warning(
            "rejected path=%s line=%d symbol=%s: %s", row.path, row.line, row.symbol, row.reason
        )
        headers = {
            "reason": row.reason,
            "path": row.path,
            "line": str(row.line),
            "symbol": row.symbol,
        }
        self._reject(answered, topic, row.text, headers)

    def _reject(
        self, answered: Answered, topic: str, value: bytes, headers: dict[str, str]
    ) -> None:
        REJECTED.labels(*self._worker, topic).inc()
        packed = [(name, text.encode()) for name, text in headers.items()]
        self._outbox.send(answered, self.topics.rejected, value, topic, headers=packed)

    def _commit(self, positions: list[TopicPartition]) -> None:
        """Commit without a wait: one that is lost costs an answer that comes twice."""
        for position in positions:
            self._committed[position.partition] = position
        try:
            if positions:
                self._consumer.commit(offsets=positions, asynchronous=True)
        except KafkaException as exc:
            log.warning("positions not kept: %s", exc.args[0].str())

    def _confirm(self) -> None:
        """Commit the last positions of the partitions still held, and wait for it."""
        held = {place.partition for place in self._consumer.assignment()}
        last = [place for partition, place in self._committed.items() if partition in held]
        try:
            if last:
                self._consumer.commit(offsets=last, asynchronous=False)
        except KafkaException as exc:
            # Given to another producer meanwhile: it answers again, and readers drop the repeat.
            log.warning("positions not kept: %s", exc.args[0].str())


def _serve(arguments: Sequence[str] | None) -> None:
    """Answer requests until SIGTERM or SIGINT."""
    parser = Parser("python -m streams.producer", USAGE)
    parser.add_argument("--source", required=True)
    parser.add_argument("--fallback", action="append", default=[])
    parser.add_argument("--withhold", default="")
    given = parser.parse_args(arguments)
    settings = load()
    log_to_stderr(settings)
    source = open_source(given.source)
    if given.withhold:
        source = withheld(source, given.withhold, settings.calendar, settings.hours)
    fallbacks = [open_source(uri) for uri in given.fallback]
    producer = Producer(settings, source, fallbacks=fallbacks)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: producer.stop())
    with served(settings, "producer", producer.health):
        producer.run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker until SIGTERM or SIGINT; return its exit code."""
    return exit_code(log, partial(_serve, arguments))


if __name__ == "__main__":
    sys.exit(main())
