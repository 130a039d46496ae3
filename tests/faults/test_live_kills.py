"""A live run whose workers and broker are killed: each row is out in the end, with what came late.

The data is a rehearsal: it comes late, in disorder, twice, or not at all at first. What a live tape
says when is not the same in two runs; what it says in the end is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from streams.calendar import sessions_between
from streams.intervals import MINUTE_NS
from streams.local import LocalBroker
from tests.harness import Tape
from tests.rows import Row, expected_rows
from tests.workers import Worker

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300), pytest.mark.usefixtures("unmeasured")]

MARKET = "synthetic:symbols=8,seed=3,missing=0.01"
FAULTS = (
    "seed=5,drop=0.01,duplicate=0.01,disorder=0.02,delay=0.02@500ms,late=0.02@180s,revise=0.02@120s"
)
SOURCE = f"rehearsal:{FAULTS}:{MARKET}"
DAY, HOURS = "2024-11-13", "09:30-13:00"
SPEED = 140.0
"""The run takes 90 s, so that it outlasts its kills."""
SHARDS = 2


def start_all(tape: Tape) -> dict[str, Worker]:
    workers = {
        "coordinator": tape.coordinator(is_supervised=True),
        "tables": tape.tables(is_supervised=True),
        "upkeep": tape.upkeep(is_supervised=True),
        "producer": tape.producer(is_supervised=True),
        "feeder": tape.feeder(is_supervised=True),
    }
    tape.await_members(tape.topics.coordinator, SHARDS)
    return workers


def go_live(tape: Tape) -> None:
    (session,) = sessions_between("XNYS", DAY, DAY, HOURS)
    tape.start(
        DAY,
        DAY,
        mode="live",
        speed=SPEED,
        anchor_clock_ns=session.open_ns,
        hours=HOURS,
        upkeep=True,
        readers=(tape.topics.tables, tape.topics.upkeep, tape.group),
        # Half a second of the wall, and a minute of it until what is missing is given up.
        lateness_s=SPEED / 2,
        catchup_threshold_s=10 * SPEED,
        session_timeout_s=60 * SPEED,
    )


def kills(tape: Tape, broker: LocalBroker, workers: dict[str, Worker]) -> Iterator[None]:
    """Kill what there is, one after the other."""
    for name in ("coordinator", "feeder", "upkeep", "coordinator", "producer", "tables"):
        workers[name].kill()
        workers[name].start()
        yield
    broker.kill()
    broker.start()
    yield


def test_whoever_dies_in_a_live_run_each_row_is_out_in_the_end(
    namespace: str, tmp_path: Path
) -> None:
    with (
        LocalBroker(tmp_path / "broker") as own,
        Tape(
            own.bootstrap_servers,
            namespace,
            tmp_path,
            partitions=SHARDS,
            source=SOURCE,
            hours=HOURS,
            gap_timeout_s=2.0,
            live_gap_backoff_s=0.5,
        ) as tape,
    ):
        workers = start_all(tape)
        go_live(tape)
        for _ in kills(tape, own, workers):
            ends = tape.ends()
            tape.until(partial(came_since, tape, ends), "rows behind the kill")
            assert not tape.ended(), "the run was too short for its kills"
        tape.play(timeout_s=180)
        check(tape)
        table = tape.await_tables()
    last = last_of(tape.rows())
    for symbol in tape.symbols:
        closes = {row.ts_ns: row.close for row in last.values() if row.symbol == symbol}
        assert table[f"symbols/{symbol}"]["close"] == closes[max(closes)]


def came_since(tape: Tape, ends: Mapping[int, int]) -> bool:
    return tape.rows_since(ends) > 20


def check(tape: Tape) -> None:
    """What is out last of each bar is what the source has; what came before it was corrected."""
    rows = tape.rows()
    wanted = {
        (row.symbol, row.ts_ns): row for row in expected_rows(MARKET, "XNYS", DAY, DAY, HOURS)
    }
    found = last_of(rows)
    assert found.keys() == wanted.keys()
    for key, row in found.items():
        assert row[4:9] == wanted[key][4:9], key
    seen: dict[tuple[str, int], Row] = {}
    for row in rows:
        assert row.known_ns >= row.ts_ns + MINUTE_NS
        before = seen.get((row.symbol, row.ts_ns))
        assert before is None or row.revision > before.revision
        seen[row.symbol, row.ts_ns] = row
    for frames in tape.frames.values():
        numbers = [one.frame.frame for one in frames if one.frame.run == "run-1"]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        clocks = [one.frame.clock_ns for one in frames if one.frame.event != "end"]
        assert clocks == sorted(clocks)
    assert {frame.incomplete for frame in tape.frames_of()} == {False}


def last_of(rows: tuple[Row, ...]) -> dict[tuple[str, int], Row]:
    return {(row.symbol, row.ts_ns): row for row in rows}
