"""The position protocol on a model: real shards, a broker in memory, and all that can happen.

Beside every shard stands a twin that never crashes. It is given what the committed releases had
seen, and has to release the same, byte by byte. What the tape must be is also worked out from the
raw log alone.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import Bar, BarBlock, Command, Coverage, Frame, Quote
from streams import shard as shard_module
from streams.arrival import Rejection
from streams.intervals import MINUTE_NS, SECOND_NS, interval_ns
from streams.plan import Plan
from streams.shard import Release, Shard
from streams.topics import shard_of
from tests.unit.streams.shards import (
    CODEC,
    RUN,
    TOPIC,
    TOPICS,
    WALL_NS,
    FencedWriterError,
    Partition,
    Row,
    Worker,
    bar,
    block,
    command,
    coverage,
    delivered,
    plan_for,
    record_of,
    values_at,
    values_of,
)

OLD_RUN = "run-0"
Key = tuple[str, int, int]
"""Symbol, ts_ns, interval_ns."""
NAMES = ("open", "high", "low", "close", "volume")


def bytes_of(release: Release) -> list[bytes]:
    return [CODEC.encode(frame) for frame in release.frames]


def refusals_of(rejections: Sequence[Rejection]) -> Counter[tuple[int, str, bytes]]:
    return Counter(
        (r.offset, r.reason, r.what if isinstance(r.what, bytes) else CODEC.encode(r.what))
        for r in rejections
    )


@dataclass
class Lane:
    """One shard: its part of the broker, its owner, owners of before, and its twin."""

    number: int
    shards: int
    partition: Partition = field(default_factory=Partition)
    stale: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.owner = Worker(self.partition, self.number, self.shards)
        self.twin = Shard(self.number, self.shards, TOPICS, plan_for)
        self.twin_at = 0

    def take_over(self, start: int, desired: Command, *, is_alive: bool) -> None:
        if is_alive:
            self.stale.append(self.owner)
        self.owner = Worker(self.partition, self.number, self.shards, start)
        self.owner.shard.command(desired)

    def release(self, wall_ns: int, fate: str = "commit") -> Release | None:
        """Let the owner advance; `fate` says whether it dies ``before`` or ``after`` the commit."""
        release = self.owner.shard.advance(wall_ns)
        if release is None or fate == "before":
            return None
        if fate == "after":
            offsets = self.partition.commit(self.owner.epoch, release)
        else:
            offsets = self.owner.commit(release)
        self.mirror(release, offsets, wall_ns)
        return release

    def mirror(self, release: Release, offsets: list[int], wall_ns: int) -> None:
        """Hold the twin's release against the one that was committed."""
        taken = release.frames[-1].positions[0].taken
        for offset in range(self.twin_at, taken):
            self.twin.take(offset, record_of(self.partition, offset), wall_ns)
        self.twin_at = max(self.twin_at, taken)
        if release.frames[0].event == "start" and not self.twin.is_idle:
            # What the run before had looked at, a new one never sees.
            assert self.twin._plan is not None
            self.twin._held.sort_in(self.twin._plan, self.twin.tape)
        self.twin.tape.progress_ns = self.owner.shard.tape.progress_ns
        current = self.owner.shard._command
        assert current is not None
        self.twin.command(current)
        same = self.twin.advance(wall_ns)
        assert same is not None
        assert bytes_of(same) == bytes_of(release)
        assert same.requests == release.requests
        assert refusals_of(same.rejections) == refusals_of(release.rejections)
        assert same.keep == release.keep
        assert release.keep[TOPIC] == release.frames[-1].positions[0].keep
        for frame, offset in zip(release.frames, offsets, strict=True):
            if frame.event == "open":
                self.twin.opened(offset)
                if self.owner.shard.tape.open_offset < 0:  # it died after the commit
                    continue
                assert self.owner.shard.tape.open_offset == offset


