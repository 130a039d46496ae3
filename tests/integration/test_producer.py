"""The producer against a real broker: requests in, blocks and coverage out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka import Producer as Client

from schemas import BarBlock, Codec, Coverage, DataRequest, Minutes
from streams.calendar import sessions_between
from streams.errors import DeliveryError, SourceError
from streams.kafka import client_config, consumer_config, create_topics, producer_config
from streams.local import LocalBroker
from streams.producer import Producer
from streams.settings import Settings, load
from streams.sources import Answer, BadRow, Part, load_range, open_source, withheld_minutes
from streams.topics import Topics, shards_of

DAY = sessions_between("XNYS", "2024-03-04", "2024-03-04")[0]
NEXT = sessions_between("XNYS", "2024-03-05", "2024-03-05")[0]
MARKET = "synthetic:symbols=60,seed=5"
WAIT_S = 60.0


def settings_of(broker: LocalBroker, namespace: str) -> Settings:
    return load().but(bootstrap_servers=broker.bootstrap_servers, namespace=namespace)


def request(symbols: Sequence[str], shard: int = 0, **changes: Any) -> DataRequest:
    asked = DataRequest(
        id=f"{DAY.label}/{shard}",
        run="run-1",
        kind="session",
        streams=("bars",),
        symbols=tuple(symbols),
        start_ns=DAY.open_ns,
        end_ns=DAY.close_ns,
        session=DAY.label,
        shard=shard,
    )
    return replace(asked, **changes)


def ask(settings: Settings, *requests: DataRequest | bytes, partition: int = 0) -> None:
    client = Client(producer_config(settings))
    for one in requests:
        value = one if isinstance(one, bytes) else Codec().encode(one)
        client.produce(Topics(settings.namespace).requests, value, partition=partition)
    assert client.flush(20) == 0


@contextmanager
def running(producer: Producer) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=producer.run)
    thread.start()
    try:
        yield thread
    finally:
        producer.stop()
        thread.join(30)
    assert not thread.is_alive()


def read(
    settings: Settings, topic: str, partition: int, enough: Callable[[list[Message]], bool]
) -> list[Message]:
    """Return the messages of a partition from the first, once there are enough."""
    messages: list[Message] = []
    deadline = time.monotonic() + WAIT_S
    with closing(Consumer(consumer_config(settings, "reader"))) as consumer:
        consumer.assign([TopicPartition(topic, partition, 0)])
        while not enough(messages):
            assert time.monotonic() < deadline, f"{len(messages)} messages on {topic}"
            messages += [m for m in consumer.consume(1000, 0.1) if m.error() is None]
    return messages


def records(messages: Sequence[Message]) -> list[Any]:
    return [Codec().decode(message.value()) for message in messages]


def reason_of(message: Message) -> bytes:
    return cast("bytes", dict(cast("Any", message.headers()))["reason"])


def answers(count: int) -> Callable[[list[Message]], bool]:
    def enough(messages: list[Message]) -> bool:
        return sum(isinstance(r, Coverage) for r in records(messages)) >= count

    return enough


def rows(blocks: Sequence[BarBlock]) -> list[tuple[Any, ...]]:
    return [
        (block.symbols[block.symbol[n]], *(getattr(block, c)[n] for c in COLUMNS))
        for block in blocks
        for n in range(len(block))
    ]


COLUMNS = ("ts_ns", "interval_ns", "open", "high", "low", "close", "volume", "revision")


def committed(settings: Settings, partition: int = 0) -> int:
    topics = Topics(settings.namespace)
    config = client_config(settings) | {"group.id": topics.producer}
    with closing(Consumer(config)) as consumer:
        return int(consumer.committed([TopicPartition(topics.requests, partition)], 10)[0].offset)


@dataclass
class Told:
    """A source that gives what it was told to."""

    parts: Sequence[Part]
    error: SourceError | None = None
    name: str = "told"
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def symbols(self) -> tuple[str, ...]:
        return ("A", "B", "C")

    def sessions(self) -> tuple[str, str] | None:
        return None

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        self.asked.append(tuple(symbols))
        yield from self.parts
        if self.error:
            raise self.error


def block_of(symbol: str, *closes: float) -> BarBlock:
    price = np.array(closes)
    count = len(closes)
    return BarBlock(
        symbols=(symbol,),
        symbol=np.zeros(count, np.int32),
        ts_ns=DAY.starts(60_000_000_000)[:count],
        interval_ns=np.full(count, 60_000_000_000),
        open=price,
        high=price,
        low=price,
        close=price,
        volume=price,
        revision=np.zeros(count, np.int32),
    )


def test_each_shard_gets_its_blocks_and_then_their_coverage(
    broker: LocalBroker, namespace: str
) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 2)
    source = open_source(MARKET)
    shards = shards_of(source.symbols(), 2)
    with running(Producer(settings, source)):
        for shard, symbols in shards.items():
            ask(settings, request(symbols, shard), partition=shard)
        for shard, symbols in shards.items():
            messages = read(settings, Topics(namespace).raw_bars, shard, answers(1))
            *blocks, coverage = records(messages)
            assert [block.block for block in blocks] == list(range(len(blocks)))
            assert {(b.run, b.request, b.source) for b in blocks} == {
                ("run-1", f"2024-03-04/{shard}", "synthetic")
            }
            expected, _, _ = load_range(source, symbols, DAY.open_ns, DAY.close_ns)
            assert rows(blocks) == rows(expected)
            assert coverage == Coverage(
                symbols=symbols,
                start_ns=DAY.open_ns,
                end_ns=DAY.close_ns,
                answer="rows",
                blocks=len(blocks),
                rows=len(symbols) * 390,
                run="run-1",
                request=f"2024-03-04/{shard}",
                source="synthetic",
            )
            assert [m.key() for m in messages[:-1]] == [b.symbols[0].encode() for b in blocks]


def test_nothing_is_sent_before_it_is_asked_for(broker: LocalBroker, namespace: str) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)
    source = open_source(MARKET)
    with running(Producer(settings, source)):
        ask(settings, request(("SYN0001",)))
        read(settings, Topics(namespace).raw_bars, 0, answers(1))
        ask(settings, request(("SYN0002",), id="second"))
        found = records(read(settings, Topics(namespace).raw_bars, 0, answers(2)))
    assert [r.request for r in found] == ["2024-03-04/0"] * 2 + ["second"] * 2


def test_bad_rows_go_to_rejected_and_the_rest_goes_on(broker: LocalBroker, namespace: str) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)
    bad = BadRow("bars.csv", 7, "the high is below the low", b"09:30,1,0,1,1,5", "B")
    source = Told([block_of("A", 1.0, 2.0), bad, block_of("B", 3.0), Answer(("A", "B"), "rows")])
    with running(Producer(settings, source)):
        ask(settings, request(("A", "B", "C")))
        found = records(read(settings, Topics(namespace).raw_bars, 0, answers(2)))
        [rejected] = read(settings, Topics(namespace).rejected, 0, lambda m: len(m) >= 1)
    block, covered, unsaid = found
    assert list(block.close) == [1.0, 2.0, 3.0]
    assert (covered.symbols, covered.answer) == (("A", "B"), "rows")
    assert (unsaid.symbols, unsaid.answer) == (("C",), "cannot_say")
    assert rejected.key() == f"{namespace}.raw.bars".encode()
    assert rejected.value() == b"09:30,1,0,1,1,5"
    assert rejected.headers() == [
        ("reason", b"the high is below the low"),
        ("path", b"bars.csv"),
        ("line", b"7"),
        ("symbol", b"B"),
    ]


def test_a_source_that_fails_cannot_say_of_what_is_left(
    broker: LocalBroker, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)
    error = SourceError("the disk is gone", path="bars.csv")
    source = Told([block_of("A", 1.0), Answer(("A",), "rows"), block_of("B", 2.0)], error)
    with running(Producer(settings, source)):
        ask(settings, request(("A", "B")))
        _, covered, unsaid = records(read(settings, Topics(namespace).raw_bars, 0, answers(2)))
        [rejected] = read(settings, Topics(namespace).rejected, 0, lambda m: len(m) >= 1)
    assert (covered.symbols, unsaid.symbols, unsaid.answer) == (("A",), ("B",), "cannot_say")
    assert reason_of(rejected) == b"the disk is gone"
    assert "bars.csv: the disk is gone" in caplog.text


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", b"an empty message is no record"),
        (Codec().encode(Coverage(("A",), 0, 1)), b"a Coverage is no request"),
        (Codec().encode(request(("A",), 1)), b"shard 1 is none of the 1 there are"),
        (Codec().encode(request(("A",), interval="1x")), b"'1x' is no interval"),
        (Codec().encode(request(("A",), streams=("news",))), b"stream 'news' is none"),
        (
            Codec().encode(request(("A",), kind="gap", start_ns=0, end_ns=2**62)),
            b"it asks for 76861434 minutes, more than 5000000",
        ),
    ],
)
def test_what_is_no_request_goes_to_rejected(
    broker: LocalBroker, namespace: str, message: bytes, reason: bytes
) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)
    with running(Producer(settings, Told([]))):
        ask(settings, message, request(("A",)))
        [rejected] = read(settings, Topics(namespace).rejected, 0, lambda m: len(m) >= 1)
        read(settings, Topics(namespace).raw_bars, 0, answers(1))
    assert rejected.value() == message
    assert reason_of(rejected).startswith(reason)
    assert committed(settings) == 2


def test_requests_of_a_run_that_was_left_are_skipped(broker: LocalBroker, namespace: str) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)
    old = [request(("A",), id=f"old {n}") for n in range(3)]
    ask(settings, *old, request(("A",), id="new", run="run-2"))
    source = Told([Answer(("A",), "nothing")])
    with running(Producer(settings, source)):
        [coverage] = records(read(settings, Topics(namespace).raw_bars, 0, answers(1)))
    assert (coverage.request, coverage.answer) == ("new", "nothing")
    assert len(source.asked) == 1
    assert committed(settings) == 4


def closes(found: Sequence[BarBlock]) -> dict[tuple[str, int, str], float]:
    """By symbol, minute from the open, and source."""
    return {
        (b.symbols[s], (int(ts) - DAY.open_ns) // 60_000_000_000, b.source): float(close)
        for b in found
        for s, ts, close in zip(b.symbol, b.ts_ns, b.close, strict=True)
    }


def gap_of(symbol: str, first: int, last: int, **changes: Any) -> DataRequest:
    """A request for the minutes [first, last) of a symbol."""
    start_ns, end_ns = (DAY.open_ns + n * 60_000_000_000 for n in (first, last))
    one = np.ones(1, np.int32)
    times = (np.array([start_ns]), np.array([end_ns]))
    gaps = Minutes((symbol,), one * 0, *times, one * 3, one, one * -1, session=DAY.label)
    fields = {"id": f"gap {symbol} {first}", "kind": "gap", "start_ns": start_ns, "end_ns": end_ns}
    return request((symbol,), **{**fields, "gaps": gaps, **changes})


def test_a_gap_is_answered_from_a_fallback_with_the_minutes_asked_for_and_no_others(
    broker: LocalBroker, namespace: str
) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)
    primary = Told([block_of("A", *range(1, 4)), Answer(("A",), "rows")], name="primary")
    there = [float(n) for n in range(11, 20)]
    fallback = Told([block_of("A", *there), Answer(("A",), "rows", vouched=True)], name="second")
    with running(Producer(settings, primary, fallbacks=[fallback])):
        ask(settings, gap_of("A", 2, 5), gap_of("A", 8, 11))
        messages = read(settings, Topics(namespace).raw_bars, 0, answers(2))
    found = records(messages)
    coverages = {c.request: c for c in found if isinstance(c, Coverage)}
    blocks = {
        name: [b for b in found if isinstance(b, BarBlock) and b.request == name]
        for name in coverages
    }
    assert closes(blocks["gap A 2"]) == {
        ("A", 2, "primary"): 3.0,
        ("A", 3, "second"): 14.0,
        ("A", 4, "second"): 15.0,
    }
    assert closes(blocks["gap A 8"]) == {("A", 8, "second"): 19.0}
    for name, status in (("gap A 2", [1]), ("gap A 8", [1, 2])):
        gaps = coverages[name].gaps
        assert gaps is not None
        assert (gaps.status.tolist(), gaps.requests) == (status, (name,))
        assert gaps.session == DAY.label
        assert all(found.index(b) < found.index(coverages[name]) for b in blocks[name])
    assert committed(settings) == 2


def test_history_goes_to_a_topic_of_its_own(broker: LocalBroker, namespace: str) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)
    source = open_source("synthetic:symbols=2")
    with running(Producer(settings, Told([], name="none"), fallbacks=[source])):
        ask(settings, request(source.symbols(), kind="history"))
        *blocks, coverage = records(read(settings, Topics(namespace).raw_history, 0, answers(1)))
    expected, _, _ = load_range(source, source.symbols(), DAY.open_ns, DAY.close_ns)
    assert rows(blocks) == rows(expected)
    assert (coverage.answer, coverage.symbols, coverage.rows) == ("rows", source.symbols(), 780)


@dataclass
class Waiting(Told):
    """A source that waits for a word before it gives what it was told to."""

    go_on: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def load(self, *arguments: Any) -> Iterator[Part]:
        self.entered.set()
        self.go_on.wait(WAIT_S)
        yield from super().load(*arguments)


def test_a_primary_that_hangs_keeps_no_gap_from_its_answer(
    broker: LocalBroker, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(broker, namespace).but(source_timeout_s=0.1)
    create_topics(settings, 1)
    primary = Waiting([Answer(("A",), "rows")], name="primary")
    fallback = Told([block_of("A", 1.0, 2.0)], name="second")
    producer = Producer(settings, primary, fallbacks=[fallback])
    with running(producer) as thread:
        # The session hangs, and with it the first gap that asks the same source.
        ask(settings, request(("A",)))
        assert primary.entered.wait(WAIT_S)
        ask(settings, gap_of("A", 0, 1), gap_of("A", 1, 2))
        found = records(read(settings, Topics(namespace).raw_bars, 0, answers(2)))
        assert closes([b for b in found if isinstance(b, BarBlock)]) == {
            ("A", 0, "second"): 1.0,
            ("A", 1, "second"): 2.0,
        }
        assert "source=primary request=gap A 0: no answer within 0.1 s" in caplog.text
        # Told to stop it does, and keeps no position behind the session that was not answered.
        producer.stop()
        thread.join(10)
        assert not thread.is_alive()
    assert committed(settings) < 0
    primary.go_on.set()


def test_beside_a_slow_session_gaps_are_answered_and_committed_behind_it(
    broker: LocalBroker, namespace: str
) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)
    slow = Waiting([block_of("A", 1.0), Answer(("A",), "rows")], name="slow")
    beside = Told([block_of("B", 5.0)], name="beside")

    @dataclass
    class Both(Told):
        """Slow with a session, quick with a few minutes."""

        def load(self, *arguments: Any) -> Iterator[Part]:
            is_session = arguments[3] == DAY.close_ns
            yield from (slow if is_session else beside).load(*arguments)

    with running(Producer(settings, Both([], name="both"))):
        ask(settings, request(("A",)))
        assert slow.entered.wait(WAIT_S)
        ask(settings, gap_of("B", 0, 1), request(("A",), id="next"))
        raw = Topics(namespace).raw_bars
        first = records(read(settings, raw, 0, answers(1)))
        assert [r.request for r in first] == ["gap B 0"] * 2
        assert committed(settings) < 0
        slow.go_on.set()
        found = records(read(settings, raw, 0, answers(3)))
    assert [r.request for r in found] == ["gap B 0"] * 2 + [f"{DAY.label}/0"] * 2 + ["next"] * 2
    assert committed(settings) == 3


def test_what_a_thread_of_ours_raises_ends_the_producer(
    broker: LocalBroker, namespace: str
) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)

    @dataclass
    class Broken(Told):
        def load(self, *arguments: Any) -> Iterator[Part]:
            raise ZeroDivisionError

    ask(settings, request(("A",)))
    with pytest.raises(ZeroDivisionError):
        Producer(settings, Broken([])).run()
    assert committed(settings) < 0


@contextmanager
def worker(
    settings: Settings, source: str, log: Path, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    env = os.environ | {
        "SESSIONTAPE_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "SESSIONTAPE_NAMESPACE": settings.namespace,
        "SESSIONTAPE_BROKER_SESSION_TIMEOUT_S": "6",
    }
    with log.open("ab") as out:
        command = [sys.executable, "-m", "streams.producer", "--source", source, *options]
        process = subprocess.Popen(command, env=env, stderr=out)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def test_killed_in_the_middle_it_sends_the_same_blocks_again(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)
    topic = Topics(namespace).raw_bars
    # Two sessions in one request: the wait before the second is when it is killed.
    slow = f"{MARKET},delay_ms=3000"
    symbols = open_source(slow).symbols()
    ask(settings, request(symbols, end_ns=NEXT.close_ns))
    with worker(settings, slow, tmp_path / "log") as process:
        before = records(read(settings, topic, 0, lambda m: len(m) >= 1))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert committed(settings) < 0
    with worker(settings, f"{MARKET},delay_ms=0", tmp_path / "log") as process:
        everything = records(read(settings, topic, 0, answers(1)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "log").read_text()
    assert committed(settings) == 1
    again = everything[len(before) : -1]
    assert [b.block for b in again] == list(range(len(again)))
    assert len(again) > len(before) > 0
    for first, second in zip(before, again, strict=False):
        assert Codec().encode(first) == Codec().encode(second)
    expected, _, _ = load_range(open_source(MARKET), symbols, DAY.open_ns, NEXT.close_ns)
    assert sorted(rows(again)) == sorted(rows(expected))
    assert everything[-1].blocks == len(again)


def test_what_a_process_withholds_it_fills_from_its_fallback(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)
    symbols = open_source(MARKET).symbols()
    options = ("--withhold", "5%@7+ends", "--fallback", MARKET)
    with worker(settings, f"{MARKET},vouch=0", tmp_path / "log", *options) as process:
        ask(settings, request(symbols), request(symbols, id="gap", kind="gap"))
        found = records(read(settings, Topics(namespace).raw_bars, 0, answers(2)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "log").read_text()
    withheld = sum(len(withheld_minutes("5%@7+ends", symbol, DAY)) for symbol in symbols)
    sent = {
        name: sum(len(b) for b in found if isinstance(b, BarBlock) and b.request == name)
        for name in (f"{DAY.label}/0", "gap")
    }
    assert sent == {f"{DAY.label}/0": len(symbols) * 390 - withheld, "gap": len(symbols) * 390}


def test_a_message_that_the_broker_refuses_is_an_error_with_counts(
    broker: LocalBroker, namespace: str
) -> None:
    settings = settings_of(broker, namespace)
    create_topics(settings, 1)
    source = open_source(MARKET)
    ask(settings, request(source.symbols()))
    producer = Producer(settings, source, message_max_bytes=100_000)
    with pytest.raises(DeliveryError, match="1 of 1 messages were not acknowledged") as caught:
        producer.run()
    assert (caught.value.failed, caught.value.sent) == (1, 1)
    assert committed(settings) < 0


def test_a_broker_that_dies_is_an_error_and_exit_code_1(namespace: str, tmp_path: Path) -> None:
    with LocalBroker(tmp_path / "broker") as own:
        settings = settings_of(own, namespace)
        create_topics(settings, 1)
        ask(settings, request(("SYN0001",)))

        @dataclass
        class Killing(Told):
            def load(self, *arguments: Any) -> Iterator[Part]:
                own.kill()
                yield from super().load(*arguments)

        parts: list[Part] = [block_of("SYN0001", 1.0), Answer(("SYN0001",), "rows")]
        producer = Producer(settings, Killing(parts), message_timeout_ms=2000)
        with pytest.raises(DeliveryError, match="2 of 2 messages"):
            producer.run()


def test_a_wrong_command_line_is_exit_code_2_and_one_sentence(tmp_path: Path) -> None:
    for arguments in ([], ["--source=nowhere:x"], ["--source", "lean:/does/not/exist"]):
        command = [sys.executable, "-m", "streams.producer", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode in (1, 2)
        assert done.stderr.count("\n") == 1, done.stderr
