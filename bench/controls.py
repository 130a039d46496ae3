"""How soon a run pauses: from the call to the frame of every shard that says so.

A paced replay is paused and resumed again and again; the peer is the way of one small message to
the same broker and back, which every control takes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.shares import shares
from streams.controls import Controls
from streams.kafka import consumer_config, create_topics, producer_config
from streams.local.stack import Stack
from streams.settings import Settings, load
from streams.topics import Topics

__all__ = ["run"]

ROUNDS = 40
SOURCE = "synthetic:symbols=50,seed=3"
START, END = "2024-11-04", "2024-11-15"
PLAY_S = 0.05


def run(tell: Callable[[str], None]) -> dict[str, Any]:
    """Return ms from the call of pause to the last shard's word, and of a message."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load().but(
            data_dir=Path(folder),
            namespace="bench",
            log_level="warning",
            speed="120",
            historical_intervals="",
        )
        with Stack(settings, sink=False, source=SOURCE, partitions=2) as stack:
            pauses = _pauses(stack.settings)
            echoes = _echoes(stack.settings)
    tell(f"pause: p50 {np.median(pauses):.1f} ms, a message and back {np.median(echoes):.1f} ms")
    return {
        "pause_ms": shares(pauses),
        "message_and_back_ms": shares(echoes),
        "ratio_to_message": round(float(np.median(echoes) / np.median(pauses)), 3),
    }


def _pauses(settings: Settings) -> list[float]:
    found: list[float] = []
    with Controls(settings=settings) as controls:
        symbols = [f"SYN{number:04d}" for number in range(1, 51)]
        controls.start(symbols, START, END)
        for _ in range(ROUNDS):
            time.sleep(PLAY_S)  # it plays meanwhile
            began_s = time.perf_counter()
            state = controls.pause()
            found.append((time.perf_counter() - began_s) * 1000)
            if state.waits_for:
                msg = f"shards {state.waits_for} do not pause"
                raise RuntimeError(msg)
            controls.resume()
        controls.stop()
    return found


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