class World:
    """All shards of a namespace, and what happens to them.

    Every action takes a seed, from which it draws what is left open.
    """

    def __init__(self, desired: Command, shards: int) -> None:
        self.desired = desired
        self.wall_ns = WALL_NS
        self.commands = [desired]
        self.plans = [plan_for(desired, shard, shards) for shard in range(shards)]
        self.lanes = [Lane(number, shards) for number in range(shards)]
        for lane in self.lanes:
            lane.owner.shard.command(desired)

    # What sources send.

    def rows(self, seed: int) -> tuple[Lane, list[Row]]:
        """Some rows of a session of one shard; revisions and lengths differ now and then."""
        rng = random.Random(seed)
        symbol = rng.choice(self.desired.symbols)
        lane = self.lanes[shard_of(symbol, len(self.lanes))]
        plan = self.plans[lane.number]
        rows = []
        for _ in range(rng.choice([1, 1, 3, 8, 20])):
            session = plan.sessions[rng.choice([0, 0, 0, 1, 1, 2])]
            length = rng.choice([1, 1, 1, 1, 2]) * MINUTE_NS
            start = session.open_ns + rng.randrange(5) * MINUTE_NS
            if start + length <= session.close_ns:
                row = (rng.choice(plan.symbols), start, length, rng.choice([0, 0, 0, 1, 2, 3]))
                rows.append(row)
        return lane, rows

    def send_block(self, seed: int) -> None:
        lane, rows = self.rows(seed)
        source = ("model", "other")[seed % 2]
        lane.partition.produce(block(rows, ("", self.desired.run)[seed % 3 > 0], source))

    def send_bars(self, seed: int) -> None:
        lane, rows = self.rows(seed)
        for row in rows[:6]:
            lane.partition.produce(bar(row, source=("model", "other")[seed % 2]))

    def send_minute(self, seed: int) -> None:
        """One minute of all symbols, as a live source does it."""
        for lane, plan in zip(self.lanes, self.plans, strict=True):
            start = plan.sessions[seed % 3].open_ns + seed % 5 * MINUTE_NS
            if plan.symbols:
                rows = [(symbol, start, MINUTE_NS, 0) for symbol in plan.symbols]
                lane.partition.produce(block(rows))

    def send_bad(self, seed: int) -> None:
        """Something that must be refused, or belongs to another run."""
        lane, rows = self.rows(seed)
        row = (rows or [(self.desired.symbols[0], WALL_NS, MINUTE_NS, 0)])[0]
        symbol, start, length, revision = row
        strangers: list[Callable[[], object]] = [
            lambda: bar(row, high=1.0),
            lambda: bar((symbol, start - 365 * 1440 * MINUTE_NS, length, revision)),
            lambda: bar(("nobody", start, length, revision)),
            lambda: replace(bar(row), interval="1 minute"),
            lambda: block([*rows, (symbol, start + 99 * MINUTE_NS, length, 0)], ""),
            lambda: block([*rows, *((s, start, length, 0) for s in self.desired.symbols)], ""),
            lambda: bar(row, OLD_RUN),
            lambda: block([*rows, row], OLD_RUN),
            lambda: Quote(symbol, start, 1.0, 1.0, 2.0, 1.0),
            lambda: block([]),
            lambda: b"no message of ours",
        ]
        lane.partition.produce(strangers[seed % len(strangers)]())  # type: ignore[arg-type]

    def send_again(self, seed: int) -> None:
        raw = self.lanes[seed % len(self.lanes)].partition.raw
        if raw:
            raw.append(raw[seed % len(raw)])

    def cover(self, seed: int) -> None:
        """Vouch for a session: whole, in pieces, for some symbols, or not able to say."""
        rng = random.Random(seed)
        for lane, plan in zip(self.lanes, self.plans, strict=True):
            number = rng.choice([0, 0, 1, 2])
            session = plan.sessions[number]
            middle = session.open_ns + rng.randrange(6) * MINUTE_NS
            whole = coverage(
                plan, number, run=self.desired.run, answer=rng.choice(["rows", "nothing"])
            )
            pieces = {
                0: [whole],
                1: [replace(whole, end_ns=middle), replace(whole, start_ns=middle)],
                2: [replace(whole, symbols=plan.symbols[:1])],
                3: [replace(whole, answer="cannot_say"), whole][: rng.randrange(1, 3)],
                4: [replace(whole, start_ns=0, end_ns=2**62)],
                5: [replace(whole, run=OLD_RUN)],
            }
            for piece in pieces[rng.choice([0, 0, 0, 1, 2, 3, 4, 5])]:
                if piece.symbols:
                    lane.partition.produce(piece)

    # What workers do.

    def feed(self, seed: int) -> None:
        for lane in self.lanes:
            lane.owner.feed(self.wall_ns, lane.owner.next + 1 + seed % 4)

    def feed_all(self, _: int) -> None:
        for lane in self.lanes:
            lane.owner.feed(self.wall_ns)

    def advance(self, seed: int) -> None:
        for lane in self.lanes:
            for _ in range(1 + seed % 3):
                lane.release(self.wall_ns)

    def crash(self, seed: int) -> None:
        """Die before or after a commit, or with nothing under way; the next owner takes over."""
        lane = self.lanes[seed % len(self.lanes)]
        rng = random.Random(seed)
        lane.release(self.wall_ns, rng.choice(["before", "after"]))
        self._next_owner(lane, rng)

    def pause_owner(self, seed: int) -> None:
        """Take a shard from a worker that hangs and does not know it yet."""
        lane = self.lanes[seed % len(self.lanes)]
        self._next_owner(lane, random.Random(seed), is_alive=True)

    def _next_owner(self, lane: Lane, rng: random.Random, *, is_alive: bool = False) -> None:
        keep = lane.partition.keep
        start = rng.choice([keep, lane.partition.low, rng.randint(lane.partition.low, keep)])
        lane.take_over(start, self.desired, is_alive=is_alive)
        if rng.random() < 0.3:  # it reads the commands from the first on
            lane.owner.shard._command = None
            lane.owner.shard.command(rng.choice(self.commands))
            lane.owner.feed(self.wall_ns)
            self._own_command_counts(lane)
            lane.owner.shard.command(self.desired)

    def _own_command_counts(self, lane: Lane) -> None:
        last = lane.partition.frames and lane.partition.tape()[-1]
        current = lane.owner.shard._command
        assert current is not None
        if last and current.version < last.command:
            assert lane.owner.shard.advance(self.wall_ns) is None

    def stale_writes(self, seed: int) -> None:
        """A worker comes back to life: whatever it does, it is refused."""
        lane = self.lanes[seed % len(self.lanes)]
        if not lane.stale:
            return
        worker = lane.stale.pop()
        worker.feed(self.wall_ns)
        release = worker.shard.advance(self.wall_ns)
        if release is not None:
            before = len(lane.partition.frames)
            with pytest.raises(FencedWriterError):
                lane.partition.commit(worker.epoch, release)
            assert len(lane.partition.frames) == before

    def delete_raw(self, _: int) -> None:
        for lane in self.lanes:
            lane.partition.low = lane.partition.keep

    # Wall time and people.

    def pass_time(self, seed: int) -> None:
        self.wall_ns += (1, 7, 30, 61, 130)[seed % 5] * SECOND_NS

    def wait(self, seed: int) -> None:
        """Let time pass to where the owner says that something falls due."""
        due_ns = self.lanes[seed % len(self.lanes)].owner.shard.due_ns()
        if due_ns is not None:
            self.wall_ns = max(self.wall_ns, due_ns)

    def order(self, **changes: object) -> None:
        clock_ns = max(lane.owner.shard.tape.clock_ns for lane in self.lanes)
        self.desired = replace(
            self.desired,
            version=self.desired.version + 1,
            anchor_wall_ns=self.wall_ns,
            anchor_clock_ns=clock_ns,
            **changes,  # type: ignore[arg-type]
        )
        self.commands.append(self.desired)
        for lane in self.lanes:
            lane.owner.shard.command(self.desired)

    def pause(self, seed: int) -> None:
        self.order(paused=seed % 2 == 0)

    def change_speed(self, seed: int) -> None:
        self.order(speed=(0.0, 1.0, 60.0, 7.3)[seed % 4])

    def stop(self, seed: int) -> None:
        if seed % 3 == 0:
            self.order(stopped=True)

    def start_anew(self, seed: int) -> None:
        if seed % 2 == 0:
            number = int(self.desired.run.removeprefix("run-")) + 1
            self.order(run=f"run-{number}", stopped=False, paused=False)
            self.desired = replace(self.desired, anchor_clock_ns=0)
            self.order()

    def finish(self) -> None:
        """Let the run come to its end."""
        self.order(paused=False, speed=0.0)
        for lane, plan in zip(self.lanes, self.plans, strict=True):
            for number in range(3):
                if plan.symbols:
                    lane.partition.produce(coverage(plan, number, run=self.desired.run))
            lane.owner.feed(self.wall_ns)
            while lane.release(self.wall_ns) is not None:
                pass
            assert lane.owner.shard.is_idle
            assert lane.owner.shard.due_ns() is None


