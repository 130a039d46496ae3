"""A clock that tests move, and what a feed gave by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from schemas import BarBlock, QuoteBlock, TickBlock
from streams.calendar import Session
from streams.feeds import Event, Feed
from streams.intervals import MINUTE_NS
from streams.sources import Answer, BadRow, Part

__all__ = ["Given", "List", "StepClock", "given_by", "play"]


@dataclass
class StepClock:
    """Goes where it is waited for, and ``step_ns`` further: so a fast or a busy one looks."""

    sessions: tuple[Session, ...]
    now: int
    step_ns: Callable[[], int] = lambda: 0
    interval_ns: int = MINUTE_NS

    def now_ns(self) -> int:
        return self.now

    async def until(self, ts_ns: int) -> None:
        await asyncio.sleep(0)
        self.now = max(self.now, ts_ns) + self.step_ns()


class Given(NamedTuple):
    """A row as a feed gave it: when, of which stream, and what it says."""

    symbol: str
    ts_ns: int
    revision: int
    values: tuple[float, ...]


VALUES: dict[type, tuple[str, ...]] = {
    BarBlock: ("open", "high", "low", "close", "volume"),
    QuoteBlock: ("bid", "bid_size", "ask", "ask_size", "sequence"),
    TickBlock: ("price", "size", "sequence"),
}


def given_by(block: Any) -> Iterator[Given]:
    """Give the rows of a block."""
    for row in range(len(block)):
        yield Given(
            block.symbols[block.symbol[row]],
            int(block.ts_ns[row]),
            int(block.revision[row]),
            tuple(float(getattr(block, name)[row]) for name in VALUES[type(block)]),
        )


def play(
    feed: Feed, symbols: Sequence[str], clock: StepClock, streams: Sequence[str] = ("bars",)
) -> list[tuple[int, Event]]:
    """Return the events of a feed with the time at which each was given, to its end."""

    async def listen() -> list[tuple[int, Event]]:
        return [(clock.now, event) async for event in feed.events(symbols, streams, clock)]

    return asyncio.run(listen())


@dataclass(frozen=True)
class List:
    """A source of parts that stand in a list, by stream: what is in the range, and an answer."""

    parts: dict[str, Sequence[Part]]
    name: str = "list"

    def symbols(self) -> tuple[str, ...]:
        blocks = (p for some in self.parts.values() for p in some)
        return tuple(sorted({s for b in blocks if isinstance(b, BarBlock) for s in b.symbols}))

    def sessions(self) -> tuple[str, str] | None:
        return None

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        for part in self.parts.get(stream, ()):
            if isinstance(part, Answer | BadRow):
                yield part
            else:
                yield part.take((part.ts_ns >= start_ns) & (part.ts_ns < end_ns))
        yield Answer(tuple(symbols), "rows")
