"""N shards, cut anywhere and arriving in any order, are the tape of one shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Frame, QuoteColumns, TickColumns
from schemas.records import Ints
from streams.client.batch import Batch, Position
from streams.client.merging import Merger
from streams.client.rows import BarRow, bar_rows
from streams.digest import Digest
from streams.intervals import MINUTE_NS
from tests.frames import DAY_NS, OPEN_NS, Day, Row, Tape, full_day, longs, merged, tape_of

MINUTES = 6


@st.composite
def days(draw: st.DrawFn) -> list[Day]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        size = draw(st.integers(0, 9))
        start = OPEN_NS + number * DAY_NS
        cells = st.tuples(st.integers(1, MINUTES), st.integers(0, max(size - 1, 0)))
        holes = draw(st.lists(cells, max_size=6, unique=True)) if size else []
        missing = {(start + minute * MINUTE_NS, f"S{at:03d}") for minute, at in holes}
        late = [
            Row(
                known_ns=ready + draw(st.integers(1, 3)) * MINUTE_NS,
                symbol=name,
                ts_ns=ready - MINUTE_NS,
                close=draw(st.floats(1, 100)),
                revision=draw(st.integers(0, 3)),
                is_late=True,
            )
            for ready, name in sorted(missing)[: draw(st.integers(0, 4))]
        ]
        long = [
            Row(start + 5 * MINUTE_NS, "S000", start, 7.0, 2.0, interval_ns=5 * MINUTE_NS)
        ] * draw(st.integers(0, min(size, 1)))
        found.append(
            full_day(size, MINUTES, number, missing=frozenset(missing), late=[*late, *long])
        )
    return found


def rows_of(batches: list[Batch]) -> list[BarRow]:
    return [row for batch in batches for row in bar_rows(batch)]


def marks_of(batches: list[Batch]) -> list[tuple[int, ...]]:
    return [
        (s.ready_ns, s.expected, s.received, s.no_trade, s.missing, s.corrections)
        for batch in batches
        for s in batch.slices()
    ]


def events_of(batches: list[Batch]) -> list[tuple[str, str]]:
    return [(batch.event, batch.session) for batch in batches if batch.event != "rows"]


def digests(batches: list[Batch]) -> tuple[str, str]:
    digest = Digest()
    for batch in batches:
        digest.add(batch)
    return digest.final(), digest.as_known()


def at_random(seed: int) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    return (int(rng.integers(0, 64)) for _ in count())


@settings(deadline=None)
@given(
    market=days(),
    shards=st.integers(1, 5),
    cuts=st.lists(st.lists(st.integers(1, 8), max_size=4), min_size=5, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_shards_and_cuts_make_no_difference(
    market: list[Day], shards: int, cuts: list[list[int]], seed: int
) -> None:
    one = merged(tape_of(market))
    many = merged(tape_of(market, shards, dict(enumerate(cuts))), at_random(seed))
    assert rows_of(many) == rows_of(one)
    expected = [row for day in market for row in day.rows]
    assert [(r.known_ns, r.symbol, r.ts_ns, r.close) for r in rows_of(one)] == [
        (r.known_ns, r.symbol, r.ts_ns, r.close) for r in expected
    ]
    # A shard without a row at an odd time has no slice there; marks of minutes all add up.
    assert marks_of(many) == marks_of(one)
    assert events_of(many) == events_of(one)
    assert digests(many) == digests(one)
    for batch in many:
        assert batch.symbols == tuple(sorted(batch.symbols))


@settings(deadline=None)
@given(
    market=days(),
    shards=st.integers(1, 3),
    cuts=st.lists(st.lists(st.integers(1, 8), max_size=4), min_size=3, max_size=3),
    seed=st.integers(0, 2**32),
    stop=st.integers(0, 200),
)
def test_a_stored_position_gives_the_rest_exactly_once(
    market: list[Day], shards: int, cuts: list[list[int]], seed: int, stop: int
) -> None:
    tape = tape_of(market, shards, dict(enumerate(cuts)))
    batches = merged(tape, at_random(seed))
    stop %= len(batches)
    first, at = batches[: stop + 1], batches[stop].position
    if len(batches[stop].slice_ns) > 1:  # and in mid-batch
        before = batches[stop - 1].position
        first[-1] = batches[stop].cut(0, 1, before)
        at = first[-1].position
    at = Position.from_dict(at.as_dict())
    merger = Merger(shards, at)
    rest: list[Batch] = []
    for delivered in (d for frames in tape.frames for d in frames):
        if delivered.offset >= at[delivered.frame.shard]:
            merger.add(delivered.frame, delivered.offset)
            rest += merger.drain()
    both = [*first, *rest]
    assert rows_of(both) == rows_of(batches)
    assert events_of(both) == events_of(batches)
    assert marks_of(both) == marks_of(batches)


def test_one_shard_goes_through_without_a_copy() -> None:
    tape = tape_of([full_day(3, 6)], cuts={0: [2, 4]})
    batches = [batch for batch in merged(tape) if batch.event == "rows"]
    frames = [d.frame for d in tape.frames[0] if d.frame.event == "rows"]
    assert [batch.bars for batch in batches] == [frame.bars for frame in frames]
    assert all(b.slice_ns is f.slice_ns for b, f in zip(batches, frames, strict=True))


def test_a_slice_cut_over_two_frames_is_one_slice() -> None:
    day = full_day(4, 2)
    tape = Tape()
    tape.put(tape.event(0, "open", day))
    whole = next(tape.rows(0, day))
    assert whole.bars is not None
    empty = np.zeros(1, np.int32)
    begun = replace(
        whole,
        rows=3,
        clock_ns=day.open_ns,
        bars=whole.bars.take(slice(0, 3)),
        slice_ns=whole.slice_ns[:1],
        slice_rows=np.array([3], np.int32),
        slice_corrections=empty,
        slice_expected=empty,
        slice_received=empty,
        slice_no_trade=empty,
        slice_missing=empty,
    )
    rest = whole.bars.take(slice(3, 8))
    ended = replace(
        whole,
        rows=5,
        bars=replace(rest, row=np.arange(5, dtype=np.int32)),
        slice_rows=np.array([1, 4], np.int32),
    )
    merger = Merger(1)
    merger.add(tape.frames[0][0].frame, 0)
    merger.add(begun, 1)
    assert [batch.event for batch in merger.drain()] == ["open"]
    merger.add(ended, 2)
    (batch,) = merger.drain()
    assert batch.slice_rows.tolist() == [4, 4]
    assert batch.slice_received.tolist() == [4, 4]
    assert [row.symbol for row in bar_rows(batch)] == ["S000", "S001", "S002", "S003"] * 2


def test_a_slice_waits_for_every_shard_and_the_clock_for_the_slowest() -> None:
    tape = tape_of([full_day(6, 4)], 2, {0: [1, 2, 3], 1: [1, 2, 3]})
    merger = Merger(2)
    fast, slow = tape.frames
    for delivered in fast:
        merger.add(delivered.frame, delivered.offset)
    assert merger.drain() == []
    for delivered in slow[:4]:  # start, open, two minutes
        merger.add(delivered.frame, delivered.offset)
    *events, rows = merger.drain()
    assert [batch.event for batch in events] == ["start", "open"]
    assert rows.clock_ns == OPEN_NS + 2 * MINUTE_NS
    assert rows.slice_expected.tolist() == [6, 6]
    assert rows.position[0] < fast[-1].offset
    assert rows.position[1] == slow[4].offset - 1  # the end of a transaction lies between


def test_a_frame_of_the_clock_alone_moves_the_clock() -> None:
    tape = Tape()
    day = full_day(0, 3)
    tape.put(tape.event(0, "open", day))
    tape.put(tape.event(0, "rows", day, clock_ns=OPEN_NS + MINUTE_NS))
    tape.put(tape.event(0, "rows", day, clock_ns=OPEN_NS + 2 * MINUTE_NS))
    assert [batch.clock_ns - OPEN_NS for batch in merged(tape)] == [0, MINUTE_NS, 2 * MINUTE_NS]


def test_corrections_between_two_slices_stay_behind_the_slice_they_came_after() -> None:
    """Live, late rows go out at the clock there is: one more slice with the same ready time."""
    day = full_day(6, 2)
    rows = []
    for shards in (1, 2):
        tape = Tape(shards=shards, cuts={0: [1], 1: [1]})
        for shard in range(shards):
            tape.put(tape.event(shard, "open", day))
            first, second = tape.rows(shard, day)
            tape.put(first)
            late = _late(first)
            tape.put(late)
            tape.put(replace(late, bars=late.bars and replace(late.bars, revision=late.bars.row)))
            tape.put(second)
        batches = merged(tape)
        assert sum(len(batch.slice_ns) for batch in batches) >= 4
        ready = [row.known_ns for row in rows_of(batches)]
        assert ready == sorted(ready)
        found = rows_of(batches)
        assert not any(row.is_correction for row in found[:6])
        assert [row.symbol for row in found[:6]] == list(day.symbols)
        assert [row.symbol for row in found[-6:]] == list(day.symbols)
        rows.append(sorted(found, key=repr))
    assert rows[0] != []


def _late(frame: Frame) -> Frame:
    """All rows of the frame's only slice once more, as corrections at the same clock."""
    nothing = np.zeros(1, np.int32)
    return replace(
        frame,
        slice_corrections=frame.slice_rows,
        slice_expected=nothing,
        slice_received=nothing,
        slice_missing=nothing,
        slice_no_trade=nothing,
    )


