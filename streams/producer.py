"""Answers requests: source → raw topics, blocks first, their coverage behind them.

Delivery: at least once. A request's offset is committed when the broker has acknowledged the whole
answer; a producer that died answers it again, with the same blocks cut the same way, and readers
drop what they have seen. It never runs ahead of what was requested.

Run it as ``python -m streams.producer --source URI``; see ``streams.sources`` for the URIs.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from schemas import Codec, Coverage, DataRequest
from schemas.registry import codec_for
from streams.errors import ConfigError, DecodeError, SessiontapeError, SourceError
from streams.intervals import interval_ns
from streams.kafka import check_topics, consumer_config
from streams.outbox import Answered, Outbox
from streams.settings import Settings, load
from streams.sources import open_source
from streams.sources.packing import Packer, symbol_lists
from streams.sources.protocol import Answer, BadRow, Block, Source
from streams.topics import Topics

__all__ = ["Producer", "main"]

log = logging.getLogger("sessiontape.producer")

BATCH = 100
"""Requests taken at once: they are seen before they are answered, so that old runs are skipped."""
POLL_S = 0.1
FLUSH_S = 10.0
"""How long a worker that is told to stop waits for delivery reports."""
USAGE = "usage: python -m streams.producer --source URI"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A message of the requests topic; a ``request`` that is text says why it is none."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    value: bytes
    request: DataRequest | str


class Producer:
    """The worker: takes requests of the group, answers each from one source.

    Parameters
    ----------
    settings, source
        Brokers and namespace; where rows come from.
    codec
        Writes the messages.
    changes
        librdkafka properties of the sending client, with ``_`` for ``.``.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        codec: Codec | None = None,
        **changes: str | float | bool,
    ) -> None:
        self.topics = Topics(settings.namespace)
        self.source = source
        self._codec = codec or codec_for(settings.schema_registry_url)
        names = (*self.topics.raw, self.topics.session, self.topics.requests, self.topics.rejected)
        self._shards = check_topics(settings, names)
        self._stop = threading.Event()
        self._outbox = Outbox(settings, self._stop, changes)
        self._consumer = Consumer(
            # A slow source may take its time: whether the worker lives is told by heartbeats.
            consumer_config(settings, self.topics.producer, max_poll_interval_ms=3_600_000)
        )
        self._runs: dict[int, dict[str, None]] = {}
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
        self._consumer.subscribe([self.topics.requests])
        log.info("ready source=%s namespace=%s", self.source.name, self.topics.namespace)
        try:
            while not self._stop.is_set():
                for asked in self._requests():
                    if self._stop.is_set():
                        break
                    self._take(asked)
                    self._commit(self._outbox.settle())
                self._commit(self._outbox.settle())
            # What is not acknowledged by then is not committed: the next start answers it again.
            self._commit(self._outbox.settle(FLUSH_S))
            self._confirm()
        finally:
            self._consumer.close()

    def _requests(self) -> Iterator[_Asked]:
        """Wait for requests; give those at hand, oldest first."""
        first = self._consumer.poll(0.005 if len(self._outbox) else POLL_S)
        if first is None:
            return
        asked = []
        for message in (first, *self._consumer.consume(BATCH - 1, 0)):
            error = message.error()
            if error is not None:
                log.warning("requests can't be read for now: %s", error.str())
            else:
                asked.append(self._read(message))
        # All shards' first session before any shard's second: the tape waits for the slowest.
        asked.sort(key=lambda one: one.time_ms)
        for one in asked:
            if isinstance(one.request, DataRequest) and one.request.run:
                self._runs.setdefault(one.partition, {}).setdefault(one.request.run)
        yield from asked

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
        if not 0 <= request.shard < self._shards:
            return f"shard {request.shard} is none of the {self._shards} there are"
        unknown = set(request.streams) - {"bars", "quotes", "ticks"}
        if unknown:
            return f"stream {min(unknown)!r} is none of bars, quotes and ticks"
        try:
            interval_ns(request.interval)
        except ConfigError as exc:
            return str(exc)
        return request

    def _take(self, asked: _Asked) -> None:
        request = asked.request
        position = TopicPartition(asked.topic, asked.partition, asked.offset + 1)
        answered = self._outbox.begin(position)
        if isinstance(request, str):
            log.warning("rejected topic=%s offset=%d: %s", asked.topic, asked.offset, request)
            self._reject(answered, asked.topic, asked.value, {"reason": request})
        elif self._is_old(asked.partition, request.run):
            log.info("skipped request=%s run=%s: a newer run asks", request.id, request.run)
        else:
            start = time.monotonic()
            for stream in request.streams:
                self._answer(request, stream, answered)
            log.info(
                "answered request=%s run=%s kind=%s session=%s shard=%d symbols=%d blocks=%d "
                "rows=%d bad=%d ms=%.0f",
                *(request.id, request.run, request.kind, request.session, request.shard),
                *(len(request.symbols), answered.blocks, answered.rows, answered.bad),
                (time.monotonic() - start) * 1000,
            )
        answered.complete = not self._stop.is_set()

    def _is_old(self, partition: int, run: str) -> bool:
        """Tell whether a run that began later, on the same partition, has asked meanwhile."""
        runs = self._runs.get(partition, {})
        return run in runs and run != next(reversed(runs))

    def _answer(self, request: DataRequest, stream: str, answered: Answered) -> None:
        """Send one stream of an answer; leave off when told to stop."""
        topic = getattr(self.topics, f"raw_{stream}")
        packer: Packer[Any] = Packer(run=request.run, request=request.id, source=self.source.name)
        kinds: dict[str, str] = {}
        parts = self.source.load(
            stream,
            request.symbols,
            request.start_ns,
            request.end_ns,
            interval_ns(request.interval),
        )
        try:
            for part in parts:
                if self._stop.is_set():
                    return
                if isinstance(part, Answer):
                    kinds |= dict.fromkeys(part.symbols, part.kind)
                elif isinstance(part, BadRow):
                    self._reject_row(answered, topic, part)
                else:
                    self._send_blocks(answered, topic, request.shard, packer.add(part))
        except SourceError as exc:
            log.error("source=%s fails: %s", self.source.name, exc)  # noqa: TRY400 - no trace
            self._reject_row(answered, topic, BadRow(exc.path, exc.line, exc.reason))
        self._send_blocks(answered, topic, request.shard, packer.end())
        if self._stop.is_set():  # a block may have been left out: nothing vouches for it
            return
        answered.blocks += packer.blocks
        answered.rows += packer.rows
        for kind in ("rows", "nothing", "cannot_say"):
            symbols = [s for s in request.symbols if kinds.get(s, "cannot_say") == kind]
            for some in symbol_lists(symbols):
                coverage = Coverage(
                    symbols=some,
                    start_ns=request.start_ns,
                    end_ns=request.end_ns,
                    answer=kind,
                    blocks=packer.blocks,
                    rows=packer.rows,
                    run=request.run,
                    request=request.id,
                    source=self.source.name,
                )
                self._send(answered, topic, coverage, request.shard)

    def _send_blocks(
        self, answered: Answered, topic: str, shard: int, blocks: Iterable[Block]
    ) -> None:
        for block in blocks:
            self._send(answered, topic, block, shard)

    def _send(self, answered: Answered, topic: str, record: Block | Coverage, shard: int) -> None:
        value = self._codec.encode(record, topic)
        self._outbox.send(answered, topic, value, record.symbols[0], partition=shard)

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker until SIGTERM or SIGINT; return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) == 1 and given[0].startswith("--source="):
        given = given[0].split("=", 1)
    if len(given) != 2 or given[0] != "--source":
        sys.stderr.write(f"{USAGE}\n")
        return 2
    try:
        settings = load()
        logging.basicConfig(
            level=settings.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s %(message)s",
            stream=sys.stderr,
        )
        producer = Producer(settings, open_source(given[1]))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: producer.stop())
        producer.run()
    except ConfigError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    except SessiontapeError as exc:
        log.error("%s: %s", type(exc).__name__, exc)  # noqa: TRY400 - for people, no trace
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
