"""Rows to the state of a session, symbol by symbol: pure numpy.

Sums are taken row by row in the order of the tape, so that they do not depend on how the tape was
cut into frames; a corrected bar has the state of its symbol built again from the rows. Of quotes
and ticks the latest is kept. What is known of minutes without a bar comes in with the frames and
costs nothing where there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Floats, Frame, Ints, Longs, Minutes
from streams.coverage import Status
from streams.finals import corrections
from streams.latest import Latest
from streams.merge import concatenate, merge_bars
from streams.newcomers import of_symbols

__all__ = ["SessionState"]

PART_ROWS = 8_192
"""Up to so many rows parts are put together: in a live run each minute comes in one, or in many."""


class SessionState:
    """State of one session of one shard.

    Parameters
    ----------
    frame
        The open frame of the session.

    Attributes
    ----------
    run, label
        Run and label of the session.
    symbols
        Symbols of the shard, sorted; arrays have one value each. They are those of the last
        frame: some may come and go while the session is on.
    open, high, low, close, volume, turnover
        Of the session so far; NaN, or 0 for the sums, where no bar came. ``turnover`` is the sum
        of volume * (high + low + close) / 3, the usual stand-in where trades are not known.
    last
        Latest bar: its six fields by name.
    bars
        Number of bars.
    quotes, ticks
        The latest of each symbol, how many there were, and when the last one came.
    row
        Number of the last row of each symbol, of any kind; -1 before the first.
    updated_ns
        Session clock of the symbol's last bar; 0 before the first.
    expected
        Bars of a symbol expected so far.
    """

    def __init__(self, frame: Frame) -> None:
        size = len(frame.symbols)
        self.run, self.label = frame.run, frame.session
        self.symbols = frame.symbols
        self.interval_ns = frame.interval_ns
        self.open_ns, self.close_ns = frame.open_ns, frame.close_ns
        self.expected = 0
        self.open = np.full(size, np.nan)
        self.high = np.full(size, -np.inf)
        self.low = np.full(size, np.inf)
        self.close = np.full(size, np.nan)
        self.volume = np.zeros(size)
        self.turnover = np.zeros(size)
        self.bars = np.zeros(size, np.int64)
        self.row = np.full(size, -1, np.int64)
        self.updated_ns = np.zeros(size, np.int64)
        self.last: dict[str, NDArray[Any]] = {
            name: np.zeros(size, np.int64 if name == "ts_ns" else np.float64) for name in _LAST
        }
        self.quotes = Latest(size, ("bid", "bid_size", "ask", "ask_size"))
        self.ticks = Latest(size, ("price", "size"))
        self._rows: list[BarColumns] = []
        self._ends: list[Longs] = []
        # Minutes without trade, (symbols, minutes from the open on): none before the first.
        self._quiet: NDArray[np.bool_] | None = None
        self._early: list[Minutes] = []
        if frame.minutes is not None:
            self._take(frame.minutes)

    def fold(self, frame: Frame) -> NDArray[np.bool_]:
        """Take what the next frame has; return which symbols changed, shape (symbols,).

        Frames of other sessions, and those that wait for theirs to open, change nothing.
        """
        if frame.session != self.label or frame.waiting:
            return np.zeros(len(self.symbols), np.bool_)
        is_new = frame.event == "rows" and frame.symbols != self.symbols
        if is_new:
            self._rename(frame.symbols)
        changed = np.full(len(self.symbols), is_new)
        self.expected += int(np.count_nonzero(frame.slice_expected))
        self._ends.append(frame.slice_ns[frame.slice_expected > 0])
        if frame.minutes is not None:
            changed[self._take(frame.minutes)] = True
        if not frame.rows:
            return changed
        known_ns = np.repeat(frame.slice_ns, frame.slice_rows)
        late = corrections(frame.slice_rows, frame.slice_corrections)
        for latest, rows in ((self.quotes, frame.quotes), (self.ticks, frame.ticks)):
            if rows is None:
                continue
            mine = rows.ts_ns >= self.open_ns  # a late row may belong to a session before
            ours = rows if mine.all() else rows.take(mine)
            if len(ours):
                latest.fold(ours, late[ours.row], known_ns[ours.row])
                self._number(ours.symbol, frame.first_row + ours.row)
                changed[ours.symbol] = True
        if frame.bars is not None:
            bars = frame.bars
            is_ours = bars.interval_ns == self.interval_ns
            if not is_ours.all():
                bars = bars.take(is_ours)
            self._number(bars.symbol, frame.first_row + bars.row)
            self._fold_bars(bars, late[bars.row], known_ns[bars.row])
            changed[bars.symbol] = True
        return changed

    def _number(self, symbol: Ints, numbers: NDArray[Any]) -> None:
        """Take note of the numbers of rows of one kind, ascending."""
        last = self.row.copy()
        last[symbol] = numbers
        np.maximum(self.row, last, out=self.row)

    def _fold_bars(self, bars: BarColumns, late: NDArray[np.bool_], known_ns: Longs) -> None:
        self._keep(bars)
        if self._quiet is not None:
            self._hear(self._quiet, bars)
        self.updated_ns[bars.symbol] = known_ns
        touched = np.unique(bars.symbol[late])
        if len(touched):
            bars = self._start_again(touched, bars)
        self._add(bars)

    def _keep(self, bars: BarColumns) -> None:
        """Keep rows for corrections, few parts of many rows: each is looked through for each."""
        rows = self._rows
        rows.append(bars)
        while len(rows) > 1 and len(rows[-2]) <= 2 * len(rows[-1]):
            if len(rows[-2]) + len(rows[-1]) > PART_ROWS:
                break
            rows[-2:] = [concatenate(rows[-2:])]

    def _take(self, minutes: Minutes) -> list[int]:
        """Take what is known of minutes without a bar; return the symbols that it is about."""
        if minutes.session == self.label and minutes.symbols != self.symbols:
            self._early.append(minutes)  # it may tell of symbols that are still to be listed
        return self._put(minutes)

    def _put(self, minutes: Minutes) -> list[int]:
        is_quiet = np.isin(minutes.status, (Status.NO_TRADE, Status.HALTED))
        if minutes.session != self.label or (self._quiet is None and not is_quiet.any()):
            return []
        if self._quiet is None:
            length = -(-(self.close_ns - self.open_ns) // self.interval_ns)
            self._quiet = np.zeros((len(self.symbols), length), np.bool_)
        place = {name: number for number, name in enumerate(self.symbols)}
        numbers = [place.get(minutes.symbols[symbol], -1) for symbol in minutes.symbol.tolist()]
        first = (minutes.ts_ns - self.open_ns) // self.interval_ns
        stop = -(-(minutes.end_ns - self.open_ns) // self.interval_ns)
        runs = zip(numbers, first.tolist(), stop.tolist(), is_quiet.tolist(), strict=True)
        for number, begin, end, quiet in runs:
            if number >= 0:
                self._quiet[number, begin:end] = quiet
        return [number for number in numbers if number >= 0]

    def _hear(self, quiet: NDArray[np.bool_], bars: BarColumns) -> None:
        """Take note that minutes have a bar, whatever was said of them."""
        place = (bars.ts_ns - self.open_ns) // self.interval_ns
        inside = (place >= 0) & (place < quiet.shape[1])
        quiet[bars.symbol[inside], place[inside]] = False

    def _rename(self, symbols: tuple[str, ...]) -> None:
        """Go over to other symbols: what is known of those in both goes along."""
        old = {name: number for number, name in enumerate(self.symbols)}
        both = [(n, old[name]) for n, name in enumerate(symbols) if name in old]
        new, kept = (np.array([pair[side] for pair in both], np.intp) for side in (0, 1))

        def moved(values: NDArray[Any], default: float) -> NDArray[Any]:
            found = np.full((len(symbols), *values.shape[1:]), default, values.dtype)
            found[new] = values[kept]
            return found

        for name, default in _STATE.items():
            setattr(self, name, moved(getattr(self, name), default))
        self.last = {name: moved(column, 0) for name, column in self.last.items()}
        self.quotes.move(moved)
        self.ticks.move(moved)
        if self._quiet is not None:
            self._quiet = moved(self._quiet, False)
        numbers = np.full(len(self.symbols), -1, np.int32)
        numbers[kept] = new
        parts = [part.take(numbers[part.symbol] >= 0) for part in self._rows]
        self._rows = [replace(part, symbol=numbers[part.symbol]) for part in parts]
        self.symbols = symbols
        fresh = set(symbols).difference(old)
        for minutes in self._early:
            self._put(of_symbols(minutes, fresh))

    def _start_again(self, touched: Ints, bars: BarColumns) -> BarColumns:
        """Clear some symbols; return what is to be added: all their rows, and the new of others."""
        self.open[touched], self.close[touched] = np.nan, np.nan
        self.high[touched], self.low[touched] = -np.inf, np.inf
        for sums in (self.volume, self.turnover, self.bars):
            sums[touched] = 0
        mine = [part.take(np.isin(part.symbol, touched)) for part in self._rows]
        others = bars.take(~np.isin(bars.symbol, touched))
        return concatenate([merge_bars(mine), others])

    def _add(self, bars: BarColumns) -> None:
        symbol = bars.symbol
        # Of repeated indices the last one is assigned: backwards, that is the first bar.
        first = symbol[::-1]
        opens = np.full(len(self.symbols), np.nan)
        opens[first] = bars.open[::-1]
        self.open = np.where(np.isnan(self.open), opens, self.open)
        self.close[symbol] = bars.close
        for name, column in self.last.items():
            column[symbol] = getattr(bars, name)
        np.maximum.at(self.high, symbol, bars.high)
        np.minimum.at(self.low, symbol, bars.low)
        np.add.at(self.volume, symbol, bars.volume)
        typical = (bars.high + bars.low + bars.close) / 3
        np.add.at(self.turnover, symbol, bars.volume * typical)
        np.add.at(self.bars, symbol, 1)

    def vwap(self) -> Floats:
        """Return turnover ÷ volume of each symbol, NaN without volume."""
        with np.errstate(invalid="ignore", divide="ignore"):
            average: Floats = np.where(self.volume > 0, self.turnover / self.volume, np.nan)
        return average

    def no_trade(self) -> NDArray[np.int64]:
        """Return how many of the minutes expected so far had no trade, by symbol."""
        if self._quiet is None or not self._ends:
            return np.zeros(len(self.symbols), np.int64)
        # A run may reach over a break: only minutes that were expected count.
        self._ends = [np.concatenate(self._ends)]
        over = (self._ends[0] - self.open_ns) // self.interval_ns - 1
        counts: NDArray[np.int64] = self._quiet[:, over].sum(axis=1, dtype=np.int64)
        return counts

    def quality(self) -> Floats:
        """Return bars and no-trade minutes of each symbol in % of the minutes expected so far.

        100 before the first minute.
        """
        if self.expected == 0:
            return np.full(len(self.symbols), 100.0)
        share: Floats = 100.0 * (self.bars + self.no_trade()) / self.expected
        return share

    def values(self, which: Longs) -> list[dict[str, Any]]:
        """Return the state of some symbols, by their numbers, as plain values for a table."""
        vwap, quality, no_trade = self.vwap(), self.quality(), self.no_trade()
        return [
            self._value(number, vwap, quality) | {"no_trade": no_trade[number].item()}
            for number in which.tolist()
        ]

    def _value(self, number: int, vwap: Floats, quality: Floats) -> dict[str, Any]:
        has_bars = bool(self.bars[number])
        plain = {name: getattr(self, name)[number].item() for name in ("volume", "bars", "row")}
        prices = {
            name: getattr(self, name)[number].item() if has_bars else None
            for name in ("open", "high", "low", "close")
        }
        last = {name: column[number].item() for name, column in self.last.items()}
        return {
            "symbol": self.symbols[number],
            "bar": last if has_bars else None,
            **prices,
            **plain,
            "vwap": None if np.isnan(vwap[number]) else vwap[number].item(),
            "expected": self.expected,
            "quality": quality[number].item(),
            "quote": self.quotes.value(number),
            "tick": self.ticks.value(number),
            "quotes": self.quotes.count[number].item(),
            "ticks": self.ticks.count[number].item(),
            "updated_ns": {
                "bars": self.updated_ns[number].item() or None,
                "quotes": self.quotes.updated_ns[number].item() or None,
                "ticks": self.ticks.updated_ns[number].item() or None,
            },
        }


_STATE = {
    **dict.fromkeys(("open", "close"), np.nan),
    **{"high": -np.inf, "low": np.inf, "row": -1},
    **dict.fromkeys(("volume", "turnover", "bars", "updated_ns"), 0),
}
"""Arrays with one value a symbol, and what they hold before the first bar."""

_LAST: Sequence[str] = ("ts_ns", "open", "high", "low", "close", "volume")