def test_a_reader_that_joins_leaves_out_what_only_some_shards_say() -> None:
    both = tape_of([full_day(6, 3), full_day(6, 3, 1)], 2)
    merger = Merger(2, align=True)
    # Shard 0 joins at the second open, shard 1 still at the first.
    opened = max(d.offset for d in both.frames[0] if d.frame.event == "open")
    second = [d for d in both.frames[0] if d.offset >= opened]
    for delivered in [*second, *both.frames[1][1:]]:
        merger.add(delivered.frame, delivered.offset)
    found = merger.drain()
    assert events_of(found) == [("open", "2024-01-02"), ("close", "2024-01-02"), ("end", "")]
    assert len(rows_of(found)) == 18


def test_a_run_that_was_broken_off_gives_way_to_the_next() -> None:
    tape = Tape(shards=2)
    tape.start()
    day = full_day(6, 3)
    for shard in range(2):
        tape.put(tape.event(shard, "open", day))
    tape.put(next(tape.rows(0, day)))  # shard 1 never came so far
    tape.run, tape.command = "run-2", 2
    tape.start()
    tape.day(day)
    tape.end()
    found = merged(tape)
    assert [batch.run for batch in found if batch.event == "start"] == ["run-1", "run-2"]
    second = [batch for batch in found if batch.run == "run-2"]
    assert len(rows_of(second)) == 18
    only = Merger(2, run="run-2")
    for delivered in (d for frames in tape.frames for d in frames):
        only.add(delivered.frame, delivered.offset)
    assert digests(only.drain()) == digests(second)


