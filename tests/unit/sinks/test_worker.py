from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import pytest

from sinks import worker
from sinks.clickhouse import ClickHouseSink
from sinks.owner import FolderOwner
from sinks.store import Store
from sinks.worker import Line, run
from streams.endpoint import Health
from streams.errors import BrokerError, HistoryError, HoleError
from streams.metrics import REGISTRY
from streams.positions import Delivered
from streams.settings import Settings
from tests.unit.sinks.frames import Tape


@dataclass
class Memory:
    """A sink that keeps frames in a list."""

    durable: list[Delivered] = field(default_factory=list)
    taken: list[Delivered] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    refuses: bool = False
    refused: int = 0
    is_behind: bool = False

    def resume(
        self, committed: Mapping[int, int | None], starts: Mapping[int, int]
    ) -> Mapping[int, int]:
        return {shard: offset or starts[shard] for shard, offset in committed.items()}

    def write(self, delivered: Sequence[Delivered]) -> None:
        self.taken += delivered

    def flush(self) -> Mapping[int, int]:
        if self.refuses:
            self.refused += 1
            raise HistoryError(f"the disk is full: {self.refused}")
        self.durable += self.taken
        self.batches.append(sum(d.frame.rows for d in self.taken))
        done = {d.frame.shard: d.offset + 1 for d in self.taken}
        self.taken = []
        return done

    def close(self) -> None:
        pass


@dataclass
class Topic:
    """A reader over a list of polls; one that is an error is raised."""

    polls: list[list[Delivered] | Exception]
    commits: dict[int, int] = field(default_factory=dict)
    assigned: Mapping[int, int] = field(default_factory=dict)
    broken_commits: int = 0
    broken_ends: int = 0
    now_s: float = 0.0

    def assign(self, offsets: Mapping[int, int]) -> None:
        self.assigned = offsets

    def poll(self, timeout_s: float = 1.0) -> list[Delivered]:
        self.now_s += timeout_s
        found = self.polls.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def starts(self) -> dict[int, int]:
        return {0: 0}

    def ends(self) -> dict[int, int]:
        if self.broken_ends:
            self.broken_ends -= 1
            raise BrokerError("the brokers are away")
        return {0: 100, 1: 0}

    def committed(self) -> dict[int, int | None]:
        return {0: None}

    def commit(self, offsets: Mapping[int, int]) -> None:
        if self.broken_commits:
            self.broken_commits -= 1
            raise BrokerError("the brokers are away")
        self.commits |= offsets

    def clock(self) -> float:
        return self.now_s

    def is_done(self) -> bool:
        return not self.polls


def frames(sessions: int = 1) -> list[Delivered]:
    tape = Tape()
    for day in range(sessions):
        tape.session(day)
    return tape.frames


def test_what_was_read_is_flushed_and_committed_at_the_stop() -> None:
    some = frames()
    sink, topic = Memory(), Topic([list(some)])
    run([Line(sink, topic)], topic.is_done, topic.clock)
    assert topic.assigned == {0: 0}
    assert topic.commits == {0: 4}
    assert sink.durable == some
    assert sink.batches == [30]


def test_a_batch_is_due_by_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BATCH_ROWS", 15)
    sink, topic = Memory(), Topic([frames(2)])
    run([Line(sink, topic)], topic.is_done, topic.clock)
    assert sink.batches == [15, 15, 15, 15, 0]
    assert topic.commits == {0: 8}


def test_a_batch_is_due_by_its_age() -> None:
    some = frames(2)
    sink, topic = Memory(), Topic([some[:3], *[[]] * 6, some[3:]])
    run([Line(sink, topic)], topic.is_done, topic.clock)
    assert sink.batches == [30, 30]


def test_a_commit_that_fails_is_made_up_for_without_writing_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink, topic = Memory(), Topic([frames(), *[[]] * 12], broken_commits=3)
    run([Line(sink, topic)], topic.is_done, topic.clock)
    assert topic.commits == {0: 4}
    assert sink.batches == [30]
    assert caplog.text.count("commit put off: the brokers are away") == 3


def test_what_came_before_a_hole_is_written_and_committed() -> None:
    hole = HoleError("frame", topic="t", partition=0, expected=4, got=9)
    sink, topic = Memory(), Topic([frames(), hole])
    with pytest.raises(HoleError):
        run([Line(sink, topic)], topic.is_done, topic.clock)
    assert sink.batches == [30]
    assert topic.commits == {0: 4}


def test_a_batch_that_the_store_refuses_is_not_committed() -> None:
    sink, topic = Memory(refuses=True), Topic([frames(), *[[]] * 12])
    with pytest.raises(HistoryError, match="disk is full: 1"):
        run([Line(sink, topic)], topic.is_done, topic.clock)
    assert topic.commits == {}
    # What it still holds is not to be written behind rows that are not there.
    assert sink.refused == 1


