"""A running tape for tests: a namespace of a real broker, workers as processes, a reader of frames.

Nothing here sleeps for something to happen: every wait is for a condition, has a deadline, and
reads the tape meanwhile. What fails shows the ends of all logs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from schemas import BarBlock, Codec, Command, Coverage, Frame
from schemas.records import Record
from sinks import has_caught_up
from streams.calendar import Session
from streams.client.merging import Merger
from streams.control import send_command
from streams.digest import Digest
from streams.errors import BrokerError
from streams.intervals import MINUTE_NS
from streams.kafka import admin, consumer_config, create_topics, producer_config
from streams.positions import Delivered, FrameReader
from streams.settings import Settings
from streams.sources import open_source
from streams.topics import Topics, shard_of, shards_of
from tests.reading import patiently, read_topic
from tests.rows import Row, rows_of
from tests.workers import Worker, environment, read_store

__all__ = ["Result", "Tape"]

DEADLINE_S = 60.0
POLL_S = 0.02
LOG_TAIL = 4_000


class Result(NamedTuple):
    """What a run left behind."""

    digest: str
    as_known: str
    rows: tuple[Row, ...]
    tables: Mapping[str, Mapping[str, Any]]
    store: Sequence[Any]


class Tape:
    """One namespace, from its topics to what came out.

    Parameters
    ----------
    servers
        Bootstrap servers of a running broker.
    namespace
        Prefix of topics and groups.
    folder
        Logs and data.
    partitions
        Shards; 0: the topics are not made.
    source
        URI of the producers' source.
    settings
        Settings that differ.
    """

    def __init__(
        self,
        servers: str,
        namespace: str,
        folder: Path,
        *,
        partitions: int = 1,
        source: str = "synthetic:symbols=8",
        **settings: Any,
    ) -> None:
        # Kafka gives the shards of a dead worker away after this time; the local broker allows it.
        # Less, and a machine that is busy loses workers that live.
        settings = {"broker_session_timeout_s": 3.0, **settings}
        self.settings = Settings(
            bootstrap_servers=servers, namespace=namespace, data_dir=folder, **settings
        )
        self.topics = Topics(namespace)
        self.partitions = partitions
        self.source = source
        self.workers: list[Worker] = []
        self.frames: dict[int, list[Delivered]] = {shard: [] for shard in range(partitions)}
        self.came: list[Delivered] = []
        self.symbols = open_source(source).symbols()
        self.version = 0
        self._folder = folder
        self._reader: FrameReader | None = None
        self.group = f"{namespace}.test"
        self._command: Command | None = None
        self._askers: dict[str, Consumer] = {}
        if partitions:
            create_topics(self.settings, partitions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            worker.end()
        if self._reader is not None:
            self._reader.close()
        for consumer in self._askers.values():
            consumer.close()
        if error is not None:
            for worker in self.workers:
                error.add_note(f"--- {worker.name} ({worker.exit_code}):\n{worker.log[-LOG_TAIL:]}")

    # Workers.

    def worker(
        self, name: str, *argv: str, is_supervised: bool = False, **settings: object
    ) -> Worker:
        """Start a worker, with settings that are its alone."""
        values = {
            "bootstrap_servers": self.settings.bootstrap_servers,
            "namespace": self.settings.namespace,
            "data_dir": self.settings.data_dir,
            "broker_session_timeout_s": self.settings.broker_session_timeout_s,
            "flush_interval_ms": self.settings.flush_interval_ms,
            "gap_timeout_s": self.settings.gap_timeout_s,
            "live_gap_backoff_s": self.settings.live_gap_backoff_s,
            "derived_intervals": self.settings.derived_intervals,
            "source_timeout_s": self.settings.source_timeout_s,
            "calendar": self.settings.calendar,
            "hours": self.settings.hours,
            **settings,
        }
        made = self._made(name, argv, values, is_supervised=is_supervised)
        self.workers.append(made)
        made.start()
        return made

    def _made(
        self, name: str, argv: Sequence[str], values: Mapping[str, object], *, is_supervised: bool
    ) -> Worker:
        """Return a worker that is not started; ``values`` are settings by name."""
        log = self._folder / f"{name}.log"
        return Worker(name, argv, environment(values), log, is_supervised)

    def coordinator(self, name: str = "coordinator", **how: bool) -> Worker:
        return self.worker(name, "streams.coordinator", **how)

    def tables(self, **how: bool) -> Worker:
        return self.worker("tables", "streams.tables", **how)

    def producer(self, *more: str, **how: bool) -> Worker:
        argv = ("streams.producer", "--source", self.source, *more)
        return self.worker("producer", *argv, **how)

    def feeder(self, **how: bool) -> Worker:
        return self.worker("feeder", "streams.feeder", "--source", self.source, **how)

    def upkeep(self, name: str = "upkeep", **how: bool) -> Worker:
        return self.worker(name, "streams.upkeep", **how)

    def sink(self, **how: bool) -> Worker:
        return self.worker("sink", "sinks", **how)

    # The run.

    def start(self, start: str, end: str, **changes: Any) -> Command:
        """Begin a run, and read the tape from here."""
        if self._reader is None:
            self._reader = FrameReader(self.settings, self.group)
            self._reader.assign(self._reader.ends())
        fields: dict[str, Any] = {
            "action": "start",
            "run": "run-1",
            "mode": "replay",
            "calendar": "XNYS",
            "start": start,
            "end": end,
            "symbols": self.symbols,
            "streams": ("bars",),
            "anchor_wall_ns": time.time_ns(),
        }
        return self.command(**(fields | changes))

    def command(self, **changes: Any) -> Command:
        """Change the desired state."""
        old = self._command
        kept = {} if old is None else {n: getattr(old, n) for n in old.__dataclass_fields__}
        self.version += 1
        self._command = Command(**(kept | changes | {"version": self.version}))
        send_command(self.settings, self._command)
        return self._command

    def full_speed(self) -> None:
        """Let the clock of the run go as fast as it can."""
        self.command(action="speed", speed=0.0, anchor_wall_ns=time.time_ns())

    def read(self, timeout_s: float = POLL_S) -> None:
        """Take what is there; look after the workers."""
        for worker in self.workers:
            if worker.is_wanted and worker.exit_code is not None:
                assert worker.is_supervised, f"{worker.name} ended: {worker.exit_code}"
                worker.start()
        if self._reader is None:
            time.sleep(timeout_s)
            return
        for delivered in self._reader.poll(timeout_s):
            self.frames[delivered.frame.shard].append(delivered)
            self.came.append(delivered)
            if delivered.frame.event == "close":
                # A reader that the run names is waited for: it says how far it is. While brokers
                # are away it can't, and the next close says more.
                with suppress(BrokerError):
                    self._reader.commit({delivered.frame.shard: delivered.offset + 1})

    def ends(self) -> dict[int, int]:
        """Return the offset behind the last committed frame of every shard."""
        assert self._reader is not None
        return patiently(self._reader.ends)

    def rows_since(self, ends: Mapping[int, int]) -> int:
        """Return how many rows came from these offsets on."""
        return sum(d.frame.rows for d in self.came if d.offset >= ends[d.frame.shard])

    def end_of(self, topic: str) -> int:
        """Return how many messages a topic has seen, over its partitions."""
        consumer = self._asker("")
        return sum(
            patiently(partial(consumer.get_watermark_offsets, TopicPartition(topic, shard), 5))[1]
            for shard in range(self.partitions)
        )

    def committed(self, group: str) -> int:
        """Return the sum of what a group has committed on the session topic."""
        places = [TopicPartition(self.topics.session, shard) for shard in self.frames]
        found = patiently(partial(self._asker(group).committed, places, 5))
        return sum(max(place.offset, 0) for place in found)

    def _asker(self, group: str) -> Consumer:
        """Return a consumer that only asks: the admin client does not outlive a broker's death."""
        if group not in self._askers:
            config = consumer_config(self.settings, group or f"{self.group}.ask")
            self._askers[group] = Consumer(config)
        return self._askers[group]

    def await_sink(self) -> None:
        """Wait until the sink has stored all there is."""
        self.until(lambda: has_caught_up(self.settings), "the end of the run in the store")

    def until(
        self, condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S
    ) -> None:
        """Read the tape until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not in {timeout_s:.0f} s: {what} {self.where}"
            self.read()

    def ended(self, run: str = "run-1") -> bool:
        """Tell whether every shard has ended the run."""
        last = [frames[-1].frame for frames in self.frames.values() if frames]
        return len(last) == self.partitions and all(f.event == "end" and f.run == run for f in last)

    def play(self, run: str = "run-1", timeout_s: float = DEADLINE_S) -> None:
        """Read the run to its end."""
        self.until(lambda: self.ended(run), f"the end of {run}", timeout_s)

    @property
    def where(self) -> str:
        """Where every shard stands, for people."""
        last = [d[-1].frame for d in self.frames.values() if d]
        return "; ".join(f"shard {f.shard}: {f.event} {f.session} frame {f.frame}" for f in last)

    @property
    def rows_seen(self) -> int:
        return sum(delivered.frame.rows for delivered in self.came)

    def events(self, shard: int = 0, run: str = "run-1") -> list[str]:
        """Return the events of a run but for its rows, with their sessions."""
        frames = (delivered.frame for delivered in self.frames[shard])
        return [
            f"{f.event} {f.session}".strip() for f in frames if f.event != "rows" and f.run == run
        ]

    def members(self, group: str) -> dict[str, set[int]]:
        """Return the shards of each member of a group, by the members' ids."""
        with admin(self.settings) as client:
            found = client.describe_consumer_groups([group])[group].result(DEADLINE_S)
        if found.state.name != "STABLE":
            return {}
        return {
            member.member_id: {place.partition for place in member.assignment.topic_partitions}
            for member in found.members
        }

    def await_members(self, group: str, *sizes: int) -> None:
        """Wait until a group is stable and its members hold so many shards each."""

        # Asked before there is any group, the broker leaves the question unanswered for a minute.
        self.until(lambda: any("is ours" in w.log for w in self.workers), "a first member")

        def is_so() -> bool:
            return sorted(len(shards) for shards in self.members(group).values()) == sorted(sizes)

        self.until(is_so, f"{group} with {sizes} shards a member")

    # What came out.

    def frames_of(self, run: str = "run-1", shard: int | None = None) -> list[Frame]:
        frames = (delivered.frame for delivered in self.came)
        return [f for f in frames if f.run == run and shard in (None, f.shard)]

    def rows(self, run: str = "run-1", shard: int | None = None) -> tuple[Row, ...]:
        """Return the rows of a run: of one shard, or of all, merged, in their order."""
        if shard is not None:
            return tuple(r for f in self.frames_of(run, shard) for r in rows_of(f, f.symbols))
        merged = Merger(self.partitions, run=run)
        found: list[Row] = []
        for delivered in self.came:
            merged.add(delivered.frame, delivered.offset)
            for batch in merged.drain():
                found.extend(rows_of(batch, batch.symbols))
        return tuple(found)

    def digest(self, run: str = "run-1") -> Digest:
        """Return the digests of a run."""
        merged, digest = Merger(self.partitions, run=run), Digest()
        for delivered in self.came:
            merged.add(delivered.frame, delivered.offset)
            for batch in merged.drain():
                digest.add(batch)
        return digest

    def table(self) -> dict[str, dict[str, Any]]:
        """Return what the tables' changelogs say, but for how far the tape was cut into frames."""
        found: dict[str, dict[str, Any]] = {}
        for name in ("symbols", "shards"):
            for message in self.messages(self.topics.changelog(name)):
                value = json.loads(message.value() or b"")
                key = f"{name}/{(message.key() or b'').decode()}"
                assert found.get(key, {"frame": -1})["frame"] < value["frame"], key
                found[key] = value
        return {key: {k: v for k, v in found[key].items() if k != "frame"} for key in sorted(found)}

    def await_tables(self, run: str = "run-1") -> dict[str, dict[str, Any]]:
        """Wait until the tables have the end of a run."""
        wanted = {f"shards/{shard}" for shard in range(self.partitions)}

        def is_there() -> bool:
            table = self.table()
            return all(
                (key in table) and (table[key]["run"], table[key]["event"]) == (run, "end")
                for key in wanted
            )

        self.until(is_there, "the end of the run in the tables")
        return self.table()

    def store(self) -> Sequence[Any]:
        """Return what the sink has stored, read by another process; the sink must be down."""
        return read_store(self.settings)

    def messages(self, topic: str) -> list[Message]:
        """Return all committed messages that a topic holds now."""
        return read_topic(self.settings, topic)

    # A producer of the test's own.

    @contextmanager
    def sender(self) -> Iterator[Callable[..., None]]:
        """Give a function that sends records or bytes to the raw topic."""
        codec, topic = Codec(), self.topics.raw_bars
        client = Producer(producer_config(self.settings))

        def send(what: Record | bytes, shard: int = -1, key: str = "") -> None:
            value = what if isinstance(what, bytes) else codec.encode(what, topic)
            client.produce(topic, value, key.encode(), shard)

        yield send
        assert client.flush(DEADLINE_S) == 0

    def blocks(self, session: Session, step: int = 100) -> list[tuple[int, BarBlock]]:
        """Return the source's bars of a session cut small, each with its shard."""
        found = []
        for shard, symbols in shards_of(self.symbols, self.partitions).items():
            parts = open_source(self.source).load(
                "bars", symbols, session.open_ns, session.close_ns, MINUTE_NS
            )
            for part in parts:
                if isinstance(part, BarBlock):
                    cuts = range(0, len(part), step)
                    found += [(shard, part.take(slice(at, at + step))) for at in cuts]
        return found

    def coverages(self, session: Session) -> list[tuple[int, Coverage]]:
        """Return what vouches for all symbols of a session, each with its shard."""
        shards = shards_of(self.symbols, self.partitions)
        return [
            (shard, Coverage(symbols, session.open_ns, session.close_ns))
            for shard, symbols in shards.items()
            if symbols
        ]

    def shard_of(self, symbol: str) -> int:
        return shard_of(symbol, self.partitions)
