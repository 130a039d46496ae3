"""One shard of the tape, step by step."""

from __future__ import annotations

import pytest

from streams.errors import CalendarError
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.topics import shard_of
from tests.unit.streams.shards import (
    RUN,
    TOPICS,
    WALL_NS,
    Partition,
    Stage,
    Worker,
    bar,
    block,
    command,
    coverage,
    delivered,
)


def test_a_whole_run() -> None:
    stage = Stage()
    idle = [stage.shard.is_idle]
    assert stage.shard.due_ns() is None
    stage.run()
    assert stage.story == ["start"]
    idle.append(stage.shard.is_idle)
    for session in range(3):
        stage.send(*stage.all_of(session))
        stage.run()
    labels = ["2024-11-27", "2024-11-29", "2024-12-02"]
    assert stage.story == [
        "start",
        *(f"{event} {labels[0]}" for event in ("open", "rows", "close")),
        *(f"{event} {labels[1]}" for event in ("roll", "open", "rows", "close")),
        *(f"{event} {labels[2]}" for event in ("roll", "open", "rows", "close")),
        "end",
    ]
    assert [*idle, stage.shard.is_idle] == [True, False, True]
    assert len(delivered(stage.tape)) == 45
    assert [r.session for r in stage.partition.requests] == labels
    assert [r.kind for r in stage.partition.requests] == ["session", "prefetch", "prefetch"]
    assert stage.partition.keep == len(stage.partition.raw)
    assert all(frame.expected == 5 for frame in stage.tape)
    assert stage.tape[-1].state == "stopped"
    rows = stage.tape[2]
    assert rows.slice_expected.tolist() == rows.slice_received.tolist() == [3] * 5
    assert rows.slice_missing.tolist() == [0] * 5


def test_without_a_command_nothing_is_due() -> None:
    worker = Worker(Partition(), 0, 1)
    assert worker.shard.advance(WALL_NS) is None
    assert worker.shard.readers_needed_at == worker.shard.delete_before == 0
    assert worker.shard.stand is None
    assert not worker.shard.is_waiting


def test_a_session_opens_only_when_all_is_answered() -> None:
    stage = Stage()
    stage.send(coverage(stage.plan, 0, ["AA", "BB"]))
    stage.run()
    assert stage.story == ["start"]
    stage.send(coverage(stage.plan, 0, ["CC"]))
    stage.run()
    assert stage.story[1] == "open 2024-11-27"
    assert not stage.tape[1].incomplete
    assert stage.tape[2].slice_missing.tolist() == [3] * 5


def test_what_no_source_can_say_is_marked() -> None:
    stage = Stage(command(end="2024-11-27"))
    stage.send(coverage(stage.plan, 0, answer="cannot_say"))
    stage.run()
    assert stage.tape[1].incomplete
    assert stage.tape[1].reason == "no source can say: AA, BB, CC"
    assert stage.story[-1] == "end"


def test_a_session_times_out_and_says_so() -> None:
    stage = Stage(command(symbols=tuple(f"S{n}" for n in range(7))))
    stage.send(coverage(stage.plan, 0, ["S0"]))
    stage.run()
    due_ns = stage.shard.due_ns()
    assert due_ns == WALL_NS + 60 * SECOND_NS
    stage.run(59.9)
    assert stage.story == ["start"]
    stage.run(0.1)
    assert stage.tape[1].incomplete
    assert stage.tape[1].reason == (
        "nothing came for 60 s; no coverage of S1, S2, S3, S4, S5 and 1 more"
    )
    assert stage.story[-1] == "roll 2024-11-29"
    assert not stage.tape[-1].incomplete
    # The next one is not given up with it: another was asked for just now.
    stage.run(59.0)
    assert stage.story[-1] == "roll 2024-11-29"
    stage.run(1.0)
    # Nothing is left to ask for: the last one has had its time.
    assert stage.story[-1] == "end"
    assert [frame.incomplete for frame in stage.tape if frame.event == "open"] == [True] * 3


