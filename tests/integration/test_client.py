"""Subscribers on a real broker: the whole tape, a late joiner, a stored position, the examples."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams import Digest, Position, SessionData, SessionStream, recorded
from streams.client import BarRow
from streams.errors import TopicError
from streams.kafka import create_topics
from streams.local import LocalBroker
from streams.positions import FrameReader, FrameWriter
from streams.settings import Settings, load
from streams.topics import Topics
from tests.derived import all_rows, frame_of, keys_of, longer_bars, with_derived
from tests.frames import OPEN_NS, Row, full_day, merged, tape_of
from tests.frames import Tape as Frames
from tests.harness import Tape
from tests.unit.streams.client.answers import answers

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
SOURCE = "synthetic:symbols=6,seed=3,missing=0.02"
START, END = "2024-11-27", "2024-11-29"  # a whole day, Thanksgiving, a half-day
MINUTES = (390, 210)
SHARDS = 2


@pytest.fixture
def tape(broker: LocalBroker, namespace: str, tmp_path: Path) -> Iterator[Tape]:
    """A tape with a coordinator and a producer that have nothing to do yet."""
    with Tape(
        broker.bootstrap_servers, namespace, tmp_path, partitions=SHARDS, source=SOURCE
    ) as made:
        made.coordinator()
        made.producer()
        made.await_members(made.topics.coordinator, SHARDS)
        yield made


def played(tape: Tape) -> Tape:
    tape.start(START, END)
    tape.play()
    return tape


def example(name: str, *arguments: str, servers: str = "") -> list[str]:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "SESSIONTAPE_BOOTSTRAP_SERVERS": servers},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_replay_in_a_subscriber_and_in_the_examples(tape: Tape, broker: LocalBroker) -> None:
    played(tape)
    expected = tape.digest()
    digest = Digest()
    with SessionStream(settings=tape.settings, start="first") as stream:
        for batch in stream.frames(timeout_s=30):
            digest.add(batch)
        data = stream.data
    assert (digest.final(), digest.as_known()) == (expected.final(), expected.as_known())
    assert (digest.sessions, digest.rows) == (2, len(tape.rows()))
    assert data.session_ended()

    servers, namespace = broker.bootstrap_servers, tape.settings.namespace
    schema = str(ROOT / "schemas" / "Frame.avsc")
    assert example("plain_consumer.py", servers, namespace, schema) == [expected.final()]

    symbol = tape.symbols[0]
    *signals, count = example("moving_average.py", namespace, symbol, servers=servers)
    assert count == f"bars {data.get_bar_count(symbol)}"
    assert signals == crossings(
        [row for row in tape.rows() if row.symbol == symbol], data, (START, END)
    )


def crossings(rows: list[Any], data: SessionData, labels: tuple[str, str]) -> list[str]:
    """What the moving-average strategy must say, from the bars of one symbol."""
    said, is_long = [], False
    first_of_second = data.get_bars(rows[0].symbol)["ts_ns"][0]
    for label, is_second in zip(labels, (False, True), strict=True):
        own = [row for row in rows if bool(row.ts_ns >= first_of_second) == is_second]
        closes = np.array([row.close for row in own])
        for at in range(19, len(own)):
            last = closes[at - 19 : at + 1]
            if (last[-5:].mean() > last.mean()) != is_long:
                is_long = not is_long
                word = "buy" if is_long else "sell"
                said.append(f"{label} {own[at].known_ns} {word} {last[-1]}")
    return said


def test_the_examples_are_as_short_as_they_say() -> None:
    lines = {path.name: path.read_text("utf-8") for path in EXAMPLES.glob("*.py")}
    assert len(lines["moving_average.py"].splitlines()) <= 20
    assert len(lines["plain_consumer.py"].splitlines()) <= 40
    imports = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
        for node in ast.walk(ast.parse(lines["plain_consumer.py"]))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    allowed = {"confluent_kafka", "fastavro", "numpy"} | sys.stdlib_module_names
    assert {name.split(".")[0] for name in imports} <= allowed


@pytest.mark.parametrize("shards", [1, SHARDS])
def test_a_late_joiner_answers_as_a_reader_from_the_start(
    broker: LocalBroker, namespace: str, tmp_path: Path, shards: int
) -> None:
    """It passes nothing, and joins in the third of three sessions."""
    servers = broker.bootstrap_servers
    with Tape(servers, namespace, tmp_path, partitions=shards, source=SOURCE) as tape:
        tape.coordinator()
        tape.producer()
        tape.await_members(tape.topics.coordinator, shards)
        # An earlier run, whose sessions the tape still keeps: not those of the run it joins.
        tape.start("2024-11-26", "2024-11-26", run="run-0")
        tape.play("run-0")
        # A whole session in about three seconds.
        tape.start("2024-11-26", END, speed=MINUTES[0] * 60 / 3)
        with SessionStream(settings=tape.settings, start="first", run="run-1") as early:
            for batch in early.frames(timeout_s=30):
                if batch.session == END and early.data.clock_ns > batch.open_ns:
                    break
            assert early.data.is_session_active()
            with SessionStream(namespace, bootstrap_servers=servers) as joined:
                data = joined.data
                assert not data.is_session_active()
                batches = []
                for batch in joined.frames(timeout_s=30):
                    batches.append(batch)
                    assert len(data.get_historical_bars(tape.symbols[0])) == 2
            list(early.frames(timeout_s=30))
    events = [batch.event for batch in batches]
    assert {batch.session for batch in batches[:-1]} == {END}
    assert events[0] == "open"
    assert events[-2:] == ["close", "end"]
    assert events.count("rows") > 1
    assert answers(data, tape.symbols) == answers(early.data, tape.symbols)
    history = data.get_historical_bars(tape.symbols[0])
    assert [str(day) for day in history] == ["2024-11-26", START]


def test_trailing_sessions_of_the_store_are_those_of_the_tape(
    tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded by the sink, read while it runs and when it is gone."""
    sink = tape.sink()
    tape.start("2024-11-26", END)
    tape.play()
    tape.await_sink()
    with SessionStream(settings=tape.settings, start="first") as stream:
        list(stream.frames(timeout_s=30))
    monkeypatch.setenv("SESSIONTAPE_NAMESPACE", tape.settings.namespace)
    monkeypatch.setenv("SESSIONTAPE_DATA_DIR", str(tape.settings.data_dir))
    load.cache_clear()
    found = []
    for history in (recorded(tape.settings), recorded()):
        data = SessionData(history=history)
        with SessionStream(settings=tape.settings, data=data) as joined:
            list(joined.frames(timeout_s=30))
        found.append(answers(data, tape.symbols))
        if sink.is_wanted:
            assert sink.stop() == 0
    load.cache_clear()
    assert found[0] == found[1] == answers(stream.data, tape.symbols)