ACTIONS: tuple[Callable[[World, int], None], ...] = (
    *(World.send_block, World.send_bars, World.send_minute, World.send_bad, World.send_again),
    *(World.cover, World.cover, World.feed, World.feed_all, World.advance, World.advance),
    *(World.crash, World.crash, World.pause_owner, World.stale_writes, World.delete_raw),
    *(World.pass_time, World.wait, World.pause, World.change_speed, World.stop),
    World.start_anew,
)


# What the tape must be, from the raw log alone.


def is_sound(row: Row, values: tuple[float, ...], plan: Plan) -> bool:
    symbol, start, length, _ = row
    first, high, low, last, _ = values
    inside = any(s.open_ns <= start and start + length <= s.close_ns for s in plan.sessions)
    return symbol in plan.symbols and inside and low <= min(first, last) <= max(first, last) <= high


def rows_in(record: Bar | BarBlock) -> list[tuple[Row, tuple[float, ...]]]:
    if isinstance(record, Bar):
        row = (record.symbol, record.ts_ns, interval_ns(record.interval), record.revision)
        return [(row, (record.open, record.high, record.low, record.close, record.volume))]
    names = (record.symbols[place] for place in record.symbol)
    columns = (record.ts_ns.tolist(), record.interval_ns.tolist(), record.revision.tolist())
    rows = zip(names, *columns, strict=True)
    return [(row, values_at(record, at)) for at, row in enumerate(rows)]


