"""The arithmetic of longer bars."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import BarColumns, Frame
from schemas.records import Longs
from streams.derived import DerivedBars, Part, minutes_of
from streams.errors import ConfigError
from streams.intervals import MINUTE_NS
from streams.minute_bars import Cells, MinuteBars
from tests.unit.streams.deriving import Day, columns, event, full, lines
from tests.unit.streams.deriving import minutes_of as told_of

NOWHERE = Cells(np.empty(0, np.intp), np.empty(0, np.intp))


def open_frame(day: Day) -> Frame:
    return event("open", day, day.open_ns)


def rows_of(day: Day) -> BarColumns:
    return columns(list(lines(day)))


def ends_of(day: Day) -> Longs:
    return np.array([day.ns(minute + 1) for minute in day.expected], np.int64)


def filled(day: Day) -> MinuteBars:
    base = MinuteBars(open_frame(day))
    base.expect(ends_of(day))
    base.put(rows_of(day))
    return base


def derived(base: MinuteBars, minutes: int) -> Part:
    bars = DerivedBars(minutes, base)
    part = bars.until(base.close_ns)
    assert part is not None
    return part


def cells(*found: tuple[int, int]) -> Cells:
    minute, symbol = np.array(found, np.intp).T
    return Cells(minute, symbol)


def test_a_bar_is_first_highest_lowest_last_and_sums() -> None:
    prices = {
        (0, 0): (10.0, 12.0, 9.0, 11.0, 100.0),
        (1, 0): (11.0, 15.0, 10.0, 14.0, 300.0),
        (3, 0): (14.0, 14.5, 8.0, 9.0, 200.0),
        (4, 0): (9.0, 9.5, 8.5, 9.2, 0.0),
    }
    part = derived(filled(Day(5, ("AA",), fresh=prices, quiet=frozenset())), 2)
    found = {name: column.tolist() for name, column in part.columns.items()}
    turnover = (100 * (32 / 3) + 300 * (39 / 3), 200 * (31.5 / 3))
    assert found["open"] == [10.0, 14.0, 9.0]
    assert found["high"] == [15.0, 14.5, 9.5]
    assert found["low"] == [9.0, 8.0, 8.5]
    assert found["close"] == [14.0, 9.0, 9.2]
    assert found["volume"] == [400.0, 200.0, 0.0]
    assert found["vwap"][:2] == pytest.approx([turnover[0] / 400, turnover[1] / 200])
    assert np.isnan(found["vwap"][2])  # nothing was traded
    assert found["count"] == [2, 1, 1]
    assert found["quality"] == [100.0, 50.0, 100.0]
    assert found["interval_ns"] == [2 * MINUTE_NS, 2 * MINUTE_NS, MINUTE_NS]
    assert found["revision"] == [0, 0, 0]
    assert "before_open" not in found


@pytest.mark.parametrize(
    ("minutes", "size", "lengths"),
    [
        (390, "15m", [15] * 26),
        (390, "1h", [60] * 6 + [30]),  # the last is cut at the close
        (210, "1h", [60] * 3 + [30]),  # a half-day
        (210, "1d", [210]),
        (390, "7m", [7] * 55 + [5]),
        (1440, "1d", [1440]),
        (390, "2d", [390]),  # no longer than a session
    ],
)
def test_bars_are_anchored_at_the_open_and_cut_at_the_close(
    minutes: int, size: str, lengths: list[int]
) -> None:
    day = Day(minutes, ("AA",), fresh=full(minutes, 1))
    part = derived(filled(day), minutes_of(size))
    starts = np.cumsum([0, *lengths])[:-1]
    assert part.columns["ts_ns"].tolist() == [day.ns(int(start)) for start in starts]
    assert (part.columns["interval_ns"] // MINUTE_NS).tolist() == lengths
    assert part.slice_ns.tolist() == (part.columns["ts_ns"] + part.columns["interval_ns"]).tolist()
    assert part.columns["count"].tolist() == lengths


@pytest.mark.parametrize("interval", ["30s", "90s"])
def test_only_whole_minutes_are_derived(interval: str) -> None:
    with pytest.raises(ConfigError, match="whole minutes"):
        minutes_of(interval)


@pytest.mark.parametrize("symbols", [1, 2, 9])
def test_sums_go_in_the_order_of_time(symbols: int) -> None:
    """Bit by bit as a loop adds up, which numpy's own sum over 390 minutes does not."""
    names = tuple(f"S{n}" for n in range(symbols))
    day = Day(390, names, fresh=full(390, symbols, seed=3))
    part = derived(filled(day), 390)
    for symbol in range(symbols):
        volume = turnover = 0.0
        for minute in range(390):
            _, high, low, close, size = day.fresh[minute, symbol]
            volume += size
            turnover += size * ((high + low + close) / 3)
        assert part.columns["volume"][symbol] == volume
        assert part.columns["vwap"][symbol] == turnover / volume
    one = [day.fresh[minute, 0][4] for minute in range(390)]
    assert np.sum(one) != part.columns["volume"][0]  # so the test can tell