def test_a_message_is_progress() -> None:
    stage = Stage()
    stage.run()
    stage.wall_ns += 59 * SECOND_NS
    stage.send(stage.minute(0))
    stage.run(30.0)
    assert stage.story == ["start"]


def test_a_run_may_stop_at_a_session_that_timed_out() -> None:
    stage = Stage(command(on_timeout="stop"))
    stage.run()
    stage.run(60.0)
    assert stage.story == [
        "start",
        *(f"{event} 2024-11-27" for event in ("open", "rows", "close")),
        "end",
    ]
    stage.run(60.0)
    assert stage.story[-1] == "end"


def test_it_stops_there_after_a_crash_too() -> None:
    stage = Stage(command(on_timeout="stop", speed=1.0))
    stage.run()
    stage.run(60.0)
    assert stage.tape[-1].incomplete
    stage.crash()
    stage.run(300.0)
    assert stage.story[-1] == "end"


def test_coverage_that_comes_too_late_leaves_the_mark() -> None:
    stage = Stage(command(speed=1.0))
    stage.run()
    stage.run(61.0)
    assert stage.tape[-1].incomplete
    stage.send(*stage.all_of(0))
    stage.run(60.0)
    stage.crash()
    stage.run(60.0)
    assert stage.tape[-1].incomplete
    came = [d for d in delivered(stage.tape) if d.is_correction]
    assert {d.row[1] for d in came} == {stage.row(0)[1]}
    stage.run(300.0)
    assert len(delivered(stage.tape)) == 15


def test_a_question_just_asked_is_given_its_time() -> None:
    """A session that took long to play is no reason to give up on the next one."""
    stage = Stage(command(speed=1.0, prefetch_sessions=0))
    stage.send(*stage.all_of(0))
    stage.run()
    for _ in range(5):
        stage.run(60.0)
    assert stage.story[-1] == "roll 2024-11-29"
    assert stage.partition.requests[-1].session == "2024-11-29"
    stage.run(59.0)
    assert stage.story[-1] == "roll 2024-11-29"
    stage.run(1.0)
    assert stage.tape[-1].incomplete


def test_the_clock_follows_the_wall() -> None:
    stage = Stage(command(speed=60.0))
    stage.send(*stage.all_of(0))
    stage.run()
    assert stage.story[-1] == "open 2024-11-27"
    assert stage.shard.due_ns() == WALL_NS + SECOND_NS
    assert stage.run(0.5) == []
    stage.run(0.5)
    assert stage.tape[-1].clock_ns == stage.row(1)[1]
    assert stage.tape[-1].rows == 3
    assert stage.shard.due_ns() == WALL_NS + 2 * SECOND_NS


