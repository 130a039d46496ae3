"""How soon a run pauses: from the call to the frame of every shard that says so, at a reader.

A paced replay is paused and resumed again and again. The call itself comes back later, when it has
seen where each shard stands. The peer is the way of one small message to the same broker and back,
which every control takes.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.shares import shares
from streams.controls import Controls
from streams.delivery import FrameReader
from streams.kafka import consumer_config, create_topics, producer_config
from streams.local.stack import Stack
from streams.settings import Settings, load
from streams.topics import Topics

__all__ = ["run"]

ROUNDS = 40
SOURCE = "synthetic:symbols=50,seed=3"
START, END = "2024-11-04", "2024-11-15"
PLAY_S = 0.05
POLL_S = 0.01
SEEN_S = 10.0


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return ms from the call of pause to the last shard's word and to its return; of a message."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load().but(
            data_dir=Path(folder),
            namespace="bench",
            log_level="warning",
            speed="120",
            historical_intervals="",
        )
        with Stack(settings, sink=False, source=SOURCE, partitions=2) as stack:
            pauses, calls = _pauses(stack.settings)
            echoes = _echoes(stack.settings)
    tell(f"pause: p50 {np.median(pauses):.1f} ms, a message and back {np.median(echoes):.1f} ms")
    return {
        "pause_ms": shares(pauses),
        "call_ms": shares(calls),
        "message_and_back_ms": shares(echoes),
        "ratio_to_message": round(float(np.median(echoes) / np.median(pauses)), 3),
    }


def _pauses(settings: Settings) -> tuple[list[float], list[float]]:
    pauses: list[float] = []
    calls: list[float] = []
    with Controls(settings=settings) as controls, _Watch(settings) as watch:
        symbols = [f"SYN{number:04d}" for number in range(1, 51)]
        controls.start(symbols, START, END)
        for _ in range(ROUNDS):
            time.sleep(PLAY_S)  # it plays meanwhile
            began_s = time.perf_counter()
            state = controls.pause()
            calls.append((time.perf_counter() - began_s) * 1000)
            if state.waits_for:
                msg = f"shards {state.waits_for} do not pause"
                raise RuntimeError(msg)
            pauses.append((watch.paused_s(began_s) - began_s) * 1000)
            controls.resume()
        controls.stop()
    return pauses, calls


class _Watch:
    """A reader of the tape that notes when each shard first says that it stands."""

    def __init__(self, settings: Settings) -> None:
        self._reader = FrameReader(settings)
        self._said: list[tuple[int, float]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._reader.assign(self._reader.ends())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._reader.close()

    def paused_s(self, since_s: float) -> float:
        """Return when the last shard first said so since a time."""
        deadline_s = time.perf_counter() + SEEN_S
        while time.perf_counter() < deadline_s:
            first: dict[int, float] = {}
            for shard, at_s in tuple(self._said):
                if at_s >= since_s:
                    first.setdefault(shard, at_s)
            if len(first) == len(self._reader.shards):
                return max(first.values())
            self._is_over.wait(POLL_S)
        msg = f"no reader saw the pause in {SEEN_S:.0f} s"
        raise RuntimeError(msg)

    def _read(self) -> None:
        while not self._is_over.is_set():
            for delivered in self._reader.poll(POLL_S):
                if delivered.frame.state == "paused":
                    self._said.append((delivered.frame.shard, time.perf_counter()))


def _echoes(settings: Settings) -> list[float]:
    """Return ms from the send of a message until it was read again."""
    settings = settings.but(namespace="bench-echo")
    create_topics(settings, 1)
    topic = Topics(settings.namespace).control
    consumer = Consumer(consumer_config(settings, "bench-echo"))
    consumer.assign([TopicPartition(topic, 0, 0)])
    producer = Producer(producer_config(settings, linger_ms=0))
    found: list[float] = []
    for number in range(ROUNDS + 5):
        began_s = time.perf_counter()
        producer.produce(topic, str(number).encode(), b"echo")
        producer.poll(0)
        while consumer.poll(1.0) is None:
            pass
        found.append((time.perf_counter() - began_s) * 1000)
    consumer.close()
    return found[5:]
