"""How far the symbols of a live session have reported: bars by minute, quotes and ticks by time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarColumns, Coverage, Halt
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.merge import columns_of
from streams.watermark import Watermark
from tests.unit.streams.shards import block, command, plan_for

SESSION = plan_for(command(), 0, 1).sessions[0]  # five minutes
OPEN_NS, CLOSE_NS = SESSION.open_ns, SESSION.close_ns
SYMBOLS = ("AA", "BB")


def mark(*streams: str, symbols: tuple[str, ...] = SYMBOLS) -> Watermark:
    return Watermark(SESSION, MINUTE_NS, symbols, streams)


def bars(*rows: tuple[str, int]) -> BarColumns:
    some = block([(name, OPEN_NS + minute * MINUTE_NS, MINUTE_NS, 0) for name, minute in rows])
    found = columns_of(some, {name: n for n, name in enumerate(SYMBOLS)}, np.int32(0))
    assert isinstance(found, BarColumns)
    return found


def cover(first_s: float, last_s: float, *symbols: str, answer: str = "rows") -> Coverage:
    start_ns, end_ns = (OPEN_NS + int(s * SECOND_NS) for s in (first_s, last_s))
    return Coverage(symbols or SYMBOLS, start_ns, end_ns, answer)


def second(ns: int) -> float:
    return (ns - OPEN_NS) / SECOND_NS


def until(ns: int) -> float:
    """Seconds behind the open, exclusive, up to which ticks are reached."""
    return second(ns + 1)


def test_ticks_are_out_up_to_where_all_are_vouched_for_without_a_hole() -> None:
    found = mark("ticks")
    assert found.reached(OPEN_NS) == OPEN_NS
    found.cover("ticks", cover(0, 10), OPEN_NS)
    found.cover("ticks", cover(10, 30, "AA"), OPEN_NS)
    assert until(found.reached(OPEN_NS)) == 10
    found.cover("ticks", cover(20, 40, "BB"), OPEN_NS)
    assert until(found.reached(OPEN_NS)) == 10, "10 to 20 is a hole"
    # Behind the clock nobody is waited for any more: from there on it is no hole.
    clock_ns = OPEN_NS + 25 * SECOND_NS
    assert until(found.reached(clock_ns)) == 30
    found.cover("quotes", cover(0, 300), clock_ns)
    found.cover("ticks", cover(25, 50, answer="cannot_say"), clock_ns)
    assert until(found.reached(clock_ns)) == 30


def test_a_tick_of_the_end_of_a_coverage_is_not_vouched_for() -> None:
    for stream in ("ticks", "quotes"):
        found = mark(stream)
        # Nor is one of the open before anything is said of it: its first slice is to come.
        assert found.reached(OPEN_NS - 1) == OPEN_NS - 1
        found.cover(stream, Coverage(SYMBOLS, OPEN_NS, OPEN_NS + 1), OPEN_NS - 1)
        assert found.reached(OPEN_NS - 1) == OPEN_NS
        found.cover(stream, Coverage(SYMBOLS, OPEN_NS + 1, CLOSE_NS - 1), OPEN_NS - 1)
        assert found.reached(OPEN_NS - 1) == CLOSE_NS - 2
        # Up to the close it is the whole session.
        found.cover(stream, Coverage(SYMBOLS, CLOSE_NS - 1, CLOSE_NS), OPEN_NS - 1)
        assert found.reached(OPEN_NS - 1) == CLOSE_NS


def test_behind_the_clock_a_coverage_closes_up_and_a_nanosecond_later_it_does_not() -> None:
    clock_ns = OPEN_NS + 10 * SECOND_NS
    for late_ns, is_whole in ((1, True), (2, False)):
        found = mark("ticks")
        found.cover("ticks", Coverage(SYMBOLS, clock_ns + late_ns, CLOSE_NS), clock_ns)
        assert (found.reached(clock_ns) == CLOSE_NS) is is_whole


def test_a_bar_of_the_end_of_a_coverage_is_vouched_for() -> None:
    found = mark("bars")
    found.cover("bars", cover(0, 60), OPEN_NS)
    assert found.reached(OPEN_NS) == OPEN_NS + MINUTE_NS
    found.cover("bars", Coverage(SYMBOLS, OPEN_NS, OPEN_NS + 2 * MINUTE_NS - 1), OPEN_NS)
    assert found.reached(OPEN_NS) == OPEN_NS + MINUTE_NS


def test_what_closes_a_hole_counts_with_what_came_behind_it() -> None:
    found = mark("ticks")
    found.cover("ticks", cover(0, 10), OPEN_NS)
    for second_s in range(20, 30):  # heartbeats behind a hole
        found.cover("ticks", cover(second_s, second_s + 1), OPEN_NS)
    assert until(found.reached(OPEN_NS)) == 10
    found.cover("ticks", cover(10, 20, "AA"), OPEN_NS)
    assert until(found.reached(OPEN_NS)) == 10
    found.cover("ticks", cover(10, 20, "BB"), OPEN_NS)
    assert until(found.reached(OPEN_NS)) == 30
    found.cover("ticks", cover(30, 31), OPEN_NS)
    assert until(found.reached(OPEN_NS)) == 31
    # Of two stretches behind holes the later is kept; what is lost of the other comes by the clock.
    found.cover("ticks", cover(40, 50), OPEN_NS)
    found.cover("ticks", cover(60, 70), OPEN_NS)
    found.cover("ticks", cover(31, 60), OPEN_NS)
    assert until(found.reached(OPEN_NS)) == 70


def test_what_is_vouched_for_behind_a_hole_counts_once_that_is_closed() -> None:
    found = mark("ticks")
    found.cover("ticks", cover(0, 10), OPEN_NS)
    found.cover("ticks", cover(20, 30), OPEN_NS)
    found.cover("ticks", cover(30, 40, "AA"), OPEN_NS)
    found = found.renamed(SYMBOLS)
    found.cover("ticks", cover(10, 20, "AA"), OPEN_NS)  # the answer to who asked for it
    assert until(found.reached(OPEN_NS)) == 10
    found.cover("ticks", cover(10, 20, "BB"), OPEN_NS)
    assert until(found.reached(OPEN_NS)) == 30
    found.cover("ticks", cover(30, 40, "BB"), OPEN_NS)
    assert until(found.reached(OPEN_NS)) == 40
    # Of two stretches the last one is kept: what is between them is a hole, too.
    found.cover("ticks", cover(50, 60), OPEN_NS)
    found.cover("ticks", cover(70, 80), OPEN_NS)
    found.cover("ticks", cover(40, 50), OPEN_NS)
    assert until(found.reached(OPEN_NS)) == 50
    # So it does once the clock has come behind the hole.
    clock_ns = OPEN_NS + 72 * SECOND_NS
    found.cover("ticks", cover(80, 90), clock_ns)
    assert until(found.reached(clock_ns)) == 90


def test_with_bars_ticks_are_out_up_to_the_minute_that_lacks_one() -> None:
    found = mark("bars", "ticks")
    found.cover("ticks", cover(0, 300), OPEN_NS)
    assert found.reached(OPEN_NS) == OPEN_NS + MINUTE_NS - 1
    found.take(bars(("AA", 0), ("BB", 0), ("AA", 2)))
    assert found.reached(OPEN_NS) == OPEN_NS + 2 * MINUTE_NS - 1
    found.cover("bars", cover(60, 120), OPEN_NS)
    assert found.reached(OPEN_NS) == OPEN_NS + 3 * MINUTE_NS - 1
    found.cover("bars", cover(0, 300, "BB"), OPEN_NS)
    found.cover("bars", cover(180, 300, "AA"), OPEN_NS)
    assert found.reached(OPEN_NS) == CLOSE_NS


def test_bars_alone_are_out_up_to_the_end_of_a_minute() -> None:
    found = mark("bars")
    assert found.reached(OPEN_NS) == OPEN_NS
    found.take(bars(("AA", 0), ("BB", 0)))
    assert found.reached(OPEN_NS) == OPEN_NS + MINUTE_NS
    assert found.halted() is None
    found.halt(Halt(("BB", "of another shard"), OPEN_NS + MINUTE_NS, halted=True))
    found.take(bars(("AA", 1)))
    assert found.reached(OPEN_NS) == OPEN_NS + 2 * MINUTE_NS
    halted = found.halted()
    assert halted is not None
    assert halted.tolist() == [[False] * 5, [False, True, True, True, True]]


def test_who_is_halted_holds_up_no_ticks() -> None:
    found = mark("ticks")
    found.cover("ticks", cover(0, 90, "AA"), OPEN_NS)
    found.halt(Halt(("BB",), OPEN_NS, halted=True))
    assert until(found.reached(OPEN_NS)) == 90
    found.halt(Halt(("BB",), OPEN_NS + 30 * SECOND_NS, halted=False))
    assert until(found.reached(OPEN_NS)) == 30, "from there on it trades again"
    assert second(found.reached(OPEN_NS + 40 * SECOND_NS)) == 40


def test_a_shard_without_symbols_waits_for_nobody() -> None:
    assert mark("bars", "ticks", symbols=()).reached(OPEN_NS) == CLOSE_NS


def test_other_symbols_take_along_what_is_known() -> None:
    found = mark("bars", "ticks")
    found.take(bars(("AA", 0), ("BB", 0)))
    found.cover("ticks", cover(0, 120), OPEN_NS)
    found.halt(Halt(("BB",), OPEN_NS + MINUTE_NS, halted=True))
    only = found.renamed(("BB",))
    assert until(only.reached(OPEN_NS)) == 120
    more = found.renamed(("AA", "BB", "CC"))
    assert more.reached(OPEN_NS) == OPEN_NS
    more.cover("ticks", cover(0, 120, "CC"), OPEN_NS)
    assert more.reached(OPEN_NS) == OPEN_NS + MINUTE_NS - 1
    assert found.renamed(("DD",)).reached(OPEN_NS) == OPEN_NS


@settings(max_examples=150, deadline=None)
@given(
    reports=st.lists(
        st.one_of(
            st.tuples(st.just("bar"), st.sampled_from(SYMBOLS), st.integers(0, 4)),
            st.tuples(st.just("beat"), st.sampled_from(SYMBOLS), st.integers(0, 300)),
        ),
        max_size=25,
    )
)
def test_it_never_goes_back_and_never_beyond_what_all_have_reported(
    reports: list[tuple[str, str, int]],
) -> None:
    found = mark("bars")
    there: set[tuple[str, int]] = set()
    clock_ns = OPEN_NS
    for kind, name, at in reports:
        if kind == "bar":
            found.take(bars((name, at)))
            there.add((name, at))
        else:
            found.cover("bars", cover(0, at, name), clock_ns)
            there |= {(name, minute) for minute in range(at // 60)}
        reached = found.reached(clock_ns)
        whole = next((m for m in range(5) if any((s, m) not in there for s in SYMBOLS)), 5)
        assert reached == max(OPEN_NS + whole * MINUTE_NS, clock_ns)
        clock_ns = reached


def test_who_is_absent_is_not_waited_for() -> None:
    for streams in (("bars",), ("ticks",), ("bars", "ticks")):
        found = mark(*streams)
        for stream in streams:
            found.cover(stream, cover(0, 61, "AA"), OPEN_NS)
        assert found.reached(OPEN_NS) == OPEN_NS
        assert found.reached(OPEN_NS, ("BB",)) >= OPEN_NS + MINUTE_NS
