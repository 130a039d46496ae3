"""Batches that are out and wait to be handed on, whole or slice by slice."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from streams.client.batch import Batch, Position

__all__ = ["Line"]


class Line:
    """Hands batches on in order.

    Parameters
    ----------
    from_ns
        Slices before this ready time are not wanted.
    """

    def __init__(self, from_ns: int) -> None:
        self._from_ns = from_ns
        self._batches: deque[Batch] = deque()
        self._at = 0
        self._rows: list[int] = []

    def __len__(self) -> int:
        """Return the number of batches that are not wholly handed on."""
        return len(self._batches)

    def put(self, batches: Iterable[Batch]) -> None:
        """Take batches in, behind the others."""
        self._batches += batches

    def whole(self) -> Batch:
        """Hand on the first batch as it is."""
        return self._batches.popleft()

    def next(self, before: Position, *, by_slice: bool) -> tuple[Batch, bool]:
        """Hand on the first batch, or its next slice; tell whether it is wanted.

        ``before`` is the position in front of it.
        """
        batch = self._batches[0]
        start, size = self._at, len(batch.slice_ns)
        unwanted = int(np.searchsorted(batch.slice_ns, self._from_ns))
        is_wanted = batch.clock_ns >= self._from_ns and start >= unwanted
        end = size
        if not is_wanted:
            end = unwanted
        elif by_slice and end:
            end = start + 1
        part = batch
        if (start, end) != (0, size):
            if not start or not self._rows:
                self._rows = [0, *np.cumsum(batch.slice_rows).tolist()]
            part = batch.cut(start, end, before, (self._rows[start], self._rows[end]))
        self._at = end
        if end == size:
            self._at, self._rows = 0, []
            self._batches.popleft()
        return part, is_wanted
