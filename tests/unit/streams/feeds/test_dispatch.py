"""What a feed gives as messages: cut, stamped, vouched for, and asked for where it was away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock, Codec, Coverage, DataRequest, Halt
from streams.feeds import Heard, Lost, Regained
from streams.feeds.dispatch import PACE_NS, Dispatch, Outgoing
from streams.feeds.protocol import EARLIER_NS
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.plan import Plan
from streams.sources.rows import bar_block, quote_block, tick_block
from streams.topics import MESSAGE_BYTES, Topics, shard_of
from tests.unit.streams.shards import WALL_NS, command, plan_for

TOPICS = Topics("tape")
SHARDS = 3
NAMES = ("AA", "BB", "CC", "DD", "EE", "FF")
PLAIN = command(mode="live", speed=1.0, symbols=NAMES, start="2024-11-29")
DAY, NEXT = plan_for(PLAIN, 0, SHARDS).sessions
OPEN_NS, CLOSE_NS = DAY.open_ns, DAY.close_ns
ANCHOR_NS = OPEN_NS + 90 * SECOND_NS


def plan(**changes: Any) -> Plan:
    changed = replace(PLAIN, anchor_wall_ns=WALL_NS, anchor_clock_ns=ANCHOR_NS, **changes)
    return plan_for(changed, 0, SHARDS)


def dispatch(**changes: Any) -> Dispatch:
    return Dispatch(TOPICS, plan(**changes), "vendor")


def bars(rows: Sequence[tuple[str, int]]) -> BarBlock:
    """Bars of (symbol, start)."""
    names = tuple(dict.fromkeys(symbol for symbol, _ in rows))
    price = np.arange(1.0, len(rows) + 1)
    return bar_block(
        names,
        np.array([names.index(symbol) for symbol, _ in rows], np.int32),
        np.array([ts for _, ts in rows], np.int64),
        interval_ns=MINUTE_NS,
        prices=[price] * 4,
        volume=price,
    )


def heard(until_ns: int, names: Sequence[str] = NAMES, streams: Sequence[str] = ("bars",)) -> Heard:
    return Heard(tuple(streams), tuple(names), until_ns)


def spans(messages: Sequence[Outgoing]) -> dict[str, list[tuple[int, int]]]:
    """What coverages say, by symbol, in their order."""
    found: dict[str, list[tuple[int, int]]] = {}
    for message in messages:
        if isinstance(message.record, Coverage):
            for symbol in message.record.symbols:
                assert message.shard == shard_of(symbol, SHARDS)
                span = message.record.start_ns, message.record.end_ns
                found.setdefault(symbol, []).append(span)
    return found


def asked(messages: Sequence[Outgoing]) -> dict[str, tuple[int, int]]:
    """What requests ask for, by symbol."""
    found: dict[str, tuple[int, int]] = {}
    for message in messages:
        if isinstance(message.record, DataRequest):
            assert message.topic == TOPICS.requests
            for symbol in message.record.symbols:
                assert message.shard == message.record.shard == shard_of(symbol, SHARDS)
                assert symbol not in found
                found[symbol] = message.record.start_ns, message.record.end_ns
    return found


def test_a_block_is_cut_by_shard_and_stamped_and_keeps_its_order() -> None:
    rows = [(name, OPEN_NS + n * MINUTE_NS) for n in range(3) for name in reversed(NAMES)]
    one = dispatch()
    messages = one.take(bars(rows), WALL_NS)
    assert len(messages) == len({shard_of(name, SHARDS) for name in NAMES})
    found = []
    for message in messages:
        block = message.record
        assert isinstance(block, BarBlock)
        assert message.topic == TOPICS.raw_bars
        assert (block.run, block.source, block.request) == ("run-1", "vendor", "")
        mine = [
            (block.symbols[s], int(ts)) for s, ts in zip(block.symbol, block.ts_ns, strict=True)
        ]
        assert mine == [row for row in rows if shard_of(row[0], SHARDS) == message.shard]
        assert set(block.symbols) == {symbol for symbol, _ in mine}
        found += mine
    assert sorted(found) == sorted(rows)
    assert (one.rows, one.outside) == (len(rows), 0)


def test_what_does_not_belong_to_the_run_is_counted_and_not_sent() -> None:
    one = dispatch()
    block = bars(
        [
            *(("AA", OPEN_NS - MINUTE_NS), ("AA", OPEN_NS), ("XX", OPEN_NS), ("BB", CLOSE_NS)),
            *(("BB", NEXT.open_ns), ("AA", NEXT.close_ns)),
        ]
    )
    messages = one.take(block, WALL_NS)
    sent = [row for m in messages for row in m.record.ts_ns.tolist()]  # type: ignore[attr-defined]
    assert sorted(sent) == [OPEN_NS, NEXT.open_ns]
    assert (one.rows, one.outside) == (2, 4)


def test_quotes_and_ticks_go_to_their_own_topics_if_the_run_has_them() -> None:
    zero, price = np.zeros(1, np.int32), np.ones(1)
    ts = np.array([OPEN_NS])
    quote = quote_block(
        ("AA",), zero, ts, prices=[price] * 2, sizes=[price] * 2, sequence=np.ones(1, np.int64)
    )
    tick = tick_block(
        ("AA",),
        zero,
        ts,
        price=price,
        size=price,
        sequence=np.ones(1, np.int64),
        condition=zero,
        conditions=("",),
    )
    one = dispatch(streams=("ticks",))
    assert one.take(quote, WALL_NS) == []
    assert [m.topic for m in one.take(tick, WALL_NS)] == [TOPICS.raw_ticks]
    assert (one.rows, one.outside) == (1, 1)
    both = dispatch(streams=("quotes", "ticks"))
    assert [m.topic for m in both.take(quote, WALL_NS)] == [TOPICS.raw_quotes]


def test_a_large_block_is_cut_to_messages() -> None:
    rows = [("AA", OPEN_NS + n) for n in range(40_000)]
    messages = dispatch().take(bars(rows), WALL_NS)
    assert len(messages) > 1
    assert all(len(Codec().encode(m.record, m.topic)) <= MESSAGE_BYTES for m in messages)


def test_a_halt_goes_to_the_shards_of_its_symbols() -> None:
    halt = Halt(("AA", "BB", "CC", "XX"), OPEN_NS, halted=True, reason="news")
    found: dict[str, int] = {}
    for message in dispatch().take(halt, WALL_NS):
        assert message.topic == TOPICS.raw_bars
        assert isinstance(message.record, Halt)
        assert (message.record.run, message.record.source) == ("run-1", "vendor")
        found |= dict.fromkeys(message.record.symbols, message.shard)
    assert found == {name: shard_of(name, SHARDS) for name in ("AA", "BB", "CC")}


def test_nothing_is_vouched_for_before_the_feed_is_connected() -> None:
    one = dispatch()
    assert one.take(heard(OPEN_NS + 2 * MINUTE_NS), WALL_NS) == []
    assert one.take(Lost("away", OPEN_NS, 1.0), WALL_NS) == []


def test_it_vouches_from_where_it_was_connected_on_and_without_a_hole() -> None:
    one = dispatch()
    at_ns = OPEN_NS + 2 * MINUTE_NS + 20 * SECOND_NS
    begin_ns = at_ns - 20 * SECOND_NS  # a bar that was ready before would have ended there
    assert asked(one.take(Regained(0, at_ns), WALL_NS)) == dict.fromkeys(
        # What is before its start the coordinator asks for.
        NAMES,
        (OPEN_NS + MINUTE_NS, begin_ns),
    )
    first = one.take(heard(OPEN_NS + 3 * MINUTE_NS), WALL_NS)
    assert spans(first) == {n: [(begin_ns, OPEN_NS + 3 * MINUTE_NS)] for n in NAMES}
    assert all(m.record.run == "run-1" for m in first)  # type: ignore[attr-defined]
    some = one.take(heard(OPEN_NS + 4 * MINUTE_NS, NAMES[:2]), WALL_NS)
    assert set(spans(some)) == set(NAMES[:2])
    rest = one.take(heard(OPEN_NS + 5 * MINUTE_NS), WALL_NS)
    assert spans(rest) == {
        name: [
            (OPEN_NS + (4 if name in NAMES[:2] else 3) * MINUTE_NS, OPEN_NS + 5 * MINUTE_NS),
        ]
        for name in NAMES
    }
    assert one.take(heard(OPEN_NS + 5 * MINUTE_NS), WALL_NS) == []


def test_between_the_ends_of_bars_it_keeps_a_pace_and_forgets_nothing() -> None:
    one = dispatch(streams=("ticks",), symbols=("AA",))
    one.take(Regained(0, ANCHOR_NS), WALL_NS)

    def tell(later_ns: int, wall_ns: int) -> list[tuple[int, int]]:
        messages = one.take(heard(ANCHOR_NS + later_ns, ("AA",), ("ticks", "quotes")), wall_ns)
        assert {m.topic for m in messages} <= {TOPICS.raw_ticks}
        return spans(messages).get("AA", [])

    assert tell(1, WALL_NS) == [(ANCHOR_NS, ANCHOR_NS + 2)]
    assert tell(2, WALL_NS + 1) == []
    assert one.due(WALL_NS + PACE_NS - 1) == []
    assert spans(one.due(WALL_NS + PACE_NS)) == {"AA": [(ANCHOR_NS + 2, ANCHOR_NS + 3)]}
    assert tell(3, WALL_NS + PACE_NS + 1) == []
    # The end of a bar waits for nothing.
    assert tell(31 * SECOND_NS, WALL_NS + PACE_NS + 2) == [
        (ANCHOR_NS + 3, ANCHOR_NS + 31 * SECOND_NS + 1)
    ]
    assert tell(31 * SECOND_NS + 1, WALL_NS + PACE_NS + 3) == []
    # What can be said of a connection is said when it ends.
    lost = one.take(Lost("away", ANCHOR_NS, 1.0), WALL_NS + PACE_NS + 4)
    end_ns = ANCHOR_NS + 31 * SECOND_NS
    assert spans(lost) == {"AA": [(end_ns + 1, end_ns + 2)]}


def test_the_time_away_is_asked_for_and_not_vouched_for() -> None:
    one = dispatch()
    one.take(Regained(0, OPEN_NS), WALL_NS)
    one.take(heard(OPEN_NS + MINUTE_NS), WALL_NS)
    one.take(Lost("away", OPEN_NS + 2 * MINUTE_NS + 1, 1.0), WALL_NS)
    assert one.take(heard(OPEN_NS + 3 * MINUTE_NS), WALL_NS) == []
    back_ns = OPEN_NS + 4 * MINUTE_NS + 5
    back = one.take(Regained(OPEN_NS + 2 * MINUTE_NS + 1, back_ns), WALL_NS)
    away = (OPEN_NS + 2 * MINUTE_NS, OPEN_NS + 4 * MINUTE_NS)
    # And what is before it, from the open on: it may have been corrected.
    assert asked(back) == dict.fromkeys(NAMES, (OPEN_NS, away[1]))
    requests = [m.record for m in back]
    assert len({r.id for r in requests}) == len(requests)  # type: ignore[attr-defined]
    assert {(r.run, r.kind, r.session, r.interval) for r in requests} == {  # type: ignore[attr-defined]
        ("run-1", "session", DAY.label, "1m")
    }
    after = one.take(heard(OPEN_NS + 5 * MINUTE_NS), WALL_NS)
    assert spans(after) == {name: [(away[1], OPEN_NS + 5 * MINUTE_NS)] for name in NAMES}


def test_bars_of_the_minutes_before_a_loss_are_asked_for_again() -> None:
    one = dispatch(hours="regular")
    one.take(Regained(0, OPEN_NS), WALL_NS)
    until_ns = OPEN_NS + 20 * MINUTE_NS
    one.take(heard(until_ns), WALL_NS)
    at_ns = until_ns + MINUTE_NS
    back = one.take(Regained(until_ns + 1, at_ns), WALL_NS)
    assert asked(back) == dict.fromkeys(NAMES, (until_ns - EARLIER_NS, at_ns))
    after = one.take(heard(at_ns + MINUTE_NS), WALL_NS)
    assert spans(after) == {name: [(at_ns, at_ns + MINUTE_NS)] for name in NAMES}
    # A loss in which no bar ended, too.
    back = one.take(Regained(at_ns + MINUTE_NS + 2, at_ns + MINUTE_NS + 3), WALL_NS)
    assert asked(back) == dict.fromkeys(
        NAMES, (until_ns + 2 * MINUTE_NS - EARLIER_NS, at_ns + MINUTE_NS)
    )


def test_the_session_before_is_not_asked_for_again() -> None:
    """Its last minutes are closed."""
    one = around_the_clock(THU.open_ns, streams=("bars",))
    one.take(Regained(0, THU.open_ns), THU.open_ns)
    since_ns, at_ns = FRI.open_ns + 7 * SECOND_NS, FRI.open_ns + MINUTE_NS
    requests = [m.record for m in one.take(Regained(since_ns, at_ns), at_ns)]
    assert {(r.session, r.start_ns, r.end_ns) for r in requests} == {  # type: ignore[attr-defined]
        (FRI.label, FRI.open_ns, at_ns),
    }


def test_ticks_are_asked_for_to_the_very_moment() -> None:
    one = dispatch(streams=("ticks",))
    messages = one.take(Regained(ANCHOR_NS + 7, ANCHOR_NS + 11), WALL_NS)
    assert asked(messages) == dict.fromkeys(NAMES, (ANCHOR_NS + 7, ANCHOR_NS + 11))


def test_between_sessions_there_is_nothing_to_ask_and_nothing_to_vouch_for() -> None:
    one = dispatch()
    assert one.take(Regained(0, OPEN_NS - 1), WALL_NS) == []
    assert one.take(heard(OPEN_NS), WALL_NS) == []
    one.take(heard(CLOSE_NS + MINUTE_NS), WALL_NS)
    one.take(Lost("the night", CLOSE_NS + MINUTE_NS, 1.0), WALL_NS)
    assert one.take(Regained(CLOSE_NS + MINUTE_NS, NEXT.open_ns - 1), WALL_NS) == []
    morning = one.take(heard(NEXT.open_ns + MINUTE_NS), WALL_NS)
    assert spans(morning) == {n: [(NEXT.open_ns, NEXT.open_ns + MINUTE_NS)] for n in NAMES}


def test_a_night_is_cut_out_of_what_it_vouches_for() -> None:
    one = dispatch()
    one.take(Regained(0, OPEN_NS), WALL_NS)
    messages = one.take(heard(NEXT.open_ns + MINUTE_NS), WALL_NS)
    both = [(OPEN_NS, CLOSE_NS), (NEXT.open_ns, NEXT.open_ns + MINUTE_NS)]
    assert spans(messages) == dict.fromkeys(NAMES, both)


def test_other_symbols_leave_what_is_known_of_the_rest() -> None:
    one = dispatch()
    one.take(Regained(0, OPEN_NS), WALL_NS)
    one.take(heard(OPEN_NS + 2 * MINUTE_NS, NAMES[:3]), WALL_NS)
    names = ("AA", "BB", "GG")
    one.follow(plan(symbols=names), WALL_NS)
    messages = one.take(Regained(0, OPEN_NS + 4 * MINUTE_NS), WALL_NS)
    until_ns = OPEN_NS + 4 * MINUTE_NS
    assert asked(messages) == {
        "AA": (OPEN_NS, until_ns),
        "BB": (OPEN_NS, until_ns),
        "GG": (OPEN_NS + MINUTE_NS, until_ns),
    }
    requests = [m.record for m in messages]
    assert len({r.id for r in requests}) == len(requests)  # type: ignore[attr-defined]


@settings(deadline=None)
@given(st.data())
def test_each_moment_is_vouched_for_once_or_was_away(data: st.DataObject) -> None:
    one = dispatch()
    now, wall = ANCHOR_NS, WALL_NS
    said: list[Outgoing] = list(one.take(Regained(0, now), wall))
    since: int | None = None
    for _ in range(data.draw(st.integers(1, 15))):
        now += data.draw(st.integers(1, 40 * SECOND_NS))
        wall += data.draw(st.integers(1, PACE_NS))
        if since is not None:
            said += one.take(Regained(since, now), wall)
            since = None
        elif data.draw(st.booleans()):
            said += one.take(heard(now), wall)
        else:
            said += one.take(heard(now), wall)
            said += one.take(Lost("away", now, 0.1), wall)
            since = now
    said += one.due(wall, is_last=True)
    end_ns = now if since is None else since
    for name in NAMES:
        pieces = spans(said).get(name, [])
        pieces += [
            (r.start_ns, r.end_ns)
            for m in said
            if isinstance(r := m.record, DataRequest) and name in r.symbols
        ]
        reached = OPEN_NS + MINUTE_NS  # what is before its start the coordinator asks for
        for start, end in sorted(pieces):
            assert start <= reached
            reached = max(reached, end)
        whole_ns = end_ns - (end_ns - OPEN_NS) % MINUTE_NS
        assert reached >= min(whole_ns, CLOSE_NS)
        assert reached <= CLOSE_NS


SETTLED_NS = 5 * SECOND_NS
UTC_DAYS = command(
    mode="live",
    speed=1.0,
    symbols=("AA", "BB"),
    streams=("ticks",),
    calendar="24/7",
    hours="regular",
    start="2024-11-28",
    end="2024-11-29",
)
THU, FRI = plan_for(UTC_DAYS, 0, SHARDS).sessions


def wall_at(tape_ns: int) -> int:
    """The wall time of a tape time of the first session."""
    return WALL_NS + tape_ns - ANCHOR_NS


def around_the_clock(begin_ns: int, settled_ns: int = 0, **changes: Any) -> Dispatch:
    """A run on the clock of the wall, which has no nights."""
    anchored = replace(UTC_DAYS, anchor_wall_ns=begin_ns, anchor_clock_ns=begin_ns, **changes)
    return Dispatch(TOPICS, plan_for(anchored, 0, SHARDS), "vendor", settled_ns)


def test_the_time_away_is_asked_for_when_its_history_is_final() -> None:
    for stream in ("bars", "ticks"):
        one = Dispatch(TOPICS, plan(streams=(stream,)), "vendor", SETTLED_NS)
        at_ns = ANCHOR_NS + 30 * SECOND_NS
        assert one.take(Regained(ANCHOR_NS, at_ns), wall_at(at_ns)) == []
        later_ns = at_ns + SETTLED_NS + SECOND_NS - 1  # a second for what the clocks may differ
        vouched = one.take(heard(later_ns, streams=(stream,)), wall_at(later_ns))
        assert asked(vouched) == {}
        assert all(start >= at_ns for pairs in spans(vouched).values() for start, _ in pairs)
        start_ns = OPEN_NS if stream == "bars" else ANCHOR_NS
        assert asked(one.due(wall_at(later_ns + 1))) == dict.fromkeys(NAMES, (start_ns, at_ns))
        assert asked(one.due(wall_at(later_ns + 2))) == {}


def test_what_waits_to_be_asked_for_waits_through_other_connections_and_symbols() -> None:
    one = Dispatch(TOPICS, plan(streams=("ticks",)), "vendor", SETTLED_NS)
    one.take(Regained(ANCHOR_NS, ANCHOR_NS + 10), wall_at(ANCHOR_NS + 10))
    one.take(Lost("away", ANCHOR_NS + 20, 1.0), wall_at(ANCHOR_NS + 20))
    assert one.take(Regained(ANCHOR_NS + 20, ANCHOR_NS + 30), wall_at(ANCHOR_NS + 30)) == []
    assert one.follow(plan(streams=("ticks",), symbols=("AA", "ZZ")), wall_at(ANCHOR_NS + 40)) == []
    due = one.due(wall_at(ANCHOR_NS + 30 + SETTLED_NS + SECOND_NS))
    requests = [m.record for m in due if isinstance(m.record, DataRequest)]
    assert [(r.symbols, r.start_ns, r.end_ns) for r in requests] == [
        (("AA",), ANCHOR_NS, ANCHOR_NS + 10),
        (("AA",), ANCHOR_NS + 20, ANCHOR_NS + 30),
    ]


def test_each_session_of_the_time_away_is_asked_for() -> None:
    one = around_the_clock(THU.open_ns)
    one.take(Regained(0, THU.open_ns), THU.open_ns)
    since_ns, at_ns = FRI.open_ns - 7 * SECOND_NS, FRI.open_ns + 9 * SECOND_NS
    one.take(Lost("away", since_ns, 1.0), since_ns)
    requests = [m.record for m in one.take(Regained(since_ns, at_ns), at_ns)]
    assert {(r.session, r.start_ns, r.end_ns) for r in requests} == {  # type: ignore[attr-defined]
        (THU.label, since_ns, THU.close_ns),
        (FRI.label, FRI.open_ns, at_ns),
    }
    assert len({r.id for r in requests}) == len(requests)  # type: ignore[attr-defined]


def test_who_asks_too_late_for_a_session_does_not_ask() -> None:
    one = around_the_clock(THU.open_ns, SETTLED_NS)
    at_ns = THU.close_ns - 1
    assert one.take(Regained(0, at_ns), at_ns) == []
    assert one.due(THU.close_ns + 60 * SECOND_NS) == []
    assert one.due(THU.close_ns) == []


def test_a_session_that_is_closed_by_now_is_not_asked_for() -> None:
    close_ns = THU.close_ns
    for late_s, is_asked in ((59, True), (60, False)):
        one = around_the_clock(THU.open_ns)
        at_ns = close_ns + late_s * SECOND_NS
        requests = [m.record for m in one.take(Regained(0, at_ns), at_ns)]
        sessions = {r.session for r in requests}  # type: ignore[attr-defined]
        assert sessions == ({THU.label, FRI.label} if is_asked else {FRI.label})


def test_other_symbols_cost_a_minute_of_those_that_nobody_vouches_for() -> None:
    begin_ns = THU.open_ns
    one = around_the_clock(begin_ns, SETTLED_NS)
    one.take(Regained(0, begin_ns), begin_ns)
    left_ns, at_ns = begin_ns + 3600 * SECOND_NS, begin_ns + 3601 * SECOND_NS
    more = replace(one._plan.command, symbols=("AA", "BB", "CC"))
    assert one.follow(plan_for(more, 0, SHARDS), left_ns) == []
    assert one.take(Regained(0, at_ns), at_ns) == []
    assert asked(one.due(at_ns + SETTLED_NS + SECOND_NS)) == {
        "AA": (left_ns - 60 * SECOND_NS, at_ns),
        "BB": (left_ns - 60 * SECOND_NS, at_ns),
        "CC": (begin_ns, at_ns),
    }


def test_what_was_heard_is_said_before_other_symbols_come() -> None:
    one = dispatch(streams=("ticks",), symbols=("AA",))
    one.take(Regained(0, ANCHOR_NS), WALL_NS)
    one.take(heard(ANCHOR_NS + 1, streams=("ticks",)), WALL_NS)
    assert one.take(heard(ANCHOR_NS + 2, streams=("ticks",)), WALL_NS) == []
    last = one.follow(plan(streams=("ticks",), symbols=("AA", "BB")), WALL_NS)
    assert spans(last) == {"AA": [(ANCHOR_NS + 2, ANCHOR_NS + 3)]}


@settings(deadline=None)
@given(st.data())
def test_around_midnight_ticks_are_vouched_for_or_asked_for_once(data: st.DataObject) -> None:
    begin_ns = now = FRI.open_ns - 60 * SECOND_NS
    one = around_the_clock(begin_ns, data.draw(st.sampled_from([0, SETTLED_NS])))
    said: list[Outgoing] = list(one.take(Regained(0, now), now))
    since: int | None = None
    for _ in range(data.draw(st.integers(1, 15))):
        now += data.draw(st.integers(1, 20 * SECOND_NS))
        if since is not None:
            said += one.take(Regained(since, now), now)
            since = None
        else:
            said += one.take(heard(now, ("AA", "BB"), ("ticks",)), now)
            if data.draw(st.booleans()):
                said += one.take(Lost("away", now, 0.1), now)
                since = now
        said += one.due(now)
    said += one.due(now, is_last=True)
    # The last of the first day is asked for while that may be open; ticks wait for no whole bar.
    said += one.due(min(now + SETTLED_NS + SECOND_NS, FRI.open_ns + 59 * SECOND_NS))
    said += one.due(now + SETTLED_NS + SECOND_NS)
    end_ns = now if since is None else since
    for name in ("AA", "BB"):
        pieces = spans(said).get(name, [])
        pieces += [
            (r.start_ns, r.end_ns)
            for m in said
            if isinstance(r := m.record, DataRequest) and name in r.symbols
        ]
        reached = begin_ns
        for start, end in sorted(pieces):
            # What is heard is vouched for to its very time; what is asked for begins with it.
            assert reached - 1 <= start <= reached
            reached = end
        assert end_ns <= reached <= end_ns + 1
