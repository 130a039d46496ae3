"""Workers in containers under load: killed, scaled, cut off the network. The tape is the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.containers.engine import Compose, ContainerTape, ContainerWorker, wait_until
from tests.harness import Tape
from tests.load import SOURCE, begin, finish, rows_come, start_all
from tests.workers import Worker

OURS = "shard 0 is ours"
TAKEN = {
    "coordinator": ("shard 0 is ours", "shard 1 is ours"),
    "upkeep": ("shard 0 is ours", "shard 1 is ours"),
    "tables": ("shard 0 is folded from", "shard 1 is folded from"),
    "producer": ("ready source=synthetic",),
}
"""What each says when it takes its work up: once, and once more when it was started again."""
SAID = (
    "taken over by another worker",  # it tried to write
    "the brokers are away",
    "member_id was not recognized",  # its group told it first
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def done_by(tape: Tape, kind: str) -> Callable[[], int]:
    """Return what counts the work of a worker, and grows only while it works.

    Upkeep and producer may have nothing to do until the next session: there it counts how often
    they took it up, and the end of the run, which neither may lack, shows that they did it.
    """
    topics, (worker,) = tape.topics, (w for w in tape.workers if w.name == kind)
    return {
        "coordinator": lambda: tape.end_of(topics.session),
        "upkeep": lambda: min(map(worker.log.count, TAKEN[kind])),
        "tables": lambda: tape.end_of(topics.changelog("symbols")),
        "producer": lambda: min(map(worker.log.count, TAKEN[kind])),
    }[kind]


def test_each_worker_killed_and_started_again(
    one_broker: Compose, namespace: str, tmp_path: Path
) -> None:
    with ContainerTape(one_broker, namespace, tmp_path, partitions=2, source=SOURCE) as tape:
        workers = start_all(tape)
        begin(tape)
        rows_come(tape)
        for kind, worker in workers.items():
            worker.kill()
            count = done_by(tape, kind)
            done = count()
            worker.start()
            tape.until(partial(is_above, count, done), f"{kind} at work again")
            rows_come(tape)
        assert [worker.starts for worker in tape.workers] == [2, 2, 2, 2]
        finish(tape)
        for kind, signs in TAKEN.items():
            for sign in signs:
                assert workers[kind].log.count(sign) >= 2, f"{kind}: {sign}"


def test_coordinators_and_upkeeps_come_and_go(
    one_broker: Compose, namespace: str, tmp_path: Path
) -> None:
    with ContainerTape(one_broker, namespace, tmp_path, partitions=3, source=SOURCE) as tape:
        first = start_all(tape)
        begin(tape)
        rows_come(tape)
        coordinators, upkeeps = tape.topics.coordinator, tape.topics.upkeep
        more = []
        for number, sizes in ((2, (1, 2)), (3, (1, 1, 1))):
            more += [tape.coordinator(f"coordinator-{number}"), tape.upkeep(f"upkeep-{number}")]
            tape.await_members(coordinators, *sizes)
            tape.await_members(upkeeps, *sizes)
            rows_come(tape)
        tape.until(partial(all_took, more), "a shard at each of them")
        left = {kind: len(first[kind].log) for kind in ("coordinator", "upkeep")}
        for worker in more:
            assert worker.stop() == 0, worker.log
        tape.await_members(coordinators, 3)
        tape.await_members(upkeeps, 3)
        rows_come(tape)
        finish(tape)
        for kind, said in left.items():
            for shard in range(3):
                assert f"shard {shard} is ours" in first[kind].log[said:], kind


def test_an_owner_cut_off_the_network_writes_nothing_that_counts(
    one_broker: Compose, namespace: str, tmp_path: Path
) -> None:
    with ContainerTape(one_broker, namespace, tmp_path, source=SOURCE) as tape:
        start_all(tape, is_supervised=True)
        other = tape.coordinator("coordinator-2", is_supervised=True)
        tape.await_members(tape.topics.coordinator, 0, 1)
        begin(tape)
        rows_come(tape)
        stale, heir = owner_first(tape.workers[0], other)
        assert isinstance(stale, ContainerWorker)
        said = len(stale.log)
        with stale.cut_off():
            tape.until(lambda: OURS in heir.log, "the shard at the other worker")
            rows_come(tape)
            frames = [delivered.frame for delivered in tape.came]
            # It is not told that its time is up: nobody reaches it.
            assert OURS not in stale.log[said:]
        tape.await_members(tape.topics.coordinator, 0, 1)
        rows_come(tape)
        assert [delivered.frame for delivered in tape.came][: len(frames)] == frames
        numbers = [delivered.frame.frame for delivered in tape.came]
        assert numbers == list(range(len(numbers)))
        assert any(sign in stale.log[said:] for sign in SAID), stale.log[said:]
        finish(tape)


def all_took(workers: Sequence[Worker]) -> bool:
    return all("is ours" in worker.log for worker in workers)


def is_above(count: Callable[[], int], done: int) -> bool:
    return count() > done


def owner_first(first: Worker, second: Worker) -> tuple[Worker, Worker]:
    """Return the worker that has the shard, and the other."""
    wait_until(lambda: last_taken(first) or last_taken(second), "a worker that has the shard", 30)
    return (first, second) if last_taken(first) > last_taken(second) else (second, first)


def last_taken(worker: Worker) -> str:
    """Return the line of the log in which the worker last took the shard, with its time."""
    return max((line for line in worker.log.splitlines() if OURS in line), default="")
