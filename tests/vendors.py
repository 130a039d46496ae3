"""Vendors on loopback, for tests of feeds and sources: servers that play scripts, and a clock."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import WSMsgType, web

from streams.feeds.protocol import Event
from streams.feeds.websocket import Patience

__all__ = ["Answers", "Hands", "Script", "Sockets", "Waits", "collect"]

DEADLINE_S = 20.0


class Hands:
    """A clock of the tape that stands until it is set."""

    def __init__(self, now_ns: int = 1_000 * 10**9) -> None:
        self.ns = now_ns

    def now_ns(self) -> int:
        return self.ns

    async def until(self, ts_ns: int) -> None:
        self.ns = max(self.ns, ts_ns)


class Waits:
    """Patience that is never spent: what would be waited is noted, and time is told by hand."""

    def __init__(self, share: float = 1.0) -> None:
        self.asked: list[float] = []
        self.now_s = 0.0
        self.share = share

    def patience(self, **changes: float) -> Patience:
        given: dict[str, Any] = {"idle_s": DEADLINE_S, **changes}
        return Patience(**given, sleep=self.sleep, now=lambda: self.now_s, share=lambda: self.share)

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await asyncio.sleep(0)


class Conversation:
    """The server's end of one connection."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.request = request

    async def hear(self) -> Any:
        """Return the next message of the client."""
        return json.loads((await self.socket.receive()).data)

    async def say(self, *messages: Any) -> None:
        for message in messages:
            await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def break_off(self) -> None:
        """Begin a frame of 100 bytes, send 2 of them, and drop the connection."""
        transport = self.request.transport
        assert transport is not None
        transport.write(b"\x81\x64[{")
        await asyncio.sleep(0)
        transport.close()

    async def stay(self) -> None:
        """Keep the connection until the client closes it; answer pings."""
        while (await self.socket.receive()).type not in (
            WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR,
        ):  # fmt: skip
            pass


Script = Callable[[Conversation], Awaitable[None]]


class Sockets:
    """A WebSocket server: each connection plays the next script, those behind the last the last.

    Parameters
    ----------
    scripts
        What the server does in a connection; behind it the connection is closed.
    autoping
        Whether pings are answered.
    statuses
        HTTP status to refuse the first connections with.
    """

    def __init__(
        self, *scripts: Script, autoping: bool = True, statuses: tuple[int, ...] = ()
    ) -> None:
        self.scripts = scripts
        self.connections = 0
        self._autoping = autoping
        self._statuses = list(statuses)
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/stream", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"ws://127.0.0.1:{port}/stream"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._statuses:
            return web.Response(status=self._statuses.pop(0))
        socket = web.WebSocketResponse(autoping=self._autoping, timeout=0.1)
        await socket.prepare(request)
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        await script(Conversation(socket, request))
        return socket


async def collect(
    events: AsyncIterator[Event], is_enough: Callable[[list[Event]], bool]
) -> list[Event]:
    """Return the events that come until there are enough."""
    found: list[Event] = []
    async with asyncio.timeout(DEADLINE_S):
        async for event in events:
            found.append(event)
            if is_enough(found):
                break
    await events.aclose()  # type: ignore[attr-defined]
    return found


class Answers:
    """An HTTP server in a thread of its own.

    Parameters
    ----------
    answer
        Returns status, headers and body (JSON, or text as it is) for a path and its parameters.
    """

    def __init__(
        self,
        answer: Callable[[str, Mapping[str, str]], tuple[int, Mapping[str, str], Any]],
    ) -> None:
        self._answer = answer
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(DEADLINE_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(DEADLINE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _serve(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, dict(request.query)))
        self.headers.append(dict(request.headers))
        status, headers, body = self._answer(request.path, request.query)
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, headers=dict(headers), text=text)
