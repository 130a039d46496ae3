"""What Faust fetched and did not hand on is fetched again.

Around a rebalance Faust drops records without a word: of a partition that is paused at the moment,
of a generation that is over, of a flow that is stopped. Its position stays behind them, and where
nothing comes after them, nobody would notice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from aiokafka.errors import IllegalStateError
from faust.types import TP

from streams.metrics import Lag

__all__ = ["Refetch"]

log = logging.getLogger(__name__)

LOOK_S = 1.0
AGAIN_S = 30.0
"""Behind the last message there may be marks of transactions alone: one place is not fetched again
and again for them."""


class _Place(NamedTuple):
    generation: int
    start: int
    end: int


class Refetch:
    """Watches over one topic of an app.

    Parameters
    ----------
    app
        The Faust app, made by `make_app`.
    topic
        Topic that is watched.
    wanted
        Returns by partition the offset behind the last message that was handed on; None where
        none was, so that it is to be read from where the group has committed.
    lag
        Told how far the app is behind.
    """

    def __init__(
        self, app: Any, topic: str, wanted: Callable[[], Mapping[int, int | None]], lag: Lag
    ) -> None:
        self._app = app
        self._topic = topic
        self._wanted = wanted
        self._lag = lag
        self._seen: dict[TP, _Place] = {}
        self._tried: dict[TP, tuple[_Place, float]] = {}
        app.timer(LOOK_S)(self.look)

    async def look(self) -> None:
        """Seek back where messages can be read and did not come from one look to the next.

        A repeat costs little, and whoever reads leaves it out. One place a look: behind a seek the
        group may have changed.
        """
        consumer = self._app.consumer
        if self._app.rebalancing or not consumer.flow_active:
            return
        generation = self._app.consumer_generation_id
        stuck: list[tuple[TP, _Place]] = []
        behind: dict[int, int] = {}
        for shard, wanted in self._wanted().items():
            place = TP(self._topic, shard)
            start = consumer.committed_at(place) if wanted is None else wanted
            stands = _Place(generation, start, consumer.end_of(place))
            behind[shard] = -1 if stands.end < 0 else max(stands.end - stands.start, 0)
            before, self._seen[place] = self._seen.get(place), stands
            tried, _ = self._tried.get(place, (None, 0.0))
            if tried is not None and tried == before and start > tried.start:
                log.info("%s[%d] was not handed on from %d: now it came", *place, tried.start)
            if stands == before and stands.start < stands.end and self._may_try(place, stands):
                stuck.append((place, stands))
        self._lag.tell(behind)
        if stuck:
            place, stands = stuck[0]
            self._tried[place] = (stands, time.monotonic())
            log.debug("%s[%d] is fetched again from %d", *place, stands.start)
            with suppress(IllegalStateError):  # it is another worker's by now
                await consumer.refetch(place, stands.start, generation)

    def _may_try(self, place: TP, stands: _Place) -> bool:
        tried, at = self._tried.get(place, (None, 0.0))
        return tried != stands or time.monotonic() - at >= AGAIN_S
