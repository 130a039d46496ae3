"""SessionData of quotes and ticks: what is at hand, what a correction does, flags, threads."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import SessionData, SessionStream
from streams.client import Batch
from streams.errors import ConfigError
from tests.frames import OPEN_NS, Day, MemoryReader, full_day, merged
from tests.points import Busy, Point, busy, busy_days, in_order, point, point_tape
from tests.unit.streams.client.answers import answers

DAY = full_day(2, 2)


def data_of(days: Sequence[Day], cuts: Iterable[int] = (), **arguments: Any) -> SessionData:
    data = SessionData(**arguments)
    for batch in merged(point_tape(days, cuts={0: tuple(cuts)})):
        data.apply(batch)
    return data


def tick(second: float, price: float, **changes: Any) -> Point:
    return point(second, "S000", price, 1.0, **changes)


def prices(data: SessionData, n: int = 100, symbol: str = "S000") -> list[float]:
    return [float(price) for price in data.get_last_n_ticks(symbol, n)["price"]]


def kept_by_hand(day: Day, kind: str, symbol: str, keep: int) -> tuple[list[Point], int]:
    """Rows at hand and their count, one row after the other."""
    here: list[Point] = []
    count = 0
    for one in in_order(day):
        if not isinstance(one, Point) or (one.kind, one.symbol) != (kind, symbol):
            continue
        count += not (one.is_late and one.revision)
        which = (one.ts_ns, one.source, one.number)
        same = [
            p for p in here if (p.ts_ns, p.source, p.number) == which and p.revision < one.revision
        ]
        if not one.is_late:
            here.append(one)
        elif one.revision and len(same) == 1:
            here[here.index(same[0])] = one
        else:
            here.insert(sum(p.ts_ns <= one.ts_ns for p in here), one)
        here = here[-keep:]
    return here, count


@settings(max_examples=40, deadline=None)
@given(
    days=busy_days(),
    keep=st.integers(1, 6),
    cuts=st.lists(st.integers(1, 12), max_size=5),
)
def test_it_is_what_one_row_after_the_other_gives(
    days: list[Day], keep: int, cuts: list[int]
) -> None:
    data = data_of(days, cuts, recent_rows=keep)
    day = days[-1]
    for symbol in day.symbols:
        for kind, read, count, latest in (
            ("quotes", data.get_last_n_quotes, data.get_quote_count, data.get_latest_quote),
            ("ticks", data.get_last_n_ticks, data.get_tick_count, data.get_latest_tick),
        ):
            here, number = kept_by_hand(day, kind, symbol, keep)
            fields = ("ts_ns", "known_ns", "revision", *read(symbol, 0).dtype.names[2:-1])
            found = [tuple(row[name] for name in fields) for row in read(symbol, keep + 3)]
            assert found == [(p.ts_ns, p.known_ns, p.revision, *p.values) for p in here]
            assert count(symbol) == number
            assert len(read(symbol, 2)) == min(2, len(here))
            if here:
                assert latest(symbol.lower()) == read(symbol, 1)[0]
            else:
                assert latest(symbol) is None
    for name in ("quote", "tick"):
        every = getattr(data, f"get_latest_{name}s")()
        one_by_one = [getattr(data, f"get_latest_{name}")(symbol) for symbol in data.symbols]
        for row, one in zip(every, one_by_one, strict=True):
            assert row["ts_ns"] == (0 if one is None else one.ts_ns)


@settings(max_examples=40, deadline=None)
@given(
    days=busy_days(),
    cuts=st.lists(st.integers(1, 12), max_size=5),
    shards=st.integers(1, 3),
)
def test_cuts_shards_and_joining_late_make_no_difference(
    days: list[Day], cuts: list[int], shards: int
) -> None:
    first, then = SessionData(recent_rows=4), SessionData(recent_rows=4)
    for batch in merged(point_tape(days)):
        first.apply(batch)
    tape = point_tape(days, shards, dict.fromkeys(range(shards), cuts))
    with SessionStream(
        reader=MemoryReader(tape), data=then, kinds=("bars", "quotes", "ticks"), until="idle"
    ) as stream:
        list(stream.slices(timeout_s=0.0))
    names = days[-1].symbols
    assert answers(first, names) == answers(then, names)


def test_corrections() -> None:
    rows = [tick(1, 1.0), tick(2, 2.0), tick(3, 3.0), tick(3, 3.5, sequence=1)]
    late = tick(2.5, 2.5, known=4)
    revised = tick(2, 9.0, known=5, revision=1)
    which = tick(3, 8.0, known=6, revision=1)
    assert prices(data_of([busy(DAY, [*rows, late])])) == [1.0, 2.0, 2.5, 3.0, 3.5]
    data = data_of([busy(DAY, [*rows, late, revised])])
    assert prices(data) == [1.0, 9.0, 2.5, 3.0, 3.5]
    assert data.get_tick_count("S000") == 5
    known = data.get_last_n_ticks("S000", 5)["known_ns"]
    assert known[1] == revised.known_ns
    assert prices(data_of([busy(DAY, [*rows, which])])) == [1.0, 2.0, 3.0, 3.5, 8.0]
    assert prices(data_of([busy(DAY, [*rows, late])], recent_rows=2)) == [3.0, 3.5]
    assert prices(data_of([busy(DAY, [*rows, late])], recent_rows=3)) == [2.5, 3.0, 3.5]


def test_a_revision_takes_the_place_of_the_row_of_its_source_and_number() -> None:
    rows = [
        tick(1, 1.0, number=5, sequence=0),
        tick(1, 2.0, number=6, sequence=1),
        tick(1, 3.0, number=5, sequence=2, source="aside"),
        tick(2, 4.0),
    ]
    changes = {"known": 3, "revision": 1}
    first = tick(1, 9.0, number=5, **changes)
    assert prices(data_of([busy(DAY, [*rows, first])])) == [3.0, 9.0, 2.0, 4.0]
    # In a batch of its own its source has another place than in that of the row.
    assert prices(data_of([busy(DAY, [*rows, first])], [1, 2, 3])) == [3.0, 9.0, 2.0, 4.0]
    second = tick(1, 8.0, number=5, source="aside", **changes)
    assert prices(data_of([busy(DAY, [*rows, second])], [1, 2, 3])) == [8.0, 1.0, 2.0, 4.0]
    unknown = tick(1, 7.0, number=6, source="aside", **changes)
    assert prices(data_of([busy(DAY, [*rows, unknown])])) == [3.0, 1.0, 2.0, 7.0, 4.0]
    unnumbered = tick(1, 7.0, **changes)
    assert prices(data_of([busy(DAY, [*rows, unnumbered])])) == [3.0, 1.0, 2.0, 7.0, 4.0]
    again = tick(1, 6.0, number=5, known=4, revision=2)
    lower = tick(1, 5.0, number=5, known=5, revision=1)
    assert prices(data_of([busy(DAY, [*rows, first, again, lower])])) == [3.0, 6.0, 2.0, 5.0, 4.0]


def test_a_revision_alone_at_its_time_is_one_more_where_it_corrects_another() -> None:
    other = tick(1, 2.0, number=6, known=3, revision=1)
    assert prices(data_of([busy(DAY, [tick(1, 1.0, number=5), other])])) == [1.0, 2.0]


def test_what_tells_rows_apart_is_not_for_readers() -> None:
    rows = [tick(1, 1.0, number=5), tick(2, 2.0, number=6)]
    data = data_of([busy(DAY, rows)])
    names = ("ts_ns", "known_ns", "price", "size", "revision")
    assert data.get_last_n_ticks("S000", 2).dtype.names == names
    assert data.get_latest_ticks().dtype.names == names


def test_the_latest_is_the_newest_by_time_and_history_is_cut_at_the_clock() -> None:
    day = busy(DAY, [tick(1, 1.0), tick(2, 2.0), tick(1.5, 1.5, known=3), tick(4, 4.0)])
    tape = point_tape([day])
    seen = []
    with SessionStream(reader=MemoryReader(tape), kinds=("ticks",), start="first") as stream:
        for one in stream.slices():
            assert (stream.data.get_last_n_ticks("S000", 9)["known_ns"] <= one.ready_ns).all()
            seen.append(stream.data.get_latest_tick("S000").price)
    assert seen[:4] == [1.0, 2.0, 2.0, 4.0]


def test_what_is_not_there() -> None:
    for data in (SessionData(), data_of([DAY])):
        assert data.get_latest_tick("S000") is None
        assert data.get_quote_count("S000") == 0
        assert len(data.get_last_n_quotes("S000", 3)) == 0
        rows = data.get_latest_ticks(["S000", "none"])
        assert rows["ts_ns"].tolist() == [0, 0]
        assert np.isnan(rows["price"]).all()
    with pytest.raises(ConfigError, match="at least 1"):
        SessionData(recent_rows=0)


def test_a_new_session_begins_without_any() -> None:
    data = data_of([busy(DAY, [tick(1, 1.0)]), full_day(2, 2, 1)])
    assert data.get_latest_tick("S000") is None
    assert data.get_tick_count("S000") == 0


@pytest.mark.parametrize("as_", ["arrow", "pandas", "polars"])
def test_as_tables_of_other_libraries(as_: Any) -> None:
    quote = point(3, "S001", 1.0, 2.0, 3.0, 4.0)
    data = data_of([busy(DAY, [tick(1, 1.0), tick(2, 2.0), quote])])
    assert len(data.get_last_n_ticks("S000", 5, as_=as_)) == 2
    assert len(data.get_latest_quotes(as_=as_)) == 2
    column = data.get_last_n_quotes("S001", 1, as_=as_)["ask"]
    assert (column.to_pylist() if as_ == "arrow" else column.to_list()) == [3.0]


def test_views_never_change_and_cannot_be_written() -> None:
    points = [tick(second, float(second)) for second in range(1, 100)]
    late = [tick(second, 0.5, known=second + 3) for second in range(5, 90, 7)]
    data = SessionData(recent_rows=8)
    held: list[tuple[Any, bytes]] = []
    for batch in merged(point_tape([busy(DAY, [*points, *late])], cuts={0: range(1, 120)})):
        data.apply(batch)
        views = (data.get_last_n_ticks("S000", 8), data.get_latest_ticks())
        held += [(rows, rows.tobytes()) for rows in views]
    assert all(rows.tobytes() == before for rows, before in held)
    with pytest.raises(ValueError, match="read-only"):
        data.get_last_n_ticks("S000", 8)["price"][0] = 1.0
    assert data.get_last_n_ticks("S000", 8).base is not None


def test_flags_by_kind() -> None:
    quote = point(2, "S001", 1.0, 2.0, 3.0, 4.0)
    data = SessionData()
    first, second = data.flags(), data.flags()
    start, opened, *rest = merged(point_tape([busy(DAY, [tick(1, 1.0), quote])], cuts={0: [1, 2]}))
    for batch in (start, opened, rest[0]):
        data.apply(batch)
    assert first.quotes_updated() == frozenset()
    assert first.ticks_updated() == {"S000"}
    assert first.ticks_updated() == frozenset()
    data.apply(rest[1])
    assert first.quotes_updated() == {"S001"}
    assert first.bars_updated() == frozenset()
    data.apply(rest[2])
    assert first.bars_updated() == {"S000", "S001"}
    assert first.take() == frozenset()
    assert second.ticks_updated() == {"S000"}
    assert second.take() == {"S000", "S001"}
    assert second.bars_updated() == frozenset()


class Asker(threading.Thread):
    """Takes flags on and on, and counts what it saw of the ticks."""

    def __init__(self, data: SessionData) -> None:
        super().__init__()
        self.data, self.flags = data, data.flags()
        self.is_done = threading.Event()
        self.seen = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while True:
            is_last = self.is_done.is_set()
            if self.flags.ticks_updated():
                self.look()
            if is_last:
                return

    def look(self) -> None:
        count = self.data.get_tick_count("S000")
        rows = self.data.get_last_n_ticks("S000", 50)
        if not np.all(rows["price"] * 1e9 == rows["ts_ns"] - OPEN_NS):
            self.wrong.append(repr(rows))
        self.seen = max(self.seen, count)


def test_no_reader_steals_anothers_flags_nor_misses_one() -> None:
    seconds = range(1, 101)
    day = busy(DAY, [tick(second, float(second)) for second in seconds])
    batches = merged(point_tape([day], cuts={0: seconds}))
    for _ in range(5):
        data = SessionData(recent_rows=16)
        askers = [Asker(data) for _ in range(3)]
        for asker in askers:
            asker.start()
        try:
            for batch in batches[:-2]:
                data.apply(batch)
        finally:
            for asker in askers:
                asker.is_done.set()
                asker.join()
        assert [asker.wrong for asker in askers] == [[], [], []]
        # Who saw the last flag looked behind it: all rows were there.
        assert [asker.seen for asker in askers] == [100, 100, 100]


def test_symbols_that_come_later_have_their_own() -> None:
    data = SessionData(recent_rows=2)
    batches: list[Batch] = []
    rows = [point(1, "S001", 1.0, 1.0), point(2, "S000", 2.0, 1.0), point(2, "S001", 3.0, 1.0)]
    for batch in merged(point_tape([busy(DAY, rows)], cuts={0: [1, 2]})):
        batches.append(batch)
        data.apply(batch)
    assert (prices(data, symbol="S001"), prices(data)) == ([1.0, 3.0], [2.0])
    # Listed in another order, with one more.
    last = next(b for b in reversed(batches) if b.ticks is not None)
    assert last.ticks is not None
    symbols = ("S000", "S00X", "S001")
    ticks = replace(last.ticks, symbol=np.array([1, 2], np.int32)[: len(last.ticks)])
    data.apply(replace(last, symbols=symbols, ticks=ticks))
    assert data.get_tick_count("S00X") == 1
    assert isinstance(batches[0], Batch)
    assert not isinstance(DAY, Busy)
