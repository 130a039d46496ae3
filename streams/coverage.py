"""Expected minutes of a session, what is known of each, the gaps and the quality: pure numpy.

A gap is a run of expected minutes, one behind the other, of which nothing is there. Quality is
(traded + filled + no-trade + halted minutes) / expected minutes so far, in %: of a minute in which
trading was halted it is known, too, that there was no trade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.records import Floats, Ints, Longs, Minutes
from streams.calendar import Session

__all__ = ["GOOD", "Grid", "Runs", "Status", "expected_ends"]


class Status(IntEnum):
    """What is known of one expected minute; the numbers are those of the wire."""

    PENDING = 0
    TRADED = 1
    NO_TRADE = 2
    MISSING = 3
    REQUESTED = 4
    FILLED = 5
    GIVEN_UP = 6
    HALTED = 7

    @property
    def label(self) -> str:
        """Its name as people write it."""
        return self.name.lower()


GOOD = (Status.TRADED, Status.NO_TRADE, Status.FILLED, Status.HALTED)
"""Of such minutes it is known what was traded, or that nothing was: they count for quality."""
_GOOD = np.zeros(len(Status), np.bool_)
_GOOD[list(GOOD)] = True
_OPEN = np.zeros(len(Status), np.bool_)
_OPEN[[Status.MISSING, Status.REQUESTED]] = True


class Runs(NamedTuple):
    """Minutes [first, stop) of a symbol, one behind the other, in columns; shape (runs,) each."""

    symbol: NDArray[np.intp]
    first: NDArray[np.intp]
    stop: NDArray[np.intp]


def expected_ends(session: Session, interval_ns: int) -> Longs:
    """Return the ready times of the bars expected in a session, ascending, shape (minutes,)."""
    ends = session.starts(interval_ns) + interval_ns
    return ends[ends <= session.close_ns]


class Grid:
    """Every expected minute of one session, by symbol.

    Parameters
    ----------
    session
        The session; half-days and breaks are its affair.
    interval_ns
        Length of the bars that are expected.
    symbols
        Names, in the order of the rows.

    Attributes
    ----------
    ends
        Ready times of the minutes, ascending, shape (minutes,).
    status, attempt, request
        `Status`, number of the last attempt (0: none) and the number of the last request (-1:
        none, else a place in ``requests``) of each minute, shape (symbols, minutes).
    requests
        Ids of requests.
    """

    def __init__(self, session: Session, interval_ns: int, symbols: Sequence[str]) -> None:
        self.session = session
        self.symbols = tuple(symbols)
        self.ends = expected_ends(session, interval_ns)
        self._interval_ns = interval_ns
        shape = (len(self.symbols), len(self.ends))
        self.status = np.zeros(shape, np.int8)
        self.attempt = np.zeros(shape, np.int16)
        self.request = np.full(shape, -1, np.int32)
        self.requests: list[str] = []
        self._numbers: dict[str, int] = {}
        self._places: dict[tuple[str, ...], NDArray[np.intp]] = {}

    @property
    def is_settled(self) -> bool:
        """Whether no minute is missing or asked for: each is there, vouched for or given up."""
        return not _OPEN[self.status].any()

    def is_(self, *status: Status) -> NDArray[np.bool_]:
        """Return which minutes have one of some statuses, shape (symbols, minutes)."""
        wanted = np.zeros(len(Status), np.bool_)
        wanted[list(status)] = True
        return wanted[self.status]

    def trade(self, symbol: Ints, ts_ns: Longs) -> NDArray[np.bool_]:
        """Take bars by symbol and start; return which minutes are filled by them.

        A pending minute is traded then, one that had been found missing is filled. Bars that
        start at no expected minute, or have a symbol below 0, count for nothing.
        """
        filled = np.zeros(self.status.shape, np.bool_)
        at = self._at(symbol, ts_ns)
        flat = self.status.reshape(-1)
        now = flat[at]
        flat[at[now == Status.PENDING]] = Status.TRADED
        late = at[(now != Status.PENDING) & (now != Status.TRADED) & (now != Status.FILLED)]
        flat[late] = Status.FILLED
        filled.reshape(-1)[late] = True
        return filled

    def has(self, symbol: Ints, ts_ns: Longs, status: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which bars start at a minute where ``status`` (as `is_` gives it) holds."""
        found = np.zeros(len(ts_ns), np.bool_)
        place, is_mine = self._place(symbol, ts_ns)
        found[is_mine] = status[symbol[is_mine], place[is_mine]]
        return found

    def settle_pending(
        self, until_ns: int, symbols: tuple[str, ...] | None = None
    ) -> NDArray[np.bool_]:
        """Call pending minutes that were over at ``until_ns`` missing; return which.

        ``symbols`` are those whose minutes are meant, None means all.
        """
        over = int(np.searchsorted(self.ends, until_ns, "right"))
        found = np.zeros(self.status.shape, np.bool_)
        found[:, :over] = self.status[:, :over] == Status.PENDING
        if symbols is not None and symbols != self.symbols:
            found &= np.isin(self.symbols, symbols)[:, None]
        self.status[found] = Status.MISSING
        return found

    def number_of(self, request: str) -> int:
        """Return the number of a request, a new one where it is not known."""
        number = self._numbers.setdefault(request, len(self.requests))
        if number == len(self.requests):
            self.requests.append(request)
        return number

    def knows(self, request: str) -> bool:
        """Tell whether a request has a number."""
        return request in self._numbers

    def cells(self, minutes: Minutes) -> NDArray[np.bool_]:
        """Return the minutes that runs name, shape (symbols, minutes); what is unknown is left out.

        The symbols of the runs are found by name.
        """
        mask = np.zeros(self.status.shape, np.bool_)
        at, _ = self.expanded(minutes)
        mask.reshape(-1)[at] = True
        return mask

    def apply(self, minutes: Minutes) -> None:
        """Put what runs say in the place of what is known."""
        at, run = self.expanded(minutes)
        self.status.reshape(-1)[at] = minutes.status[run]
        self.attempt.reshape(-1)[at] = minutes.attempt[run]
        numbers = np.array([self.number_of(name) for name in minutes.requests] + [-1], np.int32)
        self.request.reshape(-1)[at] = numbers[minutes.request[run]]

    def runs(self, where: NDArray[np.bool_], *, alike: bool = False) -> Runs:
        """Return the runs of minutes at which a mask of shape (symbols, minutes) holds.

        Parameters
        ----------
        where
            The mask.
        alike
            Whether status, attempt and request are to be the same over a run.
        """
        symbols, minutes = where.shape
        # A column of False behind each symbol's minutes keeps its runs from the next one's.
        wide = np.zeros((symbols, minutes + 1), np.bool_)
        wide[:, :minutes] = where
        flat = wide.reshape(-1)
        begins = flat.copy()
        begins[1:] &= ~flat[:-1]
        ends = flat.copy()
        ends[:-1] &= ~flat[1:]
        if alike:
            step = np.zeros((symbols, minutes + 1), np.bool_)
            for column in (self.status, self.attempt, self.request):
                step[:, 1:minutes] |= column[:, 1:] != column[:, :-1]
            change = step.reshape(-1) & flat
            begins |= change
            ends[:-1] |= change[1:] & flat[:-1]
        first, last = np.flatnonzero(begins), np.flatnonzero(ends)
        symbol = first // (minutes + 1)
        base = symbol * (minutes + 1)
        return Runs(symbol, first - base, last - base + 1)

    def minutes(self, where: NDArray[np.bool_], *, loaded: bool = False) -> Minutes:
        """Return what is known of the minutes at which a mask holds, as runs for the wire."""
        runs = self.runs(where, alike=True)
        at = (runs.symbol, runs.first)
        request = self.request[at]
        used = np.unique(request[request >= 0])
        place = np.full(len(self.requests) + 1, -1, np.int32)
        place[used] = np.arange(len(used), dtype=np.int32)
        return Minutes(
            symbols=self.symbols,
            symbol=runs.symbol.astype(np.int32),
            ts_ns=self.ends[runs.first] - self._interval_ns,
            end_ns=self.ends[runs.stop - 1],
            status=self.status[at].astype(np.int32),
            attempt=self.attempt[at].astype(np.int32),
            request=place[request],
            session=self.session.label,
            loaded=loaded,
            requests=tuple(self.requests[number] for number in used.tolist()),
        )

    def expected(self, until_ns: int) -> int:
        """Return how many minutes of a symbol were over at ``until_ns``."""
        return int(np.searchsorted(self.ends, until_ns, "right"))

    def good(self, until_ns: int) -> NDArray[np.intp]:
        """Return how many minutes of each symbol were traded, filled, quiet or halted by then."""
        counts: NDArray[np.intp] = _GOOD[self.status[:, : self.expected(until_ns)]].sum(axis=1)
        return counts

    def quality(self, until_ns: int) -> Floats:
        """Return the quality of each symbol at a clock, in %; 100 before the first minute."""
        expected = self.expected(until_ns)
        if expected == 0:
            return np.full(len(self.symbols), 100.0)
        share: Floats = 100.0 * self.good(until_ns) / expected
        return share

    def counts(self, status: Status) -> NDArray[np.intp]:
        """Return how many symbols have a status at each minute, shape (minutes,)."""
        found: NDArray[np.intp] = np.count_nonzero(self.status == status, axis=0)
        return found

    def renamed(self, symbols: Sequence[str]) -> Grid:
        """Return the grid over other symbols; what is known of those in both goes along."""
        other = Grid(self.session, self._interval_ns, symbols)
        other.requests, other._numbers = list(self.requests), dict(self._numbers)
        place = {name: number for number, name in enumerate(self.symbols)}
        both = [(new, place[name]) for new, name in enumerate(other.symbols) if name in place]
        if both:
            new, old = (np.array(numbers) for numbers in zip(*both, strict=True))
            for name in ("status", "attempt", "request"):
                getattr(other, name)[new] = getattr(self, name)[old]
        return other

    def _at(self, symbol: Ints, ts_ns: Longs) -> NDArray[np.intp]:
        """Return the flat places of bars; those of no expected minute are left out."""
        place, is_mine = self._place(symbol, ts_ns)
        found: NDArray[np.intp] = symbol.astype(np.intp) * len(self.ends) + place
        return found if bool(is_mine.all()) else found[is_mine]

    def _place(self, symbol: Ints, ts_ns: Longs) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        if not len(self.ends):
            return np.zeros(len(ts_ns), np.intp), np.zeros(len(ts_ns), np.bool_)
        ready = ts_ns + self._interval_ns
        first, last = int(self.ends[0]), int(self.ends[-1])
        if last - first == (len(self.ends) - 1) * self._interval_ns:  # no break in the session
            place, rest = np.divmod(ready - first, self._interval_ns)
            is_mine = (rest == 0) & (place >= 0) & (place < len(self.ends))
        else:
            place = np.minimum(np.searchsorted(self.ends, ready), len(self.ends) - 1)
            is_mine = self.ends[place] == ready
        return place, is_mine & (symbol >= 0) & (symbol < len(self.symbols))

    def expanded(self, minutes: Minutes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the flat places of all minutes of runs, and the run that each belongs to."""
        symbol = self._symbols(minutes.symbols)[minutes.symbol]
        first = np.searchsorted(self.ends, minutes.ts_ns, "right")
        stop = np.searchsorted(self.ends, minutes.end_ns, "right")
        size = np.where(symbol >= 0, np.maximum(stop - first, 0), 0)
        run = np.repeat(np.arange(len(size)), size)
        within = np.arange(len(run)) - np.repeat(np.cumsum(size) - size, size)
        at: NDArray[np.intp] = symbol[run] * len(self.ends) + first[run] + within
        return at, run

    def _symbols(self, names: tuple[str, ...]) -> NDArray[np.intp]:
        """Return the rows of symbols by name, -1 for those that are not here."""
        found = self._places.get(names)
        if found is None:
            place: Mapping[str, Any] = {name: n for n, name in enumerate(self.symbols)}
            found = np.array([place.get(name, -1) for name in names], np.intp)
            self._places[names] = found
        return found
