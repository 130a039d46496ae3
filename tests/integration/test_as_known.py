"""A live run whose rows came late, wrong and twice, played again as it was known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.as_known import replay_as_known
from streams.calendar import sessions_between
from streams.compare import compare
from streams.errors import ConfigError
from streams.kafka import create_topics
from streams.local import LocalBroker
from tests.harness import Tape

pytestmark = pytest.mark.timeout(180)

MARKET = "synthetic:symbols=6,seed=3,missing=0.02"
SOURCE = f"rehearsal:seed=7,drop=0.05,late=0.1@5m,duplicate=0.05,revise=0.05@2m:{MARKET}"
START, END, HOURS = "2024-11-26", "2024-11-27", "09:30-10:10"
SPEED = 1200.0


@pytest.fixture
def tape(broker: LocalBroker, namespace: str, tmp_path: Path) -> Iterator[Tape]:
    with Tape(
        broker.bootstrap_servers,
        namespace,
        tmp_path,
        partitions=2,
        source=SOURCE,
        hours=HOURS,
        gap_timeout_s=2.0,
    ) as found:
        for start in (found.coordinator, found.upkeep, found.producer, found.feeder):
            start()
        found.await_members(found.topics.coordinator, 2)
        yield found


def go_live(tape: Tape) -> None:
    session, *_ = sessions_between("XNYS", START, END, HOURS)
    tape.start(
        START,
        END,
        mode="live",
        speed=SPEED,
        anchor_clock_ns=session.open_ns,
        hours=HOURS,
        upkeep=True,
        readers=(tape.topics.upkeep, tape.group),
        lateness_s=SPEED / 10,
        catchup_threshold_s=10 * SPEED,
        session_timeout_s=60 * SPEED,
    )


def test_history_as_a_live_strategy_saw_it(tape: Tape) -> None:
    go_live(tape)
    tape.play()
    namespace = tape.settings.namespace
    other = tape.settings.but(namespace=f"{namespace}b", speed="max")
    found = replay_as_known(other, namespace, intervals=("5m",), tables=False, sink=False)
    digest = tape.digest()
    assert (found.digest, found.digest_as_known) == (digest.final(), digest.as_known())
    assert any(frame.slice_corrections.any() for frame in tape.frames_of())
    assert found.bars == sum(frame.rows for frame in tape.frames_of())
    assert found.sessions == 2
    verdict = compare(tape.settings, f"{namespace}/run-1", other.namespace)
    assert verdict.equal
    assert verdict.equal_as_known
    assert verdict.b.run == found.run
    differs = tape.settings.but(namespace=f"{namespace}c")
    create_topics(differs, 3)
    with pytest.raises(ConfigError, match=r"has 3 partitions, .* has 2: take another --namespace"):
        replay_as_known(differs, namespace)
