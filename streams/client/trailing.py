"""Sessions from before a run's first, read beside the tape and never instead of it.

They stand on the history topic: newest first, frames a shard and session, behind them one that
says ``end``. A session is handed on when every shard has sent all of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np

from schemas import Frame
from schemas.records import BarColumns, DerivedColumns, Ints, Longs
from streams.client.batch import DerivedBars
from streams.client.past import Trailing
from streams.client.reader import Reader
from streams.errors import HoleError, SessiontapeError
from streams.finals import known_ns
from streams.intervals import interval_ns

__all__ = ["Days", "TrailingReader"]

log = logging.getLogger(__name__)

CATCH_UP_S = 10.0
POLL_S = 0.05
C = TypeVar("C", BarColumns, DerivedColumns)
_NOTHING: Any = np.empty(0, np.int64)
Loading: TypeAlias = tuple[str, Callable[[], Trailing]]
"""Label of a session, and what puts its frames together."""


@dataclass
class _Run:
    """What came of one run.

    Attributes
    ----------
    command
        Version of its command: later runs have higher ones.
    frames
        Frames of each session that is not handed on.
    at
        Session whose frames a shard sends now.
    passed
        Shards that have sent all of a session.
    ended
        Shards that have sent all sessions.
    """

    command: int
    frames: dict[str, list[Frame]] = field(default_factory=dict)
    at: dict[int, str] = field(default_factory=dict)
    passed: dict[str, set[int]] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)


class Days:
    """Puts sessions together from the frames of all shards: pure.

    Parameters
    ----------
    shards
        Number of shards.
    lengths
        Lengths that bars may have been derived for, in ns: a bar as long as its session does not
        tell whether it was meant to be longer.
    wants
        Tells whether a symbol is wanted.
    """

    def __init__(
        self, shards: int, lengths: Iterable[int] = (), wants: Callable[[str], bool] = bool
    ) -> None:
        self._shards = frozenset(range(shards))
        self._lengths = frozenset(lengths)
        self._wants = wants
        self._runs: dict[str, _Run] = {}

    def add(self, frame: Frame) -> None:
        """Take the next frame of its shard."""
        run = self._runs.setdefault(frame.run, _Run(frame.command))
        before = run.at.get(frame.shard)
        if before is not None and before != frame.session:
            run.passed.setdefault(before, set()).add(frame.shard)
        if frame.event == "end":
            run.ended.add(frame.shard)
            return
        run.at[frame.shard] = frame.session
        run.frames.setdefault(frame.session, []).append(frame)

    def take(self, run: str) -> Iterator[Loading]:
        """Give the sessions of a run that are whole by now, newest first, each once.

        What came of earlier runs is dropped.
        """
        if run not in self._runs:
            return
        mine = self._runs[run]
        self._runs = {name: r for name, r in self._runs.items() if r.command >= mine.command}
        for label in sorted(mine.frames, reverse=True):
            if not mine.passed.get(label, set()) | mine.ended >= self._shards:
                return  # an older one would stand behind a hole
            frames = mine.frames.pop(label)
            yield label, partial(_trailing, label, frames, self._lengths, self._wants)

    def is_over(self, run: str) -> bool:
        """Tell whether every shard has sent all sessions of a run."""
        return run in self._runs and self._runs[run].ended >= self._shards


class TrailingReader:
    """Reads the history topic without waiting, but for what was there before the stream.

    Parameters
    ----------
    reader
        Over that topic; this closes it.
    lengths
        Lengths that bars may have been derived for, such as ``"1d"``.
    wants
        Tells whether a symbol is wanted.
    """

    def __init__(
        self, reader: Reader, lengths: Sequence[str] = (), wants: Callable[[str], bool] = bool
    ) -> None:
        self._reader: Reader | None = reader
        last = reader.last()
        self._target = {shard: one.offset for shard, one in last.items() if one is not None}
        self._days = Days(len(last), map(interval_ns, lengths), wants)
        reader.assign(reader.starts())

    def poll(self, run: str) -> bool:
        """Take in what came, if it can be of use to a reader of ``run``; tell if any did.

        The first call waits for what was there before the stream: a reader that joins late then
        knows no less than the others from its first frame on.
        """
        if self._target:
            deadline = time.monotonic() + CATCH_UP_S
            while self._target and self._reader is not None and time.monotonic() < deadline:
                self._take(self._reader, POLL_S)
            self._target = {}
        if self._reader is None or not run or self._days.is_over(run):
            return False
        return self._take(self._reader, 0.0)

    def dont_wait(self) -> None:
        """Don't wait for what was there before: it is of no use to this reader."""
        self._target = {}

    def is_over(self, run: str) -> bool:
        """Tell whether all that there is for a run has come."""
        return self._days.is_over(run)

    def take(self, run: str) -> Iterator[Loading]:
        """Give the sessions of a run that are whole by now, newest first, each once."""
        return self._days.take(run)

    def close(self) -> None:
        """Leave the brokers."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _take(self, reader: Reader, timeout_s: float) -> bool:
        try:
            came = reader.poll(timeout_s)
        except HoleError:  # an earlier run's were deleted while we read them
            reader.assign(reader.starts())
            return True
        except SessiontapeError as exc:
            log.warning("there will be no more trailing sessions from before the run: %s", exc)
            self.close()
            return False
        for one in came:
            self._days.add(one.frame)
            if one.offset >= self._target.get(one.frame.shard, one.offset + 1):
                del self._target[one.frame.shard]
        return bool(came)


def _trailing(
    label: str, frames: Sequence[Frame], lengths: frozenset[int], wants: Callable[[str], bool]
) -> Trailing:
    """Return the bars of all frames of a session as one."""
    symbols = tuple(sorted({n for frame in frames for n in frame.symbols if wants(n)}))
    place = {name: at for at, name in enumerate(symbols)}
    bars: list[Any] = []
    derived: list[Any] = []
    known: list[Longs] = [np.empty(0, np.int64)]
    for frame in frames:
        at = np.array([place.get(name, -1) for name in frame.symbols], np.int32)
        if frame.bars is not None:
            own = np.flatnonzero(at[frame.bars.symbol] >= 0)
            times = known_ns(frame.slice_ns, frame.slice_rows, frame.bars.row, len(frame.bars))
            known.append(times[own])
            bars.append((frame.bars.take(own), at))
        if frame.derived is not None:
            derived.append((frame.derived.take(np.flatnonzero(at[frame.derived.symbol] >= 0)), at))
    found = _joined(BarColumns, bars)
    longer = _joined(DerivedColumns, derived)
    return Trailing(
        label, symbols, found, np.concatenate(known), _of_lengths(longer, frames[0], lengths)
    )


def _joined(cls: type[C], parts: Sequence[tuple[C, Ints]]) -> C:
    """Return the rows of all parts, each with the place of its symbols among those of all."""
    values: dict[str, Any] = {}
    for name in cls.columns:
        columns = [getattr(part, name) for part, _ in parts]
        if name == "symbol":
            columns = [at[part.symbol] for part, at in parts]
        values[name] = np.concatenate(columns) if columns else _NOTHING
    return cls(**values)


def _of_lengths(bars: DerivedColumns, frame: Frame, lengths: frozenset[int]) -> DerivedBars:
    """Return the bars of each length that was asked for; one that the close cut may be of many."""
    ts, interval, all_ns = bars.ts_ns, bars.interval_ns, frame.close_ns - frame.open_ns
    is_last = ts + interval == frame.close_ns
    found = {*np.unique(interval[~is_last]).tolist()}
    if bool((interval == all_ns).any()):
        found |= {length for length in lengths if length >= all_ns}
    index, of = [_NOTHING], [_NOTHING]
    is_found = np.zeros(len(bars), np.bool_)
    for length in sorted(found):
        fits = (ts - frame.open_ns) % length == 0
        fits &= interval == np.minimum(length, frame.close_ns - ts)
        is_found |= fits
        index.append(np.flatnonzero(fits))
        of.append(np.full(len(index[-1]), length))
    index.append(np.flatnonzero(~is_found))  # no other tells that it was meant to be longer
    of.append(interval[~is_found])
    own = bars.take(np.concatenate(index).astype(np.intp))
    columns = {name: getattr(own, name) for name in DerivedColumns.columns}
    return DerivedBars(**columns, length_ns=np.concatenate(of).astype(np.int64))
