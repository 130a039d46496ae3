"""Trailing sessions of a run: which there are, and what is gathered of each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.records import (
    BarBlock,
    BarColumns,
    Command,
    Coverage,
    empty_floats,
    empty_ints,
    empty_longs,
)
from streams.calendar import Session, sessions_between
from streams.errors import CalendarError
from streams.intervals import MINUTE_NS
from streams.merge import bars_of, faults, merge_bars, ready_ns

__all__ = ["STORE", "Day", "Past", "is_whole", "past_of"]

STORE = "store"
"""Name of the store among the sources of a frame."""
SYMBOLS_TOLD = 5
"""Symbols that a sentence names."""


@dataclass(frozen=True, slots=True)
class Past:
    """The trailing sessions of a run.

    Attributes
    ----------
    sessions
        Calendar sessions before the run's first, newest first: the order in which they are
        written, because a reader needs yesterday before the day before.
    before_ns
        Open of the run's first session.
    """

    sessions: tuple[Session, ...]
    before_ns: int


def past_of(command: Command) -> Past:
    """Return the trailing sessions that a run wants; fewer where its calendar begins.

    Raises
    ------
    CalendarError
        The command names a calendar, days or hours that don't exist.
    """
    calendar, hours, wanted = command.calendar, command.hours, command.trailing_sessions
    first = sessions_between(calendar, command.start, command.end, hours)[0]
    if not wanted or not command.historical:
        return Past((), first.open_ns)
    day = date.fromisoformat(first.label)
    last = (day - timedelta(days=1)).isoformat()
    span = 3 * wanted + 30  # holidays and weekends are less than two days in three
    while span:
        start = (day - timedelta(days=span)).isoformat()
        try:
            found = sessions_between(calendar, start, last, hours)
        except CalendarError:  # the calendar does not go back as far as that
            span //= 2
        else:
            return Past(found[::-1][:wanted], first.open_ns)
    return Past((), first.open_ns)


def is_whole(recorded: Any, session: Session) -> bool:
    """Tell whether the store has a session from open to close, as a run played it to its end.

    Parameters
    ----------
    recorded
        The sessions of the store, an Arrow table as ``History.sessions`` gives it.
    session
        The session by the calendar, with the hours that are wanted.
    """
    return any(
        row["session"] == session.label
        and row["open_ns"] <= session.open_ns
        and row["close_ns"] >= session.close_ns
        and row["closed"]
        and not row["incomplete"]
        for row in recorded.to_pylist()
    )


class Day:
    """One trailing session while it is gathered.

    Parameters
    ----------
    session
        The session.
    symbols
        Symbols of the shard, sorted.

    Attributes
    ----------
    lacking
        Symbols that neither the store nor a source has vouched for, sorted.
    refused
        Rows that sources sent and that can't be taken, each block with the reason.
    """

    def __init__(self, session: Session, symbols: Sequence[str]) -> None:
        self.session = session
        self.symbols = tuple(symbols)
        self.lacking = self.symbols
        self.refused: list[tuple[str, BarBlock]] = []
        self._sources = [STORE]
        self._parts = [_no_bars()]
        self._asked: dict[str, int] | None = None
        self._blocks: dict[str, set[int]] = {}

    def store(self, bars: Any, *, is_whole: bool) -> None:
        """Take what the store has.

        Parameters
        ----------
        bars
            An Arrow table as ``History.bars`` gives it; rows of other sessions are left out.
        is_whole
            Whether the symbols that have bars there lack nothing.
        """
        bars = bars.filter(np.asarray(bars["session"]) == self.session.label)
        names = bars["symbol"].combine_chunks().dictionary_encode()
        columns = {
            name: bars[name].to_numpy()
            for name in ("ts_ns", "open", "high", "low", "close", "volume", "revision")
        }
        block = BarBlock(
            symbols=tuple(names.dictionary.to_pylist()),
            symbol=names.indices.to_numpy(),
            interval_ns=np.broadcast_to(np.int64(MINUTE_NS), len(bars)),
            **columns,
        )
        rows = bars_of(block, {name: n for n, name in enumerate(self.symbols)}, np.int32(0))
        good = rows.take(self._is_inside(rows) & (rows.symbol >= 0))
        self._parts.append(good)
        if is_whole:
            self._settle({self.symbols[n] for n in np.unique(good.symbol)})

    def take(self, record: BarBlock | Coverage) -> None:
        """Take a message of an answer: rows of symbols that lack, or what vouches for them."""
        if self._asked is None:
            self._asked = {s: n for n, s in enumerate(self.symbols) if s in self.lacking}
        blocks = self._blocks.setdefault(record.request, set())
        if isinstance(record, BarBlock):
            blocks.add(record.block)
            self._take_rows(record, self._asked)
        elif (
            record.answer != "cannot_say"
            and len(blocks) >= record.blocks  # else some were lost on the way
            and record.start_ns <= self.session.open_ns
            and record.end_ns >= self.session.close_ns
        ):
            self._settle(set(record.symbols))

    @property
    def bars(self) -> BarColumns:
        """All bars in order, one per (symbol, ts); the source column counts in ``sources``."""
        return merge_bars(self._parts)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, the store first."""
        return tuple(self._sources)

    @property
    def reason(self) -> str:
        """Why it is incomplete, as a sentence; empty if nothing lacks."""
        if not self.lacking:
            return ""
        some = ", ".join(self.lacking[:SYMBOLS_TOLD])
        more = ", …" if len(self.lacking) > SYMBOLS_TOLD else ""
        return (
            f"neither the store nor a source vouches for {len(self.lacking)} of "
            f"{len(self.symbols)} symbols: {some}{more}"
        )

    def _settle(self, symbols: set[str]) -> None:
        self.lacking = tuple(symbol for symbol in self.lacking if symbol not in symbols)

    def _take_rows(self, block: BarBlock, asked: dict[str, int]) -> None:
        if block.source not in self._sources:
            self._sources.append(block.source)
        rows = bars_of(block, asked, np.int32(self._sources.index(block.source)))
        stays = np.ones(len(rows), np.bool_)
        for reason, mask in {
            "it was not asked for": rows.symbol < 0,
            **faults(rows),
            "it is not of one minute": rows.interval_ns != MINUTE_NS,
            "the time lies outside the session": ~self._is_inside(rows),
        }.items():
            bad = mask & stays
            if bad.any():
                stays &= ~bad
                self.refused.append((reason, block.take(bad)))
        self._parts.append(rows.take(stays))

    def _is_inside(self, rows: BarColumns) -> NDArray[np.bool_]:
        ready = ready_ns(rows)
        inside: NDArray[np.bool_] = (rows.ts_ns >= self.session.open_ns) & (
            ready <= self.session.close_ns
        )
        return inside


def _no_bars() -> BarColumns:
    ints, longs, floats = empty_ints(), empty_longs(), empty_floats()
    return BarColumns(
        row=ints,
        symbol=ints,
        ts_ns=longs,
        interval_ns=longs,
        open=floats,
        high=floats,
        low=floats,
        close=floats,
        volume=floats,
        source=ints,
        revision=ints,
    )
