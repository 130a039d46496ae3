"""The loop of a sink's process: frames in, batches out, offsets committed behind them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from sinks.protocol import Sink
from streams.endpoint import Health
from streams.errors import BrokerError, SessiontapeError
from streams.metrics import FLUSH, ROWS, Lag
from streams.positions import Delivered

__all__ = ["Frames", "Line", "run"]

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


class Line(NamedTuple):
    """A topic that is read, and the sink that its frames go into.

    Attributes
    ----------
    name
        What its positions are called in the log; empty for the session topic.
    topic
        What its rows are counted by.
    """

    sink: Sink
    reader: Frames
    name: str = ""
    topic: str = ""


def run(
    lines: Sequence[Line],
    stopping: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    *,
    namespace: str = "",
    health: Health | None = None,
) -> None:
    """Write the frames of each line into its sink until ``stopping()``, then flush and commit.

    One thread reads them in turn, and waits, where none has a frame, for the first.

    Parameters
    ----------
    lines, stopping, clock
        What is read, when it ends, and what tells its seconds.
    namespace, health
        By what it is counted, and what is told that the loop goes round.

    Raises
    ------
    HoleError
        Frames or rows are missing: what came before the hole is written and committed.
    HistoryError
        The store did not take a batch: it is read again at the next start.
    """
    health = health or Health()
    batches = [_Batch(line, clock, namespace) for line in lines]
    for sink, reader, *_ in lines:
        reader.assign(sink.resume(reader.committed(), reader.starts()))
    report = _Report(batches, clock)
    came = 0
    while not stopping():
        wait_s = 0.0 if came else POLL_S
        came = 0
        try:
            for batch in batches:
                came += batch.poll(wait_s)
                wait_s = 0.0
        except SessiontapeError:
            for batch in batches:
                try:
                    batch.flush()
                except SessiontapeError as exc:  # the first fault is the one that ends the sink
                    log.warning("not stored, and read again at the next start: %s", exc)
            raise
        report.tell()
        health.beat()
    for batch in batches:
        batch.flush()


class _Batch:
    """What was read of a line and is not yet durable, and the positions that are."""

    def __init__(self, line: Line, clock: Callable[[], float], namespace: str) -> None:
        self.sink, self.reader, self.name, topic = line
        self.lag = Lag(namespace, "sink", topic)
        self.positions: dict[int, int] = {}
        self.rows_written = 0
        self._worker, self._topic = (namespace, "sink"), topic
        self._rows: Counter[int] = Counter()  # by shard
        self._clock = clock
        self._since: float | None = None
        self._is_end = False
        self._uncommitted: dict[int, int] = {}

    def poll(self, wait_s: float) -> int:
        """Take the frames that came, and write what is due; return how many came."""
        delivered = self.reader.poll(wait_s)
        for item in delivered:
            self._take(item)
            if self._is_due():  # a poll may bring many batches
                self.flush()
        if self._is_due():
            self.flush()
        return len(delivered)

    def flush(self) -> None:
        """Write the batch, then commit the offsets behind it."""
        if self._since is not None:
            began_s = self._clock()
            # A sink that refuses has nothing left to write: all of it is read again.
            self._since = None
            done = self.sink.flush()
            self._count(self._clock() - began_s)
            self.positions.update(done)
            self._uncommitted.update(done)
            self._is_end = False
            self._since = self._clock() if self.sink.is_behind else None
        if not self._uncommitted:
            return
        try:
            self.reader.commit(self._uncommitted)
        except BrokerError as exc:
            # The rows are in the store: only the commit has to be made up for.
            log.warning("commit put off: %s", exc)
        else:
            self._uncommitted.clear()

    def _count(self, took_s: float) -> None:
        FLUSH.labels(*self._worker).observe(took_s)
        for shard, rows in self._rows.items():
            ROWS.labels(*self._worker, shard, self._topic).inc(rows)
        self.rows_written += self._rows.total()
        self._rows.clear()

    def _take(self, delivered: Delivered) -> None:
        self.sink.write((delivered,))
        self._rows[delivered.frame.shard] += delivered.frame.rows
        self._is_end |= delivered.frame.event == "end"
        if self._since is None:
            self._since = self._clock()

    def _is_due(self) -> bool:
        """Tell whether the batch is large or old enough to be written, or nothing more comes."""
        if self._since is None:
            return bool(self._uncommitted)
        is_old = self._clock() - self._since >= BATCH_S
        return self._rows.total() >= BATCH_ROWS or is_old or self._is_end


class _Report:
    """Logs progress and lag every ``REPORT_S``."""

    def __init__(self, batches: Sequence[_Batch], clock: Callable[[], float]) -> None:
        self._batches = batches
        self._clock = clock
        self._at = clock()
        self._rows = 0

    def tell(self) -> None:
        """Log a line if it is time."""
        now = self._clock()
        took_s = now - self._at
        if took_s < REPORT_S:
            return
        rows = sum(batch.rows_written for batch in self._batches)
        lag, positions = 0, []
        try:
            for batch in self._batches:
                done = sorted(batch.positions.items())
                ends = batch.reader.ends() if done else {}
                behind = {shard: ends[shard] - offset for shard, offset in done}
                batch.lag.tell(behind)
                lag += sum(behind.values())
                positions += [f"{batch.name}{shard}:{offset}" for shard, offset in done]
        except BrokerError as exc:
            log.warning("lag unknown: %s", exc)
        else:
            log.info(
                "rows=%d rows_per_s=%.0f lag_offsets=%d positions=%s",
                *(rows - self._rows, (rows - self._rows) / took_s, lag, " ".join(positions)),
            )
        self._at, self._rows = now, rows
