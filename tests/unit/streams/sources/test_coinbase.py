"""Coinbase's history, against an exchange on loopback that pages as the documentation says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from schemas import TickBlock
from streams.errors import ConfigError, SourceError
from streams.sources import Source, open_source
from streams.sources.coinbase import CoinbaseSource
from streams.sources.protocol import Answer, BadRow
from streams.sources.times import ns_text, text_ns
from tests.vendors import Answers

SECOND = 10**9
MINUTE = 60 * SECOND
START = text_ns("2024-11-29T12:00:00Z")
LATER = START + 10**6 * MINUTE
Reply = tuple[int, Mapping[str, str], Any]


class Exchange:
    """Trades of one product, numbered from 1 without a hole, and their candles.

    Parameters
    ----------
    times
        Seconds behind START, ascending.
    """

    def __init__(self, times: list[float], a_page: int = 1000) -> None:
        self.trades: list[dict[str, Any]] = [
            {
                "time": ns_text(START + round(second * SECOND)), "trade_id": number,
                "price": f"{100 + number}.5", "size": "0.25", "side": "buy",
            }
            for number, second in enumerate(times, 1)
        ]  # fmt: skip
        self.lacking: set[int] = set()
        self.gone: set[int] = set()
        self.a_page = a_page

    def __call__(self, path: str, given: Mapping[str, str]) -> Reply:
        if path == "/products":
            return 200, {}, [{"id": "ETH-USD"}, {"id": "BTC-USD"}]
        if not path.startswith("/products/BTC-USD/"):
            return 404, {}, {"message": "NotFound"}
        if path.endswith("/trades"):
            after = int(given.get("after", 10**9))
            older = [t for t in reversed(self.trades) if t["trade_id"] < after]
            older = [t for t in older if t["trade_id"] not in self.gone]
            return 200, {}, older[: min(int(given["limit"]), self.a_page)]
        length = int(given["granularity"]) * SECOND
        start, end = text_ns(given["start"]), text_ns(given["end"])
        if (end - start) // length >= 300:
            return 400, {}, {"message": "granularity too small for the requested time range"}
        buckets: dict[int, list[float]] = {}
        for trade in self.trades:
            buckets.setdefault(text_ns(trade["time"]) // length * length, []).append(
                float(trade["price"])
            )
        # Some from before the start come too, newest first.
        return (
            200,
            {},
            [
                [ts // SECOND, min(p), max(p), p[0], p[-1], len(p) * 0.25]
                for ts, p in sorted(buckets.items(), reverse=True)
                if start - 5 * length <= ts <= end and (ts - START) // MINUTE not in self.lacking
            ],
        )


def source(url: str, now_ns: int = LATER) -> CoinbaseSource:
    opened = CoinbaseSource.open(f"rest={url}")
    site = replace(opened.site, sleep=lambda _: None)
    return replace(opened, now_ns=lambda: now_ns, site=site)


def load(
    exchange: Exchange, start: float, end: float, *, stream: str = "bars", now_ns: int = LATER,
    symbols: tuple[str, ...] = ("BTC-USD",), length: int = MINUTE,
) -> tuple[list[int], list[Answer], list[Any]]:  # fmt: skip
    """Return the times in seconds (minutes of bars), the answers and all blocks and bad rows."""
    first, last = START + round(start * SECOND), START + round(end * SECOND)
    with Answers(exchange) as server:
        parts = list(source(server.url, now_ns).load(stream, symbols, first, last, length))
    answers = [part for part in parts if isinstance(part, Answer)]
    blocks: list[Any] = [part for part in parts if not isinstance(part, Answer)]
    unit = MINUTE if stream == "bars" else SECOND
    times = [
        (ts - START) // unit for b in blocks if not isinstance(b, BadRow) for ts in b.ts_ns.tolist()
    ]
    return times, answers, blocks


def test_candles_come_in_order_and_only_of_the_range() -> None:
    exchange = Exchange([s * 60 + 1.0 for s in range(-10, 700)])
    times, answers, blocks = load(exchange, 0, 650 * 60)
    assert times == list(range(650))
    assert answers == [Answer(("BTC-USD",), "rows")]
    assert [len(block) for block in blocks] == [300, 300, 50]
    first = blocks[0]
    assert (first.open[0], first.volume[0]) == (111.5, 0.25)


def test_a_candle_holds_what_is_traded() -> None:
    _, _, (block,) = load(Exchange([0.5, 1, 2, 61]), 0, 60)
    assert [float(c[0]) for c in (block.open, block.high, block.low, block.close)] == [
        101.5, 103.5, 101.5, 103.5,
    ]  # fmt: skip
    assert block.volume.tolist() == [0.75]


def test_minutes_without_a_candle_are_proven_by_the_trades() -> None:
    exchange = Exchange([1, 61, 5 * 60 + 1, 6 * 60 + 1])
    # Minutes 2 to 4 had no trade; minute 5 had one, and its candle is lacking.
    exchange.lacking = {5}
    times, answers, _ = load(exchange, 0, 7 * 60)
    assert times == [0, 1, 6]
    whole, quiet = answers
    assert whole == Answer(("BTC-USD",), "rows")
    # The run of minutes without a candle holds a trade: no proof for any of it.
    assert quiet == Answer(("BTC-USD",), "cannot_say", START + 2 * MINUTE, START + 6 * MINUTE)
    exchange.lacking = set()
    _, (_, quiet), _ = load(exchange, 0, 7 * 60)
    assert quiet == Answer(("BTC-USD",), "nothing", START + 2 * MINUTE, START + 5 * MINUTE)


def test_too_many_runs_are_not_looked_up() -> None:
    exchange = Exchange([n * 120 + 1 for n in range(20)])
    _, answers, _ = load(exchange, 0, 20 * 120)
    kinds = [answer.kind for answer in answers[1:]]
    assert kinds == ["nothing"] * 8 + ["cannot_say"] * 12


def test_a_range_without_any_candle() -> None:
    exchange = Exchange([1, 100_000])
    _, answers, _ = load(exchange, 600, 1200)
    assert answers[-1] == Answer(
        ("BTC-USD",), "nothing", START + 600 * SECOND, START + 1200 * SECOND
    )
    assert [a.kind for a in load(Exchange([100_000]), 600, 1200)[1]] == ["cannot_say"] * 2


def test_of_the_minute_that_runs_it_cant_say() -> None:
    exchange = Exchange([s * 60 + 1.0 for s in range(10)])
    now_ns = START + 8 * MINUTE + 4 * SECOND
    times, answers, _ = load(exchange, 0, 600, now_ns=now_ns)
    assert times == list(range(7))
    assert answers[-1] == Answer(
        ("BTC-USD",), "cannot_say", now_ns - 5 * SECOND, START + 10 * MINUTE
    )
    _, answers, _ = load(exchange, 540, 600, now_ns=now_ns)
    assert answers == [Answer(("BTC-USD",), "cannot_say")]


@pytest.mark.parametrize("stream", ["bars", "ticks"])
def test_an_unknown_product_and_a_known_one(stream: str) -> None:
    _, answers, _ = load(Exchange([1]), 0, 60, stream=stream, symbols=("NO-NO", "BTC-USD"))
    kinds = {answer.symbols[0]: answer.kind for answer in answers}
    assert kinds == {"NO-NO": "cannot_say", "BTC-USD": "rows"}


@pytest.mark.parametrize(("stream", "length"), [("quotes", MINUTE), ("bars", 2 * MINUTE)])
def test_what_it_has_not(stream: str, length: int) -> None:
    found = source("http://127.0.0.1:1").load(stream, ("BTC-USD",), 0, 10**18, length)
    assert list(found) == [Answer(("BTC-USD",), "cannot_say")]


@pytest.mark.parametrize("a_page", [1, 7, 1000])
def test_ticks_of_any_range_are_all_there_is_and_vouched_for(a_page: int) -> None:
    rng = np.random.default_rng(a_page)
    times = np.sort(rng.integers(0, 40_000, 300)).astype(float).tolist()
    exchange = Exchange(times, a_page)
    for start, end in ((0, 40_000), (39_000, 41_000), (20_000, 20_200), (150, 151)):
        found, answers, blocks = load(exchange, start, end, stream="ticks")
        wanted = [int(second) for second in times if start <= second < end]
        assert found == wanted
        numbers = [n for block in blocks for n in block.sequence.tolist()]
        assert numbers == sorted(set(numbers))
        (answer,) = answers
        # Before the first trade of all there is nothing to prove it by.
        is_known = any(second < end for second in times)
        assert answer.kind == ("cannot_say" if not is_known else "rows" if wanted else "nothing")
        assert answer.vouched == is_known


def test_a_hole_in_the_numbers_is_not_vouched_for() -> None:
    exchange = Exchange([float(n) for n in range(100)])
    exchange.gone = {50}
    found, (answer,), _ = load(exchange, 20, 80, stream="ticks")
    assert len(found) == 59
    assert (answer.kind, answer.vouched) == ("cannot_say", False)


def test_recent_ticks_cost_few_questions() -> None:
    exchange = Exchange([n * 0.1 for n in range(200_000)])
    with Answers(exchange) as server:
        first, last = START + 19_990 * SECOND, START + 19_999 * SECOND
        parts = list(source(server.url).load("ticks", ("BTC-USD",), first, last, MINUTE))
        assert sum(len(part) for part in parts if isinstance(part, TickBlock)) == 90
        assert len(server.asked) < 20


def test_candles_that_are_none_are_told() -> None:
    def broken(path: str, given: Mapping[str, str]) -> Reply:
        if path.endswith("/trades"):
            return 200, {}, []
        return (
            200,
            {},
            [[START // SECOND, 1, 2, 1, 1, 5], ["x"], [START // SECOND + 60, 5, 1, 1, 1, 1]],
        )

    with Answers(broken) as server:
        parts = list(
            source(server.url).load("bars", ("BTC-USD",), START, START + 2 * MINUTE, MINUTE)
        )
    bad = [part for part in parts if isinstance(part, BadRow)]
    assert [row.reason.split(" in ")[-1] for row in bad] == [
        "a candle",
        "the high is below the low",
    ]


def test_another_form_is_an_error() -> None:
    with Answers(lambda *_: (200, {}, {"message": "hello"})) as server:
        with pytest.raises(SourceError, match="another form"):
            list(source(server.url).load("bars", ("BTC-USD",), START, START + MINUTE, MINUTE))
        with pytest.raises(SourceError, match="another form"):
            source(server.url).symbols()


def test_it_is_a_source_that_knows_its_products() -> None:
    with Answers(Exchange([1])) as server:
        opened = open_source(f"coinbase:rest={server.url}")
        assert isinstance(opened, Source)
        assert opened.symbols() == ("BTC-USD", "ETH-USD")
        assert opened.symbols() == ("BTC-USD", "ETH-USD")
        assert len(server.asked) == 1
    named = open_source("coinbase:symbols=ETH-USD+BTC-USD")
    assert (named.name, named.symbols(), named.sessions()) == (
        "coinbase", ("BTC-USD", "ETH-USD"), None,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="no credentials"):
        open_source("coinbase:rest=https://me:pw@host")
