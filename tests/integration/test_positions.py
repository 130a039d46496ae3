"""The position protocol on a real broker: transactions, fences, holes, and the last frame."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition

from schemas import Codec, Coverage, Frame
from schemas.records import Record
from streams import delivery
from streams.errors import BrokerError, DecodeError, FencedError, HoleError, TopicError
from streams.kafka import admin, create_topics, producer_config
from streams.local import LocalBroker
from streams.positions import Delivered, FrameReader, FrameWriter, Outgoing
from streams.settings import Settings, load
from streams.topics import Topics
from tests.frames import full_day, tape_of
from tests.reading import read_topic

# Of one shard: start, open, four frames of rows, close, end.
FRAMES = [d.frame for d in tape_of([full_day(2, 4)], cuts={0: (1, 2, 3)}).frames[0]]


@pytest.fixture
def settings(broker: LocalBroker, namespace: str, tmp_path: Path) -> Settings:
    found = load().but(
        bootstrap_servers=broker.bootstrap_servers, namespace=namespace, data_dir=tmp_path
    )
    create_topics(found, 1)
    return found


def write(settings: Settings, records: Sequence[Record]) -> None:
    """Put records on the session topic, each at the next offset."""
    topic, codec = Topics(settings.namespace).session, Codec()
    producer = Producer(producer_config(settings))
    for record in records:
        producer.produce(topic, codec.encode(record, topic), b"0", 0)
    assert producer.flush(30) == 0


def undo(settings: Settings, times: int) -> None:
    """Write frames that never count: each takes an offset, and so does its mark."""
    topic = Topics(settings.namespace).session
    producer = Producer(producer_config(settings, transactional_id=f"{topic}.undone"))
    producer.init_transactions(30)
    for _ in range(times):
        producer.begin_transaction()
        producer.produce(topic, Codec().encode(FRAMES[-1], topic), b"0", 0)
        producer.flush()
        producer.abort_transaction(30)


def read(settings: Settings, count: int, offset: int = 0) -> list[Delivered]:
    """Read so many frames from an offset on."""
    found: list[Delivered] = []
    with FrameReader(settings) as reader:
        reader.assign({0: offset})
        while len(found) < count:
            found += reader.poll(5)
    return found


def read_on(reader: FrameReader, found: list[Delivered]) -> None:
    """Read until an error ends it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found += reader.poll(1)


def numbers(found: Sequence[Delivered]) -> list[int]:
    return [delivered.frame.frame for delivered in found]


def test_a_release_is_one_transaction_with_all_that_belongs_to_it(settings: Settings) -> None:
    writer, topics = FrameWriter(settings, 0), Topics(settings.namespace)
    assert writer.open() is None
    other = Outgoing(topics.rejected, b"k", b"v", headers=(("reason", b"none"),))
    assert writer.release(FRAMES[:2], [other]) == (0, 1)
    assert writer.release(FRAMES[2:3]) == (3,), "offset 2 is the mark of the first transaction"
    found = read(settings, 3)
    assert [delivered.offset for delivered in found] == [0, 1, 3]
    assert numbers(found) == [0, 1, 2]
    (refusal,) = read_topic(settings, topics.rejected)
    assert (refusal.key(), refusal.value()) == (b"k", b"v")
    assert refusal.headers() == [("reason", b"none")]


def test_who_takes_over_fences_the_owner_before_and_finds_the_last_frame(
    settings: Settings,
) -> None:
    old, new = FrameWriter(settings, 0), FrameWriter(settings, 0)
    old.open()
    old.release(FRAMES[:2])
    last = new.open()
    assert last is not None
    assert (last.offset, last.frame.frame) == (1, 1)
    with pytest.raises(FencedError) as caught:
        old.release(FRAMES[2:3])
    assert caught.value.shard == 0
    new.release([replace(FRAMES[2], reason="of the new owner")])
    found = read(settings, 3)
    assert [delivered.frame.reason for delivered in found] == ["", "", "of the new owner"]


def test_a_message_that_no_broker_takes_ends_the_writer_and_leaves_nothing(
    settings: Settings,
) -> None:
    writer = FrameWriter(settings, 0)
    writer.open()
    huge = Outgoing(Topics(settings.namespace).rejected, b"k", b"x" * 2_000_000)
    with pytest.raises(BrokerError, match="shard 0 can't be written"):
        writer.release(FRAMES[:1], [huge])
    assert FrameWriter(settings, 0).open() is None


