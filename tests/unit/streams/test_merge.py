"""The merge, held against the plainest way to write it down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import BarColumns, QuoteColumns, TickColumns
from streams.kinds import Rows
from streams.merge import (
    bars_of,
    columns_of,
    concatenate,
    faults,
    merge_bars,
    merge_rows,
    order_key,
    ready_ns,
    same_values,
    sort_bars,
    sort_rows,
)
from tests.unit.streams.shards import Spot, block, quote_block, tick_block

Key = tuple[int, int, int, int]
"""Symbol, ts_ns, interval_ns, revision."""


def columns(rows: list[Key], first: int = 0) -> BarColumns:
    """Bars whose close tells how many came before them."""
    ones = np.ones(len(rows))
    symbol, ts_ns, interval_ns, revision = (np.array([r[n] for r in rows]) for n in range(4))
    return BarColumns(
        row=np.arange(len(rows), dtype=np.int32),
        symbol=symbol.astype(np.int32),
        ts_ns=ts_ns.astype(np.int64),
        interval_ns=interval_ns.astype(np.int64),
        open=ones,
        high=ones,
        low=ones,
        close=np.arange(first, first + len(rows), dtype=np.float64),
        volume=ones,
        source=np.zeros(len(rows), np.int32),
        revision=revision.astype(np.int32),
    )


def plainly(parts: list[list[Key]]) -> list[tuple[Key, float]]:
    best: dict[tuple[int, int, int], tuple[int, float]] = {}
    for place, (symbol, ts, interval, revision) in enumerate(row for part in parts for row in part):
        key = (ts + interval, interval, symbol)
        if key not in best or revision >= best[key][0]:
            best[key] = (revision, float(place))
    return [
        ((symbol, ready - interval, interval, best[ready, interval, symbol][0]),
         best[ready, interval, symbol][1])
        for ready, interval, symbol in sorted(best)
    ]  # fmt: skip


def rows_of(bars: BarColumns) -> list[tuple[Key, float]]:
    names = (bars.symbol, bars.ts_ns, bars.interval_ns, bars.revision)
    keys = zip(*(column.tolist() for column in names), strict=True)
    return list(zip(keys, bars.close.tolist(), strict=True))


def merged(parts: list[list[Key]]) -> BarColumns:
    starts = np.cumsum([0, *(len(part) for part in parts)])
    return merge_bars([columns(p, int(s)) for p, s in zip(parts, starts, strict=False)])


def keys(largest_ns: int, lengths: st.SearchStrategy[int]) -> st.SearchStrategy[list[list[Key]]]:
    row = st.tuples(
        st.integers(0, 3), st.integers(0, 5).map(lambda n: n * largest_ns // 5), lengths,
        st.integers(0, 2),
    )  # fmt: skip
    return st.lists(st.lists(row, max_size=12), min_size=1, max_size=4)


@given(keys(300, st.sampled_from([60, 120])))
def test_bars_come_in_order_one_a_key_the_highest_revision_then_the_later(
    parts: list[list[Key]],
) -> None:
    bars = merged(parts)
    assert rows_of(bars) == plainly(parts)
    if len(parts) > 1:
        assert bars.row.tolist() == list(range(len(bars)))


@given(keys(2**62, st.sampled_from([60, 120, 2**60])))
def test_the_same_where_the_key_does_not_fit_into_63_bits(parts: list[list[Key]]) -> None:
    assert rows_of(merged(parts)) == plainly(parts)


@given(keys(300, st.just(60)), st.integers(1, 3))
def test_merging_in_steps_changes_nothing(parts: list[list[Key]], at: int) -> None:
    starts = np.cumsum([0, *(len(part) for part in parts)])
    whole = [columns(p, int(s)) for p, s in zip(parts, starts, strict=False)]
    first = merge_bars(whole[:at])
    assert rows_of(merge_bars([first, *whole[at:]])) == rows_of(merge_bars(whole))


def test_a_key_that_would_not_fit_is_none() -> None:
    wide = columns([(0, 0, 60, 0), (3, 2**62, 2**61, 0)])
    assert order_key(ready_ns(wide), wide.interval_ns, wide.symbol) is None
    order, same = sort_bars(wide)
    assert order is not None
    assert order.tolist() == [0, 1]
    assert not same.any()


def test_rows_in_order_are_not_copied() -> None:
    bars = columns([(0, 0, 60, 0), (1, 0, 60, 0), (0, 60, 60, 0)])
    assert merge_bars([bars]) is bars
    assert concatenate([bars]) is bars


def test_one_interval_for_all_needs_no_place_in_the_key() -> None:
    bars = columns([(1, 60, 60, 0), (0, 0, 60, 0)])
    broadcast = np.broadcast_to(np.int64(60), 2)
    key = order_key(ready_ns(bars), broadcast, bars.symbol)
    same = order_key(ready_ns(bars), bars.interval_ns, bars.symbol)
    assert key is not None
    assert same is not None
    assert key.tolist() == same.tolist()


def test_bars_of_a_block_count_in_the_symbols_of_the_shard() -> None:
    rows = [("BB", 0, 60, 0), ("nobody", 0, 60, 0), ("AA", 60, 60, 2)]
    bars = bars_of(block(rows), {"AA": 0, "BB": 1}, np.int32(4))
    assert bars.symbol.tolist() == [1, -1, 0]
    assert bars.source.tolist() == [4, 4, 4]
    assert bars.revision.tolist() == [0, 0, 2]
    assert len(bars_of(block([]), {"AA": 0}, np.int32(0))) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"open": np.nan, "volume": -1.0}, "a price or volume is not a number"),
        ({"volume": np.inf}, "a price or volume is not a number"),
        ({"volume": -1.0}, "the volume is negative"),
        ({"high": 0.5}, "high is below low"),
        ({"open": 2.0}, "open lies outside low and high"),
        ({"open": 0.0}, "open lies outside low and high"),
        ({"close": 2.0}, "close lies outside low and high"),
        ({"close": 0.0}, "close lies outside low and high"),
        ({"interval_ns": 0}, "the interval is not above 0"),
    ],
)
def test_a_senseless_row_has_one_reason(changes: dict[str, float], reason: str) -> None:
    good = columns([(0, 0, 60, 0)] * 3, first=1).take(slice(0, 3))
    values = {name: getattr(good, name).copy() for name in BarColumns.columns}
    values["close"][:] = 1.0
    assert not faults(BarColumns(**values))
    for name, value in changes.items():
        values[name][1] = value
    found = faults(BarColumns(**values))
    assert {name: mask.tolist() for name, mask in found.items()} == {reason: [False, True, False]}


def test_values_are_compared_place_by_place() -> None:
    ours = columns([(0, 0, 60, 0), (1, 0, 60, 0)])
    others = columns([(0, 0, 60, 0), (1, 0, 60, 0)], first=1)
    at, other_at = np.array([0, 1, 1]), np.array([0, 0, 1])
    assert same_values(ours, at, others, other_at).tolist() == [False, True, False]


def spots(rows: list[Spot], sources: list[int], kind: str) -> Rows:
    """Ticks or quotes of S0, S1, …; their prices tell how many came before them."""
    made = tick_block(rows) if kind == "ticks" else quote_block(rows)
    numbers = {f"S{n}": n for n in range(4)}
    found = columns_of(made, numbers, np.array(sources, np.int32))
    places = np.arange(len(rows), dtype=np.float64)
    if isinstance(found, TickColumns):
        return replace(found, price=places)
    assert isinstance(found, QuoteColumns)
    return replace(found, bid=places)


def best_of(rows: list[Spot], sources: list[int]) -> list[int]:
    """Which of the rows are left, in order, worked out one by one; the names of sources sink."""
    best: dict[tuple[object, ...], int] = {}
    for at, ((symbol, ts_ns, sequence, revision), source) in enumerate(
        zip(rows, sources, strict=True)
    ):
        own = () if sequence >= 0 else (at,)
        key = (ts_ns, symbol, -source, sequence, *own)
        if key not in best or revision >= rows[best[key]][3]:
            best[key] = at
    return [best[key] for key in sorted(best)]


@pytest.mark.parametrize("kind", ["ticks", "quotes"])
@given(data=st.data(), last_ns=st.sampled_from([3, 2**62]), parts=st.integers(1, 3))
def test_numbered_rows_come_in_order_each_once_the_highest_revision_then_the_later(
    kind: str, data: st.DataObject, last_ns: int, parts: int
) -> None:
    row = st.tuples(
        st.integers(0, 3).map(lambda n: f"S{n}"),
        st.integers(0, 3).map(lambda n: n * last_ns // 3),
        st.integers(-1, 2),
        st.integers(0, 2),
    )
    came = data.draw(st.lists(st.tuples(row, st.integers(0, 1)), min_size=1, max_size=30))
    rows, sources = [row for row, _ in came], [source for _, source in came]
    whole = spots(rows, sources, kind)
    cuts = np.array_split(np.arange(len(rows)), parts)
    ranks = np.array([1, 0], np.int32)  # the second source comes first by its name
    found = merge_rows([whole.take(cut) for cut in cuts], ranks)
    values = getattr(found, "price" if kind == "ticks" else "bid")
    assert values.tolist() == best_of(rows, sources)
    order, same = sort_rows(found, ranks)
    assert order is None or order.tolist() == list(range(len(found)))
    assert not same.any()


def test_conditions_of_several_blocks_are_counted_together() -> None:
    some = spots([("S0", 0, 0, 0), ("S0", 1, 1, 0)], [0, 0], "ticks")
    more = spots([("S0", 2, 2, 0), ("S0", 3, 1, 0)], [0, 0], "ticks")
    both = concatenate([some, more])
    assert isinstance(both, TickColumns)
    assert both.conditions == ("F", "odd lot")
    assert both.condition.tolist() == [-1, 0, 1, 0]
    again = same_values(both, np.array([3, 2]), both, np.array([1, 1]))
    assert again.tolist() == [True, False]
    twice = concatenate([some, some])
    assert isinstance(twice, TickColumns)
    assert twice.conditions == ("F",)


def test_one_value_for_all_rows_stays_one() -> None:
    part = spots([("S0", 0, 0, 0), ("S0", 1, 1, 0)], [0, 0], "quotes")
    one = replace(part, source=np.broadcast_to(np.int32(1), 2))
    assert concatenate([one, one]).source.strides == (0,)
    assert concatenate([one, part]).source.tolist() == [1, 1, 0, 0]
