"""Sends what a feed gives to the raw topics as it happens, and vouches for it.

Delivery: at least once. What the brokers were not told ends the process with an error; the next
start asks a source for all since the run began, and the tape drops what it has seen. While no
broker answers, librdkafka holds what is sent; when it can't hold more, the feed waits.

It follows the commands: while a live run is on it reads the feed for the symbols of all shards,
else it is silent. There is to be one of a namespace.

Run it as ``python -m streams.feeder --source URI``; see ``streams.feeds`` for the URIs.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from confluent_kafka import TopicPartition

from schemas import BarBlock, Codec, Command, QuoteBlock, TickBlock
from schemas.records import Record
from schemas.registry import codec_for
from streams.control import ControlReader, latest_command
from streams.endpoint import Health, served
from streams.entry import Parser, exit_code, log_to_stderr
from streams.feeds import Feed, Lost, Regained, open_feed
from streams.feeds.clock import TapeClock
from streams.feeds.dispatch import Dispatch, Outgoing
from streams.intervals import SECOND_NS
from streams.kafka import check_topics
from streams.metrics import FEED_LOSSES, ROWS, UNACKNOWLEDGED
from streams.outbox import Answered, Outbox
from streams.plan import Plan, plan_of
from streams.settings import Settings, load
from streams.topics import Topics

__all__ = ["Feeder", "Sender", "main"]

log = logging.getLogger("sessiontape.feeder")

TICK_S = 0.02
"""How often it looks for coverages that are due, delivery reports and the end of the run."""
ROOM_S = 0.05
"""Wait for room in the client's queue."""
LOG_S = 10.0
FLUSH_S = 3.0
"""How long a worker that is told to stop waits for delivery reports."""
BEHIND_S = 5.0
"""A run is over so long behind its last close, and what it waits for late rows."""
USAGE = "usage: python -m streams.feeder --source URI"


class Sender(Protocol):
    """Where messages go."""

    def offer(self, topic: str, value: bytes, key: str, shard: int) -> bool:
        """Take a message; return False if there is no room for it now."""
        ...

    def check(self, wait_s: float = 0.0) -> int:
        """Return how many messages are not acknowledged, after at most ``wait_s``.

        Raises
        ------
        DeliveryError
            One will never be.
        """
        ...


class Feeder:
    """The worker; it lives in one event loop.

    Parameters
    ----------
    topics, shards
        Where rows go, and how many partitions there are.
    feed
        Where they come from.
    sender
        Takes the messages.
    codec
        Writes them.
    wall
        Tells the time of the wall, ns since the epoch, UTC.
    """

    def __init__(
        self,
        topics: Topics,
        shards: int,
        feed: Feed,
        sender: Sender,
        *,
        codec: Codec,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self.health = Health()
        self._topics = topics
        self._shards = shards
        FEED_LOSSES.labels(topics.namespace)  # from 0 on: else the first is no increase
        self._feed = feed
        self._sender = sender
        self._codec = codec
        self._wall = wall
        self._command: Command | None = None
        self._changed = asyncio.Event()
        self._is_stopped = False
        self._error: Exception | None = None
        self._dispatch: Dispatch | None = None
        self._run = ""
        self._sending = asyncio.Lock()
        self._unsent: deque[Outgoing] = deque()

    def tell(self, command: Command) -> None:
        """Take a command; one that is older than what is known is left out."""
        if self._command is None or command.version > self._command.version:
            self._command = command
            self._changed.set()

    def stop(self, error: Exception | None = None) -> None:
        """Let ``run`` end soon, with an error if there is one."""
        self._is_stopped, self._error = True, self._error or error
        self._changed.set()

    async def run(self) -> None:
        """Feed until ``stop`` is called.

        Raises
        ------
        DeliveryError
            A message was not acknowledged.
        SourceError
            The vendor refuses us for good.
        """
        log.info("ready feed=%s namespace=%s", self._feed.name, self._topics.namespace)
        while not self._is_stopped:
            self._changed.clear()
            command = self._command
            plan = None if command is None else self._plan_of(command)
            if plan is None:
                self._tell()
                await self._pause(1.0)
            else:
                await self._play(plan)
        if self._error is not None:
            raise self._error

    def _plan_of(self, command: Command) -> Plan | None:
        """Return the plan of a command; None while nothing is to be fed."""
        if command.mode != "live" or command.stopped:
            return None
        plan = plan_of(command, 0, self._shards)
        return None if self._is_over(plan) else plan

    def _is_over(self, plan: Plan) -> bool:
        """Tell whether a run has ended: its last session, and the wait for what is late."""
        behind_s = plan.command.lateness_s + BEHIND_S
        return self._wall() > plan.wall_at(plan.sessions[-1].close_ns) + behind_s * SECOND_NS

    async def _play(self, plan: Plan) -> None:
        """Feed one command's run until it is over or something else is to be fed."""
        command = plan.command
        if self._dispatch is None or self._run != command.run:
            self._unsent.clear()
            settled_ns = self._feed.settled_ns
            self._dispatch = Dispatch(self._topics, plan, self._feed.name, settled_ns)
            self._run = command.run
        else:
            self._unsent.extend(self._dispatch.follow(plan, self._wall()))
        log.info(
            "run=%s symbols=%d streams=%s shards=%d",
            *(command.run, len(command.symbols), "+".join(command.streams), self._shards),
        )
        pump = asyncio.ensure_future(self._pump(plan, self._dispatch))
        rate = _Rate(self._dispatch)
        try:
            while self._goes_on(plan):
                self._changed.clear()
                if pump.done():
                    pump.result()
                if not self._sending.locked():
                    async with self._sending:
                        await self._send(self._dispatch.due(self._wall()))
                rate.tell(command.run, self._tell())
                await self._pause(TICK_S)
        finally:
            pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump
        if self._is_over(plan):
            log.info("run=%s is over", command.run)

    def _tell(self) -> int:
        """Say that the loop goes round; return how many messages are not acknowledged."""
        count = self._sender.check()
        UNACKNOWLEDGED.labels(self._topics.namespace).set(count)
        self.health.beat()
        return count

    def _goes_on(self, plan: Plan) -> bool:
        """Tell whether what is fed is still what is wanted."""
        if self._is_stopped or self._is_over(plan):
            return False
        new = self._command
        return new is not None and _what(new) == _what(plan.command)

    async def _pump(self, plan: Plan, dispatch: Dispatch) -> None:
        command, clock = plan.command, TapeClock(plan, self._wall)
        events = self._feed.events(command.symbols, command.streams, clock)
        try:
            async for event in events:
                if isinstance(event, Lost):
                    FEED_LOSSES.labels(self._topics.namespace).inc()
                    log.warning("lost: %s; again in %.1f s", event.reason, event.again_s)
                elif isinstance(event, Regained):
                    log.info("regained since_ns=%d at_ns=%d", event.since_ns, event.at_ns)
                async with self._sending:
                    await self._send(dispatch.take(event, self._wall()))
        finally:
            if isinstance(events, AsyncGenerator):
                await events.aclose()

    async def _send(self, messages: Iterable[Outgoing]) -> None:
        """Send messages behind those that are not sent yet; what a cancellation leaves, stays."""
        self._unsent.extend(messages)
        while self._unsent:
            message = self._unsent[0]
            value = self._codec.encode(message.record, message.topic)
            key = _key_of(message.record)
            while not self._sender.offer(message.topic, value, key, message.shard):
                if self._is_stopped:  # nothing vouches for the rest
                    return
                self._sender.check()
                await asyncio.sleep(ROOM_S)
            self._unsent.popleft()
            if isinstance(message.record, BarBlock | QuoteBlock | TickBlock):
                place = self._topics.namespace, "feeder", message.shard, message.topic
                ROWS.labels(*place).inc(len(message.record))

    async def _pause(self, wait_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), wait_s)


