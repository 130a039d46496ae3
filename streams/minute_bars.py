"""The 1m bars of one session by minute and symbol, from which longer ones are made: pure numpy."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Floats, Frame, Longs, Minutes
from streams.coverage import Status
from streams.intervals import MINUTE_NS

__all__ = ["ABSENT", "VALUES", "Cells", "Index", "Mask", "MinuteBars", "moved"]

Index: TypeAlias = NDArray[np.intp]
Mask: TypeAlias = NDArray[np.bool_]
VALUES = ("open", "high", "low", "close", "volume")
ABSENT = {
    **{"open": np.nan, "high": -np.inf, "low": np.inf, "close": np.nan},
    **{"volume": 0.0, "turnover": 0.0},
}
"""What stands in a minute without a bar, so that it changes no bar that is made of it."""


class Cells(NamedTuple):
    """Minutes of symbols, by their numbers; shape (n,) each."""

    minute: Index
    symbol: Index


class MinuteBars:
    """The 1m bars of one session, by minute and symbol.

    Parameters
    ----------
    frame
        The open frame of the session.
    before
        Those of an earlier session, which is over: its memory is used again where it fits.

    Attributes
    ----------
    symbols
        Symbols of the shard by now; rows count in them.
    size
        Minutes from the open to the close.
    values
        Open, high, low, close, volume and turnover (volume * (high + low + close) / 3) by name,
        shape (minutes, symbols) each; where ``present`` does not hold they mean nothing. Behind
        the columns of ``symbols`` stand those of symbols that were taken away.
    present, no_trade
        Where a bar is there, and where a source vouches that there is nothing; same shape.
    expected
        Minutes in which bars are expected, as far as it is known; shape (minutes,).
    """

    def __init__(self, frame: Frame, before: MinuteBars | None = None) -> None:
        self.symbols = frame.symbols
        self.open_ns, self.close_ns = frame.open_ns, frame.close_ns
        self.size = (frame.close_ns - frame.open_ns) // MINUTE_NS
        shape = (self.size, len(frame.symbols))
        self.present: Mask = np.zeros(shape, np.bool_)
        self.no_trade: Mask = np.zeros(shape, np.bool_)
        self.values: dict[str, Floats] = {}
        if before is not None and before.present.shape == shape:
            self.values = before.values
        else:
            self.values = {name: np.empty(shape) for name in ABSENT}
        self._is_filled = False
        # With a break in the session, the marks of the slices say which minutes are expected.
        has_no_break = frame.interval_ns == MINUTE_NS and frame.expected == self.size
        self.expected = np.full(self.size, has_no_break)
        self._names = frame.symbols
        self._places: dict[tuple[str, ...], Index] = {}

    def expect(self, slice_ns: Longs) -> None:
        """Take the ready times of slices in which bars are expected."""
        at = (slice_ns - self.open_ns) // MINUTE_NS
        is_minute = (self.open_ns + at * MINUTE_NS == slice_ns) & (at > 0) & (at <= self.size)
        self.expected[at[is_minute] - 1] = True

    def put_complete(self, bars: BarColumns, slice_ns: Longs) -> bool:
        """Take the rows of whole slices, if they are complete; tell whether they were.

        Complete is: one minute after the other, each with a 1m bar of every symbol in order.
        """
        slices, symbols = len(slice_ns), len(self.symbols)
        if len(bars) != slices * symbols or len(bars) == 0:
            return False
        first, rest = divmod(int(slice_ns[0]) - self.open_ns - MINUTE_NS, MINUTE_NS)
        stop = first + slices
        ts_ns = self.open_ns + np.arange(first, stop) * MINUTE_NS
        shape = (slices, symbols)
        if (
            rest
            or first < 0
            or stop > self.size
            or not bool((bars.ts_ns.reshape(shape) == ts_ns[:, None]).all())
            or not bool((bars.symbol.reshape(shape) == np.arange(symbols, dtype=np.int32)).all())
            or not _all_of(bars.interval_ns, MINUTE_NS)
        ):
            return False
        here = (slice(first, stop), slice(0, symbols))
        for name in VALUES:
            self.values[name][here] = getattr(bars, name).reshape(shape)
        high, low, close, volume = (self.values[name][here] for name in VALUES[1:])
        _turn_over(high, low, close, volume, self.values["turnover"][here])
        self.present[here] = True
        return True

    def put(self, bars: BarColumns, *, is_late: bool = False) -> Cells:
        """Take 1m bars; of one minute the last counts. Return the minutes they fill.

        Bars that start outside the session or within a minute are left out, and late ones that
        start at no expected minute; other ones of these never show.
        """
        since = bars.ts_ns - self.open_ns
        minute = since // MINUTE_NS
        is_mine = (minute * MINUTE_NS == since) & (minute >= 0) & (minute < self.size)
        if is_late:
            is_mine[is_mine] = self.expected[minute[is_mine]]
        if not is_mine.all():
            bars, minute = bars.take(is_mine), minute[is_mine]
        cells = Cells(minute.astype(np.intp), bars.symbol.astype(np.intp))
        at = self._flat(cells)
        for name in VALUES:
            self.values[name].reshape(-1)[at] = getattr(bars, name)
        turnover = np.empty(len(bars))
        _turn_over(bars.high, bars.low, bars.close, bars.volume, turnover)
        self.values["turnover"].reshape(-1)[at] = turnover
        self.present.reshape(-1)[at] = True
        return cells

    def vouch(self, minutes: Minutes) -> Cells:
        """Take what became known of minutes; return those that are, or are no longer, no-trade."""
        symbol = self._numbers(minutes.symbols)[minutes.symbol]
        first = np.clip(-((self.open_ns - minutes.ts_ns) // MINUTE_NS), 0, self.size)
        stop = np.clip((minutes.end_ns - self.open_ns) // MINUTE_NS, 0, self.size)
        sizes = np.where(symbol >= 0, np.maximum(stop - first, 0), 0)
        run = np.repeat(np.arange(len(sizes)), sizes)
        within = np.arange(len(run)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        cells = Cells((first[run] + within).astype(np.intp), symbol[run])
        quiet = np.isin(minutes.status, (Status.NO_TRADE, Status.HALTED))
        at, is_quiet = self._flat(cells), quiet[run]
        flat = self.no_trade.reshape(-1)
        is_new = flat[at] != is_quiet
        flat[at] = is_quiet
        return Cells(cells.minute[is_new], cells.symbol[is_new])

    def rename(self, symbols: tuple[str, ...]) -> Index:
        """Take other symbols; return the earlier column of each now, -1 for one that is new."""
        order = self._numbers(symbols)
        gone = np.setdiff1d(np.arange(len(self._names)), order)
        columns: Index = np.concatenate([order, gone])
        self.values = {name: moved(old, columns, ABSENT[name]) for name, old in self.values.items()}
        self.present = moved(self.present, columns, False)
        self.no_trade = moved(self.no_trade, columns, False)
        self._names = (*symbols, *(self._names[number] for number in gone.tolist()))
        self.symbols, self._places = symbols, {}
        return columns

    def settle(self, first: int, stop: int) -> bool:
        """Make minutes [first, stop), which are over, fit to be summed up; tell whether all are in.

        Bars of minutes that turned out not to be expected are taken out.
        """
        here = slice(first, stop)
        present, expected = self.present[here], self.expected[here]
        if present.all() and expected.all():
            return True
        present &= expected[:, None]
        if not self._is_filled or not expected.all():
            absent = ~self.present
            for name, value in ABSENT.items():
                self.values[name][absent] = value
            self._is_filled = True
        return False

    def _flat(self, cells: Cells) -> Index:
        return cells.minute * len(self._names) + cells.symbol

    def _numbers(self, names: tuple[str, ...]) -> Index:
        """Return the columns of symbols by name, -1 for those that are not here."""
        if names not in self._places:
            place = {name: number for number, name in enumerate(self._names)}
            self._places[names] = np.array([place.get(name, -1) for name in names], np.intp)
        return self._places[names]


def moved(array: NDArray[Any], columns: Index, fill: float) -> NDArray[Any]:
    """Return an array with its columns in another order; where that is -1 stands ``fill``."""
    found = np.full((len(array), len(columns)), fill, array.dtype)
    is_old = columns >= 0
    found[:, is_old] = array[:, columns[is_old]]
    return found


def _turn_over(high: Floats, low: Floats, close: Floats, volume: Floats, out: Floats) -> None:
    np.add(high, low, out=out)
    out += close
    out /= 3
    out *= volume


def _all_of(column: NDArray[Any], value: int) -> bool:
    """Return whether all of a column, of at least one row, is one value."""
    if column.strides == (0,):
        column = column[:1]
    return bool((column == value).all())
