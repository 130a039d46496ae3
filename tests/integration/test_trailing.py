"""Trailing days on a real broker: out of a store, out of sources, killed, fenced, stopped."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka import Producer as Client

from schemas import BarBlock, Codec, Command, Coverage, DataRequest, Frame
from schemas.records import Record
from sinks import has_caught_up, open_history
from streams.calendar import Session
from streams.days import Day, past_of
from streams.errors import BrokerError, HistoryError
from streams.history import end_of, frames_of
from streams.intervals import MINUTE_NS
from streams.kafka import consumer_config, create_topics, producer_config
from streams.local import LocalBroker
from streams.positions import FrameReader, FrameWriter
from streams.producer import Producer
from streams.settings import Settings, load
from streams.sources import open_source
from streams.topics import Topics, shards_of
from streams.trailing import Trailing
from tests.reading import read_topic
from tests.recorded import Recorded, blocks_of
from tests.unit.sinks.frames import Tape
from tests.workers import environment

SHARDS = 2
MARKET = "synthetic:symbols=8,seed=5"
SYMBOLS = open_source(MARKET).symbols()
RUN = Command(
    version=1,
    action="start",
    run="run-1",
    mode="replay",
    calendar="XNYS",
    start="2024-03-04",
    end="2024-03-08",
    symbols=SYMBOLS,
    streams=("bars",),
    anchor_wall_ns=0,
    trailing_sessions=4,
    historical=("1m", "5m"),
)
SESSIONS = past_of(RUN).sessions
LABELS = [session.label for session in SESSIONS]


@pytest.fixture
def settings(broker: LocalBroker, namespace: str, tmp_path: Path) -> Settings:
    found = load().but(
        bootstrap_servers=broker.bootstrap_servers,
        namespace=namespace,
        data_dir=tmp_path,
        gap_attempts=3,
        gap_backoff_s=0.01,
    )
    create_topics(found, SHARDS)
    return found


def no_store(_: Settings) -> Recorded:
    msg = "nothing is recorded"
    raise HistoryError(msg)


def recorded(*sessions: Session, symbols: Sequence[str] = SYMBOLS) -> Recorded:
    store = Recorded()
    for session in sessions:
        store.put(session, blocks_of(MARKET, session, symbols))
    return store


def trailing(
    settings: Settings, store: Recorded | None = None, shard: int = 0, **changes: Any
) -> Trailing:
    opened = no_store if store is None else store.open
    return Trailing(settings.but(**changes) if changes else settings, shard, SHARDS, opened)


@contextmanager
def producing(settings: Settings) -> Iterator[None]:
    producer = Producer(settings, open_source(MARKET))
    with running(producer.run, producer.stop):
        yield


@contextmanager
def running(run: Callable[[], None], stop: Callable[[], None]) -> Iterator[threading.Thread]:
    failures: list[BaseException] = []

    def kept() -> None:
        try:
            run()
        except BaseException as exc:  # noqa: BLE001 - told by the test
            failures.append(exc)

    thread = threading.Thread(target=kept)
    thread.start()
    try:
        yield thread
    finally:
        stop()
        thread.join(30)
    assert not thread.is_alive()
    assert not failures


@contextmanager
def answering(
    settings: Settings, reply: Callable[[DataRequest], Sequence[Record | bytes]]
) -> Iterator[None]:
    """Answer the history requests by hand."""
    topics, over = Topics(settings.namespace), threading.Event()
    consumer = Consumer(consumer_config(settings, "by-hand"))
    client = Client(producer_config(settings))

    def answer() -> None:
        consumer.subscribe([topics.requests])
        while not over.is_set():
            message = consumer.poll(0.05)
            if message is None or message.error() is not None:
                continue
            request = Codec().decode(message.value())
            assert isinstance(request, DataRequest)
            for record in reply(request):
                value = record if isinstance(record, bytes) else Codec().encode(record)
                client.produce(topics.raw_history, value, partition=request.shard)
            client.flush(10)
        consumer.close()

    with running(answer, over.set):
        yield


def read(settings: Settings, shard: int = 0) -> list[Frame]:
    """Return what the topic holds of a shard now; a hole in its numbers is an error."""
    topic = Topics(settings.namespace).history
    found: list[Frame] = []
    with FrameReader(settings, shards=(shard,), topic=topic) as reader:
        last = reader.last()[shard]
        reader.assign(reader.starts())
        deadline = time.monotonic() + 30
        while last is not None and (not found or found[-1].frame < last.frame.frame):
            assert time.monotonic() < deadline
            found += [one.frame for one in reader.poll()]
    return found


def labels(frames: Sequence[Frame]) -> list[str]:
    """Return the sessions in the order in which they begin, each copy of one once."""
    found: list[str] = []
    for frame in frames:
        if frame.event == "rows" and (not found or found[-1] != frame.session):
            found.append(frame.session)
    return found


def closes(frames: Sequence[Frame]) -> dict[tuple[str, int], float]:
    """Return the close of every 1m bar by symbol and start; one that is there twice is an error."""
    found: dict[tuple[str, int], float] = {}
    for frame in frames:
        bars = frame.bars
        for n in range(0 if bars is None else len(bars)):
            assert bars is not None
            key = (frame.symbols[bars.symbol[n]], int(bars.ts_ns[n]))
            assert key not in found
            found[key] = float(bars.close[n])
    return found


def expected(shard: int, sessions: Sequence[Session] = SESSIONS) -> dict[tuple[str, int], float]:
    symbols = shards_of(SYMBOLS, SHARDS)[shard]
    return {
        (block.symbols[block.symbol[n]], int(block.ts_ns[n])): float(block.close[n])
        for session in sessions
        for block in blocks_of(MARKET, session, symbols)
        for n in range(len(block))
    }


def requests(settings: Settings) -> list[DataRequest]:
    messages = read_topic(settings, Topics(settings.namespace).requests)
    return [Codec().decode(message.value()) for message in messages]  # type: ignore[misc]


def test_half_comes_from_the_store_and_half_from_the_source(settings: Settings) -> None:
    store = recorded(*SESSIONS[1:3])
    with producing(settings):
        for shard in range(SHARDS):
            trailing(settings, store, shard).load(RUN)
    for shard in range(SHARDS):
        frames = read(settings, shard)
        assert labels(frames) == LABELS
        assert closes(frames) == expected(shard)
        assert [frame.event for frame in frames] == ["rows"] * 4 + ["end"]
        assert [frame.sources for frame in frames] == [
            *(("synthetic",), ("store",), ("store",), ("synthetic",)),
            (),
        ]
        assert {frame.run for frame in frames} == {"run-1"}
        assert not any(frame.incomplete for frame in frames)
        derived = frames[0].derived
        assert derived is not None
        assert len(derived) == 78 * len(shards_of(SYMBOLS, SHARDS)[shard])
    assert not store.is_open
    asked = [(one.shard, one.session, one.attempt) for one in requests(settings)]
    assert sorted(asked) == sorted(
        (shard, label, 1) for shard in range(SHARDS) for label in (LABELS[0], LABELS[3])
    )


def test_only_the_symbols_that_lack_are_asked_for(settings: Settings) -> None:
    mine = shards_of(SYMBOLS, SHARDS)[0]
    store = recorded(SESSIONS[0], symbols=mine[:2])
    run = replace(RUN, trailing_sessions=1)
    with producing(settings):
        trailing(settings, store).load(run)
    (request,) = requests(settings)
    session = SESSIONS[0]
    assert request.symbols == mine[2:]
    assert request.id == f"run-1/{session.label}/0/history/1"
    assert (request.kind, request.streams, request.interval) == ("history", ("bars",), "1m")
    assert (request.start_ns, request.end_ns) == (session.open_ns, session.close_ns)
    frames = read(settings)
    assert [frame.sources for frame in frames] == [("store",), ("synthetic",), ()]
    assert closes(frames) == expected(0, [session])


class Killed(BaseException):
    """As kill -9: nothing is tidied up."""


@dataclass
class Deadly(Recorded):
    """A store at whose n-th question the process dies."""

    dies_at: int = -1

    def sessions(self, *arguments: Any, **named: Any) -> Any:
        if self.dies_at == 0:
            raise Killed
        self.dies_at -= 1
        return super().sessions(*arguments, **named)


def test_killed_anywhere_it_goes_on_and_each_session_is_there_once(settings: Settings) -> None:
    with producing(settings):
        for dies_at in (2, 0, 1):
            store = Deadly(recorded(SESSIONS[1]).bars_of, dies_at=dies_at)
            with suppress(Killed):
                trailing(settings, store).load(RUN)
                pytest.fail("it lived")
        assert labels(read(settings)) == LABELS[:3]
        trailing(settings, recorded(SESSIONS[1])).load(RUN)
    frames = read(settings)
    assert labels(frames) == LABELS
    assert closes(frames) == expected(0)
    assert [frame.event for frame in frames][-1] == "end"
    assert len(requests(settings)) == 3


def test_a_run_whose_end_is_out_is_not_loaded_again(settings: Settings) -> None:
    store = recorded(*SESSIONS)
    trailing(settings, store).load(RUN)
    before, asked = len(read(settings)), len(store.asked)
    assert asked == len(SESSIONS)
    trailing(settings, store).load(replace(RUN, version=2, action="pause"))
    assert (len(read(settings)), len(store.asked)) == (before, asked)


def test_the_next_run_takes_away_what_older_ones_left(settings: Settings) -> None:
    store = recorded(*SESSIONS)
    trailing(settings, store).load(RUN)
    older = read(settings)
    trailing(settings, store).load(replace(RUN, version=2, run="run-2"))
    frames = read(settings)
    assert {frame.run for frame in frames} == {"run-2"}
    assert (frames[0].frame, frames[0].first_row) == (
        older[-1].frame + 1,
        older[-1].first_row,
    )
    assert labels(frames) == LABELS


def test_a_run_that_was_left_half_way_is_taken_away_too(settings: Settings) -> None:
    with suppress(Killed):
        trailing(settings, Deadly(recorded(*SESSIONS).bars_of, dies_at=2)).load(RUN)
    assert labels(read(settings)) == LABELS[:2]
    trailing(settings, recorded(*SESSIONS)).load(replace(RUN, version=2, run="run-2"))
    frames = read(settings)
    assert {frame.run for frame in frames} == {"run-2"}
    assert labels(frames) == LABELS


def test_a_shard_without_symbols_has_only_the_end(settings: Settings) -> None:
    run = replace(RUN, symbols=shards_of(SYMBOLS, SHARDS)[0])
    trailing(settings, shard=1).load(run)
    (end,) = read(settings, 1)
    assert (end.event, end.run, end.rows) == ("end", "run-1", 0)
    assert requests(settings) == []


@pytest.mark.parametrize("changes", [{"historical": ()}, {"trailing_sessions": 0}])
def test_a_run_that_wants_none_writes_nothing(settings: Settings, changes: dict[str, Any]) -> None:
    trailing(settings, recorded(*SESSIONS)).load(replace(RUN, **changes))
    assert read(settings) == []


def test_where_nobody_answers_it_goes_on_without(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    run = replace(RUN, trailing_sessions=2)
    store = recorded(SESSIONS[1])
    trailing(settings, store, gap_timeout_s=0.2).load(run)
    frames = read(settings)
    assert [(frame.event, frame.session, frame.rows > 0) for frame in frames] == [
        ("rows", LABELS[0], False),
        ("rows", LABELS[1], True),
        ("end", "", False),
    ]
    assert [frame.incomplete for frame in frames] == [True, False, False]
    assert "neither the store nor a source vouches for" in frames[0].reason
    assert frames[0].reason in caplog.text
    assert [one.attempt for one in requests(settings)] == [1, 2, 3]


def test_a_store_that_fails_is_as_none(settings: Settings) -> None:
    store = recorded(*SESSIONS)
    store.fails = True
    with producing(settings):
        trailing(settings, store).load(RUN)
    frames = read(settings)
    assert closes(frames) == expected(0)
    assert {frame.sources for frame in frames[:-1]} == {("synthetic",)}
    assert not store.is_open


def covered(request: DataRequest, answer: str, blocks: int = 0) -> Coverage:
    return Coverage(
        request.symbols,
        request.start_ns,
        request.end_ns,
        answer,
        blocks=blocks,
        run=request.run,
        request=request.id,
        source="hand",
    )


def answered(request: DataRequest, session: Session) -> list[BarBlock]:
    found = blocks_of(MARKET, session, request.symbols)
    return [
        replace(block, run=request.run, request=request.id, source="hand", block=n)
        for n, block in enumerate(found)
    ]


def test_an_answer_that_can_not_be_said_is_asked_for_again(settings: Settings) -> None:
    def reply(request: DataRequest) -> list[Record]:
        if request.attempt < 3:
            return [covered(request, "cannot_say")]
        blocks = answered(request, SESSIONS[0])
        return [*blocks, covered(request, "rows", len(blocks))]

    with answering(settings, reply):
        trailing(settings).load(replace(RUN, trailing_sessions=1))
    frames = read(settings)
    assert closes(frames) == expected(0, SESSIONS[:1])
    assert [one.reason for one in requests(settings)] == [
        "not in the store",
        *["no answer that vouches for it"] * 2,
    ]


def test_the_answer_to_an_earlier_attempt_counts_when_it_comes_late(settings: Settings) -> None:
    first: list[DataRequest] = []

    def reply(request: DataRequest) -> list[Record]:
        first.append(request)
        if request.attempt < 2:
            return []
        blocks = answered(first[0], SESSIONS[0])
        return [*blocks, covered(first[0], "rows", len(blocks))]

    with answering(settings, reply):
        trailing(settings, gap_timeout_s=1).load(replace(RUN, trailing_sessions=1))
    assert [one.attempt for one in requests(settings)] == [1, 2]
    assert closes(read(settings)) == expected(0, SESSIONS[:1])


def test_what_is_senseless_is_set_aside_with_its_reason(settings: Settings) -> None:
    session = SESSIONS[0]

    def reply(request: DataRequest) -> list[Record | bytes]:
        stranger = replace(covered(request, "rows"), request="run-0/other/0/history/1")
        (block,) = answered(request, session)
        ts = block.ts_ns.copy()
        ts[0] = session.close_ns
        return [
            stranger,
            request,
            b"garbage",
            replace(block, ts_ns=ts),
            covered(request, "rows", 1),
        ]

    with answering(settings, reply):
        trailing(settings).load(replace(RUN, trailing_sessions=1))
    topics = Topics(settings.namespace)
    (message,) = read_topic(settings, topics.rejected)
    headers = dict(message.headers() or ())
    assert headers["reason"] == b"the time lies outside the session"
    assert headers["topic"] == topics.raw_history.encode()
    rows = Codec().decode(message.value())
    assert isinstance(rows, BarBlock)
    assert rows.ts_ns.tolist() == [session.close_ns]
    assert len(closes(read(settings))) == len(expected(0, [session])) - 1


def test_told_to_stop_it_ends_at_once_and_goes_on_at_the_next_start(settings: Settings) -> None:
    first = trailing(settings, gap_timeout_s=300.0)
    is_asked = threading.Event()

    def reply(_: DataRequest) -> list[Record]:
        is_asked.set()
        return []

    with running(partial(first.load, RUN), first.stop) as thread:
        with answering(settings, reply):
            assert is_asked.wait(30)
        first.stop()
        thread.join(10)
        assert not thread.is_alive()
    assert read(settings) == []
    first.load(RUN)
    assert read(settings) == []
    trailing(settings, recorded(*SESSIONS)).load(RUN)
    assert labels(read(settings)) == LABELS


def test_told_to_stop_while_it_waits_to_ask_again_it_ends_at_once(settings: Settings) -> None:
    first = trailing(settings, gap_backoff_s=300.0)
    is_asked = threading.Event()

    def reply(request: DataRequest) -> list[Record]:
        is_asked.set()
        return [covered(request, "cannot_say")]

    with running(partial(first.load, RUN), first.stop) as thread, answering(settings, reply):
        assert is_asked.wait(30)
        first.stop()
        thread.join(10)
        assert not thread.is_alive()
    assert read(settings) == []


def test_what_older_runs_left_is_taken_away_at_the_next_start_if_not_before(
    settings: Settings,
) -> None:
    """It died between the run's first session and the deletion."""
    older = end_of(replace(RUN, run="run-0"), None, 0, SHARDS)
    symbols = shards_of(SYMBOLS, SHARDS)[0]
    first = frames_of(Day(SESSIONS[0], symbols), RUN, older, 0, SHARDS)
    writer = FrameWriter(settings, 0, Topics(settings.namespace).history)
    writer.open()
    writer.release([older, *first])
    trailing(settings, recorded(*SESSIONS)).load(RUN)
    frames = read(settings)
    assert {frame.run for frame in frames} == {"run-1"}
    assert labels(frames) == LABELS
    assert frames[0].rows == 0


