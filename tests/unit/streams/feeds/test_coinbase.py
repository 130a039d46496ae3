"""Coinbase's feed: messages as its documentation shows them, by a server on loopback."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import QuoteBlock, TickBlock
from streams.errors import ConfigError, SourceError
from streams.feeds.coinbase import CoinbaseFeed, _Coinbase
from streams.feeds.protocol import Event, Feed, Heard, Lost, Regained
from streams.sources.times import ns_text, text_ns
from tests.vendors import Conversation, Hands, Script, Sockets, Waits, collect

SECOND = 10**9
NOON = text_ns("2024-11-29T12:00:00Z")
TICKER = {
    "type": "ticker", "sequence": 37475248783, "product_id": "ETH-USD", "price": "1285.22",
    "open_24h": "1310.79", "volume_24h": "245532.79269678", "low_24h": "1280.52",
    "high_24h": "1313.8", "volume_30d": "9788783.60117027", "best_bid": "1285.04",
    "best_bid_size": "0.46688654", "best_ask": "1285.27", "best_ask_size": "1.56637040",
    "side": "buy", "time": "2022-10-19T23:28:22.061769Z", "trade_id": 370843401,
    "last_size": "11.4396987",
}  # fmt: skip


def match(number: int, second: float, product: str = "BTC-USD", kind: str = "match") -> Any:
    return {
        "type": kind, "trade_id": number, "sequence": 5 * number,
        "maker_order_id": "ac928c66-ca53-498f-9c13-a110027a60e8",
        "taker_order_id": "132fb6ae-456b-4654-b4e0-d681ac05cea1",
        "time": at(second), "product_id": product, "size": "5.23512", "price": "400.23",
        "side": "sell",
    }  # fmt: skip


def beat(last: int, second: float, product: str = "BTC-USD") -> Any:
    return {
        "type": "heartbeat", "sequence": 5 * last, "last_trade_id": last, "product_id": product,
        "time": at(second),
    }  # fmt: skip


def at(second: float) -> str:
    return ns_text(NOON + round(second * SECOND))


async def greet(other: Conversation) -> dict[str, Any]:
    wanted: dict[str, Any] = await other.hear()
    assert wanted["type"] == "subscribe"
    channels = [{"name": n, "product_ids": wanted["product_ids"]} for n in wanted["channels"]]
    await other.say({"type": "subscriptions", "channels": channels})
    return wanted


def plays(*messages: Any) -> Script:
    async def play(other: Conversation) -> None:
        await greet(other)
        await other.say(*messages)
        await other.stay()

    return play


def feed(url: str, waits: Waits | None = None, **patience: float) -> CoinbaseFeed:
    place = CoinbaseFeed.open(f"url={url}").place
    return CoinbaseFeed(place, (waits or Waits()).patience(**patience))


async def heard(*messages: Any, count: int, streams: tuple[str, ...] = ("ticks",)) -> list[Event]:
    async with Sockets(plays(*messages)) as server:
        events = feed(server.url).events(("BTC-USD", "ETH-USD"), streams, Hands(NOON))
        found = await collect(events, lambda events: len(events) > count)
    assert found[0] == Regained(0, NOON)
    return found[1:]


def numbers(events: list[Event]) -> list[int]:
    return [int(one.sequence[0]) for one in events if isinstance(one, TickBlock)]


def test_it_is_a_feed() -> None:
    assert isinstance(CoinbaseFeed.open(""), Feed)
    assert CoinbaseFeed.open("").settled_ns == 5 * SECOND
    assert CoinbaseFeed.open("").place.stream_url == "wss://ws-feed.exchange.coinbase.com"


async def test_trades_and_quotes_are_read() -> None:
    ticks, quotes = await heard(match(10, 1.5), TICKER, count=2, streams=("ticks", "quotes"))
    assert isinstance(ticks, TickBlock)
    assert (ticks.symbols, ticks.ts_ns[0]) == (("BTC-USD",), NOON + 1_500_000_000)
    assert (ticks.price[0], ticks.size[0], ticks.sequence[0]) == (400.23, 5.23512, 10)
    assert isinstance(quotes, QuoteBlock)
    assert (quotes.bid[0], quotes.bid_size[0]) == (1285.04, 0.46688654)
    assert (quotes.ask[0], quotes.ask_size[0]) == (1285.27, 1.56637040)
    assert quotes.ts_ns[0] == text_ns("2022-10-19T23:28:22.061769Z")


async def test_only_what_was_asked_for_is_subscribed(caplog: pytest.LogCaptureFixture) -> None:
    wanted: list[Any] = []

    async def play(other: Conversation) -> None:
        wanted.append(await greet(other))
        await other.stay()

    async with Sockets(play) as server:
        await collect(feed(server.url).events(("BTC-USD",), ("bars", "ticks"), Hands()), bool)
    assert wanted == [
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["heartbeat", "matches"]}
    ]
    assert "no minute bars" in caplog.text


async def test_a_heartbeat_vouches_for_the_time_of_the_one_before() -> None:
    found = await heard(
        match(9, -1, kind="last_match"), beat(9, 1), match(10, 1.5), beat(10, 2), count=2
    )
    assert numbers(found) == [10]
    assert found[-1] == Heard(("ticks",), ("BTC-USD",), NOON + 1 * SECOND)


async def test_a_heartbeat_whose_trade_has_not_come_vouches_for_nothing() -> None:
    found = await heard(
        beat(9, 1), beat(10, 2), match(10, 1.9), beat(10, 3), beat(10, 4, "ETH-USD"), count=2
    )
    assert numbers(found) == [10]
    assert found[-1] == Heard(("ticks",), ("BTC-USD",), NOON + 2 * SECOND)


async def test_a_missing_number_is_a_hole() -> None:
    found = await heard(
        match(9, 0.5, kind="last_match"), beat(9, 1), beat(9, 2), match(12, 2.5), beat(12, 3),
        beat(12, 4), count=4,
    )  # fmt: skip
    assert found[0] == Heard(("ticks",), ("BTC-USD",), NOON + 1 * SECOND)
    # From where on not all products are known: of the other one nothing was heard yet.
    assert found[1] == Regained(NOON, NOON + 2_500_000_001)
    assert numbers(found) == [12]
    assert found[3] == Heard(("ticks",), ("BTC-USD",), NOON + 3 * SECOND)


async def test_trades_that_only_heartbeats_tell_of_are_a_hole_after_a_second() -> None:
    found = await heard(beat(9, 1), beat(11, 2), beat(11, 3), match(12, 3.5), count=2)
    assert found[0] == Regained(NOON, NOON + 2 * SECOND + 1)
    assert numbers(found) == [12]


async def test_repeats_and_disorder_are_given_as_they_come_and_are_no_hole() -> None:
    found = await heard(match(9, 1), match(10, 1.1), match(10, 1.1), match(9, 1), count=4)
    assert numbers(found) == [9, 10, 10, 9]


async def test_products_are_counted_each_for_itself() -> None:
    found = await heard(match(9, 1), match(70, 1, "ETH-USD"), match(10, 2), count=3)
    assert numbers(found) == [9, 70, 10]


async def test_of_a_lost_connection_is_known_what_all_products_vouch_for() -> None:
    async def first(other: Conversation) -> None:
        await greet(other)
        await other.say(beat(9, 1), beat(9, 5), beat(70, 2, "ETH-USD"), beat(70, 6, "ETH-USD"))

    clock = Hands(NOON)
    async with Sockets(first, plays()) as server:
        events = feed(server.url).events(("BTC-USD", "ETH-USD"), ("ticks",), clock)
        found = await collect(
            events, lambda found: sum(isinstance(one, Regained) for one in found) == 2
        )
    assert isinstance(found[-2], Lost)
    assert found[-1] == Regained(NOON + 1 * SECOND, NOON)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            {"type": "error", "message": "Failed to subscribe",
             "reason": "NO-NO is not a valid product"},
            "NO-NO is not a valid product",
        ),
        (
            {"type": "subscriptions",
             "channels": [{"name": "heartbeat", "product_ids": ["NO-NO"]}]},
            "does not take NO-NO for matches",
        ),
    ],
)  # fmt: skip
async def test_an_unknown_product_ends_it(message: Any, says: str) -> None:
    async def play(other: Conversation) -> None:
        await other.hear()
        await other.say(message)
        await other.stay()

    async with Sockets(play) as server:
        with pytest.raises(SourceError, match=says):
            await collect(feed(server.url).events(("NO-NO",), ("ticks",), Hands()), bool)
    assert server.connections == 1


async def test_too_many_questions_are_asked_again_slowly() -> None:
    async def refuse(other: Conversation) -> None:
        await other.hear()
        await other.say({"type": "error", "message": "rate limit exceeded"})

    waits = Waits()
    async with Sockets(refuse, plays()) as server:
        events = feed(server.url, waits).events(("BTC-USD",), ("ticks",), Hands())
        await collect(events, lambda found: isinstance(found[-1], Regained))
    assert waits.asked == [31.0]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"type": "error", "message": "ErrSlowConsume"}, "it says ErrSlowConsume"),
        ([1, 2], "another form than is documented"),
        ("[{", "no JSON"),
    ],
)
async def test_an_error_or_garbage_ends_the_connection_alone(message: Any, says: str) -> None:
    async with Sockets(plays(message), plays(match(9, 1))) as server:
        events = feed(server.url).events(("BTC-USD", "ETH-USD"), ("ticks",), Hands())
        found = await collect(events, lambda found: isinstance(found[-1], TickBlock))
    assert [type(one) for one in found] == [Regained, Lost, Regained, TickBlock]
    assert isinstance(found[1], Lost)
    assert says in found[1].reason


async def test_without_heartbeats_a_connection_is_dead_though_pings_are_answered() -> None:
    async with Sockets(plays()) as server:
        events = feed(server.url, idle_s=1.0).events(("BTC-USD",), ("ticks",), Hands())
        found = await collect(events, lambda found: isinstance(found[-1], Lost))
    assert isinstance(found[-1], Lost)
    assert found[-1].reason == "no heartbeat came, though pings are answered"


async def test_messages_of_another_kind_are_passed_over_and_broken_ones_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = await heard(
        {"type": "status", "products": []}, {"type": "later", "product_id": "BTC-USD"},
        {**match(9, 1), "price": "x"}, {**match(9, 1), "time": "noon"}, match(9, 1), count=1,
    )  # fmt: skip
    assert numbers(found) == [9]
    assert caplog.text.count("left out") == 2


async def test_quotes_alone_are_known_of_by_heartbeats_and_not_vouched_for() -> None:
    async def first(other: Conversation) -> None:
        await greet(other)
        await other.say(TICKER, beat(9, 1), beat(9, 2))

    async with Sockets(first, plays()) as server:
        events = feed(server.url).events(("BTC-USD",), ("quotes",), Hands(NOON))
        found = await collect(events, lambda found: len(found) == 3)
    # The quote is of a product that nobody asked for.
    assert [type(one) for one in found] == [Regained, Lost, Regained]
    assert found[-1] == Regained(NOON + 1 * SECOND, NOON)


def test_credentials_in_the_uri_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs no credentials"):
        CoinbaseFeed.open("url=wss://me:pw@host/")


@st.composite
def sendings(draw: st.DrawFn) -> tuple[dict[int, int], list[Any]]:
    """Draw times by number of the trades that happened, and the messages that did not get lost.

    A second has some trades, and a heartbeat at its end.
    """
    number = 100
    happened: dict[int, int] = {}
    messages = [match(number, 0, kind="last_match")]
    for second in range(draw(st.integers(1, 20))):
        for n in range(draw(st.integers(0, 3))):
            number += 1
            happened[number] = NOON + second * SECOND + n * SECOND // 4
            if draw(st.integers(0, 4)):
                messages.append(match(number, second + n / 4))
        if draw(st.integers(0, 4)):
            messages.append(beat(number, second + 1))
    return happened, messages


@settings(deadline=None)
@given(sendings())
def test_what_is_vouched_for_has_come_or_was_told_as_missed(
    sent: tuple[dict[int, int], list[Any]],
) -> None:
    happened, messages = sent
    vendor = _Coinbase("", ("BTC-USD",), ("ticks",))
    vendor.begin(NOON)
    events = [event for message in messages for event in vendor.read(message, 0)]
    came = set(numbers(events))
    missed = [(one.since_ns, one.at_ns) for one in events if isinstance(one, Regained)]
    untils = [one.until_ns for one in events if isinstance(one, Heard)]
    assert untils == sorted(set(untils))
    vouched = max(untils, default=NOON - 1)
    for number, ts_ns in happened.items():
        is_told = any(since <= ts_ns < until for since, until in missed)
        assert number in came or is_told or ts_ns > vouched
