"""Digests over quotes and ticks: row by row, what the definition says."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.client.batch import Batch
from streams.digest import Digest
from streams.finals import point_order, standing
from tests.frames import Day, full_day, merged
from tests.points import Busy, Point, busy, busy_days, in_order, point, point_tape


def digest_of(batches: Sequence[Batch]) -> Digest:
    digest = Digest()
    for batch in batches:
        digest.add(batch)
    return digest


def digests(days: Sequence[Day], shards: int = 1, cuts: Sequence[int] = ()) -> tuple[str, str]:
    tape = point_tape(days, shards, dict.fromkeys(range(shards), cuts))
    found = digest_of(merged(tape))
    return found.final(), found.as_known()


def same(point: Point) -> tuple[Any, ...]:
    """Return what a row and its corrections have in common."""
    return (point.kind, point.symbol, point.ts_ns, point.source, point.number)


def standing_by_hand(points: Sequence[Point]) -> list[Point]:
    found: list[Point] = []
    for one in points:
        before = [p for p in found if same(p) == same(one) and p.revision < one.revision]
        if one.is_late and one.revision and len(before) == 1:
            found[found.index(before[0])] = one
        else:
            found.append(one)
    return found


def points_by_hand(day: Day, kind: str, *, as_known: bool) -> bytes:
    points = [p for p in in_order(day) if isinstance(p, Point) and p.kind == kind]
    if not points:
        return b""
    names = sorted({p.symbol for p in points})
    if not as_known:
        points = standing_by_hand(points)
        texts = sorted({p.condition for p in points} - {""})
        points.sort(key=lambda p: (p.ts_ns, p.symbol, p.values, ["", *texts].index(p.condition)))
    texts = sorted({p.condition for p in points} - {""})
    said = f"{day.label}\n{kind}\n".encode() + "\n".join(names).encode() + b"\n\n"
    if kind == "ticks":
        said += "\n".join(texts).encode() + b"\n\n"
    columns = [
        np.array([names.index(p.symbol) for p in points], "<i4"),
        np.array([p.ts_ns for p in points], "<i8"),
        *(np.array(column, "<f8") for column in zip(*(p.values for p in points), strict=True)),
    ]
    if kind == "ticks":
        at = [texts.index(p.condition) if p.condition else -1 for p in points]
        columns.append(np.array(at, "<i4"))
    if as_known:
        columns.append(np.array([p.known_ns for p in points], "<i8"))
        columns.append(np.array([p.revision for p in points], "<i4"))
    return said + b"".join(column.tobytes() for column in columns)


def by_hand(days: Sequence[Day], *, as_known: bool) -> str:
    found = hashlib.sha256()
    for day in days:
        # What it says of bars has a test of its own, and comes first.
        bars = _Recorded()
        _take_bars(day, bars)
        found.update(bars.known if as_known else bars.final)
        for kind in ("quotes", "ticks"):
            found.update(points_by_hand(day, kind, as_known=as_known))
    return found.hexdigest()


class _Recorded:
    final = b""
    known = b""


def _take_bars(day: Day, into: _Recorded) -> None:
    rows = [row for row in in_order(day) if not isinstance(row, Point)]
    names = sorted({row.symbol for row in rows})
    head = f"{day.label}\nbars\n".encode() + "\n".join(names).encode() + b"\n\n"
    columns = [
        np.array([names.index(row.symbol) for row in rows], "<i4"),
        np.array([row.interval_ns for row in rows], "<i8"),
        np.array([row.ts_ns for row in rows], "<i8"),
        *(np.array([row.close + plus for row in rows], "<f8") for plus in (-0.5, 1, -1, 0)),
        np.array([row.volume for row in rows], "<f8"),
    ]
    into.final = head + b"".join(column.tobytes() for column in columns)
    known = np.array([row.known_ns for row in rows], "<i8")
    into.known = into.final + known.tobytes() + bytes(4 * len(rows))


@settings(max_examples=40, deadline=None)
@given(
    days=busy_days(),
    shards=st.integers(1, 3),
    cuts=st.lists(st.integers(1, 12), max_size=5),
)
def test_it_is_what_the_definition_says(days: list[Day], shards: int, cuts: list[int]) -> None:
    final, as_known = digests(days, shards, cuts)
    assert final == by_hand(days, as_known=False)
    assert as_known == by_hand(days, as_known=True)


@settings(max_examples=40, deadline=None)
@given(days=busy_days(1), seed=st.integers(0, 2**32))
def test_the_final_state_does_not_depend_on_when_rows_came(days: list[Day], seed: int) -> None:
    (day,) = days
    if not isinstance(day, Busy):
        return
    rng = np.random.default_rng(seed)
    # A correction comes behind what it corrects, on any tape.
    corrected = {same(one) for one in day.points if one.revision}
    rows = []
    for one in day.points:
        if same(one) in corrected or one.ts_ns >= day.close_ns:
            rows.append(one)
            continue
        known_ns = int(one.ts_ns + rng.integers(0, 3) * 15_000_000_000)
        known_ns = min(known_ns, day.close_ns)
        rows.append(replace(one, known_ns=known_ns, is_late=known_ns > one.ts_ns))
    other = replace(day, points=tuple(rows))
    assert digests([day])[0] == digests([other])[0]
    is_moved = any(a.known_ns != b.known_ns for a, b in zip(rows, day.points, strict=True))
    assert (digests([day])[1] != digests([other])[1]) or not is_moved


A = point(5, "S000", 10.0, 1.0, condition="A")
QUOTE = point(5, "S000", 10.0, 1.0, 11.0, 2.0)
DAY = full_day(2, 2)


@pytest.mark.parametrize("one", [A, QUOTE], ids=["tick", "quote"])
@pytest.mark.parametrize("value", range(4))
def test_one_changed_value_changes_both(one: Point, value: int) -> None:
    if value >= len(one.values):
        changed = replace(one, condition="other" if one.kind == "ticks" else "")
        changed = changed if one.kind == "ticks" else replace(one, symbol="S001")
    else:
        values = [*one.values]
        values[value] = float(np.nextafter(values[value], np.inf))
        changed = replace(one, values=tuple(values))
    before, after = digests([busy(DAY, [one])]), digests([busy(DAY, [changed])])
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_day_without_quotes_and_ticks_is_hashed_as_before_they_were() -> None:
    assert digests([DAY]) == digests([busy(DAY, [])])
    assert digests([DAY])[0] == by_hand([DAY], as_known=False)


def test_one_revised_row_equals_the_right_one_at_once() -> None:
    wrong = replace(A, values=(9.0, 1.0), condition="gone")
    mended = replace(A, known_ns=A.known_ns + 7, is_late=True, revision=1)
    assert digests([busy(DAY, [wrong, mended])])[0] == digests([busy(DAY, [A])])[0]
    assert digests([busy(DAY, [wrong, mended])])[1] != digests([busy(DAY, [A])])[1]


def test_the_number_tells_which_of_several_was_revised() -> None:
    numbered = [replace(A, number=0), replace(A, values=(9.0, 1.0), sequence=1, number=1)]
    mended = replace(A, known_ns=A.known_ns + 7, is_late=True, revision=1, values=(8.0, 1.0))
    right = replace(numbered[1], values=(8.0, 1.0))
    found, _ = digests([busy(DAY, [*numbered, replace(mended, number=1)])])
    assert found == digests([busy(DAY, [numbered[0], right])])[0]
    three = [*numbered, replace(right, sequence=2, number=2)]
    of_another = replace(mended, number=1, source="other")
    assert digests([busy(DAY, [*numbered, of_another])])[0] == digests([busy(DAY, three)])[0]


def test_where_two_stand_without_numbers_nothing_tells_which_was_revised() -> None:
    two = [A, replace(A, values=(9.0, 1.0), sequence=1)]
    mended = replace(A, known_ns=A.known_ns + 7, is_late=True, revision=1, values=(8.0, 1.0))
    three = [*two, replace(A, values=(8.0, 1.0), sequence=2)]
    assert digests([busy(DAY, [*two, mended])])[0] == digests([busy(DAY, three)])[0]


def test_counts_are_by_kind() -> None:
    digest = digest_of(merged(point_tape([busy(DAY, [A, QUOTE, replace(A, sequence=1)])])))
    assert digest.counts == {"bars": 4, "quotes": 1, "ticks": 2}
    assert digest.rows == 7


def test_rows_that_stand() -> None:
    def of(*rows: tuple[int, int, int, bool], sequence: Sequence[int] = ()) -> Any:
        symbol, ts_ns, revision, late = (np.array(column) for column in zip(*rows, strict=True))
        numbers = np.array(sequence or [-1] * len(rows))
        found = standing((ts_ns, symbol, np.zeros(len(rows)), numbers), revision, late)
        return None if found is None else found.tolist()

    assert standing([np.zeros(1)] * 4, np.ones(1, np.int32), None) is None
    assert of((0, 1, 0, False), (0, 1, 0, True)) is None
    assert of((0, 1, 0, False), (0, 1, 1, True)) == [1]
    assert of((0, 1, 0, False), (1, 1, 0, False), (0, 1, 1, True), (0, 1, 2, True)) == [3, 1]
    assert of((0, 1, 0, False), (0, 1, 0, False), (0, 1, 1, True)) == [0, 1, 2]
    assert of((0, 1, 0, False), (0, 1, 0, False), (0, 1, 1, True), sequence=(0, 1, 1)) == [0, 2]
    assert of((0, 1, 0, False), (0, 1, 1, True), sequence=(0, 1)) == [0, 1]
    assert of((0, 1, 1, True), (0, 1, 1, True)) == [0, 1]
    assert of((0, 1, 1, True), (0, 2, 1, True), (1, 1, 3, False)) == [0, 1, 2]


def test_the_order_of_what_shares_symbol_and_time() -> None:
    def of(*rows: tuple[int, int, float]) -> Any:
        symbol, ts_ns, value = (np.array(column) for column in zip(*rows, strict=True))
        found = point_order(symbol, ts_ns, [value])
        return None if found is None else found.tolist()

    assert of((0, 1, 9.0), (1, 1, 8.0), (0, 2, 1.0)) is None
    assert of((0, 1, 9.0), (1, 1, 8.0), (1, 1, 7.0), (0, 2, 1.0)) == [0, 2, 1, 3]
    assert of((0, 2, 9.0), (1, 1, 8.0)) == [1, 0]


def test_parts_that_overlap_are_sorted_together() -> None:
    points = [A, replace(A, values=(9.0, 1.0), sequence=1), point(6, "S000", 3.0, 1.0)]
    start, opened, first, second, *rest = merged(point_tape([busy(DAY, points)], cuts={0: [1]}))
    one = digest_of([start, opened, first, second, *rest])
    two = digest_of([start, opened, second, first, *rest])
    assert one.final() == two.final() == by_hand([busy(DAY, points)], as_known=False)
    assert one.as_known() != two.as_known()
