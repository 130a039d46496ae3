"""The loop of a sink's process: frames in, batches out, offsets committed behind them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from sinks.protocol import Sink
from streams.errors import BrokerError, SessiontapeError
from streams.positions import Delivered, FrameReader
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["Frames", "has_caught_up", "run"]

log = logging.getLogger(__name__)

BATCH_ROWS = 100_000
"""Rows at which a batch is written. More of them cost memory and save no time (measured)."""

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
        for item in delivered:
            batch.take(item)
            if batch.is_due():  # a poll may bring many batches
                batch.flush()
        if batch.is_due():
            batch.flush()
        batch.report()
    batch.flush()


def has_caught_up(settings: Settings) -> bool:
    """Tell whether the sink has stored every frame that is on the session topic now.

    Raises
    ------
    TopicError, BrokerError
        The topic can't be read.
    """
    with FrameReader(settings, group=Topics(settings.namespace).sink) as reader:
        committed = reader.committed()
        # Not the end of the partition: behind the last frame come markers of transactions.
        return all(
            last is None or (committed[shard] or 0) > last.offset
            for shard, last in reader.last().items()
        )


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

    def take(self, delivered: Delivered) -> None:
        """Hand a frame to the sink."""
        self._sink.write((delivered,))
        self._rows += delivered.frame.rows
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