def test_who_reads_one_run_stands_at_the_next_when_that_takes_its_place() -> None:
    """Also where frames of the next came before the last of ours on another shard."""
    tape = Tape(shards=2)
    tape.start()
    day = full_day(6, 3)
    for shard in range(2):
        tape.put(tape.event(shard, "open", day))
    first = [list(frames) for frames in tape.frames]
    tape.run, tape.command = "run-2", 2
    tape.start()
    tape.day(day)
    merger = Merger(2, run="run-1")
    for delivered in [*tape.frames[0], *first[1]]:
        merger.add(delivered.frame, delivered.offset)
    last = merger.drain()[-1]
    assert (last.event, last.run) == ("open", "run-1")
    assert dict(last.position.items()) == {s: first[s][-1].offset + 1 for s in range(2)}


def test_events_come_once_with_what_any_shard_says() -> None:
    tape = Tape(shards=2)
    day = full_day(6, 1)
    for shard in range(2):
        tape.put(tape.event(shard, "open", day))
    tape.put(tape.event(0, "close", day, incomplete=True, reason="nothing came for 60 s"))
    tape.put(tape.event(1, "close", day))
    opened, closed = merged(tape)
    assert opened.symbols == day.symbols
    assert opened.expected == 1
    assert closed.incomplete
    assert closed.reason == "nothing came for 60 s"


