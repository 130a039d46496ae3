"""What a shard holds of one session."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schemas.records import BarColumns, Coverage
from streams.buffer import SessionBuffer
from streams.calendar import Session
from streams.kinds import Rows
from streams.merge import bars_of
from streams.mixed import Mixed
from tests.unit.streams.shards import Row, block

MIN = 60
SESSION = Session("2024-11-29", 0, 300)
SYMBOLS = {"AA": 0, "BB": 1}
WHOLE = Coverage(("AA", "BB"), 0, 300)


def bars(*rows: Row) -> BarColumns:
    return bars_of(block(rows), SYMBOLS, np.int32(0))


def keys(found: Mixed | Rows) -> list[tuple[int, int, int]]:
    bars = found.bars if isinstance(found, Mixed) else found
    if bars is None:
        return []
    columns = (bars.symbol.tolist(), bars.ts_ns.tolist(), bars.revision.tolist())
    return list(zip(*columns, strict=True))


def buffer() -> SessionBuffer:
    return SessionBuffer(SESSION, SYMBOLS)


def test_rows_come_out_once_as_they_are_ready() -> None:
    held = buffer()
    held.add(bars(("BB", 60, MIN, 0), ("AA", 0, MIN, 0)))
    assert keys(held.take(60)) == [(0, 0, 0)]
    held.add(bars(("AA", 60, MIN, 0), ("BB", 60, MIN, 1)))
    assert held.bound(300, 1) == 120
    assert held.bound(300, 2) == 300
    assert keys(held.take(300)) == [(0, 60, 0), (1, 60, 1)]
    assert keys(held.take(300)) == []
    out = [key for part in held.released for key in keys(part)]
    assert out == [(0, 0, 0), (0, 60, 0), (1, 60, 1)]


def test_an_empty_one_gives_nothing() -> None:
    assert len(buffer().take(300)) == 0
    assert buffer().bound(300, 1) == 300


@pytest.mark.parametrize(
    ("answers", "uncovered", "unknown"),
    [
        ([], ("AA", "BB"), ()),
        ([WHOLE], (), ()),
        ([replace(WHOLE, answer="nothing", start_ns=-5, end_ns=900)], (), ()),
        ([replace(WHOLE, symbols=("AA", "other"))], ("BB",), ()),
        ([replace(WHOLE, end_ns=120), replace(WHOLE, start_ns=180)], ("AA", "BB"), ()),
        ([replace(WHOLE, start_ns=120), replace(WHOLE, end_ns=120)], (), ()),
        ([replace(WHOLE, start_ns=60), replace(WHOLE, end_ns=200, symbols=("BB",))], ("AA",), ()),
        ([replace(WHOLE, answer="cannot_say")], (), ("AA", "BB")),
        ([replace(WHOLE, answer="cannot_say", symbols=("BB",))], ("AA",), ("BB",)),
        # Whoever is asked next may know, and who knew already is not contradicted.
        ([replace(WHOLE, answer="cannot_say"), replace(WHOLE, symbols=("AA",))], (), ("BB",)),
        ([WHOLE, replace(WHOLE, answer="cannot_say")], (), ()),
        (
            [replace(WHOLE, end_ns=120), replace(WHOLE, answer="cannot_say", start_ns=120)],
            (),
            ("AA", "BB"),
        ),
        (
            [
                replace(WHOLE, answer="cannot_say", end_ns=120),
                replace(WHOLE, start_ns=100),
                replace(WHOLE, end_ns=100),
            ],
            (),
            (),
        ),
    ],
)
def test_coverage_may_come_whole_or_in_pieces(
    answers: list[Coverage], uncovered: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    held = buffer()
    for answer in answers:
        held.cover(answer)
    assert held.uncovered == uncovered
    assert held.unknown == unknown
    assert held.is_covered == (not uncovered)


def test_without_symbols_there_is_nothing_to_wait_for() -> None:
    assert SessionBuffer(SESSION, {}).is_covered


def test_a_late_row_is_a_correction_that_counts_up() -> None:
    held = buffer()
    held.add(bars(("AA", 0, MIN, 0), ("BB", 0, MIN, 2)))
    held.take(60)
    changed = replace(bars(("AA", 0, MIN, 0)), close=np.array([7.0]))
    assert keys(held.correct([changed])) == [(0, 0, 1)]
    assert keys(held.correct([bars(("AA", 0, MIN, 5)), bars(("AA", 60, MIN, 0))])) == [
        (0, 0, 5),
        (0, 60, 0),
    ]
    assert keys(held.correct([bars(("BB", 0, MIN, 3), ("BB", 0, MIN, 4))])) == [(1, 0, 4)]
    assert sum(map(len, held.released)) == 2 + 1 + 2 + 1


def test_what_is_out_already_or_older_is_no_correction() -> None:
    held = buffer()
    held.add(bars(("AA", 0, MIN, 2)))
    held.take(60)
    assert not len(held.correct([bars(("AA", 0, MIN, 2))]))
    assert not len(held.correct([bars(("AA", 0, MIN, 1))]))
    same = replace(bars(("AA", 0, MIN, 2)), revision=np.array([9], np.int32))
    assert not len(held.correct([same]))
    assert len(held.released) == 1


def test_a_late_row_is_outdone_by_a_later_revision_that_says_otherwise() -> None:
    held = buffer()
    assert held.outdone(bars(("AA", 0, MIN, 0))).tolist() == [False]
    held.add(bars(("AA", 0, MIN, 2), ("BB", 0, MIN, 0)))
    held.take(60)
    said = bars(("AA", 0, MIN, 2))
    late = bars(("BB", 60, MIN, 0), ("AA", 0, MIN, 1), ("AA", 0, MIN, 2), ("BB", 0, MIN, 0))
    otherwise = replace(late, close=late.close + 1)
    assert held.outdone(otherwise).tolist() == [False, True, False, False]
    again = replace(said, revision=np.array([1], np.int32))
    assert held.outdone(again).tolist() == [False]  # it says the same


def test_a_late_row_where_nothing_is_out_is_delivered_first() -> None:
    held = buffer()
    assert keys(held.correct([bars(("BB", 0, MIN, 0), ("AA", 0, MIN, 0))])) == [
        (0, 0, 0),
        (1, 0, 0),
    ]


def test_late_rows_that_stand_behind_all_others_need_no_sorting() -> None:
    held = buffer()
    held.add(bars(("AA", 0, MIN, 0)))
    held.take(60)
    late = held.correct([bars(("AA", 60, MIN, 0))])
    assert keys(late) == [(0, 60, 0)]


def test_what_is_out_is_held_in_few_parts_in_its_order() -> None:
    held = buffer()
    for minute in range(300):
        held.add(bars(("AA", 60 * minute, MIN, 0)))
        held.take(60 * minute + 60)
    assert len(held.released) < 10
    assert [key for part in held.released for key in keys(part)] == [
        (0, 60 * minute, 0) for minute in range(300)
    ]
