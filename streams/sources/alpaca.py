"""History of US stocks from Alpaca's market data API, v2: bars, quotes and trades over HTTP.

URI: ``alpaca:[key=value,…]``; the feed of that name takes the same. Keys:

``feed=iex``            whose data: iex, sip or delayed_sip; default iex, which needs no plan
``symbols=AIG+BAC``     symbols it says it has, with + between: the API does not list them
``asof=2024-11-29``     day at which names are those of their companies; default: the vendor's
``rest=URL, url=URL``   where history and stream are, if not at the vendor's own address

Credentials are the settings ``alpaca_key_id`` and ``alpaca_secret_key``, never part of the URI.
Prices are as traded (``adjustment=raw``).

What it says of a minute without a bar: the API gives a bar for each minute with a trade that
counts, so a range that was read to its last page has no trade in the others. Of a symbol the API
has no bar of at all, and of the last minutes, which it may not have yet, it can't say. With
``iex`` all of this is said of one exchange alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Self

import xxhash
from pydantic import SecretStr

from streams.errors import ConfigError, SourceError
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.settings import Settings, load
from streams.sources.gathered import Gathered, Row, sorted_parts
from streams.sources.options import Options
from streams.sources.protocol import Answer, BadRow, Part
from streams.sources.rest import Rest, Site
from streams.sources.times import ns_text, text_ns

__all__ = ["GONE", "SETTLED_NS", "AlpacaSource", "Place", "row_of", "tick_number"]

STREAM_URL = "wss://stream.data.alpaca.markets/v2"
REST_URL = "https://data.alpaca.markets"
FEEDS: Mapping[str, int] = {"iex": 0, "sip": 0, "delayed_sip": 15 * MINUTE_NS}
"""The feeds, and how long each holds back what it has, in ns."""
SETTLED_NS = 60 * SECOND_NS
"""Bars are sent right after their minute, updated ones half a minute later: then it is final."""
PAGE_ROWS = 10_000
SYMBOLS_A_QUESTION = 100
GONE = "canceled"
"""Condition of a tick that the vendor has taken back; its size is 0."""
TAKEN_BACK = ("canceled", "incorrect")
PATHS = {"bars": "bars", "quotes": "quotes", "ticks": "trades"}


@dataclass(frozen=True, slots=True)
class Place:
    """One URI, read: where the vendor is, and who asks.

    Attributes
    ----------
    feed
        iex, sip or delayed_sip.
    stream_url, rest_url
        Addresses of stream and history.
    symbols
        Symbols that were named; may be empty.
    asof
        Day of the names, YYYY-MM-DD; empty: the vendor's choice.
    key, secret
        Credentials.
    """

    feed: str
    stream_url: str
    rest_url: str
    symbols: tuple[str, ...]
    asof: str
    key: SecretStr
    secret: SecretStr

    @classmethod
    def read(cls, text: str, settings: Settings | None = None) -> Self:
        """Return what stands behind ``alpaca:``.

        Raises
        ------
        ConfigError
            An option that is none or has no meaning, or credentials that are not set.
        """
        given = Options("alpaca", text, ("feed", "symbols", "asof", "rest", "url"), ",")
        feed = given.text("feed", "iex")
        if feed not in FEEDS:
            raise given.wrong("feed", f"one of {', '.join(FEEDS)}")
        asof = given.text("asof")
        try:
            date.fromisoformat(asof or "2024-11-29")
        except ValueError as exc:
            raise given.wrong("asof", "a day such as 2024-11-29") from exc
        stream_url = given.text("url", f"{STREAM_URL}/{feed}")
        rest_url = given.text("rest", REST_URL).rstrip("/")
        if "@" in stream_url + rest_url:
            msg = "alpaca: credentials do not belong in the URI: set them as settings"
            raise ConfigError(msg)
        settings = settings or load()
        key, secret = settings.alpaca_key_id, settings.alpaca_secret_key
        if not (key.get_secret_value() and secret.get_secret_value()):
            msg = "alpaca: set SESSIONTAPE_ALPACA_KEY_ID and SESSIONTAPE_ALPACA_SECRET_KEY"
            raise ConfigError(msg)
        return cls(feed, stream_url, rest_url, given.names("symbols"), asof, key, secret)

    @property
    def delay_ns(self) -> int:
        """How long the feed holds back what it has."""
        return FEEDS[self.feed]

    @property
    def site(self) -> Site:
        """Where history is asked for."""
        headers = {
            "APCA-API-KEY-ID": self.key.get_secret_value(),
            "APCA-API-SECRET-KEY": self.secret.get_secret_value(),
        }
        return Site(self.rest_url, headers)


@dataclass(slots=True)
class AlpacaSource:
    """The history of one account.

    Attributes
    ----------
    place
        Where and who.
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
    name: str = "alpaca"
    streams: tuple[str, ...] = ("bars", "quotes", "ticks")
    _known: set[str] = field(default_factory=set, repr=False)

    @classmethod
    def open(cls, text: str, settings: Settings | None = None) -> Self:
        """Return the source behind ``alpaca:``; nothing is connected to yet.

        Raises
        ------
        ConfigError
            See `Place.read`.
        """
        place = Place.read(text, settings)
        return cls(place, place.site)

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that the URI names: the API does not list them."""
        return self.place.symbols

    def sessions(self) -> tuple[str, str] | None:
        """Return None: the API does not say which days it has."""
        return None

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give the rows page by page, then what is known of the rest."""
        asked = tuple(dict.fromkeys(symbols))
        timeframe = _timeframe(interval_ns) if stream == "bars" else "1Min"
        if not timeframe:
            yield Answer(asked, "cannot_say")
            return
        length_ns = interval_ns if stream == "bars" else 0
        # What is not final yet is left to a later question.
        final_ns = self.now_ns() - self.place.delay_ns - SETTLED_NS - length_ns
        last_ns = min(end_ns - 1, final_ns)
        if last_ns < start_ns:
            yield Answer(asked, "cannot_say")
            return
        parameters = {
            "feed": "sip" if self.place.feed == "delayed_sip" else self.place.feed,
            "start": ns_text(start_ns),
            "end": ns_text(last_ns),  # theirs is inclusive
            "limit": str(PAGE_ROWS),
            "sort": "asc",
        }
        if stream == "bars":
            parameters |= {"timeframe": timeframe, "adjustment": "raw"}
        if self.place.asof:
            parameters["asof"] = self.place.asof
        with Rest(self.site) as rest:
            for low in range(0, len(asked), SYMBOLS_A_QUESTION):
                some = asked[low : low + SYMBOLS_A_QUESTION]
                yield from self._some(rest, stream, some, parameters, interval_ns)
                if last_ns < end_ns - 1:
                    yield Answer(some, "cannot_say", last_ns + 1, end_ns)

    def _some(
        self,
        rest: Rest,
        stream: str,
        symbols: Sequence[str],
        parameters: Mapping[str, str],
        interval_ns: int,
    ) -> Iterator[Part]:
        """Give what there is of some symbols, and what is known of each."""
        with_rows: set[str] = set()
        for part in self._pages(rest, stream, symbols, parameters, interval_ns):
            if not isinstance(part, BadRow):
                with_rows.update(part.symbols)
            yield part
        self._known |= with_rows
        known = self._known_among(rest, set(symbols))
        for kind, chosen in (
            ("rows", with_rows),
            ("nothing", known - with_rows),
            ("cannot_say", set(symbols) - known),
        ):
            if chosen:
                yield Answer(tuple(sorted(chosen)), kind, vouched=kind == "rows")

    def _pages(
        self,
        rest: Rest,
        stream: str,
        symbols: Sequence[str],
        parameters: Mapping[str, str],
        interval_ns: int,
    ) -> Iterator[Any]:
        """Give blocks and bad rows, a page at a time."""
        path = f"/v2/stocks/{PATHS[stream]}"
        token = ""
        while True:
            given = {**parameters, "symbols": ",".join(symbols)}
            reply = rest.get(path, given | ({"page_token": token} if token else {}))
            body = reply.body if reply is not None else None
            if not isinstance(body, dict):
                raise SourceError("it answers with another form than is documented", path=path)
            gathered = Gathered(stream, interval_ns)
            for symbol, rows in (body.get(PATHS[stream]) or {}).items():
                for row in rows:
                    try:
                        gathered.rows.append(row_of(stream, symbol, row))
                    except (KeyError, TypeError, ValueError) as exc:
                        yield BadRow(path, 0, f"{exc!r} in a row", repr(row).encode(), symbol)
            yield from sorted_parts(gathered, path)
            token = body.get("next_page_token") or ""
            if not token:
                return

    def _known_among(self, rest: Rest, symbols: set[str]) -> set[str]:
        """Return those that the API has a bar of: what it does not know it has nothing of, too."""
        unknown = symbols - self._known
        if unknown:
            parameters = {"symbols": ",".join(sorted(unknown)), "feed": self.place.feed}
            reply = rest.get("/v2/stocks/bars/latest", parameters)
            if reply is not None and isinstance(reply.body, dict):
                self._known |= set(reply.body.get("bars") or {}) & unknown
        return symbols & self._known