def messages(partition: Partition, plan: Plan, run: str) -> Iterator[tuple[int, list[Row], int]]:
    """Give of every message of a run its sound rows, and the number of rows to be refused."""
    for offset in range(len(partition.raw)):
        record = record_of(partition, offset)
        is_ours = isinstance(record, (Bar, BarBlock)) and record.run in ("", run)
        if isinstance(record, Coverage) or (isinstance(record, (Bar, BarBlock)) and not is_ours):
            yield offset, [], 0
        elif isinstance(record, BarBlock) or (
            isinstance(record, Bar) and record.interval != "1 minute"
        ):
            rows = rows_in(record)
            good = [row for row, values in rows if is_sound(row, values, plan)]
            yield offset, good, len(rows) - len(good)
        else:
            yield offset, [], 1


def needed(partition: Partition, plan: Plan, frame: Frame, begin: int) -> int:
    """Return the first offset that a frame's owner still needs."""
    taken = frame.positions[0].taken
    for offset, rows, _ in messages(partition, plan, frame.run):
        if not begin <= offset < taken:
            continue
        record = record_of(partition, offset)
        if isinstance(record, Coverage) and record.run in ("", frame.run):
            if min(record.end_ns, plan.sessions[-1].close_ns) > frame.clock_ns:
                return offset
        elif any(start + length > frame.clock_ns for _, start, length, _ in rows):
            return offset
    return taken


def check(lane: Lane, plan: Plan) -> None:
    """Hold the tape of a shard against everything that must be true of it."""
    frames = lane.partition.tape()
    assert [frame.frame for frame in frames] == list(range(len(frames)))
    assert [frame.first_row for frame in frames] == [
        sum(frame.rows for frame in frames[:number]) for number in range(len(frames))
    ]
    places = [frame.positions[0] for frame in frames]
    for before, after in itertools.pairwise(places):
        assert before.keep <= after.keep
        assert before.taken <= after.taken
        assert after.keep <= after.taken
    refused = Counter[int]()
    too_late = Counter[tuple[int, Row]]()
    for rejection in lane.partition.rejections:
        what = rejection.what
        if rejection.reason == "its session is over":
            assert isinstance(what, (Bar, BarBlock))
            too_late.update((rejection.offset, row) for row, _ in rows_in(what))
        else:
            refused[rejection.offset] += len(what) if isinstance(what, BarBlock) else 1
    runs = [list(group) for _, group in itertools.groupby(frames, lambda frame: frame.run)]
    ends = [run[0].positions[0].taken for run in runs[1:]] + [places[-1].taken]
    for run, end in zip(runs, ends, strict=True):
        assert [frame.event for frame in run].count("start") == 1
        assert run[0].event == "start"
        check_run(lane, plan, run, end, too_late)
        begin = run[0].positions[0].taken
        for offset, _, bad in messages(lane.partition, plan, run[0].run):
            if begin <= offset < end:
                assert refused.pop(offset, 0) == bad
    assert not refused
    assert not too_late


def check_rows(frames: list[Frame]) -> dict[Key, tuple[int, tuple[float, ...]]]:
    """Hold each row against the clock and the rows before it; return the final state."""
    out: dict[Key, tuple[int, tuple[float, ...]]] = {}
    for came in delivered(frames):
        symbol, start, length, revision = came.row
        ready = start + length
        assert ready <= came.slice_ns
        if came.is_correction:
            assert ready <= came.clock_before < came.slice_ns
        else:
            assert ready == came.slice_ns
            assert (symbol, start, length) not in out
        assert out.get((symbol, start, length), (-1,))[0] < revision
        out[symbol, start, length] = (revision, came.values)
    return out