@pytest.mark.parametrize("undone", [3, 70])
def test_the_last_frame_lies_before_what_was_undone(settings: Settings, undone: int) -> None:
    """Behind it 6 offsets or 140: more than are looked at first."""
    write(settings, FRAMES[:2])
    undo(settings, undone)
    with FrameReader(settings) as reader:
        last = reader.last()[0]
        assert last is not None
        assert (last.offset, last.frame.frame) == (1, 1)
        assert reader.ends() == {0: 2 + 2 * undone}
        reader.assign({0: 0})
        assert numbers(reader.poll(5)) == [0, 1]


def test_a_shard_in_which_nothing_counts_has_no_last_frame(settings: Settings) -> None:
    with FrameReader(settings) as reader:
        assert reader.last() == {0: None}
        undo(settings, 6)
        assert reader.last() == {0: None}


def test_frames_that_come_again_are_dropped(settings: Settings) -> None:
    write(settings, [FRAMES[0], FRAMES[1], FRAMES[1], FRAMES[0], FRAMES[2]])
    found = read(settings, 3)
    assert numbers(found) == [0, 1, 2]
    assert [delivered.offset for delivered in found] == [0, 1, 4]


@pytest.mark.parametrize(
    ("records", "what", "expected", "got"),
    [
        ([FRAMES[2], FRAMES[4]], "frame", 3, 4),
        ([FRAMES[2], replace(FRAMES[3], first_row=7)], "row", 2, 7),
    ],
)
def test_a_hole_is_an_error_behind_what_came_before(
    settings: Settings, records: list[Frame], what: str, expected: int, got: int
) -> None:
    write(settings, records)
    found: list[Delivered] = []
    with FrameReader(settings) as reader:
        reader.assign({0: 0})
        with pytest.raises(HoleError, match=f"{what} {expected} had to come") as caught:
            read_on(reader, found)
    assert numbers(found) == [2]
    assert (caught.value.expected, caught.value.got) == (expected, got)
    assert (caught.value.topic, caught.value.partition) == (reader.topic, 0)


def test_a_position_whose_frames_were_deleted_is_a_hole(settings: Settings) -> None:
    write(settings, FRAMES[:4])
    place = TopicPartition(Topics(settings.namespace).session, 0, 3)
    with admin(settings) as client:
        client.delete_records([place])[place].result(30)
    with FrameReader(settings) as reader:
        assert reader.starts() == {0: 3}
        reader.assign({0: 1})
        with pytest.raises(HoleError, match="offset 1 had to come, 3 came"):
            read_on(reader, [])
        reader.assign(reader.starts())
        assert numbers(reader.poll(5)) == [3]


@pytest.mark.parametrize(
    ("record", "what"),
    [(Coverage(("AA",), 0, 60), "Coverage"), (replace(FRAMES[1], shard=1, shards=2), "Frame")],
)
def test_what_is_no_frame_of_the_shard_is_named_by_its_place(
    settings: Settings, record: Record, what: str
) -> None:
    write(settings, [record])
    with FrameReader(settings) as reader:
        reader.assign({0: 0})
        with pytest.raises(DecodeError, match=f"a {what} that is no frame of this shard") as caught:
            read_on(reader, [])
        assert caught.value.offset == 0
        with pytest.raises(DecodeError):
            reader.last()


def test_a_group_commits_where_it_is(settings: Settings) -> None:
    write(settings, FRAMES[:2])
    group = f"{settings.namespace}.reader"
    with FrameReader(settings, group) as reader:
        assert reader.committed() == {0: None}
        reader.commit({})
        assert reader.committed() == {0: None}
        reader.commit({0: 1})
    with FrameReader(settings, group) as reader:
        assert reader.committed() == {0: 1}
        reader.assign({0: 1})
        assert numbers(reader.poll(5)) == [1]


def test_a_namespace_that_was_not_made_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "METADATA_TIMEOUT_S", 0.5)
    nowhere = settings.but(namespace=f"{settings.namespace}-not")
    with pytest.raises(TopicError, match="sessiontape up"):
        FrameReader(nowhere)
    with (
        FrameReader(nowhere, shards=(0,)) as reader,
        pytest.raises(BrokerError, match="can't be read"),
    ):
        reader.ends()