@dataclass
class Held(Recorded):
    """A store that is slow at its second question: until it is let go."""

    questions: int = 0
    is_held: threading.Event | None = None
    let_go: threading.Event | None = None

    def sessions(self, *arguments: Any, **named: Any) -> Any:
        self.questions += 1
        if self.questions == 2:
            assert self.is_held is not None
            assert self.let_go is not None
            self.is_held.set()
            assert self.let_go.wait(60)
        return super().sessions(*arguments, **named)


def test_who_takes_the_shard_over_ends_the_loader_before(settings: Settings) -> None:
    held, let_go = threading.Event(), threading.Event()
    store = Held(recorded(*SESSIONS).bars_of, is_held=held, let_go=let_go)
    old = trailing(settings, store)
    with running(partial(old.load, RUN), let_go.set) as thread:
        assert held.wait(30)
        trailing(settings, recorded(*SESSIONS)).load(RUN)
        let_go.set()
        thread.join(30)
        assert not thread.is_alive()
    frames = read(settings)
    assert labels(frames) == LABELS
    assert closes(frames) == expected(0)
    assert frames[-1].event == "end"


def test_after_an_error_of_the_brokers_it_tries_again(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    store, errors = recorded(*SESSIONS), [BrokerError("they are away")]

    def opened(_: Settings) -> Recorded:
        if errors:
            raise errors.pop()
        return store.open()

    Trailing(settings, 0, SHARDS, opened).load(RUN)
    assert "trailing days, again: they are away" in caplog.text
    assert labels(read(settings)) == LABELS


def test_bars_of_the_whole_past_are_there_before_the_first_session(settings: Settings) -> None:
    trailing(settings, recorded(*SESSIONS)).load(RUN)
    newest = max(ts for _, ts in closes(read(settings)))
    assert newest + MINUTE_NS <= past_of(RUN).before_ns


@contextmanager
def sink(settings: Settings) -> Iterator[None]:
    values = {name: getattr(settings, name) for name in ("bootstrap_servers", "namespace")}
    process = subprocess.Popen(
        [sys.executable, "-m", "sinks"],
        env=environment({**values, "data_dir": settings.data_dir}),
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait(30)


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_the_tape_played_comes_back_out_of_chdb(settings: Settings) -> None:
    tape = Tape(symbols=shards_of(SYMBOLS, SHARDS)[0], shard=0, shards=SHARDS, minutes=390)
    writer = FrameWriter(settings, 0)
    writer.open()
    # Both shards close a session: Monday and Tuesday of the week. Friday was never played.
    other = Tape(symbols=shards_of(SYMBOLS, SHARDS)[1], shard=1, shards=SHARDS, minutes=390)
    writers = [(writer, tape), (FrameWriter(settings, 1), other)]
    writers[1][0].open()
    for day in range(2):
        for one, frames in writers:
            one.release([d.frame for d in frames.session(day)])
    run = replace(RUN, start="2013-10-09", end="2013-10-10", trailing_sessions=3)
    with sink(settings):
        until(lambda: has_caught_up(settings))
        hasty = settings.but(gap_attempts=1, gap_timeout_s=0.2)
        Trailing(hasty, 0, SHARDS, open_history).load(run)
    found = read(settings)
    assert labels(found) == ["2013-10-08", "2013-10-07", "2013-10-04"]
    assert [one.session for one in requests(settings)] == ["2013-10-04"]
    played = closes([delivered.frame for delivered in tape.frames])
    assert closes(found) == played
    assert {frame.sources for frame in found if frame.rows} == {("store",)}
    assert [frame.session for frame in found if frame.incomplete] == ["2013-10-04"]