def test_rows_in_open_and_close_frames_count_too() -> None:
    day = full_day(3, 2, 0)
    tape = Tape(cuts={0: [1]})
    first, second = tape.rows(0, day)
    tape.put(replace(first, event="open"))
    tape.put(replace(second, event="close"))
    found = merged(tape)
    assert [batch.event for batch in found] == ["open", "rows", "rows", "close"]
    assert len(rows_of(found)) == 6
    # Open and rows share a frame: who stops between them still gets the rows, and no open again.
    merger = Merger(1, found[0].position)
    for delivered in tape.frames[0]:
        merger.add(delivered.frame, delivered.offset)
    assert [batch.event for batch in merger.drain()] == ["rows", "rows", "close"]


def test_symbols_that_appear_in_mid_session_are_told_apart() -> None:
    day, more = full_day(["A", "C"], 2), full_day(["A", "B", "C"], 2)
    tape = Tape(cuts={0: [1]})
    tape.put(tape.event(0, "open", day))
    tape.put(next(tape.rows(0, day)))
    tape.put([*tape.rows(0, more)][1])
    names = [row.symbol for row in rows_of(merged(tape))]
    assert names == ["A", "C", "A", "B", "C"]


def quotes(symbol: Ints, ts_ns: int, row: Ints) -> QuoteColumns:
    size = len(symbol)
    value = np.full(size, 1.0)
    nought = np.zeros(size, np.int32)
    return QuoteColumns(
        row, symbol, np.full(size, ts_ns), value, value, value, value, nought, nought
    )


def ticks(symbol: Ints, ts_ns: int, row: Ints, conditions: tuple[str, ...]) -> TickColumns:
    size = len(symbol)
    nought = np.zeros(size, np.int32)
    price = np.arange(size, dtype=np.float64)
    return TickColumns(
        row, symbol, np.full(size, ts_ns), price, price, nought, nought, nought, conditions
    )


@pytest.mark.parametrize("shards", [1, 2])
def test_kinds_stand_in_their_order_inside_a_slice(shards: int) -> None:
    day = full_day(4, 1)
    tape = Tape(shards=shards)
    for shard in range(shards):
        tape.put(tape.event(shard, "open", day))
        frame = next(tape.rows(shard, day))
        assert frame.bars is not None
        size = len(frame.bars)
        own = np.arange(size, dtype=np.int32)
        twice = np.repeat(own, 2).astype(np.int32)
        mixed = replace(
            frame,
            rows=4 * size,
            slice_rows=np.array([4 * size], np.int32),
            ticks=ticks(twice, day.close_ns, np.arange(2 * size, dtype=np.int32), (f"c{shard}",)),
            quotes=quotes(own, day.close_ns, own + 2 * np.int32(size)),
            bars=replace(frame.bars, row=own + 3 * np.int32(size)),
        )
        tape.put(mixed)
    _, batch = merged(tape)
    assert batch.ticks is not None
    assert batch.quotes is not None
    assert batch.bars is not None
    assert batch.rows == 16
    assert batch.ticks.row.tolist() == list(range(8))
    assert batch.quotes.row.tolist() == list(range(8, 12))
    assert batch.bars.row.tolist() == list(range(12, 16))
    assert batch.ticks.symbol.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert batch.ticks.price.tolist()[::2] == [p - 1 for p in batch.ticks.price.tolist()[1::2]]
    names = [batch.ticks.conditions[i] for i in batch.ticks.condition.tolist()]
    assert set(names) == {f"c{shard}" for shard in range(shards)}
    (found,) = batch.slices()
    assert found.ticks is not None
    assert len(found.ticks) == 8
    without = batch.only(
        np.array([True, False, False, True]), ("S000", "S003"), frozenset({"bars", "ticks"})
    )
    assert without.quotes is None
    assert without.ticks is not None
    assert without.bars is not None
    assert without.ticks.row.tolist() == [0, 1, 2, 3]
    assert without.bars.row.tolist() == [4, 5]
    assert without.slice_rows.tolist() == [6]
    assert without.known_ns().tolist() == longs(day.close_ns, day.close_ns).tolist()


