"""The coordinator on a real broker: sessions, time-outs, commands, and what it throws away."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka.admin import NewTopic

from schemas import Coverage, Frame
from streams.calendar import sessions_between
from streams.kafka import admin
from streams.local import LocalBroker
from streams.positions import FrameReader
from streams.topics import Topics
from tests.harness import Tape
from tests.rows import expected_rows


@dataclass(frozen=True)
class Days:
    """A stretch of a calendar, and by hand what its sessions are: open, close, bars expected."""

    calendar: str
    start: str
    end: str
    hours: str
    sessions: dict[str, tuple[str, str, int]]


STRETCHES = {
    "half-day and holiday": Days(
        "XNYS",
        "2024-11-27",
        "2024-12-02",
        "regular",
        {
            "2024-11-27": ("14:30", "21:00", 390),
            "2024-11-29": ("14:30", "18:00", 210),
            "2024-12-02": ("14:30", "21:00", 390),
        },
    ),
    "extended hours": Days(
        "XNYS",
        "2024-11-27",
        "2024-11-29",
        "extended",
        {"2024-11-27": ("09:00", "01:00", 960), "2024-11-29": ("09:00", "22:00", 780)},
    ),
    "hours of one's own, in summer": Days(
        "XNYS", "2024-07-08", "2024-07-08", "10:00-11:15", {"2024-07-08": ("14:00", "15:15", 75)}
    ),
    "a weekend of 24/7": Days(
        "24/7",
        "2024-11-30",
        "2024-12-01",
        "regular",
        {"2024-11-30": ("00:00", "00:00", 1440), "2024-12-01": ("00:00", "00:00", 1440)},
    ),
}


@pytest.fixture(scope="module")
def tape(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tape]:
    """One tape of two shards; each test plays a run of its own on it."""
    folder = tmp_path_factory.mktemp("coordinator")
    with Tape(broker.bootstrap_servers, "coordinated", folder, partitions=2) as made:
        made.coordinator()
        yield made


def send_all(tape: Tape, run: str, days: Days, source: str) -> None:
    """Send all the source has of these days, and vouch for it."""
    tape.source = source
    with tape.sender() as send:
        for session in sessions_between(days.calendar, days.start, days.end, days.hours):
            for shard, block in tape.blocks(session, step=5000):
                send(replace(block, run=run), shard)
            for shard, coverage in tape.coverages(session):
                send(replace(coverage, run=run), shard)


def clock(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%H:%M")


@pytest.mark.parametrize("name", STRETCHES)
def test_sessions_are_those_of_the_calendar(tape: Tape, name: str) -> None:
    days, run = STRETCHES[name], name
    hours = days.hours if days.hours in ("regular", "extended") else "regular"
    source = f"synthetic:symbols=4,missing=0.01,calendar={days.calendar},hours={hours}"
    tape.symbols = ("SYN0001", "SYN0002", "SYN0003", "SYN0004")
    tape.start(days.start, days.end, run=run, calendar=days.calendar, hours=days.hours)
    send_all(tape, run, days, source)
    tape.play(run)
    expected = expected_rows(source, days.calendar, days.start, days.end, days.hours)
    assert tape.rows(run) == expected
    labels = list(days.sessions)
    events = [f"{event} {label}" for label in labels for event in ("roll", "open", "close")]
    for shard in (0, 1):
        assert tape.events(shard, run) == ["start", *events[1:], "end"]
        frames = tape.frames_of(run, shard)
        for label, (opens, closes, bars) in days.sessions.items():
            mine = [f for f in frames if f.session == label and f.event == "rows"]
            assert {(clock(f.open_ns), clock(f.close_ns)) for f in mine} == {(opens, closes)}
            assert mine[-1].clock_ns == mine[-1].close_ns
            per_symbol = marks(mine, "expected") / len(mine[0].symbols)
            assert per_symbol == bars == mine[0].expected
            got = sum(frame.rows for frame in mine)
            assert (
                marks(mine, "received") == got == marks(mine, "expected") - marks(mine, "missing")
            )
        assert not any(f.incomplete or f.reason for f in frames)


def marks(frames: list[Frame], name: str) -> int:
    return sum(int(getattr(frame, f"slice_{name}").sum()) for frame in frames)


def test_a_shard_without_symbols_sends_its_clock(tape: Tape) -> None:
    days = Days("XNYS", "2024-11-29", "2024-11-29", "regular", {})
    tape.symbols = ("SYN0001",)
    with_rows = tape.shard_of("SYN0001")
    tape.start(days.start, days.end, run="lonely", speed=210 * 60 / 3)
    send_all(tape, "lonely", days, "synthetic:symbols=1")
    tape.play("lonely")
    assert len(tape.rows("lonely")) == 210
    quiet = tape.frames_of("lonely", 1 - with_rows)
    assert [f.event for f in quiet if f.event != "rows"] == ["start", "open", "close", "end"]
    clocks = [frame.clock_ns for frame in quiet]
    assert clocks == sorted(clocks)
    assert len(set(clocks)) > 5, "its clock moves with the replay, not at its end"
    assert sum(frame.rows for frame in quiet) == 0


def test_what_a_source_cannot_say_is_incomplete_at_once(tape: Tape) -> None:
    tape.symbols = ("SYN0001", "SYN0002")
    days = Days("XNYS", "2024-11-29", "2024-11-29", "regular", {})
    silent = tape.shard_of("SYN0002")
    (session,) = sessions_between("XNYS", days.start, days.end)
    tape.source = "synthetic:symbols=1"
    tape.start(days.start, days.end, run="silent")
    with tape.sender() as send:
        for shard, block in tape.blocks(session):
            send(replace(block, run="silent"), shard)
        for symbol, answer in (("SYN0001", "rows"), ("SYN0002", "cannot_say")):
            vouched = Coverage((symbol,), session.open_ns, session.close_ns, answer, run="silent")
            send(vouched, tape.shard_of(symbol))
    tape.play("silent")
    opened = {f.shard: f for f in tape.frames_of("silent") if f.event == "open"}
    assert opened[silent].incomplete
    assert opened[silent].reason == "no source can say: SYN0002"


@pytest.mark.parametrize("on_timeout", ["go_on", "stop"])
def test_a_session_whose_data_stops_coming_times_out(tape: Tape, on_timeout: str) -> None:
    run, labels = f"timeout {on_timeout}", ["2024-11-27", "2024-11-29"]
    one, two = tape.symbols = (symbol(tape, 0), symbol(tape, 1))
    tape.source = "synthetic:symbols=9"
    first, second = sessions_between("XNYS", *labels)
    started_s = time.monotonic()
    tape.start(*labels, run=run, session_timeout_s=2.0, on_timeout=on_timeout)
    with tape.sender() as send:
        # Rows of both; only one of them is vouched for.
        for shard, block in tape.blocks(first):
            send(replace(block, run=run), shard)
        vouched = [Coverage((one,), s.open_ns, s.close_ns, run=run) for s in (first, second)]
        for coverage in vouched:
            send(coverage, 0)
    tape.play(run)
    assert time.monotonic() - started_s >= 2.0
    assert len(tape.rows(run)) == 2 * 390, "what came is played"
    late = [f for f in tape.frames_of(run, 1) if f.event in ("open", "rows", "close")]
    for frame in late:
        assert frame.incomplete
        said = re.fullmatch(r"nothing came for (\d+) s; no coverage of (\w+)", frame.reason)
        assert said, frame.reason
        assert int(said[1]) >= 2
        assert said[2] == two
    opens = [event for event in tape.events(1, run) if event.startswith("open")]
    assert opens == [f"open {label}" for label in labels[: 2 if on_timeout == "go_on" else 1]]
    assert not any(f.incomplete for f in tape.frames_of(run, 0))


def symbol(tape: Tape, shard: int) -> str:
    """Return a symbol of the shard."""
    return next(
        name for name in (f"SYN{n:04d}" for n in range(1, 10)) if tape.shard_of(name) == shard
    )


def test_a_new_run_replaces_the_one_that_plays_and_stop_ends_it(tape: Tape) -> None:
    days = Days("XNYS", "2024-11-27", "2024-11-29", "regular", {})
    source = "synthetic:symbols=4"
    tape.symbols = ("SYN0001", "SYN0002", "SYN0003", "SYN0004")
    # Ten minutes of tape a second: it would take a minute.
    tape.start(days.start, days.end, run="old", speed=600.0)
    send_all(tape, "old", days, source)
    tape.until(lambda: len(tape.rows("old")) > 8, "rows of the old run")
    tape.start(days.start, days.end, run="new", speed=600.0)
    send_all(tape, "new", days, source)
    tape.until(lambda: len(tape.rows("new")) > 8, "rows of the new run")
    tape.command(action="stop", stopped=True)
    tape.until(lambda: tape.ended("new"), "the end of the new run")
    for shard in (0, 1):
        assert tape.events(shard, "old") == ["start", "open 2024-11-27"]
        assert tape.events(shard, "new") == ["start", "open 2024-11-27", "end"]
        last = tape.frames_of("new", shard)[-1]
        assert (last.state, last.reason) == ("stopped", "stopped by command")
        numbers = [d.frame.frame for d in tape.frames[shard]]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        runs = [d.frame.run for d in tape.frames[shard]]
        assert runs.index("new") > max(n for n, run in enumerate(runs) if run == "old")
    expected = expected_rows(source, "XNYS", days.start, days.end)
    for run in ("old", "new"):
        rows = tape.rows(run)
        assert rows == expected[: len(rows)]
        assert len(rows) < len(expected) / 2


def test_topics_are_cut_behind_what_is_needed_and_named_readers_are_waited_for(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    """Eight sessions of which two trail: the disk holds a few of them, whoever lags."""
    start, end = "2024-11-18", "2024-11-27"
    with Tape(broker.bootstrap_servers, namespace, tmp_path) as tape:
        tape.coordinator()
        tape.producer()
        laggard = FrameReader(tape.settings, f"{namespace}.laggard")
        readers = (f"{namespace}.laggard", tape.group)
        tape.start(start, end, trailing_sessions=2, prefetch_sessions=1, readers=readers)
        labels = [session.label for session in sessions_between("XNYS", start, end)]
        opened: list[int] = []
        for label in labels[1:]:
            tape.until(lambda label=label: f"roll {label}" in tape.events(), f"the roll to {label}")  # type: ignore[misc]
            opens = [d for d in tape.frames[0] if d.frame.event == "open"]
            opened = [d.offset for d in opens if d.frame.session < label]
            if len(opened) < 2:
                continue
            # The reader has not passed the open of the session before the last: nothing opens.
            quiet_until = time.monotonic() + 0.3
            tape.until(lambda q=quiet_until: time.monotonic() > q, "a while")  # type: ignore[misc]
            assert f"open {label}" not in tape.events()
            assert first_offset(tape, tape.topics.session) <= opened[-2]
            laggard.commit({0: opened[-2]})
        tape.play()
        laggard.close()
        assert tape.rows() == expected_rows(tape.source, "XNYS", start, end)
        opened = [d.offset for d in tape.frames[0] if d.frame.event == "open"]
        assert len(opened) == 8
        # Kept: the last session and the two that trail it; of raw messages none is needed.
        tape.until(
            lambda: first_offset(tape, tape.topics.session) == opened[-3], "the session topic cut"
        )
        tape.until(
            lambda: first_offset(tape, tape.topics.raw_bars) == tape.end_of(tape.topics.raw_bars),
            "the raw topic cut",
        )
        with FrameReader(tape.settings) as reader:
            last = reader.last()[0]
        assert last is not None
        assert last.frame.event == "end"


def first_offset(tape: Tape, topic: str) -> int:
    with FrameReader(tape.settings, topic=topic) as reader:
        return reader.starts()[0]


WORKERS = ("streams.coordinator", "streams.tables")


@pytest.mark.parametrize("module", WORKERS)
def test_topics_that_are_missing_or_differ_are_one_sentence(
    broker: LocalBroker, namespace: str, tmp_path: Path, module: str
) -> None:
    topics = Topics(namespace)
    tape = Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=0)

    def said() -> str:
        worker = tape.worker("worker", module)
        assert worker.process is not None
        assert worker.process.wait(60) == 1
        lines = [line for line in worker.log.splitlines() if line]
        worker.log_path.unlink()
        assert len(lines) == 1, lines
        return lines[0]

    name = module.partition(".")[2]
    assert said() == (
        f"sessiontape {name}: topic {topics.session} is missing: "
        "create the namespace with `sessiontape up`"
    )
    other = topics.raw_bars if name == "coordinator" else topics.changelog("symbols")
    news = [NewTopic(topics.session, 2, 1), NewTopic(other, 3, 1)]
    with admin(tape.settings) as client:
        for made in client.create_topics(news).values():
            made.result(30)
    assert said() == (
        f"sessiontape {name}: topic {other} has 3 partitions, not 2: "
        "take another namespace or the number it was made with"
    )
