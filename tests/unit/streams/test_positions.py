"""What the writer and the reader of frames do with errors that no broker gives on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from schemas import Codec, Frame
from streams import delivery, positions
from streams.errors import BrokerError, DecodeError, FencedError, HoleError
from streams.positions import FrameReader, FrameWriter, Outgoing
from streams.settings import load
from tests.frames import Tape

T = TypeVar("T")
SETTINGS = load().but(bootstrap_servers="127.0.0.1:1")


def failure(
    code: int,
    *,
    retriable: bool = False,
    fatal: bool = False,
    aborts: bool = False,
) -> KafkaException:
    return KafkaException(
        KafkaError(code, "by script", fatal=fatal, retriable=retriable, txn_requires_abort=aborts)
    )


AWAY = failure(KafkaError._TIMED_OUT, retriable=True)
UNDONE = failure(KafkaError.INVALID_TXN_STATE, aborts=True)


@dataclass
class Sent:
    """A message that was acknowledged."""

    at: int

    def offset(self) -> int:
        return self.at


class ScriptedProducer:
    """A transactional producer that fails as its script says: by method, one answer a call."""

    def __init__(
        self, refused: Sequence[KafkaError] = (), **script: Sequence[BaseException | None]
    ) -> None:
        self._refused = list(refused)
        self._script: dict[str, Iterator[BaseException | None]] = {
            name: iter(answers) for name, answers in script.items()
        }
        self.calls: list[str] = []
        self.end = 0
        self.sent: list[tuple[str, bytes, bytes, int]] = []

    def _answer(self, name: str) -> None:
        self.calls.append(name)
        if (error := next(self._script.get(name, iter(())), None)) is not None:
            raise error

    def init_transactions(self, _: float) -> None:
        self._answer("init")

    def begin_transaction(self) -> None:
        self._answer("begin")

    def produce(
        self,
        topic: str,
        value: bytes,
        key: bytes,
        partition: int,
        *,
        on_delivery: Callable[[KafkaError | None, Sent], None],
        headers: object,
    ) -> None:
        self._answer("produce")
        self.sent.append((topic, value, key, partition))
        on_delivery(self._refused.pop(0) if self._refused else None, Sent(self.end))
        self.end += 1

    def poll(self, _: float) -> None:
        self._answer("poll")

    def flush(self, _: float) -> None:
        self._answer("flush")

    def commit_transaction(self, _: float) -> None:
        self._answer("commit")

    def abort_transaction(self, _: float) -> None:
        self._answer("abort")


@pytest.fixture
def writer_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[ScriptedProducer], FrameWriter]:
    def make(producer: ScriptedProducer) -> FrameWriter:
        monkeypatch.setattr(positions, "Producer", lambda _: producer)
        monkeypatch.setattr(positions, "RETRY_S", 0.0)
        return FrameWriter(SETTINGS, 3)

    return make


Making = Callable[[ScriptedProducer], FrameWriter]


def frames(count: int) -> list[Frame]:
    tape = Tape(shards=4)
    for _ in range(count):
        tape.put(tape.event(3, "start"))
    return [delivered.frame for delivered in tape.frames[3]]


def test_while_the_brokers_are_away_the_commit_is_asked_again(writer_of: Making) -> None:
    producer = ScriptedProducer(commit=[AWAY, AWAY])
    assert writer_of(producer).release(frames(2), [Outgoing("other", b"k", b"v", 1)]) == (0, 1)
    assert producer.calls == ["begin", *["produce"] * 3, "flush", "commit", "commit", "commit"]
    topic = "tape.session"
    assert [(t, k, p) for t, _, k, p in producer.sent] == [
        (topic, b"3", 3),
        (topic, b"3", 3),
        ("other", b"k", 1),
    ]


def test_a_transaction_that_was_undone_is_done_again_whole(writer_of: Making) -> None:
    producer = ScriptedProducer(commit=[UNDONE], abort=[AWAY])
    assert writer_of(producer).release(frames(2)) == (2, 3), "the offsets of the second time"
    once = ["begin", "produce", "produce", "flush", "commit"]
    assert producer.calls == [*once, "abort", "abort", *once]


def test_a_transaction_undone_while_it_is_written_is_done_again(writer_of: Making) -> None:
    producer = ScriptedProducer(produce=[None, failure(KafkaError._STATE)])
    assert writer_of(producer).release(frames(2)) == (1, 2)
    assert producer.calls.count("abort") == 1


def test_a_full_queue_is_let_drain(writer_of: Making) -> None:
    producer = ScriptedProducer(produce=[BufferError(), BufferError()])
    assert writer_of(producer).release(frames(1)) == (0,)
    assert producer.calls[:6] == ["begin", "produce", "poll", "produce", "poll", "produce"]


@pytest.mark.parametrize("code", [KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH])
@pytest.mark.parametrize("where", ["begin", "produce", "commit"])
def test_a_writer_that_is_fenced_stops(writer_of: Making, where: str, code: int) -> None:
    script: dict[str, Any] = {where: [failure(code, fatal=True)]}
    producer = ScriptedProducer(**script)
    with pytest.raises(FencedError) as caught:
        writer_of(producer).release(frames(1))
    assert caught.value.shard == 3
    assert "abort" not in producer.calls


def test_brokers_that_can_not_be_found_to_abort_end_the_worker(writer_of: Making) -> None:
    gone = failure(KafkaError._RESOLVE)
    with pytest.raises(BrokerError, match=r"shard \d: the brokers are away, .* ends for it: .+"):
        writer_of(ScriptedProducer(commit=[UNDONE], abort=[gone])).release(frames(1))


def test_who_is_fenced_while_it_aborts_stops_too(writer_of: Making) -> None:
    fenced = failure(KafkaError._FENCED, fatal=True)
    with pytest.raises(FencedError):
        writer_of(ScriptedProducer(commit=[UNDONE], abort=[fenced])).release(frames(1))


def test_a_writer_that_is_refused_for_good_stops(writer_of: Making) -> None:
    refused = failure(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, fatal=True)
    producer = ScriptedProducer(begin=[refused])
    with pytest.raises(BrokerError, match="shard 3 can't be written: by script"):
        writer_of(producer).release(frames(1))
    assert producer.calls == ["begin"]


@pytest.mark.parametrize(
    "script",
    [
        {"produce": [failure(KafkaError.MSG_SIZE_TOO_LARGE)]},
        {"refused": [KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "by script")], "commit": [UNDONE]},
        {"commit": [failure(KafkaError.MSG_SIZE_TOO_LARGE, aborts=True)]},
    ],
)
def test_what_would_be_refused_again_is_undone_and_not_tried_again(
    writer_of: Making, script: dict[str, Any]
) -> None:
    producer = ScriptedProducer(**script)
    with pytest.raises(BrokerError, match="shard 3 can't be written: by script"):
        writer_of(producer).release(frames(1))
    assert (producer.calls.count("begin"), producer.calls[-1]) == (1, "abort")


def test_an_error_that_asks_for_an_abort_ends_taking_over(writer_of: Making) -> None:
    with pytest.raises(KafkaException):
        writer_of(ScriptedProducer(init=[UNDONE])).open()


def test_a_writer_that_was_let_go_takes_nothing_over(writer_of: Making) -> None:
    producer = ScriptedProducer()
    writer = writer_of(producer)
    writer.close()
    with pytest.raises(BrokerError, match="shard 3 was let go"):
        writer.open()
    assert producer.calls == []


def test_a_writer_that_is_closed_gives_up_while_the_brokers_are_away(writer_of: Making) -> None:
    producer = ScriptedProducer(commit=[AWAY])
    writer = writer_of(producer)
    writer.close()
    with pytest.raises(BrokerError):
        writer.release(frames(1))
    assert producer.calls.count("commit") == 1


def test_taking_over_waits_for_the_brokers_and_stops_when_fenced(writer_of: Making) -> None:
    fenced = failure(KafkaError._FENCED, fatal=True)
    producer = ScriptedProducer(init=[AWAY, fenced])
    with pytest.raises(FencedError):
        writer_of(producer).open()
    assert producer.calls == ["init", "init"]


@dataclass
class Came:
    """A message of a consumer, or an error."""

    at: int = 0
    body: bytes = b""
    code: int | None = None
    is_fatal: bool = False

    def error(self) -> KafkaError | None:
        if self.code is None:
            return None
        return KafkaError(self.code, "by script", fatal=self.is_fatal)

    def offset(self) -> int:
        return self.at

    def partition(self) -> int:
        return 0

    def value(self) -> bytes:
        return self.body


@dataclass
class ScriptedConsumer:
    """A consumer of one partition that hands out what it was given, one message a poll."""

    script: list[Came | None] = field(default_factory=list)
    watermarks: list[tuple[int, int] | KafkaException] = field(default_factory=list)
    offsets: list[int | KafkaException] = field(default_factory=list)
    asked: int = 0
    is_quick: bool = False

    def poll(self, _: float) -> Came | None:
        return self.script.pop(0) if self.script else None

    def consume(self, *_: float) -> list[Came]:
        if not self.is_quick:
            return []
        found, self.script = [m for m in self.script if m is not None], []
        return found

    def assign(self, _: object) -> None:
        pass

    def unassign(self) -> None:
        pass

    def get_watermark_offsets(self, _: TopicPartition, __: float) -> tuple[int, int]:
        return self._answer(self.watermarks)

    def committed(self, wanted: Sequence[TopicPartition], _: float) -> list[TopicPartition]:
        (place,) = wanted
        script: list[int | KafkaException] = self.offsets or [AWAY]
        place.offset = self._answer(script)
        return [place]

    def _answer(self, script: list[T | KafkaException]) -> T:
        """Give the next answer; the last of them is given for ever."""
        self.asked += 1
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, KafkaException):
            raise answer
        return answer

    def commit(self, **_: object) -> None:
        raise AWAY

    def close(self) -> None:
        pass


Reading = Callable[[ScriptedConsumer], FrameReader]


@pytest.fixture
def reader_of(monkeypatch: pytest.MonkeyPatch) -> Reading:
    def make(consumer: ScriptedConsumer) -> FrameReader:
        monkeypatch.setattr(delivery, "Consumer", lambda _: consumer)
        monkeypatch.setattr(delivery, "METADATA_TIMEOUT_S", 0.3)
        monkeypatch.setattr(delivery, "LEADER_POLL_S", 0.01)
        return FrameReader(SETTINGS, shards=(0,))

    return make


@pytest.mark.parametrize(
    "error",
    [
        Came(code=KafkaError.TOPIC_AUTHORIZATION_FAILED),
        Came(code=KafkaError._AUTHENTICATION),
        Came(code=KafkaError._FATAL, is_fatal=True),
    ],
)
def test_a_refusal_ends_reading(reader_of: Reading, error: Came) -> None:
    with pytest.raises(BrokerError, match=r"tape\.session can't be read: by script"):
        reader_of(ScriptedConsumer([error])).poll(0)
    with pytest.raises(BrokerError, match="can't be read"):
        reader_of(ScriptedConsumer([error], [(0, 5)])).last()


def test_reading_goes_on_while_brokers_come_back(reader_of: Reading) -> None:
    body = Codec().encode(_start(0))
    away = Came(code=KafkaError._ALL_BROKERS_DOWN)
    reader = reader_of(ScriptedConsumer([away, None, Came(7, body)]))
    assert (reader.poll(0), reader.poll(0)) == ([], [])
    assert [delivered.offset for delivered in reader.poll(0)] == [7]
    end = Came(code=KafkaError._PARTITION_EOF)
    found = reader_of(ScriptedConsumer([away, Came(7, body), end], [(0, 8)])).last()[0]
    assert found is not None
    assert found.offset == 7


def _start(number: int) -> Frame:
    tape = Tape()
    for _ in range(number + 1):
        tape.start()
    return tape.frames[0][number].frame


def test_a_message_behind_the_end_that_was_asked_for_is_not_the_last(reader_of: Reading) -> None:
    bodies = [Codec().encode(_start(number)) for number in (0, 1)]
    came: list[Came | None] = [Came(3, bodies[0]), Came(4, bodies[1])]
    found = reader_of(ScriptedConsumer(came, [(0, 4)])).last()[0]
    assert found is not None
    assert (found.offset, found.frame.frame) == (3, 0)
    # Cut behind the offset that was looked at first: what is left is looked at, if any is.
    cut = Came(0, code=KafkaError._AUTO_OFFSET_RESET)
    again: list[Came | None] = [cut, Came(3, bodies[0]), Came(4, bodies[1])]
    found = reader_of(ScriptedConsumer(again, [(0, 4), (3, 4)])).last()[0]
    assert found is not None
    assert found.offset == 3
    assert reader_of(ScriptedConsumer([cut], [(0, 4), (4, 4)])).last() == {0: None}
    with pytest.raises(HoleError, match="offset 0 had to come"):
        reader_of(ScriptedConsumer([cut], [(0, 4)])).last()
    # Of the first stretch, [92, 100), none can be read: then one further back is looked at.
    back: list[Came | None] = [Came(100, bodies[1]), Came(3, bodies[0]), Came(100, bodies[1])]
    found = reader_of(ScriptedConsumer(back, [(0, 100)])).last()[0]
    assert found is not None
    assert found.offset == 3


def test_a_last_frame_that_does_not_come_is_an_error(reader_of: Reading) -> None:
    with pytest.raises(BrokerError, match=r"the last frame of tape\.session\[0\] did not come"):
        reader_of(ScriptedConsumer([], [(0, 5)])).last()


def test_a_partition_without_a_leader_is_asked_again(reader_of: Reading) -> None:
    leaderless = failure(KafkaError.LEADER_NOT_AVAILABLE)
    consumer = ScriptedConsumer(watermarks=[leaderless, leaderless, (2, 9)])
    assert reader_of(consumer).ends() == {0: 9}
    assert consumer.asked == 3
    with pytest.raises(BrokerError, match=r"offsets of tape\.session\[0\] can't be read"):
        reader_of(ScriptedConsumer(watermarks=[leaderless])).starts()
    refused = ScriptedConsumer(watermarks=[failure(KafkaError.TOPIC_AUTHORIZATION_FAILED)])
    with pytest.raises(BrokerError):
        reader_of(refused).starts()
    assert refused.asked == 1


def test_a_group_without_a_coordinator_is_asked_again(reader_of: Reading) -> None:
    nobody = failure(KafkaError.NOT_COORDINATOR)
    consumer = ScriptedConsumer(offsets=[nobody, nobody, 9])
    assert reader_of(consumer).committed() == {0: 9}
    assert consumer.asked == 3
    with pytest.raises(BrokerError, match="committed offsets can't be read"):
        reader_of(ScriptedConsumer(offsets=[nobody])).committed()


def test_offsets_that_were_deleted_are_a_hole(reader_of: Reading) -> None:
    for code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        with pytest.raises(HoleError) as caught:
            reader_of(ScriptedConsumer([Came(4, code=code)], [(6, 9)])).poll(0)
        assert (caught.value.expected, caught.value.got) == (4, 6)


def test_bytes_that_are_no_record_are_named_by_their_place(reader_of: Reading) -> None:
    with pytest.raises(DecodeError) as caught:
        reader_of(ScriptedConsumer([Came(5, b"nonsense")])).poll(0)
    found = caught.value
    assert (found.topic, found.partition, found.offset) == ("tape.session", 0, 5)


def test_what_came_before_an_error_counts_and_then_the_error(reader_of: Reading) -> None:
    def reader() -> FrameReader:
        came = [Came(0, Codec().encode(_start(0))), Came(1, b"nonsense"), Came(2, b"more")]
        return reader_of(ScriptedConsumer([*came], is_quick=True))

    first = reader()
    assert [delivered.offset for delivered in first.poll(0)] == [0]
    with pytest.raises(DecodeError, match="@1"):
        first.poll(0)
    assert first.poll(0) == []
    second = reader()
    assert len(second.poll(0)) == 1
    second.assign({0: 0})  # what came before is forgotten, its errors too
    assert second.poll(0) == []


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda reader: reader.committed(), "committed offsets can't be read"),
        (lambda reader: reader.commit({0: 3}), "offsets can't be committed"),
    ],
)
def test_a_group_whose_coordinator_is_away(
    reader_of: Reading, ask: Callable[[FrameReader], Any], what: str
) -> None:
    nothing: Mapping[int, int] = {}
    with reader_of(ScriptedConsumer()) as reader:
        reader.commit(nothing)
        with pytest.raises(BrokerError, match=f"{what}: by script"):
            ask(reader)
