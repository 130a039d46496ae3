"""History of crypto from Coinbase Exchange: candles and trades over HTTP, without an account.

URI: ``coinbase:[key=value,…]``; the feed of that name takes the same. Keys:

``symbols=BTC-USD+ETH-USD``  symbols it says it has, with + between; default: all products
``rest=URL, url=URL``        where history and stream are, if not at the vendor's own address

There are no quotes. What it says of a minute without a candle: candles may be incomplete, by the
vendor's word, so they prove nothing; but trades of a product are numbered without a hole. A run of
minutes that lies between two trades with neighbouring numbers had none. Where that would cost too
many questions it can't say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np

from schemas.records import Longs
from streams.errors import ConfigError, SourceError
from streams.intervals import SECOND_NS
from streams.sources.gathered import Gathered, Row, sorted_parts
from streams.sources.options import Options
from streams.sources.protocol import Answer, BadRow, Part
from streams.sources.rest import Rest, Site
from streams.sources.times import ns_text, text_ns

__all__ = ["SETTLED_NS", "CoinbaseSource", "Place", "trade_row"]

STREAM_URL = "wss://ws-feed.exchange.coinbase.com"
REST_URL = "https://api.exchange.coinbase.com"
LENGTHS = tuple(seconds * SECOND_NS for seconds in (60, 300, 900, 3600, 21600, 86400))
CANDLES = 300
TRADES = 1000
SPACING_S = 0.11
"""Ten questions a second is what the public API allows an address."""
SETTLED_NS = 5 * SECOND_NS
"""A candle is taken as final so long after its end."""
PROOFS = 8
"""Runs of minutes of a symbol that are looked up among the trades, at most, in one load."""


@dataclass(frozen=True, slots=True)
class Place:
    """One URI, read."""

    stream_url: str
    rest_url: str
    symbols: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Self:
        """Return what stands behind ``coinbase:``.

        Raises
        ------
        ConfigError
            An option that is none.
        """
        given = Options("coinbase", text, ("symbols", "rest", "url"), ",")
        stream_url = given.text("url", STREAM_URL)
        rest_url = given.text("rest", REST_URL).rstrip("/")
        if "@" in stream_url + rest_url:
            msg = "coinbase: the public API needs no credentials: leave them out of the URI"
            raise ConfigError(msg)
        return cls(stream_url, rest_url, given.names("symbols"))


class _Trade(NamedTuple):
    """Where a trade stands: its number, counted without a hole, and its time."""

    number: int
    ts_ns: int


@dataclass(slots=True)
class CoinbaseSource:
    """The history of the exchange.

    Attributes
    ----------
    place
        Where it is.
    site
        Where it is asked for.
    now_ns
        Tells the time.
    name, streams
        What rows carry as their source, and which there are.
    """

    place: Place
    site: Site
    now_ns: Callable[[], int] = time.time_ns
    name: str = "coinbase"
    streams: tuple[str, ...] = ("bars", "ticks")
    _known: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def open(cls, text: str) -> Self:
        """Return the source behind ``coinbase:``; nothing is connected to yet.

        Raises
        ------
        ConfigError
            An option that is none.
        """
        place = Place.read(text)
        return cls(place, Site(place.rest_url, spacing_s=SPACING_S))

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that the URI names; else all products, sorted."""
        if not (self.place.symbols or self._known):
            with Rest(self.site) as rest:
                found = _list(rest.get("/products"), "/products")
            self._known = tuple(sorted(str(product["id"]) for product in found))
        return self.place.symbols or self._known

    def sessions(self) -> tuple[str, str] | None:
        """Return None: the API does not say which days it has."""
        return None

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give candles or trades by symbol, with what is known of the rest."""
        asked = tuple(dict.fromkeys(symbols))
        if stream == "quotes" or (stream == "bars" and interval_ns not in LENGTHS):
            yield Answer(asked, "cannot_say")
            return
        final_ns = min(end_ns, self.now_ns() - SETTLED_NS)
        with Rest(self.site) as rest:
            for symbol in asked:
                if final_ns <= start_ns:
                    yield Answer((symbol,), "cannot_say")
                elif stream == "bars":
                    yield from _bars(rest, symbol, start_ns, final_ns, interval_ns)
                else:
                    yield from _ticks(rest, symbol, start_ns, final_ns)
                if start_ns < final_ns < end_ns:
                    yield Answer((symbol,), "cannot_say", final_ns, end_ns)


def trade_row(symbol: str, trade: Mapping[str, Any]) -> Row:
    """Return a trade of the API, or a match of the feed, as a row.

    Raises
    ------
    KeyError, TypeError, ValueError
        A field is missing, or is none.
    """
    return Row(
        symbol,
        text_ns(trade["time"]),
        (float(trade["price"]),),
        (float(trade["size"]),),
        int(trade["trade_id"]),
    )


def _bars(rest: Rest, symbol: str, start_ns: int, end_ns: int, interval_ns: int) -> Iterator[Part]:
    path = f"/products/{symbol}/candles"
    first = -(-start_ns // interval_ns) * interval_ns
    starts = np.arange(first, end_ns, interval_ns, dtype=np.int64)
    starts = starts[starts + interval_ns <= end_ns]
    there = np.zeros(len(starts), np.bool_)
    for low in range(0, len(starts), CANDLES):
        part = starts[low : low + CANDLES]
        parameters = {
            "granularity": str(interval_ns // SECOND_NS),
            "start": ns_text(int(part[0])),
            "end": ns_text(int(part[-1])),
        }
        reply = rest.get(path, parameters)
        if reply is None:
            yield Answer((symbol,), "cannot_say")
            return
        gathered = Gathered("bars", interval_ns)
        for candle in reversed(_list(reply, path)):
            try:
                row = _candle(symbol, candle)
            except (TypeError, ValueError) as exc:
                yield BadRow(path, 0, f"{exc} in a candle", repr(candle).encode(), symbol)
                continue
            if int(part[0]) <= row.ts_ns <= int(part[-1]):  # it may give some from before
                gathered.rows.append(row)
        yield from sorted_parts(gathered, path)
        there |= np.isin(starts, gathered.times())
    yield Answer((symbol,), "rows" if there.any() else "cannot_say")
    yield from _quiet(rest, symbol, starts, there, interval_ns)


def _quiet(
    rest: Rest, symbol: str, starts: Longs, there: Any, interval_ns: int
) -> Iterator[Answer]:
    """Say which runs of intervals without a candle had no trade, proven by the trades' numbers."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], there, [True])).astype(np.int8)))
    runs = edges.reshape(-1, 2).tolist()
    for n, (low, high) in enumerate(runs):
        begin_ns, end_ns = int(starts[low]), int(starts[high - 1]) + interval_ns
        before = _last_before(rest, symbol, end_ns) if n < PROOFS else None
        is_quiet = before is not None and before.ts_ns < begin_ns
        yield Answer((symbol,), "nothing" if is_quiet else "cannot_say", begin_ns, end_ns)


