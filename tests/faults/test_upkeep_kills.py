"""Gaps filled and bars derived once, whoever is killed with -9, and no storm of requests."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from streams.coverage import Status
from streams.local import LocalBroker
from tests.harness import Tape
from tests.upkept import DerivedRow, derived_rows, gap_requests, statuses
from tests.workers import Worker

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("unmeasured")]

KILLS = int(os.environ.get("SESSIONTAPE_TEST_KILLS", "3"))
SOURCE = "synthetic:symbols=8,seed=3"
LACKS = "4%@9+symbol:SYN0003"
START, END, HOURS = "2024-11-13", "2024-11-29", "09:30-11:00"
DAYS = ("2024-11-13", "2024-11-18", "2024-11-29")
TAPE_S = 12 * 90 * 60
SHARDS = 2
LASTS_S = 20 + 40 * KILLS
"""A paced replay must outlast its kills; behind the last one it goes on at full speed."""
KINDS = ("upkeep", "coordinator", "producer")


class Left(NamedTuple):
    """What a run left behind."""

    digest: str
    as_known: str
    minutes: list[dict[str, tuple[Status, ...]]]
    derived: dict[str, list[DerivedRow]]
    requests: int


def tape_of(broker: LocalBroker, namespace: str, folder: Path) -> Tape:
    return Tape(
        broker.bootstrap_servers,
        namespace,
        folder,
        partitions=SHARDS,
        source=SOURCE,
        hours=HOURS,
        # Longer than any kill lasts: what is asked for again then was asked for twice.
        gap_timeout_s=120.0,
    )


def start_all(tape: Tape) -> dict[str, Worker]:
    workers = {
        "coordinator": tape.coordinator(),
        "upkeep": tape.upkeep(),
        "producer": tape.producer("--fallback", SOURCE, "--withhold", LACKS),
    }
    tape.await_members(tape.topics.coordinator, SHARDS)
    return workers


def begin(tape: Tape, speed: float = 0.0) -> None:
    tape.start(
        START,
        END,
        hours=HOURS,
        speed=speed,
        upkeep=True,
        derived=("5m", "15m"),
        prefetch_sessions=2,
        trailing_sessions=20,
        readers=(tape.topics.upkeep, tape.group),
    )


def left_by(tape: Tape) -> Left:
    tape.play()
    digest = tape.digest()
    return Left(
        digest.final(),
        digest.as_known(),
        [dict(statuses(tape, day, hours=HOURS)) for day in DAYS],
        {interval: sorted(derived_rows(tape, interval)) for interval in ("5m", "15m")},
        len(gap_requests(tape)),
    )


@pytest.fixture(scope="module")
def undisturbed(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Left:
    with tape_of(broker, "upkept", tmp_path_factory.mktemp("upkept")) as tape:
        start_all(tape)
        begin(tape)
        found = left_by(tape)
    counted = [s for day in found.minutes for row in day.values() for s in row]
    assert set(counted) == {Status.TRADED, Status.FILLED}
    assert {s for day in found.minutes for s in day["SYN0003"]} == {Status.FILLED}
    assert len(found.derived["5m"]) == 12 * 8 * 18
    # One a shard and session, all holes of it in one message.
    assert found.requests <= 12 * SHARDS
    return found


@pytest.mark.timeout(120 + 60 * KILLS)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_started_again_it_makes_no_difference(
    broker: LocalBroker, namespace: str, tmp_path: Path, undisturbed: Left, kind: str
) -> None:
    rng = random.Random(kind)
    with tape_of(broker, namespace, tmp_path) as tape:
        worker = start_all(tape)[kind]
        begin(tape, TAPE_S / LASTS_S)
        for _ in range(KILLS):
            rows, moment = tape.rows_seen, time.monotonic() + rng.uniform(0.05, 2.0)
            tape.until(
                lambda rows=rows, moment=moment: (  # type: ignore[misc]
                    tape.rows_seen > rows and time.monotonic() >= moment
                ),
                "rows before the kill",
            )
            worker.kill()
            ends = tape.ends()
            worker.start()
            tape.until(lambda ends=ends: tape.rows_since(ends) > 0, "rows")  # type: ignore[misc]
            assert not tape.ended(), "the replay was too short for its kills"
        tape.full_speed()
        found = left_by(tape)
    assert (found.digest, found.as_known) == (undisturbed.digest, undisturbed.as_known)
    assert found.minutes == undisturbed.minutes
    assert found.derived == undisturbed.derived
    assert found.requests == undisturbed.requests
