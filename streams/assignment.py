"""Shards of a Faust app, given and taken away by its group: each has an owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from faust.types import TP

from schemas import Command
from streams.control import ControlReader
from streams.errors import FencedError
from streams.settings import Settings
from streams.worker import UNASSIGNED, fail

__all__ = ["Assignment", "ShardOwner"]

log = logging.getLogger(__name__)


class ShardOwner(Protocol):
    """Works on one shard from an assignment to its end."""

    async def run(self) -> None:
        """Work until cancelled; what it raises ends the process."""
        ...

    async def take(self, topic: str, offset: int, value: bytes | None) -> None:
        """Take a message of the shard's partition of a topic."""
        ...

    def command(self, command: Command) -> None:
        """Take a command of the namespace."""
        ...

    @property
    def is_taking(self) -> bool:
        """Whether it takes messages by now, and knows which comes next."""
        ...

    @property
    def is_ours(self) -> bool:
        """Whether the shard is taken over by now."""
        ...

    def next_offset(self, topic: str) -> int | None:
        """Return the offset behind the last message of a topic that it took; None for none."""
        ...

    def close(self) -> None:
        """Let go of the shard."""
        ...


OwnerT = TypeVar("OwnerT", bound=ShardOwner)


class Assignment(Generic[OwnerT]):
    """The owners of the shards that this process has now.

    Parameters
    ----------
    settings
        Brokers and namespace.
    app
        The Faust app, which takes batches.
    topic
        The topic whose partitions are the shards. Others may be read with it: of all that have as
        many partitions a member of the group is given the same ones.
    make
        Makes the owner of a shard.
    """

    def __init__(
        self, settings: Settings, app: Any, topic: str, make: Callable[[int], OwnerT]
    ) -> None:
        self._app = app
        self._topic = topic
        self._make = make
        self._held: dict[int, tuple[int, OwnerT, asyncio.Task[None]]] = {}
        self._command: Command | None = None
        self._control = ControlReader(settings, self._commanded, self._unheard)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._was_asked = False
        app.on_partitions_assigned.connect(self._assigned, weak=False)
        app.on_partitions_revoked.connect(self._revoked, weak=False)
        app.task(self._begin)

    @property
    def owners(self) -> dict[int, OwnerT]:
        """Owners by shard."""
        return {shard: owner for shard, (_, owner, _) in self._held.items()}

    def problem(self) -> str:
        """Return in one sentence what is not held that should be; empty for nothing."""
        if not self._was_asked:
            return UNASSIGNED
        waiting = [str(shard) for shard, owner in self.owners.items() if not owner.is_ours]
        return f"not taken over yet: shard {', '.join(waiting)}" if waiting else ""

    def next_offsets(self, topic: str) -> dict[int, int | None]:
        """Return by shard which offset of a topic is to come next; None where nothing came."""
        owners = self.owners.items()
        return {shard: owner.next_offset(topic) for shard, owner in owners if owner.is_taking}

    async def hand(self, message: Any) -> OwnerT | None:
        """Hand a batch to its shard's owner; None where there is none, or it failed.

        One of an assignment that is over is left out. A fault ends the process.
        """
        generation, owner, _ = self._held.get(message.partition, (None, None, None))
        if owner is None or message.generation_id != generation:
            return None
        try:
            for came in message.value:
                await owner.take(message.topic, came.offset, came.value)
        except Exception as exc:  # noqa: BLE001 - it ends the process, whatever it is
            await self._failed(exc)
            return None
        return owner

    async def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._control.start()

    def _commanded(self, command: Command) -> None:
        """Take a command, in the thread of the control topic."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._command_all, command)

    def _unheard(self, exc: Exception) -> None:
        """End the process when commands can't be read, in the thread of the control topic."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(fail(self._app, exc), self._loop)

    def _command_all(self, command: Command) -> None:
        if self._command is None or command.version > self._command.version:
            self._command = command
            for owner in self.owners.values():
                owner.command(command)

    async def _assigned(self, app: Any, assigned: Iterable[TP], **_: Any) -> None:
        await self._let_go()
        self._was_asked = True
        for place in sorted(assigned):
            if place.topic == self._topic:
                self._own(place.partition, app.consumer_generation_id)

    async def _revoked(self, *_: Any, **__: Any) -> None:
        await self._let_go()

    def _own(self, shard: int, generation: int) -> None:
        owner = self._make(shard)
        if self._command is not None:
            owner.command(self._command)
        task = asyncio.get_running_loop().create_task(self._owned(owner))
        self._held[shard] = (generation, owner, task)

    async def _owned(self, owner: OwnerT) -> None:
        try:
            await owner.run()
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001 - it ends the process, whatever it is
            await self._failed(exc)

    async def _failed(self, exc: Exception) -> None:
        """End the process for a fault, which a shard that is taken over while we stop is not."""
        if isinstance(exc, FencedError) and self._app.should_stop:
            # Faust leaves the group before it lets us go: who takes over may be quicker.
            log.info("%s", exc)
        else:
            await fail(self._app, exc)

    async def _let_go(self) -> None:
        held, self._held = self._held, {}
        for _, owner, task in held.values():
            owner.close()
            task.cancel()
        await asyncio.gather(*(task for _, _, task in held.values()), return_exceptions=True)
