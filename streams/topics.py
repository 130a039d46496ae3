"""Topics, keys, partitions and groups of a namespace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from aiokafka.partitioner import murmur2

__all__ = [
    "MESSAGE_BYTES",
    "PARTITIONER",
    "SYMBOL_BYTES",
    "Topics",
    "room_of",
    "shard_of",
    "shards_of",
]

PARTITIONER = "murmur2_random"
"""librdkafka's name of Java's default partitioner: every producer on raw topics sets it."""

MESSAGE_BYTES = 900_000
"""What a message of ours holds at most; the broker's usual limit is 1 MB."""

SYMBOL_BYTES = 32
"""Longest symbol, in bytes of UTF-8."""


@lru_cache(maxsize=64)
def room_of(symbols: tuple[str, ...]) -> int:
    """Return the bytes that a list of symbols takes in a frame: asked with every frame."""
    return sum(len(symbol.encode()) + 2 for symbol in symbols)


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the topics and groups of one namespace."""

    namespace: str

    @property
    def prefix(self) -> str:
        """How the names of all topics and groups begin."""
        return f"{self.namespace}."

    @property
    def raw_bars(self) -> str:
        """Bars as sources send them."""
        return f"{self.namespace}.raw.bars"

    @property
    def raw_quotes(self) -> str:
        """Quotes as sources send them."""
        return f"{self.namespace}.raw.quotes"

    @property
    def raw_ticks(self) -> str:
        """Ticks as sources send them."""
        return f"{self.namespace}.raw.ticks"

    @property
    def raw(self) -> tuple[str, str, str]:
        """All raw topics; a worker holds the same partition of each."""
        return (self.raw_bars, self.raw_quotes, self.raw_ticks)

    @property
    def streams(self) -> dict[str, str]:
        """Streams by their raw topics."""
        return {self.raw_bars: "bars", self.raw_quotes: "quotes", self.raw_ticks: "ticks"}

    @property
    def raw_history(self) -> str:
        """Bars of trailing sessions as sources send them; read by the upkeep."""
        return f"{self.namespace}.raw.history"

    def derived(self, interval: str) -> str:
        """Return the topic of the bars of one length that are derived."""
        return f"{self.namespace}.bars.{interval}"

    @property
    def history(self) -> str:
        """Trailing sessions of a run: a frame or more a shard and session."""
        return f"{self.namespace}.history"

    @property
    def session(self) -> str:
        """The tape: frames, one partition a shard."""
        return f"{self.namespace}.session"

    @property
    def requests(self) -> str:
        """Questions to the sources."""
        return f"{self.namespace}.requests"

    @property
    def control(self) -> str:
        """Desired state of the namespace."""
        return f"{self.namespace}.control"

    @property
    def rejected(self) -> str:
        """Messages and rows that could not be taken, with the reason in their headers."""
        return f"{self.namespace}.rejected"

    @property
    def coordinator(self) -> str:
        """Group and Faust app of the coordinator."""
        return f"{self.namespace}.coordinator"

    @property
    def tables(self) -> str:
        """Group and Faust app of the session_data tables."""
        return f"{self.namespace}.tables"

    @property
    def upkeep(self) -> str:
        """Group and Faust app of the upkeep."""
        return f"{self.namespace}.upkeep"

    @property
    def sink(self) -> str:
        """Group of the sink."""
        return f"{self.namespace}.sink"

    @property
    def producer(self) -> str:
        """Group of the producers that answer requests."""
        return f"{self.namespace}.producer"

    def changelog(self, table: str) -> str:
        """Return the changelog of a Faust table of the tables' app."""
        return f"{self.tables}-{table}-changelog"


def shard_of(symbol: str, shards: int) -> int:
    """Return the partition of a symbol: murmur2 of its UTF-8, as Java's producers place it."""
    return (int(murmur2(symbol.encode())) & 0x7FFFFFFF) % shards


def shards_of(symbols: Iterable[str], shards: int) -> Mapping[int, tuple[str, ...]]:
    """Return the symbols of every shard, sorted; a shard without symbols has an empty tuple."""
    found: dict[int, list[str]] = {shard: [] for shard in range(shards)}
    for symbol in sorted(set(symbols)):
        found[shard_of(symbol, shards)].append(symbol)
    return {shard: tuple(names) for shard, names in found.items()}
