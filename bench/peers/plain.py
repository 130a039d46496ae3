"""The tape in straightforward Python: confluent-kafka and fastavro, one bar a message.

Three processes, as a careful programmer would write them in an afternoon: one sends bars symbol
by symbol, one merges a session by a heap and sends bars in order, one keeps the state of the
session by symbol. Fetches are tuned; there is no recovery, no coverage, no check.
"""

from __future__ import annotations

import heapq
import io
import multiprocessing
import time
from typing import Any

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas import schema_of
from streams.kafka import consumer_config, producer_config
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["run"]

MINUTE_NS = 60_000_000_000
DAY_NS = 86_400_000_000_000
START_NS = 1_732_113_000_000_000_000
MINUTES = 390
BATCH = 10_000


def run(settings: Settings, symbols: int, sessions: int) -> float:
    """Return bars/s from the first bar sent to the last one in the subscriber's state."""
    bars = symbols * MINUTES * sessions
    done: Any = multiprocessing.get_context("spawn").Queue()
    context = multiprocessing.get_context("spawn")
    arguments = (settings, symbols, sessions, done)
    workers = [context.Process(target=work, args=arguments) for work in (_merge, _subscribe)]
    for worker in workers:
        worker.start()
    for _ in workers:
        done.get(timeout=60)  # each says that it reads
    producer = context.Process(target=_send, args=arguments)
    producer.start()
    started, finished = 0.0, 0.0
    for _ in range(3):
        name, at, count = done.get(timeout=600)
        if name == "send":
            started = at
        if name == "subscribe":
            finished = at
            if count != bars:
                msg = f"{count} of {bars} bars came"
                raise RuntimeError(msg)
    for worker in (*workers, producer):
        worker.join()
    return bars / (finished - started)


def _codec() -> tuple[Any, bytes]:
    return fastavro.parse_schema(schema_of("Bar")), b"\xc3\x01" + bytes(8)


def _consumer(settings: Settings, topic: str) -> Consumer:
    consumer = Consumer(consumer_config(settings, f"{topic}.plain", enable_partition_eof=False))
    consumer.assign([TopicPartition(topic, 0, 0)])
    return consumer


def _send(settings: Settings, symbols: int, sessions: int, done: Any) -> None:
    schema, header = _codec()
    producer = Producer(producer_config(settings, linger_ms=20))
    topic = Topics(settings.namespace).raw_bars
    started = time.time()
    for session in range(sessions):
        for number in range(symbols):
            symbol = f"SYM{number:04d}"
            for minute in range(MINUTES):
                price = 100.0 + minute % 7
                bar = {
                    "symbol": symbol,
                    "ts_ns": START_NS + session * DAY_NS + minute * MINUTE_NS,
                    "open": price,
                    "high": price + 1,
                    "low": price - 1,
                    "close": price,
                    "volume": 100.0,
                }
                out = io.BytesIO(header)
                out.seek(len(header))
                fastavro.schemaless_writer(out, schema, bar)
                _put(producer, topic, out.getvalue(), symbol.encode())
    producer.flush()
    done.put(("send", started, 0))


def _put(producer: Producer, topic: str, value: bytes, key: bytes) -> None:
    while True:
        try:
            producer.produce(topic, value, key)
        except BufferError:
            producer.poll(0.01)
        else:
            return


def _merge(settings: Settings, symbols: int, sessions: int, done: Any) -> None:
    schema, header = _codec()
    topics = Topics(settings.namespace)
    consumer = _consumer(settings, topics.raw_bars)
    producer = Producer(producer_config(settings, linger_ms=20))
    done.put("ready")
    held: list[tuple[int, str, bytes]] = []
    per_session = symbols * MINUTES
    sent = 0
    while sent < per_session * sessions:
        for message in consumer.consume(BATCH, 0.1):
            value = message.value()
            if value is None:
                continue
            bar: Any = fastavro.schemaless_reader(io.BytesIO(value[len(header) :]), schema, None)
            heapq.heappush(held, (bar["ts_ns"], bar["symbol"], value))
        while len(held) >= per_session or (held and sent % per_session):
            _, symbol, value = heapq.heappop(held)
            _put(producer, topics.session, value, symbol.encode())
            sent += 1
            if sent % per_session == 0:
                break
    producer.flush()
    done.put(("merge", time.time(), sent))


def _subscribe(settings: Settings, symbols: int, sessions: int, done: Any) -> None:
    schema, header = _codec()
    consumer = _consumer(settings, Topics(settings.namespace).session)
    done.put("ready")
    state: dict[str, dict[str, Any]] = {}
    seen, last = 0, 0
    while seen < symbols * MINUTES * sessions:
        for message in consumer.consume(BATCH, 0.1):
            value = message.value()
            if value is None:
                continue
            bar: Any = fastavro.schemaless_reader(io.BytesIO(value[len(header) :]), schema, None)
            if bar["ts_ns"] < last:
                msg = "the bars are out of order"
                raise RuntimeError(msg)
            last = bar["ts_ns"]
            row = state.setdefault(
                bar["symbol"], {"high": bar["high"], "low": bar["low"], "volume": 0.0}
            )
            row["latest"] = bar
            row["high"] = max(row["high"], bar["high"])
            row["low"] = min(row["low"], bar["low"])
            row["volume"] += bar["volume"]
            seen += 1
    done.put(("subscribe", time.time(), seen))
