"""Blocks are cut and joined to messages without a row lost, moved or changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock, Codec, Coverage, Minutes, TickBlock
from streams.sources.packing import Packer, minute_lists, symbol_lists
from streams.sources.rows import bar_block
from streams.topics import MESSAGE_BYTES

VALUES = ("ts_ns", "interval_ns", "open", "high", "low", "close", "volume", "revision")
NAMES = st.text("ABCÄÖ€", min_size=1, max_size=12)


def block_of(symbols: Sequence[str], index: Any, seed: int = 0) -> BarBlock:
    count = len(index)
    numbers = np.random.default_rng(seed).random((5, count))
    return bar_block(
        tuple(symbols),
        np.array(index, np.int32),
        np.arange(count, dtype=np.int64),
        interval_ns=60 + seed % 2,
        prices=list(numbers[:4]),
        volume=numbers[4],
        revision=np.arange(count, dtype=np.int32),
    )


def rows(blocks: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [
        (block.symbols[s], *values)
        for block in blocks
        for s, *values in zip(block.symbol, *(getattr(block, v) for v in VALUES), strict=True)
    ]


@st.composite
def blocks(draw: st.DrawFn) -> list[BarBlock]:
    found = []
    for seed in range(draw(st.integers(0, 6))):
        symbols = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
        index = draw(st.lists(st.integers(0, len(symbols) - 1), max_size=60))
        found.append(block_of(symbols, index, seed))
    return found


def packed(given_blocks: Sequence[Any], limit: int = MESSAGE_BYTES) -> tuple[Any, list[Any]]:
    packer: Packer[Any] = Packer(run="run", request="request", source="source", limit=limit)
    out = [full for block in given_blocks for full in packer.add(block)]
    return packer, [*out, *packer.end()]


@settings(max_examples=300, deadline=None)
@given(blocks(), st.integers(1_100, 6_000))
def test_the_messages_hold_the_rows_of_the_source_in_order(
    given_blocks: list[BarBlock], limit: int
) -> None:
    packer, out = packed(given_blocks, limit)
    assert rows(out) == rows(given_blocks)
    assert [block.block for block in out] == list(range(len(out)))
    assert (packer.blocks, packer.rows) == (len(out), len(rows(given_blocks)))
    for block in out:
        assert (block.run, block.request, block.source) == ("run", "request", "source")
        assert len(block)
        size = len(Codec().encode(block))
        assert size <= limit or len(block) == 1
        assert set(block.symbols) >= {block.symbols[n] for n in block.symbol}
    again = packed(given_blocks, limit)[1]
    assert [Codec().encode(b) for b in again] == [Codec().encode(b) for b in out]


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(20_000, 60_000), st.booleans())
def test_large_answers_stay_under_a_message(count: int, size: int, by_time: bool) -> None:
    symbols = [f"{'X' * 25}{n:07d}" for n in range(5_000)]  # as long as symbols may be
    index = np.arange(size) % 5_000
    given_blocks = [
        block_of(symbols, index if by_time else np.sort(index), n) for n in range(count)
    ]
    _, out = packed(given_blocks)
    assert max(len(Codec().encode(block)) for block in out) <= MESSAGE_BYTES
    assert sum(map(len, out)) == count * size
    assert rows(out[:1]) == rows(given_blocks)[: len(out[0])]


def test_a_block_that_fits_is_handed_on_without_a_copy() -> None:
    block = block_of(["A", "B"], [0, 0, 1])
    _, [out] = packed([block])
    assert out.close is block.close


def test_blocks_without_rows_are_no_messages() -> None:
    assert packed([block_of(["A"], [])])[1] == []


def test_ticks_of_different_condition_lists_are_not_joined() -> None:
    def ticks(*conditions: str) -> TickBlock:
        zero, number = np.zeros(1, np.int32), np.ones(1)
        time = np.zeros(1, np.int64)
        return TickBlock(("A",), zero, time, number, number, zero, time, zero, conditions)

    _, out = packed([ticks("X"), ticks("X"), ticks("Y", "X")])
    assert [(len(block), block.conditions) for block in out] == [(2, ("X",)), (1, ("Y", "X"))]


@given(st.lists(NAMES, max_size=50))
def test_a_list_of_symbols_is_cut_without_a_loss(symbols: list[str]) -> None:
    assert [s for some in symbol_lists(symbols) for s in some] == symbols


def test_a_long_list_of_symbols_fits_in_messages() -> None:
    symbols = [f"{'X' * 25}{n:07d}" for n in range(60_000)]
    lists = list(symbol_lists(symbols))
    assert [len(some) > 20_000 for some in lists[:-1]] == [True] * (len(lists) - 1)
    assert sum(map(len, lists)) == 60_000
    assert max(sum(len(s) + 2 for s in some) for some in lists) < MESSAGE_BYTES


def test_blocks_may_be_counted_from_any_number() -> None:
    packer: Packer[BarBlock] = Packer(first=7, limit=1_100)
    out = [full for n in range(3) for full in packer.add(block_of(["A"], [0], n))]
    out += packer.end()
    assert [block.block for block in out] == [7, 8, 9]
    assert packer.blocks == 3


def minutes_of(symbols: Sequence[str], symbol: Any) -> Minutes:
    index = np.array(symbol, np.int32)
    times = np.arange(len(index), dtype=np.int64)
    number = np.arange(len(index), dtype=np.int32)
    status, request = number % 3 + 1, np.zeros(len(index), np.int32)
    return Minutes(
        tuple(symbols), index, times, times + 1, status, number, request, requests=("r" * 20,)
    )


def runs_of(lists: Sequence[Minutes]) -> list[tuple[Any, ...]]:
    return [
        (one.symbols[s], *values)
        for one in lists
        for s, *values in zip(
            one.symbol, one.ts_ns, one.end_ns, one.status, one.attempt, one.request, strict=True
        )
    ]


@given(
    st.lists(NAMES, min_size=1, max_size=9, unique=True).flatmap(
        lambda names: st.tuples(
            st.just(names), st.lists(st.integers(0, len(names) - 1), max_size=99)
        )
    ),
    st.integers(1_300, 5_000),
)
def test_runs_of_minutes_are_cut_without_a_loss(
    given_runs: tuple[list[str], list[int]], limit: int
) -> None:
    minutes = minutes_of(*given_runs)
    lists = list(minute_lists(minutes, limit))
    assert runs_of(lists) == runs_of([minutes])
    assert len(lists) >= 1
    for one in lists:
        assert set(one.symbols) == {one.symbols[n] for n in one.symbol}
        coverage = Coverage(one.symbols, 0, 1, run="run", request="r" * 20, gaps=one)
        assert len(Codec().encode(coverage)) <= limit


def test_many_runs_of_many_long_symbols_fit_in_messages() -> None:
    symbols = [f"{'X' * 25}{n:07d}" for n in range(5_000)]
    for index in (np.arange(100_000) % 5_000, np.sort(np.arange(100_000) % 5_000)):
        lists = list(minute_lists(minutes_of(symbols, index)))
        sizes = [
            len(Codec().encode(Coverage(one.symbols, 0, 1, request="r" * 20, gaps=one)))
            for one in lists
        ]
        assert max(sizes) <= MESSAGE_BYTES
        assert min(sizes[:-1]) > MESSAGE_BYTES // 4
