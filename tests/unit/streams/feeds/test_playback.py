"""A source played back: each row once, never before it is ready, and vouched for behind it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock, TickBlock
from streams.calendar import Session, sessions_between
from streams.errors import ConfigError, SourceError
from streams.feeds import Event, Feed, Heard, Regained, open_feed
from streams.feeds.clock import SessionClock, TapeClock
from streams.feeds.playback import Playback
from streams.feeds.script import ready_ns
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.sources import BadRow, Part, load_range, open_source
from streams.sources.rows import tick_block
from tests.unit.streams.feeds.playing import Given, List, StepClock, given_by, play
from tests.unit.streams.shards import WALL_NS, command, plan_for

DAYS = sessions_between("XNYS", "2024-11-29", "2024-12-02")  # the first closes early
URI = "synthetic:symbols=5,seed=3,missing=0.05"
MARKET = open_source(URI)
SYMBOLS = MARKET.symbols()


def clean(sessions: Sequence[Session] = DAYS) -> list[Given]:
    """The rows of the source alone."""
    blocks = [
        block
        for day in sessions
        for block in load_range(MARKET, SYMBOLS, day.open_ns, day.close_ns)[0]
    ]
    return [row for block in blocks for row in given_by(block)]


def rows_of(events: Sequence[tuple[int, Event]]) -> list[Given]:
    return [row for _, e in events if isinstance(e, BarBlock) for row in given_by(e)]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, SECOND_NS, 10 * MINUTE_NS]))
def test_each_row_comes_once_in_its_time_however_the_clock_goes(seed: int, most_ns: int) -> None:
    dice = random.Random(seed)
    clock = StepClock(DAYS, DAYS[0].open_ns, lambda: dice.randint(0, most_ns))
    events = play(open_feed(f"playback:{URI}"), SYMBOLS, clock)
    assert events[0][1] == Regained(0, DAYS[0].open_ns)
    assert sorted(rows_of(events)) == sorted(clean())
    reached, vouched = 0, dict.fromkeys(SYMBOLS, 0)
    for now_ns, event in events[1:]:
        if isinstance(event, BarBlock):
            ready = ready_ns(event)
            assert ready.max() <= now_ns
            assert ready.min() >= reached
            assert (np.diff(ready) >= 0).all()
            for row in given_by(event):
                assert row.ts_ns + MINUTE_NS > vouched[row.symbol]
            reached = int(ready.max())
        else:
            assert isinstance(event, Heard)
            assert event.until_ns <= now_ns
            assert event.streams == ("bars",)
            vouched |= dict.fromkeys(event.symbols, event.until_ns)
    assert vouched == dict.fromkeys(SYMBOLS, DAYS[-1].close_ns)


def test_in_time_a_minute_is_one_block_with_a_word_behind_it() -> None:
    clock = StepClock(DAYS, DAYS[0].open_ns)
    events = [e for _, e in play(open_feed(f"playback:{URI}"), SYMBOLS, clock)]
    heard = [e.until_ns for e in events if isinstance(e, Heard)]
    minutes = [int(ns) + MINUTE_NS for day in DAYS for ns in day.starts(MINUTE_NS)]
    assert heard == minutes
    for before, event in pairwise(events):
        if isinstance(before, BarBlock):
            assert isinstance(event, Heard)
            assert set(ready_ns(before).tolist()) == {event.until_ns}


def test_who_comes_later_gets_what_comes_later() -> None:
    at_ns = DAYS[0].open_ns + 30 * MINUTE_NS
    events = play(open_feed(f"playback:{URI}"), SYMBOLS, StepClock(DAYS, at_ns))
    assert events[0][1] == Regained(0, at_ns)
    # A row that is ready at that very moment is given: nothing is missed from there on.
    wanted = [row for row in clean() if row.ts_ns + MINUTE_NS >= at_ns]
    assert sorted(rows_of(events)) == sorted(wanted)
    night_ns = DAYS[0].close_ns + 1
    events = play(open_feed(f"playback:{URI}"), SYMBOLS, StepClock(DAYS, night_ns))
    assert sorted(rows_of(events)) == sorted(clean(DAYS[1:]))
    assert play(open_feed(f"playback:{URI}"), SYMBOLS, StepClock(DAYS, 2**62)) == [
        (2**62, Regained(0, 2**62))
    ]


def test_ticks_come_when_they_are_ready_and_their_conditions_stay_theirs() -> None:
    def ticks(symbol: str, conditions: tuple[str, ...], starts: Sequence[int]) -> Part:
        count = len(starts)
        return tick_block(
            (symbol,),
            np.zeros(count, np.int32),
            DAYS[0].open_ns + np.array(starts, np.int64),
            price=np.ones(count),
            size=np.ones(count),
            sequence=np.arange(count),
            condition=np.arange(count, dtype=np.int32) % max(1, len(conditions)),
            conditions=conditions,
        )

    source = List(
        {
            "ticks": [
                ticks("B", ("x", "y"), [5, 7, 7]),
                BadRow("file", 1, "it is no row"),
                ticks("A", ("y", "z"), [3, 7]),
                ticks("C", (), [6]),
            ]
        }
    )
    events = play(Playback(source), ("A", "B", "C"), StepClock(DAYS[:1], 0), ("bars", "ticks"))
    found = []
    for _, block in events:
        if isinstance(block, TickBlock):
            for row in range(len(block)):
                name = block.symbols[block.symbol[row]]
                said = block.conditions[block.condition[row]] if name != "C" else ""
                found.append((int(block.ts_ns[row]) - DAYS[0].open_ns, name, said))
    assert found == [
        *((3, "A", "y"), (5, "B", "x"), (6, "C", ""), (7, "B", "y"), (7, "B", "x"), (7, "A", "z")),
    ]
    assert {e.streams for _, e in events if isinstance(e, Heard)} == {("bars", "ticks")}


def test_a_source_that_fails_ends_the_feed() -> None:
    class Broken(List):
        def load(self, *_: object) -> Iterator[Part]:
            raise SourceError("it is gone", path="there")

    with pytest.raises(SourceError, match="there: it is gone"):
        play(Playback(Broken({})), SYMBOLS, StepClock(DAYS, DAYS[0].open_ns))


def test_it_can_be_left_at_any_time() -> None:
    async def leave() -> list[Event]:
        events = Playback(MARKET).events(SYMBOLS, ("bars",), StepClock(DAYS, DAYS[0].open_ns))
        found = []
        async for event in events:
            found.append(event)
            if len(found) == 5:
                break
        return found

    assert len(asyncio.run(leave())) == 5


async def test_it_needs_the_clock_of_a_run() -> None:
    class Wall:
        def now_ns(self) -> int:
            return 0

        async def until(self, ts_ns: int) -> None:
            pass

    with pytest.raises(SourceError, match="needs the clock of a run"):
        await anext(Playback(MARKET).events(SYMBOLS, ("bars",), Wall()))


def test_it_is_named_as_its_source() -> None:
    feed = open_feed(f"playback:{URI}")
    assert isinstance(feed, Feed)
    assert (feed.name, feed.settled_ns) == ("synthetic", 0)
    assert open_source(f"playback:{URI}") == MARKET


@pytest.mark.parametrize("uri", ["", "lean:data", "playback", "nowhere:x"])
def test_what_is_no_feed_is_told_what_is(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"is no feed: write .*playback:SOURCE"):
        open_feed(uri)


async def test_the_clock_of_a_run_goes_with_its_speed() -> None:
    fast = replace(command(mode="live", speed=60.0), hours="09:30-09:35")
    plan = plan_for(fast, 0, 1)
    wall = WALL_NS

    def look() -> int:  # each look takes a hundredth of a second
        nonlocal wall
        wall += SECOND_NS // 100
        return wall

    clock = TapeClock(plan, look)
    assert isinstance(clock, SessionClock)
    assert (clock.sessions, clock.interval_ns) == (plan.sessions, MINUTE_NS)
    open_ns = plan.sessions[0].open_ns
    assert clock.now_ns() == open_ns + 60 * SECOND_NS // 100
    await clock.until(open_ns + 3 * SECOND_NS)
    assert clock.now_ns() >= open_ns + 3 * SECOND_NS
    # Between sessions it jumps: at the close of one the next has begun.
    wall = plan.wall_at(plan.sessions[0].close_ns)
    await clock.until(plan.sessions[0].close_ns)
    assert clock.now_ns() >= plan.sessions[1].open_ns
