"""A store as a test fills it: the tables that the history of a sink gives, without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from schemas import BarBlock
from streams.calendar import Session
from streams.errors import HistoryError
from streams.intervals import MINUTE_NS
from streams.sources import open_source

__all__ = ["Recorded", "bars_table", "blocks_of", "sessions_table"]

BARS = pa.schema(
    [
        *((name, pa.string()) for name in ("symbol", "interval", "session")),
        ("ts_ns", pa.int64()),
        *((name, pa.float64()) for name in ("open", "high", "low", "close", "volume")),
        ("revision", pa.int32()),
    ]
)


def blocks_of(source: str, session: Session, symbols: Sequence[str]) -> list[BarBlock]:
    """Return the bars of a session as a source has them."""
    parts = open_source(source).load("bars", symbols, session.open_ns, session.close_ns, MINUTE_NS)
    return [part for part in parts if isinstance(part, BarBlock)]


def bars_table(blocks: Sequence[BarBlock], session: str) -> pa.Table:
    """Return blocks as the store gives them: in the order of symbol and ts_ns."""
    tables = [BARS.empty_table()]
    for block in blocks:
        names = [block.symbols[number] for number in block.symbol]
        values = {
            "symbol": names,
            "interval": ["1m"] * len(block),
            "session": [session] * len(block),
            **{name: getattr(block, name) for name in BARS.names[3:]},
        }
        tables.append(pa.table(values, schema=BARS))
    return pa.concat_tables(tables).sort_by([("symbol", "ascending"), ("ts_ns", "ascending")])


def sessions_table(sessions: Sequence[Session], **changes: Any) -> pa.Table:
    """Return sessions as the store gives them, closed and complete but for the changes."""
    rows = [
        {
            **{"session": one.label, "open_ns": one.open_ns, "close_ns": one.close_ns},
            **{"closed": True, "incomplete": False},
            **changes,
        }
        for one in sessions
    ]
    names = {"session": pa.string(), "open_ns": pa.int64(), "close_ns": pa.int64()}
    schema = pa.schema([*names.items(), ("closed", pa.bool_()), ("incomplete", pa.bool_())])
    return pa.Table.from_pylist(rows, schema)


@dataclass
class Recorded:
    """A store that holds what it was given; it answers as the sink's does.

    Attributes
    ----------
    bars_of
        Bars and session by label.
    fails
        Whether each question is an error.
    asked
        Labels whose bars were read.
    """

    bars_of: dict[str, tuple[Session, pa.Table]] = field(default_factory=dict)
    fails: bool = False
    asked: list[str] = field(default_factory=list)
    is_open: bool = False

    def put(self, session: Session, blocks: Sequence[BarBlock]) -> None:
        """Record a session."""
        self.bars_of[session.label] = (session, bars_table(blocks, session.label))

    def open(self, *_: object) -> Recorded:
        """Open it."""
        self.is_open = True
        return self

    def bars(
        self,
        symbols: Sequence[str] | None,
        interval: str | int = "1m",
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        """Return bars of the newest sessions."""
        assert interval == "1m"
        tables = [BARS.empty_table()]
        for session in self._newest(sessions, before_ns):
            table = self.bars_of[session.label][1]
            self.asked.append(session.label)
            if symbols is not None:
                table = table.filter(pa.compute.is_in(table["symbol"], pa.array(symbols)))
            tables.append(table)
        return pa.concat_tables(tables)

    def sessions(
        self,
        symbols: Sequence[str] | None = None,
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> pa.Table:
        """Return the newest sessions, oldest first."""
        return sessions_table(self._newest(sessions, before_ns))

    def close(self) -> None:
        """Close it."""
        self.is_open = False

    def _newest(self, sessions: int, before_ns: int | None) -> list[Session]:
        assert self.is_open
        if self.fails:
            msg = "the store does not answer"
            raise HistoryError(msg)
        there = sorted((s for s, _ in self.bars_of.values()), key=lambda s: s.open_ns)
        return [s for s in there if before_ns is None or s.open_ns < before_ns][-sessions:]
