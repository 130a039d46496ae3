"""Files of a day that were read last, as long as they stay as they were."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from streams.sources.protocol import BadRow, Block

__all__ = ["Day", "HeldDays", "stamp_of"]

HELD_ROWS = 500_000
"""Rows that are held at most, 52 bytes each: a day of 500 symbols with extended hours."""


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """One file: its rows, None when it can't be read; what is bad; how many lines were lost.

    ``stamp`` is the time of the last change in ns and the size in bytes.
    """

    bad: tuple[BadRow, ...]
    rows: Block | None = None
    lost: int = 0
    stamp: tuple[int, int] = (0, 0)


class HeldDays:
    """The files read last, as long as they stay as they were; for several threads at once."""

    def __init__(self) -> None:
        self._days: OrderedDict[Path, Day] = OrderedDict()
        self._rows = 0
        self._lock = threading.Lock()

    def of(self, path: Path) -> Day | None:
        """Return what the file held when it was read, None if that is not known any more."""
        if path not in self._days:
            return None
        stamp = stamp_of(path)
        with self._lock:
            day = self._days.get(path)
            if day is None or day.stamp != stamp:
                return None
            self._days.move_to_end(path)
        return day

    def keep(self, path: Path, day: Day) -> None:
        """Hold a file that could be read and let the oldest go; not all of them for one."""
        if day.rows is None or _cost(day) > HELD_ROWS:
            return
        with self._lock:
            self._rows -= _cost(self._days.pop(path, None))
            self._days[path] = day
            self._rows += _cost(day)
            while self._rows > HELD_ROWS:
                self._rows -= _cost(self._days.popitem(last=False)[1])


def _cost(day: Day | None) -> int:
    """Return the rows that a file counts for; one without any costs its place."""
    return 0 if day is None or day.rows is None else len(day.rows) + 1


def stamp_of(path: Path) -> tuple[int, int]:
    """Return when a file was changed and its size; of one that is gone, what no file has."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_mtime_ns, status.st_size
