"""The sink's process against a real broker and a real chDB, stopped gently and with -9."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from sinks import open_history
from streams.kafka import admin, create_topics, topics_there
from streams.local import LocalBroker
from streams.positions import Delivered, FrameReader, FrameWriter
from streams.settings import Settings
from streams.topics import Topics
from tests.shards import SHARDS, Shards, python, sink, stopped, until
from tests.unit.sinks.derived import Longer, put
from tests.unit.sinks.frames import BarRow, Tape, label

KILLS = int(os.environ.get("SESSIONTAPE_TEST_KILLS", "3"))
LONGER = ["interval", "vwap", "count", "quality"]
PACE_S = 0.02  # a session, while the sink is killed

# As the worker, but it dies where it hurts: the rows are in, the offsets are not.
DIES_AT_COMMIT = """
import os
from sinks.clickhouse import ClickHouseSink
from sinks.owner import FolderOwner
from sinks.store import Store
from sinks.worker import Line, run
from streams.positions import FrameReader
from streams.settings import load
from streams.topics import Topics
class Dying(FrameReader):
    def commit(self, offsets):
        os.kill(os.getpid(), 9)
with FolderOwner(load()):
    reader = Dying(load(), group=Topics(load().namespace).sink)
    run([Line(ClickHouseSink(Store.open(load())), reader)], lambda: False)
