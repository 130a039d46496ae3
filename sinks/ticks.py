"""The tables of quotes and of ticks: final state and as known, with the place of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.records import Frame
from sinks.native import Column
from sinks.places import Held, Key, Places
from sinks.rows import Rows, Sessions, by_symbol, version_of
from sinks.store import Store
from sinks.vocabulary import Vocabulary

__all__ = ["TICKS", "TickTables"]

TICKS = {
    "quotes": ("ts_ns", "bid", "bid_size", "ask", "ask_size", "revision"),
    "ticks": ("ts_ns", "price", "size", "revision"),
}
"""Kinds of rows of which one symbol and time may have several, each with its columns."""

KEYS_A_LOOK = 2_000
"""Symbols and times that are looked up at once: with a server they travel in an address."""


class TickTables:
    """The two tables of one kind.

    Parameters
    ----------
    store
        Where to.
    kind
        One of ``TICKS``.
    symbols, sources
        Where those get their numbers.
    """

    def __init__(self, store: Store, kind: str, symbols: Vocabulary, sources: Vocabulary) -> None:
        self._store = store
        self._kind = kind
        self._symbols = symbols
        self._sources = sources
        self._conditions = Vocabulary()
        self._places = Places(self._held)

    def insert(self, frames: Sequence[Frame], sessions: Sessions, generation: int) -> None:
        """Insert the rows of this kind that frames have, if any."""
        pairs = [(f, columns) for f in frames if (columns := getattr(f, self._kind)) is not None]
        pairs = [(frame, columns) for frame, columns in pairs if len(columns)]
        if not pairs:
            return
        rows = Rows(pairs, self._symbols)
        sources = rows.sources(self._sources)
        values: dict[str, Column] = {
            "symbol": rows.symbols,
            "place": self._places.of(rows, sources),
            **rows.values(*TICKS[self._kind], "sequence"),
            "source": sources,
            "session": rows.sessions(sessions),
        }
        if self._kind == "ticks":
            values["condition"] = rows.conditions(self._conditions)
        final = values | {"version": version_of(generation, rows.numbers())}
        self._store.insert_block(self._kind, by_symbol(rows, self._symbols, final))
        self._store.insert_block(f"{self._kind}_as_known", rows.delivery() | values)

    def _held(self, run: str, shard: int, before: int, keys: Sequence[Key]) -> Mapping[Key, Held]:
        """Return what is stored of a run and shard, before a row, at some symbols and times."""
        found: dict[Key, Held] = {}
        for start in range(0, len(keys), KEYS_A_LOOK):
            some = set(keys[start : start + KEYS_A_LOOK])
            parameters = {
                "table": f"{self._kind}_as_known",
                "run": run,
                "shard": shard,
                "before": before,
                "symbols": sorted({symbol for symbol, _ in some}),
                "times": sorted({ts_ns for _, ts_ns in some}),
            }
            for symbol, ts_ns, _, (source, sequence, revision) in self._store.rows(
                _HELD, parameters
            ):
                key = (str(symbol), int(ts_ns))
                if key in some:  # others have a symbol of one and a time of another
                    said = (str(source), int(sequence), int(revision))
                    found.setdefault(key, []).append(said)
        return found


_HELD = """
SELECT symbol, ts_ns, place, argMax((source, sequence, revision), row_number)
FROM {table:Identifier}
WHERE run = {run:String} AND shard = {shard:Int32} AND row_number < {before:Int64}
    AND symbol IN {symbols:Array(String)} AND ts_ns IN {times:Array(Int64)}
GROUP BY symbol, ts_ns, place ORDER BY symbol, ts_ns, place
"""
