"""Derived bars as a subscriber gets them: merged with the tape, in one order, in the replica."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import Digest, Position, SessionData, SessionStream
from streams.client import Batch
from streams.client.merging import Merger
from streams.client.rows import BarRow, bar_rows
from streams.errors import ConfigError
from streams.intervals import MINUTE_NS
from tests.derived import Longer, all_rows, keys_of, longer_bars, with_derived
from tests.frames import OPEN_NS, Day, MemoryReader, Row, Tape, full_day, merged, tape_of
from tests.unit.streams.client.answers import answers
from tests.unit.streams.client.test_merging import (
    at_random,
    days,
    digests,
    events_of,
    marks_of,
    ticks,
)

LATE = Row(OPEN_NS + 6 * MINUTE_NS, "S001", OPEN_NS + MINUTE_NS, 30.0, 2.0, 1, is_late=True)
DAYS = [
    full_day(6, 9, missing=frozenset({(OPEN_NS + 2 * MINUTE_NS, "S001")}), late=[LATE]),
    full_day(6, 9, 1),
    full_day(6, 7, 2),
]


def tape(shards: int = 2, minutes: tuple[int, ...] = (5,), market: list[Day] = DAYS) -> Tape:
    cuts = {0: [1, 3], 1: [2], 2: [1], 3: [2], 4: [1]}
    return with_derived(tape_of(market, shards, cuts), market, minutes, cuts)


def stream(found: Tape | None = None, **arguments: Any) -> SessionStream:
    arguments = {"start": "first", "intervals": ("1m", "5m"), **arguments}
    return SessionStream(reader=MemoryReader(found or tape()), **arguments)


def rows_of(batches: list[Batch]) -> list[BarRow]:
    return [row for batch in batches for row in bar_rows(batch)]


CUTS = st.lists(st.lists(st.integers(1, 8), max_size=4), min_size=9, max_size=9)


@settings(deadline=None, max_examples=60)
@given(
    market=days(),
    shards=st.integers(1, 3),
    minutes=st.lists(st.sampled_from([2, 4, 5, 60]), max_size=2, unique=True).map(sorted),
    cuts=CUTS,
    seed=st.integers(0, 2**32),
)
def test_shards_topics_and_the_order_of_arrival_make_no_difference(
    market: list[Day], shards: int, minutes: list[int], cuts: list[list[int]], seed: int
) -> None:
    base = tape_of(market, shards, dict(enumerate(cuts)))
    both = with_derived(base, market, minutes, dict(enumerate(cuts)))
    found = merged(both, at_random(seed))
    assert keys_of(rows_of(found)) == keys_of(all_rows(market, minutes))
    plain = merged(tape_of(market))
    assert events_of(found) == events_of(plain)
    assert marks_of_minutes(found) == marks_of_minutes(plain)
    assert digests(found) == digests(plain)


def marks_of_minutes(batches: list[Batch]) -> list[tuple[int, ...]]:
    return [mark[:5] for mark in marks_of(batches) if mark[1]]


@settings(deadline=None, max_examples=60)
@given(
    market=days(),
    shards=st.integers(1, 2),
    cuts=CUTS,
    seed=st.integers(0, 2**32),
    stop=st.integers(0, 200),
)
def test_a_stored_position_gives_the_rest_exactly_once(
    market: list[Day], shards: int, cuts: list[list[int]], seed: int, stop: int
) -> None:
    both = with_derived(
        tape_of(market, shards, dict(enumerate(cuts))), market, (2, 4), dict(enumerate(cuts))
    )
    batches = merged(both, at_random(seed))
    stop %= len(batches)
    first, at = batches[: stop + 1], batches[stop].position
    if len(batches[stop].slice_ns) > 1:
        first[-1] = batches[stop].cut(0, 1, batches[stop - 1].position)
        at = first[-1].position
    at = Position.from_dict(json.loads(json.dumps(at.as_dict())))
    merger = Merger(both.shards, at)
    rest: list[Batch] = []
    for delivered in (one for frames in both.frames for one in frames):
        if delivered.offset >= at[delivered.frame.shard]:
            merger.add(delivered.frame, delivered.offset)
            rest += merger.drain()
    assert keys_of(rows_of([*first, *rest])) == keys_of(rows_of(batches))
    assert events_of([*first, *rest]) == events_of(batches)


@pytest.mark.parametrize("shards", [1, 2])
def test_both_or_derived_ones_alone(shards: int) -> None:
    whole = tape(shards)
    assert keys_of(list(stream(whole).rows())) == keys_of(all_rows(DAYS, [5]))
    alone = stream(whole, intervals="5m")
    assert keys_of(list(alone.rows())) == keys_of(all_rows(DAYS, [5], base=False))
    slices = list(stream(whole, intervals=[5]))
    plain = list(SessionStream(reader=MemoryReader(tape_of(DAYS)), start="first"))
    assert [s.ready_ns for s in slices] == [s.ready_ns for s in plain]
    assert [(s.expected, s.missing) for s in slices] == [(s.expected, s.missing) for s in plain]
    assert all(s.bars is None for s in slices)
    lengths = [len(s.derived) for s in slices if s.derived is not None]
    assert sum(lengths) == len(all_rows(DAYS, [5], base=False))
    quotes = stream(whole, kinds=["quotes"])
    assert list(quotes.rows()) == []


def test_the_digest_is_that_of_the_bars() -> None:
    digest, plain = Digest(), Digest()
    for batch in stream().frames():
        digest.add(batch)
        assert batch.rows == len(list(bar_rows(batch)))
    for batch in merged(tape_of(DAYS)):
        plain.add(batch)
    assert (digest.final(), digest.as_known()) == (plain.final(), plain.as_known())


def test_only_some_symbols() -> None:
    wanted = [row for row in all_rows(DAYS, [5]) if row.symbol in ("S001", "S003")]
    assert keys_of(list(stream(symbols="S00[13]").rows())) == keys_of(wanted)


def test_the_replica_has_them_by_interval() -> None:
    found = stream(tape(2, (5, 60)), intervals=("1m", "5m", "1h"))
    data = found.data
    list(found.slices())
    last = DAYS[2]
    for minutes, name in ((5, "5m"), (60, "1h")):
        own = [row for row in longer_bars(last, minutes) if row.symbol == "S001"]
        bars = data.get_bars("S001", name)
        assert bars["close"].tolist() == [row.close for row in own]
        assert bars["interval_ns"].tolist() == [row.interval_ns for row in own]
        assert data.get_last_n_bars("S001", 1, minutes)[0] == data.get_latest_bar("S001", name)
        assert data.get_bar_count("S001", minutes) == len(own)
    assert data.get_bar_count("S001", "7m") == 0, "the hour is an hour, though the close cut it"
    assert data.get_bar_count("S001") == 7
    assert data.get_session_metrics("S001")["bar_count"] == 7
    past = data.get_historical_bars("S001", interval="5m")
    assert [len(rows) for rows in past.values()] == [2, 2]
    first = next(iter(past.values()))
    assert first["revision"].tolist() == [1, 0]
    assert first["high"].tolist()[0] == 31.0
    assert len(data.get_all_bars_including_historical("S001", "5m")) == 6


def test_a_correction_takes_its_place_when_it_is_known() -> None:
    found = stream(tape(2))
    for one in found.slices():
        bars = found.data.get_bars("S001", "5m")
        assert bool((bars["known_ns"] <= one.ready_ns).all())
        if one.session == DAYS[0].label and one.derived is not None and len(one.derived):
            revisions = {OPEN_NS + 5 * MINUTE_NS: [0], OPEN_NS + 6 * MINUTE_NS: [1]}
            assert bars["revision"].tolist() == revisions.get(one.ready_ns, [1, 0])


def test_the_replica_of_derived_bars_alone() -> None:
    found = stream(intervals=["5m"])
    list(found.frames())
    assert found.data.get_bar_count("S001") == 0
    assert found.data.get_bar_count("S001", 5) == 2
    assert found.data.get_quality_metric("S001") == 100.0
    assert found.data.get_minute_status("S001")["status"].tolist() == ["traded"] * 7
    whole = stream()
    list(whole.frames())
    bars = whole.data.get_bars("S001", 5)
    assert found.data.get_bars("S001", 5).tobytes() == bars.tobytes()


@settings(deadline=None, max_examples=30)
@given(data=st.data(), shards=st.integers(1, 2))
def test_wherever_it_joins_it_answers_as_a_reader_from_the_start(
    data: st.DataObject, shards: int
) -> None:
    both = tape(shards, (5,))
    shown = {shard: data.draw(st.integers(0, len(f))) for shard, f in enumerate(both.frames)}
    readers = [MemoryReader(both, shown=shown) for _ in range(2)]
    early, late = (
        SessionStream(reader=reader, start=start, intervals=("1m", "5m"))
        for reader, start in zip(readers, ("first", "session"), strict=True)
    )
    names = DAYS[0].symbols
    list(early.frames(timeout_s=0.0))
    list(late.frames(timeout_s=0.0))
    if early.data.get_current_session_date() is not None:
        assert answers(late.data, names) == answers(early.data, names)
    for reader in readers:
        reader.show()
    list(early.frames(timeout_s=0.0))
    list(late.frames(timeout_s=0.0))
    assert answers(late.data, names) == answers(early.data, names)


def test_who_joins_now_or_at_a_time_gets_what_comes() -> None:
    both = tape(2)
    reader = MemoryReader(both, shown=dict.fromkeys(range(4), 3))
    now = SessionStream(reader=reader, start="now", intervals=("1m", "5m"))
    reader.show()
    rows = keys_of(all_rows(DAYS, [5]))
    got = keys_of(list(now.rows()))
    assert got == rows[len(rows) - len(got) :]
    start = DAYS[1].open_ns + 5 * MINUTE_NS
    assert keys_of(list(stream(both, start=start).rows())) == [k for k in rows if k[0] >= start]


def test_a_stored_position_needs_the_same_intervals() -> None:
    both = tape(2)
    one = stream(both)
    next(one.frames())
    with pytest.raises(ConfigError, match="intervals it was taken with"):
        SessionStream(reader=MemoryReader(tape_of(DAYS, 2)), start=one.position)


@pytest.mark.parametrize("intervals", [(), ("5x",), [0]])
def test_lengths_that_are_none_say_so(intervals: Any) -> None:
    with pytest.raises(ConfigError, match="interval"):
        stream(intervals=intervals)


def test_bars_of_the_tape_stand_before_derived_ones_of_the_same_length() -> None:
    long = Row(OPEN_NS + 5 * MINUTE_NS, "S000", OPEN_NS, 7.0, 2.0, interval_ns=5 * MINUTE_NS)
    market = [full_day(2, 5, late=[long])]
    data = SessionData()
    for batch in merged(tape(1, (5,), market)):
        data.apply(batch)
    assert data.get_latest_bar("S000", "5m").close == 7.0
    assert data.get_bar_count("S000", "5m") == 1


def test_ticks_stand_before_them_and_derived_bars_behind_all() -> None:
    market = [full_day(2, 2)]
    both = with_derived(tape_of(market), market, (2,))
    (at,) = [n for n, one in enumerate(both.frames[0]) if one.frame.event == "rows"]
    one = both.frames[0][at]
    bars = one.frame.bars
    assert bars is not None
    own = np.arange(2, dtype=np.int32)
    more = ticks(own, market[0].close_ns, own + np.int32(2), ("c",))
    mixed = replace(
        one.frame,
        rows=6,
        slice_rows=np.array([2, 4], np.int32),
        bars=replace(bars, row=np.array([0, 1, 4, 5], np.int32)),
        ticks=more,
    )
    both.frames[0][at] = replace(one, frame=mixed)
    (batch,) = [batch for batch in merged(both) if batch.derived is not None]
    assert batch.ticks is not None
    assert batch.bars is not None
    assert batch.derived is not None
    assert batch.ticks.row.tolist() == [2, 3]
    assert batch.bars.row.tolist() == [0, 1, 4, 5]
    assert batch.derived.row.tolist() == [6, 7]
    assert batch.rows == 8


def test_a_derived_frame_alone_keeps_its_length() -> None:
    market = [full_day(2, 3)]
    whole = with_derived(tape_of(market), market, (2,))
    only = Tape(shards=1)
    for delivered in whole.frames[1]:
        only.frames[0].append(type(delivered)(replace(delivered.frame, shard=0), delivered.offset))
    (batch,) = [batch for batch in merged(only) if batch.derived is not None]
    assert batch.derived is not None
    assert np.unique(batch.derived.length_ns).tolist() == [2 * MINUTE_NS]
    assert keys_of(list(bar_rows(batch))) == keys_of(longer_bars(market[0], 2))
    assert {type(row) for row in longer_bars(market[0], 2)} == {Longer}
