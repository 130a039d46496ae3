"""What the producer does before it meets a broker, and the counting of its outbox."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from streams import producer
from streams.errors import ConfigError, DeliveryError
from streams.outbox import Outbox
from streams.settings import load

# Nothing listens there: what is sent stays unacknowledged.
NOBODY = load().but(bootstrap_servers="127.0.0.1:1")


def outbox_of(stop: threading.Event | None = None, **changes: Any) -> Outbox:
    return Outbox(NOBODY, stop or threading.Event(), changes)


def place(offset: int, partition: int = 0) -> TopicPartition:
    return TopicPartition("requests", partition, offset)


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["--source"], ["synthetic:"], ["--sauce", "x"], ["a"] * 3, ["--sour", "synthetic:"]),
        *(["--fallback", "synthetic:"], ["--source", "synthetic:", "--withhold"]),
    ],
)
def test_a_wrong_command_line_is_told_the_right_one(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert producer.main(arguments) == 2
    assert capsys.readouterr().err == f"{producer.USAGE}\n"


def test_without_a_broker_it_says_how_to_get_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "load", lambda: load().but(bootstrap_servers=""))
    assert producer.main(["--source=synthetic:"]) == 2
    assert "no broker: start one with `sessiontape up`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--withhold", "half"], "'half' is none of 2%@7"),
        (["--fallback", "synthetic:", "--fallback=nowhere:x"], "'nowhere:x' is no source"),
    ],
)
def test_what_it_can_t_use_is_named_in_a_sentence(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert producer.main(["--source=synthetic:", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_answers_are_settled_in_their_order() -> None:
    outbox = outbox_of()
    first, second, other = outbox.begin(place(1)), outbox.begin(place(2)), outbox.begin(place(7, 1))
    second.complete = other.complete = True
    assert outbox.settle() == []
    first.complete = True
    settled = [(p.partition, p.offset) for p in outbox.settle()]
    assert settled == [(0, 2), (1, 7)]
    assert len(outbox) == 0


def test_an_answer_with_messages_out_is_not_settled_and_a_lost_one_is_an_error() -> None:
    outbox = outbox_of(message_timeout_ms=300)
    answered = outbox.begin(place(1))
    for _ in range(3):
        outbox.send(answered, "raw.bars", b"x", "k", partition=0)
    answered.complete = True
    assert (answered.sent, answered.open) == (3, 3)
    assert outbox.settle() == []
    with pytest.raises(DeliveryError, match=r"3 of 3 messages were not acknowledged: .*timed out"):
        outbox.settle(10.0)


def test_a_full_queue_waits_until_told_to_stop() -> None:
    stop = threading.Event()
    outbox = outbox_of(stop, queue_buffering_max_messages=1)
    answered = outbox.begin(place(1))
    outbox.send(answered, "raw.bars", b"x", "k", partition=0)
    stop.set()
    outbox.send(answered, "raw.bars", b"x", "k", partition=0)
    assert (answered.sent, answered.open, answered.failed) == (2, 1, 0)


def test_a_full_queue_whose_messages_are_lost_is_an_error() -> None:
    outbox = outbox_of(queue_buffering_max_messages=1, message_timeout_ms=300)
    answered = outbox.begin(place(1))
    outbox.send(answered, "raw.bars", b"x", "k", partition=0)
    with pytest.raises(DeliveryError, match="1 of 2 messages"):
        outbox.send(answered, "raw.bars", b"x", "k", partition=0)


def test_a_message_that_is_too_large_is_an_error_at_once() -> None:
    outbox = outbox_of(message_max_bytes=1000)
    answered = outbox.begin(place(1))
    with pytest.raises(DeliveryError) as caught:
        outbox.send(answered, "raw.bars", b"x" * 2000, "k", partition=0)
    assert (caught.value.failed, caught.value.sent) == (1, 1)
    assert "too large" in str(caught.value)


def test_a_producer_needs_a_broker_in_its_settings() -> None:
    with pytest.raises(ConfigError, match="no broker"):
        Outbox(load().but(bootstrap_servers=""), threading.Event(), {})
