"""When gaps are asked for and given up, on a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas import Command, Coverage, DataRequest, Frame, Minutes
from streams.coverage import Grid, Status
from streams.gaps import RUNS, Due, Gaps, Limits, Sent
from streams.intervals import MINUTE_NS
from streams.plan import Plan
from tests.unit.streams.shards import RUN, command, plain_frame, plan_for

MS = 1_000_000
LIMITS = Limits(attempts=3, backoff_ns=100 * MS, timeout_ns=1_000 * MS, requests=2)
COMMAND = replace(command(), upkeep=True)
PLAN = plan_for(COMMAND, 0, 1)
SESSION = PLAN.sessions[0]


def frame(event: str = "rows", minutes: Minutes | None = None, run: str = RUN) -> Frame:
    return plain_frame(SESSION, event, minutes=minutes, run=run)


class Tape:
    """What the coordinator would say: a grid, and frames of what changes in it."""

    def __init__(self, gaps: Gaps | None = None, plan: Plan = PLAN, number: int = 0) -> None:
        self.plan = plan
        self.gaps = Gaps(0, LIMITS) if gaps is None else gaps
        self.grid = Grid(plan.sessions[number], plan.interval_ns, plan.symbols)
        self.now_ns = 0

    def say(self, where: NDArray[np.bool_], *, loaded: bool = False) -> None:
        minutes = self.grid.minutes(where, loaded=loaded)
        self.gaps.take(self.plan, frame(minutes=minutes), self.now_ns)

    def miss(self, *cells: tuple[int, int]) -> None:
        where = np.zeros(self.grid.status.shape, np.bool_)
        for cell in cells:
            where[cell] = True
        self.grid.status[where] = Status.MISSING
        self.say(where, loaded=True)

    def asked(self, request: DataRequest) -> None:
        """Echo a request."""
        assert request.gaps is not None
        cells = self.grid.cells(request.gaps)
        self.grid.status[cells], self.grid.attempt[cells] = Status.REQUESTED, request.attempt
        self.grid.request[cells] = self.grid.number_of(request.id)
        self.say(cells)

    def answer(self, request: DataRequest, status: Status) -> None:
        """Say that all minutes of a request have a status now."""
        assert request.gaps is not None
        cells = self.grid.cells(request.gaps)
        self.grid.status[cells] = status
        self.say(cells)

    def answer_final(self, given_up: Coverage) -> None:
        assert given_up.gaps is not None
        cells = self.grid.cells(given_up.gaps)
        self.grid.status[cells] = Status.GIVEN_UP
        self.say(cells)

    def due(self, passed_ms: float = 0) -> Due:
        self.now_ns += int(passed_ms * MS)
        return self.gaps.due(self.now_ns)

    def cells(self, what: DataRequest | Coverage) -> list[list[int]]:
        assert what.gaps is not None
        return np.argwhere(self.grid.cells(what.gaps)).tolist()


def test_a_gap_is_asked_for_at_once_in_one_request_of_whole_runs() -> None:
    tape = Tape()
    tape.miss((0, 1), (0, 2), (2, 4))
    assert tape.gaps.due_ns() == 0
    (request,) = tape.due().requests
    assert request.kind == "gap"
    assert request.id == f"{RUN}/{SESSION.label}/0/gap/0"
    assert (request.attempt, request.session, request.shard) == (1, SESSION.label, 0)
    assert request.symbols == ("AA", "CC")
    assert request.gaps is not None
    assert len(request.gaps) == 2
    assert request.start_ns == SESSION.open_ns + MINUTE_NS
    assert request.end_ns == SESSION.close_ns
    assert tape.cells(request) == [[0, 1], [0, 2], [2, 4]]
    assert "3 minutes in 2 runs" in request.reason
    assert tape.due() == ((), ())
    assert tape.gaps.in_flight == 1
    assert tape.gaps.due_ns() == LIMITS.timeout_ns


def test_filled_vouched_for_and_done() -> None:
    for status in (Status.FILLED, Status.NO_TRADE):
        tape = Tape()
        tape.miss((0, 0))
        (request,) = tape.due().requests
        tape.asked(request)
        assert tape.gaps.in_flight == 1
        tape.answer(request, status)
        assert tape.gaps.in_flight == 0
        assert tape.gaps.due_ns() is None
        assert tape.due(10_000) == ((), ())


def test_who_can_not_say_is_asked_again_later_and_later_and_then_no_more() -> None:
    tape = Tape()
    tape.miss((1, 3))
    waits = []
    for attempt in (1, 2, 3):
        (request,) = tape.due().requests
        assert request.attempt == attempt
        tape.asked(request)
        tape.answer(request, Status.MISSING)
        due_ns = tape.gaps.due_ns()
        assert due_ns is not None
        waits.append((due_ns - tape.now_ns) / MS)
        if attempt < 3:
            assert tape.due(waits[-1] - 1) == ((), ())
            tape.now_ns = due_ns
    assert 100 <= waits[0] <= 150
    assert 200 <= waits[1] <= 300
    requests, (given_up,) = tape.due()
    assert requests == ()
    assert given_up.final
    assert given_up.answer == "cannot_say"
    assert (given_up.run, given_up.source) == (RUN, "upkeep")
    assert tape.cells(given_up) == [[1, 3]]
    tape.grid.status[1, 3] = Status.GIVEN_UP
    tape.say(tape.grid.is_(Status.GIVEN_UP))
    assert tape.gaps.due_ns() is None


def test_no_answer_counts_as_a_failed_attempt() -> None:
    tape = Tape()
    tape.miss((0, 0))
    (request,) = tape.due().requests
    assert tape.due(999) == ((), ())
    assert tape.due(1) == ((), ())
    assert tape.gaps.in_flight == 0
    (again,) = tape.due(150).requests
    assert (again.id, again.attempt) == (f"{RUN}/{SESSION.label}/0/gap/1", 2)
    # What the first one's answer says now is older than what we know.
    tape.asked(request)
    tape.answer(request, Status.MISSING)
    assert tape.gaps.in_flight == 1
    assert tape.due() == ((), ())
    # But a row of it is a row.
    tape.answer(request, Status.FILLED)
    assert tape.gaps.in_flight == 0


def test_only_so_many_requests_are_out_at_once() -> None:
    command_ = replace(COMMAND, symbols=tuple(f"S{n:04d}" for n in range(2 * RUNS + 1)))
    tape = Tape(plan=plan_for(command_, 0, 1))
    tape.miss(*((n, 2) for n in range(2 * RUNS + 1)))
    one, two = tape.due().requests
    assert [len(r.symbols) for r in (one, two)] == [RUNS, RUNS]
    assert tape.due(500) == ((), ())
    tape.answer(two, Status.NO_TRADE)
    (three,) = tape.due().requests
    assert tape.cells(three) == [[2 * RUNS, 2]]


def test_sessions_come_in_their_order_and_go_with_their_close() -> None:
    gaps = Gaps(0, LIMITS)
    later, first = Tape(gaps, number=1), Tape(gaps)
    later.miss((0, 0))
    first.miss((0, 0))
    assert gaps.sessions == tuple(session.label for session in PLAN.sessions[:2])
    assert [request.session for request in first.due().requests] == list(gaps.sessions)
    gaps.take(PLAN, frame("close"), 0)
    assert list(gaps.sessions) == [PLAN.sessions[1].label]
    gaps.take(PLAN, frame("end"), 0)
    assert list(gaps.sessions) == []
    first.miss((0, 0))
    gaps.take(PLAN, frame("start", run="another"), 0)
    assert list(gaps.sessions) == []


def test_what_an_earlier_life_has_asked_for_is_not_asked_again() -> None:
    tape = Tape()
    tape.miss((0, 0), (1, 1))
    (request,) = tape.due().requests
    new = Tape()
    new.gaps.recall([Sent(request, 500 * MS), Sent(replace(request, gaps=None, session="x"), 0)])
    new.now_ns = 600 * MS
    new.miss((0, 0), (1, 1), (2, 2))
    (other,) = new.due().requests
    assert new.cells(other) == [[2, 2]]
    assert other.id.endswith("/gap/1")
    assert new.gaps.in_flight == 2
    (again,) = (r for r in (*new.due(900).requests, *new.due(150).requests) if r.attempt == 2)
    assert new.cells(again)[:2] == [[0, 0], [1, 1]]


def test_a_plain_request_of_an_earlier_life_only_counts() -> None:
    tape = Tape()
    tape.miss((0, 0))
    (request,) = tape.due().requests
    new = Tape()
    new.gaps.recall([Sent(replace(request, gaps=None), 0)])
    new.miss((0, 0))
    assert [r.id for r in new.due().requests] == [f"{RUN}/{SESSION.label}/0/gap/1"]


def test_symbols_that_join_have_gaps_too() -> None:
    tape = Tape()
    tape.miss((0, 0))
    tape.due()
    wide: Command = replace(COMMAND, symbols=("AA", "AB", "BB", "CC"))
    other = Tape(tape.gaps, plan=plan_for(wide, 0, 1))
    other.miss((1, 1))
    (request,) = other.due().requests
    assert request.symbols == ("AB",)
    assert tape.gaps.in_flight == 2


@given(
    holes=st.sets(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1),
    answers=st.lists(
        st.sampled_from([Status.FILLED, Status.NO_TRADE, Status.MISSING, None]), max_size=40
    ),
    crashes=st.sets(st.integers(0, 40)),
)
def test_every_gap_is_settled_by_a_bounded_number_of_requests(
    holes: set[tuple[int, int]], answers: list[Status | None], crashes: set[int]
) -> None:
    """Whatever the source answers or does not, and whenever the upkeep dies."""
    tape = Tape()
    sent: list[Sent] = []
    tape.miss(*holes)
    asked = dict.fromkeys(holes, 0)
    given_up: set[tuple[int, int]] = set()
    answered = iter(answers)
    for step in range(400):
        if step in crashes:
            tape.gaps = Gaps(0, LIMITS)
            tape.gaps.recall(sent)
            tape.say(tape.grid.status != Status.PENDING)
        requests, final = tape.due()
        for request in requests:
            sent.append(Sent(request, tape.now_ns))
            for symbol, minute in tape.cells(request):
                asked[symbol, minute] += 1
                assert request.attempt == asked[symbol, minute]
            tape.asked(request)
            status = next(answered, Status.MISSING)
            if status is not None:
                tape.answer(request, status)
        for coverage in final:
            given_up |= {(s, m) for s, m in tape.cells(coverage)}
            tape.answer_final(coverage)
        assert tape.gaps.in_flight <= LIMITS.requests
        due_ns = tape.gaps.due_ns()
        if due_ns is None:
            break
        tape.now_ns = max(due_ns, tape.now_ns)
    assert tape.gaps.due_ns() is None
    for cell in holes:
        assert 1 <= asked[cell] <= LIMITS.attempts
        assert (cell in given_up) == (tape.grid.status[cell] == Status.GIVEN_UP)
        assert tape.grid.status[cell] in (Status.FILLED, Status.NO_TRADE, Status.GIVEN_UP)


def test_minutes_by_status_and_the_quality_of_a_session() -> None:
    tape = Tape()
    assert tape.gaps.minutes().tolist() == [0] * len(Status)
    assert tape.gaps.quality(SESSION.label, SESSION.close_ns) == 1.0
    tape.miss((0, 1), (0, 2), (2, 4))
    tape.grid.status[1, 0] = Status.NO_TRADE
    tape.say(tape.grid.status == Status.NO_TRADE)
    counts = tape.gaps.minutes()
    assert (counts[Status.MISSING], counts[Status.NO_TRADE], counts[Status.PENDING]) == (3, 1, 11)
    found = [
        tape.gaps.quality(SESSION.label, SESSION.open_ns + minutes * MINUTE_NS)
        for minutes in range(6)
    ]
    assert found == [1.0, 1.0, 1 - 1 / 6, 1 - 2 / 9, 1 - 2 / 12, 1 - 3 / 15]
    (request,) = tape.due().requests
    tape.asked(request)
    assert tape.gaps.quality(SESSION.label, SESSION.close_ns) == 1 - 3 / 15
    tape.answer(request, Status.FILLED)
    assert tape.gaps.quality(SESSION.label, SESSION.close_ns) == 1.0
    tape.gaps.take(PLAN, frame("close"), 0)
    assert tape.gaps.minutes().tolist() == [0] * len(Status)
