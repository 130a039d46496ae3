"""What a feed gives as messages: blocks cut by shard, coverage behind them, requests: pure.

A coverage goes out at once when it passes the end of a bar, else a few times a second for each
shard and stream. It begins where the one before it ended: what nobody vouches for in between, the
time away, a source is asked for as soon as its history is final; of bars some minutes before it,
too, for the vendor may have set them right meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas import BarBlock, Coverage, DataRequest, Halt, QuoteBlock, Record, TickBlock
from schemas.records import Longs
from streams.feeds.protocol import EARLIER_NS, Event, Heard, Lost, Regained
from streams.intervals import SECOND_NS
from streams.plan import Plan
from streams.sources.packing import Packer, symbol_lists
from streams.sources.protocol import Block
from streams.topics import Topics, shard_of

__all__ = ["Dispatch", "Outgoing"]

Places = NDArray[np.intp]
PACE_NS = SECOND_NS // 10
"""Least wall time between two coverages of a shard and stream within one bar."""
CLOCKS_NS = SECOND_NS
"""What the clocks of feeder and producer may differ, where history takes time to be final."""
LATE_NS = 60 * SECOND_NS
"""What is missed at the end of a connection that vouched for nothing was ready so long before."""
STREAMS: dict[type[Record], str] = {BarBlock: "bars", QuoteBlock: "quotes", TickBlock: "ticks"}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message: its topic, its partition, what it says."""

    topic: str
    shard: int
    record: Record


