"""A shard beside an upkeep: what it says is missing, what fills it, when it opens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Bar, BarBlock, Coverage, DataRequest, Frame, Minutes
from streams.coverage import Grid, Status
from streams.digest import Digest
from streams.gaps import Gaps, Limits
from streams.intervals import MINUTE_NS
from streams.shard import Release
from tests.unit.streams.shards import (
    RUN,
    Row,
    Stage,
    bar,
    block,
    command,
    coverage,
    plan_for,
)

Cell = tuple[int, int, int]
"""Session, symbol and minute."""
MS = 1_000_000
LIMITS = Limits(attempts=2, backoff_ns=10 * MS, timeout_ns=60_000 * MS, requests=3)
ALL = {(s, n, m) for s in range(3) for n in range(3) for m in range(5)}


class Upkept(Stage):
    """A shard, a source that lacks some minutes, and the upkeep between them, step by step."""

    def __init__(self, lacking: set[Cell] = frozenset(), **changes: object) -> None:  # type: ignore[assignment]
        super().__init__(command(**{"upkeep": True, **changes}))
        self.lacking = set(lacking)
        self.gaps = Gaps(0, LIMITS)
        self.seen = 0

    def row_at(self, cell: Cell, revision: int = 0) -> Row:
        session, symbol, minute = cell
        return self.row(minute, self.plan.symbols[symbol], session, revision)

    def load(self, session: int) -> None:
        """Answer the request for a session: all that the source has of it, then coverage."""
        rows = [self.row_at(c) for c in sorted(ALL - self.lacking) if c[0] == session]
        self.send(*([block(rows)] if rows else []), coverage(self.plan, session))

    def upkeep(self) -> list[DataRequest]:
        """Let the upkeep see the tape and do what is due."""
        for frame in self.tape[self.seen :]:
            self.gaps.take(self.plan, frame, self.wall_ns)
        self.seen = len(self.tape)
        due = self.gaps.due(self.wall_ns)
        self.send(*due.requests, *due.given_up)
        return list(due.requests)

    def cells(self, asked: DataRequest) -> list[Cell]:
        assert asked.gaps is not None
        number = self.plan.index(asked.session)
        grid = Grid(self.plan.sessions[number], MINUTE_NS, self.plan.symbols)
        return [(number, s, m) for s, m in np.argwhere(grid.cells(asked.gaps)).tolist()]

    def fill(self, asked: DataRequest, answers: dict[Cell, str]) -> None:
        """Answer a request for gaps: ``rows``, ``nothing`` or ``cannot_say`` a minute."""
        cells = self.cells(asked)
        rows = [self.row_at(cell) for cell in cells if answers.get(cell) == "rows"]
        said = {"rows": 1, "nothing": 2, "cannot_say": 3}
        number = cells[0][0]
        grid = Grid(self.plan.sessions[number], MINUTE_NS, self.plan.symbols)
        for _, symbol, minute in cells:
            cell = (number, symbol, minute)
            grid.status[symbol, minute] = said[answers.get(cell, "cannot_say")]
        gaps = grid.minutes(grid.status > 0)
        answer = Coverage(
            asked.symbols, asked.start_ns, asked.end_ns, run=RUN, request=asked.id, gaps=gaps
        )
        found = [replace(block(rows), request=asked.id)] if rows else []
        self.send(*found, answer)

    def settle(self, answers: dict[Cell, str]) -> int:
        """Go on until nothing is asked any more; return the number of requests."""
        count = 0
        while True:
            self.run()
            asked = self.upkeep()
            self.run()
            for request in asked:
                self.fill(request, answers)
            count += len(asked)
            due_ns = self.gaps.due_ns()
            if asked or self.seen < len(self.tape):
                continue
            if due_ns is None or due_ns > self.wall_ns + 1_000 * MS:
                return count
            self.wall_ns = max(self.wall_ns, due_ns)

    def play(self, answers: dict[Cell, str]) -> int:
        self.run()
        for session in range(3):
            self.load(session)
        return self.settle(answers)

    @property
    def minutes(self) -> list[tuple[str, str, Minutes]]:
        return [(f.event, f.session, f.minutes) for f in self.tape if f.minutes is not None]

    def statuses(self, session: int) -> dict[tuple[int, int], Status]:
        """What the tape says of a session from its open frame on."""
        label = self.plan.sessions[session].label
        grid = Grid(self.plan.sessions[session], MINUTE_NS, self.plan.symbols)
        is_open = False
        for frame in self.tape:
            is_open |= frame.event == "open" and frame.session == label
            if is_open and frame.minutes is not None and frame.minutes.session == label:
                grid.apply(frame.minutes)
        return {(s, m): Status(grid.status[s, m]) for s, m in np.argwhere(grid.status).tolist()}


def digests(frames: list[Frame]) -> tuple[str, str]:
    digest = Digest()
    for frame in frames:
        if not frame.waiting:
            digest.add(frame)
    return digest.final(), digest.as_known()


def complete() -> list[Frame]:
    stage = Upkept(upkeep=False)
    stage.play({})
    return stage.tape


COMPLETE = complete()


def test_a_complete_session_says_nothing_of_minutes() -> None:
    stage = Upkept()
    assert stage.play({}) == 0
    assert stage.minutes == []
    assert stage.tape[-1].event == "end"
    assert [f.prefetched for f in stage.tape if f.event == "roll"] == [True, True]
    assert digests(stage.tape) == digests(COMPLETE)


def test_what_is_missing_is_said_before_the_session_opens_and_filled() -> None:
    hole = (0, 1, 2)
    stage = Upkept({hole})
    stage.run()
    stage.load(0)
    stage.run()
    assert stage.story == ["start", "rows 2024-11-27"]
    (event, label, minutes) = stage.minutes[0]
    assert (event, label, minutes.session, minutes.loaded) == ("rows", label, label, True)
    assert stage.tape[-1].waiting
    assert minutes.status.tolist() == [Status.MISSING]
    (asked,) = stage.upkeep()
    stage.run()
    assert stage.minutes[1][2].requests == (asked.id,)
    assert stage.minutes[1][2].status.tolist() == [Status.REQUESTED]
    assert not stage.minutes[1][2].loaded
    stage.fill(asked, {hole: "rows"})
    stage.run()
    # Nothing is left to be said in front of the open frame, which has it all.
    assert stage.story[3] == "open 2024-11-27"
    opened = next(f for f in stage.tape if f.event == "open")
    assert opened.minutes is not None
    assert opened.minutes.status.tolist() == [Status.FILLED]
    assert opened.minutes.requests == (asked.id,)
    assert not opened.incomplete


def test_filled_minutes_give_the_digest_of_complete_data() -> None:
    holes = {(0, 0, 0), (0, 0, 1), (1, 2, 4), (2, 1, 0), (2, 0, 0), (2, 2, 0)}
    stage = Upkept(holes)
    assert stage.play(dict.fromkeys(holes, "rows")) == 3
    assert stage.tape[-1].event == "end"
    assert digests(stage.tape) == digests(COMPLETE)
    assert all(
        (f.slice_missing == 0).all() and (f.slice_corrections == 0).all() for f in stage.tape
    )
    assert not stage.partition.rejections


def test_no_trade_minutes_stand_in_the_marks() -> None:
    quiet = {(0, 0, 1), (0, 1, 1), (0, 2, 3)}
    stage = Upkept(quiet)
    stage.play(dict.fromkeys(quiet, "nothing"))
    rows = [f for f in stage.tape if f.event == "rows" and f.session == "2024-11-27" and f.rows]
    assert np.concatenate([f.slice_no_trade for f in rows]).tolist() == [0, 2, 0, 1, 0]
    assert np.concatenate([f.slice_received for f in rows]).tolist() == [3, 1, 3, 2, 3]
    assert np.concatenate([f.slice_missing for f in rows]).tolist() == [0] * 5
    assert stage.statuses(0) == dict.fromkeys([(0, 1), (1, 1), (2, 3)], Status.NO_TRADE)


def test_who_can_not_say_leaves_them_given_up_and_the_session_opens() -> None:
    hole = {(0, 0, 1), (0, 0, 2)}
    stage = Upkept(hole)
    assert stage.play({}) == LIMITS.attempts
    assert stage.tape[-1].event == "end"
    assert stage.statuses(0) == dict.fromkeys([(0, 1), (0, 2)], Status.GIVEN_UP)
    rows = [f for f in stage.tape if f.event == "rows" and f.session == "2024-11-27" and f.rows]
    assert np.concatenate([f.slice_missing for f in rows]).tolist() == [0, 1, 1, 0, 0]
    assert not any(f.incomplete for f in stage.tape)


def test_a_symbol_of_which_nothing_is_known_is_named() -> None:
    gone = {(0, 1, minute) for minute in range(5)}
    stage = Upkept(gone)
    stage.run()
    rows = [stage.row_at(c) for c in sorted(ALL - gone) if c[0] == 0]
    others = coverage(stage.plan, 0, ["AA", "CC"])
    silent = coverage(stage.plan, 0, ["BB"], answer="cannot_say")
    stage.send(block(rows), others, silent)
    stage.settle({})
    opened = next(f for f in stage.tape if f.event == "open")
    assert opened.incomplete
    assert opened.reason == "no source can say: BB"

    stage = Upkept(gone)
    stage.run()
    stage.send(block(rows), others, silent)
    stage.settle(dict.fromkeys(gone, "rows"))
    opened = next(f for f in stage.tape if f.event == "open")
    assert (opened.incomplete, opened.reason) == (False, "")


def test_other_rows_than_asked_for_are_refused_and_a_repeat_is_dropped() -> None:
    hole, there = (0, 1, 2), (0, 0, 0)
    stage = Upkept({hole})
    stage.run()
    stage.load(0)
    stage.run()
    (asked,) = stage.upkeep()
    other = replace(block([stage.row_at(there, 7), stage.row_at(hole)]), request=asked.id)
    stage.send(other, other)
    stage.fill(asked, {hole: "rows"})
    stage.settle({})
    assert [r.reason for r in stage.partition.rejections] == [
        f"no minute that is missing, and {asked.id} asks for"
    ] * 2
    first = [f for f in stage.tape if f.session == "2024-11-27" and not f.waiting]
    wanted = [f for f in COMPLETE if f.session == "2024-11-27"]
    assert digests(first) == digests(wanted)


def test_an_answer_without_minutes_holds_for_all_that_was_asked() -> None:
    holes = {(0, 1, 2), (0, 1, 3)}
    for answer, status in (("nothing", Status.NO_TRADE), ("cannot_say", Status.MISSING)):
        stage = Upkept(holes)
        stage.run()
        stage.load(0)
        stage.run()
        (asked,) = stage.upkeep()
        stage.send(
            Coverage(("BB",), asked.start_ns, asked.end_ns, answer, run=RUN, request=asked.id)
        )
        stage.run()
        last = [m for _, _, m in stage.minutes][-1]
        assert last.status.tolist() == [status]


def test_a_request_without_minutes_asks_for_all_of_its_range() -> None:
    hole = (0, 1, 2)
    stage = Upkept({hole})
    stage.run()
    stage.load(0)
    stage.run()
    (asked,) = stage.upkeep()
    plain = replace(asked, id="by hand", gaps=None, attempt=2)
    stage.send(plain, replace(block([stage.row_at(hole)]), request="by hand"))
    stage.run()
    opened = next(f for f in stage.tape if f.event == "open")
    assert opened.minutes is not None
    assert opened.minutes.requests == ("by hand",)


def test_gaps_that_nobody_settles_time_out_and_are_named() -> None:
    stage = Upkept({(0, 1, 2)}, session_timeout_s=5.0)
    stage.run()
    stage.load(0)
    stage.run()
    assert stage.shard.due_ns() == stage.wall_ns + 5_000 * MS
    stage.run(5.0)
    opened = next(f for f in stage.tape if f.event == "open")
    assert opened.incomplete
    assert opened.reason == "nothing came for 5 s; gaps of BB are open"
    assert stage.statuses(0) == {(1, 2): Status.GIVEN_UP}  # it closed meanwhile


def test_a_session_that_nobody_covers_opens_with_all_of_it_missing() -> None:
    stage = Upkept(session_timeout_s=5.0, speed=1.0)
    stage.run()
    stage.run(5.0)
    opened = next(f for f in stage.tape if f.event == "open")
    assert opened.reason == "nothing came for 5 s; no coverage of AA, BB, CC"
    assert opened.minutes is not None
    assert opened.minutes.status.tolist() == [Status.MISSING] * 3
    (asked,) = stage.upkeep()
    assert len(stage.cells(asked)) == 15
    stage.fill(asked, dict.fromkeys(ALL, "rows"))
    stage.run(86_400.0)
    first = [f for f in stage.tape if f.session == "2024-11-27"]
    assert digests(first) == digests([f for f in COMPLETE if f.session == "2024-11-27"])


def test_a_shard_without_symbols_lacks_nothing() -> None:
    desired = command(upkeep=True)
    number = next(n for n in range(8) if not plan_for(desired, n, 8).symbols)
    empty = Stage(desired, number, 8)
    empty.run()
    assert empty.tape[-1].event == "end"
    assert not any(f.minutes for f in empty.tape)


def paced(lacking: set[Cell]) -> Upkept:
    """A session that opened by time-out and plays a minute a minute, its minute 4 under way."""
    stage = Upkept(lacking, session_timeout_s=1.0, speed=1.0)
    stage.run()
    stage.load(0)
    stage.run(1.0)
    stage.run(4 * 60.0)
    assert stage.tape[-1].event == "rows"
    return stage


def test_behind_the_clock_a_fill_is_a_correction() -> None:
    hole = (0, 1, 1)
    stage = paced({hole, (0, 2, 1)})
    (asked,) = stage.upkeep()
    before = len(stage.tape)
    stage.fill(asked, {hole: "rows", (0, 2, 1): "nothing"})
    assert stage.run() == []  # with the next slice
    stage.run(60.0)
    frames = stage.tape[before:]
    late = next(f for f in frames if f.slice_corrections.any())
    assert late.slice_corrections.tolist() == [1]
    assert late.bars is not None
    assert int(late.bars.ts_ns[0]) == stage.row_at(hole)[1]
    assert stage.statuses(0) == {(1, 1): Status.FILLED, (2, 1): Status.NO_TRADE}
    told = next(f for f in frames if f.minutes is not None)
    assert not told.waiting
    assert told.frame >= late.frame


@pytest.mark.parametrize("when", range(4))
def test_a_crash_behind_the_clock_forgets_nothing(when: int) -> None:
    hole = (0, 1, 1)
    stage = paced({hole})
    if when == 0:
        stage.crash()
    (asked,) = stage.upkeep()
    stage.run()
    if when == 1:
        stage.crash()
    stage.fill(asked, {hole: "rows"})
    stage.run()
    if when == 2:
        stage.crash()
    stage.run(60.0)
    if when == 3:
        stage.crash()
    stage.run()
    late = [f for f in stage.tape if f.slice_corrections.any()]
    assert [f.slice_corrections.sum() for f in late] == [1]
    assert stage.statuses(0) == {(1, 1): Status.FILLED}


def test_minutes_of_a_session_to_come_are_told_while_another_plays() -> None:
    stage = Upkept({(1, 0, 0)}, speed=1.0)
    stage.run()
    stage.load(0)
    stage.run()
    stage.load(1)
    stage.run(60.0)
    told = next(f for f in stage.tape if f.minutes is not None)
    assert (told.session, told.waiting) == ("2024-11-27", False)
    assert told.minutes is not None
    assert told.minutes.session == "2024-11-29"


def test_a_plain_row_fills_a_gap_too() -> None:
    hole = (0, 1, 2)
    stage = Upkept({hole})
    stage.run()
    stage.load(0)
    stage.run()
    one: Bar | BarBlock = bar(stage.row_at(hole))
    stage.send(one)
    stage.run()
    assert stage.statuses(0)[1, 2] == Status.FILLED
    assert digests([f for f in stage.tape if f.session == "2024-11-27"]) == digests(
        [f for f in COMPLETE if f.session == "2024-11-27"]
    )


cells = st.sampled_from(sorted(ALL))


@settings(max_examples=60, deadline=None)
@given(
    holes=st.sets(cells, max_size=12),
    said=st.dictionaries(cells, st.sampled_from(["rows", "nothing", "cannot_say"])),
    crashes=st.lists(st.booleans(), max_size=40),
)
def test_the_same_tape_whatever_crashes(
    holes: set[Cell], said: dict[Cell, str], crashes: list[bool]
) -> None:
    """Owner or upkeep or both die after any step: same rows, same minutes, no more requests."""
    plain, shaken = Upkept(holes), Upkept(holes)
    requests = plain.play(said)
    dice = iter(crashes)

    def run(passed_s: float = 0.0) -> list[Release]:
        """Crash now and then between two releases."""
        shaken.wall_ns += int(passed_s * 1_000 * MS)
        found = []
        while (release := shaken.shard.advance(shaken.wall_ns)) is not None:
            shaken.worker.commit(release)
            found.append(release)
            if next(dice, False):
                shaken.crash()
        return found

    shaken.run = run  # type: ignore[method-assign]
    assert shaken.play(said) == requests
    assert shaken.tape[-1].event == plain.tape[-1].event == "end"
    assert digests(shaken.tape) == digests(plain.tape)
    for session in range(3):
        assert shaken.statuses(session) == plain.statuses(session)
    assert shaken.partition.rejections == plain.partition.rejections == []
    for session, symbol, minute in holes:
        wanted = {"rows": Status.FILLED, "nothing": Status.NO_TRADE}
        status = wanted.get(said.get((session, symbol, minute), ""), Status.GIVEN_UP)
        assert plain.statuses(session)[symbol, minute] == status
