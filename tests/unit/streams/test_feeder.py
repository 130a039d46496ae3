"""The feeder with a feed and a client of the test's own: what it sends for which command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from schemas import BarBlock, Codec, Command, Coverage, DataRequest
from schemas.records import Record
from streams import feeder
from streams.errors import DeliveryError, SourceError
from streams.feeder import Feeder
from streams.feeds import Clock, Event, Heard, Lost, Regained
from streams.feeds.protocol import EARLIER_NS
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.metrics import REGISTRY
from streams.settings import load
from streams.sources.rows import bar_block
from streams.topics import Topics, shard_of
from tests.unit.streams.shards import WALL_NS, command, plan_for

TOPICS = Topics("tape")
SHARDS = 2
NAMES = ("AA", "BB", "CC")
LIVE = command(mode="live", speed=1.0, hours="regular", symbols=NAMES, version=2)


@dataclass
class Hand:
    """A feed that gives what it is handed, and remembers who asked for what."""

    name: str = "hand"
    settled_ns: int = 0
    handed: asyncio.Queue[Event | Exception] = field(default_factory=asyncio.Queue)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    is_open: bool = False

    async def events(
        self, symbols: Sequence[str], streams: Sequence[str], clock: Clock
    ) -> AsyncIterator[Event]:
        self.asked.append(tuple(symbols))
        self.is_open = True
        try:
            yield Regained(0, clock.now_ns())
            while True:
                event = await self.handed.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.is_open = False


@dataclass
class Box:
    """A client that keeps what it is given while it has room."""

    room: int = 2**31
    sent: list[tuple[str, int, Record]] = field(default_factory=list)
    error: Exception | None = None
    checks: int = 0

    def offer(self, topic: str, value: bytes, key: str, shard: int) -> bool:
        if len(self.sent) >= self.room:
            return False
        self.sent.append((topic, shard, Codec().decode(value, topic=topic)))
        return True

    def check(self, wait_s: float = 0.0) -> int:
        self.checks += 1
        if self.error is not None:
            raise self.error
        return 0

    def of(self, kind: type[Any]) -> list[Any]:
        return [record for _, _, record in self.sent if isinstance(record, kind)]


@dataclass
class Wall:
    now: int = WALL_NS

    def __call__(self) -> int:
        return self.now


class Desk:
    """A feeder that runs, with all that is around it."""

    def __init__(self) -> None:
        self.hand, self.box, self.wall = Hand(), Box(), Wall()
        self.feeder = Feeder(TOPICS, SHARDS, self.hand, self.box, codec=Codec(), wall=self.wall)
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Desk:
        self.task = asyncio.create_task(self.feeder.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.feeder.stop()
        if self.task is not None and not self.task.done():
            await asyncio.wait_for(self.task, 5)

    def tell(self, **changes: Any) -> Command:
        told = replace(LIVE, **changes)
        self.feeder.tell(told)
        return told

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.001)

    async def rounds(self, count: int = 3) -> None:
        """Wait until the feeder has looked around so often."""
        seen = self.box.checks
        await self.until(lambda: self.box.checks >= seen + count)


def open_ns() -> int:
    return plan_for(LIVE, 0, SHARDS).sessions[0].open_ns


def block(*names: str, minute: int = 0) -> BarBlock:
    price = np.ones(len(names))
    return bar_block(
        names,
        np.arange(len(names), dtype=np.int32),
        np.full(len(names), open_ns() + minute * MINUTE_NS),
        interval_ns=MINUTE_NS,
        prices=[price] * 4,
        volume=price,
    )


def heard(minute: int) -> Heard:
    return Heard(("bars",), NAMES, open_ns() + minute * MINUTE_NS)


async def test_rows_go_out_at_once_with_what_vouches_for_them_behind() -> None:
    async with Desk() as desk:
        desk.tell()
        for event in (block(*NAMES), heard(1)):
            desk.hand.handed.put_nowait(event)
        await desk.until(lambda: {n for c in desk.box.of(Coverage) for n in c.symbols} == {*NAMES})
        for shard in range(SHARDS):
            names = tuple(name for name in NAMES if shard_of(name, SHARDS) == shard)
            mine = [record for _, at, record in desk.box.sent if at == shard]
            kinds = [BarBlock, Coverage] if names else []
            assert [type(record) for record in mine] == kinds
            assert all(r.symbols == names and r.run == "run-1" for r in mine)  # type: ignore[attr-defined]
        assert {topic for topic, _, _ in desk.box.sent} == {TOPICS.raw_bars}


@pytest.mark.parametrize(
    "changes", [{"mode": "replay", "speed": 0.0}, {"stopped": True}, {"start": "2024-11-25"}]
)
async def test_it_is_silent_unless_a_live_run_is_on(changes: dict[str, Any]) -> None:
    async with Desk() as desk:
        if "start" in changes:  # a run that was over long ago
            desk.wall.now += 40 * 1440 * MINUTE_NS
        desk.tell(**changes)
        await desk.rounds(1)
        await asyncio.sleep(0)
        assert desk.hand.asked == []


async def test_a_run_that_is_stopped_gets_nothing_any_more() -> None:
    async with Desk() as desk:
        desk.tell()
        desk.hand.handed.put_nowait(block("AA"))
        await desk.until(lambda: desk.box.of(BarBlock))
        desk.tell(version=3, stopped=True)
        await desk.until(lambda: not desk.hand.is_open)
        desk.hand.handed.put_nowait(block("AA", minute=1))
        await desk.rounds(1)
        assert len(desk.box.of(BarBlock)) == 1


async def test_a_run_ends_by_itself() -> None:
    async with Desk() as desk:
        told = desk.tell()
        await desk.until(lambda: desk.hand.is_open)
        plan = plan_for(told, 0, SHARDS)
        desk.wall.now = plan.wall_at(plan.sessions[-1].close_ns)
        await desk.rounds()
        assert desk.hand.is_open  # what is late may still come
        desk.wall.now += 10 * SECOND_NS
        await desk.until(lambda: not desk.hand.is_open)


async def test_other_symbols_are_subscribed_and_only_what_was_missed_is_asked_for() -> None:
    async with Desk() as desk:
        desk.tell()
        desk.hand.handed.put_nowait(heard(8))
        await desk.until(lambda: desk.box.of(Coverage))
        desk.wall.now += 10 * MINUTE_NS
        desk.tell(version=3, symbols=("AA", "BB", "DD"))
        await desk.until(lambda: len(desk.box.of(DataRequest)) >= 2)
        await desk.rounds()
        assert desk.hand.asked == [NAMES, ("AA", "BB", "DD")]
        starts = {name: r.start_ns for r in desk.box.of(DataRequest) for name in r.symbols}
        since_ns = open_ns() + 8 * MINUTE_NS - EARLIER_NS
        assert starts == {"AA": since_ns, "BB": since_ns, "DD": open_ns()}
        assert {r.end_ns for r in desk.box.of(DataRequest)} == {open_ns() + 10 * MINUTE_NS}


async def test_a_command_that_changes_nothing_of_it_leaves_the_feed_alone() -> None:
    async with Desk() as desk:
        desk.tell()
        await desk.until(lambda: desk.hand.is_open)
        desk.tell(version=3, action="pause", paused=True)
        desk.tell(version=1, stopped=True)  # an older one that came late
        await desk.rounds()
        assert desk.hand.asked == [NAMES]
        assert desk.hand.is_open


async def test_a_new_run_begins_from_nothing() -> None:
    async with Desk() as desk:
        desk.tell()
        desk.hand.handed.put_nowait(heard(1))
        await desk.until(lambda: desk.box.of(Coverage))
        desk.wall.now += 2 * MINUTE_NS
        desk.tell(version=3, run="run-2")
        await desk.until(lambda: desk.box.of(DataRequest))
        assert {(r.run, r.start_ns) for r in desk.box.of(DataRequest)} == {("run-2", open_ns())}


async def test_without_room_it_waits_and_loses_nothing() -> None:
    async with Desk() as desk:
        desk.box.room = 1
        desk.tell()
        for minute in range(3):
            desk.hand.handed.put_nowait(block("AA", minute=minute))
        await desk.rounds()
        assert len(desk.box.sent) == 1
        desk.box.room = 100
        await desk.until(lambda: len(desk.box.of(BarBlock)) == 3)
        starts = [int(b.ts_ns[0]) for b in desk.box.of(BarBlock)]
        assert starts == [open_ns() + n * MINUTE_NS for n in range(3)]


async def test_what_waits_for_room_goes_first_when_other_symbols_are_subscribed() -> None:
    async with Desk() as desk:
        desk.box.room = 0
        desk.tell()
        for event in (block(*NAMES), heard(1)):
            desk.hand.handed.put_nowait(event)
        await desk.until(lambda: desk.hand.handed.qsize() == 1)
        await desk.rounds()
        desk.tell(version=3, symbols=(*NAMES, "DD"))
        await desk.until(lambda: len(desk.hand.asked) == 2)
        desk.box.room = 100
        await desk.until(lambda: len(desk.box.sent) >= 2)
        await desk.rounds()
        blocks = [record for _, _, record in desk.box.sent[:2]]
        assert {type(record) for record in blocks} == {BarBlock}
        assert sorted(n for b in blocks for n in b.symbols) == [*NAMES]  # type: ignore[attr-defined]
        assert len(desk.box.of(BarBlock)) == len({shard_of(name, SHARDS) for name in NAMES})


async def test_what_another_run_left_unsent_is_not_sent() -> None:
    async with Desk() as desk:
        desk.box.room = 0
        desk.tell()
        desk.hand.handed.put_nowait(block(*NAMES))
        await desk.until(lambda: desk.hand.handed.empty() and desk.hand.is_open)
        await desk.rounds()
        desk.tell(version=3, run="run-2")
        await desk.until(lambda: len(desk.hand.asked) == 2)
        desk.box.room = 100
        desk.hand.handed.put_nowait(block("AA", minute=1))
        await desk.until(lambda: desk.box.of(BarBlock))
        assert {b.run for b in desk.box.of(BarBlock)} == {"run-2"}


async def test_without_room_it_can_still_be_stopped() -> None:
    async with Desk() as desk:
        desk.box.room = 0
        desk.tell()
        for event in (block("AA"), heard(1)):
            desk.hand.handed.put_nowait(event)
        await desk.rounds()
        desk.feeder.stop()
        assert desk.task is not None
        await asyncio.wait_for(desk.task, 2)
        assert desk.box.sent == []


async def test_what_the_brokers_do_not_take_ends_it() -> None:
    desk = Desk()
    async with desk:
        desk.tell()
        await desk.until(lambda: desk.hand.is_open)
        desk.box.error = DeliveryError("timed out", failed=1, sent=2)
        assert desk.task is not None
        with pytest.raises(DeliveryError, match="1 of 2 messages were not acknowledged"):
            await desk.task
        assert not desk.hand.is_open


async def test_a_vendor_that_refuses_us_ends_it() -> None:
    async with Desk() as desk:
        desk.tell()
        desk.hand.handed.put_nowait(SourceError("wrong key", path="vendor"))
        assert desk.task is not None
        with pytest.raises(SourceError, match="vendor: wrong key"):
            await desk.task


async def test_what_ends_the_reading_of_commands_ends_it() -> None:
    async with Desk() as desk:
        desk.feeder.stop(SourceError("no commands"))
        assert desk.task is not None
        with pytest.raises(SourceError, match="no commands"):
            await desk.task


async def test_the_log_tells_of_connections_and_rates(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder, "LOG_S", 0.0)
    with caplog.at_level("INFO"):
        async with Desk() as desk:
            desk.tell()
            desk.hand.handed.put_nowait(block("AA"))
            desk.hand.handed.put_nowait(Lost("it is gone", open_ns(), 0.5))
            await desk.until(lambda: "lost: it is gone; again in 0.5 s" in caplog.text)
            await desk.until(lambda: "run=run-1 rows=1 " in caplog.text)
    assert "ready feed=hand namespace=tape" in caplog.text
    assert f"regained since_ns=0 at_ns={open_ns()}" in caplog.text


@pytest.mark.parametrize("arguments", [[], ["--source"], ["--sauce", "x"], ["a"] * 3])
def test_a_wrong_command_line_is_told_the_right_one(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert feeder.main(arguments) == 2
    assert capsys.readouterr().err == f"{feeder.USAGE}\n"


def test_what_it_can_t_use_is_named_in_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert feeder.main(["--source", "nowhere:x"]) == 2
    assert "'nowhere:x' is no feed" in capsys.readouterr().err
    monkeypatch.setattr(feeder, "load", lambda: load().but(bootstrap_servers=""))
    assert feeder.main(["--source=playback:synthetic:"]) == 2
    assert "no broker: start one with `sessiontape up`" in capsys.readouterr().err


async def test_what_is_sent_and_lost_is_counted() -> None:
    def told(what: str, **labels: str) -> float:
        given = {"namespace": "tape"} | labels
        return REGISTRY.get_sample_value(f"sessiontape_{what}", given) or 0.0

    def rows() -> float:
        places = [{"shard": str(shard), "topic": TOPICS.raw_bars} for shard in range(SHARDS)]
        return sum(told("rows_total", worker="feeder", **place) for place in places)

    before = rows(), told("feed_losses_total")
    async with Desk() as desk:
        assert desk.feeder.health.problem() == "it has not begun"
        desk.tell()
        for event in (block(*NAMES), block("AA", minute=1), heard(2)):
            desk.hand.handed.put_nowait(event)
        desk.hand.handed.put_nowait(Lost("it is gone", open_ns(), 0.5))
        await desk.until(lambda: told("feed_losses_total") > before[1])
        await desk.rounds()
        assert desk.feeder.health.problem() == ""
    assert rows() - before[0] == len(NAMES) + 1
    assert told("feed_losses_total") - before[1] == 1
    assert told("unacknowledged_messages") == 0
