"""What feeds over WebSockets share: connect, subscribe, listen, notice that it is dead, try again.

A vendor says how it is greeted and what its messages mean; all the rest is here. A connection is
dead when it closes or breaks, when a message is no JSON, when it is silent and does not answer a
ping either, and when the vendor says so. Then it is made again after a wait of chance, longer with
each failure (exponential backoff with full jitter), until it has lasted a good while.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from streams.errors import FeedError, SourceError
from streams.feeds.protocol import Clock, Event, Lost, Regained

__all__ = ["PONG", "Patience", "Vendor", "Wire", "listen"]

PONG = object()
"""Stands for an answer to a ping: nothing is new, and nothing is on its way."""
LARGEST_BYTES = 16 * 2**20
CLOSE_S = 1.0
"""How long a connection that is given up may take to say goodbye."""
REFUSALS, TOO_MANY = (401, 403), 429


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what.

    Attributes
    ----------
    idle_s
        Silence after which a connection is dead; it is pinged after half of it.
    greet_s
        Seconds from the start of a connection to its subscription.
    first_s, longest_s
        Longest wait after the first failure, doubled with each, and after any.
    slow_s
        Shortest wait where the vendor asks for patience.
    good_s
        Life of a connection after which failures count anew.
    sleep, now, share
        Wait some seconds; tell seconds of a clock that only goes forward; a number in [0, 1).
    """

    idle_s: float = 20.0
    greet_s: float = 15.0
    first_s: float = 1.0
    longest_s: float = 60.0
    slow_s: float = 30.0
    good_s: float = 60.0
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)
    now: Callable[[], float] = field(default=time.monotonic, repr=False)
    share: Callable[[], float] = field(default=random.random, repr=False)

    def wait_s(self, failures: int, *, is_slow: bool) -> float:
        """Return how long to wait after so many failures in a row, at least 1."""
        longest = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return (self.slow_s if is_slow else 0.0) + self.share() * longest


class Wire:
    """One connection: JSON out, JSON in.

    Parameters
    ----------
    socket
        The WebSocket, which leaves pings to us.
    idle_s
        See `Patience`.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, idle_s: float) -> None:
        self._socket = socket
        self._idle_s = idle_s

    async def send(self, message: Any) -> None:
        """Send a message."""
        await self._socket.send_str(json.dumps(message))

    async def receive(self) -> Any:
        """Return the next message, or `PONG`.

        Raises
        ------
        FeedError
            The connection is dead, or what came is no JSON.
        """
        is_pinged = False
        while True:
            try:
                message = await self._socket.receive(timeout=self._idle_s / 2)
            except TimeoutError:
                if is_pinged:
                    msg = f"nothing came for {self._idle_s:g} s, not even an answer to a ping"
                    raise FeedError(msg) from None
                await self._socket.ping()
                is_pinged = True
                continue
            if message.type is aiohttp.WSMsgType.PING:
                await self._socket.pong(message.data)
                is_pinged = False
            elif message.type is aiohttp.WSMsgType.PONG:
                return PONG
            elif message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                try:
                    return json.loads(message.data)
                except ValueError as exc:
                    msg = f"a message is no JSON: {message.data[:80]!r}"
                    raise FeedError(msg) from exc
            else:
                raise FeedError(_why_closed(message, self._socket.close_code))


class Vendor(Protocol):
    """What one vendor's stream says; it lives as long as the feed is asked, over connections."""

    @property
    def url(self) -> str:
        """Where it is."""
        ...

    @property
    def delay_ns(self) -> int:
        """How long it holds back what it has."""
        ...

    @property
    def known_ns(self) -> int:
        """Tape time up to which nothing of the connection is missed."""
        ...

    async def greet(self, wire: Wire) -> list[Any]:
        """Log in and subscribe; return the messages that came meanwhile.

        Raises
        ------
        SourceError
            We are refused for good.
        FeedError
            It did not work out, and may another time.
        """
        ...

    def begin(self, at_ns: int) -> None:
        """Take note that nothing is missed from ``at_ns`` on."""
        ...

    def read(self, message: Any, now_ns: int) -> Iterable[Event]:
        """Return what a message, or `PONG`, means; the errors are those of `greet`."""
        ...


async def listen(vendor: Vendor, clock: Clock, patience: Patience) -> AsyncGenerator[Event, None]:
    """Give what a vendor sends until cancelled, over as many connections as it takes.

    Raises
    ------
    SourceError
        The vendor refuses us for good.
    """
    known_ns, failures = 0, 0
    async with aiohttp.ClientSession() as session:
        while True:
            began_s = patience.now()
            is_slow, reason = False, ""
            try:
                async with _connected(session, vendor, patience) as (wire, early):
                    at_ns = clock.now_ns() - vendor.delay_ns
                    vendor.begin(at_ns)
                    yield Regained(known_ns, at_ns)
                    known_ns = at_ns
                    for message in early:
                        for event in vendor.read(message, clock.now_ns()):
                            yield event
                    while True:
                        message = await wire.receive()
                        for event in vendor.read(message, clock.now_ns()):
                            yield event
                        known_ns = max(known_ns, vendor.known_ns)
            except FeedError as exc:
                is_slow, reason = exc.is_slow, exc.reason
            except (aiohttp.ClientError, OSError) as exc:
                reason = f"the connection broke: {str(exc) or type(exc).__name__}"
            lasted_s = patience.now() - began_s
            failures = 1 if lasted_s >= patience.good_s else failures + 1
            again_s = patience.wait_s(failures, is_slow=is_slow)
            yield Lost(reason, clock.now_ns(), again_s)
            await patience.sleep(again_s)


@asynccontextmanager
async def _connected(
    session: aiohttp.ClientSession, vendor: Vendor, patience: Patience
) -> AsyncIterator[tuple[Wire, list[Any]]]:
    """Connect and greet; give the connection and the messages that came meanwhile."""
    limit = asyncio.timeout(patience.greet_s)
    socket: aiohttp.ClientWebSocketResponse | None = None
    try:
        try:
            async with limit:
                socket = await session.ws_connect(
                    vendor.url,
                    autoping=False,
                    max_msg_size=LARGEST_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                )
                wire = Wire(socket, patience.idle_s)
                early = await vendor.greet(wire)
        except aiohttp.WSServerHandshakeError as exc:
            if exc.status in REFUSALS:
                raise SourceError(f"it refuses us ({exc.status})", path=vendor.url) from exc
            msg = f"it does not connect ({exc.status})"
            raise FeedError(msg, is_slow=exc.status == TOO_MANY) from exc
        except TimeoutError as exc:
            msg = f"no subscription within {patience.greet_s:g} s"
            raise FeedError(msg) from exc
        yield wire, early
    finally:
        if socket is not None:
            await socket.close()


def _why_closed(message: aiohttp.WSMessage, code: int | None) -> str:
    if message.type is aiohttp.WSMsgType.ERROR:
        return f"the connection broke: {message.data}"
    return f"the connection was closed ({code or 'no code'})"
