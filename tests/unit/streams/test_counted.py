"""What the releases of a shard and the frames its keeper takes are counted as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from schemas import Coverage, Frame, Minutes
from streams.arrival import Rejection
from streams.counted import TOLD_S, KeptCounts, ReleaseCounts
from streams.coverage import Grid, Status
from streams.gaps import Due, Gaps, Limits
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.metrics import REGISTRY
from streams.pace import Stand
from streams.release import Release
from streams.topics import Topics
from tests.unit.streams.shards import WALL_NS, command, plain_frame, plan_for

PLAN = plan_for(replace(command(speed=1.0), upkeep=True), 0, 1)
SESSION = PLAN.sessions[0]
SHARD = 3


@pytest.fixture
def topics(namespace: str) -> Topics:
    """Counters live as long as the process: each test has a namespace of its own."""
    return Topics(namespace)


@dataclass
class Told:
    """What is told of a namespace."""

    topics: Topics
    labels: dict[str, str] = field(default_factory=dict)

    def __call__(self, what: str, **labels: str) -> float | None:
        given = {"namespace": self.topics.namespace, "shard": str(SHARD)} | labels
        given = {name: value for name, value in given.items() if value}
        return REGISTRY.get_sample_value(f"sessiontape_{what}", given)


@pytest.fixture
def told(topics: Topics) -> Told:
    return Told(topics)


def frame(event: str = "rows", rows: int = 0, **changes: object) -> Frame:
    place: dict[str, object] = {"shard": SHARD, "shards": 4, "clock_ns": SESSION.open_ns}
    return plain_frame(SESSION, event, rows=rows, **(place | changes))


def release(*frames: Frame, rejected: Sequence[str] = ()) -> Release:
    return Release(frames, (), tuple(Rejection(0, "why", b"", topic) for topic in rejected), {})


def test_a_release_is_counted(topics: Topics, told: Told) -> None:
    counts = ReleaseCounts(topics, SHARD)
    mine = {"worker": "coordinator", "topic": topics.session}
    other = {"worker": "coordinator", "shard": ""}
    assert told("rejected_total", topic=topics.raw_bars, **other) == 0
    assert told("incomplete_sessions_total") == 0
    late = np.array([2, 0, 1], np.int32)
    some = [frame(rows=5, slice_corrections=late), frame(rows=7, clock_ns=61 * SECOND_NS // 2)]
    counts.released(release(*some, rejected=(topics.raw_bars, topics.raw_ticks)), 10.0, 10.02)
    counts.released(release(frame(rows=1), rejected=(topics.raw_bars,)), 11.0, 11.5)
    assert told("rows_total", **mine) == 13
    assert told("corrections_total") == 3
    assert told("rejected_total", topic=topics.raw_bars, **other) == 2
    assert told("rejected_total", topic=topics.raw_ticks, **other) == 1
    assert told("rejected_total", topic=topics.raw_quotes, **other) == 0
    assert told("flush_seconds_count", **other) == 2
    assert told("flush_seconds_bucket", le="0.025", **other) == 1
    assert told("session_clock_seconds") == SESSION.open_ns / SECOND_NS
    counts.released(release(*some), 12.0, 12.5)
    assert told("session_clock_seconds") == 30.5


def test_sessions_rolls_and_transitions_are_counted(topics: Topics, told: Told) -> None:
    counts = ReleaseCounts(topics, SHARD)
    counts.released(release(frame("start")), 0.0, 1.0)
    assert told("open_sessions") == 0
    counts.released(release(frame("open", incomplete=True)), 2.0, 3.0)
    assert (told("open_sessions"), told("incomplete_sessions_total")) == (1, 1)
    counts.released(release(frame("rows", 1)), 2.0, 3.0)
    assert told("open_sessions") == 1
    # Close, roll and open with one commit; then one by one; then the end.
    counts.released(
        release(frame("close"), frame("roll", prefetched=True), frame("open")), 4.0, 4.5
    )
    assert told("open_sessions") == 1
    assert (told("transition_seconds_count"), told("transition_seconds_sum")) == (1, 0.5)
    counts.released(release(frame("close"), frame("roll")), 6.0, 6.5)
    assert told("open_sessions") == 0
    counts.released(release(frame("rows")), 7.0, 7.5)
    counts.released(release(frame("open")), 8.0, 8.25)
    assert (told("transition_seconds_count"), told("transition_seconds_sum")) == (2, 2.75)
    counts.released(release(frame("close"), frame("end")), 9.0, 9.5)
    counts.released(release(frame("start"), frame("open")), 20.0, 20.5)
    assert told("transition_seconds_count") == 2  # from run to run is none
    assert (told("rolls_total"), told("prefetch_hits_total")) == (2, 1)
    assert (told("sessions_total"), told("incomplete_sessions_total")) == (3, 1)


def test_where_a_shard_stands_is_told_until_it_is_let_go(topics: Topics, told: Told) -> None:
    now_ns = [WALL_NS]
    counts = ReleaseCounts(topics, SHARD, lambda: now_ns[0])
    assert told("clock_delay_seconds") is None
    counts.taken_over(frame("rows", clock_ns=SESSION.open_ns))
    assert told("takeovers_total", worker="coordinator") == 1
    assert told("open_sessions") == 1
    assert told("session_clock_seconds") == SESSION.open_ns / SECOND_NS
    assert told("clock_delay_seconds") == 0  # no run is on as far as is known
    counts.stands(Stand(PLAN, 0, SESSION.open_ns, True))
    now_ns[0] += 90 * SECOND_NS
    assert told("clock_delay_seconds") == 30  # the first minute was due after one
    now_ns[0] += 5 * SECOND_NS  # though its loop waits
    assert told("clock_delay_seconds") == 35
    counts.forget()
    for what in ("clock_delay_seconds", "open_sessions", "session_clock_seconds"):
        assert told(what) is None
    counts.released(release(frame("open", 4)), 0.0, 1.0)  # was under way
    assert told("open_sessions") is None
    assert told("session_clock_seconds") is None
    assert told("rows_total", worker="coordinator", topic=topics.session) == 4
    again = ReleaseCounts(topics, SHARD)
    again.taken_over(None)
    assert told("takeovers_total", worker="coordinator") == 2
    assert (told("open_sessions"), told("session_clock_seconds")) == (0, None)
    for last in (frame("roll"), frame("rows", waiting=True), frame("end")):
        again.taken_over(last)
        assert told("open_sessions") == 0


class Kept:
    """A keeper's counts over gaps that know of five minutes of three symbols."""

    def __init__(self, topics: Topics) -> None:
        self.now_s = 100.0
        self.gaps = Gaps(SHARD, Limits(3, SECOND_NS, SECOND_NS, 2))
        self.counts = KeptCounts(topics, SHARD, lambda: self.now_s)
        self.grid = Grid(SESSION, PLAN.interval_ns, PLAN.symbols)

    def say(self, status: Status, *cells: tuple[int, int]) -> None:
        where = np.zeros(self.grid.status.shape, np.bool_)
        where[tuple(np.array(cells).T)] = True
        self.grid.status[where] = status
        minutes: Minutes = self.grid.minutes(where)
        self.gaps.take(PLAN, frame(minutes=minutes), WALL_NS)