def test_sources_of_all_shards_are_told_apart() -> None:
    day = full_day(6, 3)
    rows = tuple(replace(row, source=f"from {row.symbol}") for row in day.rows)
    tape = Tape(shards=2)
    for shard in range(2):
        tape.put(tape.event(shard, "open", day))
        frame = next(tape.rows(shard, replace(day, rows=rows)))
        assert frame.bars is not None
        used = sorted(set(frame.bars.source.tolist()))
        own = np.searchsorted(used, frame.bars.source).astype(np.int32)
        tape.put(
            replace(
                frame,
                sources=tuple(frame.sources[at] for at in used),
                bars=replace(frame.bars, source=own),
            )
        )
    _, batch = merged(tape)
    assert batch.bars is not None
    assert batch.sources == tuple(f"from {name}" for name in day.symbols)
    assert [batch.sources[at] for at in batch.bars.source.tolist()] == [
        f"from {batch.symbols[at]}" for at in batch.bars.symbol.tolist()
    ]


def test_a_frame_of_the_clock_alone_does_not_hide_that_a_slice_comes_again() -> None:
    day = full_day(2, 2)
    tape = Tape(cuts={0: [1]})
    tape.put(tape.event(0, "open", day))
    first, second = tape.rows(0, day)
    tape.put(first)
    tape.put(_late(first))
    tape.put(tape.event(0, "rows", day, clock_ns=first.clock_ns, state="paused"))
    tape.put(_late(first))
    tape.put(second)
    batches = merged(tape)
    places = [(b.position.slice_ns, b.position.repeat) for b in batches if len(b.slice_ns)]
    ready = OPEN_NS + MINUTE_NS
    assert places == [(ready, 0), (ready, 1), (ready, 2), (ready + MINUTE_NS, 0)]
    assert [b.slice_repeat.tolist() for b in batches if len(b.slice_ns)] == [[], [1], [2], []]
    # Each is a place to go on from.
    for stop, batch in enumerate(batches):
        merger = Merger(1, batch.position)
        rest: list[Batch] = []
        for delivered in tape.frames[0]:
            if delivered.offset >= batch.position[0]:
                merger.add(delivered.frame, delivered.offset)
                rest += merger.drain()
        assert rows_of(rest) == rows_of(batches[stop + 1 :])


@pytest.mark.parametrize("orders", [[0, 1], [1, 0]])
def test_corrections_of_two_shards_at_one_clock_come_once_wherever_it_goes_on(
    orders: list[int],
) -> None:
    """One shard has given out its corrections when the reader stops, the other's are to come."""
    day = full_day(6, 2)
    tape = Tape(shards=2, cuts={0: [1], 1: [1]})
    for shard in range(2):
        tape.put(tape.event(shard, "open", day))
        first, second = tape.rows(shard, day)
        tape.put(first)
        tape.put(_late(first))
        tape.put(_late(first))
        tape.put(second)
    one, other = (tape.frames[shard] for shard in orders)
    came = [*one[:2], *other[:2], one[2], one[3], other[2], other[3], one[4], other[4]]
    merger = Merger(2)
    batches: list[Batch] = []
    for delivered in came:
        merger.add(delivered.frame, delivered.offset)
        batches += merger.drain()
    for stop, batch in enumerate(batches):
        position = Position.from_dict(batch.position.as_dict())
        assert position == batch.position
        again = Merger(2, position)
        rest: list[Batch] = []
        for delivered in came:
            if delivered.offset >= position[delivered.frame.shard]:
                again.add(delivered.frame, delivered.offset)
                rest += again.drain()
        both = rows_of([*batches[: stop + 1], *rest])
        # Which of the two shards' corrections come first is not said.
        assert sorted(both, key=repr) == sorted(rows_of(batches), key=repr)
    assert len(rows_of(batches)) == 24
