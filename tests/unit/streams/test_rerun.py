"""A run told again is the run it was, for whoever reads it; where it stands is its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import count

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Command, Frame
from schemas.records import RawPosition
from streams.digest import Digest
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.rerun import Rerun, is_due, start_before
from tests.unit.streams.shards import CODEC, TOPICS, Stage, block, command, decoded, plan_for

OPEN_NS = plan_for(command(), 0, 1).sessions[0].open_ns
OWN = {
    *("run", "frame", "first_row", "open_offset", "positions"),
    *("state", "speed", "command"),
}
AGAIN = command(run="again", version=9)


@st.composite
def tapes(draw: st.DrawFn) -> list[Frame]:
    """Two sessions of a live run: rows come in time, late, again in a later revision, or not."""
    revisions = count()
    begun = {"mode": "live", "speed": 1.0, "anchor_wall_ns": OPEN_NS, "anchor_clock_ns": OPEN_NS}
    stage = Stage(command(end="2024-11-29", lateness_s=2.0, session_timeout_s=30.0, **begun))
    for number, session in enumerate(stage.plan.sessions):
        stage.wall_ns = session.open_ns
        stage.run()
        for minute in range(1, 6):
            stage.wall_ns = session.open_ns + minute * MINUTE_NS
            for _ in range(draw(st.integers(0, 3))):
                of = draw(st.integers(0, minute - 1))
                names = draw(st.lists(st.sampled_from(stage.plan.symbols), min_size=1, unique=True))
                again = next(revisions)
                stage.send(block([stage.row(of, name, number, again) for name in sorted(names)]))
                stage.run(draw(st.sampled_from([0.0, 1.0, 3.0])))
        stage.wall_ns = session.close_ns + 60 * SECOND_NS
        stage.run()
    return stage.tape


def told(
    frames: Sequence[Frame], again: Command = AGAIN, last: Frame | None = None
) -> tuple[Rerun, list[tuple[int, Frame]]]:
    """Tell frames again, each in a transaction of its own, behind ``last``."""
    rerun = Rerun(0, 1, again.run, last, TOPICS.values())
    found = []
    for number, frame in enumerate(frames):
        offset = 100 + 2 * number
        value = CODEC.encode(rerun.tell(frame, again), "again.session")
        found.append((offset, decoded(value)))
        if frame.event == "open":
            rerun.opened(offset)
    return rerun, found


def digests(frames: Sequence[Frame]) -> tuple[str, str]:
    digest = Digest()
    for frame in frames:
        digest.add(frame)
    return digest.final(), digest.as_known()


@settings(deadline=None, max_examples=60)
@given(tapes())
def test_what_readers_see_stays_and_where_it_stands_is_its_own(frames: list[Frame]) -> None:
    before = replace(
        frames[-1],
        run="before",
        frame=41,
        first_row=500,
        rows=7,
        positions=(RawPosition("again.raw.bars", 0, 12, 3),),
    )
    _, found = told(frames, last=before)
    again = [frame for _, frame in found]
    assert digests(again) == digests(frames)
    opened, row = -1, 507
    for number, (old, (offset, new)) in enumerate(zip(frames, found, strict=True)):
        for name in {field.name for field in fields(Frame)} - OWN:
            assert_same(getattr(old, name), getattr(new, name))
        assert (new.run, new.command, new.speed) == ("again", 9, 0.0)
        assert (new.frame, new.first_row) == (42 + number, row)
        assert new.positions == before.positions
        assert new.open_offset == (-1 if old.open_offset < 0 else opened)
        row += new.rows
        opened = offset if new.event == "open" else opened


def assert_same(old: object, new: object) -> None:
    """Compare values, columns too, as they come over the wire."""
    if isinstance(old, np.ndarray):
        np.testing.assert_array_equal(old, new)
    elif hasattr(old, "columns"):
        for name in old.columns:
            assert_same(getattr(old, name), getattr(new, name))
    else:
        assert old == new


def whole() -> list[Frame]:
    stage = Stage()
    for number in range(len(stage.plan.sessions)):
        stage.send(*stage.all_of(number))
        stage.run()
    return stage.tape


def test_an_empty_tape_has_looked_at_nothing() -> None:
    _, found = told(whole())
    first = found[0][1]
    assert (first.event, first.frame, first.first_row) == ("start", 0, 0)
    assert first.positions == tuple(RawPosition(topic, 0, 0, 0) for topic in TOPICS.values())


def test_a_run_without_its_start_begins_with_a_session() -> None:
    frames = whole()
    at = [number for number, frame in enumerate(frames) if frame.event == "open"][1]
    kept = [start_before(frames[at]), *frames[at:]]
    _, found = told(kept)
    assert digests([frame for _, frame in found]) == digests(frames[at:])
    start, opened = found[0][1], found[1][1]
    assert (start.event, start.session, start.rows, start.minutes) == ("start", "", 0, None)
    assert (start.clock_ns, start.open_ns) == (opened.open_ns, opened.open_ns)
    assert (start.open_offset, opened.open_offset) == (-1, -1)


def test_a_run_that_goes_on_ends_where_it_stands() -> None:
    frames = whole()
    at = next(number for number, frame in enumerate(frames) if frame.event == "rows")
    rerun, found = told(frames[: at + 1])
    last = found[-1][1]
    end = rerun.end(AGAIN, "no more")
    assert end is not None
    assert (end.event, end.state, end.session, end.reason) == ("end", "stopped", "", "no more")
    assert (end.rows, len(end.slice_ns), end.bars, end.symbols) == (0, 0, None, ())
    assert (end.frame, end.first_row) == (last.frame + 1, last.first_row + last.rows)
    assert (end.clock_ns, end.open_offset) == (last.clock_ns, last.open_offset)
    assert Rerun(0, 1, "again", None, ()).end(AGAIN, "nothing was told") is None


def test_state_and_speed_are_those_of_this_tape() -> None:
    plan, frames = plan_for(AGAIN, 0, 1), whole()
    paused = plan_for(replace(AGAIN, version=10, paused=True, speed=60.0), 0, 1)
    assert Rerun(0, 1, "again", None, ()).news(paused) is None
    names = [(frame.event, frame.waiting) for frame in frames]
    for event, waits in (("start", True), ("open", False), ("rows", False), ("roll", True)):
        at = names.index((event, False))
        rerun, found = told(frames[: at + 1])
        last = found[-1][1]
        assert rerun.news(plan) is None
        news = rerun.news(paused)
        assert news is not None
        assert (news.event, news.waiting, news.rows) == ("rows", waits, 0)
        assert (news.state, news.speed, news.command) == ("paused", 60.0, 10)
        assert news.session == (last.session or plan.sessions[0].label)
        assert (news.clock_ns, news.open_offset) == (last.clock_ns, last.open_offset)
        assert rerun.news(paused) is None
    rerun, _ = told(frames)
    assert rerun.news(paused) is None  # it is over


def test_a_frame_is_due_when_its_clock_has_come() -> None:
    frames = whole()
    start, opened = frames[0], next(frame for frame in frames if frame.event == "open")
    rows = next(frame for frame in frames if frame.event == "rows" and frame.rows)
    waits = replace(rows, waiting=True, session="2024-12-02")
    wall_ns = AGAIN.anchor_wall_ns
    at_speed = plan_for(replace(AGAIN, speed=60.0), 0, 1)
    later_ns = wall_ns + (rows.clock_ns - rows.open_ns) // 60
    assert is_due(at_speed, start, wall_ns - 1)
    assert is_due(at_speed, waits, wall_ns - 1)
    assert not is_due(at_speed, opened, wall_ns - 1)
    assert is_due(at_speed, opened, wall_ns)
    assert not is_due(at_speed, rows, later_ns - 1)
    assert is_due(at_speed, rows, later_ns)
    assert is_due(plan_for(AGAIN, 0, 1), rows, wall_ns)  # as fast as it goes
    paused = plan_for(replace(AGAIN, speed=60.0, paused=True), 0, 1)
    assert not is_due(paused, opened, later_ns)
