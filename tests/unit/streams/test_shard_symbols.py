"""Symbols that a command adds to a run or takes out of it while a session plays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schemas import Bar, Coverage, DataRequest, Frame
from streams.coverage import Grid, Status
from streams.digest import Digest
from streams.intervals import MINUTE_NS
from tests.unit.streams.shards import RUN, Stage, bar, block, command, coverage, plan_for

OLD, NEW = ("AA", "CC"), ("AA", "BB", "CC")
DAY = "2024-11-27"


def paced(symbols: tuple[str, ...] = OLD, **changes: object) -> Stage:
    """A session of real time with two of its minutes out; all of the run is there."""
    stage = Stage(command(symbols=symbols, speed=1.0, prefetch_sessions=1, **changes))
    stage.run()
    for number in range(2):
        stage.send(*stage.all_of(number))
    stage.run()
    stage.run(2 * 60.0)
    return stage


def change(stage: Stage, *symbols: str) -> list[DataRequest]:
    """Have other symbols; return what is asked for them."""
    before = len(stage.partition.requests)
    desired = replace(stage.desired, version=stage.desired.version + 1, symbols=symbols)
    stage.desired, stage.plan = desired, plan_for(desired, 0, 1)
    stage.shard.command(desired)
    stage.run()
    return stage.partition.requests[before:]


def answer(stage: Stage, asked: DataRequest, lacking: tuple[int, ...] = ()) -> list[object]:
    number = stage.plan.index(asked.session)
    rows = [
        stage.row(minute, symbol, number)
        for symbol in asked.symbols
        for minute in range(5)
        if minute not in lacking
    ]
    found = Coverage(asked.symbols, asked.start_ns, asked.end_ns, run=RUN, request=asked.id)
    return [replace(block(rows), request=asked.id), found]


def of(stage: Stage, label: str = DAY) -> list[Frame]:
    return [frame for frame in stage.tape if frame.session == label]


def expected(frames: list[Frame]) -> list[int]:
    return [int(n) for frame in frames for n in frame.slice_expected if n]


def rows_of(frames: list[Frame]) -> list[tuple[str, int, bool]]:
    """Symbol, minute and whether it is a correction, of each row."""
    found = []
    for frame in frames:
        if frame.bars is None:
            continue
        late = np.zeros(frame.rows, np.bool_)
        late[: int(frame.slice_corrections.sum())] = True
        for at in range(frame.rows):
            minute = int(frame.bars.ts_ns[at] - frame.open_ns) // MINUTE_NS
            found.append((frame.symbols[frame.bars.symbol[at]], minute, bool(late[at])))
    return found


def test_an_added_symbol_is_asked_for_and_joins_when_all_of_it_is_there() -> None:
    stage = paced()
    asked = change(stage, *NEW)
    assert [(a.kind, a.session, a.symbols) for a in asked] == [
        ("session", DAY, ("BB",)),
        ("prefetch", "2024-11-29", ("BB",)),
    ]
    assert [a.reason for a in asked] == ["symbols were added"] * 2
    before = len(stage.tape)
    sent = answer(stage, asked[0])
    stage.send(sent[0])  # type: ignore[arg-type]
    stage.run(60.0)
    assert all(frame.symbols == OLD for frame in stage.tape[before:])
    assert rows_of(stage.tape[before:]) == [("AA", 2, False), ("CC", 2, False)]
    before = len(stage.tape)
    stage.send(sent[1])  # type: ignore[arg-type]
    assert stage.run() == []  # with the next slice
    stage.run(60.0)
    frames = stage.tape[before:]
    assert all(frame.symbols == NEW for frame in frames)
    assert rows_of(frames) == [
        *(("BB", minute, True) for minute in range(3)),
        *((name, 3, False) for name in NEW),
    ]
    assert expected(of(stage)) == [2, 2, 2, 3]


def test_a_joined_run_comes_to_the_same_state_as_one_with_all_from_the_start() -> None:
    stage = paced()
    asked = change(stage, *NEW)
    for one in asked:
        stage.send(*answer(stage, one))  # type: ignore[arg-type]
    stage.run(10 * 86_400.0)
    stage.send(*stage.all_of(2))
    stage.run(10 * 86_400.0)
    whole = Stage(command(symbols=NEW))
    whole.run()
    for number in range(3):
        whole.send(*whole.all_of(number))
    whole.run()
    digests = []
    for one_stage in (stage, whole):
        digest = Digest()
        for frame in one_stage.tape:
            if not frame.waiting:
                digest.add(frame)
        digests.append(digest.final())
        assert one_stage.tape[-1].event == "end"
    assert digests[0] == digests[1]


def test_a_removed_symbol_leaves_at_once() -> None:
    stage = paced(NEW)
    assert change(stage, *OLD) == []
    told = stage.tape[-1]
    assert (told.event, told.symbols, told.rows) == ("rows", OLD, 0)
    before = len(stage.tape)
    stage.send(bar(stage.row(4, "BB")))
    stage.run(60.0)
    assert rows_of(stage.tape[before:]) == [("AA", 2, False), ("CC", 2, False)]
    assert [r.reason for r in stage.partition.rejections] == ["symbol 'BB' is not one of the run"]
    stage.run(86_400.0)
    later = of(stage, "2024-11-29")
    assert {frame.symbols for frame in later if frame.event in ("open", "rows")} == {OLD}
    assert expected(of(stage)) == [3, 3, 2, 2, 2]


def test_while_it_waits_a_session_has_the_symbols_of_the_last_command() -> None:
    stage = Stage(command(symbols=OLD))
    stage.run()
    asked = change(stage, *NEW)
    assert [(a.kind, a.session, a.symbols) for a in asked] == [
        ("session", DAY, ("BB",)),
        ("prefetch", "2024-11-29", ("BB",)),
    ]
    told = stage.tape[-1]
    assert (told.event, told.waiting, told.symbols) == ("rows", True, NEW)
    rows = [stage.row(m, symbol) for m in range(5) for symbol in OLD]
    stage.send(block(rows), coverage(stage.plan, 0, OLD))
    assert stage.run() == []
    stage.send(*answer(stage, asked[0]))  # type: ignore[arg-type]
    stage.run()
    opened = next(frame for frame in stage.tape if frame.event == "open")
    assert opened.symbols == NEW


def test_what_does_not_come_in_time_begins_with_the_next_session() -> None:
    stage = paced()
    _, ahead = change(stage, *NEW)
    stage.send(*answer(stage, ahead))  # type: ignore[arg-type]
    stage.run(86_400.0)
    assert {f.symbols for f in of(stage) if f.event in ("open", "rows")} == {OLD}
    opened = next(f for f in stage.tape if f.event == "open" and f.session == "2024-11-29")
    assert opened.symbols == NEW


@pytest.mark.parametrize("when", ["told", "rows", "answered", "joined"])
def test_a_crash_forgets_no_symbol(when: str) -> None:
    stage = paced()
    (asked, *_) = change(stage, *NEW)

    def crash() -> DataRequest:
        stage.crash()
        before = len(stage.partition.requests)
        stage.run()
        again = [r for r in stage.partition.requests[before:] if r.session == DAY]
        return again[0] if again else asked

    if when == "told":
        asked = crash()
    rows, covered = answer(stage, asked)
    stage.send(rows)  # type: ignore[arg-type]
    stage.run(60.0)
    if when == "rows":
        asked = crash()
        rows, covered = answer(stage, asked)
        stage.send(rows)  # type: ignore[arg-type]
    stage.send(covered)  # type: ignore[arg-type]
    stage.run()
    if when == "answered":
        again = crash()
        if again is not asked:
            stage.send(*answer(stage, again))  # type: ignore[arg-type]
    stage.run(60.0)
    if when == "joined":
        assert crash() is asked
    stage.run(60.0)
    late = [row for row in rows_of(of(stage)) if row[2]]
    assert late == [("BB", minute, True) for minute in range(3)]
    assert sorted(rows_of(of(stage)))[5:10] == sorted(
        [("BB", minute, minute < 3) for minute in range(5)]
    )


def test_an_answer_of_before_a_crash_does_not_count() -> None:
    """Its rows were looked at by the owner that died, and are not read again."""
    stage = paced()
    (asked, *_) = change(stage, *NEW)
    rows, covered = answer(stage, asked)
    stage.send(rows)  # type: ignore[arg-type]
    stage.run(60.0)
    stage.crash()
    stage.run()
    stage.send(covered)  # type: ignore[arg-type]
    stage.run(60.0)
    assert stage.tape[-1].symbols == OLD


def test_a_foreign_answer_counts_where_nobody_has_seen_it() -> None:
    stage = paced()
    change(stage, *NEW)
    ones: list[Bar] = [bar(stage.row(minute, "BB")) for minute in range(5)]
    stage.send(*ones, coverage(stage.plan, 0, ["BB"], run=""))
    stage.run(60.0)
    assert stage.tape[-1].symbols == NEW


def test_a_symbol_that_joins_has_gaps_that_an_upkeep_can_fill() -> None:
    """Those before the clock, too: it need not come there before they are asked for."""
    stage = paced(upkeep=True)
    (asked, *_) = change(stage, *NEW)
    stage.send(*answer(stage, asked, lacking=(1, 4)))  # type: ignore[arg-type]
    stage.run(60.0)
    grid = Grid(stage.plan.sessions[0], MINUTE_NS, NEW)
    for frame in of(stage):
        if frame.minutes is not None:
            grid.apply(frame.minutes)
    assert np.argwhere(grid.status == Status.MISSING).tolist() == [[1, 1], [1, 4]]
    assert (grid.status[[0, 2]] == Status.PENDING).all()


def test_a_change_back_before_it_came_asks_nothing_more() -> None:
    stage = paced()
    change(stage, *NEW)
    assert change(stage, *OLD) == []
    stage.run(60.0)
    assert list(stage.tape[-1].symbols) == list(OLD)
    asked = change(stage, *NEW)
    stage.send(*answer(stage, asked[0]))  # type: ignore[arg-type]
    stage.run(60.0)
    assert list(stage.tape[-1].symbols) == list(NEW)


def test_what_is_not_said_yet_of_a_session_to_come_outlives_a_change_of_symbols() -> None:
    """A late row holds back what is to be told of minutes; then symbols come and go."""
    stage = paced(upkeep=True)
    holes = [row for row in stage.all_of_rows(2) if row[0] != "AA" or row[1] % 2]
    late = replace(block([stage.row(0, "AA", revision=1)]), source="late")
    stage.send(late, block(holes), coverage(stage.plan, 2))
    assert stage.run() == []
    change(stage, "AA", "DD")
    stage.run(60.0)
    told = [f.minutes for f in stage.tape if f.minutes is not None]
    assert {minutes.session for minutes in told} == {"2024-12-02"}
    named = {minutes.symbols[n] for minutes in told for n in minutes.symbol.tolist()}
    assert named == {"AA"}