class _Rate:
    """Logs now and then how much was sent."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._since_s, self._rows = time.monotonic(), dispatch.rows

    def tell(self, run: str, unacknowledged: int) -> None:
        passed_s = time.monotonic() - self._since_s
        if passed_s < LOG_S:
            return
        rows = self._dispatch.rows
        log.info(
            "run=%s rows=%d rows_per_s=%.0f outside=%d unacknowledged=%d",
            *(run, rows, (rows - self._rows) / passed_s, self._dispatch.outside, unacknowledged),
        )
        self._since_s, self._rows = time.monotonic(), rows


class _KafkaSender:
    """An outbox with one answer that never ends."""

    def __init__(self, settings: Settings) -> None:
        # A row is on its way at once: what comes together is in one block already.
        self._outbox = Outbox(settings, threading.Event(), {"linger_ms": 0})
        self._answered: Answered = self._outbox.begin(TopicPartition(""))

    def offer(self, topic: str, value: bytes, key: str, shard: int) -> bool:
        return self._outbox.offer(self._answered, topic, value, key, partition=shard)

    def check(self, wait_s: float = 0.0) -> int:
        self._outbox.settle(wait_s)
        return self._answered.open


def _what(command: Command) -> tuple[Any, ...]:
    """Return what makes a feed be read anew when it changes."""
    span = (command.calendar, command.hours, command.interval, command.start, command.end)
    time_of = (command.speed, command.anchor_wall_ns, command.anchor_clock_ns)
    what = (command.mode, command.stopped, command.run, command.symbols, command.streams)
    return (*what, *span, *time_of)


def _key_of(record: Record) -> str:
    symbols: tuple[str, ...] = getattr(record, "symbols", ())
    return symbols[0] if symbols else ""


async def _serve(settings: Settings, feed: Feed) -> None:
    """Feed until SIGTERM or SIGINT."""
    topics = Topics(settings.namespace)
    shards = check_topics(settings, (*topics.raw, topics.session, topics.requests))
    sender = _KafkaSender(settings)
    codec = codec_for(settings.schema_registry_url)
    feeder = Feeder(topics, shards, feed, sender, codec=codec)
    loop = asyncio.get_running_loop()
    # Commands of runs that are over come first: only what counts now is acted upon.
    if (command := latest_command(settings)) is not None:
        feeder.tell(command)
    reader = ControlReader(
        settings,
        lambda command: _call(loop, feeder.tell, command),
        lambda error: _call(loop, feeder.stop, error),
    )
    reader.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, feeder.stop)
    try:
        with served(settings, "feeder", feeder.health):
            await feeder.run()
        if left := sender.check(FLUSH_S):
            log.warning("%d messages were not acknowledged in %.0f s", left, FLUSH_S)
    finally:
        reader.stop()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], what: object) -> None:
    """Call a function in the loop from another thread; a loop that has ended needs nothing."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, what)


def _begin(arguments: Sequence[str] | None) -> None:
    parser = Parser("python -m streams.feeder", USAGE)
    parser.add_argument("--source", required=True)
    given = parser.parse_args(arguments)
    settings = load()
    log_to_stderr(settings)
    asyncio.run(_serve(settings, open_feed(given.source)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker until SIGTERM or SIGINT; return its exit code."""
    return exit_code(log, partial(_begin, arguments))


if __name__ == "__main__":
    sys.exit(main())