def test_rows_between_the_expected_times_go_out_when_they_are_ready() -> None:
    stage = Stage(command(speed=1.0))
    half = ("AA", stage.row(0)[1], MINUTE_NS // 2, 0)
    stage.send(block([half]), *stage.all_of(0))
    stage.run()
    stage.run(30.0)
    assert stage.tape[-1].slice_ns.tolist() == [half[1] + MINUTE_NS // 2]
    assert stage.tape[-1].slice_expected.tolist() == [0]
    stage.run(30.0)
    assert stage.tape[-1].slice_received.tolist() == [3]


def test_a_session_that_no_minute_ends_with_still_closes() -> None:
    stage = Stage(command(interval="2m", speed=1.0, end="2024-11-27"))
    stage.send(coverage(stage.plan, 0))
    stage.run()
    stage.run(240.0)
    assert stage.tape[-1].slice_ns.tolist() == stage.plan.expected_ends(0).tolist()
    assert stage.shard.due_ns() == WALL_NS + 300 * SECOND_NS
    stage.run(60.0)
    assert stage.story[-3:] == ["rows 2024-11-27", "close 2024-11-27", "end"]
    assert stage.tape[-3].clock_ns == stage.plan.sessions[0].close_ns


def test_a_late_row_comes_with_the_next_slice_in_front() -> None:
    stage = Stage(command(speed=1.0))
    stage.send(stage.minute(0), coverage(stage.plan, 0))
    stage.run()
    stage.run(60.0)
    stage.send(bar(stage.row(0, revision=1)), bar(stage.row(0)), stage.minute(1))
    assert stage.run() == []
    stage.run(60.0)
    last = stage.tape[-1]
    assert (last.slice_rows.tolist(), last.slice_corrections.tolist()) == ([4], [1])
    assert [d.row[3] for d in delivered(stage.tape) if d.is_correction] == [1]


def test_a_wall_clock_that_is_set_back_plays_nothing_again() -> None:
    stage = Stage(command(speed=1.0))
    stage.send(*(stage.minute(n) for n in range(5)), coverage(stage.plan, 0))
    stage.run()
    stage.run(120.0)
    two = len(delivered(stage.tape))
    assert stage.run(-90.0) == []
    stage.run(150.0)
    rows = delivered(stage.tape)
    assert len(rows) == two * 3 // 2
    assert len({d.row[:2] for d in rows}) == len(rows)
    assert [d.slice_ns for d in rows] == sorted(d.slice_ns for d in rows)


def test_a_second_change_that_counts_no_revision_is_refused_not_dropped() -> None:
    stage = Stage(command(speed=1.0))
    stage.send(stage.minute(0), coverage(stage.plan, 0))
    stage.run()
    stage.run(60.0)
    stage.send(bar(stage.row(0), volume=7.0))
    stage.run(60.0)
    stage.send(bar(stage.row(0), volume=8.0))
    (release,) = stage.run(60.0)
    assert [r.reason for r in release.rejections] == ["a later revision of it is out"]
    stage.send(bar(stage.row(0, revision=1), volume=9.0))
    (release,) = stage.run(60.0)
    assert release.rejections == ()
    corrections = [d.row[3] for d in delivered(stage.tape) if d.is_correction]
    assert corrections == [1, 2]


@pytest.mark.parametrize("commits", [False, True])
def test_a_late_row_that_waits_when_the_owner_dies_is_not_lost(commits: bool) -> None:
    stage = Stage(command(speed=1.0))
    stage.send(coverage(stage.plan, 0))
    stage.run()
    stage.run(60.0)
    stage.send(bar(stage.row(0)))
    assert stage.run() == []
    if commits:
        stage.run(60.0)
    stage.crash()
    stage.run(120.0)
    (came,) = delivered(stage.tape)
    assert came.is_correction
    stage.crash()
    stage.run(60.0)
    assert len(delivered(stage.tape)) == 1


def test_corrections_alone_go_out_at_the_close() -> None:
    stage = Stage(command(speed=1.0, interval="2m", end="2024-11-27"))
    stage.send(coverage(stage.plan, 0))
    stage.run()
    stage.run(240.0)
    stage.send(bar(stage.row(0)))
    stage.run(60.0)
    (came,) = delivered(stage.tape)
    assert came.is_correction
    assert came.slice_ns == stage.plan.sessions[0].close_ns


def test_pause_and_go_on() -> None:
    stage = Stage(command(speed=1.0))
    stage.send(*stage.all_of(0))
    stage.run()
    stage.run(60.0)
    clock_ns = stage.tape[-1].clock_ns
    stage.order(paused=True, speed=1.0, anchor_wall_ns=stage.wall_ns, anchor_clock_ns=clock_ns)
    (said,) = stage.run(600.0)
    assert (said.frames[0].state, said.frames[0].clock_ns) == ("paused", clock_ns)
    assert stage.shard.due_ns() is None
    stage.order(version=3, speed=1.0, anchor_wall_ns=stage.wall_ns, anchor_clock_ns=clock_ns)
    stage.order(version=2, paused=True)
    stage.run(60.0)
    assert stage.tape[-1].clock_ns == clock_ns + MINUTE_NS
    assert stage.tape[-1].command == 3


def test_a_run_that_is_paused_before_it_opened_waits() -> None:
    stage = Stage(command(speed=1.0))
    stage.run()
    stage.order(paused=True, speed=1.0, anchor_clock_ns=stage.plan.sessions[0].open_ns - 1)
    stage.send(*stage.all_of(0))
    stage.run()
    assert [frame.state for frame in stage.tape] == ["running", "paused"]
    assert stage.story[-1].startswith("rows")
    assert stage.shard.due_ns() is None


def test_the_clock_does_not_go_back_with_the_anchor() -> None:
    stage = Stage(command(speed=1.0))
    stage.send(*stage.all_of(0), *stage.all_of(1))
    stage.run()
    for _ in range(6):
        stage.run(60.0)
    assert stage.story[-1] == "rows 2024-11-29"
    stage.order(speed=1.0, anchor_wall_ns=stage.wall_ns)
    assert stage.run(60.0) == []
    assert stage.shard.tape.number == 1


def test_stop() -> None:
    stage = Stage(command(speed=1.0))
    stage.send(*stage.all_of(0))
    stage.run()
    stage.run(60.0)
    stage.order(stopped=True, speed=1.0)
    stage.run()
    last = stage.tape[-1]
    assert (last.event, last.state, last.reason) == ("end", "stopped", "stopped by command")
    stage.crash()
    assert stage.run(60.0) == []
    assert stage.shard.is_idle


def test_a_new_run_begins_where_it_stands_and_knows_nothing_of_the_old() -> None:
    stage = Stage(command(speed=1.0))
    stage.send(*stage.all_of(0), block(stage.all_of_rows(1), ""))
    stage.run()
    stage.run(60.0)
    stage.order(run="run-2", start="2024-11-29")
    stage.run()
    assert stage.story[-1] == "start"
    start = stage.tape[-1]
    assert start.positions[0].keep == start.positions[0].taken == 7
    stage.send(coverage(stage.plan, 1, run="run-2"))
    stage.run()
    assert stage.story[-1] == "roll 2024-12-02"
    assert all(d.run == RUN for d in delivered(stage.tape))


def test_what_came_before_the_first_run_and_names_none_belongs_to_it() -> None:
    stage = Stage()
    stage.send(block([stage.row(0)], ""), block([stage.row(1)], "old"), coverage(stage.plan, 0))
    stage.run()
    assert [d.row for d in delivered(stage.tape)] == [stage.row(0)]


def test_commands_of_before_the_crash_are_history() -> None:
    stage = Stage()
    first = stage.desired
    stage.run()
    stage.order(run="run-2")
    stage.run()
    stage.crash(desired=[first])
    assert stage.run(600.0) == []
    stage.shard.command(stage.desired)
    stage.run(600.0)
    assert [f.run for f in stage.tape if f.event == "start"] == [RUN, "run-2"]


@pytest.mark.parametrize("releases", range(1, 8))
def test_the_next_owner_goes_on_whatever_the_last_event_was(releases: int) -> None:
    whole = Stage()
    whole.send(*whole.all_of(0), *whole.all_of(1), *whole.all_of(2))
    whole.run()
    stage = Stage()
    stage.send(*stage.all_of(0), *stage.all_of(1), *stage.all_of(2))
    for _ in range(releases):
        release = stage.shard.advance(stage.wall_ns)
        if release is not None:
            stage.worker.commit(release)
        stage.crash()
    stage.run()
    assert stage.story == whole.story
    assert stage.partition.frames[-1] == whole.partition.frames[-1]
    assert delivered(stage.tape) == delivered(whole.tape)
    assert stage.partition.requests == whole.partition.requests


def test_it_waits_for_what_an_earlier_owner_had_looked_at() -> None:
    stage = Stage(command(speed=1.0))
    stage.send(stage.minute(0), stage.minute(1), coverage(stage.plan, 0))
    stage.run()
    stage.worker = Worker(stage.partition, 0, 1, 0)
    stage.shard.command(stage.desired)
    stage.worker.feed(stage.wall_ns, 1)
    assert stage.run(60.0) == []
    assert stage.shard.due_ns() is None
    stage.worker.feed(stage.wall_ns)
    stage.run()
    assert stage.tape[-1].rows == 3


def test_a_shard_without_symbols_sends_its_clock() -> None:
    empty = 1 - shard_of("AA", 2)
    stage = Stage(command(symbols=("AA",), speed=1.0), empty, 2)
    stage.run()
    stage.run(60.0)
    assert stage.story == ["start", "open 2024-11-27", "rows 2024-11-27"]
    assert stage.tape[-1].clock_ns == stage.row(1)[1]
    assert len(stage.tape[-1].slice_ns) == 0
    stage.run(3_000.0)
    assert stage.story[-1] == "end"
    assert stage.partition.requests == []


def test_a_shard_without_symbols_and_minutes_still_closes() -> None:
    empty = 1 - shard_of("AA", 2)
    stage = Stage(command(symbols=("AA",), interval="1h", end="2024-11-27"), empty, 2)
    stage.run()
    assert stage.story[-3:] == ["rows 2024-11-27", "close 2024-11-27", "end"]


def test_a_slice_larger_than_a_message_is_one_release() -> None:
    stage = Stage(command(symbols=tuple(f"SYM{n:05d}" for n in range(20_000)), end="2024-11-27"))
    stage.send(stage.minute(0), coverage(stage.plan, 0))
    releases = stage.run()
    frames = [frame for frame in releases[-1].frames if frame.event == "rows"]
    assert len(frames) > 1
    assert frames[0].clock_ns == stage.plan.sessions[0].open_ns
    assert sum(frame.rows for frame in frames) == 20_000
    assert [frame.rows for frame in frames[:-1]] == [int(f.slice_rows.sum()) for f in frames[:-1]]


def test_readers_are_waited_for_and_what_is_kept_is_bounded() -> None:
    stage = Stage(command(trailing_sessions=1))
    for session in range(3):
        stage.send(*stage.all_of(session))
    opens = []
    needed = []
    deletes = []
    while (release := stage.shard.advance(stage.wall_ns)) is not None:
        offsets = stage.worker.commit(release)
        opens += [o for o, f in zip(offsets, release.frames, strict=True) if f.event == "open"]
        needed.append(stage.shard.readers_needed_at)
        deletes.append(stage.shard.delete_before)
    assert len(opens) == 3
    # Known while the session before plays, so that they are asked before it is over.
    assert needed == [0, *opens, 0]
    assert deletes == [0, 0, opens[0], opens[1], opens[1]]
    # Before it opens again it waits for its readers.
    stage.order(run="run-2", trailing_sessions=1)
    stage.run()
    stage.send(coverage(stage.plan, 0, run="run-2"))
    assert stage.shard.advance(stage.wall_ns, may_open=False) is None
    assert stage.shard.advance(stage.wall_ns) is not None


@pytest.mark.parametrize("may_open", [True, False])
def test_a_session_that_is_there_opens_with_the_close_of_the_one_before(may_open: bool) -> None:
    stage = Stage()
    stage.send(*stage.all_of(0), *stage.all_of(1), *stage.all_of(2)[:-1])
    for _ in range(2):
        stage.worker.commit(stage.shard.advance(stage.wall_ns))  # type: ignore[arg-type]
    assert stage.story[-1] == "open 2024-11-27"
    release = stage.shard.advance(stage.wall_ns, may_open=may_open)
    assert release is not None
    stage.worker.commit(release)
    events = [frame.event for frame in release.frames]
    assert events[-3:] == (["close", "roll", "open"] if may_open else ["rows", "close", "roll"])
    assert stage.shard.is_waiting != may_open
    stage.crash()
    stage.run()
    # The last one lacks its coverage.
    assert stage.story[-1] == "roll 2024-12-02"
    assert [event for event in stage.story if event.startswith("open")] == [
        "open 2024-11-27",
        "open 2024-11-29",
    ]


def test_a_command_without_sessions_is_an_error() -> None:
    stage = Stage()
    stage.order(start="2024-11-30", end="2024-12-01")
    with pytest.raises(CalendarError):
        stage.run()


def test_the_positions_name_the_topic() -> None:
    stage = Stage()
    stage.run()
    assert [p.topic for p in stage.tape[0].positions] == list(TOPICS.values())
