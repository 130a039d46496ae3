"""The same input gives the same tape, however it comes in and whoever works on it."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from streams.calendar import sessions_between
from streams.local import LocalBroker
from tests.harness import Tape
from tests.rows import expected_rows

pytestmark = pytest.mark.usefixtures("unmeasured")

SOURCE = "synthetic:symbols=20,seed=5,missing=0.02"
START, END = "2024-11-27", "2024-11-29"
TAPE_S = (390 + 210) * 60
"""Length of the two sessions, one of them a half-day."""


@dataclass(frozen=True)
class Way:
    """One way to the same tape."""

    partitions: int = 1
    workers: int = 1
    speed: float = 0.0
    shuffled: int | None = None


WAYS = {
    "one partition": Way(),
    "two partitions, two workers": Way(partitions=2, workers=2),
    "four partitions, shuffled": Way(partitions=4, shuffled=1),
    "two partitions, a finite speed": Way(partitions=2, speed=TAPE_S / 4),
    "four partitions, two workers, shuffled otherwise, a finite speed": Way(
        partitions=4, workers=2, shuffled=2, speed=TAPE_S / 3
    ),
}


@pytest.mark.timeout(400)
def test_one_tape_over_arrival_partitions_workers_and_speed(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    expected = expected_rows(SOURCE, "XNYS", START, END)
    digests = {}
    for number, (name, way) in enumerate(WAYS.items()):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with Tape(
            broker.bootstrap_servers,
            f"{namespace}-{number}",
            folder,
            partitions=way.partitions,
            source=SOURCE,
        ) as tape:
            play(tape, way)
            digest = tape.digest()
            assert tape.rows() == expected, name
            digests[name] = (digest.final(), digest.as_known(), digest.sessions, digest.rows)
            for shard in range(way.partitions):
                mine = tape.rows(shard=shard)
                assert mine, f"{name}: shard {shard} gave no rows"
                assert list(mine) == sorted(mine), f"{name}: shard {shard} is out of order"
                assert {tape.shard_of(row.symbol) for row in mine} == {shard}
    assert len(set(digests.values())) == 1, digests


def play(tape: Tape, way: Way) -> None:
    """Play the run one way; each worker must have had its part of it."""
    workers = [tape.coordinator(f"coordinator-{n}", is_supervised=True) for n in range(way.workers)]
    if way.shuffled is None:
        tape.producer()
    share = way.partitions // way.workers
    tape.await_members(tape.topics.coordinator, *[share] * way.workers)
    command = tape.start(START, END, speed=way.speed, prefetch_sessions=1)
    if way.shuffled is not None:
        send_shuffled(tape, way.shuffled)
    tape.play()
    if way.speed:
        ended_ms = max(m.timestamp()[1] for m in tape.messages(tape.topics.session))
        assert ended_ms / 1000 >= command.anchor_wall_ns / 1e9 + TAPE_S / way.speed - 0.001
    for worker in workers:
        closed = {s for s in range(way.partitions) if f"shard {s}: run run-1: close" in worker.log}
        assert len(closed) == share, f"{worker.name} closed sessions of shards {closed}"


def send_shuffled(tape: Tape, seed: int) -> None:
    """Send small blocks of all sessions in any order, some twice, and coverage behind them."""
    rng = random.Random(seed)
    sessions = sessions_between("XNYS", START, END)
    blocks = [found for session in sessions for found in tape.blocks(session, step=37)]
    blocks += rng.sample(blocks, 5)
    rng.shuffle(blocks)
    vouched = [found for session in sessions for found in tape.coverages(session)]
    rng.shuffle(vouched)
    with tape.sender() as send:
        for shard, block in blocks:
            send(block, shard)
        for shard, coverage in vouched:
            send(coverage, shard)


def test_one_changed_field_changes_the_digest(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    (session,) = sessions_between("XNYS", END, END)
    source = "synthetic:symbols=3,seed=5"
    with Tape(broker.bootstrap_servers, namespace, tmp_path, source=source) as tape:
        tape.coordinator()
        blocks = tape.blocks(session)

        def played(run: str, changes: dict[str, float]) -> tuple[str, str]:
            tape.start(END, END, run=run)
            with tape.sender() as send:
                for number, (shard, block) in enumerate(blocks):
                    sent = replace(block, run=run)
                    if number == 1:
                        for name, by in changes.items():
                            column = getattr(block, name).copy()
                            column[7] += by
                            sent = replace(sent, **{name: column})
                    send(sent, shard)
                for shard, coverage in tape.coverages(session):
                    send(replace(coverage, run=run), shard)
            tape.play(run)
            assert tape.digest(run).rows == 3 * 210
            return tape.digest(run).final(), tape.digest(run).as_known()

        first = played("first", {})
        assert played("again", {}) == first
        row = blocks[1][1].take([7])
        inside = float(row.high[0] - row.open[0]) or float(row.low[0] - row.open[0])
        changes = {
            "open": {"open": inside},
            "high": {"high": 0.01},
            "low": {"low": -0.01},
            "close": {"high": 0.01, "close": float(row.high[0] - row.close[0]) + 0.01},
            "volume": {"volume": 1.0},
        }
        found = {name: played(name, change) for name, change in changes.items()}
        for place in (0, 1):
            digests = {first[place], *(digest[place] for digest in found.values())}
            assert len(digests) == 1 + len(changes), found