"""


@pytest.fixture
def settings(broker: LocalBroker, namespace: str, tmp_path: Path) -> Settings:
    made = Settings(
        bootstrap_servers=broker.bootstrap_servers, namespace=namespace, data_dir=tmp_path
    )
    create_topics(made, SHARDS)
    return made


def loaded_on(day: int, tapes: Sequence[Tape]) -> list[Tape]:
    """Return a trailing session of each shard as the upkeep loads it: rows, then the end."""
    found = []
    for tape in tapes:
        loaded = Tape(symbols=tape.symbols, shard=tape.shard, shards=SHARDS, frames_a_session=1)
        rows = loaded.session(day)[1].frame
        end = replace(loaded.start().frame, event="end", frame=1, first_row=rows.rows)
        loaded.frames = [Delivered(replace(rows, frame=0, first_row=0), 0), Delivered(end, 1)]
        found.append(loaded)
    return found


def test_bars_go_into_chdb_and_come_back_in_a_new_process(settings: Settings) -> None:
    shards = Shards(settings)
    with sink(settings) as process:
        for day in range(3):
            shards.play(day)
        shards.correct(2, minute=5, price=77.0)
        until(shards.caught_up, "all committed")
        log = stopped(process)
    assert "down: all that was read is written and committed" in log
    shards.check()


def test_a_crash_between_insert_and_commit_gives_no_double_bar(settings: Settings) -> None:
    shards = Shards(settings)
    shards.play(0)
    shards.correct(0, minute=1, price=55.0)
    for _ in range(2):
        dying = python(settings, "-c", DIES_AT_COMMIT)
        _, log = dying.communicate(timeout=60)
        assert dying.returncode == -signal.SIGKILL, log
        with closing(FrameReader(settings, Topics(settings.namespace).sink)) as reader:
            assert set(reader.committed().values()) == {None}
        shards.check()  # the rows were in
    shards.play(1)
    with sink(settings) as process:
        until(shards.caught_up, "all committed")
        stopped(process)
    shards.check()


def test_a_restarted_sink_goes_on_where_it_stood(settings: Settings) -> None:
    shards = Shards(settings)
    for day in range(2):
        shards.play(day)
        with sink(settings) as process:
            until(shards.caught_up, "all committed")
            stopped(process)
        shards.check()


def test_derived_bars_and_loaded_sessions_come_in_by_their_topics(settings: Settings) -> None:
    topics = Topics(settings.namespace)
    shards = Shards(settings)
    fives = [Tape(symbols=tape.symbols, shard=tape.shard, shards=SHARDS) for tape in shards.tapes]
    loaded = loaded_on(0, shards.tapes)
    by_topic = {topics.derived("5m"): fives, topics.history: loaded}
    writers = {
        topic: [FrameWriter(settings, n, topic) for n in range(SHARDS)] for topic in by_topic
    }
    for each in writers.values():
        for writer in each:
            writer.open()
    history = open_history(settings)
    for day in (1, 2):  # the second by a sink that was started again
        shards.play(day)
        for tape, writer in zip(fives, writers[topics.derived("5m")], strict=True):
            bars = [Longer(name, day, 5, 10 * day, length=3, count=3) for name in tape.symbols]
            writer.release([put(tape, day, bars).frame])
        if day == 1:
            for tape, writer in zip(loaded, writers[topics.history], strict=True):
                writer.release([item.frame for item in tape.frames])
        with sink(settings) as process:
            until(shards.caught_up, "all committed")
            log = stopped(process)
        assert f"topics={2 + len(settings.derived)}" in log
    found = history.bars(None, "5m").to_pylist()
    names = sorted(name for tape in shards.tapes for name in tape.symbols)
    assert [(row["symbol"], row["open"], row["session"]) for row in found] == [
        (name, 10.0 * day, label(day)) for name in names for day in (1, 2)
    ]
    assert {(row["vwap"] - row["open"], row["count"]) for row in found} == {(0.125, 3)}
    sessions = history.sessions().to_pylist()
    assert [(row["session"], row["bars"]) for row in sessions] == [
        (label(day), 50) for day in range(3)
    ]
    assert len(history.bars(["AAA"], sessions=3)) == 30
    quality = history.quality(sessions=1).to_pylist()
    assert [(row["symbol"], row["statuses"]) for row in quality] == [(n, "t" * 10) for n in names]
    assert len(history.gaps()) == 0
    with closing(FrameReader(settings, topics.sink, topic=topics.history)) as reader:
        assert None not in reader.committed().values()


def test_a_namespace_made_before_the_upkeep_has_no_such_topics(settings: Settings) -> None:
    topics = Topics(settings.namespace)
    others = [topics.history, *map(topics.derived, settings.derived)]
    with admin(settings) as client:
        for done in client.delete_topics(others).values():
            done.result(30)
    until(lambda: not set(others) & set(topics_there(settings)), "the topics are gone")
    shards = Shards(settings)
    shards.play(0)
    with sink(settings) as process:
        until(shards.caught_up, "all committed")
        log = stopped(process)
    assert "topics=1" in log
    shards.check()


@pytest.mark.faults
def test_killed_at_random_moments_it_loses_and_doubles_nothing(settings: Settings) -> None:
    shards = Shards(settings)
    rng = random.Random(20131007)
    shards.play(0)

    played = 0
    enough = threading.Event()

    def play_on() -> None:
        nonlocal played
        while not enough.wait(PACE_S):
            played += 1
            shards.play(played, price=100.0 + played)

    for _ in range(KILLS):
        enough.clear()
        before = shards.committed_rows()
        with ThreadPoolExecutor(1) as pool:
            playing = pool.submit(play_on)
            with sink(settings) as process:
                until(partial(shards.commits_behind, before), "some rows")
                # Any moment does; the loop behind it shows that rows come before and after it.
                time.sleep(rng.uniform(0.0, 1.2))
                process.kill()
            killed_at = played
            while played <= killed_at + 3:
                assert not playing.done()
                time.sleep(PACE_S)
            enough.set()
            playing.result()
        assert not shards.caught_up()
    shards.play(played + 1)
    with sink(settings) as process:
        until(shards.caught_up, "all committed")
        stopped(process)
    shards.check()


def test_the_sink_answers_history_while_it_owns_the_folder(settings: Settings) -> None:
    shards = Shards(settings)
    for day in range(3):
        shards.play(day)
    history = open_history(settings)
    with sink(settings) as process:
        until(shards.caught_up, "all committed")
        asked = history.bars(["AAA", "BBB"], "1m", sessions=2)
        sessions = history.sessions()
        second = python(settings, "-m", "sinks")
        _, log = second.communicate(timeout=60)
        assert second.returncode == 1
        (line,) = log.strip().splitlines()
        assert f"is in use by process {process.pid}" in line
        stopped(process)
    wanted = [r for r in shards.final if r.symbol in ("AAA", "BBB") and r.session != label(0)]
    assert [BarRow(**row) for row in asked.drop_columns(LONGER).to_pylist()] == wanted
    assert sessions["session"].to_pylist() == [label(day) for day in range(3)]
    assert sessions["closed"].to_pylist() == [True] * 3
    assert sessions["bars"].to_pylist() == [50] * 3
    # With the sink gone the same history opens the folder itself, and lets it go again.
    assert history.bars(["AAA", "BBB"], "1m", sessions=2).equals(asked)
    with sink(settings) as process:
        until(lambda: history.bars(["AAA", "BBB"], "1m", sessions=2).equals(asked), "asked again")
        process.kill()
        process.wait()
        # What a killed sink said of itself misleads nobody.
        assert history.bars(["AAA", "BBB"], "1m", sessions=2).equals(asked)
    history.close()


def test_deleted_frames_stop_it_with_one_sentence(settings: Settings) -> None:
    shards = Shards(settings)
    shards.play(0)
    with sink(settings) as process:
        until(shards.caught_up, "all committed")
        stopped(process)
    for day in (1, 2):
        shards.play(day)
    topic = Topics(settings.namespace).session
    with closing(FrameReader(settings)) as reader:
        places = [TopicPartition(topic, s, end - 2) for s, end in reader.ends().items()]
    with admin(settings) as client:
        for done in client.delete_records(places).values():
            done.result(30)
    late = python(settings, "-m", "sinks")
    _, log = late.communicate(timeout=60)
    assert late.returncode == 1
    assert "had to come" in log.strip().splitlines()[-1]


def test_without_a_topic_it_says_so(broker: LocalBroker, namespace: str, tmp_path: Path) -> None:
    settings = Settings(
        bootstrap_servers=broker.bootstrap_servers, namespace=namespace, data_dir=tmp_path
    )
    process = python(settings, "-m", "sinks")
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = log.strip().splitlines()
    assert f"topic {namespace}.session is missing" in line
