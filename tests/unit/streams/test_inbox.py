"""What came in, looked at and put where it belongs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from schemas import Bar, BarBlock, Coverage, Quote, Record
from streams.arrival import Arrival, Clock, Noted, Rejection
from streams.inbox import Inbox
from streams.intervals import MINUTE_NS
from streams.kinds import Rows
from streams.topics import shard_of
from tests.unit.streams.shards import RUN, Row, bar, block, command, coverage, plan_for

PLAN = plan_for(command(), 0, 1)
OPEN = PLAN.sessions[0].open_ns
WAITING = Clock(RUN, 0, is_open=False, clock_ns=OPEN)


def row(minute: int = 0, symbol: str = "AA", session: int = 0, revision: int = 0) -> Row:
    return (symbol, PLAN.sessions[session].open_ns + minute * MINUTE_NS, MINUTE_NS, revision)


def at(minute: int, number: int = 0) -> Clock:
    return Clock(RUN, number, is_open=True, clock_ns=row(minute, session=number)[1])


def put(inbox: Inbox, *records: Record | Rejection, first: int = 0) -> Inbox:
    for offset, record in enumerate(records, first):
        inbox.put(offset, record)
    return inbox


def sorted_in(inbox: Inbox, clock: Clock = WAITING) -> list[tuple[int, list[int]]]:
    return [
        (came.number, came.rows.ts_ns.tolist())
        for came in inbox.sort(PLAN, clock)
        if isinstance(came, Arrival) and not came.is_late
    ]


def noted_in(inbox: Inbox, clock: Clock = WAITING) -> list[Record]:
    return [came.record for came in inbox.sort(PLAN, clock) if isinstance(came, Noted)]


def reasons(inbox: Inbox) -> list[tuple[int, str]]:
    return [(rejection.offset, rejection.reason) for rejection in inbox.rejections]


def late_in(inbox: Inbox) -> list[Rows]:
    return inbox.take_late(lambda rows: np.zeros(len(rows), np.bool_))


def test_rows_go_to_their_sessions() -> None:
    inbox = put(Inbox(), block([row(0), row(1, session=2), row(1)]), bar(row(3, session=1)))
    assert len(inbox) == 2
    assert sorted_in(inbox) == [
        (0, [row(0)[1], row(1)[1]]),
        (2, [row(1, session=2)[1]]),
        (1, [row(3, session=1)[1]]),
    ]
    assert (len(inbox), inbox.taken) == (0, 2)
    assert inbox.sources == ["model"]


def test_messages_of_one_row_are_sorted_together_with_their_own_sources() -> None:
    inbox = put(Inbox(), bar(row(0), source="one"), bar(row(1), RUN, "two"), bar(row(2), "old"))
    (came,) = inbox.sort(PLAN, WAITING)
    assert isinstance(came, Arrival)
    number, rows = came.number, came.rows
    assert number == 0
    assert rows.source.tolist() == [0, 1]
    assert inbox.sources == ["one", "two"]
    assert inbox.taken == 3


def test_what_another_run_asked_for_is_left_out() -> None:
    inbox = put(Inbox(), block([row(0)], "old"), coverage(PLAN, 0, run="old"), bar(row(0), "old"))
    assert list(inbox.sort(PLAN, WAITING)) == []
    assert not inbox.rejections
    assert inbox.keep(OPEN) == inbox.taken == 3


def test_a_row_behind_the_clock_is_late_one_of_another_session_is_not() -> None:
    inbox = put(Inbox(), block([row(0), row(1), row(2), row(0, session=1)]), block([row(0)]))
    assert sorted_in(inbox, at(2)) == [(0, [row(2)[1]]), (1, [row(0, session=1)[1]])]
    assert [rows.ts_ns.tolist() for rows in late_in(inbox)] == [[row(0)[1], row(1)[1]], [row(0)[1]]]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (bar(row(), high=1.0), "high is below low"),
        (block([row(), row(9)]), "the time lies outside every session"),
        (bar(("AA", 0, MINUTE_NS, 0)), "the time lies outside every session"),
        (bar(row(), close=float("nan")), "a price or volume is not a number"),
        (bar(("AA", OPEN, 6 * MINUTE_NS, 0)), "the time lies outside every session"),
        (bar(row(symbol="XX")), "symbol 'XX' is not one of the run"),
        (replace(bar(row()), interval="1x"), "'1x' is no interval: write 1s, 1m, 5m, 1h or 1d"),
        (Quote("AA", OPEN, 1.0, 1.0, 1.0, 1.0), "a Quote does not belong on this topic"),
        (PLAN.request(0, is_now=True), "a DataRequest does not belong on this topic"),
        (Rejection(0, "cut short", b"x"), "cut short"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(
    record: Record | Rejection, reason: str
) -> None:
    inbox = put(Inbox(), record)
    good = sorted_in(inbox)
    assert reasons(inbox) == [(0, reason)]
    what = inbox.rejections[0].what
    if isinstance(record, BarBlock):
        assert good == [(0, [row()[1]])]
        assert isinstance(what, BarBlock)
        assert what.ts_ns.tolist() == [row(9)[1]]
    else:
        assert good == []
        assert what is (record.what if isinstance(record, Rejection) else record)
    assert inbox.keep(OPEN) == (0 if good else 1)


def test_an_overflow_of_time_is_refused() -> None:
    one = block([row()])
    inbox = put(Inbox(), replace(one, interval_ns=np.array([2**63 - 1])))
    assert sorted_in(inbox) == []
    assert reasons(inbox) == [(0, "the time lies outside every session")]


def test_a_symbol_of_another_shard_is_told_where_it_belongs() -> None:
    plan = plan_for(command(), 0, 2)
    other = next(s for s in ("AA", "BB", "CC") if shard_of(s, 2) == 1)
    inbox = put(Inbox(), block([row(symbol=other), row(symbol="XX")]))
    assert list(inbox.sort(plan, WAITING)) == []
    assert set(reasons(inbox)) == {
        (0, "symbol 'XX' is not one of the run"),
        (0, f"symbol {other!r} belongs in partition 1 of 2"),
    }


def test_a_row_of_a_session_that_is_over_is_refused() -> None:
    inbox = put(Inbox(), block([row(0), row(0, session=1)]))
    clock = Clock(RUN, 1, is_open=False, clock_ns=PLAN.sessions[0].close_ns)
    assert sorted_in(inbox, clock) == [(1, [row(0, session=1)[1]])]
    assert reasons(inbox) == [(0, "its session is over")]


def test_keep_is_the_first_message_with_something_beyond_the_clock() -> None:
    inbox = put(Inbox(), block([row(1)]), bar(row(3)), coverage(PLAN, 0), bar(row(2)), block([]))
    sorted_in(inbox)
    close = PLAN.sessions[0].close_ns
    clocks = [row(minute)[1] for minute in range(6)]
    assert clocks[5] == close
    assert [inbox.keep(clock) for clock in clocks] == [0, 0, 1, 1, 2, 5]


def test_coverage_far_beyond_the_run_is_kept_to_its_end_only() -> None:
    inbox = put(Inbox(), coverage(PLAN, 0, end_ns=2**62))
    assert noted_in(inbox) == [coverage(PLAN, 0, end_ns=2**62)]
    assert inbox.keep(PLAN.sessions[2].close_ns - 1) == 0
    assert inbox.keep(PLAN.sessions[2].close_ns) == 1


def resumed(keep: int, taken: int) -> Inbox:
    inbox = Inbox()
    inbox.resume(keep, taken)
    return inbox


def messages() -> list[Bar | BarBlock | Coverage]:
    return [block([row(0), row(2)]), bar(row(4), high=0.0), bar(row(3)), bar(row(0))]


def test_after_a_crash_what_is_out_or_was_refused_stays_so() -> None:
    inbox = resumed(0, 3)
    behind = [inbox.is_behind]
    for offset, record in enumerate(messages()):
        inbox.put(offset, record)
        behind.append(inbox.is_behind)
    assert behind == [True, True, True, False, False]
    assert sorted_in(inbox, at(2)) == [(0, [row(2)[1]]), (0, [row(3)[1]])]
    # The last message came after the crash: its row is late, and not out.
    assert [rows.ts_ns.tolist() for rows in late_in(inbox)] == [[row(0)[1]]]
    assert not inbox.rejections
    assert (inbox.keep(row(2)[1]), inbox.taken) == (0, 4)


def test_messages_before_keep_are_not_looked_at() -> None:
    inbox = put(resumed(2, 3), *messages())
    assert len(inbox) == 2


def test_nothing_is_behind_where_nothing_was_held() -> None:
    assert not resumed(4, 4).is_behind
    assert not Inbox().is_behind


def test_one_thread_puts_while_another_sorts() -> None:
    inbox = Inbox()
    count = 3_000

    def put_all() -> None:
        for offset in range(count):
            inbox.put(offset, bar(row(offset % 5)))

    came = 0
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(put_all)
        while inbox.taken < count and not (putting.done() and putting.exception()):
            came += sum(len(c.rows) for c in inbox.sort(PLAN, WAITING) if isinstance(c, Arrival))
    putting.result()
    assert (came, len(inbox)) == (count, 0)


@pytest.mark.parametrize("came_again", [0, 2, 4])
def test_a_new_run_never_sees_what_was_looked_at_before_it(came_again: int) -> None:
    """Not even where it began while a recovery was still reading."""
    inbox = put(resumed(0, 3), *messages()[:came_again])
    inbox.forget()
    assert not inbox.is_behind
    assert inbox.keep(0) == inbox.taken == 3
    put(inbox, *messages()[came_again:], first=came_again)
    assert sorted_in(inbox) == [(0, [row(0)[1]])]
    assert not inbox.rejections
    assert inbox.taken == 4


def test_late_rows_that_are_outdone_are_refused_with_their_own_offsets() -> None:
    inbox = put(Inbox(), block([row(0), row(3), row(1)]), bar(row(0)), bar(row(1)))
    assert sorted_in(inbox, at(2)) == [(0, [row(3)[1]])]
    first = row(0)[1]
    kept = inbox.take_late(lambda rows: rows.ts_ns == first)
    assert [rows.ts_ns.tolist() for rows in kept] == [[row(1)[1]], [row(1)[1]]]
    assert reasons(inbox) == [
        (0, "a later revision of it is out"),
        (1, "a later revision of it is out"),
    ]
    part, one = (rejection.what for rejection in inbox.rejections)
    assert isinstance(part, BarBlock)
    assert part.ts_ns.tolist() == [first]
    assert one == bar(row(0))
    assert late_in(inbox) == []


def test_a_message_whose_late_rows_are_all_outdone_leaves_nothing() -> None:
    inbox = put(Inbox(), block([row(0), row(1)]))
    assert sorted_in(inbox, at(2)) == []
    assert inbox.take_late(lambda rows: rows.ts_ns > 0) == []
    assert len(reasons(inbox)) == 1


def test_what_comes_next_is_known_from_the_first_message_or_the_last_owner() -> None:
    inbox = Inbox()
    before = inbox.next_offset
    put(inbox, bar(row(0)), first=7)
    assert (before, inbox.next_offset) == (None, 8)
    assert resumed(3, 5).next_offset == 3
