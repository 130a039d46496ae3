"""The session_data tables say what the tape says, after a restart and a correction, too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from schemas import BarBlock, Coverage
from streams.calendar import Session, sessions_between
from streams.local import LocalBroker
from tests.harness import Tape
from tests.rows import Row
from tests.tabled import check_tables, of_symbol

START, END = "2024-11-27", "2024-11-29"
SOURCE = "synthetic:symbols=6,seed=9,missing=0.05"


def test_tables_are_what_the_rows_fold_to_after_a_restart_too(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2, source=SOURCE) as tape:
        tables = tape.tables()
        tape.coordinator()
        tape.producer()
        tape.start(START, END)
        tape.play()
        first = tape.await_tables()
        check_tables(tape, first, END)
        assert all(first[f"shards/{shard}"]["missing"] > 0 for shard in range(2))
        # Started again they say the same, and go on from there.
        assert tables.stop() == 0
        tables.start()
        tape.start(START, START, run="run-2")
        tape.play("run-2")
        second = tape.await_tables("run-2")
        check_tables(tape, second, START, run="run-2")
        assert tables.stop() == 0


def test_a_correction_is_folded_in_and_a_running_session_is_flushed(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    (session,) = sessions_between("XNYS", END, END)
    with Tape(
        broker.bootstrap_servers,
        namespace,
        tmp_path,
        source="synthetic:symbols=1,seed=9",
        flush_interval_ms=50,
    ) as tape:
        tape.tables()
        tape.coordinator()
        # Six minutes of tape a second: the session is still on when the correction comes.
        tape.start(END, END, speed=360.0)
        (name,) = tape.symbols
        with tape.sender() as send:
            for shard, block in tape.blocks(session, step=5000):
                send(block, shard)
            send(Coverage((name,), session.open_ns, session.close_ns))
        tape.until(lambda: len(tape.rows()) > 5, "rows")
        seen = len(tape.rows())
        tape.until(lambda: bars_of(tape, name) >= seen, "a flush while the session is on")
        before = tape.rows()[2]
        low = before.low - 1.0
        with tape.sender() as send:
            send(fixed(block_of(tape, session), 2, low))

        def corrected() -> list[Row]:
            return [row for row in tape.rows() if row.revision == 1]

        tape.until(corrected, "the correction")
        tape.full_speed()
        tape.play()
        table = tape.await_tables()
        (correction,) = corrected()
        assert correction.low == low
        assert correction.known_ns > before.known_ns
        found = dict(table[f"symbols/{name}"])
        wanted = of_symbol(tape.rows(), 210)
        assert {key: found[key] for key in wanted} == wanted
        assert found["bars"] == 210
        assert found["row"] == 210


def bars_of(tape: Tape, name: str) -> int:
    """Return how many bars the table has of a symbol now."""
    found = [
        json.loads(message.value() or b"")
        for message in tape.messages(tape.topics.changelog("symbols"))
        if message.key() == name.encode()
    ]
    return int(found[-1]["bars"]) if found else 0


def block_of(tape: Tape, session: Session) -> BarBlock:
    ((_, block),) = tape.blocks(session, step=5000)
    return block


def fixed(block: BarBlock, at: int, low: float) -> BarBlock:
    """Return one row of a block with another low, as a second revision of its source."""
    return replace(block.take([at]), low=np.array([low]), revision=np.array([1], np.int32))
