"""Sessions from before a run: read beside the tape, whole, and the same for who joins late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import SessionData, SessionStream
from streams.client.reader import Reader
from streams.client.trailing import Days, TrailingReader
from streams.errors import BrokerError, HoleError
from streams.intervals import MINUTE_NS
from streams.positions import Delivered
from tests.derived import frame_of, longer_bars
from tests.frames import Day, MemoryReader, Tape, full_day, tape_of
from tests.unit.streams.client.answers import answers

OLD = [full_day(6, 6, number) for number in range(4)]
DAYS = [full_day(6, 6, number) for number in range(4, 7)]
NAMES = DAYS[0].symbols


def history_of(
    days: Iterable[Day], shards: int = 2, run: str = "run-1", *, ends: Iterable[int] | None = None
) -> Tape:
    """Old sessions on the history topic, newest first: minutes, then bars of 2 and 60 minutes."""
    tape = Tape(shards=shards, run=run)
    for shard in range(shards):
        for day in sorted(days, key=lambda day: day.label, reverse=True):
            put_day(tape, shard, day)
    for shard in range(shards) if ends is None else ends:
        tape.put(tape.event(shard, "end"))
    return tape


def put_day(tape: Tape, shard: int, day: Day) -> None:
    for frame in tape.rows(shard, day):
        tape.put(frame)
        for length in (2, 60):
            rows = [row for row in longer_bars(day, length) if row.symbol in frame.symbols]
            if rows:
                tape.put(replace(frame_of(frame, rows), bars=None))


def stream(
    tape: Tape | None = None, history: Reader | None = None, **arguments: Any
) -> SessionStream:
    arguments = {"start": "first", **arguments}
    return SessionStream(
        reader=MemoryReader(tape or tape_of(DAYS, 2, {0: [2], 1: [3]})),
        history_reader=history or MemoryReader(history_of(OLD)),
        **arguments,
    )


def past_of(data: SessionData, interval: str = "1m") -> list[int]:
    return [day.day for day in data.get_historical_bars("S001", interval=interval)]


def test_they_stand_before_the_sessions_of_the_run() -> None:
    found = stream()
    seen = [past_of(found.data) for batch in found.frames() if batch.event == "open"]
    assert seen == [[1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]
    data = found.data
    for number, day in zip((2, 3, 4), OLD[1:], strict=True):
        rows = data.get_historical_bars("S001")[date(2024, 1, number)]
        own = [row for row in day.rows if row.symbol == "S001"]
        assert rows["close"].tolist() == [row.close for row in own]
        assert rows["known_ns"].tolist() == [row.known_ns for row in own]
        for minutes, name in ((2, "2m"), (60, "1h")):
            longer = [row for row in longer_bars(day, minutes) if row.symbol == "S001"]
            bars = data.get_historical_bars("S001", interval=name).get(date(2024, 1, number))
            if minutes == 2:
                assert bars is not None
                assert bars["high"].tolist() == [row.high for row in longer]
            else:
                assert bars is None, "nobody said that there are bars of an hour"
    assert len(data.get_historical_bars("S001", 1)) == 1
    assert len(data.get_all_bars_including_historical("S001")) == 6 * 6
    assert len(data.get_all_bars_including_historical("S001", "2m")) == 3 * 3
    assert past_of(data, "6m") == [2, 3, 4], "bars as long as the session, of whatever length"


def test_a_length_that_is_read_tells_what_a_bar_was_meant_to_be() -> None:
    plain = tape_of(DAYS[:1])
    both = Tape(shards=2)
    for shard in range(2):
        both.frames[shard] = [
            Delivered(replace(one.frame, shard=shard), one.offset) for one in plain.frames[0]
        ]
    found = stream(both, MemoryReader(history_of(OLD, 1)), intervals=("1m", "1h"), symbols=["S001"])
    list(found.frames())
    hours = found.data.get_historical_bars("S001", interval="1h")
    assert [len(rows) for rows in hours.values()] == [1] * 4
    assert {int(rows["interval_ns"][0]) for rows in hours.values()} == {6 * MINUTE_NS}
    assert found.data.get_historical_bars("S002") == {}, "it is not wanted"


@settings(deadline=None, max_examples=40)
@given(data=st.data(), trailing=st.integers(0, 6))
def test_who_joins_late_answers_as_a_reader_from_the_start(
    data: st.DataObject, trailing: int
) -> None:
    tape = tape_of(DAYS, 2, {0: [2], 1: [3]})
    shown = {shard: data.draw(st.integers(0, len(f))) for shard, f in enumerate(tape.frames)}
    readers, streams = [], []
    for start in ("first", "session"):
        reader = MemoryReader(tape, shown=shown)
        readers.append(reader)
        streams.append(
            SessionStream(
                reader=reader,
                history_reader=MemoryReader(history_of(OLD)),
                start=start,
                data=SessionData(trailing_sessions=trailing),
            )
        )
    early, late = streams
    list(early.frames(timeout_s=0.0))
    list(late.frames(timeout_s=0.0))
    if early.data.get_current_session_date() is not None:
        assert answers(late.data, NAMES) == answers(early.data, NAMES)
    for reader in readers:
        reader.show()
    list(early.frames(timeout_s=0.0))
    list(late.frames(timeout_s=0.0))
    assert answers(late.data, NAMES) == answers(early.data, NAMES)
    assert len(past_of(late.data)) == trailing


def test_they_come_beside_the_tape_and_hold_up_nothing() -> None:
    history = MemoryReader(history_of(OLD), shown={0: 0, 1: 0}, chunk=99)
    found = stream(None, history)
    seen = []
    for batch in found.frames():
        if batch.event == "open":
            seen.append(past_of(found.data))
            # At first shard 1 has sent two sessions and shard 0 one.
            history.show(None if len(seen) > 1 else {0: 4, 1: 7})
        if batch.event == "close":
            seen.append(past_of(found.data))
    assert seen[0] == []
    assert [4] in seen or [4, 5] in seen
    assert seen[-1] == [2, 3, 4, 5, 6]
    assert not history.closed, "a seek may put another run in the place of this one"
    found.close()
    assert history.closed


def test_a_replica_with_a_history_or_without_trailing_sessions_reads_none() -> None:
    for data in (SessionData(history=lambda *_: []), SessionData(trailing_sessions=0)):
        found = stream(data=data)
        list(found.frames())
        assert 1 not in past_of(found.data)


def test_a_tape_that_was_cut_has_no_hole_in_its_past() -> None:
    """Where the first sessions of the run are gone, what was before them is left out."""
    tape = tape_of(DAYS, 2)

    class Cut(MemoryReader):
        def starts(self) -> dict[int, int]:
            return {
                shard: next(
                    one.offset
                    for one in frames
                    if (one.frame.event, one.frame.session) == ("open", DAYS[1].label)
                )
                for shard, frames in enumerate(tape.frames)
            }

    for start in ("session", "first"):
        found = SessionStream(
            reader=Cut(tape), history_reader=MemoryReader(history_of(OLD)), start=start
        )
        list(found.frames())
        assert past_of(found.data) == [6]


def test_who_begins_elsewhere_has_those_of_the_next_run_only() -> None:
    tape = tape_of(DAYS[:2], 2)
    tape.run, tape.command = "run-2", 2
    tape.start()
    tape.day(DAYS[2])
    tape.end()
    history = history_of(OLD[:1])
    history.run, history.command = "run-2", 2
    for shard in range(2):
        put_day(history, shard, OLD[3])
        history.put(history.event(shard, "end"))
    shown = dict.fromkeys(range(2), 3)
    reader = MemoryReader(tape, shown=shown)
    found = SessionStream(
        reader=reader, history_reader=MemoryReader(history, chunk=99), start="now", until="never"
    )
    reader.show()
    seen: dict[str, list[int]] = {}
    for batch in found.frames(timeout_s=0.0):
        seen[batch.run] = past_of(found.data)
    assert 1 not in seen["run-1"]
    assert seen["run-2"] == [4]


def test_a_session_waits_for_every_shard() -> None:
    days = Days(2)
    whole = history_of(OLD[2:], 2)
    first, second = whole.frames
    for one in first:
        days.add(one.frame)
    assert [*days.take("run-1")] == []
    for one in second[:-1]:
        days.add(one.frame)
    assert [label for label, _ in days.take("run-1")] == [OLD[3].label]
    assert not days.is_over("run-1")
    days.add(second[-1].frame)
    assert [label for label, _ in days.take("run-1")] == [OLD[2].label]
    assert days.is_over("run-1")
    assert [*days.take("run-1")] == []
    assert [*days.take("other")] == []
    assert not days.is_over("other")


def test_a_session_without_any_bar_is_a_session() -> None:
    day = OLD[3]
    tape = Tape(shards=1)
    tape.put(tape.event(0, "rows", day, clock_ns=day.close_ns))
    tape.put(tape.event(0, "end"))
    plain = tape_of(DAYS, 1)
    found = stream(plain, MemoryReader(tape))
    list(found.frames())
    assert past_of(found.data) == [5, 6]
    assert found.data._state.past[0].session == day.label
    assert list(found.data._state.past[0].views) == []
    assert len(found.data._state.past[0].views) == 0


class Failing(MemoryReader):
    """A history topic that is cut while it is read, or that nobody may read on."""

    error: Exception
    times = 1

    def poll(self, timeout_s: float = 1.0) -> list[Delivered]:
        if self.times:
            self.times -= 1
            raise self.error
        return super().poll(timeout_s)


def test_a_history_that_was_cut_is_read_from_where_it_begins_now() -> None:
    history = Failing(history_of(OLD))
    history.error = HoleError("offset", topic="h", partition=0, expected=0, got=3)
    found = stream(None, history)
    list(found.frames())
    assert past_of(found.data) == [2, 3, 4, 5, 6]


def test_a_history_that_fails_is_let_go_and_the_tape_goes_on() -> None:
    history = Failing(history_of(OLD))
    history.error = BrokerError("not authorized")
    found = stream(None, history)
    list(found.frames())
    assert past_of(found.data) == [5, 6]
    assert history.closed
    reader = TrailingReader(Failing(history_of(OLD)))
    reader.close()
    assert not reader.poll("run-1")


def test_readers_that_fail_at_the_start_are_closed() -> None:
    class Broken(MemoryReader):
        def last(self) -> dict[int, Delivered | None]:
            msg = "no answer"
            raise BrokerError(msg)

    reader, history = MemoryReader(tape_of(DAYS)), Broken(history_of(OLD))
    with pytest.raises(BrokerError, match="no answer"):
        SessionStream(reader=reader, history_reader=history)
    assert reader.closed
    assert history.closed
    reader, history = Broken(tape_of(DAYS)), Broken(history_of(OLD))
    history.last = lambda: {}  # type: ignore[method-assign]
    with pytest.raises(BrokerError, match="no answer"):
        SessionStream(reader=reader, history_reader=history)
    assert reader.closed
    assert history.closed


def test_a_revision_takes_the_place_of_what_was_before_it() -> None:
    day = OLD[0]
    better = replace(day.rows[1], close=99.0, revision=1, known_ns=day.close_ns, is_late=True)
    rows = sorted([*day.rows, better], key=lambda row: row.order)
    found = stream(
        tape_of(DAYS[:1], 1), MemoryReader(history_of([replace(day, rows=tuple(rows))], 1))
    )
    list(found.frames())
    bars = found.data.get_historical_bars("S001")[date(2024, 1, 1)]
    assert bars["close"][0] == 99.0
    assert np.diff(bars["ts_ns"]).tolist() == [MINUTE_NS] * 5
    mapping: Mapping[Any, Any] = found.data._state.past[0].views
    assert set(mapping) == {1, "1m", 2, "2m", 6, "6m"}
