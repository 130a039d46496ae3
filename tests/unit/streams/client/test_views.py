"""The tape as known and as final."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import BarRow, Digest, Position, SessionData, SessionStream
from streams.client import Batch
from streams.client.rows import rows_of
from streams.errors import ConfigError
from streams.intervals import MINUTE_NS
from tests.derived import with_derived
from tests.frames import OPEN_NS, Day, MemoryReader, Row, Tape, full_day, tape_of
from tests.points import Point, busy, busy_days, in_order, point, point_tape
from tests.unit.streams.client.answers import answers

ALL = ("bars", "quotes", "ticks")
HOLE = frozenset({(OPEN_NS + 2 * MINUTE_NS, "S001")})
FILL = Row(OPEN_NS + 4 * MINUTE_NS, "S001", OPEN_NS + MINUTE_NS, 11.0, 5.5, is_late=True)
BETTER = Row(OPEN_NS + 5 * MINUTE_NS, "S000", OPEN_NS, 42.0, 7.7, 1, is_late=True)
DAYS = [full_day(3, 5, missing=HOLE, late=[FILL, BETTER]), full_day(3, 5, 1)]


def stream(tape: Tape, reader: MemoryReader | None = None, **arguments: Any) -> SessionStream:
    defaults: dict[str, Any] = {"start": "first", "kinds": ALL, "view": "as_final"}
    return SessionStream(reader=reader or MemoryReader(tape), **(defaults | arguments))


def final_of(batches: Sequence[Batch]) -> tuple[str, dict[str, int]]:
    digest = Digest()
    for batch in batches:
        digest.add(batch)
    return digest.final(), digest.counts


def keys(rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [(r.known_ns, r.symbol, r.ts_ns, r.is_correction) for r in rows]


def test_each_row_comes_once_in_its_final_state_at_its_own_time() -> None:
    rows = [row for row in stream(tape_of(DAYS)).rows() if row.session == DAYS[0].label]
    assert [row.is_correction for row in rows] == [False] * 15
    assert all(row.known_ns == row.ts_ns + MINUTE_NS for row in rows)
    assert keys(rows) == sorted(keys(rows))
    by_key = {(row.symbol, row.ts_ns): row for row in rows}
    assert len(by_key) == 15
    assert by_key["S001", FILL.ts_ns].close == FILL.close
    assert (by_key["S000", OPEN_NS].close, by_key["S000", OPEN_NS].revision) == (42.0, 1)


def test_as_known_is_the_default_and_marks_corrections() -> None:
    plain = list(SessionStream(reader=MemoryReader(tape_of(DAYS)), start="first").rows())
    assert plain == list(stream(tape_of(DAYS), view="as_known", kinds=["bars"]).rows())
    assert [row.ts_ns for row in plain if row.is_correction] == [FILL.ts_ns, BETTER.ts_ns]


def test_marks_count_what_came_late() -> None:
    slices = [s for s in stream(tape_of(DAYS)) if s.session == DAYS[0].label]
    assert [s.ready_ns - OPEN_NS for s in slices] == [m * MINUTE_NS for m in range(1, 6)]
    assert {(s.expected, s.received, s.missing, s.corrections) for s in slices} == {(3, 3, 0, 0)}


@settings(max_examples=40, deadline=None)
@given(
    days=busy_days(),
    shards=st.integers(1, 3),
    cuts=st.lists(st.integers(1, 12), max_size=5),
    by_slice=st.booleans(),
)
def test_it_has_the_final_digest_and_no_corrections(
    days: list[Day], shards: int, cuts: list[int], by_slice: bool
) -> None:
    tape = point_tape(days, shards, dict.fromkeys(range(shards), cuts))
    known = [*stream(tape, view="as_known").frames()]
    found = stream(tape)
    batches = [*found._walk(None, by_slice=by_slice)]
    # Rows in the final state are their own final state, and as known there is nothing else.
    assert final_of(batches)[0] == final_of(known)[0]
    events = [(b.event, b.session) for b in batches if b.event != "rows"]
    assert events == [(b.event, b.session) for b in known if b.event != "rows"]
    before = 0
    for batch in batches:
        assert not batch.slice_corrections.any()
        assert batch.slice_rows.sum() == batch.rows
        rows = list(rows_of(batch))
        assert len(rows) == batch.rows
        for row in rows:
            ready = row.ts_ns + (row.interval_ns if isinstance(row, BarRow) else 0)
            assert row.known_ns == ready
        times = [row.known_ns for row in rows]
        assert times == sorted(times)
        before = max([before, *times])
    assert found.position == stream_end(tape)


def stream_end(tape: Tape) -> Position:
    last = stream(tape, view="as_known")
    for _ in last.frames():
        pass
    return last.position


@settings(max_examples=40, deadline=None)
@given(days=busy_days(1, late=False), shards=st.integers(1, 3))
def test_a_tape_without_corrections_is_the_same_in_both_views(days: list[Day], shards: int) -> None:
    tape = point_tape(days, shards)
    assert list(stream(tape).rows()) == list(stream(tape, view="as_known").rows())
    (day,) = days
    found = [(r.known_ns, r.symbol, r.ts_ns) for r in stream(tape).rows()]
    assert found == [(r.known_ns, r.symbol, r.ts_ns) for r in in_order(day)]


def test_the_running_session_is_final_up_to_the_clock_and_as_known_from_there() -> None:
    late = [
        replace(FILL, known_ns=OPEN_NS + 3 * MINUTE_NS),
        replace(BETTER, known_ns=OPEN_NS + 4 * MINUTE_NS),
    ]
    tape = tape_of([full_day(3, 5, missing=HOLE, late=late)], cuts={0: [1, 2, 3, 4]})
    reader = MemoryReader(tape, shown={0: 5})  # start, open, three minutes
    found = stream(tape, reader)
    rows = found.rows(timeout_s=0.0)
    first = list(rows)
    assert keys(first) == sorted(keys(first))
    assert len(first) == 9
    assert not any(row.is_correction for row in first)
    assert next(r for r in first if (r.symbol, r.ts_ns) == ("S000", OPEN_NS)).close != 42.0
    assert found.data.clock_ns == OPEN_NS + 3 * MINUTE_NS
    reader.show()
    rest = list(found.rows())
    assert [(r.symbol, r.close) for r in rest if r.is_correction] == [("S000", 42.0)]
    assert len(rest) == 7


def test_the_past_is_one_step_of_the_position_and_goes_on_from_there() -> None:
    tape = tape_of(DAYS, 2)
    whole = list(stream(tape).rows())
    found = stream(tape)
    given_out: list[Any] = []
    for row in found.rows():
        given_out.append(row)
        if len(given_out) == 20:  # in the middle of the second session
            break
    again = list(stream(tape, start=Position.from_dict(found.position.as_dict())).rows())
    assert given_out[:15] + again == whole
    behind = stream(tape)
    batches = [*behind.frames()]
    at = next(n for n, b in enumerate(batches) if b.event == "rows")
    rest = list(stream(tape, start=batches[at].position).rows())
    assert rest == whole[15:]


def test_who_goes_on_in_mid_session_gets_the_rest_as_known() -> None:
    tape = tape_of(DAYS, cuts={0: [2]})
    known = stream(tape, view="as_known")
    for _ in known.slices():
        if known.data.clock_ns == OPEN_NS + 2 * MINUTE_NS:
            break
    rest = list(stream(tape, start=known.position).rows())
    first = [row for row in rest if row.session == DAYS[0].label]
    assert sum(row.is_correction for row in first) == 2
    assert len(rest) == len(first) + 15


def test_from_a_time_on() -> None:
    start_ns = OPEN_NS + 2 * MINUTE_NS
    rows = list(stream(tape_of(DAYS), start=start_ns).rows())
    assert rows == [r for r in stream(tape_of(DAYS)).rows() if r.known_ns >= start_ns]


def test_joining_gives_the_same_replica() -> None:
    tape = point_tape([busy(DAYS[0], [point(70, "S000", 1.0, 2.0)]), DAYS[1]], 2, {0: [2], 1: [3]})
    one, two = SessionData(), SessionData()
    for data, view in ((one, "as_known"), (two, "as_final")):
        with stream(tape, start="session", data=data, view=view, until="idle") as found:
            list(found.slices())
    assert answers(one, DAYS[0].symbols)["S000"]["count"] == 5
    for symbol in DAYS[0].symbols:
        a, b = (d.get_historical_bars(symbol).popitem()[1] for d in (one, two))
        assert a["close"].tolist() == b["close"].tolist()
        assert (b["known_ns"] == b["ts_ns"] + MINUTE_NS).all()
    assert one.get_latest_bars().tolist() == two.get_latest_bars().tolist()


def test_now_comes_as_known() -> None:
    tape = tape_of(DAYS, cuts={0: [1, 2, 3, 4]})
    reader = MemoryReader(tape, shown={0: 5})
    found = stream(tape, reader, start="now")
    reader.show()
    first = [row for row in found.rows() if row.session == DAYS[0].label]
    assert [row.is_correction for row in first].count(True) == 2


def test_derived_bars_in_their_final_state() -> None:
    tape = with_derived(tape_of(DAYS), DAYS, (5,))
    for intervals in (("1m", "5m"), ("5m",)):
        arguments: dict[str, Any] = {"intervals": intervals, "kinds": ("bars",)}
        final = list(stream(tape, **arguments).rows())
        known = list(stream(tape, view="as_known", **arguments).rows())
        best: dict[tuple[Any, ...], Any] = {}
        for row in known:
            key = (row.session, row.symbol, row.interval_ns, row.ts_ns)
            if key not in best or best[key].revision <= row.revision:
                best[key] = row
        assert {(r.session, r.symbol, r.interval_ns, r.ts_ns): r.close for r in final} == {
            key: row.close for key, row in best.items()
        }
        assert len(final) == len(best)
        times = [row.known_ns for row in final]
        assert times == sorted(times)


def test_only_some_symbols_and_kinds() -> None:
    points = [point(70, "S000", 1.0, 2.0, condition="A"), point(70, "S001", 1.0, 2.0)]
    quote = point(10, "S000", 1.0, 1.0, 2.0, 1.0, known=300)
    tape = point_tape([busy(DAYS[0], [*points, quote])])
    rows = list(stream(tape, symbols=["S000"], kinds=["ticks", "quotes"]).rows())
    assert [type(row).__name__ for row in rows] == ["QuoteRow", "TickRow"]
    assert [row.known_ns - OPEN_NS for row in rows] == [10_000_000_000, 70_000_000_000]
    assert rows[1].condition == "A"
    assert isinstance(quote, Point)


@pytest.mark.parametrize(
    "arguments", [{"view": "as_it_is"}, {"view": "as_final", "lockstep": True, "group": "g"}]
)
def test_a_view_that_is_none_says_so(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a view is as_known, or as_final without lock-step"):
        stream(tape_of(DAYS), **arguments)


def test_rows_of_several_kinds_stand_in_the_order_of_the_tape() -> None:
    points = [
        point(60, "S001", 1.0, 2.0, condition="A"),
        point(60, "S000", 1.0, 1.0, 2.0, 1.0),
        point(61, "S000", 3.0, 2.0),
    ]
    tape = point_tape([busy(full_day(2, 2), points)])
    rows = list(stream(tape, view="as_known").rows())
    names = [type(row).__name__ for row in rows]
    assert names == ["TickRow", "QuoteRow", *["BarRow"] * 2, "TickRow", *["BarRow"] * 2]
    assert [getattr(row, "condition", "-") for row in rows][:5] == ["A", "-", "-", "-", ""]
