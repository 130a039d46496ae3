"""A feed whose bars are built of its own ticks or quotes.

URI: ``built:[key=value,…:]FEED``, such as ``built:coinbase:``; the keys are those of
``streams.sources.built``, which builds what is asked for of the past by the same rules.

A bar is given when the feed vouches for its ticks behind its end, and again, with its revision one
higher, when a tick comes late. The minute in which a connection begins is not built: nobody knows
what it missed; a source is asked for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass

import numpy as np

from schemas import QuoteBlock, TickBlock
from streams.conditions import RULES, Rule
from streams.feeds.clock import SessionClock
from streams.feeds.protocol import Clock, Event, Feed, Heard, Regained
from streams.intervals import MINUTE_NS
from streams.sources.packing import joined
from streams.tick_bars import BarBuilder

__all__ = ["BuiltFeed"]

KEPT_NS = 24 * 60 * MINUTE_NS
"""So long a late tick may still change a bar."""


@dataclass(frozen=True, slots=True)
class BuiltFeed:
    """The feed, and how its bars are built.

    Attributes
    ----------
    feed
        Where the rows come from.
    made_of
        ``ticks`` or ``quotes``.
    rules
        Name of the rule by which trades count.
    """

    feed: Feed
    made_of: str = "ticks"
    rules: str = "all"

    @property
    def name(self) -> str:
        """Name of the feed with ``built:`` before it."""
        return f"built:{self.feed.name}"

    @property
    def settled_ns(self) -> int:
        """As long as that of the feed."""
        return self.feed.settled_ns

    async def events(
        self, symbols: Sequence[str], streams: Sequence[str], clock: Clock
    ) -> AsyncIterator[Event]:
        """Give what the feed gives, and the bars; see `Feed.events`."""
        asked = [stream for stream in streams if stream != "bars"]
        is_built = "bars" in streams
        is_wanted = self.made_of in asked
        inner = asked if is_wanted or not is_built else [*asked, self.made_of]
        length_ns = clock.interval_ns if isinstance(clock, SessionClock) else MINUTE_NS
        bars = _Bars(length_ns, RULES[self.rules])
        events = self.feed.events(symbols, inner, clock)
        # Its connection ends with us, not when the garbage is collected.
        async with aclosing(events) if isinstance(events, AsyncGenerator) else nullcontext():
            async for event in events:
                for own in self._given(event, bars, is_wanted) if is_built else (event,):
                    yield own

    def _given(self, event: Event, bars: _Bars, is_wanted: bool) -> Iterator[Event]:
        """Give an event, but what nobody asked for, and the bars that are there by it."""
        is_made_of = isinstance(event, TickBlock if self.made_of == "ticks" else QuoteBlock)
        if is_wanted or not is_made_of:
            yield from _without(event, () if is_wanted else (self.made_of,))
        if isinstance(event, Regained):
            bars.begin(event.at_ns)
        elif isinstance(event, TickBlock | QuoteBlock) and is_made_of:
            bars.take(event)
        elif isinstance(event, Heard) and self.made_of in event.streams:
            yield from bars.until(event)


def _without(event: Event, streams: Sequence[str]) -> Iterator[Event]:
    """Give an event without what it says of streams that nobody asked for."""
    if not isinstance(event, Heard):
        yield event
        return
    rest = tuple(stream for stream in event.streams if stream not in streams)
    if rest:
        yield Heard(rest, event.symbols, event.until_ns)


class _Bars:
    """Bars of each symbol as they come to be: each is vouched for at a time of its own."""

    def __init__(self, length_ns: int, rule: Rule) -> None:
        self._length_ns, self._rule = length_ns, rule
        self._builders: dict[str, BarBuilder] = {}
        self._first_ns = 0

    def begin(self, at_ns: int) -> None:
        """Begin anew with the first bar that starts at a time or later."""
        self._builders = {}
        self._first_ns = -(-at_ns // self._length_ns) * self._length_ns

    def take(self, block: TickBlock | QuoteBlock) -> None:
        """Take rows; those of bars that began before are left to who is asked for them."""
        known = block.ts_ns >= self._first_ns
        for number in np.unique(block.symbol[known]).tolist():
            some = block.take(known & (block.symbol == number))
            self._builder(block.symbols[number]).take(some)

    def until(self, heard: Heard) -> list[Event]:
        """Return the bars that end by what was heard, and that they are all."""
        blocks = []
        for name in heard.symbols:
            builder = self._builder(name)
            blocks.append(builder.until(heard.until_ns))
            builder.forget(heard.until_ns - KEPT_NS)
        found: list[Event] = []
        if some := [block for block in blocks if len(block)]:
            found.append(joined(some))
        return [*found, Heard(("bars",), heard.symbols, heard.until_ns)]

    def _builder(self, symbol: str) -> BarBuilder:
        if symbol not in self._builders:
            self._builders[symbol] = BarBuilder(self._length_ns, self._rule)
        return self._builders[symbol]
