"""A coordinator that was away and comes back: what it writes then does not count."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from streams.local import LocalBroker
from tests.harness import Tape
from tests.rows import expected_rows
from tests.workers import Worker

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("unmeasured")]

KILLS = int(os.environ.get("SESSIONTAPE_TEST_KILLS", "3"))
SOURCE = "synthetic:symbols=6,seed=4"
START, END = "2024-11-26", "2024-11-29"
TAPE_S = (390 + 390 + 210) * 60
OURS = "shard 0 is ours"
FENCED = "fenced by a newer instance"


@pytest.mark.timeout(120 + 60 * KILLS)
def test_a_worker_held_until_its_shard_went_to_another_writes_nothing_that_counts(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    rng = random.Random(7)
    with Tape(broker.bootstrap_servers, namespace, tmp_path, source=SOURCE) as tape:
        workers = [tape.coordinator(f"coordinator-{n}", is_supervised=True) for n in range(2)]
        tape.producer()
        tape.await_members(tape.topics.coordinator, 0, 1)
        tape.start(START, END, speed=TAPE_S / (15 + 20 * KILLS))
        fenced = 0
        for _ in range(KILLS):
            seen, moment = tape.rows_seen, time.monotonic() + rng.uniform(0.05, 1.0)
            await_rows(tape, seen, moment)
            stale, other = in_turn(workers)
            hold(tape, stale, other)
            frames, said = [d.frame for d in tape.came], len(stale.log)
            stale.send(signal.SIGCONT)
            # It wakes with a release that is due. Whether it hears first that the brokers refuse
            # it, and ends with an error, or that the shard is not its own any more, is chance.
            tape.await_members(tape.topics.coordinator, 0, 1)
            fenced += FENCED in stale.log[said:]
            assert not tape.ended(), "the replay was too short"
            # Its successor goes on, from where it stood: the numbers have no hole and no repeat.
            await_rows(tape, tape.rows_seen)
            assert [d.frame for d in tape.came][: len(frames)] == frames
        assert fenced, "a worker that was held never tried to write"
        tape.full_speed()
        tape.play()
        numbers = [d.frame.frame for d in tape.came]
        assert numbers == list(range(len(numbers)))
        assert tape.rows() == expected_rows(SOURCE, "XNYS", START, END)


def await_rows(tape: Tape, seen: int, moment: float = 0.0) -> None:
    tape.until(lambda: tape.rows_seen > seen and time.monotonic() >= moment, "more rows")


def in_turn(workers: list[Worker]) -> tuple[Worker, Worker]:
    """Return the worker that has the shard, by when each last said so, and the other."""
    other, owner = sorted(workers, key=last_taken)
    assert last_taken(owner)
    return owner, other


def last_taken(worker: Worker) -> str:
    """Return the line of the log in which the worker last took the shard, with its time."""
    return max((line for line in worker.log.splitlines() if OURS in line), default="")


def hold(tape: Tape, stale: Worker, other: Worker) -> None:
    """Stop the owner's process until the other one has the shard and writes."""
    owned = other.log.count(OURS)
    stale.send(signal.SIGSTOP)
    ends = tape.ends()
    tape.until(lambda: other.log.count(OURS) > owned, "the shard at the other worker")
    tape.until(lambda: tape.rows_since(ends) > 0, "rows of the other worker")
