"""Live latency: from the last report of a slice onto raw.bars to the slice in a subscriber's hands.

The clock of the run goes fast and nothing is late, so that slices go out by what is reported and
by nothing else. Slices are sent at a pace, many times that of a market's minutes but so that the
workers are done with one before the next; before it, to warm up and as a figure of its own, the
next is sent as soon as the last is there, and meets the workers at what they do behind a slice.
The peers are what the brokers take anyway: a plain consumer of the same messages,
which is the hop to the coordinator, and a bare transaction of one message up to a consumer that
reads what is committed, which is the hop from it.
"""

from __future__ import annotations

import gc
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.shares import shares
from schemas import Bar, BarBlock, Codec
from streams.calendar import sessions_between
from streams.client import SessionData, SessionStream
from streams.control import command_of, live_of, new_run, send_command
from streams.intervals import MINUTE_NS
from streams.kafka import consumer_config, producer_config
from streams.local.stack import Stack
from streams.positions import Outgoing, Transactions
from streams.settings import load
from streams.topics import Topics, shard_of

__all__ = ["run"]

DAY = "2024-11-05"
SPEED = 3600.0
FAR_S = 1e6
SLICES = {"one": 400, "blocks": 300, "messages": 60, "many": 12}
"""Slices at a pace, and as many before them back to back."""
PACES_S = {"one": 0.1, "blocks": 0.1, "messages": 0.4, "many": 2.0}
SYMBOLS = {"one": 1, "blocks": 1_000, "messages": 1_000, "many": 10_000}
BARE, BARE_BYTES, BARE_PACE_S = 200, 500, 0.05
FIRST = 5
"""Back to back, these are not counted."""
WAIT_S = 60.0
POLL_S = 0.001


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return latencies in ms by kind of producer, with the upkeep and without."""
    found: dict[str, Any] = {}
    for name, size in SYMBOLS.items():
        on, close, plain, bare = _measured(name, upkeep=True)
        off, close_off, *_ = _measured(name, upkeep=False)
        found[name] = {
            "symbols": size,
            "slices": SLICES[name],
            "pace_s": PACES_S[name],
            **shares(on),
            "upkeep_off": shares(off),
            "back_to_back": shares(close),
            "back_to_back_upkeep_off": shares(close_off),
            "plain_consumer": shares(plain),
            "bare_transaction": shares(bare),
            "ratio_to_plain": round(_p50(plain) / _p50(on), 3),
            "ratio_to_both_hops": round((_p50(plain) + _p50(bare)) / _p50(on), 3),
            "ratio_of_upkeep_off": round(_p50(off) / _p50(on), 3),
        }
        tell(f"{name}: {found[name]}")
    return found


def _p50(ms: Sequence[float]) -> float:
    return float(np.median(ms))


def _measured(name: str, *, upkeep: bool) -> tuple[list[float], ...]:
    """Return latencies in ms: of paced slices, back to back, plainly consumed, bare transactions.

    The plain consumer is that of the paced slices.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = load().but(
            data_dir=Path(folder),
            namespace="bench",
            log_level="warning",
            calendar="24/7",
            historical_intervals="",
        )
        with Stack(settings, sink=False, upkeep=upkeep) as stack:
            return *_slices(stack, name, upkeep=upkeep), _bare(stack) if upkeep else []


def _slices(
    stack: Stack, name: str, *, upkeep: bool
) -> tuple[list[float], list[float], list[float]]:
    symbols = [f"S{number:05d}" for number in range(SYMBOLS[name])]
    sessions = sessions_between("24/7", DAY, DAY)
    open_ns = sessions[0].open_ns
    command = replace(
        command_of(stack.settings, symbols, sessions, upkeep=upkeep),
        version=1,
        run=new_run(),
        speed=SPEED,
        lateness_s=FAR_S,
        catchup_threshold_s=FAR_S,
    )
    messages = 1 if name == "blocks" else len(symbols)
    data, sent_s = SessionData(), []
    with (
        SessionStream(settings=stack.settings, start="now", data=data) as stream,
        _Peer(stack) as peer,
    ):
        send_command(stack.settings, live_of(command, time.time_ns(), open_ns))
        send = _sender(stack, symbols, in_blocks=name == "blocks")
        found: list[float] = []
        paced_from = FIRST + SLICES[name]
        # As a subscriber does that wants it even: nothing that was loaded is looked through again.
        gc.collect()
        gc.freeze()
        due_s = time.perf_counter()
        for number in range(paced_from + SLICES[name]):
            if number >= paced_from:
                due_s = max(due_s + PACES_S[name], time.perf_counter())
                time.sleep(max(due_s - time.perf_counter(), 0.0))
            ready_ns = open_ns + (number + 1) * MINUTE_NS
            sent_s.append(send(ready_ns - MINUTE_NS))
            _await(stream, ready_ns)
            found.append((time.perf_counter() - sent_s[-1]) * 1000)
        came_s = peer.came_s(messages, len(found))
    plain = [(came - sent) * 1000 for came, sent in zip(came_s, sent_s, strict=True)]
    return found[paced_from:], found[FIRST:paced_from], plain[paced_from:]


