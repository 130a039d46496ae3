"""Nothing lost, nothing twice: each process killed with -9 in the middle of a paced replay."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from streams.local import LocalBroker
from tests.harness import Result, Tape
from tests.rows import expected_rows
from tests.workers import Worker

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("unmeasured")]

KILLS = int(os.environ.get("SESSIONTAPE_TEST_KILLS", "3"))
SOURCE = "synthetic:symbols=8,seed=3,missing=0.01"
SLOW = f"{SOURCE},delay_ms=300"
"""The same market, but it takes its time: so that a kill finds the producer at work."""
START, END, HOURS = "2024-11-13", "2024-11-29", "09:30-12:30"
TAPE_S = 12 * 180 * 60
SHARDS = 2
LASTS_S = 10 + 20 * KILLS
"""A paced replay must outlast its kills; behind the last one it goes on at full speed."""
KINDS = ("coordinator", "tables", "sink", "producer")


@pytest.fixture(scope="module")
def undisturbed(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("undisturbed")
    with tape_of(broker, "undisturbed", folder) as tape:
        start_all(tape)
        begin(tape)
        found = result_of(tape)
    assert found.rows == expected_rows(SOURCE, "XNYS", START, END, HOURS)
    return found


def tape_of(
    broker: LocalBroker, namespace: str, folder: Path, source: str = SOURCE, shards: int = SHARDS
) -> Tape:
    return Tape(
        broker.bootstrap_servers,
        namespace,
        folder,
        partitions=shards,
        source=source,
        flush_interval_ms=50,
    )


def begin(tape: Tape, speed: float = 0.0, prefetch_sessions: int = 1) -> None:
    readers = (tape.topics.tables, tape.topics.sink, tape.group)
    tape.start(
        START,
        END,
        hours=HOURS,
        speed=speed,
        prefetch_sessions=prefetch_sessions,
        trailing_sessions=2,
        readers=readers,
    )


def start_all(tape: Tape, *, is_supervised: bool = False) -> dict[str, Worker]:
    workers = {
        "coordinator": tape.coordinator(is_supervised=is_supervised),
        "tables": tape.tables(is_supervised=is_supervised),
        "sink": tape.sink(is_supervised=is_supervised),
        "producer": tape.producer(is_supervised=is_supervised),
    }
    tape.await_members(tape.topics.coordinator, SHARDS)
    return workers


def result_of(tape: Tape) -> Result:
    """Read the run to its end, wait for the views of it, return it all."""
    tape.play()
    table = tape.await_tables()
    for shard in range(SHARDS):
        table[f"shards/{shard}"].pop("speed")  # of the clock at the end, not of the input
    tape.await_sink()
    sink = next(worker for worker in tape.workers if worker.name == "sink")
    assert sink.stop() == 0
    digest = tape.digest()
    return Result(digest.final(), digest.as_known(), tape.rows(), table, tape.store())


def same(found: Result, wanted: Result) -> None:
    """Assert one by one, for a difference to be readable."""
    assert len(found.rows) == len(wanted.rows)
    assert found.rows == wanted.rows
    assert (found.digest, found.as_known) == (wanted.digest, wanted.as_known)
    assert found.tables == wanted.tables
    final, as_known = found.store
    assert final == wanted.store[0]
    assert as_known == wanted.store[1]


def moments(seed: str, kills: int) -> Iterator[float]:
    """Give seconds to wait before each kill."""
    rng = random.Random(seed)
    for _ in range(kills):
        yield rng.uniform(0.05, 1.5)


@pytest.mark.timeout(120 + 60 * KILLS)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_started_again_it_makes_no_difference(
    broker: LocalBroker, namespace: str, tmp_path: Path, undisturbed: Result, kind: str
) -> None:
    source = SLOW if kind == "producer" else SOURCE
    with tape_of(broker, namespace, tmp_path, source) as tape:
        worker = start_all(tape)[kind]
        begin(tape, TAPE_S / LASTS_S, prefetch_sessions=0 if kind == "producer" else 1)
        for number, wait_s in enumerate(moments(kind, KILLS)):
            read_rows(tape, wait_s)
            if kind == "producer" and number % 2 == 0:
                tape.until(lambda: waits_for_data(tape), "a request that is not answered")
            worker.kill()
            ends, done = tape.ends(), done_by(kind, tape)
            worker.start()
            await_rows(tape, ends)
            await_work(tape, kind, done)
            assert not tape.ended(), "the replay was too short for its kills"
        tape.full_speed()
        same(result_of(tape), undisturbed)
        assert worker.starts == KILLS + 1


@pytest.mark.timeout(120 + 60 * KILLS)
def test_a_broker_killed_and_started_again_makes_no_difference(
    namespace: str, tmp_path: Path, undisturbed: Result
) -> None:
    with LocalBroker(tmp_path / "broker") as own, tape_of(own, namespace, tmp_path) as tape:
        start_all(tape, is_supervised=True)
        begin(tape, TAPE_S / LASTS_S)
        for wait_s in moments("broker", KILLS):
            read_rows(tape, wait_s)
            own.kill()
            own.start()
            await_rows(tape, tape.ends())
            assert not tape.ended(), "the replay was too short for its kills"
        tape.full_speed()
        same(result_of(tape), undisturbed)


def read_rows(tape: Tape, wait_s: float) -> None:
    """Read until rows came, and on to a moment that is random."""
    rows, moment = tape.rows_seen, time.monotonic() + wait_s
    tape.until(lambda: tape.rows_seen > rows and time.monotonic() >= moment, "rows before the kill")


def await_rows(tape: Tape, ends: Mapping[int, int]) -> None:
    """Wait for rows that were written after a kill."""
    tape.until(lambda: tape.rows_since(ends) > 0, "rows after the kill")


def await_work(tape: Tape, kind: str, done: int) -> None:
    tape.until(lambda: done_by(kind, tape) > done, f"{kind} at work again")


def waits_for_data(tape: Tape) -> bool:
    return any(found and found[-1].frame.event == "roll" for found in tape.frames.values())


def done_by(kind: str, tape: Tape) -> int:
    """Return a count that grows only when the worker does its work."""
    topics = tape.topics
    return {
        "coordinator": lambda: tape.end_of(topics.session),
        "tables": lambda: tape.end_of(topics.changelog("symbols")),
        "sink": lambda: tape.committed(topics.sink),
        "producer": lambda: tape.end_of(topics.raw_bars),
    }[kind]()