def row_of(stream: str, symbol: str, row: Mapping[str, Any]) -> Row:
    """Return a row of the API, or of a message of its stream: the fields have the same names.

    Raises
    ------
    KeyError, TypeError, ValueError
        A field is missing, or is none.
    """
    ts_ns = text_ns(row["t"])
    if stream == "bars":
        values = tuple(float(row[name]) for name in "ohlc")
        return Row(symbol, ts_ns, values, (float(row["v"]),))
    if stream == "quotes":
        prices, sizes = _pair(row, "bp", "ap"), _pair(row, "bs", "as")
        # Quotes have no number. One made of what they say tells the two that are one, wherever
        # they came from, from two that follow each other within a nanosecond.
        said = repr((*prices, *sizes, row.get("bx"), row.get("ax")))
        sequence = (xxhash.xxh3_64_intdigest(said.encode()) >> 2) + 1
        return Row(symbol, ts_ns, prices, sizes, sequence)
    made = Row(
        symbol,
        ts_ns,
        (float(row["p"]),),
        (float(row["s"]),),
        tick_number(int(row["i"]), str(row["x"])),
        _codes(row.get("c")),
    )
    if row.get("u") in TAKEN_BACK:
        return replace(made, sizes=(0.0,), condition=GONE, revision=1)
    return made


def tick_number(number: int, exchange: str) -> int:
    """Return a number that no other trade of a symbol has: exchanges count each for themselves."""
    return number * 32 + (ord(exchange[:1] or "@") & 31)


def _pair(row: Mapping[str, Any], first: str, second: str) -> tuple[float, float]:
    return float(row[first]), float(row[second])


def _codes(codes: Any) -> str:
    return ",".join(code for code in codes or () if code.strip())


def _timeframe(interval_ns: int) -> str:
    """Return the API's name of a length of bars; empty if it has none of that length."""
    minutes, rest = divmod(interval_ns, MINUTE_NS)
    if rest or not minutes:
        return ""
    if minutes < 60:
        return f"{minutes}Min"
    hours, rest = divmod(minutes, 60)
    return f"{hours}Hour" if not rest and hours < 24 else ""
