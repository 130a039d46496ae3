"""How far all symbols of a live session have reported: pure.

A symbol has reported a minute when its bar is there, or a source vouches that it has sent all it
has of it; it has reported quotes and ticks as far as a source vouches for them without a hole. One
that is halted is not waited for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarColumns, Coverage, Halt
from streams.calendar import Session
from streams.coverage import expected_ends

__all__ = ["Watermark"]

_FAR = 2**63 - 1


class Watermark:
    """What the symbols of one session have reported.

    Parameters
    ----------
    session
        The session.
    interval_ns
        Length of the bars that are expected.
    symbols
        Symbols of the shard, in the order of their numbers.
    streams
        Streams of the run.
    """

    def __init__(
        self, session: Session, interval_ns: int, symbols: Sequence[str], streams: Sequence[str]
    ) -> None:
        self._session = session
        self._interval_ns = interval_ns
        self._symbols = tuple(symbols)
        self._numbers = {name: number for number, name in enumerate(self._symbols)}
        self._streams = tuple(streams)
        self._ends = expected_ends(session, interval_ns)
        self._has_bars = "bars" in streams
        size = len(self._symbols)
        # By minute first: what is asked most is whether all have reported one.
        self._reported = np.zeros((len(self._ends), size), np.bool_)
        # Of the streams that come between the minutes: up to where each symbol is vouched for,
        # exclusive; of bars those that end at the end of a coverage are inside.
        self._vouched = {
            stream: np.full(size, session.open_ns, np.int64)
            for stream in streams
            if stream != "bars"
        }
        # And behind a hole: a stretch that is vouched for, until what is before it is too.
        self._ahead = {
            stream: (np.full(size, _FAR, np.int64), np.full(size, -_FAR, np.int64))
            for stream in self._vouched
        }
        self._halted_from = np.full(size, _FAR, np.int64)
        self._halted_until = np.full(size, _FAR, np.int64)

    def take(self, rows: BarColumns) -> None:
        """Take bars that came, late ones too; those of other lengths report nothing."""
        is_mine = rows.interval_ns == self._interval_ns
        ready = rows.ts_ns[is_mine] + self._interval_ns
        at = np.searchsorted(self._ends, ready)
        is_expected = at < len(self._ends)
        is_expected[is_expected] = self._ends[at[is_expected]] == ready[is_expected]
        self._reported[at[is_expected], rows.symbol[is_mine][is_expected]] = True

    def cover(self, stream: str, coverage: Coverage, clock_ns: int) -> None:
        """Take what a source vouches for; what it can't say of is no report.

        ``clock_ns`` is up to where rows of the stream are out: nobody is waited for there any more.
        """
        if coverage.answer == "cannot_say":
            return
        numbers = [self._numbers[name] for name in coverage.symbols if name in self._numbers]
        start_ns, end_ns = coverage.start_ns, coverage.end_ns
        if stream == "bars":
            first = int(np.searchsorted(self._ends - self._interval_ns, start_ns, "left"))
            stop = int(np.searchsorted(self._ends, end_ns, "right"))
            self._reported[first:stop, numbers] = True
        elif (vouched := self._vouched.get(stream)) is not None:
            begins, ends = self._ahead[stream]
            until, begin, end = vouched[numbers], begins[numbers], ends[numbers]
            reaches = start_ns <= np.maximum(until, clock_ns + 1)
            vouched[numbers] = np.where(reaches, np.maximum(until, end_ns), until)
            touches = (start_ns <= end) & (end_ns >= begin)  # else it takes the other's place
            longer = np.where(touches, np.minimum(begin, start_ns), start_ns)
            begins[numbers] = np.where(reaches, begin, longer)
            longer = np.where(touches, np.maximum(end, end_ns), end_ns)
            ends[numbers] = np.where(reaches, end, longer)
            self._close_up(stream, clock_ns)

    def _close_up(self, stream: str, clock_ns: int) -> None:
        """Take the stretches ahead that nothing is before any more; up to the clock nothing is."""
        vouched, (begins, ends) = self._vouched[stream], self._ahead[stream]
        joins = begins <= np.maximum(vouched, clock_ns + 1)
        vouched[joins] = np.maximum(vouched[joins], ends[joins])

    def halt(self, halt: Halt) -> None:
        """Take that trading of some symbols is halted, or goes on."""
        numbers = [self._numbers[name] for name in halt.symbols if name in self._numbers]
        if halt.halted:
            self._halted_from[numbers], self._halted_until[numbers] = halt.ts_ns, _FAR
        else:
            self._halted_until[numbers] = halt.ts_ns

    def halted(self) -> NDArray[np.bool_] | None:
        """Return in which minutes the symbols were halted, wholly or in part; None: in none.

        Shape (symbols, minutes); of the last halt of each.
        """
        if bool((self._halted_from == _FAR).all()):
            return None
        found: NDArray[np.bool_] = (self._halted_from[:, None] < self._ends) & (
            self._halted_until[:, None] > self._ends - self._interval_ns
        )
        return found

    def halt_again(self, halted: NDArray[np.bool_], clock_ns: int) -> None:
        """Take that symbols, a mask of shape (symbols,), are halted since a clock or longer."""
        self._halted_from[halted], self._halted_until[halted] = clock_ns, _FAR

    def reached(self, clock_ns: int, absent: Collection[str] = ()) -> int:
        """Return up to which ready time, inclusive, all symbols have reported; at least the clock.

        One that is vouched for up to the close has reported all; those that are ``absent`` are not
        waited for. Where the run has bars and nothing else it is the end of a minute, or the close.
        """
        found = close_ns = self._session.close_ns
        is_absent = np.zeros(len(self._symbols), np.bool_)
        is_absent[[self._numbers[name] for name in absent]] = True
        is_halted = (self._halted_from <= clock_ns) & (self._halted_until > clock_ns)
        for stream, vouched in self._vouched.items():
            self._close_up(stream, clock_ns)
            # Of one that is halted nothing comes until it trades again.
            known = np.where(is_halted, np.maximum(vouched, self._halted_until), vouched)
            until_ns = int(known[~is_absent].min(initial=close_ns))
            found = min(found, until_ns if until_ns == close_ns else until_ns - 1)
        if self._has_bars:
            found = min(found, self._bars_reached(clock_ns, is_absent))
        return max(found, clock_ns)

    def _bars_reached(self, clock_ns: int, is_absent: NDArray[np.bool_]) -> int:
        first = at = int(np.searchsorted(self._ends, clock_ns, "right"))
        while at < len(self._ends) and self._is_there(at, is_absent):
            at += 1
        if at == len(self._ends):
            return self._session.close_ns
        if self._vouched:  # rows of other kinds are due up to the next minute's end
            return int(self._ends[at]) - 1
        return int(self._ends[at - 1]) if at > first else clock_ns

    def _is_there(self, at: int, is_absent: NDArray[np.bool_]) -> bool:
        """Tell whether all have reported a minute, or are halted to its end.

        One that trades again before it is over may have a bar.
        """
        there = self._reported[at] | is_absent
        if bool(there.all()):
            return True
        end_ns = self._ends[at]
        is_halted = (self._halted_from < end_ns) & (self._halted_until >= end_ns)
        return bool((there | is_halted).all())

    def renamed(self, symbols: Sequence[str]) -> Watermark:
        """Return it over other symbols; what is known of those in both goes along."""
        other = Watermark(self._session, self._interval_ns, symbols, self._streams)
        both = [(new, self._numbers[s]) for s, new in other._numbers.items() if s in self._numbers]
        if both:
            new, old = (np.array(numbers) for numbers in zip(*both, strict=True))
            other._reported[:, new] = self._reported[:, old]
            other._halted_from[new] = self._halted_from[old]
            other._halted_until[new] = self._halted_until[old]
            for stream in other._vouched.keys() & self._vouched.keys():
                other._vouched[stream][new] = self._vouched[stream][old]
                for mine, theirs in zip(other._ahead[stream], self._ahead[stream], strict=True):
                    mine[new] = theirs[old]
        return other
