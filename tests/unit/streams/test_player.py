"""One shard of a player, over lists in place of a broker: what goes out, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from schemas import Command, Frame
from streams.intervals import SECOND_NS
from streams.kept import Seen, kept_run
from streams.player import Lane
from streams.positions import Delivered
from tests.frames import Tape, full_day, tape_of
from tests.unit.streams.shards import Stage, command, plan_for

AGAIN = command(run="again", version=9, readers=("reader",), trailing_sessions=1)
WALL_NS = AGAIN.anchor_wall_ns


class Reader:
    """Gives the frames of a tape, a few a poll."""

    def __init__(self, frames: Sequence[Delivered], chunk: int = 3) -> None:
        self._frames, self._chunk, self._at = frames, chunk, 0

    def assign(self, offsets: dict[int, int]) -> None:
        self._at = offsets[0]

    def poll(self, timeout_s: float) -> list[Delivered]:
        found = [one for one in self._frames if one.offset >= self._at][: self._chunk]
        self._at = found[-1].offset + 1 if found else self._at
        return found


class Writer:
    """Keeps what is released; a transaction's end takes an offset of its own."""

    def __init__(self) -> None:
        self.releases: list[list[tuple[int, Frame]]] = []
        self._end = 0

    def open(self) -> None:
        return None

    def release(self, frames: Sequence[Frame]) -> tuple[int, ...]:
        offsets = tuple(range(self._end, self._end + len(frames)))
        self.releases.append([*zip(offsets, frames, strict=True)])
        self._end += len(frames) + 1
        return offsets

    @property
    def story(self) -> list[str]:
        return [frame.event for release in self.releases for _, frame in release]


class Stand:
    """A lane with its tape, and a reader of what it writes that stands where a test says."""

    def __init__(self, tape: Sequence[Delivered], until: int | None = None) -> None:
        runs: dict[str, Seen] = {}
        for one in tape[:until]:
            runs.setdefault(one.frame.run, Seen(0)).add(one.frame, one.offset)
        reader: Any = Reader(tape)
        self.writer = Writer()
        writer: Any = self.writer
        self.passed = 2**62
        self.asked: list[tuple[int, Sequence[str]]] = []
        self.lane = Lane(kept_run([runs], "name"), 0, reader, writer, self.passed_at)
        self.lane.take_over("again", ("again.raw.bars",))

    def passed_at(self, shard: int, groups: Sequence[str]) -> int:
        self.asked.append((shard, groups))
        return self.passed

    def go(self, desired: Command = AGAIN, wall_ns: int = WALL_NS) -> None:
        while not self.lane.is_over and self.lane.step(desired, wall_ns):
            pass


@pytest.fixture
def tape() -> list[Delivered]:
    """Three sessions of a replay, as the shard of the stage made them."""
    stage = Stage()
    for number in range(len(stage.plan.sessions)):
        stage.send(*stage.all_of(number))
        stage.run()
    return [Delivered(frame, 2 * number) for number, frame in enumerate(stage.tape)]


def test_all_goes_out_and_an_open_ends_its_transaction(tape: list[Delivered]) -> None:
    stand = Stand(tape)
    stand.go()
    assert stand.writer.story == [one.frame.event for one in tape]
    assert stand.lane.is_over
    assert stand.lane.began_at == 0
    ends = [release[-1][1].event for release in stand.writer.releases]
    assert sum("open" in [frame.event for _, frame in r] for r in stand.writer.releases) == 3
    assert ends.count("open") == 3
    opened = -1
    for release in stand.writer.releases:
        for offset, frame in release:
            assert frame.open_offset == (-1 if frame.event == "open" else opened)
            opened = offset if frame.event == "open" else opened


def test_a_session_opens_when_the_readers_have_passed_the_one_before(
    tape: list[Delivered],
) -> None:
    stand = Stand(tape)
    stand.passed = 0
    stand.go()
    assert stand.writer.story.count("open") == 1
    assert stand.writer.story[-1] == "roll"
    assert stand.asked[-1] == (0, ("reader",))
    stand.passed = next(
        offset for release in stand.writer.releases for offset, f in release if f.event == "open"
    )
    stand.go()
    assert stand.writer.story.count("open") == 2
    stand.passed = 2**62
    stand.go()
    assert stand.lane.is_over


def test_frames_go_out_when_their_clock_has_come() -> None:
    day = full_day(["AA", "BB", "CC"], 5)
    plan = plan_for(AGAIN, 0, 1)
    session = plan.sessions[0]
    moved = replace(day, label=session.label, open_ns=session.open_ns, rows=())
    made = Tape(cuts={0: (1, 2, 3, 4)})
    made.start()
    made.day(moved)
    made.end()
    stand = Stand(made.frames[0])
    slow = replace(AGAIN, speed=1.0)
    stand.go(slow, WALL_NS - 1)
    assert stand.writer.story == ["start"]
    stand.go(slow, WALL_NS)
    assert stand.writer.story == ["start", "open"]
    stand.go(slow, WALL_NS + 120 * SECOND_NS)
    assert stand.writer.story[2:] == ["rows"] * 2
    anchored: dict[str, Any] = {
        "anchor_wall_ns": WALL_NS,
        "anchor_clock_ns": session.open_ns + 120 * SECOND_NS,
    }
    paused = replace(slow, version=10, paused=True, **anchored)
    stand.go(paused, WALL_NS + 600 * SECOND_NS)
    said = stand.writer.releases[-1][-1][1]
    assert (said.event, said.state, said.rows, len(said.slice_ns)) == ("rows", "paused", 0, 0)
    before = len(stand.writer.story)
    stand.go(replace(paused, version=11, paused=False), WALL_NS + 60 * SECOND_NS)
    assert stand.writer.story[before:] == ["rows"]
    stand.go(replace(paused, version=12, paused=False), WALL_NS + 600 * SECOND_NS)
    assert stand.lane.is_over


def test_a_run_that_is_stopped_ends(tape: list[Delivered]) -> None:
    stand = Stand(tape)
    stand.passed = 0
    stand.go()
    stand.go(replace(AGAIN, version=10, stopped=True))
    last = stand.writer.releases[-1][-1][1]
    assert (last.event, last.reason, last.command) == ("end", "stopped by command", 10)
    assert stand.lane.is_over


def test_one_that_is_stopped_before_it_begins_begins_and_ends(tape: list[Delivered]) -> None:
    stand = Stand(tape)
    stand.go(replace(AGAIN, stopped=True))
    assert stand.writer.story == ["start", "end"]


def test_what_is_no_longer_there_or_not_yet_is_not_played() -> None:
    tape = tape_of([full_day(["AA", "BB", "CC"], 5)]).frames[0]
    session = plan_for(AGAIN, 0, 1).sessions[0]
    times: dict[str, Any] = {
        "session": session.label,
        "open_ns": session.open_ns,
        "close_ns": session.close_ns,
    }
    named = [
        Delivered(replace(one.frame, **times) if one.frame.session else one.frame, one.offset)
        for one in tape
    ]
    stand = Stand(named[1:], until=2)  # from the open to the last frame before the close
    stand.go()
    assert stand.writer.story == ["start", "open", "rows", "end"]
    last = stand.writer.releases[-1][-1][1]
    assert last.reason == "its tape held no more of it"