def check_run(
    lane: Lane, plan: Plan, frames: list[Frame], end: int, too_late: Counter[tuple[int, Row]]
) -> None:
    begin = frames[0].positions[0].taken
    clocks = [frame.clock_ns for frame in frames]
    assert clocks == sorted(clocks)
    for frame in frames:
        assert frame.positions[0].keep == needed(lane.partition, plan, frame, begin)
    for _, group in itertools.groupby(frames, lambda frame: frame.session):
        slices = [ns for frame in group for ns in frame.slice_ns.tolist()]
        assert all(before < after for before, after in itertools.pairwise(slices))
    wanted = [r for r in lane.partition.requests if r.run == frames[0].run]
    assert len({request.session for request in wanted}) == len(wanted)
    if plan.symbols:
        played = [frame.session for frame in frames if frame.event == "open"]
        assert set(played) <= {request.session for request in wanted}
    out = check_rows(frames)
    best: dict[Key, int] = {}
    closed = {frame.session for frame in frames if frame.event == "close"}
    for offset, rows, _ in messages(lane.partition, plan, frames[0].run):
        if begin <= offset < end:
            was_taken = offset < frames[-1].positions[0].taken
            for row, count in Counter(rows).items():
                assert too_late[offset, row] in (0, count)
                if not too_late.pop((offset, row), 0) and was_taken:
                    best[row[:3]] = max(best.get(row[:3], 0), row[3])
    for key, revision in best.items():
        session = next(s for s in plan.sessions if s.open_ns <= key[1] < s.close_ns)
        if session.label in closed:
            values = values_of((*key, revision))
            assert out[key][1] == tuple(values[name] for name in NAMES)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(
    actions=st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9_999)), min_size=5, max_size=60
    ),
    shards=st.sampled_from([1, 2]),
    desired=st.builds(
        command,
        symbols=st.sampled_from([("AA", "BB", "CC"), ("AA",)]),
        speed=st.sampled_from([0.0, 0.0, 1.0, 60.0]),
        prefetch_sessions=st.sampled_from([0, 1, 2]),
        on_timeout=st.sampled_from(["go_on", "stop"]),
    ),
    release_rows=st.sampled_from([3, 65_536]),
)
def test_whatever_happens_the_tape_is_right(
    actions: list[tuple[Callable[[World, int], None], int]],
    shards: int,
    desired: Command,
    release_rows: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_module, "RELEASE_ROWS", release_rows)
        world = World(desired, shards)
        for action, seed in actions:
            action(world, seed)
        world.finish()
        for lane, plan in zip(world.lanes, world.plans, strict=True):
            check(lane, plan)


# The same input, whatever the order of its arrival and whoever dies.


def full_input(plan: Plan, rng: random.Random) -> list[list[BarBlock | Bar]]:
    """All messages of each session: every minute of every symbol, some revised, some twice."""
    found = []
    for session in plan.sessions:
        rows = [
            (symbol, start, MINUTE_NS, revision)
            for symbol in plan.symbols
            for start in session.starts(MINUTE_NS).tolist()
            for revision in range(rng.choice([1, 1, 2]))
        ]
        rows += rng.sample(rows, 3)
        rng.shuffle(rows)
        parts = [rows[at : at + 4] for at in range(0, len(rows), 4)]
        found.append([block(part) if rng.random() < 0.7 else bar(part[0]) for part in parts])
        found[-1] += [block(part) for part in parts]
        rng.shuffle(found[-1])
    return found


