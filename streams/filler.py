"""Answers a request for minutes from several sources in their order, and says what it knows.

A minute is filled by the first source that has its row; it is without a trade by the word of the
first source that vouches for that; else the next source is asked. Nothing here knows Kafka.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from schemas import BarBlock, DataRequest, Minutes
from schemas.records import Longs
from streams.asking import Asker, Question
from streams.coverage import Status
from streams.intervals import interval_ns
from streams.sources.protocol import Answer, BadRow, Part, Source
from streams.sources.rows import sort_out

__all__ = ["Filled", "Filler", "asked_minutes", "minutes_asked"]

log = logging.getLogger("sessiontape.filler")


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """What the sources have of the minutes that were asked for.

    Attributes
    ----------
    blocks
        Name of the source and its rows, in the order in which the sources were asked.
    minutes
        The minutes asked for in runs of one status, each minute with one: 1 its row is among the
        blocks, 2 a source vouches that there was no trade, 3 no source can say.
    ignored
        Rows that the sources gave and nobody had asked for, or that made no sense.
    bad
        What the sources could not read as rows.
    """

    blocks: tuple[tuple[str, BarBlock], ...]
    minutes: Minutes
    ignored: int
    bad: tuple[BadRow, ...]

    @property
    def answer(self) -> str:
        """What a coverage says of all of it: rows, nothing or cannot_say."""
        if self.blocks:
            return "rows"
        is_known = bool((self.minutes.status == Status.NO_TRADE).all())
        return "nothing" if is_known else "cannot_say"


def asked_minutes(request: DataRequest) -> Minutes:
    """Return the runs that a request names; without any, all its symbols over the whole range."""
    if request.gaps is not None:
        return request.gaps
    count = len(request.symbols)
    return Minutes(
        symbols=request.symbols,
        symbol=np.arange(count, dtype=np.int32),
        ts_ns=np.full(count, request.start_ns),
        end_ns=np.full(count, request.end_ns),
        status=np.full(count, Status.MISSING, np.int32),
        attempt=np.zeros(count, np.int32),
        request=np.full(count, -1, np.int32),
    )


def minutes_asked(request: DataRequest) -> int:
    """Return how many minutes a request names: what it costs to answer it."""
    runs = asked_minutes(request)
    # As floats: ends and starts from anywhere may differ by more than int64 holds.
    lengths = runs.end_ns.astype(np.float64) - runs.ts_ns.astype(np.float64)
    return int(np.ceil(lengths.clip(0) / interval_ns(request.interval)).sum())


class Filler:
    """The sources, asked in their order.

    Parameters
    ----------
    sources
        The primary source, then those to fall back on.
    timeout_s
        How long each may take for an answer.
    """

    def __init__(self, sources: Sequence[Source], timeout_s: float) -> None:
        self._askers = [Asker(source, timeout_s) for source in sources]

    def fill(self, request: DataRequest) -> Filled:
        """Return what the sources have of the minutes of a request for bars."""
        cells = _Cells(asked_minutes(request), interval_ns(request.interval))
        blocks: list[tuple[str, BarBlock]] = []
        bad: list[BadRow] = []
        ignored = 0
        for asker in self._askers:
            question = cells.question()
            if question is None:
                break
            parts, reason = asker.ask(question)
            if reason:
                log.warning("source=%s request=%s: %s", asker.source.name, request.id, reason)
            given = 0
            taken: list[BarBlock] = []
            for part in parts:
                if isinstance(part, BadRow):
                    bad.append(part)
                elif not isinstance(part, Answer):
                    given += len(part)
                    taken += cells.take(part)
            cells.hear(parts)
            blocks += [(asker.source.name, block) for block in taken]
            ignored += given - sum(map(len, taken))
        counts = np.bincount(cells.status, minlength=Status.MISSING + 1).tolist()
        log.info(
            "filled request=%s rows=%d no_trade=%d cannot_say=%d ignored=%d sources=%s",
            *(request.id, *counts[Status.TRADED :], ignored),
            "+".join(dict.fromkeys(name for name, _ in blocks)) or "none",
        )
        return Filled(tuple(blocks), cells.minutes(request), ignored, tuple(bad))


class _Cells:
    """The minutes asked for, each once, in the order of symbols and times, and what is known.

    ``symbol`` counts in ``names``, ``ts_ns`` is the start, ``status`` what is known; shape
    (minutes,) each.
    """

    def __init__(self, runs: Minutes, interval_ns: int) -> None:
        self._runs = runs
        self._interval_ns = interval_ns
        self.names = tuple(dict.fromkeys(runs.symbols))
        self._numbers = {name: n for n, name in enumerate(self.names)}
        number = np.array([self._numbers[name] for name in runs.symbols], np.int64)
        lengths = -((runs.ts_ns - runs.end_ns) // interval_ns)
        lengths = lengths.clip(0)
        self._run = np.repeat(np.arange(len(lengths)), lengths)
        step = np.arange(len(self._run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        ts_ns = runs.ts_ns[self._run] + step * interval_ns
        self._times = np.unique(ts_ns)
        key = number[runs.symbol[self._run]] * len(self._times)
        key += np.searchsorted(self._times, ts_ns)
        # Runs of a request may lap over: what is known of a minute is known once.
        self._keys, self._cell = np.unique(key, return_inverse=True)
        self.symbol = self._keys // max(1, len(self._times))
        self.ts_ns = self._times[self._keys % max(1, len(self._times))]
        self.status = np.full(len(self._keys), Status.MISSING, np.int32)
        self._spoilt = np.zeros(len(self._keys), np.bool_)

    def question(self) -> Question | None:
        """Return what has to be asked: the envelope of the minutes that are open; None for none."""
        is_open = self.status == Status.MISSING
        if not is_open.any():
            return None
        symbols = tuple(self.names[n] for n in np.unique(self.symbol[is_open]).tolist())
        first, last = int(self.ts_ns[is_open].min()), int(self.ts_ns[is_open].max())
        length = self._interval_ns
        return Question("bars", symbols, first, last + length, length)

    def take(self, block: object) -> Iterator[BarBlock]:
        """Take rows of minutes that are open; give them, none or one block."""
        if not isinstance(block, BarBlock):
            return
        cell = self._at(block)
        rows = np.flatnonzero(cell >= 0)
        rows = rows[self.status[cell[rows]] == Status.MISSING]
        prices = [column[rows] for column in (block.open, block.high, block.low, block.close)]
        sense = sort_out(cell[rows].astype(np.int32), block.ts_ns[rows], prices, block.volume[rows])
        # What stands there makes no sense: that source can't say that there was no trade.
        self._spoilt[cell[rows]] = True
        rows = rows[np.sort(sense.keep)]
        if not len(rows):
            return
        self.status[cell[rows]] = Status.TRADED
        part = block.take(rows)
        used, symbol = np.unique(part.symbol, return_inverse=True)
        names = tuple(block.symbols[n] for n in used.tolist())
        yield replace(part, symbols=names, symbol=symbol.astype(np.int32))

    def hear(self, parts: Sequence[Part]) -> None:
        """Take what one source says of the minutes that are open; the later answer holds."""
        is_nothing = np.zeros(len(self._keys), np.bool_)
        bounds = np.searchsorted(self.symbol, np.arange(len(self.names) + 1))
        for answer in parts:
            if not isinstance(answer, Answer):
                continue
            for name in answer.symbols:
                number = self._numbers.get(name)
                if number is None:
                    continue
                low, high = int(bounds[number]), int(bounds[number + 1])
                if not answer.is_whole:
                    part = (answer.start_ns, answer.end_ns)
                    low, high = (low + np.searchsorted(self.ts_ns[low:high], part)).tolist()
                is_nothing[low:high] = answer.says_nothing
        is_nothing &= (self.status == Status.MISSING) & ~self._spoilt
        self.status[is_nothing] = Status.NO_TRADE
        self._spoilt[:] = False

    def minutes(self, request: DataRequest) -> Minutes:
        """Return what is known, in the runs that were asked for and cut where it changes."""
        runs, status = self._runs, self.status[self._cell]
        is_new = np.ones(len(status), np.bool_)
        is_new[1:] = (status[1:] != status[:-1]) | (self._run[1:] != self._run[:-1])
        first = np.flatnonzero(is_new)
        lengths = np.diff(np.append(first, len(status)))
        run = self._run[first]
        starts = runs.ts_ns[run] + (first - np.searchsorted(self._run, run)) * self._interval_ns
        ends = starts + lengths * self._interval_ns
        attempt = np.where(runs.attempt[run] > 0, runs.attempt[run], request.attempt)
        return Minutes(
            symbols=runs.symbols,
            symbol=runs.symbol[run].astype(np.int32),
            ts_ns=starts,
            end_ns=np.minimum(ends, runs.end_ns[run]),
            status=status[first],
            attempt=attempt.astype(np.int32),
            request=np.zeros(len(run), np.int32),
            session=request.session,
            requests=(request.id,),
        )

    def _at(self, block: BarBlock) -> Longs:
        """Return the place of each row's minute, -1 where it was not asked for."""
        number = np.array([self._numbers.get(name, -1) for name in block.symbols], np.int64)
        if not len(number) or not len(self._keys):
            return np.full(len(block), -1)
        symbol = number[block.symbol]
        time = np.searchsorted(self._times, block.ts_ns).clip(max=len(self._times) - 1)
        place = np.searchsorted(self._keys, symbol * len(self._times) + time)
        place = place.clip(max=len(self._keys) - 1)
        is_mine: NDArray[np.bool_] = (
            (symbol >= 0)
            & (self._times[time] == block.ts_ns)
            & (self._keys[place] == symbol * len(self._times) + time)
            & (block.interval_ns == self._interval_ns)
        )
        return np.where(is_mine, place, -1)
