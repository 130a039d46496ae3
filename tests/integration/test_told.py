"""Quality, gaps and symbols read from a tape on a real broker; the tape is made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas import Codec, Command, Frame
from sinks import history as store
from streams.control import latest_command, send_command
from streams.coverage import Status
from streams.errors import CalendarError, CommandError, HistoryError
from streams.kafka import create_topics, producer_config
from streams.local import LocalBroker, told
from streams.settings import Settings
from streams.symbols import change_symbols, symbol_states
from streams.topics import Topics, shards_of
from tests.frames import Day, Tape, full_day
from tests.minutes import Run, minutes_of

SHARDS = 2
NAMES = ("S000", "S001", "S002")
FIRST, SECOND = full_day(NAMES, 4), full_day(NAMES, 4, 1)
SETTLED = (Run("S001", 1, 3, Status.NO_TRADE, 1, "r1"),)
COMMAND = Command(
    version=1,
    action="start",
    run="run-1",
    mode="replay",
    calendar="NONE",
    start="2024-01-01",
    end="2024-01-02",
    symbols=NAMES,
    streams=("bars",),
    anchor_wall_ns=0,
)


@pytest.fixture
def settings(broker: LocalBroker, namespace: str, tmp_path: Path) -> Settings:
    found = Settings(
        bootstrap_servers=broker.bootstrap_servers, namespace=namespace, data_dir=tmp_path
    )
    create_topics(found, SHARDS)
    return found


class Writer:
    """Writes a tape to the session topic, session by session."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic, self._codec = Topics(settings.namespace).session, Codec()
        # Offsets on the topic have no gaps: there are no transactions.
        self.tape = Tape(SHARDS, gap=0)
        self._sent = [0] * SHARDS

    def send(self) -> None:
        producer = Producer(producer_config(self._settings))
        for shard, frames in enumerate(self.tape.frames):
            for one in frames[self._sent[shard] :]:
                producer.produce(
                    self._topic, self._codec.encode(one.frame, self._topic), b"", shard
                )
            self._sent[shard] = len(frames)
        assert producer.flush(30) == 0

    def put(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self.tape.put(frame)

    def first(self) -> None:
        """Begin a run; while its first session plays, gaps of the second are found."""
        self.tape.start()
        for shard in range(SHARDS):
            self.put([self.tape.event(shard, "open", FIRST)])
            steps = [
                [Run(*run[:3], Status.MISSING) for run in SETTLED],
                [Run(*run[:3], Status.REQUESTED, 1, "r1") for run in SETTLED],
            ]
            if "S001" in shards_of(NAMES, SHARDS)[shard]:
                for runs in steps:
                    said = minutes_of(SECOND, runs)
                    self.put([self.tape.event(shard, "rows", FIRST, minutes=said)])
            self.put(self.tape.rows(shard, FIRST))
            close = self.tape.event(shard, "close", FIRST, clock_ns=FIRST.close_ns)
            self.put([replace(close, symbols=())])

    def second(self) -> None:
        self.tape.roll(SECOND)
        for shard in range(SHARDS):
            said = minutes_of(SECOND, SETTLED)
            self.put([self.tape.event(shard, "open", SECOND, minutes=said)])

    def play(self) -> None:
        lacking = frozenset(row[:2] for row in _silent(SECOND))
        day = full_day(NAMES, 4, 1, missing=lacking)
        for shard in range(SHARDS):
            self.put(self.tape.rows(shard, day))
            self.put([self.tape.event(shard, "close", day, clock_ns=day.close_ns)])


def _silent(day: Day) -> list[tuple[int, str]]:
    minute_ns = (day.close_ns - day.open_ns) // day.minutes
    return [
        (day.open_ns + (minute + 1) * minute_ns, run.symbol)
        for run in SETTLED
        for minute in range(run.first, run.stop)
    ]


def played(settings: Settings) -> Writer:
    writer = Writer(settings)
    send_command(settings, COMMAND)
    writer.first()
    writer.second()
    writer.play()
    writer.tape.end()
    writer.send()
    return writer


def test_quality_of_the_last_session_and_of_one_by_name(settings: Settings) -> None:
    played(settings)
    found = told.tell(settings, "quality")
    assert (found.run, found.session, found.origin) == ("run-1", SECOND.label, "tape")
    assert (found.clock_ns, found.is_over, found.gaps) == (SECOND.close_ns, True, ())
    assert {one.symbol: one.minutes for one in found.qualities} == {
        "S000": "tttt",
        "S001": "tnnt",
        "S002": "tttt",
    }
    named = told.tell(settings, "quality", FIRST.label, ["S002"])
    assert [(one.symbol, one.minutes) for one in named.qualities] == [("S002", "tttt")]


def test_gaps_with_what_went_before_the_open(settings: Settings) -> None:
    played(settings)
    (gap,) = told.tell(settings, "gaps").gaps
    assert [(step.status, step.request, step.clock_ns) for step in gap.steps] == [
        ("missing", "", FIRST.open_ns),
        ("requested", "r1", FIRST.open_ns),
        ("no_trade", "r1", SECOND.open_ns),
    ]
    assert told.tell(settings, "gaps", symbols=["S000"]).gaps == ()


def test_it_is_watched_until_the_run_ends(settings: Settings) -> None:
    writer = Writer(settings)
    send_command(settings, COMMAND)
    writer.first()
    writer.send()
    seen: list[tuple[str, str]] = []
    for found in told.watch(settings, "quality", symbols=["S001"]):
        seen.append((found.session, found.qualities[0].minutes))
        if len(seen) == 1:
            writer.second()
            writer.send()
        elif len(seen) == 2:
            writer.play()
            writer.tape.end()
            writer.send()
    assert seen[0] == (FIRST.label, "tttt")
    assert (SECOND.label, "pppp") in seen
    assert seen[-1] == (SECOND.label, "tnnt")


class Kept:
    """A store with one session, and what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def quality(self, *what: Any) -> Kept:
        self.asked.append(what)
        self.rows: list[dict[str, Any]] = [
            {"symbol": "AA", "session": "2023-12-29", "run": "run-0", "statuses": "tfg"}
        ]
        return self

    def gaps(self, *_: Any) -> Kept:
        step = {"session": "2023-12-29", "symbol": "AA", "clock_ns": 5}
        minute = {"start_ns": 60_000_000_000, "end_ns": 120_000_000_000}
        self.rows = [
            {**step, **minute, "status": status, "attempt": attempt, "request": request}
            for status, attempt, request in (
                ("missing", 0, ""),
                ("requested", 1, "r1"),
                ("filled", 1, "r1"),
            )
        ]
        return self

    def to_pylist(self) -> list[dict[str, Any]]:
        return self.rows

    def close(self) -> None:
        self.asked.append("closed")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    found = Kept()
    monkeypatch.setattr(store, "open_history", lambda _: found)
    return found


def test_what_is_not_on_the_tape_comes_from_the_store(settings: Settings, kept: Kept) -> None:
    played(settings)
    found = told.tell(settings, "quality", "2023-12-29", ["AA"])
    assert (found.origin, found.run, found.session) == ("store", "run-0", "2023-12-29")
    assert (found.is_over, found.gaps) == (True, ())
    assert [(one.minutes, one.given_up) for one in found.qualities] == [("tfg", 1)]
    (names, _, before_ns), closed = kept.asked
    assert (names, before_ns, closed) == (["AA"], 1_703_980_800 * 1_000_000_000, "closed")
    with pytest.raises(HistoryError, match=r"has session 2024-01-09 with AA, BB: replay something"):
        told.tell(settings, "quality", "2024-01-09", ["AA", "BB"])
    with pytest.raises(CalendarError, match="'monday' is no session"):
        told.tell(settings, "quality", "monday")


def test_without_a_tape_the_store_is_asked_once(settings: Settings, kept: Kept) -> None:
    (gap,) = told.tell(settings, "gaps").gaps
    assert [(step.status, step.attempt) for step in gap.steps] == [
        ("missing", 0),
        ("requested", 1),
        ("filled", 1),
    ]
    assert [found.origin for found in told.watch(settings, "gaps")] == ["store"]
    # Nor is there a broker to ask.
    alone = Settings(namespace="alone", data_dir=settings.data_dir)
    assert [found.origin for found in told.watch(alone, "quality")] == ["store"]
    assert told.tell(alone, "quality").origin == "store"


def test_symbols_of_the_run_that_is_on(settings: Settings) -> None:
    with pytest.raises(CommandError, match="no run is on"):
        symbol_states(settings)
    writer = Writer(settings)
    send_command(settings, COMMAND)
    assert symbol_states(settings) == dict.fromkeys(NAMES, "joining")
    writer.first()
    writer.send()  # between two sessions the shards have those of the last
    assert symbol_states(settings) == dict.fromkeys(NAMES, "active")
    changed = change_symbols(settings, add=["S009", "AAA"])
    assert changed == replace(COMMAND, version=2, symbols=("AAA", *NAMES, "S009"))
    assert latest_command(settings) == changed
    change_symbols(settings, remove=["S002"])
    writer.second()
    writer.send()
    assert symbol_states(settings) == {
        "AAA": "joining",
        "S000": "active",
        "S001": "active",
        "S002": "leaving",
        "S009": "joining",
    }
    writer.tape.end()
    writer.send()
    with pytest.raises(CommandError, match="no run is on"):
        change_symbols(settings, add=["S010"])


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"add": ["S000", "NEW"]}, "run run-1 has S000 already"),
        ({"remove": ["S000", "OLD"]}, "run run-1 has no OLD"),
        ({"remove": NAMES}, "no symbol left"),
        ({"add": ["X" * 200]}, "has more than"),
    ],
)
def test_symbols_that_can_not_be_changed_are_refused(
    settings: Settings, how: dict[str, Any], says: str
) -> None:
    send_command(settings, COMMAND)
    with pytest.raises(CommandError, match=says):
        change_symbols(settings, **how)
    assert latest_command(settings) == COMMAND


def test_a_run_that_was_stopped_is_not_on(settings: Settings) -> None:
    send_command(settings, replace(COMMAND, stopped=True))
    with pytest.raises(CommandError, match="no run is on"):
        change_symbols(settings, add=["NEW"])
