"""A reader that joins late, over a tape in memory that is cut, halted and begun again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import SessionData, SessionStream
from streams.client import Batch, Trailing, joining
from streams.client.rows import bar_rows
from streams.errors import BrokerError, HoleError
from streams.intervals import MINUTE_NS
from streams.positions import Delivered
from tests.frames import DAY_NS, OPEN_NS, MemoryReader, Row, Tape, full_day, tape_of
from tests.unit.streams.client.answers import answers

LATE = Row(OPEN_NS + DAY_NS + 4 * MINUTE_NS, "S001", OPEN_NS + DAY_NS, 9.0, 1.0, 1, is_late=True)
DAYS = [full_day(6, 5, number, late=[LATE] if number == 1 else []) for number in range(5)]
NAMES = DAYS[0].symbols
CUTS = {0: [1, 3], 1: [2], 2: [4]}


class CutReader(MemoryReader):
    """A tape that is cut, by now or when it has been polled so many times."""

    def __init__(self, tape: Tape, shown: Mapping[int, int] | None = None) -> None:
        super().__init__(tape, shown=shown)
        self.low = super().starts()
        self.to_cut: dict[int, Mapping[int, int]] = {}
        self.polls = 0
        self.assigned: list[dict[int, int]] = []

    def starts(self) -> dict[int, int]:
        return dict(self.low)

    def assign(self, offsets: Mapping[int, int]) -> None:
        self.assigned.append(dict(offsets))
        super().assign(offsets)

    def poll(self, timeout_s: float = 1.0) -> list[Delivered]:
        self.polls += 1
        self.low.update(self.to_cut.pop(self.polls, {}))
        for shard, offset in self._next.items():
            if offset < self.low[shard]:
                raise HoleError(
                    "offset", topic="t", partition=shard, expected=offset, got=self.low[shard]
                )
        return super().poll(timeout_s)


def opens(tape: Tape, number: int, run: str = "run-1") -> dict[int, int]:
    """Return the offsets of the open frames of a day."""
    return {
        shard: next(
            d.offset
            for d in frames
            if (d.frame.event, d.frame.session, d.frame.run) == ("open", DAYS[number].label, run)
        )
        for shard, frames in enumerate(tape.frames)
    }


def shown_in(tape: Tape, number: int, more: int = 2) -> dict[int, int]:
    """Return how many frames there are, a few behind the open of a day."""
    offsets = opens(tape, number)
    return {
        shard: more + sum(d.offset <= offsets[shard] for d in frames)
        for shard, frames in enumerate(tape.frames)
    }


def taken(stream: SessionStream) -> list[Batch]:
    return list(stream.frames(timeout_s=0.0))


def rows(batches: list[Batch]) -> list[Any]:
    return [(row.known_ns, row.symbol, row.close) for batch in batches for row in bar_rows(batch)]


def past_of(data: SessionData) -> list[int]:
    return [day.day for day in data.get_historical_bars("S001")]


@settings(deadline=None, max_examples=60)
@given(data=st.data(), shards=st.integers(1, 3), trailing=st.integers(0, 3))
def test_wherever_it_joins_it_answers_as_a_reader_from_the_start(
    data: st.DataObject, shards: int, trailing: int
) -> None:
    tape = tape_of(DAYS, shards, CUTS)
    shown = {shard: data.draw(st.integers(0, len(f))) for shard, f in enumerate(tape.frames)}
    readers = [MemoryReader(tape, shown=shown) for _ in range(2)]
    early, late = (
        SessionStream(reader=reader, start=start, data=SessionData(trailing_sessions=trailing))
        for reader, start in zip(readers, ("first", "session"), strict=True)
    )
    taken(early)
    position = late.position
    batches = taken(late)
    if early.data.get_current_session_date() is not None:
        assert answers(late.data, NAMES) == answers(early.data, NAMES)
        assert late.data.caught_up
        assert batches[0].event == "open"
        assert date.fromisoformat(batches[0].session) == early.data.get_current_session_date()
        # What it stood at before the first batch is a start too.
        again = SessionStream(reader=MemoryReader(tape, shown=shown), start=position)
        assert rows(taken(again)) == rows(batches)
    for reader in readers:
        reader.show()
    taken(early)
    taken(late)
    assert answers(late.data, NAMES) == answers(early.data, NAMES)


@pytest.mark.parametrize("way", ["frames", "slices", "rows"])
def test_only_the_running_session_is_given_out(way: str) -> None:
    tape = tape_of(DAYS, 2, CUTS)
    stream = SessionStream(reader=MemoryReader(tape, shown=shown_in(tape, 3)))
    for one in getattr(stream, way)(timeout_s=0.0):
        assert one.session == DAYS[3].label
        assert past_of(stream.data) == [1, 2, 3]


def test_no_more_is_read_than_the_replica_keeps() -> None:
    tape = tape_of(DAYS, 2, CUTS)
    for trailing, first in ((0, 4), (1, 3), (2, 2), (9, 0)):
        reader = CutReader(tape)
        stream = SessionStream(reader=reader, data=SessionData(trailing_sessions=trailing))
        assert reader.assigned[-1] == opens(tape, first)
        assert dict(stream.position) == opens(tape, 4)
        taken(stream)
        assert past_of(stream.data) == [n + 1 for n in range(first, 4)]


def test_a_replica_with_a_history_asks_that() -> None:
    tape = tape_of(DAYS, 2, CUTS)
    asked = []

    def history(before: str, sessions: int, clock_ns: int) -> list[Trailing]:
        asked.append((before, sessions, clock_ns))
        return []

    stream = SessionStream(reader=MemoryReader(tape), data=SessionData(history=history))
    taken(stream)
    assert asked == [(DAYS[4].label, 5, DAYS[4].open_ns)]
    assert past_of(stream.data) == []


def two_runs(shards: int) -> Tape:
    tape = tape_of(DAYS[:3], shards, CUTS)
    tape.run, tape.command = "run-2", 2
    tape.start()
    for number in (1, 2, 3):
        tape.day(DAYS[number], roll=number > 1)
    tape.end()
    return tape


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_sessions_of_an_earlier_run_are_not_those_before_this_one(shards: int) -> None:
    tape = two_runs(shards)
    stream = SessionStream(reader=MemoryReader(tape))
    early = SessionStream(reader=MemoryReader(tape), start="first", run="run-2")
    taken(stream)
    taken(early)
    assert past_of(stream.data) == [2, 3]
    assert answers(stream.data, NAMES) == answers(early.data, NAMES)
    other = SessionStream(reader=MemoryReader(tape), run="run-1")
    assert taken(other) == []


def test_shards_in_two_runs_stand_in_the_later_one() -> None:
    tape = two_runs(2)
    in_second = {
        0: 3 + sum(d.offset < opens(tape, 1, "run-2")[0] for d in tape.frames[0]),
        1: sum(d.frame.run == "run-1" for d in tape.frames[1]),
    }
    reader = MemoryReader(tape, shown=in_second)
    stream = SessionStream(reader=reader)
    assert taken(stream) == []
    reader.show()
    assert {batch.run for batch in taken(stream)} == {"run-2"}
    assert past_of(stream.data) == [2, 3]


def test_a_session_that_is_kept_in_part_is_left_out() -> None:
    tape = tape_of(DAYS, 2, CUTS)
    for cut, whole in (
        ({0: 1}, [3, 4]),  # the second session lacks its open frame in one shard
        ({0: 1, 1: 1}, [3, 4]),
        ({1: 0}, [2, 3, 4]),  # the first lacks nothing behind its open frame but in one shard
    ):
        reader = CutReader(tape)
        low = opens(tape, 1)
        reader.low.update({shard: low[shard] + more for shard, more in cut.items()})
        stream = SessionStream(reader=reader)
        taken(stream)
        assert past_of(stream.data) == whole
    reader = CutReader(tape)
    reader.low[0] = opens(tape, 4)[0] + 1
    stream = SessionStream(reader=reader)
    assert joining.joined(reader, reader.last(), 5) is None


def test_what_is_cut_while_it_is_read_is_left_out() -> None:
    """The tape is cut at another open frame before each poll in turn, once or twice."""
    tape = tape_of(DAYS, 2, CUTS)
    whole = CutReader(tape)
    taken(SessionStream(reader=whole))
    seen = set()
    for at, times in product(range(1, whole.polls), (1, 2)):
        reader = CutReader(tape)
        cuts = [(at, opens(tape, 1)), (at + 3, opens(tape, 2))]
        reader.to_cut = dict(cuts[:times])
        stream = SessionStream(reader=reader)
        position = stream.position
        batches = taken(stream)
        assert dict(position) == opens(tape, 4)
        assert batches[0].event == "open"
        assert {b.session for b in batches[:-1]} == {DAYS[4].label}
        past = past_of(stream.data)
        assert past == list(range(5 - len(past), 5))
        assert len(past) >= 2
        early = SessionStream(
            reader=MemoryReader(tape),
            start="first",
            data=SessionData(trailing_sessions=len(past)),
        )
        taken(early)
        assert answers(stream.data, NAMES) == answers(early.data, NAMES)
        seen.add(len(past))
    assert seen == {2, 3, 4}


@pytest.mark.parametrize("start", ["first", OPEN_NS])
def test_who_begins_with_the_first_begins_where_that_is_when_it_reads(start: Any) -> None:
    tape = tape_of(DAYS, 2, CUTS)
    reader = CutReader(tape)
    reader.to_cut = {1: opens(tape, 1)}
    stream = SessionStream(reader=reader, start=start, data=SessionData(trailing_sessions=3))
    batches = taken(stream)
    assert [b.session for b in batches if b.event == "open"] == [day.label for day in DAYS[1:]]
    assert stream.data.caught_up
    whole = SessionStream(
        reader=MemoryReader(tape), start="first", data=SessionData(trailing_sessions=3)
    )
    taken(whole)
    assert answers(stream.data, NAMES) == answers(whole.data, NAMES)
    # What was cut behind the first that it was given is a hole, and so is all that it needs.
    for at in (4, 9):
        reader = CutReader(tape)
        reader.to_cut = {at: opens(tape, 4)}
        stream = SessionStream(reader=reader, start=start)
        with pytest.raises(HoleError):
            taken(stream)


def test_a_shard_whose_last_frame_is_cut_with_the_first_is_not_waited_for() -> None:
    tape = tape_of(DAYS, 2, CUTS)
    reader = CutReader(tape, shown=shown_in(tape, 0))
    reader.to_cut = {1: opens(tape, 1)}
    stream = SessionStream(reader=reader, start="first")
    assert not stream.data.caught_up
    taken(stream)
    assert stream.data.caught_up


def test_a_hole_in_the_running_session_is_an_error() -> None:
    tape = tape_of(DAYS, 2, CUTS)
    # All that it needs is cut while it joins, while it reads what is before, and behind that.
    gone = {shard: offset + 1 for shard, offset in opens(tape, 4).items()}
    whole = CutReader(tape)
    stream = SessionStream(reader=whole)
    joined_at = whole.polls
    taken(stream)
    for at in (joined_at + 2, whole.polls - 8):
        reader = CutReader(tape)
        reader.to_cut = {at: gone}
        stream = SessionStream(reader=reader)
        with pytest.raises(HoleError):
            taken(stream)


def test_a_hole_that_no_cut_explains_is_an_error() -> None:
    class Broken(CutReader):
        def poll(self, timeout_s: float = 1.0) -> list[Delivered]:
            raise HoleError("row", topic="t", partition=0, expected=1, got=2)

    reader = Broken(tape_of(DAYS))
    with pytest.raises(HoleError, match="row 1"):
        SessionStream(reader=reader)
    assert reader.closed


def test_ends_of_transactions_between_the_frames_are_looked_past() -> None:
    tape = Tape(gap=40)
    tape.start()
    for number, day in enumerate(DAYS):
        tape.day(day, roll=number > 0)
    stream = SessionStream(reader=MemoryReader(tape))
    taken(stream)
    assert past_of(stream.data) == [1, 2, 3, 4]


def test_frames_that_do_not_come_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(CutReader):
        def poll(self, timeout_s: float = 1.0) -> list[Delivered]:
            return []

    monkeypatch.setattr(joining, "DEADLINE_S", 0.0)
    reader = Mute(tape_of(DAYS))
    with pytest.raises(BrokerError, match="did not come in 0 s"):
        SessionStream(reader=reader)
    assert reader.closed


def test_who_joins_again_with_the_same_replica_has_nothing_twice() -> None:
    tape = tape_of(DAYS, 2, CUTS)
    data = SessionData(trailing_sessions=2)
    for number, more in ((1, 2), (2, 1), (2, 3), (4, 2)):
        shown = shown_in(tape, number, more)
        found: list[Any] = []
        for kept, start in ((data, "session"), (SessionData(trailing_sessions=2), "first")):
            stream = SessionStream(reader=MemoryReader(tape, shown=shown), start=start, data=kept)
            taken(stream)
            found.append(answers(kept, NAMES))
        assert found[0] == found[1]


def test_a_run_that_was_stopped_before_its_first_session_has_nothing_to_join() -> None:
    for ended in ((0, 1), (1,)):
        tape = tape_of(DAYS[:1], 2, CUTS)
        tape.run, tape.command, tape._opened = "run-2", 2, [-1, -1]
        tape.start()
        for shard in ended:
            tape.put(tape.event(shard, "end"))
        stream = SessionStream(reader=MemoryReader(tape))
        assert [b.event for b in taken(stream)] == ["end"] * (len(ended) == 2)
        assert past_of(stream.data) == []


def test_an_open_frame_of_another_run_is_none_of_this_one() -> None:
    tape = tape_of(DAYS[:1], 2, CUTS)
    tape.run, tape.command = "run-2", 2
    for shard in (0, 1):
        tape.put(tape.event(shard, "end"))
    reader = MemoryReader(tape)
    assert joining.joined(reader, reader.last(), 5) is None
