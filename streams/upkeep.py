"""The upkeep: the tape in; requests for what is missing, derived bars and trailing days out.

One process of a consumer group, beside the tape: nothing here slows it. Faust commits nothing by
itself; what is committed for the group is from where the tape is to be read again after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from functools import partial
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from faust.types import TP

from schemas import Command
from streams.assignment import Assignment
from streams.calendar import prepare
from streams.delivery import FrameReader
from streams.errors import BrokerError, SessiontapeError
from streams.kafka import admin, check_topics, report_uncut
from streams.keeper import Keeper
from streams.metrics import Lag
from streams.refetch import Refetch
from streams.settings import Settings, load
from streams.topics import Topics
from streams.trailing import Store, Trailing
from streams.worker import make_app, run_app

__all__ = ["Upkeep"]

log = logging.getLogger(__name__)


class Upkeep:
    """Wires Faust, the keepers of the shards and the loading of trailing days together.

    Parameters
    ----------
    settings
        Brokers, namespace, gaps and derived bars.

    Raises
    ------
    TopicError
        The topics of the namespace are missing or differ in their partitions.
    """

    def __init__(self, settings: Settings) -> None:
        self.topics = Topics(settings.namespace)
        self._settings = settings
        shards = check_topics(settings, (self.topics.session,))
        derived = [self.topics.derived(name) for name in settings.derived]
        own = (*derived, self.topics.history, self.topics.raw_history, self.topics.requests)
        check_topics(settings, dict.fromkeys(own, shards))
        self._shards = shards
        self._admin: AdminClient = admin(settings)
        self._sinks: dict[str, FrameReader] = {}
        self._trailing: dict[int, tuple[str, Trailing]] = {}
        self.app = make_app(settings, self.topics.upkeep, takes_batches=True)
        self._assignment = Assignment(settings, self.app, self.topics.session, self._keeper)
        self.app.agent(self.app.topic(self.topics.session))(self._frames)
        came = partial(self._assignment.next_offsets, self.topics.session)
        lag = Lag(settings.namespace, "upkeep", self.topics.session)
        Refetch(self.app, self.topics.session, came, lag)

    def run(self) -> None:
        """Run until SIGTERM or a fault."""
        prepare(self._settings.calendar)  # now, and not when the first run begins
        with self._admin:
            run_app(self.app, self._settings, "upkeep", self._assignment.problem)

    async def _frames(self, stream: Any) -> None:
        """Hand what comes of the tape to the keeper of its shard."""
        async for event in stream.noack().events():
            await self._assignment.hand(event.message)

    def _keeper(self, shard: int) -> Keeper:
        return Keeper(
            self._settings, shard, self._shards, tidy=self._tidy, begun=self._load_trailing
        )

    def _load_trailing(self, shard: int, command: Command) -> None:
        """Load what came before a run, in a thread of its own: the clock never waits for it."""
        run, trailing = self._trailing.get(shard, ("", None))
        if run == command.run:
            return
        if trailing is not None:
            trailing.stop()
        trailing = Trailing(self._settings, shard, self._shards, _open_store)
        self._trailing[shard] = (command.run, trailing)
        name, arguments = f"trailing-{shard}", (trailing, command)
        threading.Thread(target=_load, args=arguments, name=name, daemon=True).start()

    async def _tidy(self, shard: int, keep: int, derived: dict[str, int]) -> None:
        """Commit where to begin reading, and delete derived bars that nobody needs any more."""
        if self.app.should_stop:
            return
        await self.app.consumer._commit({TP(self.topics.session, shard): keep})
        if derived:
            await asyncio.to_thread(self._cut, shard, derived)

    def _cut(self, shard: int, derived: dict[str, int]) -> None:
        """Delete what lies before some offsets, but nothing that the sink has not stored."""
        places = []
        for topic, before in derived.items():
            offset = min(before, self._stored(topic, shard, before))
            if offset > 0:
                places.append(TopicPartition(topic, shard, offset))
        for place, done in (self._admin.delete_records(places) if places else {}).items():
            done.add_done_callback(partial(report_uncut, place))

    def _stored(self, topic: str, shard: int, default: int) -> int:
        """Return up to where the sink has stored a topic; where there is no sink, ``default``."""
        if topic not in self._sinks:
            self._sinks[topic] = FrameReader(
                self._settings, self.topics.sink, range(self._shards), topic
            )
        try:
            offset = self._sinks[topic].committed()[shard]
        except BrokerError as exc:
            log.warning("the sink's position on %s: %s", topic, exc)
            return 0
        return default if offset is None else offset


def _load(trailing: Trailing, command: Command) -> None:
    try:
        trailing.load(command)
    except SessiontapeError as exc:  # the coordinator ends for what the command names
        log.warning("run %s: its trailing days are not loaded: %s", command.run, exc)


def _open_store(settings: Settings) -> Store:
    """Open what was recorded; its libraries are large, and not every run looks back."""
    from sinks.history import open_history  # noqa: PLC0415

    return open_history(settings)


def main() -> None:
    """Run the upkeep with the settings of the environment."""
    try:
        Upkeep(load()).run()
    except SessiontapeError as exc:
        sys.exit(f"sessiontape upkeep: {exc}")


if __name__ == "__main__":
    main()
