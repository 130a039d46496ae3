"""What the session_data tables must say: computed again here, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streams.calendar import Session, sessions_between
from streams.intervals import MINUTE_NS
from tests.harness import Tape
from tests.rows import Row

__all__ = ["check_tables", "of_symbol"]


def of_symbol(rows: Sequence[Row], expected: int, *, no_trade: int = 0) -> dict[str, Any]:
    """Fold the rows of one symbol and session, one by one.

    Parameters
    ----------
    rows
        Bars as they came, corrections too.
    expected, no_trade
        Minutes of the session, and those without trade.
    """
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
        "no_trade": no_trade,
        "quality": 100.0 * (len(ordered) + no_trade) / expected,
        "updated_ns": {
            "bars": max(row.known_ns for row in rows),
            "quotes": None,
            "ticks": None,
        },
        **{"quote": None, "tick": None, "quotes": 0, "ticks": 0},
    }


_REST = ("close", "volume")


def check_tables(
    tape: Tape,
    table: Mapping[str, Any],
    label: str,
    *,
    run: str = "run-1",
    hours: str = "regular",
    has_upkeep: bool = False,
) -> None:
    """Compare all that the tables say behind the end of a run with what its rows fold to.

    Parameters
    ----------
    tape, table
        The run, read to its end, and what the tables say.
    label, hours
        Its last session.
    run
        Its id.
    has_upkeep
        Whether each minute without a bar was asked for again, and there is nothing.
    """
    (session,) = sessions_between("XNYS", label, label, hours)
    _check_symbols(tape, table, run, session, has_upkeep=has_upkeep)
    _check_shards(tape, table, run, session, has_upkeep=has_upkeep)


def _check_symbols(
    tape: Tape, table: Mapping[str, Any], run: str, session: Session, *, has_upkeep: bool
) -> None:
    rows = [row for row in tape.rows(run) if session.open_ns <= row.ts_ns < session.close_ns]
    assert {key for key in table if key.startswith("symbols/")} == {
        f"symbols/{name}" for name in tape.symbols
    }
    expected = _minutes(session)
    for name in tape.symbols:
        found = dict(table[f"symbols/{name}"])
        mine = [row for row in rows if row.symbol == name]
        wanted = of_symbol(mine, expected, no_trade=(expected - len(mine)) * has_upkeep)
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
        assert (found.pop("run"), found.pop("session")) == (run, session.label)
        assert found == wanted


def _check_shards(
    tape: Tape, table: Mapping[str, Any], run: str, session: Session, *, has_upkeep: bool
) -> None:
    assert {key for key in table if key.startswith("shards/")} == {
        f"shards/{shard}" for shard in range(tape.partitions)
    }
    for shard in range(tape.partitions):
        last = tape.frames_of(run, shard)[-1]
        received = sum(
            session.open_ns <= row.ts_ns < session.close_ns for row in tape.rows(run, shard)
        )
        names = [name for name in tape.symbols if tape.shard_of(name) == shard]
        others = len(names) * _minutes(session) - received
        assert table[f"shards/{shard}"] == {
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
            "received": received,
            "no_trade": others * has_upkeep,
            "missing": others * (not has_upkeep),
            "row": last.first_row + last.rows - 1,
        }


def _minutes(session: Session) -> int:
    return (session.close_ns - session.open_ns) // MINUTE_NS
