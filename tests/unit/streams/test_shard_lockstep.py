"""A shard in lock-step: one slice a release, and none before the last is taken."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.streams.shards import Stage, bar, command, coverage, delivered

GROUPS = ("one", "two")


def staged(**changes: object) -> Stage:
    """Three sessions, in the first a bar between two minutes."""
    stage = Stage(command(**{"lockstep": GROUPS, **changes}))
    odd = stage.row(0)
    between = (odd[0], odd[1] + 1, odd[2], 0)
    for session in range(3):
        stage.send(*stage.all_of(session)[:-1])
        if session == 0:
            stage.send(bar(between))
        stage.send(coverage(stage.plan, session))
    return stage


def steps(stage: Stage) -> list[list[int]]:
    """The slices of each release."""
    found = []
    while (release := stage.shard.advance(stage.wall_ns)) is not None:
        stage.worker.commit(release)
        found.append([int(ns) for frame in release.frames for ns in frame.slice_ns])
    return found


def test_a_release_holds_one_slice_and_the_rows_are_those_of_any_run() -> None:
    stage, plain = staged(), staged(lockstep=())
    slices = steps(stage)
    assert max(map(len, slices)) == 1
    assert len([one for one in slices if one]) == 3 * 5 + 1
    plain.run()
    assert [one.row for one in delivered(stage.tape)] == [one.row for one in delivered(plain.tape)]
    assert stage.story[-1] == "end"


def test_nothing_goes_out_before_all_have_taken_what_is_out() -> None:
    stage = staged()
    for _ in range(3):
        stage.worker.commit(stage.shard.advance(stage.wall_ns))  # type: ignore[arg-type]
    before = len(stage.tape)
    assert stage.shard.advance(stage.wall_ns, may_go=False) is None
    assert len(stage.tape) == before
    # Who pauses it meanwhile is told so, and a stop ends it.
    stage.order(lockstep=GROUPS, paused=True)
    told = stage.shard.advance(stage.wall_ns, may_go=False)
    assert told is not None
    stage.worker.commit(told)
    assert [(f.event, f.rows, f.state) for f in told.frames] == [("rows", 0, "paused")]
    stage.order(lockstep=GROUPS, stopped=True)
    ended = stage.shard.advance(stage.wall_ns, may_go=False)
    assert ended is not None
    assert [frame.event for frame in ended.frames] == ["end"]


def test_who_is_left_out_stands_in_every_frame_until_the_next_run() -> None:
    stage = staged()
    stage.worker.commit(stage.shard.advance(stage.wall_ns))  # type: ignore[arg-type]
    stage.shard.tape.left_out += ("two",)
    stage.run()
    assert {frame.left_out for frame in stage.tape[1:]} == {("two",)}
    stage.crash()
    assert stage.shard.tape.left_out == ("two",)
    stage.order(run="run-2", lockstep=GROUPS)
    stage.run()
    assert stage.tape[-1].left_out == ()


@settings(max_examples=60, deadline=None)
@given(may=st.lists(st.sampled_from(["go", "wait", "crash"]), max_size=60))
def test_whoever_waits_and_crashes_the_tape_is_the_same(may: list[str]) -> None:
    stage, plain = staged(), staged()
    for what in may:
        if what == "crash":
            stage.crash()
        release = stage.shard.advance(stage.wall_ns, may_go=what == "go")
        if release is not None:
            assert what == "go" or release.frames[0].event == "start"
            stage.worker.commit(release)
    stage.run()
    plain.run()
    assert [one.row for one in delivered(stage.tape)] == [one.row for one in delivered(plain.tape)]
    assert max(len(frame.slice_ns) for frame in stage.tape) == 1
