"""The two digests: exactly what the docstring says, and nothing that changes goes unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tests.rows
from schemas import Frame
from streams.client.batch import Batch
from streams.client.merging import Merger
from streams.digest import Digest
from streams.finals import final_order
from streams.intervals import MINUTE_NS
from streams.topics import shards_of
from tests.frames import DAY_NS, OPEN_NS, Day, Row, Tape, bar_columns, full_day, merged, tape_of


def digests(batches: list[Batch]) -> tuple[str, str]:
    digest = Digest()
    for batch in batches:
        digest.add(batch)
    return digest.final(), digest.as_known()


def of_days(*days: Day) -> tuple[str, str]:
    return digests(merged(tape_of(days)))


def by_hand(days: list[Day], *, as_known: bool) -> str:
    """The definition row by row, over the rows a day was made of."""
    sessions: dict[str, list[tests.rows.Row]] = {}
    for day in days:
        rows = list(day.rows)
        if not as_known:
            best: dict[tuple[str, int, int], Row] = {}
            for row in rows:
                key = (row.symbol, row.interval_ns, row.ts_ns)
                if key not in best or best[key].revision <= row.revision:
                    best[key] = row
            rows = sorted(
                best.values(), key=lambda r: (r.ts_ns + r.interval_ns, r.interval_ns, r.symbol)
            )
        sessions[day.label] = [
            tests.rows.Row(
                *(row.known_ns, row.symbol, row.ts_ns, row.interval_ns),
                *(row.close - 0.5, row.close + 1.0, row.close - 1.0, row.close, row.volume),
                row.revision,
            )
            for row in rows
        ]
    return tests.rows.digest_of(sessions, as_known=as_known)


LATE = Row(OPEN_NS + 4 * MINUTE_NS, "S001", OPEN_NS + MINUTE_NS, 12.5, 3.0, 1, is_late=True)
LONG = Row(
    OPEN_NS + 5 * MINUTE_NS, "S001", OPEN_NS, 12.5, 3.0, interval_ns=5 * MINUTE_NS
)  # a 5m bar beside the minutes


@pytest.mark.parametrize(
    "late", [(), (LATE,), (LONG,), (LATE, LONG, replace(LATE, known_ns=LATE.known_ns + MINUTE_NS))]
)
def test_it_is_what_the_definition_says(late: tuple[Row, ...]) -> None:
    days = [full_day(3, 6, late=late), full_day(0, 6, 1), full_day(4, 6, 2)]
    final, as_known = of_days(*days)
    assert final == by_hand(days, as_known=False)
    assert as_known == by_hand(days, as_known=True)


def test_a_run_whose_gaps_were_filled_equals_one_on_complete_data() -> None:
    whole = full_day(3, 6)
    filled = next(row for row in whole.rows if row.symbol == "S001")
    late = replace(filled, known_ns=filled.known_ns + 2 * MINUTE_NS, is_late=True, revision=1)
    holed = full_day(3, 6, missing=frozenset({(filled.known_ns, "S001")}))
    rows = tuple(sorted([*holed.rows, late], key=lambda row: row.order))
    mended = replace(holed, rows=rows)
    assert of_days(mended)[0] == of_days(whole)[0]
    assert of_days(mended)[1] != of_days(whole)[1]
    assert of_days(holed)[0] != of_days(whole)[0]


@settings(deadline=None)
@given(st.permutations([0, 0, 0, 1, 1, 1]), st.booleans())
def test_corrections_at_a_clock_that_stands_are_sorted_whichever_shard_comes_first(
    order: list[int], drains: bool
) -> None:
    """A live run gives them out at once, each shard its own, behind a slice that is out."""
    day = full_day(4, 3)
    tape = Tape(shards=2)
    tape.start()
    parts = [tape.event(shard, "open", day) for shard in (0, 1)]
    for frame in [*parts, *tape.rows(0, day), *tape.rows(1, day)]:
        tape.put(frame)
    for shard, names in shards_of(day.symbols, 2).items():
        for revision in (1, 2, 3):
            tape.put(correction(tape, shard, day, names, revision))
    both = [frames[:-3] for frames in tape.frames], [iter(frames[-3:]) for frames in tape.frames]
    merger = Merger(2)
    batches: list[Batch] = []
    for one in (*both[0][0], *both[0][1], *(next(both[1][shard]) for shard in order)):
        merger.add(one.frame, one.offset)
        batches += merger.drain() if drains else []
    batches += merger.drain()
    rows = [row for name in day.symbols for row in day.rows if row.symbol == name]
    later = [
        replace(row, known_ns=day.close_ns, revision=revision, is_late=True)
        for row in rows[:: day.minutes]
        for revision in (1, 2, 3)
    ]
    known = sorted(
        [*rows, *later],
        key=lambda row: (row.known_ns, row.ts_ns, row.symbol, row.revision),
    )
    assert digests(batches)[1] == by_hand([replace(day, rows=tuple(known))], as_known=True)


def correction(tape: Tape, shard: int, day: Day, names: Sequence[str], revision: int) -> Frame:
    """Correct the first minute of all symbols of a shard when the session is at its close."""
    first = [row for row in day.rows if row.symbol in names and row.ts_ns == day.open_ns]
    rows = [replace(row, revision=revision, is_late=True) for row in first]
    one = np.ones(1, np.int32)
    return tape.event(
        shard,
        "rows",
        day,
        clock_ns=day.close_ns,
        rows=len(rows),
        slice_ns=np.array([day.close_ns], np.int64),
        slice_rows=one * len(rows),
        slice_corrections=one * len(rows),
        slice_expected=one * 0,
        slice_received=one * 0,
        slice_no_trade=one * 0,
        slice_missing=one * 0,
        bars=bar_columns(rows, names, ("hand",)),
    )


@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume"])
def test_one_changed_value_changes_both(name: str) -> None:
    batches = merged(tape_of([full_day(3, 6)]))
    at = next(i for i, batch in enumerate(batches) if batch.bars is not None)
    bars = batches[at].bars
    assert bars is not None
    column: Any = getattr(bars, name).copy()
    column[7] = np.nextafter(column[7], np.inf)
    changed = [*batches]
    changed[at] = replace(batches[at], bars=replace(bars, **{name: column}))
    before, after = digests(batches), digests(changed)
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"symbol": "S002"},
        {"ts_ns": OPEN_NS + 2 * MINUTE_NS},
        {"interval_ns": 2 * MINUTE_NS},
    ],
)
def test_one_changed_key_changes_both(changes: dict[str, Any]) -> None:
    day = full_day(3, 6)
    first = next(row for row in day.rows if row.symbol == "S001")
    rows = tuple(replace(row, **changes) if row is first else row for row in day.rows)
    before, after = of_days(day), of_days(replace(day, rows=rows))
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_known_time_and_revision_change_what_was_known_only() -> None:
    early = full_day(3, 6, late=(LATE,))
    later = full_day(3, 6, late=(replace(LATE, known_ns=LATE.known_ns + MINUTE_NS),))
    higher = full_day(3, 6, late=(replace(LATE, revision=2),))
    assert of_days(early)[0] == of_days(later)[0] == of_days(higher)[0]
    assert len({of_days(early)[1], of_days(later)[1], of_days(higher)[1]}) == 3


def test_it_can_be_read_at_any_time_and_counts() -> None:
    digest = Digest()
    seen = set()
    for batch in merged(tape_of([full_day(2, 4), full_day(2, 4, 1)], cuts={0: [2]})):
        digest.add(batch)
        assert digest.final() == digest.final()
        seen.add(digest.final())
    assert (digest.sessions, digest.rows) == (2, 16)
    assert len(seen) == 7  # nothing yet, then: open, two batches; twice


def test_of_equal_revisions_the_later_wins() -> None:
    keys = np.zeros(3, np.int64)
    order = final_order(keys, keys, keys, np.array([1, 1, 0], np.int32))
    assert order.tolist() == [1]
    assert final_order(keys[:0], keys[:0], keys[:0], keys[:0].astype(np.int32)).tolist() == []


def test_sessions_have_their_labels_in_it() -> None:
    assert of_days(full_day(0, 3)) != of_days(full_day(0, 3, 1))
    assert OPEN_NS % DAY_NS != 0  # an open is no midnight: labels and times are not the same
