"""Bars of ticks and of quotes, against the same made row by row, and however they are cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import BarBlock, QuoteBlock, TickBlock
from streams.conditions import Rule, all_rule, lean_rule, tape_rule
from streams.sources.rows import quote_block, tick_block
from streams.tick_bars import BarBuilder, bars_of_quotes, bars_of_ticks

LENGTH = 10
SYMBOLS = ("B", "A", "C")
CONDITIONS = (
    *("N 1", "K 20000020", "P 2000", "D 20000200", "D 20100200", "N 40", "N 80", "Q 4000000"),
    "N 1 suspicious",
)

Bars = dict[tuple[str, int], tuple[float, float, float, float, float]]


class Tick(NamedTuple):
    symbol: str
    ts_ns: int
    price: float = 100.0
    size: float = 1.0
    text: str = "N 1"


class Quote(NamedTuple):
    symbol: str
    ts_ns: int
    bid: float = 99.0
    ask: float = 101.0


def ticks(rows: Sequence[tuple[int, Tick]]) -> TickBlock:
    """Return ticks with their sequence as a block."""
    some = [tick for _, tick in rows]
    return tick_block(
        SYMBOLS,
        np.array([SYMBOLS.index(tick.symbol) for tick in some], np.int32),
        np.array([tick.ts_ns for tick in some], np.int64),
        price=np.array([tick.price for tick in some], np.float64),
        size=np.array([tick.size for tick in some], np.float64),
        sequence=np.array([sequence for sequence, _ in rows], np.int64),
        condition=np.array([CONDITIONS.index(tick.text) for tick in some], np.int32),
        conditions=CONDITIONS,
    )


def quotes(rows: Sequence[tuple[int, Quote]]) -> QuoteBlock:
    """Return quotes with their sequence as a block."""
    some = [quote for _, quote in rows]
    one = np.ones(len(rows))
    return quote_block(
        SYMBOLS,
        np.array([SYMBOLS.index(quote.symbol) for quote in some], np.int32),
        np.array([quote.ts_ns for quote in some], np.int64),
        prices=[np.array([getattr(q, side) for q in some]) for side in ("bid", "ask")],
        sizes=[one, one],
        sequence=np.array([sequence for sequence, _ in rows], np.int64),
    )


def said(block: BarBlock) -> Bars:
    """Return a block as bars by symbol and start; each stands in it once, ascending."""
    places = list(zip(block.symbol.tolist(), block.ts_ns.tolist(), strict=True))
    assert places == sorted(set(places))
    assert set(block.interval_ns.tolist()) <= {LENGTH}
    columns = (block.open, block.high, block.low, block.close, block.volume)
    values = zip(*(column.tolist() for column in columns), strict=True)
    keys = [(block.symbols[number], ts_ns) for number, ts_ns in places]
    return dict(zip(keys, values, strict=True))


def one_by_one(rows: Sequence[tuple[int, Tick]], rule: Rule) -> Bars:
    """Return the bars of ticks, made as the rules are told."""
    by_bar: dict[tuple[str, int], list[Tick]] = defaultdict(list)
    for _, tick in sorted(rows, key=lambda row: (row[1].ts_ns, row[0])):
        by_bar[tick.symbol, tick.ts_ns // LENGTH * LENGTH].append(tick)
    found: Bars = {}
    for key, some in by_bar.items():
        weights = [(rule(tick.text), tick) for tick in some]
        volume = sum(tick.size for weight, tick in weights if weight.volume)
        best = [max(weight[n] for weight, _ in weights) for n in range(3)]
        if best[1]:
            opens, closes, ranges = (
                [tick.price for weight, tick in weights if weight[n] == best[n]] for n in range(3)
            )
            found[key] = opens[0], max(ranges), min(ranges), closes[-1], volume
    return found


def quoted_one_by_one(rows: Sequence[tuple[int, Quote]]) -> Bars:
    by_bar: dict[tuple[str, int], list[Quote]] = defaultdict(list)
    for _, quote in sorted(rows, key=lambda row: (row[1].ts_ns, row[0])):
        if quote.bid > 0 and quote.ask > 0:
            by_bar[quote.symbol, quote.ts_ns // LENGTH * LENGTH].append(quote)
    found: Bars = {}
    for key, some in by_bar.items():
        first = [quote for quote in some if quote.ts_ns == some[0].ts_ns][-1]
        bids, asks = [quote.bid for quote in some], [quote.ask for quote in some]
        open_, close = ((quote.bid + quote.ask) / 2 for quote in (first, some[-1]))
        high, low = (max(bids) + max(asks)) / 2, (min(bids) + min(asks)) / 2
        found[key] = open_, high, low, close, 0.0
    return found


# Few prices and times: then bars have several rows, and rows of one time.
TICK = st.builds(
    Tick,
    st.sampled_from(SYMBOLS),
    st.integers(-15, 35),
    st.integers(1, 9).map(float),
    st.integers(0, 300).map(float),
    st.sampled_from(CONDITIONS),
)
PRICE = st.integers(0, 6).map(float)
QUOTE = st.builds(Quote, st.sampled_from(SYMBOLS), st.integers(-3, 12), PRICE, PRICE)
RULE = st.sampled_from((tape_rule, lean_rule, all_rule))


@given(st.lists(TICK, max_size=40), st.randoms(use_true_random=False), RULE)
def test_bars_of_ticks_are_those_made_one_by_one(some: list[Tick], dice: Any, rule: Rule) -> None:
    rows = list(enumerate(some))
    dice.shuffle(rows)
    assert said(bars_of_ticks(ticks(rows), LENGTH, rule)) == one_by_one(rows, rule)


@given(st.lists(QUOTE, max_size=40), st.randoms(use_true_random=False))
def test_bars_of_quotes_are_those_made_one_by_one(some: list[Quote], dice: Any) -> None:
    rows = list(enumerate(some))
    dice.shuffle(rows)
    assert said(bars_of_quotes(quotes(rows), LENGTH)) == quoted_one_by_one(rows)


@given(
    st.one_of(st.lists(TICK, max_size=40), st.lists(QUOTE, max_size=40)),
    st.randoms(use_true_random=False),
    st.lists(st.tuples(st.integers(0, 40), st.integers(-20, 60)), max_size=8),
    RULE,
)
def test_bit_by_bit_ends_like_all_at_once(
    some: list[Any], dice: Any, cuts: list[tuple[int, int]], rule: Rule
) -> None:
    rows: list[Any] = list(enumerate(some))
    is_ticks = not some or isinstance(some[0], Tick)
    whole = (
        bars_of_ticks(ticks(rows), LENGTH, rule)
        if is_ticks
        else bars_of_quotes(quotes(rows), LENGTH)
    )
    dice.shuffle(rows)  # any of them may be late
    builder = BarBuilder(LENGTH, rule)
    came: Bars = {}
    revisions: dict[tuple[str, int], int] = {}
    clock, at = -(10**9), 0

    def look(clock_ns: int) -> None:
        block = builder.until(clock_ns)
        bars = said(block)
        for (key, values), revision in zip(bars.items(), block.revision.tolist(), strict=True):
            assert key[1] + LENGTH <= max(clock, clock_ns)
            assert revision == revisions.get(key, -1) + 1
            assert came.get(key) != values
            revisions[key] = revision
        came.update(bars)

    for cut, clock_ns in sorted(cuts):
        builder.take(ticks(rows[at:cut]) if is_ticks else quotes(rows[at:cut]))
        at = max(at, cut)
        look(clock_ns)
        clock = max(clock, clock_ns)
    builder.take(ticks(rows[at:]) if is_ticks else quotes(rows[at:]))
    look(10**9)
    assert came == said(whole)
    assert len(builder.until(2 * 10**9)) == 0


def test_a_late_tick_gives_its_bar_again() -> None:
    builder = BarBuilder(LENGTH)
    builder.take(ticks([(0, Tick("A", 3, 5.0, 100)), (1, Tick("A", 14, 6.0, 100))]))
    first = builder.until(10)
    assert said(first) == {("A", 0): (5.0, 5.0, 5.0, 5.0, 100.0)}
    builder.take(ticks([(2, Tick("A", 1, 4.0, 50)), (3, Tick("B", 2, 9.0, 1))]))
    again = builder.until(10)
    assert said(again) == {("A", 0): (4.0, 5.0, 4.0, 5.0, 150.0), ("B", 0): (9.0,) * 4 + (1.0,)}
    assert again.revision.tolist() == [1, 0]
    builder.take(ticks([(4, Tick("A", 2, 7.0, 80, "Q 4000000"))]))
    assert len(builder.until(10)) == 0  # it changes nothing
    assert list(said(builder.until(20))) == [("A", 10)]


def test_a_bar_without_a_price_waits_for_one_and_keeps_its_volume() -> None:
    builder = BarBuilder(LENGTH)
    builder.take(ticks([(0, Tick("A", 3, 5.0, 100, "D 20100200"))]))
    assert len(builder.until(10)) == 0
    builder.take(ticks([(1, Tick("A", 4, 6.0, 10))]))
    found = builder.until(10)
    assert said(found) == {("A", 0): (6.0, 6.0, 6.0, 6.0, 110.0)}
    assert found.revision.tolist() == [0]


def test_what_is_forgotten_begins_anew() -> None:
    builder = BarBuilder(LENGTH)
    builder.take(ticks([(0, Tick("A", 3)), (1, Tick("A", 13))]))
    builder.forget(10)
    builder.take(ticks([(2, Tick("A", 4, 7.0, 2))]))
    assert said(builder.until(20)) == {
        ("A", 0): (7.0, 7.0, 7.0, 7.0, 2.0),
        ("A", 10): (100.0, 100.0, 100.0, 100.0, 1.0),
    }


class Walked(dict[tuple[str, int], Any]):
    """Bars that count how often somebody goes through all of them."""

    walks = 0

    def __iter__(self) -> Iterator[tuple[str, int]]:
        self.walks += 1
        return super().__iter__()


def test_a_clock_by_which_no_bar_ends_goes_through_none() -> None:
    builder = BarBuilder(LENGTH)
    builder.take(ticks([(n, Tick("A", n * LENGTH + 1, 1.0, 1)) for n in range(3)]))
    assert len(builder.until(3 * LENGTH)) == 3
    bars = builder._bars = Walked(builder._bars)
    for clock_ns in range(3 * LENGTH, 4 * LENGTH + 1):
        assert len(builder.until(clock_ns)) == 0
        builder.forget(clock_ns - 3 * LENGTH)
    assert list(dict.keys(bars)) == [("A", LENGTH), ("A", 2 * LENGTH)]
    walks = bars.walks
    assert walks == 2, "once to find what goes, once for the oldest of the rest"
    # One that begins anew is the oldest again, and goes like any other.
    builder.take(ticks([(9, Tick("A", 4, 7.0, 2))]))
    builder.forget(LENGTH)
    assert list(dict.keys(bars)) == [("A", LENGTH), ("A", 2 * LENGTH)]
    assert len(builder.until(5 * LENGTH)) == 0


def test_the_trades_of_extended_hours_set_prices_only_where_no_other_does() -> None:
    early = [(0, Tick("A", 1, 5.0, 10, "P 2000")), (1, Tick("A", 2, 9.0, 10, "P 2000"))]
    assert said(bars_of_ticks(ticks(early), LENGTH)) == {("A", 0): (5.0, 9.0, 5.0, 9.0, 20.0)}
    both = [*early, (2, Tick("A", 3, 6.0, 10))]
    assert said(bars_of_ticks(ticks(both), LENGTH)) == {("A", 0): (6.0, 6.0, 6.0, 6.0, 30.0)}


def test_the_two_sides_of_one_quote_may_be_two_rows() -> None:
    rows = [(0, Quote("A", 1, 10.0, 5.0)), (1, Quote("A", 1, 10.0, 12.0)), (2, Quote("A", 4, 0.0))]
    found = bars_of_quotes(quotes(rows), LENGTH)
    assert said(found) == {("A", 0): (11.0, 11.0, 7.5, 11.0, 0.0)}


def test_the_two_sides_of_one_quote_may_come_in_two_blocks() -> None:
    builder = BarBuilder(LENGTH)
    builder.take(quotes([(0, Quote("A", 1, 10.0, 5.0))]))
    builder.take(quotes([(1, Quote("A", 1, 10.0, 12.0)), (2, Quote("A", 4, 11.0, 13.0))]))
    assert said(builder.until(10)) == {("A", 0): (11.0, 12.0, 7.5, 12.0, 0.0)}


def test_the_clock_does_not_go_back() -> None:
    builder = BarBuilder(LENGTH)
    assert len(builder.until(20)) == 0
    builder.take(ticks([(0, Tick("A", 3)), (1, Tick("A", 25))]))
    assert list(said(builder.until(0))) == [("A", 0)]


def test_a_block_without_conditions_has_trades_without_any() -> None:
    block = ticks([(0, Tick("A", 1, 5.0, 10)), (1, Tick("B", 2, 6.0, 20))])
    plain = TickBlock(
        **{name: getattr(block, name) for name in block.columns},
        symbols=block.symbols,
        source="x",
        request="r",
        run="u",
        block=3,
    )
    found = bars_of_ticks(plain, LENGTH)
    assert said(found) == {("A", 0): (5.0,) * 4 + (10.0,), ("B", 0): (6.0,) * 4 + (20.0,)}
    assert (found.source, found.request, found.run, found.block) == ("x", "r", "u", 3)


@pytest.mark.parametrize("bars", [bars_of_ticks(ticks([]), 60), bars_of_quotes(quotes([]), 60)])
def test_nothing_makes_nothing(bars: BarBlock) -> None:
    assert len(bars) == 0
    assert bars.revision.dtype == np.int32
    assert all(len(getattr(bars, name)) == 0 for name in bars.columns)