def _bare(stack: Stack) -> list[float]:
    """Return how long each of some transactions of one message takes to a reader, in ms."""
    topic, found = Topics(stack.settings.namespace).rejected, list[float]()
    writer = Transactions(stack.settings, 0, "bench.bare")
    reader = Consumer(consumer_config(stack.settings, "bench.bare"))
    writer.begin()
    place = TopicPartition(topic, 0)
    place.offset = reader.get_watermark_offsets(place, WAIT_S)[1]
    reader.assign([place])
    message = Outgoing(topic, b"", bytes(BARE_BYTES), 0)
    for _ in range(BARE + FIRST):
        time.sleep(BARE_PACE_S)
        sent_s = time.perf_counter()
        writer.write((message,))
        came = reader.poll(WAIT_S)
        if came is None or came.error() is not None:
            msg = f"a transaction of one message did not come in {WAIT_S:.0f} s"
            raise RuntimeError(msg)
        found.append((time.perf_counter() - sent_s) * 1000)
    reader.close()
    return found[FIRST:]


class _Peer:
    """A plain consumer of raw.bars, and when each message came."""

    def __init__(self, stack: Stack) -> None:
        self._settings, self._shards = stack.settings, stack.partitions
        self._topic = Topics(stack.settings.namespace).raw_bars
        self._came: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def came_s(self, messages: int, slices: int) -> list[float]:
        """Return when the last message of each slice came."""
        deadline_s = time.perf_counter() + WAIT_S
        while len(self._came) < messages * slices and time.perf_counter() < deadline_s:
            self._is_over.wait(POLL_S)
        return self._came[messages - 1 : messages * slices : messages]

    def _read(self) -> None:
        consumer = Consumer(consumer_config(self._settings, f"{self._topic}.peer"))
        consumer.assign([TopicPartition(self._topic, n, 0) for n in range(self._shards)])
        while not self._is_over.is_set():
            found = consumer.consume(1_000, POLL_S)
            now_s = time.perf_counter()
            self._came += [now_s for message in found if message.error() is None]
        consumer.close()


def _await(stream: SessionStream, ready_ns: int) -> None:
    deadline_s = time.perf_counter() + WAIT_S
    while time.perf_counter() < deadline_s:
        for batch in stream.frames(1.0):
            if len(batch.slice_ns) and batch.slice_ns[-1] >= ready_ns:
                return
    msg = f"the slice of {ready_ns} did not come in {WAIT_S:.0f} s"
    raise RuntimeError(msg)


def _sender(stack: Stack, symbols: Sequence[str], *, in_blocks: bool) -> Callable[[int], float]:
    """Return what sends a minute of all symbols, and gives the time before its last message."""
    codec, topic = Codec(), Topics(stack.settings.namespace).raw_bars
    client = Producer(producer_config(stack.settings, linger_ms=0))
    size = len(symbols)
    price = np.full(size, 100.0)

    def send_block(ts_ns: int) -> float:
        block = BarBlock(
            symbols=tuple(symbols),
            symbol=np.arange(size, dtype=np.int32),
            ts_ns=np.full(size, ts_ns),
            interval_ns=np.full(size, MINUTE_NS),
            open=price,
            high=price,
            low=price,
            close=price,
            volume=price,
            revision=np.zeros(size, np.int32),
        )
        value = codec.encode(block, topic)
        sent_s = time.perf_counter()
        client.produce(topic, value, partition=0)
        client.poll(0)
        return sent_s

    def send_ones(ts_ns: int) -> float:
        values = [
            codec.encode(Bar(s, ts_ns, 100.0, 100.0, 100.0, 100.0, 1.0), topic) for s in symbols
        ]
        sent_s = time.perf_counter()
        for symbol, value in zip(symbols, values, strict=True):
            sent_s = time.perf_counter()
            client.produce(topic, value, symbol, shard_of(symbol, stack.partitions))
        client.poll(0)
        return sent_s

    return send_block if in_blocks else send_ones