@given(st.integers(1, 30), st.integers(1, 3), st.integers(1, 30), st.integers(0, 2**16))
def test_a_bar_made_again_is_the_same(minutes: int, symbols: int, size: int, seed: int) -> None:
    day = Day(minutes, ("AA", "BB", "CC")[:symbols], fresh=full(minutes, symbols, seed))
    base = filled(day)
    bars = DerivedBars(size, base)
    first = bars.until(base.close_ns)
    again = bars.again(base.close_ns, cells(*day.fresh), NOWHERE)
    assert first is not None
    assert again is not None
    for name in ("symbol", "ts_ns", "interval_ns", "open", "high", "low", "close", "volume"):
        assert np.array_equal(first.columns[name], again.columns[name])
    for name in ("vwap", "count", "quality"):
        assert np.array_equal(first.columns[name], again.columns[name], equal_nan=True)
    assert set(again.columns["revision"].tolist()) == {1}
    assert np.array_equal(again.columns["before_open"], first.columns["open"])


def test_what_is_out_stays_as_it_went_out() -> None:
    base = filled(Day(4, ("AA",), fresh=full(4, 1)))
    bars = DerivedBars(2, base)
    first = bars.until(base.close_ns)
    assert first is not None
    before = first.columns["close"].copy()
    changed = rows_of(Day(4, ("AA",), fresh={(1, 0): (1.0, 2.0, 0.5, 1.5, 7.0)}))
    touched = base.put(changed, is_late=True)
    assert bars.again(base.close_ns, touched, NOWHERE) is not None
    assert first.columns["close"].tolist() == before.tolist()


# Complete frames, which go in as they are.


def test_a_complete_frame_goes_in_as_its_rows_do_one_by_one() -> None:
    day = Day(20, fresh=full(20))
    fast, slow = MinuteBars(open_frame(day)), filled(day)
    assert fast.put_complete(rows_of(day), ends_of(day))
    assert fast.present.all()
    for name, column in fast.values.items():
        assert np.array_equal(column, slow.values[name])


def spoiled(what: str, day: Day) -> tuple[Any, Longs]:
    bars, ends = rows_of(day), ends_of(day)
    other = bars.symbol.copy()
    other[[1, 2]] = other[[2, 1]]
    length = bars.interval_ns.copy()
    length[3] += MINUTE_NS
    start = bars.ts_ns.copy()
    start[4] += 1
    return {
        "a row is missing": (bars.take(slice(1, None)), ends),
        "no rows": (bars.take(slice(0, 0)), ends[:0]),
        "another order": (replace(bars, symbol=other), ends),
        "another length": (replace(bars, interval_ns=length), ends),
        "another start": (replace(bars, ts_ns=start), ends),
        "within a minute": (replace(bars, ts_ns=bars.ts_ns + 1), ends + 1),
        "before the open": (replace(bars, ts_ns=bars.ts_ns - MINUTE_NS), ends - MINUTE_NS),
        "behind the close": (replace(bars, ts_ns=bars.ts_ns + MINUTE_NS), ends + MINUTE_NS),
    }[what]


