"""1m bars of a session to longer ones: pure numpy, whole blocks of minutes at a time.

A derived bar spans clock time from the session's open on; the last one is cut at the close. It is
made of the bars of the expected minutes inside it. Sums go minute by minute in the order of time,
so that they do not depend on how the tape was cut into frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.records import Floats, Ints, Longs
from streams.errors import ConfigError
from streams.intervals import MINUTE_NS, interval_ns
from streams.minute_bars import ABSENT, VALUES, Cells, Index, Mask, MinuteBars, moved

__all__ = ["BEFORE", "DerivedBars", "Part", "minutes_of"]

_MADE = (*VALUES, "vwap", "count", "quality")
BEFORE = tuple(f"before_{name}" for name in VALUES)


class Part(NamedTuple):
    """Derived bars of one length in order, with their slices.

    Attributes
    ----------
    slice_ns, slice_rows, slice_corrections
        Slices that have rows, ascending; shape (slices,) each.
    columns
        Those of `DerivedColumns` without ``row``, and without `BEFORE` where no row is a
        correction; shape (rows,) each.
    """

    slice_ns: Longs
    slice_rows: Ints
    slice_corrections: Ints
    columns: Mapping[str, NDArray[Any]]


def minutes_of(interval: str) -> int:
    """Return the length of ``"5m"`` in minutes.

    Raises
    ------
    ConfigError
        Not a whole number of minutes.
    """
    minutes, rest = divmod(interval_ns(interval), MINUTE_NS)
    if rest:
        msg = f"bars of {interval} can't be derived: take whole minutes, such as 5m, 1h or 1d"
        raise ConfigError(msg)
    return minutes


class DerivedBars:
    """The bars of one length that are made of the 1m bars of one session.

    Parameters
    ----------
    minutes
        Their length.
    base
        The 1m bars.

    Attributes
    ----------
    starts, ends
        Of the bars, ascending, ns; a bar is ready at its end. Shape (bars,) each.
    done
        How many of them, the first ones, were due.
    made
        What went out last, by name: shape (bars, symbols) each.
    revision
        Revision that went out last, -1 for none; same shape.
    """

    def __init__(self, minutes: int, base: MinuteBars) -> None:
        self._base, self._minutes = base, minutes
        count = -(-base.size // minutes)
        self.starts = base.open_ns + np.arange(count) * (minutes * MINUTE_NS)
        self.ends = np.minimum(self.starts + minutes * MINUTE_NS, base.close_ns)
        self.done = 0
        shape = (count, len(base.symbols))
        self.made: dict[str, NDArray[Any]] = {name: np.empty(shape) for name in _MADE}
        self.made["count"] = np.empty(shape, np.int32)
        self._is_lent = False
        self.revision = np.full(shape, -1, np.int32)

    def until(self, clock_ns: int) -> Part | None:
        """Return the bars that are ready at a clock and were not due before, None for none."""
        first, stop = self.done, int(np.searchsorted(self.ends, clock_ns, "right"))
        if stop <= first:
            return None
        self.done = stop
        whole = max(min(stop, self._base.size // self._minutes), first)
        self._make(first, whole, self._minutes)
        self._make(whole, stop, self._base.size - whole * self._minutes)
        symbols = len(self._base.symbols)
        is_there = self.made["count"][first:stop, :symbols] > 0
        rows = is_there.sum(axis=1, dtype=np.int32)
        bar = np.repeat(np.arange(first, stop), rows)
        if len(bar) == 0:
            return None
        self.revision[first:stop, :symbols][is_there] = 0
        if len(bar) == self.revision[first:stop].size:
            made = {name: column[first:stop].reshape(-1) for name, column in self.made.items()}
            self._is_lent = True
        else:
            made = {n: column[first:stop, :symbols][is_there] for n, column in self.made.items()}
        symbol = np.broadcast_to(np.arange(symbols, dtype=np.int32), is_there.shape)[is_there]
        columns = self._columns(bar, symbol, made, np.broadcast_to(np.int32(0), len(bar)))
        slices = np.flatnonzero(rows)
        none = np.zeros(len(slices), np.int32)
        return Part(self.ends[first + slices], rows[slices], none, columns)

    def again(self, slice_ns: int, traded: Cells, told: Cells) -> Part | None:
        """Return bars that were due before and are other ones now, None for none.

        Parameters
        ----------
        slice_ns
            Slice in which they go out.
        traded
            Minutes in which a bar came late or changed.
        told
            Minutes that are, or are no longer, no-trade: they count where the quality changes.
        """
        late, quiet = self._bars(traded), self._bars(told)
        found = np.union1d(late, quiet)
        if len(found) == 0:
            return None
        bar, symbol = np.divmod(found, self.revision.shape[1])
        made = self._gathered(bar, symbol)
        revision = self.revision[bar, symbol]
        is_out = revision >= 0
        is_other = is_out & (made["quality"] != self.made["quality"][bar, symbol])
        changed = np.isin(found, late, assume_unique=True) | is_other
        if not changed.any():
            return None
        bar, symbol, is_out = bar[changed], symbol[changed], is_out[changed]
        made = {name: column[changed] for name, column in made.items()}
        before = {
            f"before_{name}": np.where(is_out, self.made[name][bar, symbol], np.nan)
            for name in VALUES
        }
        if self._is_lent:  # parts that are still on their way out look at these arrays
            self.made = {name: column.copy() for name, column in self.made.items()}
            self._is_lent = False
        for name, column in made.items():
            self.made[name][bar, symbol] = column
        self.revision[bar, symbol] = revision = revision[changed] + 1
        rows = np.array([len(bar)], np.int32)
        columns = {**self._columns(bar, symbol.astype(np.int32), made, revision), **before}
        return Part(np.array([slice_ns], np.int64), rows, rows, columns)

    def rename(self, columns: Index) -> None:
        """Follow the symbols of the 1m bars, as `MinuteBars.rename` gives them."""
        self.made = {name: moved(old, columns, 0) for name, old in self.made.items()}
        self.revision = moved(self.revision, columns, -1)

    def _bars(self, cells: Cells) -> Index:
        """Return the flat places of the bars, due by now, that hold some minutes; ascending."""
        bar = cells.minute // self._minutes
        is_mine = (bar < self.done) & (cells.symbol < len(self._base.symbols))
        found: Index = np.unique(bar[is_mine] * self.revision.shape[1] + cells.symbol[is_mine])
        return found

    def _columns(
        self, bar: Index, symbol: Ints, made: Mapping[str, NDArray[Any]], revision: Ints
    ) -> dict[str, NDArray[Any]]:
        lengths = self.ends - self.starts
        is_cut = int(lengths[bar[-1]]) != self._minutes * MINUTE_NS
        return {
            "symbol": symbol,
            "ts_ns": self.starts[bar],
            "interval_ns": lengths[bar] if is_cut else np.broadcast_to(lengths[:1], len(bar)),
            **made,
            "revision": revision,
        }

    def _make(self, first: int, stop: int, minutes: int) -> None:
        """Make the bars [first, stop), each of that many minutes."""
        if stop == first:
            return
        base, symbols = self._base, len(self._base.symbols)
        start = first * self._minutes
        here = slice(start, start + (stop - first) * minutes)
        is_full = base.settle(here.start, here.stop)

        def block(array: NDArray[Any]) -> NDArray[Any]:
            return array[here].reshape(stop - first, minutes, -1)[:, :, :symbols]

        values = {name: block(column) for name, column in base.values.items()}
        made = {name: column[first:stop, :symbols] for name, column in self.made.items()}
        _longer(values, made)
        if not is_full:
            expected = base.expected[here].reshape(stop - first, minutes, 1)
            _mend(values, block(base.present), block(base.no_trade), expected, made)

    def _gathered(self, bar: Index, symbol: Index) -> dict[str, NDArray[Any]]:
        """Make some bars anew; shape (n,) each."""
        base = self._base
        minute = bar * self._minutes + np.arange(self._minutes)[:, None]
        is_inside = minute < base.size  # the last bar of the session may be cut
        minute = np.minimum(minute, base.size - 1)
        values = {
            name: np.where(is_inside, column[minute, symbol], ABSENT[name])[None]
            for name, column in base.values.items()
        }
        present = base.present[minute, symbol] & is_inside
        expected = base.expected[minute] & is_inside
        made = {name: np.empty((1, len(bar)), old.dtype) for name, old in self.made.items()}
        _longer(values, made)
        _mend(values, present[None], base.no_trade[minute, symbol][None], expected[None], made)
        return {name: column[0] for name, column in made.items()}


def _longer(values: Mapping[str, Floats], made: Mapping[str, NDArray[Any]]) -> None:
    """Make bars of shorter ones, none of which is missing: (bars, minutes, symbols) to ``made``.

    Into arrays that are there: fresh ones would take longer than the sums.
    """
    minutes = values["open"].shape[1]
    made["open"][...] = values["open"][:, 0]
    made["close"][...] = values["close"][:, -1]
    np.maximum.reduce(values["high"], axis=1, out=made["high"])
    np.minimum.reduce(values["low"], axis=1, out=made["low"])
    # Minute by minute, in the order of time: numpy's own sums do not promise that.
    volume, vwap = made["volume"], made["vwap"]
    volume[...], vwap[...] = values["volume"][:, 0], values["turnover"][:, 0]
    for at in range(1, minutes):
        volume += values["volume"][:, at]
        vwap += values["turnover"][:, at]
    with np.errstate(invalid="ignore"):
        vwap /= volume  # NaN without volume: there is no turnover then
    made["count"][...] = minutes
    made["quality"][...] = 100.0


def _mend(
    values: Mapping[str, Floats],
    present: Mask,
    no_trade: Mask,
    expected: Mask,
    made: Mapping[str, NDArray[Any]],
) -> None:
    """Make good what `_longer` made of minutes that are not all there.

    Where a bar is not present, the values are to be `ABSENT`; none is where none is expected.
    """
    _first(values["open"], present, made["open"])
    _first(values["close"][:, ::-1], present[:, ::-1], made["close"])
    np.sum(present, axis=1, dtype=np.int32, out=made["count"])
    np.sum((present | no_trade) & expected, axis=1, dtype=np.float64, out=made["quality"])
    made["quality"] *= 100.0
    made["quality"] /= np.maximum(expected.sum(axis=1), 1)


def _first(column: Floats, present: Mask, out: Floats) -> None:
    """Put into ``out``, shape (bars, symbols), the first value of each bar that is present."""
    rest = ~present[:, 0]
    for at in range(1, present.shape[1]):
        if not rest.any():
            break
        np.copyto(out, column[:, at], where=rest & present[:, at])
        rest &= ~present[:, at]
