"""Alpaca's stream: messages as its documentation shows them, by a server on loopback."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from schemas import BarBlock, Halt, QuoteBlock, TickBlock
from streams.errors import ConfigError, SourceError
from streams.feeds.alpaca import AlpacaFeed, _Alpaca
from streams.feeds.protocol import Event, Feed, Heard, Lost, Regained
from streams.feeds.websocket import PONG
from streams.settings import Settings
from streams.sources.times import text_ns
from tests.vendors import Conversation, Hands, Script, Sockets, Waits, collect

SETTINGS = Settings(alpaca_key_id="KEY-ID", alpaca_secret_key="SECRET-KEY")
ALL = ("bars", "quotes", "ticks")
CONNECTED = [{"T": "success", "msg": "connected"}]
AUTHENTICATED = [{"T": "success", "msg": "authenticated"}]
TRADE = {
    "T": "t", "i": 96921, "S": "AAPL", "x": "D", "p": 126.55, "s": 1,
    "t": "2021-02-22T15:51:44.208Z", "c": ["@", "I"], "z": "C",
}  # fmt: skip
QUOTE = {
    "T": "q", "S": "AMD", "bx": "U", "bp": 87.66, "bs": 1, "ax": "Q", "ap": 87.68, "as": 4,
    "t": "2021-02-22T15:51:45.335689322Z", "c": ["R"], "z": "C",
}  # fmt: skip
BAR = {
    "T": "b", "S": "SPY", "o": 388.985, "h": 389.13, "l": 388.975, "c": 389.12, "v": 49378,
    "n": 461, "vw": 389.062639, "t": "2021-02-22T19:15:00Z",
}  # fmt: skip
STATUS = {
    "T": "s", "S": "AAPL", "sc": "H", "sm": "Trading Halt", "rc": "T12",
    "rm": "Trading Halted; For information requested by NASDAQ", "t": "2021-02-22T19:15:00Z",
    "z": "C",
}  # fmt: skip
CANCEL = {
    "T": "x", "S": "AAPL", "i": 96921, "x": "D", "p": 126.55, "s": 1, "a": "C", "z": "C",
    "t": "2021-02-22T15:55:42.83540958Z",
}  # fmt: skip
CORRECTION = {
    "T": "c", "S": "AAPL", "x": "D", "oi": 96921, "op": 126.55, "os": 1, "oc": ["@", "I"],
    "ci": 96930, "cp": 126.5, "cs": 10, "cc": ["@"], "z": "C", "t": "2021-02-22T15:55:06.5Z",
}  # fmt: skip


def error(code: int, text: str) -> list[dict[str, Any]]:
    return [{"T": "error", "code": code, "msg": text}]


async def greet(other: Conversation) -> dict[str, Any]:
    """Welcome a client as the vendor does; return what it subscribed to."""
    await other.say(CONNECTED)
    auth = await other.hear()
    assert auth == {"action": "auth", "key": "KEY-ID", "secret": "SECRET-KEY"}
    await other.say(AUTHENTICATED)
    wanted: dict[str, Any] = await other.hear()
    assert wanted.pop("action") == "subscribe"
    empty: dict[str, list[str]] = {
        "trades": [],
        "quotes": [],
        "bars": [],
        "updatedBars": [],
        "statuses": [],
    }
    await other.say([{"T": "subscription", **empty, **wanted}])
    return wanted


def plays(*messages: Any) -> Script:
    """Return a script that greets, says something, and stays."""

    async def play(other: Conversation) -> None:
        await greet(other)
        assert await other.hear() == {"action": "subscribe", "statuses": ["AAPL", "AMD", "SPY"]}
        await other.say(*messages)
        await other.stay()

    return play


def feed(url: str, waits: Waits | None = None, options: str = "", **patience: float) -> AlpacaFeed:
    opened = AlpacaFeed.open(f"url={url}{options}", SETTINGS)
    return AlpacaFeed(opened.place, (waits or Waits()).patience(**patience))


async def heard(
    *messages: Any, count: int, streams: tuple[str, ...] = ALL, clock: Hands | None = None
) -> list[Event]:
    """Return the first events behind the greeting."""
    async with Sockets(plays(*messages)) as server:
        events = feed(server.url).events(("AAPL", "AMD", "SPY"), streams, clock or Hands())
        found = await collect(events, lambda events: len(events) > count)
    assert isinstance(found[0], Regained)
    return found[1:]


def test_it_is_a_feed() -> None:
    assert isinstance(feed("ws://127.0.0.1/"), Feed)
    for name, minutes in (("iex", 1), ("sip", 1), ("delayed_sip", 16)):
        assert AlpacaFeed.open(f"feed={name}", SETTINGS).settled_ns == minutes * 60 * 10**9
    assert feed("ws://127.0.0.1/").name == "alpaca"


async def test_each_kind_of_message_is_read() -> None:
    bars, quotes, ticks = await heard([BAR], [QUOTE], [TRADE], count=3)
    assert isinstance(bars, BarBlock)
    assert bars.symbols == ("SPY",)
    assert bars.ts_ns.tolist() == [text_ns("2021-02-22T19:15:00Z")]
    assert bars.interval_ns.tolist() == [60 * 10**9]
    assert [column[0] for column in (bars.open, bars.high, bars.low, bars.close)] == [
        388.985, 389.13, 388.975, 389.12,
    ]  # fmt: skip
    assert (bars.volume[0], bars.revision[0], bars.source, bars.run) == (49378, 0, "", "")
    assert isinstance(quotes, QuoteBlock)
    assert quotes.ts_ns[0] == 1_614_009_105_335_689_322
    assert (quotes.bid[0], quotes.bid_size[0], quotes.ask[0], quotes.ask_size[0]) == (
        87.66, 1, 87.68, 4,
    )  # fmt: skip
    assert quotes.sequence[0] > 0
    assert isinstance(ticks, TickBlock)
    assert (ticks.price[0], ticks.size[0], ticks.conditions) == (126.55, 1, ("@,I",))
    assert ticks.sequence[0] == 96921 * 32 + 4


async def test_rows_of_one_message_and_stream_come_in_one_block() -> None:
    other = {**BAR, "S": "AMD"}
    bars, quotes = await heard([BAR, QUOTE, other], count=2)
    assert isinstance(bars, BarBlock)
    assert [bars.symbols[n] for n in bars.symbol] == ["SPY", "AMD"]
    assert isinstance(quotes, QuoteBlock)


async def test_only_what_was_asked_for_is_subscribed() -> None:
    wanted: list[dict[str, Any]] = []

    async def play(other: Conversation) -> None:
        wanted.append(await greet(other))
        await other.stay()

    async with Sockets(play) as server:
        events = feed(server.url).events(("AMD", "SPY"), ("bars",), Hands())
        await collect(events, bool)
    assert wanted == [{"bars": ["AMD", "SPY"], "updatedBars": ["AMD", "SPY"]}]


async def test_an_updated_bar_has_a_higher_revision_over_connections_too() -> None:
    update = {**BAR, "T": "u", "c": 389.0}

    async def first(other: Conversation) -> None:
        await greet(other)
        await other.say([BAR], [update])

    async with Sockets(first, plays([update], [{**update, "t": "2021-02-22T19:16:00Z"}])) as server:
        events = feed(server.url).events(("AAPL", "AMD", "SPY"), ("bars",), Hands())
        found = await collect(
            events, lambda found: sum(isinstance(one, BarBlock) for one in found) == 4
        )
    blocks = [one for one in found if isinstance(one, BarBlock)]
    assert [int(block.revision[0]) for block in blocks] == [0, 1, 2, 1]


async def test_a_cancelled_trade_comes_again_without_size() -> None:
    first, again = await heard([TRADE], [CANCEL], count=2)
    assert isinstance(first, TickBlock)
    assert isinstance(again, TickBlock)
    assert (again.ts_ns[0], again.sequence[0]) == (first.ts_ns[0], first.sequence[0])
    assert (again.size[0], again.conditions, again.revision[0]) == (0, ("canceled",), 1)


async def test_a_corrected_trade_is_taken_back_and_the_right_one_stands_beside_it() -> None:
    first, again = await heard([TRADE], [CORRECTION], count=2)
    assert isinstance(first, TickBlock)
    assert isinstance(again, TickBlock)
    assert again.ts_ns.tolist() == [first.ts_ns[0]] * 2
    assert again.sequence.tolist() == [first.sequence[0], 96930 * 32 + 4]
    assert again.size.tolist() == [0, 10]
    assert again.price.tolist() == [126.55, 126.5]
    assert again.revision.tolist() == [1, 0]


async def test_what_is_taken_back_of_before_the_connection_is_left_out() -> None:
    (found,) = await heard([CANCEL], [CORRECTION], [TRADE], count=1)
    assert isinstance(found, TickBlock)
    assert len(found) == 1
    assert found.size[0] == 1


@pytest.mark.parametrize(
    ("tape", "code", "halted"),
    [
        ("C", "H", True), ("C", "P", True), ("C", "T", False), ("O", "H", True),
        ("A", "2", True), ("B", "3", False), ("C", "Q", None), ("A", "H", None), ("A", "F", None),
        ("B", "T", None), ("C", "2", None),
    ],
)  # fmt: skip
async def test_a_halt_is_read_by_the_codes_of_its_tape(
    tape: str, code: str, halted: bool | None
) -> None:
    found = await heard([{**STATUS, "z": tape, "sc": code}], [BAR], count=1 + (halted is not None))
    halts = [one for one in found if isinstance(one, Halt)]
    if halted is None:
        assert halts == []
        return
    (halt,) = halts
    assert (halt.symbols, halt.halted, halt.ts_ns) == (
        ("AAPL",), halted, text_ns("2021-02-22T19:15:00Z"),
    )  # fmt: skip
    assert halt.reason == "T12 Trading Halted; For information requested by NASDAQ"


async def test_other_messages_are_passed_over_and_broken_ones_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    luld = {"T": "l", "S": "IONM", "u": 3.24, "d": 2.65, "i": "B", "t": "x", "z": "C"}
    broken = [{**BAR, "o": None}, {**BAR, "t": "noon"}, {"S": "AAPL"}, {"T": "t", "S": "AAPL"}]
    (found,) = await heard([luld], broken, [BAR], count=1)
    assert isinstance(found, BarBlock)
    assert len(found) == 1
    assert sum("left out" in record.message for record in caplog.records) == 4


async def test_nothing_is_vouched_for() -> None:
    found = await heard([BAR], [QUOTE], [TRADE], [BAR], count=4)
    assert not any(isinstance(one, Heard) for one in found)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (400, "invalid syntax"), (402, "auth failed"), (409, "insufficient subscription"),
        (405, "symbol limit exceeded"), (401, "not authenticated"),
    ],
)  # fmt: skip
async def test_a_refusal_for_good_ends_it(code: int, text: str) -> None:
    async def play(other: Conversation) -> None:
        await other.say(CONNECTED)
        await other.hear()
        await other.say(error(code, text))
        await other.stay()

    async with Sockets(play) as server:
        with pytest.raises(SourceError, match=f"{code}: {text}") as caught:
            await collect(feed(server.url).events(("AAPL",), ALL, Hands()), lambda _: False)
    assert server.connections == 1
    assert "SECRET-KEY" not in str(caught.value)


async def test_a_symbol_that_is_not_taken_ends_it() -> None:
    async def play(other: Conversation) -> None:
        await other.say(CONNECTED)
        await other.hear()
        await other.say(AUTHENTICATED)
        await other.hear()
        await other.say([{"T": "subscription", "bars": ["AAPL"], "updatedBars": ["AAPL"]}])
        await other.stay()

    async with Sockets(play) as server:
        with pytest.raises(SourceError, match="does not take NOPE for bars"):
            await collect(feed(server.url).events(("AAPL", "NOPE"), ("bars",), Hands()), bool)


@pytest.mark.parametrize(("code", "least"), [(406, 30.0), (404, 0.0), (407, 0.0), (500, 0.0)])
async def test_what_may_pass_is_tried_again_slowly_where_asked(code: int, least: float) -> None:
    async def refuse(other: Conversation) -> None:
        await other.say(error(code, "for now"))
        await other.stay()

    waits = Waits()
    async with Sockets(refuse, plays([BAR])) as server:
        events = feed(server.url, waits).events(("AAPL", "AMD", "SPY"), ("bars",), Hands())
        found = await collect(events, lambda found: isinstance(found[-1], BarBlock))
    lost, regained, _ = found
    assert isinstance(lost, Lost)
    assert f"{code}: for now" in lost.reason
    assert waits.asked == [lost.again_s] == [least + 1.0]
    assert isinstance(regained, Regained)
    assert regained.since_ns == 0


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (error(500, "internal error"), "it answers 500: internal error"),
        ({"T": "b"}, "another form than is documented"),
        ([1], "another form than is documented"),
        ("[{", "no JSON"),
    ],
)
async def test_an_error_or_garbage_ends_the_connection_alone(message: Any, says: str) -> None:
    (lost,) = await heard(message, count=1)
    assert isinstance(lost, Lost)
    assert says in lost.reason


def test_what_corrections_may_refer_to_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.feeds.alpaca.REMEMBERED", 3)
    vendor = _Alpaca(AlpacaFeed.open("", SETTINGS).place, ("AAPL",), ("ticks",))
    for number in range(96921, 96926):
        assert len(list(vendor.read([{**TRADE, "i": number}], 0))) == 1
    assert list(vendor.read([CANCEL], 0)) == []
    assert len(list(vendor.read([{**CANCEL, "i": 96925}], 0))) == 1
    assert list(vendor.read(PONG, 0)) == []


async def test_a_plan_without_halts_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (found,) = await heard(error(409, "insufficient subscription"), [BAR], count=1)
    assert isinstance(found, BarBlock)
    assert "no trading halts come: insufficient subscription" in caplog.text


async def test_what_was_missed_is_told_from_a_minute_before_the_end() -> None:
    clock = Hands(10_000 * 10**9)

    async def first(other: Conversation) -> None:
        await greet(other)
        await other.hear()
        clock.ns = 10_300 * 10**9
        await other.say([BAR])

    async with Sockets(first, plays()) as server:
        events = feed(server.url).events(("AAPL", "AMD", "SPY"), ("bars",), clock)
        found = await collect(events, lambda found: len(found) == 4)
    began, _, lost, again = found
    assert began == Regained(0, 10_000 * 10**9)
    assert isinstance(lost, Lost)
    assert again == Regained((10_300 - 60) * 10**9, 10_300 * 10**9)


async def test_a_delayed_feed_knows_only_what_it_holds_back_no_more() -> None:
    async with Sockets(plays()) as server:
        delayed = feed(server.url, options=",feed=delayed_sip")
        events = delayed.events(("AAPL", "AMD", "SPY"), ("bars",), Hands(10_000 * 10**9))
        found = await collect(events, bool)
    assert found == [Regained(0, (10_000 - 900) * 10**9)]


def test_credentials_stand_in_no_text() -> None:
    opened = AlpacaFeed.open("feed=sip", SETTINGS)
    assert opened.place.stream_url == "wss://stream.data.alpaca.markets/v2/sip"
    for text in (repr(opened), str(opened.place), repr(opened.place.site)):
        assert "KEY-ID" not in text
        assert "SECRET-KEY" not in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("feed=otc", "feed=otc has to be one of iex, sip, delayed_sip"),
        ("key=abc", "'key=abc' is no option"),
        ("asof=today", "asof=today has to be a day"),
        ("url=wss://me:pw@host/", "credentials do not belong in the URI"),
    ],
)
def test_a_wrong_option_is_named(options: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        AlpacaFeed.open(options, SETTINGS)


def test_missing_credentials_are_named() -> None:
    with pytest.raises(ConfigError, match="set SESSIONTAPE_ALPACA_KEY_ID and SESSIONTAPE_ALPACA_S"):
        AlpacaFeed.open("", Settings())
