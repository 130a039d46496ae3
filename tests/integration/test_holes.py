"""What an owner does when messages of its raw partition are not handed to it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas import Codec, Coverage
from streams.errors import HoleError
from streams.kafka import create_topics, first_offset, producer_config
from streams.local import LocalBroker
from streams.owner import Owner
from streams.settings import Settings, load
from streams.topics import Topics

MESSAGE = Codec().encode(Coverage(("AA",), 0, 60))


@pytest.fixture
def settings(broker: LocalBroker, namespace: str, tmp_path: Path) -> Settings:
    found = load().but(
        bootstrap_servers=broker.bootstrap_servers, namespace=namespace, data_dir=tmp_path
    )
    create_topics(found, 1)
    return found


def send_in_transactions(settings: Settings, *commits: bool) -> str:
    """Send one message in each transaction; every transaction leaves a mark behind it."""
    topic = Topics(settings.namespace).raw_bars
    producer = Producer(producer_config(settings, transactional_id=f"{topic}.test"))
    producer.init_transactions()
    for commits_it in commits:
        producer.begin_transaction()
        producer.produce(topic, MESSAGE, b"AA", 0)
        producer.flush()
        (producer.commit_transaction if commits_it else producer.abort_transaction)()
    return topic


def test_only_what_can_be_read_lies_between(settings: Settings) -> None:
    topic = send_in_transactions(settings, True, False, True)
    # Offsets: 0 a message, 1 its mark, 2 one undone, 3 its mark, 4 a message, 5 its mark.
    assert first_offset(settings, topic, 0, 0, 5) == 0
    assert first_offset(settings, topic, 0, 1, 4) is None
    assert first_offset(settings, topic, 0, 1, 5) == 4
    assert first_offset(settings, topic, 0, 5, 9) is None


async def test_an_owner_goes_on_over_marks_and_stops_at_a_hole(settings: Settings) -> None:
    topic = send_in_transactions(settings, True, False, True, True)

    async def tidy(*_: Any) -> None:
        return None

    owner = Owner(settings, 0, 1, readers_at=lambda *_: 0, is_at_end=lambda _: True, tidy=tidy)
    running = asyncio.create_task(owner.run())
    try:
        await owner.take(topic, 0, MESSAGE)
        await owner.take(topic, 4, MESSAGE)
        assert owner.backlog(topic) == 2
        await owner.take(topic, 6, MESSAGE)
        send_in_transactions(settings, True, True)
        with pytest.raises(HoleError, match="offset 8 had to come") as caught:
            await owner.take(topic, 10, MESSAGE)
        assert (caught.value.expected, caught.value.got) == (8, 10)
    finally:
        owner.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_who_waits_for_an_owner_that_is_closed_is_let_go(settings: Settings) -> None:
    async def tidy(*_: Any) -> None:
        return None

    owner = Owner(settings, 0, 1, readers_at=lambda *_: 0, is_at_end=lambda _: True, tidy=tidy)
    topic = Topics(settings.namespace).raw_ticks
    waiting = asyncio.create_task(owner.take(topic, 0, MESSAGE))
    owner.close()
    await asyncio.wait_for(waiting, 5)
    assert owner.backlog(topic) == 0
