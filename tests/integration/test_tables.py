"""The session_data tables say what the tape says: computed again here, row by row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from schemas import BarBlock, Coverage
from streams.calendar import Session, sessions_between
from streams.local import LocalBroker
from tests.harness import Tape
from tests.rows import Row

START, END = "2024-11-27", "2024-11-29"
LABELS = ("2024-11-27", "2024-11-29")
EXPECTED = {"2024-11-27": 390, "2024-11-29": 210}
SOURCE = "synthetic:symbols=6,seed=9,missing=0.05"


def of_symbol(rows: Sequence[Row], expected: int) -> dict[str, Any]:
    """Fold the rows of one symbol and session, one by one."""
    bars: dict[int, Row] = {}
    for row in rows:  # a correction takes the place of its bar
        bars[row.ts_ns] = row
    ordered = [bars[ts] for ts in sorted(bars)]
    volume = turnover = 0.0
    for bar in ordered:
        volume += bar.volume
        turnover += bar.volume * ((bar.high + bar.low + bar.close) / 3)
    last = ordered[-1]
    return {
        "symbol": last.symbol,
        "bar": {name: getattr(last, name) for name in (*("ts_ns", "open", "high", "low"), *_REST)},
        "open": ordered[0].open,
        "high": max(bar.high for bar in ordered),
        "low": min(bar.low for bar in ordered),
        "close": last.close,
        "volume": volume,
        "bars": len(ordered),
        "vwap": turnover / volume,
        "expected": expected,
        "no_trade": 0,
        "quality": 100.0 * len(ordered) / expected,
        "updated_ns": {
            "bars": max(row.known_ns for row in rows),
            "quotes": None,
            "ticks": None,
        },
        **{"quote": None, "tick": None, "quotes": 0, "ticks": 0},
    }


_REST = ("close", "volume")


def check_symbols(tape: Tape, table: Mapping[str, Any], run: str, label: str) -> None:
    """Compare every symbol's row with what its rows of the session fold to."""
    (session,) = sessions_between("XNYS", label, label)
    rows = [row for row in tape.rows(run) if session.open_ns <= row.ts_ns < session.close_ns]
    assert {key for key in table if key.startswith("symbols/")} == {
        f"symbols/{name}" for name in tape.symbols
    }
    for name in tape.symbols:
        found = dict(table[f"symbols/{name}"])
        wanted = of_symbol([row for row in rows if row.symbol == name], EXPECTED[label])
        # Its last row, by its number in the shard.
        numbers = [
            frame.first_row + int(number)
            for frame in tape.frames_of(run, tape.shard_of(name))
            if frame.bars is not None
            for number, at in zip(frame.bars.row, frame.bars.symbol, strict=True)
            if frame.symbols[at] == name
        ]
        last = tape.frames_of(run, tape.shard_of(name))[-1]
        assert numbers[-1] <= found.pop("row") == last.first_row + last.rows - 1
        assert (found.pop("run"), found.pop("session")) == (run, label)
        assert found == wanted


def check_shards(tape: Tape, table: Mapping[str, Any], run: str, label: str) -> None:
    (session,) = sessions_between("XNYS", label, label)
    for shard in range(tape.partitions):
        found = table[f"shards/{shard}"]
        frames = [f for f in tape.frames_of(run, shard) if f.session == label]
        last = tape.frames_of(run, shard)[-1]
        assert found == {
            "run": run,
            "session": "",
            "shard": shard,
            "mode": "replay",
            "state": "stopped",
            "speed": last.speed,
            "event": "end",
            "clock_ns": session.close_ns,
            "open_ns": session.open_ns,
            "close_ns": session.close_ns,
            "incomplete": False,
            "reason": "",
            "received": sum(int(f.slice_received.sum()) for f in frames),
            "no_trade": 0,
            "missing": sum(int(f.slice_missing.sum()) for f in frames),
            "row": last.first_row + last.rows - 1,
        }
        assert found["received"] > 0
        assert found["missing"] > 0


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
        check_symbols(tape, first, "run-1", LABELS[-1])
        check_shards(tape, first, "run-1", LABELS[-1])
        # Started again they say the same, and go on from there.
        assert tables.stop() == 0
        tables.start()
        tape.start(START, START, run="run-2")
        tape.play("run-2")
        second = tape.await_tables("run-2")
        check_symbols(tape, second, "run-2", LABELS[0])
        check_shards(tape, second, "run-2", LABELS[0])
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
        wanted = of_symbol(tape.rows(), EXPECTED[END])
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