@pytest.mark.parametrize(
    "what",
    [
        *("a row is missing", "no rows", "another order", "another length", "another start"),
        *("within a minute", "before the open", "behind the close"),
    ],
)
def test_what_is_not_complete_is_refused_whole(what: str) -> None:
    day = Day(5, fresh=full(5))
    base = MinuteBars(open_frame(day))
    assert not base.put_complete(*spoiled(what, day))
    assert not base.present.any()


def test_the_length_of_all_may_be_one_value() -> None:
    day = Day(5, fresh=full(5))
    bars = rows_of(day)
    one = replace(bars, interval_ns=np.broadcast_to(bars.interval_ns[:1], len(bars)))
    assert MinuteBars(open_frame(day)).put_complete(one, ends_of(day))


@given(st.data())
def test_the_memory_of_a_session_before_leaves_no_trace(data: st.DataObject) -> None:
    shape = st.tuples(st.integers(2, 12), st.integers(1, 3))
    (m1, s1), (m2, s2) = data.draw(shape), data.draw(shape)
    if data.draw(st.booleans()):
        m2, s2 = m1, s1
    first = Day(m1, ("AA", "BB", "CC")[:s1], fresh=full(m1, s1))
    some = data.draw(st.sets(st.sampled_from(sorted(full(m2, s2))), min_size=1))
    second = Day(m2, ("AA", "BB", "CC")[:s2], fresh={c: full(m2, s2, 1)[c] for c in some})
    base = MinuteBars(open_frame(second), filled(first))
    base.expect(ends_of(second))
    base.put(rows_of(second))
    found, wanted = derived(base, 3), derived(filled(second), 3)
    for name, column in wanted.columns.items():
        assert np.array_equal(found.columns[name], column, equal_nan=name == "vwap")


# What sources vouch for, and symbols that change.


def test_runs_of_minutes_are_found_by_name_and_cut_at_the_session() -> None:
    day = Day(6, fresh={})
    base = MinuteBars(open_frame(day))
    runs = told_of(replace(day, symbols=("XX", "CC", "AA", "BB")), {(0, 0): True, (1, 1): True})
    wide = replace(
        runs,
        ts_ns=np.array([day.ns(0), day.ns(-3)], np.int64),
        end_ns=np.array([day.ns(6), day.ns(2)], np.int64),
    )
    found = base.vouch(wide)
    assert (found.minute.tolist(), found.symbol.tolist()) == ([0, 1], [2, 2])
    assert base.no_trade.sum() == 2
    over = replace(wide, ts_ns=wide.ts_ns + day.ns(4) - day.ns(0) + 3 * MINUTE_NS)
    assert len(base.vouch(replace(over, end_ns=over.ts_ns + 9 * MINUTE_NS)).minute) == 2
    assert base.no_trade[:, 2].tolist() == [True, True, False, False, True, True]
    taken = base.vouch(replace(wide, status=np.array([3, 3], np.int32)))
    assert len(taken.minute) == 2
    assert not base.no_trade[:2].any()


def test_quality_counts_each_expected_minute_once() -> None:
    day = Day(6, ("AA",), fresh={c: v for c, v in full(6, 1).items() if c[0] in (0, 1, 5)})
    base = filled(day)
    base.vouch(told_of(day, {(1, 0): True, (2, 0): True}))  # one of them has a bar as well
    assert derived(base, 6).columns["quality"].tolist() == [pytest.approx(100 * 4 / 6)]


def test_a_symbol_that_went_keeps_its_place_for_when_it_comes_back() -> None:
    day = Day(4, fresh=full(4))
    base = filled(day)
    bars = DerivedBars(2, base)
    assert bars.until(day.ns(2)) is not None
    for names in (("CC",), ("AA", "DD"), ("AA", "BB", "CC")):
        bars.rename(base.rename(names))
    part = bars.again(day.ns(3), cells(*((0, s) for s in range(4))), NOWHERE)
    assert part is not None
    assert part.columns["symbol"].tolist() == [0, 1, 2]  # the one that is gone now is left out
    assert part.columns["revision"].tolist() == [1, 1, 1]
    later = bars.until(day.ns(4))
    assert later is not None
    wanted = derived(filled(day), 2)
    for name in ("symbol", "close", "volume"):
        assert np.array_equal(later.columns[name], wanted.columns[name][3:])