@dataclass(slots=True)
class _Known:
    """What is known of one stream, by symbol; shape (symbols,) each.

    ``heard`` is the end of what the feed has given all of, ``vouched`` that of what a coverage says
    so of; both 0 where nothing is known. A bar that ends there is inside, a quote or tick of that
    time is not. ``is_told`` where the feed has said so itself in its last connection: it vouches
    for the stream.
    """

    heard: Longs
    vouched: Longs
    is_told: NDArray[np.bool_]

    @classmethod
    def none(cls, count: int) -> _Known:
        return cls(np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.bool_))


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request and the session it is about, by its number."""

    number: int
    shard: int
    request: DataRequest


class Dispatch:
    """Turns the events of a feed into messages of one run.

    Parameters
    ----------
    topics
        Where they go.
    plan
        The run as any of its shards sees it.
    source
        What blocks carry as their source.
    settled_ns
        See `Feed.settled_ns`.
    """

    def __init__(self, topics: Topics, plan: Plan, source: str, settled_ns: int = 0) -> None:
        self.rows = 0
        """Rows that were sent."""
        self.outside = 0
        """Rows that were not: of no session, or of no symbol of the run."""
        self._topics = topics
        self._source = source
        self._settled_ns = settled_ns + CLOCKS_NS if settled_ns else 0
        # So long behind its close a session may still be open.
        command = plan.command
        self._open_ns = int(max(command.session_timeout_s, command.lateness_s) * SECOND_NS)
        self._waiting: list[_Waiting] = []
        self._left_ns = 0
        self._known: dict[str, _Known] = {}
        self._names: tuple[str, ...] = ()
        self._is_connected = False
        self._sent_ns: dict[tuple[str, int], int] = {}
        self._adopt(plan)

    def follow(self, plan: Plan, wall_ns: int) -> list[Outgoing]:
        """Go on with another plan of the same run; return what was still to be said under the old.

        What is known of its symbols stays, and what is to be asked for them.
        """
        found = self._leave(wall_ns)
        self._adopt(plan)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            symbols = tuple(name for name in one.request.symbols if name in self._numbers)
            if symbols:
                self._waiting.append(replace(one, request=replace(one.request, symbols=symbols)))
        return found

    def _adopt(self, plan: Plan) -> None:
        before, self._plan = self._names, plan
        self._names = tuple(sorted(plan.everywhere))
        self._numbers = {name: n for n, name in enumerate(self._names)}
        self._shard = np.array([shard_of(name, plan.shards) for name in self._names], np.intp)
        old = {name: n for n, name in enumerate(before)}
        kept = [(n, old[name]) for n, name in enumerate(self._names) if name in old]
        known = {stream: _Known.none(len(self._names)) for stream in plan.command.streams}
        for stream in known.keys() & self._known.keys():
            for new, at in kept:
                known[stream].heard[new] = self._known[stream].heard[at]
                known[stream].vouched[new] = self._known[stream].vouched[at]
                known[stream].is_told[new] = self._known[stream].is_told[at]
        self._known = known
        self._places = lru_cache(maxsize=64)(self._find)

    def take(self, event: Event, wall_ns: int) -> list[Outgoing]:
        """Return what an event comes to, in the order in which it is to be sent."""
        if isinstance(event, Heard):
            self._hear(event)
            return self.due(wall_ns)
        if isinstance(event, Lost):
            return self._leave(wall_ns)
        if isinstance(event, Regained):
            found = self._leave(wall_ns)
            self._return(event, wall_ns)
            return [*found, *self._ripe(wall_ns)]
        if isinstance(event, Halt):
            return list(self._halt(event))
        return list(self._cut(event))

    def due(self, wall_ns: int, *, is_last: bool = False) -> list[Outgoing]:
        """Return the coverages and requests that are due by now.

        All that can be said of the connection if it is the last time.
        """
        found = list(self._ripe(wall_ns))
        for stream, known in self._known.items():
            is_new = known.heard > known.vouched
            if not is_new.any():
                continue
            for shard in np.unique(self._shard[is_new]).tolist():
                places = np.flatnonzero(is_new & (self._shard == shard))
                key = stream, shard
                is_time = wall_ns - self._sent_ns.get(key, 0) >= PACE_NS or is_last
                if is_time or self._ends_bar(known, places):
                    self._sent_ns[key] = wall_ns
                    found += self._vouch(stream, shard, places)
        return found

    def _ends_bar(self, known: _Known, places: Places) -> bool:
        """Tell whether the end of a bar lies in what is to be vouched for."""
        length = self._plan.interval_ns
        passed = known.heard[places] // length > known.vouched[places] // length
        return bool(passed.any())

    def _hear(self, heard: Heard) -> None:
        if not self._is_connected:  # it speaks of a connection of which nothing is known
            return
        for stream in heard.streams:
            known = self._known.get(stream)
            if known is not None:
                places = self._places(heard.symbols)
                end_ns = heard.until_ns + (stream != "bars")
                known.heard[places] = np.maximum(known.heard[places], end_ns)
                known.is_told[places] = True

    def _vouch(self, stream: str, shard: int, places: Places) -> Iterator[Outgoing]:
        """Say what is known of some symbols of a shard, session by session."""
        known = self._known[stream]
        spans = np.stack([known.vouched[places], known.heard[places]], axis=1)
        known.vouched[places] = known.heard[places]
        topic: str = getattr(self._topics, f"raw_{stream}")
        for start, end, mine in _groups(spans, places):
            first = max(self._plan.number_at(start), 0)
            for session in self._plan.sessions[first : self._plan.number_at(end) + 1]:
                low, high = max(start, session.open_ns), min(end, session.close_ns)
                if low >= high:
                    continue
                for symbols in symbol_lists([self._names[n] for n in mine.tolist()]):
                    coverage = Coverage(
                        symbols, low, high, run=self._plan.command.run, source=self._source
                    )
                    yield Outgoing(topic, shard, coverage)

    def _leave(self, wall_ns: int) -> list[Outgoing]:
        """Say what is still to be said of a connection that is over."""
        if not self._is_connected:
            return []
        found = self.due(wall_ns, is_last=True)
        self._is_connected, self._left_ns = False, self._plan.now_ns(wall_ns)
        return found

    def _return(self, event: Regained, wall_ns: int) -> None:
        """Note what to ask for of the time away; from here on the feed may vouch again."""
        self._is_connected = True
        for stream, known in self._known.items():
            since = self._since(known)
            if event.since_ns:
                since[:] = event.since_ns
            # One that was away over a night, or at midnight, was away in more sessions than one.
            for number in range(self._plan.number_at(event.at_ns) + 1):
                if self._is_shut(number, wall_ns):
                    continue
                self._waiting += self._ask(stream, number, since, event.at_ns)
            known.heard[:] = known.vouched[:] = self._whole(stream, event.at_ns)
            known.is_told[:] = False

    def _since(self, known: _Known) -> Longs:
        """Return up to when nothing is missed of each symbol, as far as that is known here."""
        if not self._settled_ns:  # played back: it vouches for all that it gives
            return known.heard.copy()
        # What a feed gives that vouches for nothing has come all the same, but for the very last.
        late_ns = max(LATE_NS, self._settled_ns)
        is_silent = (known.heard > 0) & ~known.is_told
        last = np.maximum(known.heard, self._left_ns - late_ns)
        return np.where(is_silent, last, known.heard)

    def _ripe(self, wall_ns: int) -> Iterator[Outgoing]:
        """Give the requests that can be answered by now; those of closed sessions nobody needs."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if self._is_shut(one.number, wall_ns):
                continue
            now_ns = self._plan.now_in(one.number, wall_ns)
            if self._settled_ns and now_ns < one.request.end_ns + self._settled_ns:
                self._waiting.append(one)
            else:
                yield Outgoing(self._topics.requests, one.shard, one.request)

    def _is_shut(self, number: int, wall_ns: int) -> bool:
        """Tell whether a session was closed so long ago that it takes no rows."""
        close_ns = self._plan.sessions[number].close_ns
        return self._plan.now_in(number, wall_ns) >= close_ns + self._open_ns

    def _ask(self, stream: str, number: int, since: Longs, at_ns: int) -> Iterator[_Waiting]:
        """Ask for what was missed of a session; what is before its catching up others ask for.

        Where something was heard of before, its last bars are asked for again.
        """
        session, command = self._plan.sessions[number], self._plan.command
        low = max(self._plan.catchup_end_ns, session.open_ns)
        is_over = at_ns >= session.close_ns
        end_ns = session.close_ns if is_over else self._whole(stream, at_ns)
        starts = np.array([self._whole(stream, ns) for ns in since.tolist()], np.int64).clip(low)
        if stream == "bars":
            is_known = (since > 0) & (starts < session.close_ns)
            starts[is_known] = (starts[is_known] - EARLIER_NS).clip(session.open_ns)
        for shard in range(self._plan.shards):
            mine = np.flatnonzero((self._shard == shard) & (starts < end_ns))
            spans = np.stack([starts[mine], np.full(len(mine), end_ns)], axis=1)
            for n, (start, end, places) in enumerate(_groups(spans, mine)):
                request = DataRequest(
                    # Symbols that left at other times are asked for one by one.
                    id=f"{command.run}/away/{session.label}/{at_ns}/{shard}/{stream}"
                    + (f"/{n}" if n else ""),
                    run=command.run,
                    kind="session",
                    streams=(stream,),
                    symbols=tuple(self._names[place] for place in places.tolist()),
                    start_ns=start,
                    end_ns=end,
                    session=session.label,
                    shard=shard,
                    interval=command.interval,
                    reason="the feed was away",
                )
                yield _Waiting(number, shard, request)

    def _whole(self, stream: str, ts_ns: int) -> int:
        """Return a time; for bars the end of the last bar that ended by then."""
        if stream != "bars":
            return ts_ns
        open_ns = int(self._plan.opens[max(self._plan.number_at(ts_ns), 0)])
        return ts_ns - (ts_ns - open_ns) % self._plan.interval_ns

    def _halt(self, halt: Halt) -> Iterator[Outgoing]:
        places = self._places(halt.symbols)
        for shard in np.unique(self._shard[places]).tolist():
            mine = places[self._shard[places] == shard].tolist()
            names = tuple(self._names[n] for n in mine)
            record = replace(halt, symbols=names, source=self._source, run=self._plan.command.run)
            yield Outgoing(self._topics.raw_bars, shard, record)

    def _cut(self, block: Block) -> Iterator[Outgoing]:
        """Cut a block by shard and to messages, without what does not belong to the run."""
        stream = STREAMS[type(block)]
        number = np.array([self._numbers.get(name, -1) for name in block.symbols], np.intp)
        symbol = number[block.symbol]
        session = np.searchsorted(self._plan.opens, block.ts_ns, "right") - 1
        is_inside = (session >= 0) & (block.ts_ns < self._plan.closes[session]) & (symbol >= 0)
        if stream not in self._known:
            is_inside[:] = False
        self.outside += int(np.count_nonzero(~is_inside))
        shards = self._shard[symbol]
        for shard in np.unique(shards[is_inside]).tolist():
            rows = np.flatnonzero(is_inside & (shards == shard))
            self.rows += len(rows)
            packer: Packer[Any] = Packer(run=self._plan.command.run, source=self._source)
            part = block.take(rows)
            used, places = np.unique(part.symbol, return_inverse=True)
            names: dict[str, Any] = {
                "symbols": tuple(block.symbols[n] for n in used.tolist()),
                "symbol": places.astype(np.int32),
            }
            topic: str = getattr(self._topics, f"raw_{stream}")
            for full in (*packer.add(replace(part, **names)), *packer.end()):
                yield Outgoing(topic, shard, full)

    def _find(self, symbols: Sequence[str]) -> Places:
        """Return the places of those symbols that are of the run."""
        return np.array([self._numbers[s] for s in symbols if s in self._numbers], np.intp)


def _groups(spans: Longs, places: Places) -> Iterator[tuple[int, int, Places]]:
    """Give start and end of each span, shape (symbols, 2), once, and the places that have it."""
    for start, end in np.unique(spans, axis=0).tolist():
        yield start, end, places[(spans[:, 0] == start) & (spans[:, 1] == end)]
