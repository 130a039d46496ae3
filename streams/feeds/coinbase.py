"""Crypto as it trades, from Coinbase Exchange's WebSocket feed, without an account.

URI: that of the source, see ``streams.sources.coinbase``. Ticks are the matches; quotes are the
best bid and ask that come with each match (``ticker``), not each change of the book. Minute bars
the feed does not have: they come from history, or are built from ticks.

Trades of a product are numbered without a hole, and each second a heartbeat tells the number of
the last one. So ticks are vouched for (`Heard`): when a heartbeat's last trade has come, up to the
time of the heartbeat before it, a second for what clocks differ. A number that is missing is a
hole: `Regained` says since when. Quotes have no such proof, and nothing vouches for them.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from streams.errors import FeedError, SourceError
from streams.feeds.protocol import Clock, Event, Heard, Regained
from streams.feeds.websocket import PONG, Patience, Wire, listen
from streams.sources.coinbase import SETTLED_NS, Place, trade_row
from streams.sources.gathered import Gathered, Row
from streams.sources.times import text_ns

__all__ = ["CoinbaseFeed"]

log = logging.getLogger("sessiontape.coinbase")

CHANNELS = {"ticks": "matches", "quotes": "ticker"}


@dataclass(frozen=True, slots=True)
class CoinbaseFeed:
    """The public feed of the exchange.

    Attributes
    ----------
    place
        Where it is.
    patience
        How long is waited for what.
    """

    place: Place
    patience: Patience = field(default_factory=Patience)
    name: str = "coinbase"

    @classmethod
    def open(cls, text: str) -> Self:
        """Return the feed behind ``coinbase:``; nothing is connected to yet.

        Raises
        ------
        ConfigError
            An option that is none.
        """
        return cls(Place.read(text))

    @property
    def settled_ns(self) -> int:
        """How long the history takes to be final."""
        return SETTLED_NS

    def events(
        self, symbols: Sequence[str], streams: Sequence[str], clock: Clock
    ) -> AsyncIterator[Event]:
        """Give what comes; see `Feed.events`."""
        vendor = _Coinbase(self.place.stream_url, tuple(symbols), tuple(streams))
        return listen(vendor, clock, self.patience)


@dataclass(slots=True)
class _Product:
    """What is known of one product in this connection.

    Attributes
    ----------
    last
        Number of the last trade; 0 before the first.
    told
        Number that the last heartbeat told.
    beat_ns
        Time of the last heartbeat; 0 before the first.
    known_ns
        Time up to which no trade is missed.
    """

    known_ns: int
    last: int = 0
    told: int = 0
    beat_ns: int = 0


class _Coinbase:
    """What the messages mean; see `streams.feeds.websocket.Vendor`."""

    delay_ns = 0

    def __init__(self, url: str, symbols: tuple[str, ...], streams: tuple[str, ...]) -> None:
        self.url = url
        self._symbols = symbols
        self._channels = ["heartbeat", *(CHANNELS[s] for s in streams if s in CHANNELS)]
        self._has_ticks = "ticks" in streams
        self._products: dict[str, _Product] = {}
        if "bars" in streams:
            log.warning("it sends no minute bars: they come from history, or are built from ticks")

    @property
    def known_ns(self) -> int:
        """Time up to which nothing is missed of any product."""
        return min((product.known_ns for product in self._products.values()), default=0)

    async def greet(self, wire: Wire) -> list[Any]:
        """Subscribe, and see that all of it was taken."""
        self._products = {}
        await wire.send(
            {"type": "subscribe", "product_ids": self._symbols, "channels": self._channels}
        )
        early: list[Any] = []
        while True:
            message = await wire.receive()
            if message is PONG:
                continue
            kind = _kind(message)
            if kind == "error":
                raise _refusal(message, self.url)
            if kind == "subscriptions":
                self._check(message)
                return early
            early.append(message)

    def begin(self, at_ns: int) -> None:
        """Take note that nothing is missed from ``at_ns`` on."""
        self._products = {symbol: _Product(at_ns) for symbol in self._symbols}

    def read(self, message: Any, now_ns: int) -> Iterable[Event]:
        """Return the events of a message."""
        if message is PONG:
            # Heartbeats come each second: a connection that only answers pings is dead, too.
            raise FeedError("no heartbeat came, though pings are answered")
        kind = _kind(message)
        if kind == "error":
            reason = f"it says {message.get('message')}: {message.get('reason', 'nothing more')}"
            raise FeedError(reason)
        product = self._products.get(str(message.get("product_id")))
        if product is None:
            return
        try:
            if kind == "last_match":
                product.last = product.last or int(message["trade_id"])
            elif kind == "match":
                yield from self._match(product, message)
            elif kind == "ticker":
                yield from _quote(message)
            elif kind == "heartbeat":
                yield from self._heartbeat(product, message)
        except (KeyError, TypeError, ValueError) as exc:
            log.warning("left out: %r in %.300r", exc, message)

    def _match(self, product: _Product, message: Mapping[str, Any]) -> Iterator[Event]:
        row = trade_row(message["product_id"], message)
        if product.last and row.sequence > product.last + 1:
            # The trade itself has come: up to it and those of its very time something is missed.
            yield self._hole(product, row.symbol, row.sequence - 1, row.ts_ns + 1)
        product.last = max(product.last, row.sequence)
        yield Gathered("ticks", rows=[row]).block()

    def _heartbeat(self, product: _Product, message: Mapping[str, Any]) -> Iterator[Event]:
        symbol, told = str(message["product_id"]), int(message["last_trade_id"])
        ts_ns = text_ns(message["time"])
        before_ns, product.beat_ns = product.beat_ns, ts_ns
        product.told, told_before = told, product.told
        if not self._has_ticks:
            product.known_ns = max(product.known_ns, before_ns)
            return
        product.last = product.last or told
        if product.last < told_before:
            # A second has gone by, and what the last heartbeat told of has not come.
            yield self._hole(product, symbol, told_before, before_ns + 1)
        if product.last >= told and before_ns > product.known_ns:
            product.known_ns = before_ns
            yield Heard(("ticks",), (symbol,), before_ns)

    def _hole(self, product: _Product, symbol: str, last: int, at_ns: int) -> Regained:
        """Return since when trades are missed, and go on behind them."""
        log.warning("hole product=%s trades=%d..%d", symbol, product.last + 1, last)
        # Whoever is told asks for all products: of each what is not known by then.
        since_ns = self.known_ns
        product.last = last
        product.known_ns = max(product.known_ns, at_ns)
        return Regained(since_ns, max(at_ns, since_ns))

    def _check(self, message: Mapping[str, Any]) -> None:
        """See that each channel has each product; raise SourceError where one was left out."""
        taken = {
            channel.get("name"): set(channel.get("product_ids") or ())
            for channel in message.get("channels") or ()
        }
        for channel in self._channels:
            missing = set(self._symbols) - taken.get(channel, set())
            if missing:
                names = ", ".join(sorted(missing)[:5])
                raise SourceError(f"it does not take {names} for {channel}", path=self.url)


def _quote(message: Mapping[str, Any]) -> Iterator[Event]:
    row = Row(
        message["product_id"],
        text_ns(message["time"]),
        (float(message["best_bid"]), float(message["best_ask"])),
        (float(message["best_bid_size"]), float(message["best_ask_size"])),
        int(message["sequence"]),
    )
    yield Gathered("quotes", rows=[row]).block()


def _refusal(message: Mapping[str, Any], path: str) -> Exception:
    reason = f"{message.get('message', 'it refuses us')}: {message.get('reason', 'nothing more')}"
    if "rate" in reason.lower() or "slow" in reason.lower():
        return FeedError(reason, is_slow=True)
    return SourceError(reason, path=path)


def _kind(message: Any) -> str:
    if not isinstance(message, dict):
        msg = f"a message has another form than is documented: {message!r:.80}"
        raise FeedError(msg)
    return str(message.get("type"))