def _candle(symbol: str, candle: Any) -> Row:
    second, low, high, first, last, volume = (float(value) for value in candle)
    return Row(symbol, int(second) * SECOND_NS, (first, high, low, last), (volume,))


def _ticks(rest: Rest, symbol: str, start_ns: int, end_ns: int) -> Iterator[Part]:
    path = f"/products/{symbol}/trades"
    last = _last_before(rest, symbol, end_ns)
    if last is None:
        yield Answer((symbol,), "cannot_say")
        return
    pages: list[Gathered] = []
    after, is_whole = last.number + 1, True
    while after > 1:
        gathered = Gathered("ticks")
        page = _page(rest, path, after, TRADES)
        is_whole &= bool(page) and page[0]["trade_id"] == after - 1
        rows = [trade_row(symbol, trade) for trade in reversed(page)]
        numbers = [row.sequence for row in rows]
        is_whole &= numbers == list(range(numbers[0], numbers[0] + len(numbers))) if rows else False
        gathered.rows = [row for row in rows if start_ns <= row.ts_ns < end_ns]
        pages.append(gathered)
        if not rows or rows[0].ts_ns < start_ns:
            break
        after = rows[0].sequence
    count = 0
    # They come newest first, a source gives the oldest first.
    for gathered in reversed(pages):
        count += len(gathered)
        yield from sorted_parts(gathered, path)
    kind = "cannot_say" if not is_whole else "rows" if count else "nothing"
    yield Answer((symbol,), kind, vouched=is_whole)


def _last_before(rest: Rest, symbol: str, end_ns: int) -> _Trade | None:
    """Return the last trade before a time; None if there is no such product, or no such trade."""
    path = f"/products/{symbol}/trades"
    newest = _page(rest, path, 0, 1)
    if not newest:
        return None
    found = _trade(newest[0])
    # Back in steps that double, as most of what is asked for is recent; then by halves.
    high, step = found.number + 1, TRADES
    while found.ts_ns >= end_ns:
        high = found.number
        if high <= 1:
            return None
        older = _page(rest, path, max(2, high - step), 1)
        if not older:
            return None
        found, step = _trade(older[0]), 2 * step
    while high - found.number > 1:
        middle = _page(rest, path, (found.number + high) // 2 + 1, 1)
        if not middle:
            return None
        trade = _trade(middle[0])
        if trade.number <= found.number:  # a hole in the numbers: nothing newer below the middle
            break
        if trade.ts_ns < end_ns:
            found = trade
        else:
            high = trade.number
    return found if high - found.number == 1 else None


def _page(rest: Rest, path: str, after: int, limit: int) -> list[Any]:
    """Return trades with numbers below ``after``, newest first; 0: the newest there are."""
    parameters = {"limit": str(limit)} | ({"after": str(after)} if after else {})
    reply = rest.get(path, parameters)
    return [] if reply is None else _list(reply, path)


def _trade(trade: Mapping[str, Any]) -> _Trade:
    return _Trade(int(trade["trade_id"]), text_ns(trade["time"]))


def _list(reply: Any, path: str) -> list[Any]:
    if reply is None or not isinstance(reply.body, list):
        raise SourceError("it answers with another form than is documented", path=path)
    found: list[Any] = reply.body
    return found
