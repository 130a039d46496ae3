"""The frames of one session folded into derived bars of several lengths: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from schemas.records import BarColumns, Frame, Longs, Minutes
from streams.derived import DerivedBars, Part
from streams.intervals import MINUTE_NS
from streams.merge import concatenate
from streams.minute_bars import Cells, Mask, MinuteBars

__all__ = ["DerivedSession", "Parts"]

Parts: TypeAlias = list[tuple[str, Part]]
"""Bars by interval; those of one interval in order."""


class _Rows(NamedTuple):
    """1m bars in order, the slice of each, and which are corrections."""

    bars: BarColumns
    known_ns: Longs
    is_late: Mask

    def part(self, start: int, stop: int) -> _Rows:
        here = slice(start, stop)
        return _Rows(self.bars.take(here), self.known_ns[here], self.is_late[here])


class DerivedSession:
    """One session as far as it is folded.

    Parameters
    ----------
    frame
        Its open frame.
    minutes
        Lengths of the bars by interval.
    before
        An earlier session, which is over: its memory is used again.

    Attributes
    ----------
    label
        Its day.
    clock_ns
        Session clock of what was folded.
    base
        Its 1m bars.
    """

    def __init__(
        self, frame: Frame, minutes: Mapping[str, int], before: DerivedSession | None = None
    ) -> None:
        self.label, self.clock_ns = frame.session, frame.clock_ns
        self.base: MinuteBars = MinuteBars(frame, None if before is None else before.base)
        self._lengths = {name: DerivedBars(size, self.base) for name, size in minutes.items()}
        self._told: list[Minutes] = []
        self._begun: _Rows | None = None
        """Rows of a slice that goes on in the next frame."""
        if frame.minutes is not None:
            self.base.vouch(frame.minutes)

    def fold(self, frame: Frame) -> Parts:
        """Take the next frame; return what had to be made at once.

        That is bars that its corrections touch, and those that were due before them. All others
        wait for `due`: the more minutes at a time, the less it costs.
        """
        complete = int(np.searchsorted(frame.slice_ns, frame.clock_ns, "right"))
        is_expected = frame.slice_expected[:complete] > 0
        self.base.expect(frame.slice_ns[:complete][is_expected])
        if frame.minutes is not None and frame.minutes.session in ("", self.label):
            self._told.append(frame.minutes)
        found: Parts = []
        if not self._is_complete(frame, complete):
            found = list(self._slices(frame, complete))
        self.clock_ns = max(self.clock_ns, frame.clock_ns)
        return found

    def due(self, clock_ns: int) -> Parts:
        """Return the bars that are ready at a clock and did not go out yet."""
        made = ((name, bars.until(clock_ns)) for name, bars in self._lengths.items())
        return [(name, part) for name, part in made if part is not None]

    def last(self) -> Parts:
        """Return what became known behind the last slice, when the session is over."""
        return list(self._again(self.clock_ns, _NONE)) if self._told else []

    def rename(self, symbols: tuple[str, ...]) -> None:
        """Take other symbols; all that is ready has to be out."""
        columns = self.base.rename(symbols)
        for bars in self._lengths.values():
            bars.rename(columns)

    def _is_complete(self, frame: Frame, complete: int) -> bool:
        """Take a frame with all bars of all minutes and nothing else; tell whether it was one."""
        is_plain = (
            frame.bars is not None
            and len(frame.bars) == frame.rows
            and complete == len(frame.slice_ns)
            and not (self._told or self._begun or frame.slice_corrections.any())
        )
        return is_plain and self.base.put_complete(frame.bars, frame.slice_ns)  # type: ignore[arg-type]

    def _slices(self, frame: Frame, complete: int) -> Iterator[tuple[str, Part]]:
        rows = self._sorted_in(frame)
        stop = int(np.searchsorted(rows.known_ns, frame.clock_ns, "right"))
        self._begun = rows.part(stop, len(rows.bars)) if stop < len(rows.bars) else None
        rows = rows.part(0, stop)
        times = {*rows.known_ns[rows.is_late].tolist()}
        told_ns = int(frame.slice_ns[0]) if complete else frame.clock_ns
        if self._told and told_ns > self.clock_ns:
            times.add(told_ns)
        at = 0
        for slice_ns in sorted(times):
            first = int(np.searchsorted(rows.known_ns, slice_ns, "left"))
            self.base.put(rows.bars.take(slice(at, first)))
            # What was ready before goes out as it was then.
            yield from self.due(slice_ns - 1)
            end = int(np.searchsorted(rows.known_ns, slice_ns, "right"))
            at = first + int(np.count_nonzero(rows.is_late[first:end]))
            traded = self.base.put(rows.bars.take(slice(first, at)), is_late=True)
            yield from self._again(slice_ns, traded, is_told=slice_ns == told_ns)
        self.base.put(rows.bars.take(slice(at, stop)))

    def _again(
        self, slice_ns: int, traded: Cells, *, is_told: bool = True
    ) -> Iterator[tuple[str, Part]]:
        told = _NONE
        if is_told and self._told:
            cells = [self.base.vouch(minutes) for minutes in self._told]
            told = Cells(*(np.concatenate(column) for column in zip(*cells, strict=True)))
            self._told = []
        for name, bars in self._lengths.items():
            part = bars.again(slice_ns, traded, told)
            if part is not None:
                yield name, part

    def _sorted_in(self, frame: Frame) -> _Rows:
        """Return the 1m bars of a frame behind those of a slice that goes on in it."""
        if frame.bars is None:
            return self._begun or _NO_ROWS
        # Rows of other kinds may stand between the bars.
        place = frame.bars.row
        number = np.repeat(np.arange(len(frame.slice_ns)), frame.slice_rows)[place]
        starts = np.cumsum(frame.slice_rows) - frame.slice_rows
        is_late = place - starts[number] < frame.slice_corrections[number]
        rows = _Rows(frame.bars, frame.slice_ns[number], is_late)
        is_base = frame.bars.interval_ns == MINUTE_NS
        if not is_base.all():
            rows = _Rows(frame.bars.take(is_base), rows.known_ns[is_base], is_late[is_base])
        if self._begun is None:
            return rows
        return _Rows(
            concatenate([self._begun.bars, rows.bars]),
            np.concatenate([self._begun.known_ns, rows.known_ns]),
            np.concatenate([self._begun.is_late, rows.is_late]),
        )


def _no_rows() -> _Rows:
    ints, longs, floats = np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64)
    prices = (floats, floats, floats, floats)
    bars = BarColumns(ints, ints, longs, longs, *prices, volume=floats, source=ints, revision=ints)
    return _Rows(bars, longs, np.empty(0, np.bool_))


_NONE = Cells(np.empty(0, np.intp), np.empty(0, np.intp))
_NO_ROWS = _no_rows()
