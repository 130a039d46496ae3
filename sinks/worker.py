"""The loop of a sink's process: frames in, batches out, offsets committed behind them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from sinks.protocol import Sink
from streams.errors import BrokerError, SessiontapeError
from streams.positions import Delivered

__all__ = ["Frames", "run"]

log = logging.getLogger(__name__)

BATCH_ROWS = 200_000
"""Rows at which a batch is written: one session of 500 symbols. More costs memory, not time."""

BATCH_S = 1.0
"""Age at which a batch is written even if it is small."""

POLL_S = 0.2
REPORT_S = 10.0


class Frames(Protocol):
    """What the loop needs of a ``FrameReader``."""

    def assign(self, offsets: Mapping[int, int]) -> None:
        """Read on from these offsets."""
        ...

    def poll(self, timeout_s: float = ...) -> list[Delivered]:
        """Return the frames that came."""
        ...

    def starts(self) -> dict[int, int]:
        """Return the first offset of every shard."""
        ...

    def ends(self) -> dict[int, int]:
        """Return the offset behind the last frame of every shard."""
        ...

    def committed(self) -> dict[int, int | None]:
        """Return what the group has committed."""
        ...

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit for the group."""
        ...


def run(
    sink: Sink,
    reader: Frames,
    stopping: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write the frames of ``reader`` into ``sink`` until ``stopping()``, then flush and commit.

    Raises
    ------
    HoleError
        Frames or rows are missing: what came before the hole is written and committed.
    HistoryError
        The store did not take a batch: it is read again at the next start.
    """
    reader.assign(sink.resume(reader.committed(), reader.starts()))
    batch = _Batch(sink, reader, clock)
    while not stopping():
        try:
            delivered = reader.poll(POLL_S)
        except SessiontapeError:
            batch.flush()
            raise
        batch.take(delivered)
        if batch.is_due():
            batch.flush()
        batch.report()
    batch.flush()


class _Batch:
    """What was read and is not yet durable, and the positions that are."""

    def __init__(self, sink: Sink, reader: Frames, clock: Callable[[], float]) -> None:
        self._sink = sink
        self._reader = reader
        self._clock = clock
        self._rows = 0
        self._since: float | None = None
        self._positions: dict[int, int] = {}
        self._uncommitted: dict[int, int] = {}
        self._reported_at = clock()
        self._rows_since_report = 0

    def take(self, delivered: Sequence[Delivered]) -> None:
        """Hand frames to the sink."""
        if not delivered:
            return
        self._sink.write(delivered)
        self._rows += sum(d.frame.rows for d in delivered)
        if self._since is None:
            self._since = self._clock()

    def is_due(self) -> bool:
        """Tell whether the batch is large or old enough to be written."""
        if self._since is None:
            return bool(self._uncommitted)
        return self._rows >= BATCH_ROWS or self._clock() - self._since >= BATCH_S

    def flush(self) -> None:
        """Write the batch, then commit the offsets behind it."""
        if self._since is not None:
            done = self._sink.flush()
            self._positions.update(done)
            self._uncommitted.update(done)
            self._rows_since_report += self._rows
            self._rows, self._since = 0, None
        if not self._uncommitted:
            return
        try:
            self._reader.commit(self._uncommitted)
        except BrokerError as exc:
            # The rows are in the store: only the commit has to be made up for.
            log.warning("commit put off: %s", exc)
        else:
            self._uncommitted.clear()

    def report(self) -> None:
        """Log progress and lag every ``REPORT_S``."""
        now = self._clock()
        took_s = now - self._reported_at
        if took_s < REPORT_S:
            return
        try:
            ends = self._reader.ends()
        except BrokerError as exc:
            log.warning("lag unknown: %s", exc)
        else:
            lag = {s: end - self._positions[s] for s, end in ends.items() if s in self._positions}
            log.info(
                "rows=%d rows_per_s=%.0f lag_offsets=%d positions=%s",
                self._rows_since_report,
                self._rows_since_report / took_s,
                sum(lag.values()),
                " ".join(f"{s}:{offset}" for s, offset in sorted(self._positions.items())),
            )
        self._reported_at, self._rows_since_report = now, 0
