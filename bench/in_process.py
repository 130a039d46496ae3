"""A tape without a broker: the real source, the real shard, the real merging of the client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from schemas import BarBlock, Coverage, Frame
from streams.calendar import sessions_between
from streams.client.batch import Batch
from streams.client.merging import Merger
from streams.control import command_of
from streams.intervals import MINUTE_NS
from streams.settings import load
from streams.shard import Shard
from streams.sources import open_source

__all__ = ["batches", "blocks", "frames"]

CALENDAR = "XNYS"


def blocks(symbols: int, start_ns: int, end_ns: int) -> list[BarBlock]:
    """Return the bars of the synthetic market with start_ns <= ts < end_ns, as they come."""
    source = open_source(f"synthetic:symbols={symbols},seed=7")
    parts = source.load("bars", source.symbols(), start_ns, end_ns, MINUTE_NS)
    return [part for part in parts if isinstance(part, BarBlock)]


def batches(symbols: int, start: str, end: str) -> list[Batch]:
    """Return what a subscriber receives of a replay at full speed, over one shard."""
    merger = Merger(1)
    found: list[Batch] = []
    for at, frame in enumerate(frames(symbols, start, end)):
        merger.add(frame, at)
        found += merger.drain()
    return found


def frames(symbols: int, start: str, end: str) -> Iterator[Frame]:
    """Give the frames of a replay at full speed, over one shard."""
    names = open_source(f"synthetic:symbols={symbols},seed=7").symbols()
    shard = Shard(0, 1, {"bars": "raw.bars"})
    settings = load().but(calendar=CALENDAR, speed="max")
    command = command_of(settings, names, sessions_between(CALENDAR, start, end))
    shard.command(replace(command, version=1, run="bench"))
    offset, at = 0, 0
    while (release := shard.advance(0)) is not None:
        for frame in release.frames:
            if frame.event == "open":
                shard.opened(at)
            at += 1
        yield from release.frames
        for request in release.requests:
            asked = blocks(symbols, request.start_ns, request.end_ns)
            coverage = Coverage(request.symbols, request.start_ns, request.end_ns)
            for record in (*(replace(block, run="bench") for block in asked), coverage):
                shard.take(offset, record, 0)
                offset += 1
