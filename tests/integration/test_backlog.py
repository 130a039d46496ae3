"""A coordinator without a run holds no more than it may, and loses nothing of the rest."""

from __future__ import annotations

import re
from pathlib import Path

from streams.batches import BATCH_MESSAGES
from streams.calendar import sessions_between
from streams.coordinator import BACKLOG
from streams.local import LocalBroker
from tests.harness import Tape
from tests.rows import expected_rows

DAY = "2024-11-29"
SOURCE = "synthetic:symbols=4"
HELD = re.compile(r": (\d+) messages wait for a run")


def test_a_partition_is_not_read_on_until_a_run_is_on(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    (session,) = sessions_between("XNYS", DAY, DAY)
    with Tape(broker.bootstrap_servers, namespace, tmp_path, source=SOURCE) as tape:
        coordinator = tape.coordinator()
        rows = tape.blocks(session, step=1)
        assert len(rows) > BACKLOG + 100
        with tape.sender() as send:
            for shard, block in rows:
                send(block, shard)
            for shard, coverage in tape.coverages(session):
                send(coverage, shard)
        tape.until(lambda: bool(HELD.search(coordinator.log)), "the pause")
        held = [int(count) for count in HELD.findall(coordinator.log)]
        assert all(BACKLOG < count <= BACKLOG + BATCH_MESSAGES for count in held)
        tape.start(DAY, DAY)
        tape.play()
        assert tape.rows() == expected_rows(SOURCE, "XNYS", DAY, DAY)
        assert coordinator.stop() == 0
