"""What Faust fetched and did not hand on comes again, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from streams import refetch
from streams.metrics import REGISTRY, Lag
from streams.refetch import Refetch

PLACE = TP("tape.session", 0)


class _Consumer:
    """What of Faust's consumer counts here; offsets 0 to ``end`` can be read."""

    def __init__(self) -> None:
        self.flow_active = True
        self.end = 4
        self.committed = 0
        self.seeks: list[tuple[TP, int]] = []
        self.is_ours = True
        self.generation = 1

    def end_of(self, place: TP) -> int:
        assert place.topic == PLACE.topic
        return self.end

    def committed_at(self, place: TP) -> int:
        assert place == PLACE
        return self.committed

    async def refetch(self, place: TP, offset: int, generation: int) -> None:
        if not self.is_ours:
            raise IllegalStateError
        assert generation == self.generation
        self.seeks.append((place, offset))


class _App:
    def __init__(self) -> None:
        self.consumer = _Consumer()
        self.rebalancing = False
        self.consumer_generation_id = 1
        self.timers: list[tuple[float, Callable[..., Any]]] = []

    def timer(self, every_s: float) -> Callable[[Callable[..., Any]], None]:
        return lambda call: self.timers.append((every_s, call))


@pytest.fixture
def app() -> _App:
    return _App()


@pytest.fixture
def handed() -> dict[int, int | None]:
    return {0: 2}


@pytest.fixture
def watch(app: _App, handed: dict[int, int | None]) -> Refetch:
    watch = Refetch(app, "tape.session", lambda: handed, Lag("tape", "refetch", "tape.session"))
    assert app.timers == [(refetch.LOOK_S, watch.look)]
    return watch


async def look(watch: Refetch, times: int = 1) -> None:
    for _ in range(times):
        await watch.look()


async def test_what_does_not_come_from_one_look_to_the_next_is_fetched_again(
    watch: Refetch, app: _App
) -> None:
    await look(watch)
    assert app.consumer.seeks == []
    await look(watch)
    assert app.consumer.seeks == [(PLACE, 2)]


async def test_what_comes_slowly_is_left_alone(
    watch: Refetch, app: _App, handed: dict[int, int | None]
) -> None:
    for offset in range(4):
        handed[0] = offset
        await look(watch)
    handed[0] = 4
    await look(watch, 9)
    assert app.consumer.seeks == []


async def test_where_more_can_be_read_each_time_it_is_not_stuck(watch: Refetch, app: _App) -> None:
    for _ in range(5):
        app.consumer.end += 1
        await look(watch)
    assert app.consumer.seeks == []


async def test_marks_behind_the_last_message_are_not_fetched_again_and_again(
    watch: Refetch, app: _App, monkeypatch: pytest.MonkeyPatch
) -> None:
    await look(watch, 9)
    assert app.consumer.seeks == [(PLACE, 2)]
    monkeypatch.setattr(refetch, "AGAIN_S", 0.0)  # a long time after
    await look(watch)
    assert app.consumer.seeks == [(PLACE, 2)] * 2


async def test_another_loss_at_the_same_place_after_a_rebalance_is_seen(
    watch: Refetch, app: _App
) -> None:
    await look(watch, 3)
    app.consumer_generation_id = app.consumer.generation = 2
    await look(watch, 3)
    assert app.consumer.seeks == [(PLACE, 2)] * 2


async def test_where_nothing_came_it_is_read_from_what_is_committed(
    watch: Refetch, app: _App, handed: dict[int, int | None]
) -> None:
    handed[0], app.consumer.committed = None, 3
    await look(watch, 2)
    assert app.consumer.seeks == [(PLACE, 3)]


@pytest.mark.parametrize("what", ["rebalancing", "stopped", "held", "not ours"])
async def test_it_does_nothing_while_partitions_come_and_go(
    watch: Refetch, app: _App, handed: dict[int, int | None], what: str
) -> None:
    if what == "rebalancing":
        app.rebalancing = True
    elif what == "stopped":
        app.consumer.flow_active = False
    elif what == "held":
        app.consumer.end = -1
    else:
        handed.clear()
    await look(watch, 3)
    assert app.consumer.seeks == []


async def test_a_partition_that_is_taken_away_meanwhile_is_no_fault(
    watch: Refetch, app: _App
) -> None:
    app.consumer.is_ours = False
    await look(watch, 3)
    assert app.consumer.seeks == []


async def test_one_place_a_look_for_the_group_may_change_behind_a_seek(
    watch: Refetch, app: _App, handed: dict[int, int | None]
) -> None:
    handed[1] = 3
    await look(watch, 2)
    assert app.consumer.seeks == [(PLACE, 2)]
    await look(watch)
    assert app.consumer.seeks == [(PLACE, 2), (TP("tape.session", 1), 3)]


async def test_only_what_came_by_it_is_told(
    watch: Refetch,
    app: _App,
    handed: dict[int, int | None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    await look(watch, 5)  # marks, or what is still on its way
    assert caplog.messages == []
    handed[0] = 4
    await look(watch, 5)
    assert caplog.messages == ["tape.session[0] was not handed on from 2: now it came"]


async def test_it_tells_how_far_the_app_is_behind(
    watch: Refetch, app: _App, handed: dict[int, int | None]
) -> None:
    def told(shard: int) -> float | None:
        labels = {"namespace": "tape", "worker": "refetch", "topic": "tape.session"}
        return REGISTRY.get_sample_value("sessiontape_lag_offsets", labels | {"shard": str(shard)})

    await look(watch)
    assert told(0) == 2
    handed[0] = 5  # more came than the end that is known
    await look(watch)
    assert told(0) == 0
    handed[0], app.consumer.committed = None, 1
    await look(watch)
    assert told(0) == 3
    app.consumer.end = -1
    await look(watch)
    assert told(0) == 3  # nobody knows better
    app.rebalancing = True
    handed.clear()
    await look(watch)
    assert told(0) == 3
    app.rebalancing = False
    await look(watch)
    assert told(0) is None