async def test_a_stored_position_is_exactly_once_under_asyncio(tape: Tape) -> None:
    played(tape)
    expected = [(row.known_ns, row.symbol, row.close) for row in tape.rows()]
    got: list[tuple[int, str, float]] = []
    stored: Any = "first"
    for stop in (1, 7, 150, 10_000):
        kept: list[tuple[int, str, float]] = []
        async with SessionStream(settings=tape.settings, start=stored) as stream:
            slices = 0
            async for one in stream.aslices(timeout_s=30):
                assert one.bars is not None or one.received == 0
                if one.bars is not None:
                    names = [one.symbols[at] for at in one.bars.symbol.tolist()]
                    closes = one.bars.close.tolist()
                    kept += [(one.ready_ns, *both) for both in zip(names, closes, strict=True)]
                slices += 1
                if slices == stop:
                    break
            stored = Position.from_dict(json.loads(json.dumps(stream.position.as_dict())))
        got += kept
    assert got == expected


def test_corrections_over_the_wire_come_to_the_same_digests(
    broker: LocalBroker, namespace: str
) -> None:
    """Late and revised rows in both shards, written as their owners write them."""
    servers = broker.bootstrap_servers
    settings = load().but(bootstrap_servers=servers, namespace=namespace)
    create_topics(settings, SHARDS)
    minute = 60_000_000_000
    late = [
        Row(OPEN_NS + 4 * minute, name, OPEN_NS + at * minute, 12.5, 3.0, revision, is_late=True)
        for at, (name, revision) in enumerate([("S000", 1), ("S001", 2), ("S004", 1)])
    ]
    late.append(Row(OPEN_NS + 5 * minute, "S001", OPEN_NS + minute, 7.5, 3.0, 1, is_late=True))
    days = [full_day(6, 6, late=late), full_day(0, 3, 1), full_day(5, 3, 2)]
    hand = tape_of(days, SHARDS, {0: [2, 4], 1: [3]})
    for shard, frames in enumerate(hand.frames):
        writer = FrameWriter(settings, shard)
        writer.open()
        for delivered in frames:
            writer.release([delivered.frame])
        writer.close()
    expected = Digest()
    for batch in merged(tape_of(days)):
        expected.add(batch)
    digest = Digest()
    rows: list[BarRow] = []
    with SessionStream(
        namespace, bootstrap_servers=broker.bootstrap_servers, start="first"
    ) as tape:
        for batch in tape.frames(timeout_s=30):
            digest.add(batch)
    with SessionStream(settings=settings, start="first", symbols="S00[14]") as tape:
        rows += tape.rows(timeout_s=30)
    assert (digest.final(), digest.as_known()) == (expected.final(), expected.as_known())
    assert [(row.symbol, row.close) for row in rows if row.is_correction] == [
        ("S001", 12.5),
        ("S004", 12.5),
        ("S001", 7.5),
    ]
    assert tape.data.get_historical_bars("S001") != {}
    schema = str(ROOT / "schemas" / "Frame.avsc")
    found = example("plain_consumer.py", servers, namespace, schema)
    assert found == [digest.final()]