def played(desired: Command, seed: int, crashes: float) -> list[object]:
    plan = plan_for(desired, 0, 1)
    sent = full_input(plan, random.Random(7))
    rng = random.Random(seed)
    partition = Partition()
    worker = Worker(partition, 0, 1)
    worker.shard.command(desired)
    wall_ns = WALL_NS
    for number, records in enumerate(sent):
        rng.shuffle(records)
        for record in records:
            partition.produce(record)
        partition.produce(coverage(plan, number))
    while not worker.shard.is_idle or not partition.frames:
        worker.feed(wall_ns, worker.next + rng.randint(1, 9))
        release = worker.shard.advance(wall_ns)
        dies = rng.random() < crashes
        if release is not None and not (dies and rng.random() < 0.5):
            worker.commit(release)
        if dies:
            worker = Worker(partition, 0, 1, rng.randint(partition.low, partition.keep))
            worker.shard.command(desired)
            # Recovered, it is idle until it has looked at its command.
            worker.shard.advance(wall_ns)
            if partition.frames and partition.tape()[-1].event == "end":
                break
            worker.feed(wall_ns)
        wall_ns += 3 * SECOND_NS
    return [
        (came.row, came.values, came.slice_ns, came.is_correction)
        for came in delivered(partition.tape())
    ]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_replay_is_the_same_whatever_the_arrival_and_whoever_dies(prefetch: int) -> None:
    desired = command(prefetch_sessions=prefetch)
    first = played(desired, 0, 0.0)
    assert len(first) == 3 * 5 * 3
    for seed in range(1, 25):
        assert played(desired, seed, 0.3) == first
        assert played(replace(desired, speed=60.0), seed, 0.1) == first


# Every crash of a small history.


def steps(plan: Plan) -> list[list[Bar | BarBlock | Coverage]]:
    """What comes in before each step: a late row, a duplicate and a revision among it."""
    minutes = [plan.sessions[0].open_ns + minute * MINUTE_NS for minute in range(5)]
    known = [[(s, minute, MINUTE_NS, 0) for s in plan.symbols] for minute in minutes]
    late, again = known[1].pop(), known[0]
    second = [
        (s, start, MINUTE_NS, 0)
        for s in plan.symbols
        for start in plan.sessions[1].starts(MINUTE_NS).tolist()
    ]
    return [
        [coverage(plan, 0), block(known[0]), bar((*known[4][0][:3], 5), high=0.0)],
        [block(known[1])],
        [block(known[2]), block(again)],
        [
            bar(late),
            bar((*again[0][:3], 1)),
            bar((plan.symbols[0], minutes[0], MINUTE_NS, 0), high=0.0),
        ],
        [block(known[3]), block(second), coverage(plan, 1)],
        [block(known[4]), bar((*late[:3], 2))],
        [bar((*known[4][0][:3], 1))],
        [],
    ]


def history(deaths: dict[int, str], from_start: bool) -> tuple[list[bytes], object, object]:
    """Play the steps at real time, a minute each, dying at some releases."""
    desired = command(end="2024-11-29", speed=1.0)
    plan = plan_for(desired, 0, 1)
    partition = Partition()
    worker = Worker(partition, 0, 1)
    worker.shard.command(desired)
    number, wall_ns = 0, WALL_NS
    for records in [*steps(plan), *([[]] * 4)]:
        for record in records:
            partition.produce(record)
        worker.feed(wall_ns)
        while True:
            release = worker.shard.advance(wall_ns)
            fate = "" if release is None else deaths.get(number, "")
            number += 1
            if release is not None and fate == "after":
                partition.commit(worker.epoch, release)
            elif release is not None and not fate:
                worker.commit(release)
            if fate:
                start = 0 if from_start else partition.keep
                worker = Worker(partition, 0, 1, start)
                worker.shard.command(desired)
                worker.feed(wall_ns)
            elif release is None:
                break
        wall_ns += 60 * SECOND_NS
    frames = [value for _, value in partition.frames]
    return frames, partition.requests, refusals_of(partition.rejections)


def test_no_crash_changes_a_byte_of_a_small_history() -> None:
    right = history({}, from_start=False)
    tape = [CODEC.decode(value) for value in right[0]]
    rows = delivered([frame for frame in tape if isinstance(frame, Frame)])
    assert sum(came.is_correction for came in rows) == 3
    assert [f.event for f in tape if isinstance(f, Frame)][-1] == "end"
    points = range(25)  # as often as the owner is asked what is due
    fates = ("before", "after")
    for at, fate, from_start in itertools.product(points, fates, (False, True)):
        assert history({at: fate}, from_start) == right
    # And the next owner dies soon after.
    for at, after, fate, then in itertools.product(points, range(1, 6), fates, fates):
        assert history({at: fate, at + after: then}, from_start=at % 2 == 0) == right


def test_a_stale_owner_writes_nothing() -> None:
    partition = Partition()
    stale = Worker(partition, 0, 1)
    stale.shard.command(command())
    release = stale.shard.advance(WALL_NS)
    owner = Worker(partition, 0, 1)
    owner.shard.command(command())
    owner.run(WALL_NS)
    assert release is not None
    with pytest.raises(FencedWriterError):
        stale.commit(release)
    assert [frame.run for frame in partition.tape()] == [RUN]
