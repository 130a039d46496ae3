"""What the releases of a shard and the frames its keeper takes are counted as."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from schemas.records import Coverage, DataRequest, Frame
from streams import metrics
from streams.coverage import Status
from streams.gaps import Gaps
from streams.intervals import SECOND_NS
from streams.pace import Stand
from streams.release import Release
from streams.topics import Topics

__all__ = ["KeptCounts", "ReleaseCounts"]

TOLD_S = 1.0
"""Minutes of the session that plays are counted so often; when it closes in any case."""
STATUSES = (
    Status.NO_TRADE,
    Status.MISSING,
    Status.REQUESTED,
    Status.FILLED,
    Status.GIVEN_UP,
    Status.HALTED,
)
"""Of the others the tape says nothing."""


class ReleaseCounts:
    """Counts what the owner of a shard writes.

    Parameters
    ----------
    topics, shard
        Whose it is.
    wall_ns
        Tells the wall time, ns since the epoch, UTC.
    """

    def __init__(
        self, topics: Topics, shard: int, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._place = topics.namespace, shard
        self._worker = topics.namespace, "coordinator"
        self._wall_ns = wall_ns
        self._stand: Stand | None = None
        self._closing_s: float | None = None
        self._is_over = False
        self._rows = metrics.ROWS.labels(*self._worker, shard, topics.session)
        # From 0 on: of a counter that begins with its first event Prometheus sees no increase.
        metrics.CORRECTIONS.labels(*self._place)
        metrics.INCOMPLETE.labels(*self._place)
        for topic in topics.raw:
            metrics.REJECTED.labels(*self._worker, topic)

    def taken_over(self, last: Frame | None) -> None:
        """Count that the shard was taken over, and say where it stands."""
        metrics.TAKEOVERS.labels(*self._worker, self._place[1]).inc()
        metrics.CLOCK_DELAY.labels(*self._place).set_function(self._delay_s)
        is_open = last is not None and last.event in ("open", "rows") and not last.waiting
        metrics.OPEN_SESSIONS.labels(*self._place).set(is_open)
        if last is not None:
            metrics.SESSION_CLOCK.labels(*self._place).set(last.clock_ns / SECOND_NS)

    def stands(self, stand: Stand | None) -> None:
        """Take note of where the clock stands; how far it is behind is found out when asked for.

        So it grows also while the owner waits for the brokers.
        """
        self._stand = stand

    def released(self, release: Release, began_s: float, ended_s: float) -> None:
        """Count what was written from one time to another, seconds of one clock."""
        frames = release.frames
        metrics.FLUSH.labels(*self._worker).observe(ended_s - began_s)
        self._rows.inc(sum(frame.rows for frame in frames))
        corrections = sum(int(frame.slice_corrections.sum()) for frame in frames)
        metrics.CORRECTIONS.labels(*self._place).inc(corrections)
        for rejection in release.rejections:
            metrics.REJECTED.labels(*self._worker, rejection.topic).inc()
        for frame in frames:
            if frame.event != "rows":
                self._event(frame, began_s, ended_s)
        if self._is_over:  # what was under way when the shard was let go
            return
        metrics.SESSION_CLOCK.labels(*self._place).set(frames[-1].clock_ns / SECOND_NS)
        events = [frame.event for frame in frames if frame.event != "rows"]
        if events:
            metrics.OPEN_SESSIONS.labels(*self._place).set(events[-1] == "open")

    def forget(self) -> None:
        """Tell nothing more of where the shard stands: it may be another worker's."""
        self._is_over = True
        for gauge in (metrics.CLOCK_DELAY, metrics.OPEN_SESSIONS, metrics.SESSION_CLOCK):
            gauge.remove(*self._place)

    def _event(self, frame: Frame, began_s: float, ended_s: float) -> None:
        place, event = self._place, frame.event
        if event == "open":
            if self._closing_s is not None:
                metrics.TRANSITION.labels(*place).observe(ended_s - self._closing_s)
            metrics.INCOMPLETE.labels(*place).inc(frame.incomplete)
        elif event == "close":
            metrics.SESSIONS.labels(*place).inc()
        elif event == "roll":
            metrics.ROLLS.labels(*place).inc()
            metrics.PREFETCH_HITS.labels(*place).inc(frame.prefetched)
        # A close is followed by a roll and an open, or by the end of the run.
        if event == "close":
            self._closing_s = began_s
        elif event != "roll":
            self._closing_s = None

    def _delay_s(self) -> float:
        stand = self._stand
        return 0.0 if stand is None else stand.delay_ns(self._wall_ns()) / SECOND_NS


class KeptCounts:
    """Counts what the keeper of a shard takes and asks for.

    Parameters
    ----------
    topics, shard
        Whose it is.
    clock
        Tells seconds, from any start.
    """

    def __init__(
        self, topics: Topics, shard: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._place = topics.namespace, shard
        self._worker = topics.namespace, "upkeep"
        self._clock = clock
        self._told_s = -TOLD_S
        self._is_over = False
        self._rows = metrics.ROWS.labels(*self._worker, shard, topics.session)
        self.asked((), ())  # from 0 on, as above

    def taken_over(self) -> None:
        """Count that the shard was taken over."""
        metrics.TAKEOVERS.labels(*self._worker, self._place[1]).inc()

    def taken(self, frame: Frame) -> None:
        """Count a frame of the tape."""
        self._rows.inc(frame.rows)

    def minutes(self, frame: Frame, gaps: Gaps) -> None:
        """Count the minutes of the sessions at hand, if it is time.

        Before the frame of a close is taken: then its session is gone. That of an end comes last.
        """
        now_s = self._clock()
        is_due = frame.event in ("close", "end") or now_s - self._told_s >= TOLD_S
        if not is_due or frame.waiting or self._is_over:
            return
        self._told_s = now_s
        if frame.session:
            quality = gaps.quality(frame.session, frame.clock_ns)
            metrics.QUALITY.labels(*self._place).set(quality)
        counts = gaps.minutes()
        for status in STATUSES:
            metrics.GAP_MINUTES.labels(*self._place, status.label).set(counts[status])

    def asked(self, requests: Sequence[DataRequest], given_up: Sequence[Coverage]) -> None:
        """Count requests for gaps, and gaps that were given up."""
        metrics.GAP_REQUESTS.labels(*self._place).inc(len(requests))
        found = sum(len(answer.gaps) for answer in given_up if answer.gaps is not None)
        metrics.GAPS_GIVEN_UP.labels(*self._place).inc(found)

    def derived(self, rows: Sequence[tuple[str, int]], took_s: float) -> None:
        """Count derived frames that were written in one transaction: topic and rows of each."""
        metrics.FLUSH.labels(*self._worker).observe(took_s)
        for topic, count in rows:
            metrics.ROWS.labels(*self._worker, self._place[1], topic).inc(count)

    def forget(self) -> None:
        """Tell nothing more of the minutes: the shard may be another worker's."""
        self._is_over = True
        metrics.QUALITY.remove(*self._place)
        for status in STATUSES:
            metrics.GAP_MINUTES.remove(*self._place, status.label)