def test_rows_that_the_store_refused_leave_no_minutes_and_no_position(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise HistoryError("the disk is full")

    topic = Topic([frames(), *[[]] * 12])
    with FolderOwner(settings), closing(Store.open(settings)) as store:
        sink = ClickHouseSink(store)
        monkeypatch.setattr(sink, "_insert_bars", refuse)
        with pytest.raises(HistoryError, match="disk is full"):
            run([Line(sink, topic)], topic.is_done, topic.clock)
        assert store.rows("SELECT run FROM minutes UNION ALL SELECT run FROM positions") == []


def test_the_first_fault_is_the_one_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    hole = HoleError("frame", topic="t", partition=0, expected=4, got=9)
    sinks = [Memory(refuses=True), Memory(), Memory()]
    topics = [Topic([[*frames()]]), Topic([[*frames()]]), Topic([hole])]
    lines = [Line(sink, topic) for sink, topic in zip(sinks, topics, strict=True)]
    with pytest.raises(HoleError):
        run(lines, topics[0].is_done, topics[0].clock)
    assert [sink.batches for sink in sinks] == [[], [30], []]
    assert [topic.commits for topic in topics] == [{}, {0: 4}, {}]
    # The others are said, too.
    warned = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert warned == ["not stored, and read again at the next start: the disk is full: 1"]


def test_progress_and_lag_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sink, topic = Memory(), Topic([frames(), *[[]] * 120], broken_ends=1)
    run([Line(sink, topic)], topic.is_done, topic.clock)
    assert "lag unknown: the brokers are away" in caplog.text
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert line == "rows=0 rows_per_s=0 lag_offsets=96 positions=0:4"


def end_of(tape: Tape) -> Delivered:
    last = tape.start()
    return Delivered(replace(last.frame, event="end"), last.offset)


def test_the_end_of_a_run_is_written_at_once() -> None:
    tape = Tape()
    tape.session(0)
    sink, topic = Memory(), Topic([[*tape.frames, end_of(tape)], [], BrokerError("away")])
    topic.broken_commits = 0
    seen: list[int] = []

    def is_done() -> bool:
        seen.append(len(sink.batches))
        return len(topic.polls) == 1

    run([Line(sink, topic)], is_done, topic.clock)
    assert seen == [0, 1, 1]


def test_every_line_has_its_own_batches_and_positions() -> None:
    some = frames(2)
    lines = [(Memory(), Topic([some[:3], [], []])), (Memory(), Topic([[], some, []]))]
    main = lines[0][1]
    run([Line(*line) for line in lines], main.is_done, main.clock)
    (first, one), (second, two) = lines
    assert (first.batches, second.batches) == ([30], [60])
    assert (one.commits, two.commits) == ({0: 3}, {0: 8})
    # Nobody waits for a line but the first, and that only where nothing came.
    assert (one.now_s, two.now_s) == (worker.POLL_S, 0.0)


def test_an_error_of_one_line_lets_all_write_what_they_have() -> None:
    hole = HoleError("frame", topic="t", partition=0, expected=4, got=9)
    lines = [(Memory(), Topic([frames(), []])), (Memory(), Topic([frames()[:2], hole]))]
    with pytest.raises(HoleError):
        run([Line(*line) for line in lines], lambda: False, lines[0][1].clock)
    assert [topic.commits for _, topic in lines] == [{0: 4}, {0: 2}]


def test_the_report_is_over_all_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    some = frames()
    first, second = (Topic([some[:n], *[[]] * 80]) for n in (4, 2))
    lines = [Line(Memory(), first), Line(Memory(), second, "5m/")]
    run(lines, first.is_done, first.clock)
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert line.startswith("rows=45 rows_per_s=")
    assert line.endswith("lag_offsets=194 positions=0:4 5m/0:2")


def test_what_a_sink_still_has_to_write_is_due_though_nothing_comes() -> None:
    sink, topic = Memory(is_behind=True), Topic([frames(), *[[]] * 12])
    run([Line(sink, topic)], topic.is_done, topic.clock)
    assert sink.batches == [30, 0, 0]
    assert topic.commits == {0: 4}


def test_what_is_stored_is_counted_by_topic_and_shard(namespace: str) -> None:
    def told(what: str, **labels: str) -> float | None:
        given = {"namespace": namespace, "worker": "sink"} | labels
        return REGISTRY.get_sample_value(f"sessiontape_{what}", given)

    health = Health()
    first, second = (Topic([frames()[:n], *[[]] * 80]) for n in (4, 2))
    lines = [Line(Memory(), first, "", "a"), Line(Memory(), second, "5m/", "b")]
    run(lines, first.is_done, first.clock, namespace=namespace, health=health)
    assert told("rows_total", topic="a", shard="0") == 30
    assert told("rows_total", topic="b", shard="0") == 15
    assert told("lag_offsets", topic="a", shard="0") == 96
    assert told("lag_offsets", topic="b", shard="0") == 98
    assert told("flush_seconds_count") == 2
    assert health.problem() == ""


def test_what_a_store_refuses_is_not_counted(namespace: str) -> None:
    topic = Topic([frames(), *[[]] * 12])
    lines = [Line(Memory(refuses=True), topic, "", "a")]
    with pytest.raises(HistoryError):
        run(lines, topic.is_done, topic.clock, namespace=namespace)
    labels = {"namespace": namespace, "worker": "sink", "topic": "a", "shard": "0"}
    assert REGISTRY.get_sample_value("sessiontape_rows_total", labels) is None
