"""The coordinator: raw topics in, the tape out. One process of a consumer group.

It has no tables, and Faust commits nothing by itself: the position of a shard is in its frames,
and what is committed for the group is only where to begin reading.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from faust.types import TP

from streams.assignment import Assignment
from streams.calendar import prepare
from streams.errors import BrokerError, SessiontapeError
from streams.kafka import admin, check_topics, report_uncut
from streams.metrics import Lag
from streams.owner import Owner
from streams.positions import FrameReader
from streams.refetch import Refetch
from streams.settings import Settings, load
from streams.topics import Topics
from streams.worker import make_app, run_app

__all__ = ["Coordinator"]

log = logging.getLogger(__name__)

BACKLOG = 500
"""Messages that an idle shard holds, and a batch at most; then its partition is not read until a
run is on."""

QUIET_S = 0.25
"""After so long without a message, what is left of a partition is taken to be no message."""

RESUME_S = 0.1
"""How often is looked whether a partition that is not read can be read again."""


class Coordinator:
    """Wires Faust, the owners of the shards and the control topic together.

    Parameters
    ----------
    settings
        Brokers and namespace.

    Raises
    ------
    TopicError
        The topics of the namespace are missing or differ in their partitions.
    """

    def __init__(self, settings: Settings) -> None:
        self.topics = Topics(settings.namespace)
        self._settings = settings
        shards = check_topics(settings, (self.topics.session,))
        check_topics(settings, dict.fromkeys((*self.topics.raw, self.topics.requests), shards))
        self._shards = shards
        self._admin: AdminClient = admin(settings)
        self._readers: dict[str, FrameReader] = {}
        self._asking = threading.Lock()
        self._paused: set[TP] = set()
        self._stands: dict[TP, tuple[tuple[int, int], float]] = {}
        self.app = make_app(settings, self.topics.coordinator, takes_batches=True)
        self._assignment = Assignment(settings, self.app, self.topics.raw_bars, self._owner)
        self.app.timer(RESUME_S)(self._resume)
        for topic in self.topics.raw:
            self.app.agent(self.app.topic(topic), name=topic)(self._rows)
            lag = Lag(settings.namespace, "coordinator", topic)
            Refetch(self.app, topic, partial(self._assignment.next_offsets, topic), lag)

    def run(self) -> None:
        """Run until SIGTERM or a fault."""
        prepare(self._settings.calendar)  # now, and not when the first run begins
        with self._admin:
            run_app(self.app, self._settings, "coordinator", self._assignment.problem)

    async def _rows(self, stream: Any) -> None:
        """Hand what comes of a raw topic to the owner of its shard."""
        async for event in stream.noack().events():
            message = event.message
            owner = await self._assignment.hand(message)
            if owner is not None:
                self._pause_if_full(TP(message.topic, message.partition), owner)

    def _owner(self, shard: int) -> Owner:
        return Owner(
            self._settings,
            shard,
            self._shards,
            readers_at=self._readers_at,
            is_at_end=self._is_at_end,
            tidy=self._tidy,
        )

    def _is_at_end(self, shard: int) -> bool:
        """Tell whether all that can be read of a shard's raw partitions was handed on."""
        owner = self._assignment.owners.get(shard)
        if owner is None or not owner.is_taking:
            return False
        places = [(TP(topic, shard), owner.next_offset(topic)) for topic in self.topics.raw]
        # Of each, not only up to the first that is behind: it is noted since when they stand.
        behind = [place for place, given in places if not self._stands_at_end(place, given)]
        return not behind

    def _stands_at_end(self, place: TP, given: int | None) -> bool:
        """Tell whether a partition was read to its end.

        Marks of transactions are not handed on: where nothing moves for a while, that is the end.
        """
        consumer = self.app.consumer
        end = consumer.end_of(place) if consumer.is_recent(place) else -1
        stands = end, consumer.committed_at(place) if given is None else given
        if end < 0 or stands[1] >= end:
            self._stands.pop(place, None)
            return bool(end >= 0)
        before, since_s = self._stands.get(place, (None, 0.0))
        if before != stands:
            self._stands[place] = stands, time.monotonic()
            return False
        return time.monotonic() - since_s >= QUIET_S

    def _pause_if_full(self, place: TP, owner: Owner) -> None:
        held = owner.backlog(place.topic)
        if held > BACKLOG and owner.is_idle and place not in self._paused:
            self._paused.add(place)
            log.info("%s[%d]: %d messages wait for a run", *place, held)
            self.app.consumer.hold({place})

    async def _resume(self) -> None:
        """Read those partitions again whose shard has a run now, or another owner."""
        owners = self._assignment.owners
        ready = {
            place
            for place in self._paused
            if place.partition not in owners
            or owners[place.partition].backlog(place.topic) <= BACKLOG
        }
        if ready:
            self._paused -= ready
            self.app.consumer.release({p for p in ready if p.partition in owners})

    def _readers_at(self, groups: Sequence[str], shard: int) -> int:
        """Return the least offset of the session topic that some groups have committed."""
        found = []
        for group in groups:
            # Not by the admin client: librdkafka 2.16 aborts the process when a broker dies while
            # such a question is open ("eonce->refcnt > 0").
            with self._asking:
                if group not in self._readers:
                    self._readers[group] = FrameReader(self._settings, group, range(self._shards))
            try:
                found.append(self._readers[group].committed()[shard] or -1)
            except BrokerError as exc:
                log.warning("reader %s: %s", group, exc)
                return -1
        return min(found, default=-1)

    async def _tidy(self, shard: int, keep: Mapping[str, int], delete_before: int) -> None:
        """Commit where to begin reading, and delete what nobody needs any more."""
        if self.app.should_stop:
            return  # Faust's consumer may be gone before the owners are; the next one does it
        await self.app.consumer._commit({TP(topic, shard): at for topic, at in keep.items()})
        ends = {**keep, self.topics.session: delete_before}
        places = [TopicPartition(topic, shard, at) for topic, at in ends.items() if at > 0]
        for place, done in (self._admin.delete_records(places) if places else {}).items():
            done.add_done_callback(partial(report_uncut, place))


def main() -> None:
    """Run the coordinator with the settings of the environment."""
    try:
        Coordinator(load()).run()
    except SessiontapeError as exc:
        sys.exit(f"sessiontape coordinator: {exc}")


if __name__ == "__main__":
    main()
