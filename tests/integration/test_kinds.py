"""Quotes, ticks and bars through a real coordinator: the LEAN files, counted by zipfile and csv."""

from __future__ import annotations

import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from schemas import Frame
from streams.kafka import admin
from streams.kinds import Rows
from streams.local import LocalBroker
from streams.positions import FrameReader
from tests.harness import DEADLINE_S, Tape

REAL = Path(__file__).parents[3] / "shared" / "data" / "lean"
NEW_YORK = ZoneInfo("America/New_York")
DAYS = ("2013-10-07", "2013-10-08")
STREAMS = ("ticks", "quotes", "bars")


def lines(resolution: str, day: str, kind: str) -> Iterator[tuple[int, list[str]]]:
    """Give the lines of 09:30 to 16:00 in New York, each with its time in ns."""
    path = REAL / "equity/usa" / resolution / "ibm" / f"{day.replace('-', '')}_{kind}.zip"
    midnight = datetime.fromisoformat(day).replace(tzinfo=NEW_YORK).astimezone(UTC)
    start_ns = int(midnight.timestamp()) * 10**9
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        for line in csv.reader(io.TextIOWrapper(file, "ascii")):
            if 34_200_000 <= float(line[0]) < 57_600_000:
                yield start_ns + round(float(line[0]) * 10_000) * 100, line


def trades(day: str) -> list[tuple[int, float, float]]:
    rows = lines("tick", day, "trade")
    return [(ns, int(line[1]) / 10_000, float(line[2])) for ns, line in rows]


def bars(day: str) -> list[tuple[int, float, float]]:
    rows = lines("minute", day, "trade")
    return [(ns, int(line[4]) / 10_000, float(line[5])) for ns, line in rows]


@pytest.mark.skipif(not REAL.is_dir(), reason="the LEAN sample folder is not beside the repository")
def test_real_quotes_ticks_and_bars_come_out_whole_and_in_order(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    source = f"lean:{REAL}"
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2, source=source) as tape:
        tape.coordinator("one")
        tape.coordinator("two")
        tape.producer()
        # A member of the group has the same partition of each raw topic, so it owns whole shards.
        tape.await_members(tape.topics.coordinator, 1, 1)
        with admin(tape.settings) as client:
            group = client.describe_consumer_groups([tape.topics.coordinator])
            members = group[tape.topics.coordinator].result(DEADLINE_S).members
        for member in members:
            shards = defaultdict(set)
            for place in member.assignment.topic_partitions:
                shards[place.topic].add(place.partition)
            assert set(shards) == set(tape.topics.raw)
            assert len({frozenset(some) for some in shards.values()}) == 1

        tape.start(*DAYS, symbols=("IBM",), streams=STREAMS)
        tape.play()
        frames = [frame for frame in tape.frames_of() if frame.rows]
        assert {frame.shard for frame in frames} == {tape.shard_of("IBM")}
        in_order(frames)
        ticks = [f.ticks for f in frames if f.ticks is not None]
        came = zip(*(_column(ticks, name) for name in ("ts_ns", "price", "size")), strict=True)
        assert list(came) == [row for day in DAYS for row in trades(day)]
        minutes = [f.bars for f in frames if f.bars is not None]
        came = zip(*(_column(minutes, n) for n in ("ts_ns", "close", "volume")), strict=True)
        assert list(came) == [row for day in DAYS for row in bars(day)]
        quotes = [f.quotes for f in frames if f.quotes is not None]
        said = [ns for day in DAYS for ns, _ in lines("tick", day, "quote")]
        assert _column(quotes, "ts_ns") == said
        assert not any(frame.incomplete for frame in tape.frames_of())
        assert tape.messages(tape.topics.rejected) == []

        # What is out is committed and deleted on every raw topic.
        shard = tape.shard_of("IBM")
        places = {p.topic: p for p in tape.frames_of(shard=shard)[-1].positions}
        assert set(places) == set(tape.topics.raw)
        assert all(place.keep == place.taken > 0 for place in places.values())
        for topic, place in places.items():
            with FrameReader(tape.settings, topic=topic) as reader:
                tape.until(
                    lambda reader=reader, at=place.keep: reader.starts()[shard] == at,  # type: ignore[misc]
                    f"{topic} is cut",
                )


def _column(parts: Sequence[Rows], name: str) -> list[float]:
    found: list[float] = np.concatenate([getattr(part, name) for part in parts]).tolist()
    return found


def in_order(frames: list[Frame]) -> None:
    """Each row comes in its slice when it is ready; ticks, then quotes, then bars."""
    slices: list[int] = []
    for frame in frames:
        known = np.repeat(frame.slice_ns, frame.slice_rows)
        kinds = np.empty(frame.rows, np.int64)
        for kind, rows in enumerate((frame.ticks, frame.quotes, frame.bars)):
            if rows is not None:
                length = getattr(rows, "interval_ns", 0)
                assert np.array_equal(known[rows.row], rows.ts_ns + length)
                kinds[rows.row] = kind
        steps = np.diff(kinds)[np.diff(known) == 0]
        assert (steps >= 0).all()
        slices += frame.slice_ns.tolist()
    assert all(np.diff(slices) > 0)
