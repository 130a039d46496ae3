"""US stocks as they trade, from Alpaca's market data stream, v2.

URI: that of the source, see ``streams.sources.alpaca``. Minute bars, quotes (best bid and ask) and
trades of the feed that it names; trading halts come with any of them where the plan has them.

Nothing is vouched for (`Heard`): the stream has no heartbeats, bars come within some seconds after
their minute, and no message says that there are no more. The tape waits for its lateness instead.

A bar that is sent again (an updated bar) has a higher revision. A trade that was cancelled comes
again with size 0 and condition ``canceled``; one that was corrected too, and beside it the right
one. Of a trade from before the connection the cancellation is left out: the history has it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from schemas import Halt
from streams.errors import FeedError, SourceError
from streams.feeds.protocol import Clock, Event
from streams.feeds.websocket import PONG, Patience, Wire, listen
from streams.intervals import SECOND_NS
from streams.settings import Settings
from streams.sources.alpaca import GONE, SETTLED_NS, Place, row_of, tick_number
from streams.sources.gathered import Gathered, Row
from streams.sources.times import text_ns

__all__ = ["AlpacaFeed"]

log = logging.getLogger("sessiontape.alpaca")

CHANNELS: Mapping[str, tuple[str, ...]] = {
    "bars": ("bars", "updatedBars"),
    "quotes": ("quotes",),
    "ticks": ("trades",),
}
STREAMS = {"b": "bars", "u": "bars", "q": "quotes", "t": "ticks"}
LATE_NS = 60 * SECOND_NS
"""What is missed at the end of a connection may have been ready so long before."""
REFUSED = {400, 401, 402, 405, 409, 410}
"""Errors that stay: syntax or symbol, credentials, number of symbols, plan, channel."""
SLOWLY = 406
"""The account has another connection; it may end."""
PLAN = {405, 409, 410}
REMEMBERED = 200_000
"""Trades and minutes that a correction may still refer to."""
# By tape (z): A and B are those of the CTA, C and O of the UTP; other codes change nothing.
CTA: Mapping[str, bool] = {"2": True, "3": False}
UTP: Mapping[str, bool] = {"H": True, "P": True, "T": False}
HALTED = {"A": CTA, "B": CTA, "C": UTP, "O": UTP}
"""Whether a status code of a tape means that trading is halted."""


@dataclass(frozen=True, slots=True)
class AlpacaFeed:
    """The stream of one account; it allows one connection at a time.

    Attributes
    ----------
    place
        Where and who.
    patience
        How long is waited for what.
    """

    place: Place
    patience: Patience = field(default_factory=Patience)
    name: str = "alpaca"

    @classmethod
    def open(cls, text: str, settings: Settings | None = None) -> Self:
        """Return the feed behind ``alpaca:``; nothing is connected to yet.

        Raises
        ------
        ConfigError
            An option that is none or has no meaning, or credentials that are not set.
        """
        return cls(Place.read(text, settings))

    @property
    def settled_ns(self) -> int:
        """How long the history takes to be final, what the feed holds back included."""
        return SETTLED_NS + self.place.delay_ns

    def events(
        self, symbols: Sequence[str], streams: Sequence[str], clock: Clock
    ) -> AsyncIterator[Event]:
        """Give what comes; see `Feed.events`."""
        vendor = _Alpaca(self.place, tuple(symbols), tuple(streams))
        return listen(vendor, clock, self.patience)


K = TypeVar("K")
V = TypeVar("V")


class _Last(OrderedDict[K, V]):
    """A mapping that forgets what was put in first when it is full."""

    def put(self, key: K, value: V) -> None:
        self[key] = value
        if len(self) > REMEMBERED:
            self.popitem(last=False)


class _Alpaca:
    """What the messages mean; see `streams.feeds.websocket.Vendor`."""

    def __init__(self, place: Place, symbols: tuple[str, ...], streams: tuple[str, ...]) -> None:
        self.url = place.stream_url
        self.delay_ns = place.delay_ns
        self.known_ns = 0
        self._place = place
        self._symbols = symbols
        self._streams = streams
        self._revisions: _Last[tuple[str, int], int] = _Last()
        self._trades: _Last[tuple[str, int], Row] = _Last()

    async def greet(self, wire: Wire) -> list[Any]:
        """Log in, subscribe, and see that all of it was taken."""
        early: list[Any] = []
        await _answer(wire, "success", early)  # connected
        key, secret = self._place.key, self._place.secret
        await wire.send(
            {"action": "auth", "key": key.get_secret_value(), "secret": secret.get_secret_value()}
        )
        await _answer(wire, "success", early)
        channels = [channel for stream in self._streams for channel in CHANNELS[stream]]
        wanted = {channel: list(self._symbols) for channel in channels}
        await wire.send({"action": "subscribe", **wanted})
        taken = await _answer(wire, "subscription", early)
        for channel in channels:
            missing = set(self._symbols) - set(taken.get(channel) or ())
            if missing:
                names = ", ".join(sorted(missing)[:5])
                raise SourceError(f"it does not take {names} for {channel}", path=self.url)
        # Not every plan has them: asked for apart, so that a refusal costs nothing else.
        await wire.send({"action": "subscribe", "statuses": list(self._symbols)})
        return early

    def begin(self, at_ns: int) -> None:
        """Take note that nothing is missed from ``at_ns`` on."""
        self.known_ns = at_ns

    def read(self, message: Any, now_ns: int) -> Iterable[Event]:
        """Return the events of a message, rows of one stream in one block."""
        # What the vendor sent before this has come: the connection keeps the order.
        self.known_ns = max(self.known_ns, now_ns - self.delay_ns - LATE_NS)
        if message is PONG:
            return
        gathered: dict[str, Gathered] = {}
        halts: list[Halt] = []
        for one in _parts(message):
            try:
                kind = one["T"]
                if kind in STREAMS:
                    stream = STREAMS[kind]
                    row = self._row(kind, row_of(stream, one["S"], one), one)
                    gathered.setdefault(stream, Gathered(stream)).rows.append(row)
                elif kind in ("c", "x"):
                    rows = gathered.setdefault("ticks", Gathered("ticks")).rows
                    rows.extend(self._taken_back(kind, one))
                elif kind == "s":
                    halts.extend(_halts(one))
                elif kind == "error":
                    self._error(one)
            except (KeyError, TypeError, ValueError) as exc:
                log.warning("left out: %r in %.300r", exc, one)
        yield from halts
        for some in gathered.values():
            if some:
                yield some.block()

    def _row(self, kind: str, row: Row, message: Mapping[str, Any]) -> Row:
        if kind == "t":
            self._trades.put(_trade_key(message, "i"), row)
        elif kind in ("b", "u"):
            # A bar's first message may be an update, where the connection began in between.
            before = self._revisions.get((row.symbol, row.ts_ns), -1)
            revision = max(before + 1, int(kind == "u"))
            self._revisions.put((row.symbol, row.ts_ns), revision)
            return replace(row, revision=revision)
        return row

    def _taken_back(self, kind: str, message: Mapping[str, Any]) -> Iterator[Row]:
        """Give a trade again without its size; behind it the one that is right, if there is."""
        key = _trade_key(message, "oi" if kind == "c" else "i")
        trade = self._trades.get(key)
        if trade is None:
            log.info("a trade from before the connection was taken back: %.300r", message)
            return
        gone = replace(trade, sizes=(0.0,), condition=GONE, revision=trade.revision + 1)
        self._trades.put(key, gone)
        yield gone
        if kind == "c":
            number = tick_number(int(message["ci"]), str(message["x"]))
            right = {"i": message["ci"], "p": message["cp"], "s": message["cs"]}
            right |= {"c": message["cc"], "x": message["x"], "t": message["t"]}
            made = row_of("ticks", trade.symbol, right)
            made = replace(made, ts_ns=trade.ts_ns, sequence=number)
            self._trades.put((trade.symbol, number), made)
            yield made

    def _error(self, message: Mapping[str, Any]) -> None:
        if int(message.get("code", 0)) in PLAN:
            # All that is still open by now is the question for halts.
            log.info("no trading halts come: %s", message.get("msg"))
            return
        raise _refusal(message, self.url)


async def _answer(wire: Wire, kind: str, early: list[Any]) -> Mapping[str, Any]:
    """Return the next control message, which has to be of a kind; keep what else comes."""
    while True:
        message = await wire.receive()
        if message is PONG:
            continue
        for one in _parts(message):
            if one.get("T") == "error":
                raise _refusal(one, "alpaca")
            if one.get("T") == kind:
                return one
        early.append(message)


def _refusal(message: Mapping[str, Any], path: str) -> Exception:
    code = int(message.get("code", 0))
    reason = f"it answers {code}: {message.get('msg', 'nothing more')}"
    if code in REFUSED:
        return SourceError(reason, path=path)
    return FeedError(reason, is_slow=code == SLOWLY)


def _parts(message: Any) -> list[Mapping[str, Any]]:
    if not isinstance(message, list) or not all(isinstance(one, dict) for one in message):
        msg = f"a message has another form than is documented: {message!r:.80}"
        raise FeedError(msg)
    return message


def _trade_key(message: Mapping[str, Any], field: str) -> tuple[str, int]:
    return message["S"], tick_number(int(message[field]), str(message["x"]))


def _halts(message: Mapping[str, Any]) -> Iterator[Halt]:
    code = HALTED.get(message["z"], {}).get(message["sc"])
    if code is not None:
        reason = " ".join(filter(None, (message.get("rc"), message.get("rm") or message.get("sm"))))
        yield Halt((message["S"],), text_ns(message["t"]), code, reason)
