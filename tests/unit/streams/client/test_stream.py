"""SessionStream over a reader in memory: where it starts, what it gives, where it goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pytest

import streams
from streams import BarRow, Digest, Position, SessionData, SessionStream
from streams.client import Batch
from streams.errors import BrokerError, ConfigError
from streams.intervals import MINUTE_NS
from streams.positions import Delivered
from tests.frames import DAY_NS, OPEN_NS, Day, MemoryReader, Row, Tape, full_day, merged, tape_of

DAYS = [full_day(6, 5, number) for number in range(3)]


def tape(shards: int = 2, days: list[Day] = DAYS) -> Tape:
    return tape_of(days, shards, {0: [1, 3], 1: [2], 2: [4]})


def stream(reader: MemoryReader | None = None, **arguments: Any) -> SessionStream:
    arguments.setdefault("start", "first")
    return SessionStream(reader=reader or MemoryReader(tape()), **arguments)


def keys(rows: list[BarRow]) -> list[tuple[int, str, float]]:
    return [(row.known_ns, row.symbol, row.close) for row in rows]


def keys_of(days: list[Day], symbols: Callable[[str], bool] = lambda _: True) -> list[Any]:
    return [(r.known_ns, r.symbol, r.close) for day in days for r in day.rows if symbols(r.symbol)]


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_all_of_a_run_in_order(shards: int) -> None:
    reader = MemoryReader(tape(shards))
    digest = Digest()
    with stream(reader) as found:
        batches = list(found.frames())
    assert reader.closed
    for batch in batches:
        digest.add(batch)
    one = Digest()
    for batch in merged(tape_of(DAYS)):
        one.add(batch)
    assert (digest.final(), digest.as_known()) == (one.final(), one.as_known())
    assert batches[-1].event == "end"
    assert found.data.get_bar_count("S001") == 5
    assert not found.data.is_session_active()


def test_rows_and_slices_are_the_rows_of_the_market() -> None:
    assert keys(list(stream().rows())) == keys_of(DAYS)
    slices = list(stream())
    assert [s.ready_ns for s in slices] == sorted({r.known_ns for d in DAYS for r in d.rows})
    assert {(s.expected, s.received, s.no_trade, s.missing) for s in slices} == {(6, 6, 0, 0)}
    assert [len(s.bars) for s in slices if s.bars is not None] == [6] * 15


def test_the_replica_never_knows_more_than_the_slice_at_hand() -> None:
    found = stream(MemoryReader(tape(1)))
    for one in found.slices():
        assert found.data.clock_ns == one.ready_ns
        assert found.data.get_latest_bars()["known_ns"].max() == one.ready_ns
    found = stream()
    for row in found.rows():
        assert found.data.get_latest_bar(row.symbol).known_ns == row.known_ns


async def test_async_gives_the_same() -> None:
    async with stream() as found:
        assert keys([row async for row in found.arows()]) == keys_of(DAYS)
    ready = [one.ready_ns async for one in stream()]
    assert ready == [one.ready_ns for one in stream()]
    assert len([batch async for batch in stream().aframes()]) == len(list(stream().frames()))


async def test_a_cancelled_reader_loses_nothing() -> None:
    whole = tape()
    reader = MemoryReader(whole, shown={0: 0, 1: 0})
    found = stream(reader)
    waiting = asyncio.ensure_future(anext(found.aframes()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    reader.show()
    assert keys([row async for row in found.arows()]) == keys_of(DAYS)


@pytest.mark.parametrize(
    ("symbols", "wanted"),
    [
        ("S00[13]", {"S001", "S003"}),
        (["S002"], {"S002"}),
        (("S000", "none"), {"S000"}),
        ("X*", set()),
    ],
)
def test_only_some_symbols(symbols: Any, wanted: set[str]) -> None:
    found = stream(symbols=symbols)
    assert keys(list(found.rows())) == keys_of(DAYS, wanted.__contains__)
    assert found.data.get_active_symbols() == wanted
    slices = list(stream(symbols=symbols))
    assert {s.expected for s in slices} == {6}  # the marks are those of the whole tape
    assert {len(s.bars) for s in slices if s.bars is not None} == {len(wanted)}
    for one in slices:
        assert one.symbols == tuple(sorted(wanted))


def test_kinds() -> None:
    found = stream(kinds=["quotes"])
    assert list(found.rows()) == []
    assert len(list(stream(kinds=["quotes"]))) == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": ["bars", "news"]}, "not news"),
        ({"until": "noon"}, "'noon'"),
        ({"start": "yesterday"}, "'yesterday'"),
        ({"start": {0: 5}}, r"shards \[0\], the tape has \[0, 1\]"),
    ],
)
def test_what_cannot_be_meant_says_so(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stream(**arguments)


def test_without_a_broker_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SESSIONTAPE_BOOTSTRAP_SERVERS", raising=False)
    with pytest.raises(ConfigError, match="SESSIONTAPE_BOOTSTRAP_SERVERS"):
        SessionStream("no-such", bootstrap_servers="")


@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("way", ["frames", "slices", "rows"])
def test_position_stored_with_results_is_exactly_once(shards: int, way: str) -> None:
    """Stop after every step, begin anew from what was stored: together it is the whole tape."""
    start = OPEN_NS + DAY_NS
    late = Row(start + 4 * MINUTE_NS, "S001", start, 9.0, 1.0, 1, is_late=True)
    days = [DAYS[0], full_day(6, 5, 1, late=[late])]
    whole = tape(shards, days)
    got: list[Any] = []
    stored: Any = "first"
    steps = 0
    while True:
        found = stream(MemoryReader(whole), start=stored)
        before, at_end = found.position, True
        kept: list[Any] = []
        for one in getattr(found, way)(timeout_s=0.0):
            kept += _results(one)
            # A slice's rows are one step: the position moves behind it with the last of them.
            if isinstance(one, BarRow) and found.position.slice_ns < one.known_ns:
                continue
            if found.position != before:
                at_end = False
                break
        if at_end:
            break
        got += kept
        stored = Position.from_dict(json.loads(json.dumps(found.position.as_dict())))
        steps += 1
    assert got == [(r.known_ns, r.symbol, r.close) for day in days for r in day.rows]
    assert steps > 5
    assert sorted(stored) == list(range(shards))
    assert len(stored) == shards


def _results(one: Any) -> list[Any]:
    if isinstance(one, BarRow):
        return keys([one])
    if isinstance(one, Batch):
        known = one.known_ns()
    elif one.bars is not None:
        known = np.full(len(one.bars), one.ready_ns)
    if one.bars is None:
        return []
    names = [one.symbols[i] for i in one.bars.symbol.tolist()]
    return list(zip(known.tolist(), names, one.bars.close.tolist(), strict=True))


def test_a_late_joiner_reads_from_the_open_and_is_active_when_it_has_caught_up() -> None:
    whole = tape(2)
    in_third = {
        shard: next(
            at + 2
            for at, d in enumerate(frames)
            if (d.frame.event, d.frame.session) == ("open", DAYS[2].label)
        )
        for shard, frames in enumerate(whole.frames)
    }
    reader = MemoryReader(whole, shown=in_third)
    found = stream(reader, start="session")
    active = []
    for batch in found.frames(timeout_s=0):
        active.append(found.data.is_session_active())
        assert batch.session == DAYS[2].label
    assert active == [False] * (len(active) - 1) + [True]
    assert found.data.get_bar_count("S001") == 1  # the slower shard is there
    reader.show()
    list(found.frames())
    early = stream()
    list(early.frames())
    for name in ("S000", "S005"):
        assert found.data.get_bars(name).tolist() == early.data.get_bars(name).tolist()
        assert found.data.get_session_metrics(name) == early.data.get_session_metrics(name)
    assert found.data.session_ended()


def test_who_joins_when_the_run_is_over_gets_the_last_session() -> None:
    assert keys(list(stream(start="session").rows())) == keys_of(DAYS[2:])


@pytest.mark.parametrize("shown", [2, 1, 7, 8])
def test_who_joins_at_an_event_starts_with_it(shown: int) -> None:
    """The last frame is an open, the start of the run, a roll, or the open behind it."""
    found = stream(MemoryReader(tape(1), shown={0: shown}), start="session")
    reader = found._reader
    assert isinstance(reader, MemoryReader)
    list(found.frames(timeout_s=0.0))
    reader.show()
    list(found.frames())
    assert sorted(found.data.get_historical_bars("S000")) == [
        date.fromisoformat(day.label) for day in DAYS[:-1]
    ]


def test_the_package_has_what_a_user_imports_and_no_more() -> None:
    assert set(streams.__all__) <= set(dir(streams))
    with pytest.raises(AttributeError, match="'nothing'"):
        streams.nothing  # noqa: B018


def test_who_joins_before_the_first_frame_waits_for_it() -> None:
    reader = MemoryReader(tape(), shown={0: 0, 1: 0})
    found = stream(reader, start="session")
    assert list(found.frames(timeout_s=0)) == []
    assert found.data.caught_up
    reader.show()
    assert keys(list(found.rows())) == keys_of(DAYS)


def test_who_joins_now_gets_whole_slices_of_what_comes() -> None:
    reader = MemoryReader(tape(2), shown={0: 3, 1: 3})  # the shards end at different minutes
    found = stream(reader, start="now")
    assert found.data.caught_up
    assert list(found.frames(timeout_s=0)) == []
    reader.show()
    slices = list(found.slices())
    assert slices[0].ready_ns == OPEN_NS + 3 * MINUTE_NS
    assert {s.received for s in slices} == {6}
    nothing = stream(MemoryReader(tape(), shown={0: 0, 1: 0}), start="now", until="idle")
    assert list(nothing.frames()) == []


def test_from_a_time_on_with_the_replica_complete() -> None:
    start = DAYS[1].open_ns + 3 * MINUTE_NS
    found = stream(start=start)
    rows = []
    for one in found.slices():
        rows.append(one.ready_ns)
        if one.ready_ns == start:
            assert found.data.get_bar_count("S001") == 3
            assert len(found.data.get_historical_bars("S001")) == 1
    assert rows == sorted({r.known_ns for d in DAYS for r in d.rows if r.known_ns >= start})
    assert keys(list(stream(start=start).rows())) == [k for k in keys_of(DAYS) if k[0] >= start]


def test_offsets_alone_are_a_start_too() -> None:
    whole = tape(2)
    opened = {
        shard: next(d.offset for d in frames if d.frame.session == DAYS[1].label)
        for shard, frames in enumerate(whole.frames)
    }
    assert keys(list(stream(MemoryReader(whole), start=opened).rows())) == keys_of(DAYS[1:])


def test_one_run_of_many() -> None:
    whole = tape(2)
    whole.run, whole.command = "run-2", 2
    whole.start()
    whole.day(DAYS[0])
    whole.end()
    assert keys(list(stream(MemoryReader(whole), run="run-2").rows())) == keys_of(DAYS[:1])
    both = stream(MemoryReader(whole), until="idle")
    assert keys(list(both.rows())) == keys_of([*DAYS, DAYS[0]])
    assert keys(list(stream(MemoryReader(whole)).rows())) == keys_of(DAYS)


def test_until_never_waits_and_close_ends_it() -> None:
    found = stream(until="never")
    events = []
    for batch in found.frames():
        events.append(batch.event)
        if batch.event == "end":
            found.close()
            found.close()
    assert events[-1] == "end"
    assert list(found.frames()) == []
    found._fill(0.0)  # what a thread that waited may still do


def test_commit_is_that_of_the_position() -> None:
    reader = MemoryReader(tape())
    with stream(reader) as found:
        next(found.frames())
        found.commit()
        assert reader.committed == dict(found.position)


class Shaky(MemoryReader):
    """A reader whose broker may be away for one commit."""

    def __init__(self, tape: Tape) -> None:
        super().__init__(tape)
        self.tape = tape
        self.is_away = False

    def commit(self, offsets: Any) -> None:
        if self.is_away:
            self.is_away = False
            msg = "the broker is away"
            raise BrokerError(msg)
        super().commit(offsets)


def by_slice(day: Day, shards: int) -> Tape:
    """A day with a frame a slice, as a run in lock-step has it."""
    return tape_of([day], shards, dict.fromkeys(range(shards), range(1, day.minutes)))


@pytest.mark.parametrize("is_async", [False, True])
def test_in_lockstep_a_slice_is_committed_when_the_next_is_asked_for(is_async: bool) -> None:
    reader = Shaky(by_slice(DAYS[0], 1))
    seen: list[int] = []
    ends = [delivered.offset for delivered in reader.tape.frames[0] if delivered.frame.rows]

    def step() -> None:
        seen.append(reader.committed.get(0, 0))
        reader.is_away = len(seen) == 2

    async def play() -> None:
        async with stream(reader, group="g", lockstep=True) as found:
            async for _ in found:
                step()

    if is_async:
        asyncio.run(play())
    else:
        with stream(reader, group="g", lockstep=True) as found:
            for _ in found:
                step()
    assert len(seen) == len(ends) == 5
    for number, (taken, end) in enumerate(zip(seen, ends, strict=True)):
        assert taken <= end  # never what was given out just now
        assert number == 0 or taken > ends[number - 1]  # always what was before it


def test_lockstep_needs_a_group() -> None:
    with pytest.raises(ConfigError, match="lock-step needs a group"):
        stream(lockstep=True)


def test_a_reader_that_fails_at_the_start_is_closed() -> None:
    class Broken(MemoryReader):
        def last(self) -> Any:
            msg = "no answer"
            raise ConfigError(msg)

    reader = Broken(tape())
    with pytest.raises(ConfigError, match="no answer"):
        stream(reader)
    assert reader.closed


def test_the_replica_can_be_given() -> None:
    data = SessionData(trailing_sessions=1)
    list(stream(data=data).frames())
    assert len(data.get_historical_bars("S000")) == 1


async def test_a_time_out_ends_the_wait() -> None:
    reader = MemoryReader(tape(), shown={0: 0, 1: 0})
    found = stream(reader)
    assert [batch async for batch in found.aframes(timeout_s=0.0)] == []
    assert list(found.rows(timeout_s=0.01)) == []


class Halting(MemoryReader):
    """A tape of which many frames come at once, after a while without any."""

    def poll(self, timeout_s: float = 1.0) -> list[Delivered]:
        self.halts = getattr(self, "halts", 0) + 1
        return super().poll(timeout_s) if self.halts % 3 == 0 else []


async def test_it_waits_for_frames_that_come_many_at_once() -> None:
    start = DAYS[1].open_ns + 3 * MINUTE_NS
    wanted = [key for key in keys_of(DAYS) if key[0] >= start]
    assert keys(list(stream(Halting(tape(2), chunk=5), start=start).rows())) == wanted
    found = stream(Halting(tape(2), chunk=5), start=start)
    assert keys([row async for row in found.arows()]) == wanted
