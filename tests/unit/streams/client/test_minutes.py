"""What a subscriber is told of minutes, and of symbols that come and go in mid-session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from schemas import Frame
from schemas.records import Minutes
from streams import SessionData, SessionStream
from streams.client import Batch, joining
from streams.client.merging import Merger
from streams.client.rows import bar_rows
from streams.coverage import Status
from streams.intervals import MINUTE_NS
from tests.derived import with_derived
from tests.frames import OPEN_NS, Day, MemoryReader, Row, Tape, full_day, merged, tape_of

GAPS = frozenset({(OPEN_NS + m * MINUTE_NS, "S001") for m in (2, 3, 5)})
DAY = full_day(2, 6, missing=GAPS)


def at_minute(minute: int) -> int:
    return OPEN_NS + minute * MINUTE_NS


def minutes_of(
    *runs: tuple[str, int, int, Status], session: str = DAY.label, loaded: bool = False
) -> Minutes:
    """Return runs of minutes: a symbol, the first minute, the one behind the last, the status."""
    names = tuple(sorted({name for name, *_ in runs}))
    size = len(runs)
    return Minutes(
        symbols=names,
        symbol=np.array([names.index(name) for name, *_ in runs], np.int32),
        ts_ns=np.array([at_minute(first) for _, first, *_ in runs], np.int64),
        end_ns=np.array([at_minute(stop) for _, _, stop, _ in runs], np.int64),
        status=np.array([status for *_, status in runs], np.int32),
        attempt=np.zeros(size, np.int32),
        request=np.full(size, -1, np.int32),
        session=session,
        loaded=loaded,
    )


def said(
    day: Day, opened: Minutes | None, later: dict[int, Minutes], *, shards: int = 1
) -> list[Batch]:
    """Return a session of a frame a minute; what is said behind a minute has a frame of its own."""
    tape = Tape(shards=shards, cuts=dict.fromkeys(range(shards), range(1, day.minutes)))
    tape.start()
    for shard in range(shards):
        tape.put(replace(tape.event(shard, "open", day), minutes=opened))
        for minute, frame in enumerate(tape.rows(shard, day), 1):
            tape.put(frame)
            if minute in later:
                tape.put(
                    tape.event(shard, "rows", day, clock_ns=frame.clock_ns, minutes=later[minute])
                )
        tape.put(tape.event(shard, "close", day, clock_ns=day.close_ns))
    return merged(tape)


OPENED = minutes_of(
    ("S001", 1, 2, Status.NO_TRADE), ("S001", 2, 3, Status.MISSING), ("S001", 4, 5, Status.MISSING)
)


def test_quality_is_exact_minute_by_minute() -> None:
    data = SessionData()
    found = []
    answered = minutes_of(("S001", 2, 3, Status.NO_TRADE))
    for batch in said(DAY, OPENED, {4: answered}):
        data.apply(batch)
        if batch.event == "rows":
            found.append(data.get_quality_metric("S001"))
            assert data.get_quality_metric("S000", "5m") == 100.0
    thirds = [100.0, 100.0, 200 / 3, 75.0, 100.0, 80.0, 500 / 6]
    assert found == pytest.approx(thirds)
    assert data.get_session_metrics("S001")["bar_quality"] == pytest.approx(500 / 6)
    status = data.get_minute_status("S001")
    assert status["status"].tolist() == [
        "traded", "no_trade", "no_trade", "traded", "missing", "traded"
    ]  # fmt: skip
    assert status["ts_ns"].tolist() == [at_minute(minute) for minute in range(6)]
    assert data.get_minute_status("s000")["status"].tolist() == ["traded"] * 6
    nothing = data.get_minute_status("other")
    assert (len(nothing["ts_ns"]), len(nothing["status"])) == (0, 0)
    assert len(SessionData().get_minute_status("other")["status"]) == 0


def test_without_upkeep_the_marks_say_it() -> None:
    vouched = full_day(2, 6, missing=GAPS, no_trade=frozenset({(at_minute(4), "S000")}))
    data = SessionData()
    for batch in merged(tape_of([vouched])):
        data.apply(batch)
    assert data.get_quality_metric("S001") == 50.0
    assert data.get_quality_metric("S000") == 100.0
    status = data.get_minute_status("S000")["status"].tolist()
    assert status == ["traded"] * 3 + ["no_trade"] + ["traded"] * 2
    assert data.get_minute_status("S001")["status"].tolist().count("missing") == 3


@pytest.mark.parametrize("has_minutes", [True, False])
def test_a_late_bar_fills_its_minute(has_minutes: bool) -> None:
    late = Row(at_minute(5), "S001", at_minute(2), 11.0, 1.0, 1, is_late=True)
    day = full_day(2, 6, missing=GAPS, late=[late])
    data = SessionData()
    opened = minutes_of(("S001", 1, 3, Status.MISSING), ("S001", 4, 5, Status.GIVEN_UP))
    filled = minutes_of(("S001", 2, 3, Status.FILLED))
    for batch in said(day, opened if has_minutes else None, {5: filled} if has_minutes else {}):
        data.apply(batch)
    assert data.get_quality_metric("S001") == pytest.approx(400 / 6)
    status = data.get_minute_status("S001")["status"].tolist()
    assert status[2] == ("filled" if has_minutes else "traded")
    assert status[4] == ("given_up" if has_minutes else "missing")


def test_without_its_bars_a_reader_has_the_quality_all_the_same() -> None:
    for minutes, quality in ((OPENED, 400 / 6), (None, 50.0)):
        data = SessionData()
        data.takes_bars(False)
        for batch in said(DAY, minutes, {}):
            data.apply(replace(batch, bars=None))
        assert data.get_quality_metric("S001") == pytest.approx(quality)


def test_what_is_said_comes_once_with_the_last_slice_of_its_frame() -> None:
    tape = Tape(cuts={0: []})
    tape.start()
    tape.put(replace(tape.event(0, "open", DAY), minutes=OPENED))
    (frame,) = tape.rows(0, DAY)
    later = minutes_of(("S001", 2, 3, Status.NO_TRADE))
    tape.put(replace(frame, minutes=later))
    tape.put(tape.event(0, "close", DAY, clock_ns=DAY.close_ns))
    batches = merged(tape)
    assert [[m.status.tolist() for m in b.minutes] for b in batches] == [
        [], [OPENED.status.tolist()], [[Status.NO_TRADE]], []
    ]  # fmt: skip
    rows = batches[2]
    parts = [rows.cut(at, at + 1, batches[1].position) for at in range(len(rows.slice_ns))]
    assert [len(part.minutes) for part in parts] == [0, 0, 0, 0, 0, 1]
    for part in parts:  # and once, wherever it goes on
        merger = Merger(1, part.position)
        rest: list[Batch] = []
        for one in tape.frames[0]:
            if one.offset >= part.position[0]:
                merger.add(one.frame, one.offset)
                rest += merger.drain()
        assert sum(len(batch.minutes) for batch in rest) == 1 - len(part.minutes)


def test_minutes_in_open_and_close_frames_that_have_rows_come_once() -> None:
    tape = Tape(cuts={0: [1]})
    first, second = tape.rows(0, DAY)
    tape.put(replace(first, event="open", minutes=OPENED))
    tape.put(replace(second, event="close", minutes=OPENED))
    assert [(b.event, len(b.minutes)) for b in merged(tape)] == [
        ("open", 1), ("rows", 0), ("rows", 0), ("close", 1)
    ]  # fmt: skip


def waiting(tape: Tape, shard: int, day: Day) -> Frame:
    told = minutes_of(("S001", 1, 2, Status.MISSING), session=day.label, loaded=True)
    return tape.event(shard, "rows", day, clock_ns=0, minutes=told, waiting=True)


def with_sessions_to_come(shards: int, days: list[Day]) -> Tape:
    """A tape that speaks of sessions before they open, in each session and before the first."""
    tape = Tape(shards=shards, cuts={0: [2], 1: [3]})
    tape.start()
    for number, day in enumerate(days):
        to_come = days[(number + 1) % len(days)]
        for shard in range(shards):
            if number:
                tape.put(tape.event(shard, "roll", day))
            tape.put(waiting(tape, shard, day))
            tape.put(tape.event(shard, "open", day))
            for frame in tape.rows(shard, day):
                tape.put(frame)
                ahead = waiting(tape, shard, to_come).minutes
                tape.put(tape.event(shard, "rows", day, clock_ns=frame.clock_ns, minutes=ahead))
            tape.put(tape.event(shard, "close", day, clock_ns=day.close_ns))
    tape.end()
    return tape


DAYS = [full_day(4, 5, number) for number in range(3)]


@pytest.mark.parametrize("shards", [1, 2])
def test_frames_of_sessions_to_come_are_skipped(shards: int) -> None:
    plain = merged(tape_of(DAYS, shards, {0: [2], 1: [3]}))
    tape = with_sessions_to_come(shards, DAYS)
    found = merged(tape)
    assert [(b.event, b.session, b.clock_ns) for b in found] == [
        (b.event, b.session, b.clock_ns) for b in plain
    ]
    assert all(batch.minutes == () for batch in found)
    ends = {shard: frames[-1].offset + 1 for shard, frames in enumerate(tape.frames)}
    assert dict(found[-1].position) == ends


@pytest.mark.parametrize("shards", [1, 2])
def test_who_joins_where_a_session_is_waited_for_answers_like_the_others(shards: int) -> None:
    tape = with_sessions_to_come(shards, DAYS)
    longest = max(len(frames) for frames in tape.frames)
    for stop in range(longest):
        shown = {shard: min(stop + shard, len(f)) for shard, f in enumerate(tape.frames)}
        states = []
        for start in ("first", "session"):
            reader = MemoryReader(tape, shown=shown)
            stream = SessionStream(reader=reader, start=start)
            list(stream.frames(timeout_s=0.0))
            reader.show()
            rows = [row for batch in stream.frames(timeout_s=0.0) for row in bar_rows(batch)]
            data = stream.data
            states.append((len(rows), data.get_bars("S001").tobytes(), data.session_ended()))
        assert states[0] == states[1]


@pytest.mark.parametrize("stop", range(1, 18))
def test_who_joins_now_misses_no_session_that_is_still_to_open(stop: int) -> None:
    tape = with_sessions_to_come(1, DAYS)
    reader = MemoryReader(tape, shown={0: stop})
    stream = SessionStream(reader=reader, start="now")
    reader.show()
    opened = [batch.session for batch in stream.frames() if batch.event == "open"]
    seen = [one.frame.session for one in tape.frames[0][:stop] if one.frame.event == "open"]
    assert opened == [day.label for day in DAYS if day.label not in seen]


def test_a_run_that_waits_for_its_first_session_is_joined_there() -> None:
    tape = with_sessions_to_come(2, DAYS)
    shown = {0: 2, 1: 5}
    reader = MemoryReader(tape, shown=shown)
    found = joining.joined(reader, reader.last(), 5)
    assert found is not None
    assert found.from_start
    assert found.running[0] == tape.frames[0][1].offset


# Symbols that come and go.


def changing(shards: int, *, at_clock: bool = False) -> Tape:
    """B comes with minute 3, or behind 2 with what it had before; C goes with minute 4."""
    before, between, after = (
        full_day(names, 6) for names in (["A", "C", "D"], ["A", "B", "C", "D"], ["A", "B", "D"])
    )
    late = [Row(at_minute(2), "B", at_minute(m), 5.0 + m, is_late=True) for m in range(2)]
    tape = Tape(shards=shards, cuts=dict.fromkeys(range(shards), range(1, 6)))
    tape.start()
    for shard in range(shards):
        tape.put(tape.event(shard, "open", before))
        frames = [*zip(*(tape.rows(shard, day) for day in (before, between, after)), strict=True)]
        for minute, (first, second, third) in enumerate(frames, 1):
            if minute == 3 and at_clock and "B" in second.symbols:
                only = replace(between, rows=tuple(late), minutes=2)
                *_, backfill = Tape(shards=shards, cuts={shard: [1]}).rows(shard, only)
                nothing = np.zeros(1, np.int32)
                tape.put(
                    replace(
                        backfill,
                        clock_ns=at_minute(2),
                        slice_expected=nothing,
                        slice_received=nothing,
                        slice_missing=nothing,
                    )
                )
            tape.put(first if minute < 3 else second if minute < 4 else third)
        tape.put(tape.event(shard, "close", after, clock_ns=after.close_ns))
    tape.end()
    return tape


def orders(shards: int) -> Iterator[Any]:
    for order in permutations(range(shards)):
        yield MemoryReader, order, 1
        yield MemoryReader, order, 100


@pytest.mark.parametrize("at_clock", [False, True])
@pytest.mark.parametrize("shards", [1, 2, 3])
def test_symbols_are_active_from_the_frame_on_that_lists_them(shards: int, at_clock: bool) -> None:
    tape = changing(shards, at_clock=at_clock)
    seen = []
    for _, order, chunk in orders(shards):
        stream = SessionStream(reader=MemoryReader(tape, order, chunk=chunk), start="first")
        found = []
        for one in stream.slices():
            data = stream.data
            active = "".join(sorted(data.get_active_symbols()))
            found.append((one.ready_ns, one.corrections, active, data.get_bar_count("B")))
            assert ("B" in data.symbols) == ("B" in active)
        seen.append(found)
        assert data.symbols == ("A", "C", "D", "B")
        assert len(data.get_bars("C")) == 3, "who is removed keeps its bars"
        assert data.get_quality_metric("C") is None
        assert data.get_quality_metric("B") == 100.0
        missing = data.get_minute_status("B")["status"].tolist()
        assert missing == ["traded" if at_clock else "pending"] * 2 + ["traded"] * 4
    assert all(found == seen[0] for found in seen)
    actives = [active for _, _, active, _ in seen[0]]
    assert actives == ["ACD"] * 2 + ["ABCD"] * (1 + at_clock) + ["ABD"] * 3


@pytest.mark.parametrize("shards", [1, 2])
def test_symbols_that_come_and_go_are_no_matter_to_the_rows(shards: int) -> None:
    tape = changing(shards, at_clock=True)
    batches = merged(tape)
    rows = [row for batch in batches for row in bar_rows(batch)]
    for stop in range(len(batches)):
        merger = Merger(shards, batches[stop].position)
        rest: list[Batch] = []
        for one in (one for frames in tape.frames for one in frames):
            if one.offset >= batches[stop].position[one.frame.shard]:
                merger.add(one.frame, one.offset)
                rest += merger.drain()
        done = [row for batch in batches[: stop + 1] for row in bar_rows(batch)]
        assert done + [row for batch in rest for row in bar_rows(batch)] == rows


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_frame_without_rows_may_list_others(shards: int) -> None:
    before, after = full_day(["A", "D"], 4), full_day(["A", "B", "D"], 4)
    tape = Tape(shards=shards, cuts=dict.fromkeys(range(shards), range(1, 4)))
    for shard in range(shards):
        tape.put(tape.event(shard, "open", before))
        first, second, *_ = tape.rows(shard, before)
        tape.put(first)
        # At the clock there is, and then at one of its own.
        tape.put(tape.event(shard, "rows", after, clock_ns=first.clock_ns))
        tape.put(second)
        *_, third, fourth = tape.rows(shard, after)
        tape.put(third)
        tape.put(tape.event(shard, "rows", before, clock_ns=at_minute(4) - 1))
        tape.put(fourth)
        tape.put(tape.event(shard, "close", after, clock_ns=after.close_ns))
    found = []
    for _, order, chunk in orders(shards):
        stream = SessionStream(reader=MemoryReader(tape, order, chunk=chunk), start="first")
        listed = [
            (batch.clock_ns - OPEN_NS, "".join(batch.symbols)) for batch in stream.frames(0.0)
        ]
        found.append(list(dict.fromkeys(listed)))
    minute = MINUTE_NS
    assert found[0] == [
        *[(0, "AD"), (minute, "AD"), (minute, "ABD"), (2 * minute, "AD"), (3 * minute, "ABD")],
        *[(4 * minute - 1, "AD"), (4 * minute, "ABD")],
    ]
    assert all(one == found[0] for one in found)


def test_others_stand_behind_the_slices_at_their_clock_and_with_corrections_there() -> None:
    """Both shards have corrections at minute 2, and one of them lists a symbol more with them."""
    tape = changing(2, at_clock=True)
    backfill = next(one.frame for one in tape.frames[0] if one.frame.slice_corrections.any())
    (bars,) = {one.frame.bars for one in tape.frames[1] if one.frame.clock_ns == at_minute(2)}
    assert bars is not None
    late = replace(
        backfill, shard=1, symbols=("D",), rows=1, bars=bars, slice_rows=np.ones(1, np.int32),
        slice_corrections=np.ones(1, np.int32),
    )  # fmt: skip
    both = Tape(shards=2)
    both.frames[0] = tape.frames[0]
    for one in tape.frames[1]:
        both.put(one.frame)
        if one.frame.clock_ns == at_minute(2):
            both.put(late)
    seen = []
    for order in ([0, 1], [1, 0]):
        stream = SessionStream(reader=MemoryReader(both, order, chunk=100), start="first")
        seen.append([
            (one.ready_ns, one.corrections, "".join(one.symbols))
            for one in stream.slices()
            if one.ready_ns == at_minute(2)
        ])  # fmt: skip
    assert seen[0][0] == seen[1][0] == (at_minute(2), 0, "ACD")
    assert [(n, names) for _, n, names in seen[0][1:]] == [(2, "ABCD"), (1, "ABCD")]
    assert {n for _, n, _ in seen[1][1:]} <= {1, 2, 3}
    merger = Merger(2)
    for one in (one for frames in both.frames for one in frames):
        merger.add(one.frame, one.offset)
    there = [
        (part.corrections, "".join(part.symbols))
        for batch in merger.drain()
        for part in batch.slices()
        if part.ready_ns == at_minute(2)
    ]
    assert there == [(0, "ACD"), (3, "ABCD")]


def test_what_a_frame_with_rows_says_of_another_session_is_left_out() -> None:
    tape = Tape()
    tape.put(tape.event(0, "open", DAY))
    (frame,) = tape.rows(0, DAY)
    told = minutes_of(("S001", 1, 2, Status.MISSING), session="2030-01-01", loaded=True)
    tape.put(replace(frame, minutes=told))
    opened, rows = merged(tape)
    assert (opened.minutes, rows.minutes, len(rows.slice_ns)) == ((), (), 6)
    data = SessionData()
    data.apply(opened)
    status = data.get_minute_status("S001")
    assert (len(status["ts_ns"]), len(status["status"])) == (0, 0)
    assert data.get_quality_metric("S001") is None


def test_intervals_have_their_symbols_in_one_order() -> None:
    market = [full_day(["A", "C"], 6)]
    both = with_derived(changing(1, at_clock=True), [replace(market[0], label="2024-01-01")], (2,))
    stream = SessionStream(reader=MemoryReader(both), start="first", intervals=("1m", "2m"))
    list(stream.slices())
    data = stream.data
    assert data.symbols == ("A", "C", "D", "B")
    assert data.get_latest_bars(interval="2m")["ts_ns"].tolist() == [
        at_minute(4), at_minute(4), 0, 0
    ]  # fmt: skip
