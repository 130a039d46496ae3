"""Alpaca's history: paging, what is said of minutes without a bar, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import ConfigError, SourceError
from streams.settings import Settings
from streams.sources import Source, open_source
from streams.sources.alpaca import AlpacaSource, row_of, tick_number
from streams.sources.protocol import Answer, BadRow
from streams.sources.times import ns_text, text_ns
from tests.vendors import Answers

MINUTE = 60 * 10**9
OPEN = text_ns("2024-11-27T14:30:00Z")
SETTINGS = Settings(alpaca_key_id="KEY-ID", alpaca_secret_key="SECRET-KEY")
Reply = tuple[int, Mapping[str, str], Any]


def bar(minute: int, close: float = 10.5) -> dict[str, Any]:
    ts = ns_text(OPEN + minute * MINUTE)[:19] + "Z"
    return {"t": ts, "o": 10, "h": 11, "l": 9, "c": close, "v": 100 + minute, "n": 3, "vw": 10.1}


class Api:
    """Bars of some symbols, a few a page."""

    def __init__(self, bars: Mapping[str, list[dict[str, Any]]], a_page: int = 1000) -> None:
        self.bars = bars
        self.a_page = a_page
        self.refusal: Reply | None = None
        self.known = set(bars)

    def __call__(self, path: str, given: Mapping[str, str]) -> Reply:
        if self.refusal is not None:
            return self.refusal
        symbols = given["symbols"].split(",")
        if path == "/v2/stocks/bars/latest":
            return 200, {}, {"bars": {s: bar(0) for s in symbols if s in self.known}}
        start, end = text_ns(given["start"]), text_ns(given["end"])
        rows = [
            (symbol, row)
            for symbol in sorted(symbols)
            for row in self.bars.get(symbol, [])
            if start <= text_ns(row["t"]) <= end
        ]
        first = int(given.get("page_token") or 0)
        page = rows[first : first + self.a_page]
        found: dict[str, list[Any]] = {}
        for symbol, row in page:
            found.setdefault(symbol, []).append(row)
        is_last = first + self.a_page >= len(rows)
        kind = path.rpartition("/")[2]
        return (
            200,
            {},
            {kind: found, "next_page_token": None if is_last else str(first + len(page))},
        )


def source(url: str, options: str = "", now_ns: int = OPEN + 10**6 * MINUTE) -> AlpacaSource:
    opened = AlpacaSource.open(f"rest={url}{options}", SETTINGS)
    return replace(opened, now_ns=lambda: now_ns, site=replace(opened.site, sleep=lambda _: None))


def load(
    found: AlpacaSource, *symbols: str, stream: str = "bars", minutes: tuple[int, int] = (0, 390),
    interval: int = 1,
) -> tuple[list[Any], list[Answer], list[BadRow]]:  # fmt: skip
    start, end = (OPEN + minute * MINUTE for minute in minutes)
    parts = list(found.load(stream, symbols, start, end, interval * MINUTE))
    answers = [part for part in parts if isinstance(part, Answer)]
    bad = [part for part in parts if isinstance(part, BadRow)]
    return [p for p in parts if not isinstance(p, Answer | BadRow)], answers, bad


def minutes_of(blocks: list[Any]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for block in blocks:
        for symbol, ts_ns in zip(block.symbol.tolist(), block.ts_ns.tolist(), strict=True):
            found.setdefault(block.symbols[symbol], []).append((ts_ns - OPEN) // MINUTE)
    return found


def test_bars_come_page_by_page_and_what_is_not_there_had_no_trade() -> None:
    api = Api({"AIG": [bar(m) for m in (0, 1, 3, 389, 390)], "BAC": [bar(m) for m in (0, 2)]}, 3)
    with Answers(api) as server:
        blocks, answers, bad = load(source(server.url), "AIG", "BAC")
    assert minutes_of(blocks) == {"AIG": [0, 1, 3, 389], "BAC": [0, 2]}
    assert answers == [Answer(("AIG", "BAC"), "rows", vouched=True)]
    assert bad == []
    assert server.asked[0] == (
        "/v2/stocks/bars",
        {
            "feed": "iex", "start": "2024-11-27T14:30:00.000000000Z",
            "end": "2024-11-27T20:59:59.999999999Z", "limit": "10000", "sort": "asc",
            "timeframe": "1Min", "adjustment": "raw", "symbols": "AIG,BAC",
        },
    )  # fmt: skip
    assert [given.get("page_token") for _, given in server.asked] == [None, "3"]
    assert server.headers[0]["APCA-API-KEY-ID"] == "KEY-ID"
    assert server.headers[0]["APCA-API-SECRET-KEY"] == "SECRET-KEY"


def test_a_known_symbol_without_rows_had_no_trade_of_another_it_cant_say() -> None:
    api = Api({"AIG": [bar(0)], "BAC": []})
    with Answers(api) as server:
        found = source(server.url)
        _, answers, _ = load(found, "AIG", "BAC", "NOPE")
        assert answers == [
            Answer(("AIG",), "rows", vouched=True),
            Answer(("BAC",), "nothing"),
            Answer(("NOPE",), "cannot_say"),
        ]
        asked = len(server.asked)
        assert load(found, "BAC", minutes=(5, 6))[1] == [Answer(("BAC",), "nothing")]
        assert len(server.asked) == asked + 1, "BAC is known by now"


@pytest.mark.parametrize(("options", "delay"), [("", 0), (",feed=delayed_sip", 15)])
def test_of_the_last_minutes_it_cant_say(options: str, delay: int) -> None:
    with Answers(Api({"AIG": [bar(m) for m in range(10)]})) as server:
        now_ns = OPEN + (7 + delay) * MINUTE
        blocks, answers, _ = load(source(server.url, options, now_ns), "AIG", minutes=(0, 10))
        # The bar of minute 5 ended a minute ago: it is the last that is final.
        assert minutes_of(blocks) == {"AIG": [0, 1, 2, 3, 4, 5]}
        last = Answer(("AIG",), "cannot_say", OPEN + 5 * MINUTE + 1, OPEN + 10 * MINUTE)
        assert answers == [Answer(("AIG",), "rows", vouched=True), last]
        _, answers, _ = load(source(server.url, options, now_ns), "AIG", minutes=(6, 10))
        assert answers == [Answer(("AIG",), "cannot_say")]
    assert server.asked[0][1]["feed"] == ("sip" if delay else "iex")


def test_many_symbols_are_asked_for_in_parts() -> None:
    names = tuple(f"S{n:03}" for n in range(150))
    with Answers(Api({name: [bar(0)] for name in names})) as server:
        blocks, answers, _ = load(source(server.url), *names)
    assert len(minutes_of(blocks)) == 150
    assert [len(answer.symbols) for answer in answers] == [100, 50]
    assert [len(given["symbols"].split(",")) for _, given in server.asked] == [100, 50]


def test_rows_that_make_no_sense_are_told() -> None:
    rows = [bar(0), bar(1, float("nan")), {**bar(2), "o": None}, {"t": "noon"}, bar(4)]
    with Answers(Api({"AIG": rows[:2] + rows[4:]})) as server:
        blocks, _, bad = load(source(server.url), "AIG")
    assert minutes_of(blocks) == {"AIG": [0, 4]}
    assert [row.reason for row in bad] == ["a price is no number"]

    def broken(path: str, given: Mapping[str, str]) -> Reply:
        return 200, {}, {"bars": {"AIG": rows}, "next_page_token": None}

    with Answers(broken) as server:
        blocks, _, bad = load(source(server.url), "AIG")
    assert minutes_of(blocks) == {"AIG": [0, 4]}
    assert [row.symbol for row in bad] == ["AIG"] * 3


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((403, {}, {"message": "subscription does not permit querying recent SIP data"}), "recent"),
        ((401, {}, {"message": "unauthorized"}), "it answers 401: unauthorized"),
        ((200, {}, []), "another form than is documented"),
        ((404, {}, {}), "another form than is documented"),
    ],
)
def test_a_refusal_is_an_error_without_the_credentials(reply: Reply, says: str) -> None:
    api = Api({})
    api.refusal = reply
    with Answers(api) as server, pytest.raises(SourceError, match=says) as caught:
        load(source(server.url), "AIG")
    assert "SECRET-KEY" not in str(caught.value)


def test_a_limit_is_waited_for_and_the_page_asked_again() -> None:
    api = Api({"AIG": [bar(0), bar(1)]}, 1)
    limited = iter([False, True, True, False, False])

    def now_and_then(path: str, given: Mapping[str, str]) -> Reply:
        return (429, {"Retry-After": "1"}, {}) if next(limited) else api(path, given)

    with Answers(now_and_then) as server:
        blocks, _, _ = load(source(server.url), "AIG")
    assert minutes_of(blocks) == {"AIG": [0, 1]}
    assert [given.get("page_token") for _, given in server.asked] == [None, "1", "1", "1"]


@pytest.mark.parametrize(
    ("minutes", "name"), [(1, "1Min"), (5, "5Min"), (60, "1Hour"), (240, "4Hour")]
)
def test_lengths_of_bars(minutes: int, name: str) -> None:
    with Answers(Api({"AIG": [bar(0)]})) as server:
        blocks, _, _ = load(source(server.url), "AIG", interval=minutes)
    assert server.asked[0][1]["timeframe"] == name
    assert blocks[0].interval_ns.tolist() == [minutes * MINUTE]


def test_lengths_that_it_has_not() -> None:
    for length in (10**9, 90 * MINUTE, 1440 * MINUTE):
        parts = list(source("http://127.0.0.1:1").load("bars", ("AIG",), 0, 10**18, length))
        assert parts == [Answer(("AIG",), "cannot_say")]


def test_quotes_and_trades() -> None:
    quote = {
        "t": "2024-11-27T14:30:00.000000001Z", "ax": "Q", "ap": 87.68, "as": 4, "bx": "U",
        "bp": 87.66, "bs": 1, "c": ["R"], "z": "C",
    }  # fmt: skip
    trade = {
        "t": "2024-11-27T14:30:00.5Z", "x": "D", "p": 126.55, "s": 1, "c": ["@", " ", "I"],
        "i": 96921, "z": "C",
    }  # fmt: skip
    gone = {**trade, "i": 96922, "u": "canceled"}
    with Answers(Api({"AIG": [quote]})) as server:
        (quotes,), answers, _ = load(source(server.url), "AIG", stream="quotes")
    assert (quotes.bid[0], quotes.ask_size[0], quotes.ts_ns[0]) == (87.66, 4, OPEN + 1)
    assert answers == [Answer(("AIG",), "rows", vouched=True)]
    assert "timeframe" not in server.asked[0][1]
    with Answers(Api({"AIG": [trade, gone]})) as server:
        (ticks,), _, _ = load(source(server.url), "AIG", stream="ticks")
    assert server.asked[0][0] == "/v2/stocks/trades"
    assert ticks.size.tolist() == [1, 0]
    assert [ticks.conditions[n] for n in ticks.condition] == ["@,I", "canceled"]
    assert ticks.revision.tolist() == [0, 1]
    assert ticks.sequence.tolist() == [96921 * 32 + 4, 96922 * 32 + 4]


def test_of_the_names_of_another_day() -> None:
    with Answers(Api({"AIG": [bar(0)]})) as server:
        load(source(server.url, ",asof=2024-11-29"), "AIG")
    assert server.asked[0][1]["asof"] == "2024-11-29"


def test_it_is_a_source_that_says_what_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.sources.alpaca.load", lambda: SETTINGS)
    opened = open_source("alpaca:feed=sip,symbols=BAC+AIG")
    assert isinstance(opened, Source)
    assert (opened.name, opened.symbols(), opened.sessions()) == ("alpaca", ("AIG", "BAC"), None)
    assert "KEY-ID" not in repr(opened)
    monkeypatch.setattr("streams.sources.alpaca.load", Settings)
    with pytest.raises(ConfigError, match="SESSIONTAPE_ALPACA_KEY_ID"):
        open_source("alpaca:")


@settings(deadline=None)
@given(st.integers(0, 2**50), st.sampled_from("ABCDEFGHIJKLMNPQSTUVWXYZ"), st.integers(0, 2**50))
def test_trades_of_two_exchanges_never_have_one_number(one: int, exchange: str, two: int) -> None:
    numbers = {tick_number(n, x) for n in (one, two) for x in (exchange, "O")}
    assert len(numbers) == 2 * len({one, two})
    assert all(0 < number < 2**63 for number in numbers)


def test_one_quote_has_one_number_wherever_it_comes_from() -> None:
    live = {"T": "q", "S": "AMD", "bp": 1, "bs": 2, "ap": 3, "as": 4, "bx": "U", "ax": "Q"}
    live |= {"t": "2024-11-27T14:30:00Z"}
    same = {name: live[name] for name in ("bp", "bs", "ap", "as", "bx", "ax", "t")}
    assert row_of("quotes", "AMD", live) == row_of("quotes", "AMD", same)
    other = row_of("quotes", "AMD", {**same, "bs": 5})
    assert other.sequence != row_of("quotes", "AMD", same).sequence
    assert 0 < other.sequence < 2**63
