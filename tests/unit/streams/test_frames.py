"""Rows cut into slices and frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Codec, Frame
from schemas.records import BarColumns, Longs, QuoteColumns, TickColumns
from streams.frames import ENVELOPE_BYTES, ROW_BYTES, Cut, Slices, cut, mark
from streams.kinds import Block, Rows
from streams.merge import columns_of, merge_rows, ready_ns
from streams.mixed import NOTHING, Mixed, mixed
from streams.topics import MESSAGE_BYTES
from tests.unit.streams.shards import Row, Spot, block, quote_block, tick_block

MIN = 60


NUMBERS = {f"S{n}": n for n in range(40)}


def together(*blocks: Block) -> Mixed:
    """Rows of each kind once at most, in the order of the kinds."""
    parts = [merge_rows([columns_of(one, NUMBERS, np.int32(0))]) for one in blocks]
    return mixed(parts, [ready_ns(rows) for rows in parts])


def bars(rows: list[Row]) -> Mixed:
    return together(block(rows))


def times(rows: Mixed) -> list[tuple[str, int]]:
    """Kind and time of each row, in the order of their places."""
    placed = [
        (place, (stream, ts_ns))
        for stream, columns in rows.columns.items()
        for place, ts_ns in zip(columns.row.tolist(), columns.ts_ns.tolist(), strict=True)
    ]
    assert sorted(place for place, _ in placed) == list(range(len(rows)))
    return [what for _, what in sorted(placed)]


def longs(*values: int) -> Longs:
    return np.array(values, np.int64)


def table(slices: Slices) -> list[tuple[int, ...]]:
    names = (f.name for f in fields(slices))
    return list(zip(*(getattr(slices, name).tolist() for name in names), strict=True))


def marked(rows: list[Row], ends: Longs, corrections: int = 0, until_ns: int = 300) -> Slices:
    return mark(
        bars(rows), ends, corrections=corrections, until_ns=until_ns, symbols=3, interval_ns=MIN
    )


def test_a_slice_says_what_was_expected_and_what_is_missing() -> None:
    rows = [("S0", 0, MIN, 0), ("S1", 0, MIN, 0), ("S2", 0, MIN, 0), ("S1", 120, MIN, 0)]
    slices = marked(rows, longs(60, 120, 180))
    assert table(slices) == [
        (60, 3, 0, 3, 3, 0, 0),
        (120, 0, 0, 3, 0, 0, 3),
        (180, 1, 0, 3, 1, 0, 2),
    ]
    assert len(slices) == 3


def test_rows_at_other_times_or_of_other_lengths_are_not_expected_ones() -> None:
    rows = [("S0", 0, MIN, 0), ("S0", 0, 90, 0), ("S0", 0, 120, 0), ("S0", 60, MIN, 0)]
    assert table(marked(rows, longs(60, 120))) == [
        (60, 1, 0, 3, 1, 0, 2),
        (90, 1, 0, 0, 0, 0, 0),
        (120, 2, 0, 3, 1, 0, 2),
    ]


def test_corrections_go_out_with_the_first_slice() -> None:
    assert table(marked([("S0", 0, MIN, 0)], longs(60, 120), 2)) == [
        (60, 3, 2, 3, 1, 0, 2),
        (120, 0, 0, 3, 0, 0, 3),
    ]
    assert table(marked([], longs(), 2, until_ns=300)) == [(300, 2, 2, 0, 0, 0, 0)]
    assert table(marked([], longs())) == []


def pieces(
    late: Mixed, fresh: Mixed, slices: Slices, room: int, symbols_bytes: int = 0
) -> list[Cut]:
    message = room + ENVELOPE_BYTES + symbols_bytes
    return list(
        cut(
            late,
            fresh,
            slices,
            clock_ns=-1,
            symbols_bytes=symbols_bytes,
            message_bytes=message,
        )
    )


def spots(first: int, last: int) -> st.SearchStrategy[list[Spot]]:
    return st.lists(
        st.tuples(
            st.integers(0, 30).map(lambda n: f"S{n}"),
            st.integers(first, last).map(lambda n: n * MIN // 2),
            st.integers(-1, 3),
            st.just(0),
        ),
        max_size=30,
    )


NO_OTHERS: tuple[list[Spot], ...] = ([], [], [], [])
rows_strategy = st.lists(
    st.tuples(
        st.integers(0, 30).map(lambda n: f"S{n}"),
        st.integers(2, 5).map(lambda n: n * MIN),
        st.sampled_from([MIN, MIN, 90]),
        st.just(0),
    ),
    max_size=60,
)


def _bytes(part: Cut) -> int:
    """Return what rows and marks take in the message, with rows as large as they may be."""
    row = max(ROW_BYTES[stream] for stream in part.rows.columns) if len(part.rows) else 0
    counts = [getattr(part.slices, f.name) for f in fields(Slices) if f.name != "slice_ns"]
    values = sum(1 if len(set(count.tolist())) == 1 else len(count) for count in counts)
    place = 4 if len(part.rows.columns) > 1 else 0
    # What is the same for all slices counts to the envelope.
    one_for_all = 4 * len(counts)
    return len(part.rows) * (row + place) + 8 * len(part.slices) + 4 * values - one_for_all


@settings(deadline=None)
@given(
    late=st.lists(st.integers(0, 30).map(lambda n: (f"S{n}", 0, MIN, 0)), max_size=20),
    rows=rows_strategy,
    others=st.one_of(st.just(NO_OTHERS), st.tuples(*[spots(0, 2)] * 2, *[spots(4, 12)] * 2)),
    room=st.integers(120, 6_000),
    expected=st.booleans(),
)
def test_the_parts_together_are_the_whole(
    late: list[Row],
    rows: list[Row],
    others: tuple[list[Spot], ...],
    room: int,
    expected: bool,
) -> None:
    corrections = together(tick_block(others[0]), quote_block(others[1]), block(late))
    fresh = together(tick_block(others[2]), quote_block(others[3]), block(rows))
    ends = longs(*range(180, 420, MIN)) if expected else longs()
    slices = mark(
        fresh,
        ends,
        corrections=len(corrections),
        until_ns=500,
        symbols=31,
        interval_ns=MIN,
    )
    cuts = pieces(corrections, fresh, slices, room)
    whole = times(corrections) + times(fresh)
    assert [row for part in cuts for row in times(part.rows)] == whole
    clock = -1
    sums: dict[int, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
    for part in cuts:
        assert int(part.slices.slice_rows.sum()) == len(part.rows)
        assert (part.slices.slice_corrections <= part.slices.slice_rows).all()
        assert (part.slices.slice_corrections >= 0).all()
        assert _bytes(part) <= room
        assert part.clock_ns >= clock
        begun = part.clock_ns < part.slices.slice_ns[-1]
        if begun:
            assert part.clock_ns == clock
            assert len(part.slices) == 1
        else:
            assert part.clock_ns == part.slices.slice_ns[-1]
        clock = part.clock_ns
        # Each row stands in its slice; corrections in front, behind the clock.
        known = np.repeat(part.slices.slice_ns, part.slices.slice_rows)
        assert (part.rows.ready <= known).all()
        for row in table(part.slices):
            sums[row[0]] = sums.get(row[0], np.zeros(6, np.int64)) + np.array(row[1:])
    assert {ns: tuple(total.tolist()) for ns, total in sums.items()} == {
        row[0]: row[1:] for row in table(slices)
    }
    assert clock == (int(slices.slice_ns[-1]) if len(slices) else -1)


def test_a_slice_too_large_for_a_message_is_cut_and_marked_behind_its_last_part() -> None:
    late = bars([(f"S{n}", 0, MIN, 0) for n in range(3)])
    fresh = bars([(f"S{n}", MIN, MIN, 0) for n in range(5)])
    slices = mark(fresh, longs(120), corrections=3, until_ns=120, symbols=5, interval_ns=MIN)
    cuts = pieces(late, fresh, slices, 210)
    assert [(len(c.rows), c.clock_ns, table(c.slices)[0][2:]) for c in cuts] == [
        (2, -1, (2, 0, 0, 0, 0)),
        (2, -1, (1, 0, 0, 0, 0)),
        (2, -1, (0, 0, 0, 0, 0)),
        (2, 120, (0, 5, 5, 0, 0)),
    ]


@pytest.mark.parametrize("kinds", [("ticks",), ("quotes",), ("ticks", "quotes", "bars")])
def test_no_frame_of_ticks_and_quotes_is_larger_than_a_message_may_be(
    kinds: tuple[str, ...],
) -> None:
    count, rng = 30_000, np.random.default_rng(2)
    ints = {name: rng.integers(0, 2, count).astype(np.int32) for name in ("source", "revision")}
    spot: dict[str, Any] = {
        "row": np.arange(count, dtype=np.int32),
        "symbol": rng.integers(0, 40, count).astype(np.int32),
        "ts_ns": np.arange(count) * 7,
        "sequence": rng.integers(0, 2**40, count),
        **ints,
    }
    prices: dict[str, Any] = {
        name: rng.random(count) for name in ("bid", "bid_size", "ask", "ask_size")
    }
    # Of few conditions each frame has all, of many those of its ticks.
    names = tuple(f"condition {n}" for n in range(300 if len(kinds) == 1 else 2_000))
    condition = rng.integers(-1, len(names), count).astype(np.int32)
    minutes: list[Row] = [("S0", at * 7, MIN, 0) for at in range(900)]
    parts: dict[str, Rows] = {
        "ticks": TickColumns(
            **spot, price=rng.random(count), size=rng.random(count), condition=condition,
            conditions=names,
        ),
        "quotes": QuoteColumns(**spot, **prices),
        "bars": columns_of(block(minutes), NUMBERS, np.int32(0)),
    }  # fmt: skip
    some = [parts[kind] for kind in kinds]
    rows = mixed(some, [ready_ns(part) for part in some])
    slices = mark(rows, longs(), corrections=0, until_ns=0, symbols=40, interval_ns=MIN)
    sizes, seen = [], 0
    for part in cut(NOTHING, rows, slices, clock_ns=0):
        columns: Mapping[str, Any] = part.rows.columns
        frame = Frame(
            run="r" * 40, shard=0, shards=1, frame=0, first_row=seen, rows=len(part.rows),
            clock_ns=part.clock_ns, event="rows", mode="replay", speed=0.0, command=1,
            session="2024-11-29", open_ns=0, close_ns=1, open_offset=0, reason="x" * 300,
            symbols=tuple(NUMBERS), sources=("one", "two"), **columns,
            **{f.name: getattr(part.slices, f.name) for f in fields(Slices)},
        )  # fmt: skip
        sizes.append(len(Codec().encode(frame)))
        seen += len(part.rows)
    assert seen == len(rows)
    assert max(sizes) <= MESSAGE_BYTES
    assert max(sizes) > MESSAGE_BYTES * 2 // 3


def test_rows_of_one_time_come_by_their_kinds() -> None:
    rows = together(
        tick_block([("S0", 120, 0, 0)]),
        quote_block([("S1", 60, 0, 0), ("S1", 120, 1, 0)]),
        block([("S2", 0, MIN, 0), ("S2", 60, MIN, 0)]),
    )
    assert times(rows) == [
        ("quotes", 60),
        ("bars", 0),
        ("ticks", 120),
        ("quotes", 120),
        ("bars", 60),
    ]
    assert rows.ready.tolist() == [60, 60, 120, 120, 120]
    slices = mark(rows, longs(60, 180), corrections=0, until_ns=180, symbols=1, interval_ns=MIN)
    assert table(slices) == [
        (60, 2, 0, 1, 1, 0, 0),
        (120, 3, 0, 0, 0, 0, 0),
        (180, 0, 0, 1, 0, 0, 1),
    ]
    assert times(rows.take(1, 4)) == [("bars", 0), ("ticks", 120), ("quotes", 120)]
    assert rows.take(2, 2).bars is None
    assert len(NOTHING) == len(mixed([], [])) == 0


@pytest.mark.parametrize("symbols", [40, 26_000])
@pytest.mark.parametrize("differ", [False, True])
def test_no_frame_is_larger_than_a_message_may_be(symbols: int, differ: bool) -> None:
    names = tuple(f"SYM{n:05d}" for n in range(symbols))
    count = 40_000
    rng = np.random.default_rng(1)
    ts = np.sort(rng.integers(0, 40, count)) * MIN
    length = np.full(count, MIN) if not differ else MIN * rng.integers(1, 3, count)
    values = {name: rng.random(count) for name in ("open", "high", "low", "close", "volume")}
    fresh = BarColumns(
        row=np.arange(count, dtype=np.int32),
        symbol=rng.integers(0, symbols, count).astype(np.int32),
        ts_ns=ts + MIN - length,
        interval_ns=length,
        source=rng.integers(0, 2, count).astype(np.int32) * differ,
        revision=rng.integers(0, 2, count).astype(np.int32) * differ,
        **values,
    )
    rows = mixed([fresh], [ready_ns(fresh)])
    slices = mark(rows, longs(), corrections=0, until_ns=0, symbols=symbols, interval_ns=MIN)
    symbols_bytes = sum(len(name) + 2 for name in names)
    seen, sizes = 0, []
    for part in cut(NOTHING, rows, slices, clock_ns=0, symbols_bytes=symbols_bytes):
        frame = Frame(
            run="r" * 40, shard=0, shards=1, frame=0, first_row=seen, rows=len(part.rows),
            clock_ns=part.clock_ns, event="rows", mode="replay", speed=0.0, command=1,
            session="2024-11-29", open_ns=0, close_ns=1, open_offset=0, reason="x" * 300,
            symbols=names, sources=("one", "two"), bars=part.rows.bars,
            **{f.name: getattr(part.slices, f.name) for f in fields(Slices)},
        )  # fmt: skip
        sizes.append(len(Codec().encode(frame)))
        seen += len(part.rows)
    assert seen == count
    assert max(sizes) <= MESSAGE_BYTES
    assert max(sizes) > MESSAGE_BYTES // 2