def write(settings: Settings, frames: Frames, topic: str = "", shards: range | None = None) -> None:
    """Write the frames of some shards into partitions 0, 1, … of a topic."""
    for partition, shard in enumerate(shards or range(frames.shards)):
        writer = FrameWriter(settings, partition, topic=topic)
        writer.open()
        for delivered in frames.frames[shard]:
            writer.release([replace(delivered.frame, shard=partition)])
        writer.close()


def test_derived_bars_and_trailing_sessions_over_the_wire(
    broker: LocalBroker, namespace: str
) -> None:
    servers = broker.bootstrap_servers
    settings = load().but(bootstrap_servers=servers, namespace=namespace, derived_intervals="2m,5m")
    create_topics(settings, SHARDS)
    topics = Topics(namespace)
    minute = 60_000_000_000
    late = Row(OPEN_NS + 4 * minute, "S001", OPEN_NS, 12.5, 3.0, 1, is_late=True)
    days = [full_day(6, 7, late=[late]), full_day(6, 7, 1)]
    both = with_derived(tape_of(days, SHARDS, {0: [2], 1: [3]}), days, (2, 5), {2: [1], 5: [1]})
    # Each topic has open frames at offsets of its own: they are written as their owners write them.
    for number, topic in enumerate((topics.session, topics.derived("2m"), topics.derived("5m"))):
        write(settings, both, topic, range(number * SHARDS, (number + 1) * SHARDS))
    old = full_day(6, 7, -1 + 31)
    old = replace(old, label="2023-12-31")
    history = Frames(shards=SHARDS)
    for shard in range(SHARDS):
        for frame in history.rows(shard, old):
            history.put(frame)
            own = [row for row in longer_bars(old, 5) if row.symbol in frame.symbols]
            history.put(replace(frame_of(frame, own), bars=None))
        history.put(history.event(shard, "end"))
    write(settings, history, topics.history)

    wanted = keys_of(all_rows(days, (2, 5)))
    lengths = ("5m", "1m", "2m")
    with SessionStream(settings=settings, start="first", intervals=lengths) as tape:
        assert keys_of(list(tape.rows(timeout_s=30))) == wanted
        data = tape.data
    assert [str(day) for day in data.get_historical_bars("S001", interval="5m")] == [
        "2023-12-31", "2024-01-01"
    ]  # fmt: skip
    assert len(data.get_all_bars_including_historical("S001")) == 21
    with SessionStream(settings=settings, intervals=lengths) as tape:
        list(tape.frames(timeout_s=30))
    names = days[0].symbols
    assert answers(tape.data, names) == answers(data, names)

    got: list[tuple[int, int]] = []
    stored: Any = "first"
    for stop in (3, 11, 10_000):
        with SessionStream(settings=settings, start=stored, intervals=lengths) as tape:
            for at, part in enumerate(tape.slices(timeout_s=30), 1):
                got.append((part.ready_ns, part.corrections))
                if at == stop:
                    break
            stored = Position.from_dict(json.loads(json.dumps(tape.position.as_dict())))
    with SessionStream(settings=settings, start="first", intervals=lengths) as tape:
        assert [(s.ready_ns, s.corrections) for s in tape.slices(timeout_s=30)] == got

    with SessionStream(settings=settings, start="first", group="g", intervals=["2m"]) as tape:
        alone = keys_of(list(tape.rows(timeout_s=30)))
        tape.commit()
    assert alone == keys_of(all_rows(days, (2,), base=False))
    with FrameReader(settings, "g", derived=["2m"]) as reader:
        assert reader.committed() == dict(tape.position)
    with pytest.raises(TopicError, match=r"no bars of 1h: name it in SESSIONTAPE_DERIVED"):
        SessionStream(settings=settings, intervals=["1h"])
