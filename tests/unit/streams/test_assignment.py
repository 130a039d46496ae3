"""What a worker says of the shards that its group has given it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from schemas import Command
from streams.assignment import Assignment
from streams.errors import FencedError
from streams.settings import load


class Owner:
    """An owner that takes its shard over when it is told to."""

    def __init__(self) -> None:
        self.is_ours = self.is_taking = False
        self.is_closed = False

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def take(self, topic: str, offset: int, value: bytes | None) -> None: ...

    def command(self, command: Command) -> None: ...

    def next_offset(self, topic: str) -> int | None:
        return None

    def close(self) -> None:
        self.is_closed = True


class Signal:
    def __init__(self) -> None:
        self.listeners: list[Any] = []

    def connect(self, listener: Any, *, weak: bool) -> None:
        assert not weak
        self.listeners.append(listener)


async def test_it_lacks_what_is_not_given_or_not_taken_over_yet() -> None:
    app = SimpleNamespace(
        on_partitions_assigned=Signal(),
        on_partitions_revoked=Signal(),
        consumer_generation_id=1,
        task=lambda _: None,
    )
    owners: dict[int, Owner] = {}

    def make(shard: int) -> Owner:
        owners[shard] = Owner()
        return owners[shard]

    shards = Assignment(load().but(bootstrap_servers="localhost:1"), app, "t", make)
    assert shards.problem() == "the group has not said yet which shards are its own"
    (assigned,), (revoked,) = (
        app.on_partitions_assigned.listeners,
        app.on_partitions_revoked.listeners,
    )
    await assigned(app, set())
    assert shards.problem() == ""  # one too many has none, and that is well
    await assigned(app, {TP("t", 1), TP("t", 4), TP("other", 2)})
    assert shards.problem() == "not taken over yet: shard 1, 4"
    owners[1].is_ours = True
    assert shards.problem() == "not taken over yet: shard 4"
    owners[4].is_ours = True
    assert shards.problem() == ""
    await revoked()
    assert shards.problem() == ""
    assert all(owner.is_closed for owner in owners.values())


@pytest.mark.parametrize("is_stopping", [True, False])
async def test_a_shard_that_is_taken_over_while_it_stops_is_no_fault(is_stopping: bool) -> None:
    crashes: list[BaseException] = []

    async def crash(exc: BaseException) -> None:
        crashes.append(exc)

    app = SimpleNamespace(
        on_partitions_assigned=Signal(),
        on_partitions_revoked=Signal(),
        consumer_generation_id=1,
        task=lambda _: None,
        should_stop=is_stopping,
        crash=crash,
    )

    class Fenced(Owner):
        async def run(self) -> None:
            raise FencedError(3)

    settings = load().but(bootstrap_servers="localhost:1")
    Assignment(settings, app, "t", lambda _: Fenced())
    await app.on_partitions_assigned.listeners[0](app, {TP("t", 3)})
    await asyncio.sleep(0)
    assert [type(crash) for crash in crashes] == ([] if is_stopping else [FencedError])
