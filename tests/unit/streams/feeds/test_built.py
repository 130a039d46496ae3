"""Bars of a feed's own ticks: each once it is vouched for, and those of a source at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock, TickBlock
from streams.errors import ConfigError
from streams.feeds import Clock, Event, Heard, Lost, Regained, open_feed
from streams.feeds.built import BuiltFeed
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.selection import is_feed, is_of_the_past
from streams.sources.rows import tick_block

BEGIN_NS = 1_700_000_000_000_000_000 // MINUTE_NS * MINUTE_NS


def ticks(*rows: tuple[str, float, float]) -> TickBlock:
    """Ticks by symbol, second behind the begin, and price."""
    names = tuple(dict.fromkeys(name for name, _, _ in rows))
    return tick_block(
        names,
        np.array([names.index(name) for name, _, _ in rows], np.int32),
        np.array([BEGIN_NS + int(second * SECOND_NS) for _, second, _ in rows]),
        price=np.array([price for _, _, price in rows]),
        size=np.ones(len(rows)),
        sequence=np.arange(len(rows)),
        condition=np.full(len(rows), -1, np.int32),
        conditions=(),
    )


def heard(second: float, *symbols: str, streams: tuple[str, ...] = ("ticks",)) -> Heard:
    return Heard(streams, symbols, BEGIN_NS + int(second * SECOND_NS))


def regained(second: float) -> Regained:
    return Regained(0, BEGIN_NS + int(second * SECOND_NS))


@dataclass
class Told:
    """A feed that gives what it was given."""

    given: Sequence[Event]
    name: str = "told"
    settled_ns: int = 0
    asked: tuple[str, ...] = ()
    is_closed: bool = False

    async def events(
        self, symbols: Sequence[str], streams: Sequence[str], clock: Clock
    ) -> AsyncIterator[Event]:
        del symbols, clock
        self.asked = tuple(streams)
        try:
            for event in self.given:
                yield event
        finally:
            self.is_closed = True


class Still:
    """A clock that nobody asks."""

    def now_ns(self) -> int:
        raise NotImplementedError

    async def until(self, ts_ns: int) -> None:
        raise NotImplementedError


async def built(given: Sequence[Event], *streams: str) -> tuple[list[Event], tuple[str, ...]]:
    feed = Told(given)
    events = [e async for e in BuiltFeed(feed).events(("AA", "BB"), streams, Still())]
    return events, feed.asked


def bars(events: Sequence[Event]) -> list[tuple[str, int, float, float, float, float, int]]:
    """Symbol, minute, open, high, low, close and revision of each bar."""
    return [
        (
            block.symbols[block.symbol[at]],
            int(block.ts_ns[at] - BEGIN_NS) // MINUTE_NS,
            *(float(getattr(block, name)[at]) for name in ("open", "high", "low", "close")),
            int(block.revision[at]),
        )
        for block in events
        if isinstance(block, BarBlock)
        for at in range(len(block))
    ]


async def test_a_bar_comes_when_its_ticks_are_vouched_for_and_again_for_a_late_one() -> None:
    events, asked = await built(
        [
            regained(0),
            ticks(("AA", 1, 10.0), ("BB", 2, 20.0), ("AA", 59.9, 9.0)),
            heard(59.9, "AA", "BB"),
            heard(60, "AA"),
            heard(61, "BB"),
            ticks(("AA", 30, 12.0)),
            heard(62, "AA", "BB"),
        ],
        "bars",
    )
    assert asked == ("ticks",)
    assert bars(events) == [
        ("AA", 0, 10.0, 10.0, 9.0, 9.0, 0),
        ("BB", 0, 20.0, 20.0, 20.0, 20.0, 0),
        ("AA", 0, 10.0, 12.0, 9.0, 9.0, 1),
    ]
    assert not any(isinstance(event, TickBlock) for event in events), "nobody asked for ticks"
    said = [event for event in events if isinstance(event, Heard)]
    assert {event.streams for event in said} == {("bars",)}
    assert [event.symbols for event in said] == [("AA", "BB"), ("AA",), ("BB",), ("AA", "BB")]


async def test_the_minute_in_which_a_connection_begins_is_left_to_a_source() -> None:
    lost = Lost("gone", BEGIN_NS + 70 * SECOND_NS, 1.0)
    events, _ = await built(
        [
            regained(30),
            ticks(("AA", 40, 1.0), ("AA", 65, 2.0)),
            heard(66, "AA"),
            lost,
            regained(100),
            ticks(("AA", 110, 3.0), ("AA", 130, 4.0)),
            heard(180, "AA"),
        ],
        "bars",
    )
    assert bars(events) == [("AA", 2, 4.0, 4.0, 4.0, 4.0, 0)]
    assert [e for e in events if isinstance(e, Lost | Regained)] == [
        regained(30),
        lost,
        regained(100),
    ]


async def test_what_else_is_asked_for_comes_as_it_is() -> None:
    some = ticks(("AA", 1, 10.0))
    given_: list[Event] = [regained(0), some, heard(60, "AA", streams=("ticks", "quotes"))]
    events, asked = await built(given_, "ticks", "quotes", "bars")
    assert asked == ("ticks", "quotes")
    assert [e for e in events if not isinstance(e, BarBlock)] == [
        *given_,
        heard(60, "AA", streams=("bars",)),
    ]
    plain, asked = await built(given_, "ticks")
    assert (plain, asked) == (given_, ("ticks",))


@pytest.mark.parametrize("stream", ["bars", "ticks"])
async def test_whoever_closes_it_closes_the_feed(stream: str) -> None:
    feed = Told([regained(0), ticks(("AA", 1, 10.0)), heard(60, "AA")])
    events = BuiltFeed(feed).events(("AA",), (stream,), Still())
    assert isinstance(events, AsyncGenerator)
    assert await anext(events) == regained(0)
    assert not feed.is_closed
    await events.aclose()
    assert feed.is_closed


@settings(max_examples=60, deadline=None)
@given(st.data())
async def test_however_they_come_the_last_of_each_bar_is_that_of_all_ticks(
    data: st.DataObject,
) -> None:
    rows = [
        (name, second, float(number))
        for number, (name, second) in enumerate(
            data.draw(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 299)), max_size=30))
        )
    ]
    order = data.draw(st.permutations(rows))
    events: list[Event] = [regained(0)]
    for row in order:
        events.append(ticks(row))
        events.append(heard(data.draw(st.integers(0, 300)), "A", "B"))
    events.append(heard(300, "A", "B"))
    found, _ = await built(events, "bars")
    last = {bar[:2]: bar[3:5] for bar in bars(found)}
    wanted: dict[tuple[str, int], list[float]] = {}
    for name, second, price in rows:
        wanted.setdefault((name, second // 60), []).append(price)
    assert last == {key: (max(prices), min(prices)) for key, prices in wanted.items()}


def test_it_is_found_by_its_uri() -> None:
    feed = open_feed("built:rules=tape:playback:synthetic:symbols=2")
    assert isinstance(feed, BuiltFeed)
    assert (feed.name, feed.rules, feed.made_of) == ("built:synthetic", "tape", "ticks")
    assert is_feed("built:coinbase:")
    assert open_feed("built:coinbase:").settled_ns == open_feed("coinbase:").settled_ns > 0
    assert not is_feed("built:lean:somewhere")
    assert is_of_the_past("built:from=quotes:rehearsal:seed=1:lean:somewhere")
    with pytest.raises(ConfigError, match="is no feed"):
        open_feed("built:synthetic:symbols=2")