def test_minutes_are_counted_now_and_then_and_at_a_close(topics: Topics, told: Told) -> None:
    kept = Kept(topics)
    kept.say(Status.MISSING, (0, 0), (0, 1), (2, 4))
    kept.say(Status.NO_TRADE, (1, 1))
    at: dict[str, Any] = {"clock_ns": SESSION.open_ns + 2 * MINUTE_NS}
    kept.counts.minutes(frame(waiting=True, **at), kept.gaps)
    assert told("quality_ratio") is None
    kept.counts.minutes(frame(**at), kept.gaps)
    assert told("quality_ratio") == pytest.approx(4 / 6)
    assert told("gap_minutes", status="missing") == 3
    assert told("gap_minutes", status="no_trade") == 1
    assert told("gap_minutes", status="filled") == 0
    kept.say(Status.FILLED, (0, 0))
    kept.now_s += TOLD_S / 2
    kept.counts.minutes(frame(**at), kept.gaps)
    assert told("quality_ratio") == pytest.approx(4 / 6)
    kept.counts.minutes(frame("close", clock_ns=SESSION.close_ns), kept.gaps)
    assert told("quality_ratio") == pytest.approx(13 / 15)
    assert told("gap_minutes", status="filled") == 1
    kept.gaps.take(PLAN, frame("close"), WALL_NS)
    kept.counts.minutes(frame("end", session=""), kept.gaps)
    assert told("quality_ratio") == pytest.approx(13 / 15)  # that of the last session stays
    assert told("gap_minutes", status="missing") == 0
    kept.counts.forget()
    assert told("quality_ratio") is None
    assert told("gap_minutes", status="missing") is None
    kept.counts.minutes(frame("close"), kept.gaps)
    assert told("quality_ratio") is None


def test_what_is_asked_given_up_taken_and_derived_is_counted(topics: Topics, told: Told) -> None:
    kept = Kept(topics)
    assert (told("gap_requests_total"), told("gaps_given_up_total")) == (0, 0)
    kept.say(Status.MISSING, (0, 0), (2, 3), (2, 4))
    due: Due = kept.gaps.due(WALL_NS)
    kept.counts.asked(due.requests, due.given_up)
    assert (told("gap_requests_total"), told("gaps_given_up_total")) == (1, 0)
    lost = Coverage(PLAN.symbols, 0, 1, gaps=kept.grid.minutes(kept.grid.is_(Status.MISSING)))
    kept.counts.asked((), (lost, Coverage(PLAN.symbols, 0, 1)))
    assert (told("gap_requests_total"), told("gaps_given_up_total")) == (1, 2)
    kept.counts.taken_over()
    assert told("takeovers_total", worker="upkeep") == 1
    kept.counts.taken(frame(rows=5))
    kept.counts.taken(frame(rows=6))
    assert told("rows_total", worker="upkeep", topic=topics.session) == 11
    kept.counts.derived([("a", 2), ("b", 3), ("a", 4)], 0.25)
    assert told("rows_total", worker="upkeep", topic="a") == 6
    assert told("rows_total", worker="upkeep", topic="b") == 3
    assert told("flush_seconds_sum", worker="upkeep", shard="") == 0.25
