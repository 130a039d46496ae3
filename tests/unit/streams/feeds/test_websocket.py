"""What feeds over WebSockets share: connections that fail in every way, and are made again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Halt
from streams.errors import FeedError, SourceError
from streams.feeds.protocol import Event, Lost, Regained
from streams.feeds.websocket import PONG, Patience, Wire, listen
from tests.vendors import Conversation, Hands, Script, Sockets, Waits, collect


class Plain:
    """A vendor that says hello and then numbers; what it has said is known."""

    delay_ns = 0

    def __init__(self, url: str) -> None:
        self.url = url
        self.known_ns = 0
        self.tells_pongs = False

    async def greet(self, wire: Wire) -> list[Any]:
        await wire.send("hello")
        early = []
        while (message := await wire.receive()) != "welcome":
            early.append(message)
        return early

    def begin(self, at_ns: int) -> None:
        self.known_ns = at_ns

    def read(self, message: Any, now_ns: int) -> Iterable[Event]:
        if message is PONG:
            if self.tells_pongs:
                yield Halt(("pong",), now_ns, halted=False)
        elif message == "refuse":
            raise SourceError("no more")
        else:
            self.known_ns = now_ns
            yield Halt((str(message),), now_ns, halted=True)


def plays(*messages: Any) -> Script:
    async def play(other: Conversation) -> None:
        assert await other.hear() == "hello"
        await other.say('"welcome"', *messages)
        await other.stay()

    return play


def says(*messages: Any) -> Script:
    """Return a script that closes behind its messages."""

    async def play(other: Conversation) -> None:
        await other.hear()
        await other.say('"welcome"', *messages)

    return play


def halts(events: list[Event]) -> list[str]:
    return [one.symbols[0] for one in events if isinstance(one, Halt)]


async def run(
    server: Sockets, count: int, waits: Waits | None = None, **patience: float
) -> list[Event]:
    waits = waits or Waits()
    async with server:
        events = listen(Plain(server.url), Hands(), waits.patience(**patience))
        return await collect(events, lambda found: len(found) == count)


async def test_what_comes_is_given_behind_the_first_regained() -> None:
    found = await run(Sockets(plays("1", "2")), 3)
    assert found[0] == Regained(0, 1_000 * 10**9)
    assert halts(found) == ["1", "2"]


async def test_what_comes_before_the_welcome_is_not_lost() -> None:
    async def play(other: Conversation) -> None:
        await other.hear()
        await other.say("7", '"welcome"', "8")
        await other.stay()

    found = await run(Sockets(play), 3)
    assert isinstance(found[0], Regained)
    assert halts(found) == ["7", "8"]


async def broken(other: Conversation) -> None:
    await other.hear()
    await other.say('"welcome"', "1")
    await other.break_off()


async def garbage(other: Conversation) -> None:
    await other.hear()
    await other.say('"welcome"', "1", "{not json")
    await other.stay()


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (says("1"), "the connection was closed (1000)"),
        (broken, "the connection was closed (1006)"),
        (garbage, "a message is no JSON: '{not json'"),
    ],
)
async def test_a_connection_that_ends_is_made_again(first: Script, reason: str) -> None:
    found = await run(Sockets(first, plays("2")), 5)
    assert [type(one) for one in found] == [Regained, Halt, Lost, Regained, Halt]
    assert isinstance(found[2], Lost)
    assert found[2].reason.startswith(reason)
    assert halts(found) == ["1", "2"]


async def test_silence_is_death_if_pings_are_not_answered() -> None:
    async with Sockets(plays("1"), autoping=False) as server:
        events = listen(Plain(server.url), Hands(), Waits().patience(idle_s=0.2))
        found = await collect(events, lambda found: isinstance(found[-1], Lost))
    assert isinstance(found[-1], Lost)
    assert found[-1].reason == "nothing came for 0.2 s, not even an answer to a ping"


async def test_who_answers_pings_lives() -> None:
    async with Sockets(plays()) as server:
        vendor = Plain(server.url)
        vendor.tells_pongs = True
        events = listen(vendor, Hands(), Waits().patience(idle_s=1.0))
        found = await collect(events, lambda found: len(found) == 2)
    assert halts(found) == ["pong"]


async def test_pings_of_the_server_are_answered() -> None:
    answered: list[Any] = []

    async def play(other: Conversation) -> None:
        await other.hear()
        await other.say('"welcome"')
        await other.socket.ping(b"there?")
        answered.append((await other.socket.receive()).data)
        await other.say("1")
        await other.stay()

    found = await run(Sockets(play, autoping=False), 2)
    assert halts(found) == ["1"]
    assert bytes(answered[0]) == b"there?"


async def test_a_welcome_that_does_not_come_is_not_waited_for_long() -> None:
    async def mute(other: Conversation) -> None:
        await other.stay()

    async with Sockets(mute, plays("1")) as server:
        events = listen(Plain(server.url), Hands(), Waits().patience(greet_s=0.5))
        found = await collect(events, lambda found: isinstance(found[-1], Halt))
    assert isinstance(found[0], Lost)
    assert found[0].reason == "no subscription within 0.5 s"
    # Nothing was known of before it either.
    assert found[-2] == Regained(0, 1_000 * 10**9)


async def test_nobody_there_is_tried_again() -> None:
    async with Sockets(plays()) as gone:
        url = gone.url
    waits = Waits()
    events = listen(Plain(url), Hands(), waits.patience())
    found = await collect(events, lambda found: len(found) == 7)
    assert all(isinstance(one, Lost) for one in found)
    assert waits.asked == [1, 2, 4, 8, 16, 32]
    assert isinstance(found[0], Lost)
    assert found[0].reason.startswith("the connection broke: ")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_at_the_door_ends_it(status: int) -> None:
    with pytest.raises(SourceError, match=f"it refuses us \\({status}\\)"):
        await run(Sockets(plays(), statuses=(status,)), 1)


@pytest.mark.parametrize(("status", "wait_s"), [(429, 31.0), (503, 1.0)])
async def test_a_closed_door_is_tried_again(status: int, wait_s: float) -> None:
    waits = Waits()
    found = await run(Sockets(plays("1"), statuses=(status,)), 3, waits)
    assert isinstance(found[0], Lost)
    assert found[0].reason == f"it does not connect ({status})"
    assert waits.asked == [wait_s]


async def test_a_refusal_in_a_message_ends_it() -> None:
    with pytest.raises(SourceError, match="no more"):
        await run(Sockets(plays("1", '"refuse"')), 5)


async def test_a_storm_of_short_connections_is_waited_out_longer_and_longer() -> None:
    waits = Waits()
    found = await run(Sockets(says("1")), 3 * 6, waits)
    assert [type(one) for one in found] == [Regained, Halt, Lost] * 6
    assert waits.asked == [1, 2, 4, 8, 16]


async def test_a_connection_that_lasted_makes_failures_count_anew() -> None:
    waits = Waits()

    async def long(other: Conversation) -> None:
        await other.hear()
        waits.now_s += 61
        await other.say('"welcome"')

    found = await run(Sockets(says(), says(), long, says()), 2 * 5, waits)
    assert [type(one) for one in found] == [Regained, Lost] * 5
    assert waits.asked == [1, 2, 1, 2]


async def test_a_lost_connection_says_what_was_known_and_another_what_is_missed() -> None:
    clock = Hands(100)

    async def first(other: Conversation) -> None:
        await other.hear()
        await other.say('"welcome"', "1")

    async with Sockets(first, plays("2")) as server:
        events = listen(Plain(server.url), clock, Waits().patience())
        found = []
        async for event in events:
            found.append(event)
            clock.ns += 10
            if len(found) == 5:
                break
        await events.aclose()
    assert found[0] == Regained(0, 100)
    assert found[2] == Lost("the connection was closed (1000)", 120, 1.0)
    assert found[3] == Regained(110, 130)


@settings(deadline=None)
@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.booleans())
def test_waits_are_bounded_and_of_chance(failures: int, share: float, is_slow: bool) -> None:
    patience = Patience(share=lambda: share)
    wait_s = patience.wait_s(failures, is_slow=is_slow)
    slow_s = patience.slow_s if is_slow else 0.0
    assert slow_s <= wait_s <= slow_s + min(60.0, 2.0 ** min(failures - 1, 30))


def test_a_feed_error_says_what_and_whether_to_be_slow() -> None:
    assert (FeedError("busy").reason, FeedError("busy").is_slow) == ("busy", False)
    assert FeedError("busy", is_slow=True).is_slow
