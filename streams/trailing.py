"""Trailing days: what came before a run's first session, out of the store and out of sources.

They stand on ``<ns>.history``, one partition a shard: the sessions of a run newest first (a reader
needs yesterday before the day before), all frames of a session in one transaction, then a frame
that says ``end``. Delivery: each session of a run is there once. Who takes a shard over finds in
the topic what is out, and goes on with the rest. The tape is not touched: however long this takes,
the clock doesn't wait for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from confluent_kafka import KafkaException, TopicPartition

from schemas import Command, DataRequest, Frame
from schemas.registry import codec_for
from streams.days import Day, Past, is_whole, past_of
from streams.errors import FencedError, HistoryError, SessiontapeError
from streams.history import end_of, frames_of
from streams.kafka import admin
from streams.metrics import REJECTED
from streams.positions import Delivered, FrameReader, FrameWriter, Outgoing
from streams.replies import Replies
from streams.settings import Settings
from streams.topics import MESSAGE_BYTES, Topics, shards_of

__all__ = ["Store", "Trailing"]

log = logging.getLogger(__name__)

RETRY_S = 0.2
LONGEST_RETRY_S = 10.0
ADMIN_TIMEOUT_S = 15.0


class Store(Protocol):
    """What was recorded; ``sinks.history.History`` is one."""

    def bars(
        self,
        symbols: Sequence[str] | None,
        interval: str | int = "1m",
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> Any:
        """Return bars of the newest sessions before a cut as an Arrow table."""
        ...

    def sessions(
        self,
        symbols: Sequence[str] | None = None,
        sessions: int = 5,
        before_ns: int | None = None,
    ) -> Any:
        """Return the newest sessions before a cut as an Arrow table."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


OpenStore: TypeAlias = Callable[[Settings], Store]


@dataclass(slots=True)
class _Written:
    """What a shard's partition holds of a run.

    Attributes
    ----------
    last
        Last frame of the partition, of whichever run: numbers go on from it.
    is_begun
        Whether there is a frame of the run.
    labels
        Sessions of the run that are out.
    is_over
        Whether its end is.
    """

    last: Frame | None
    is_begun: bool = False
    labels: set[str] = field(default_factory=set)
    is_over: bool = False


class Trailing:
    """Loads the trailing sessions of runs for one shard.

    Parameters
    ----------
    settings
        Brokers and namespace; attempts, waits and time-out of questions to sources.
    shard, shards
        Number of the shard, and how many there are.
    open_store
        Opens what was recorded, such as ``sinks.history.open_history``.
    """

    def __init__(self, settings: Settings, shard: int, shards: int, open_store: OpenStore) -> None:
        self._settings = settings
        self._shard = shard
        self._shards = shards
        self._open_store = open_store
        self._topics = Topics(settings.namespace)
        self._codec = codec_for(settings.schema_registry_url)
        self._stop = threading.Event()
        self._writer: FrameWriter | None = None

    def stop(self) -> None:
        """Let ``load`` end soon, for good; may be called from any thread."""
        self._stop.set()
        writer = self._writer
        if writer is not None:
            writer.close()

    def load(self, command: Command) -> None:
        """Write the trailing sessions of a run, those that are not out yet; it blocks.

        It comes back when they are out, when another worker loads for this shard, or when it was
        stopped. While the brokers are away it tries again.

        Raises
        ------
        CalendarError
            The command names a calendar, days or hours that don't exist.
        """
        if not command.historical or not command.trailing_sessions:
            return
        past = past_of(command)
        wait_s = RETRY_S
        while not self._stop.is_set():
            try:
                self._load(command, past)
            except FencedError:
                log.info("shard %d: another worker loads its trailing days", self._shard)
                return
            except (SessiontapeError, KafkaException) as exc:
                if not self._stop.is_set():
                    log.warning("shard %d: trailing days, again: %s", self._shard, exc)
                self._stop.wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_RETRY_S)
            else:
                return

    def _load(self, command: Command, past: Past) -> None:
        writer = self._writer = FrameWriter(self._settings, self._shard, self._topics.history)
        if self._stop.is_set():  # it came before the writer could be closed
            return
        written = self._written(command.run, writer.open())
        if written.is_over or self._stop.is_set():
            return
        symbols = shards_of(command.symbols, self._shards)[self._shard]
        sessions = past.sessions if symbols else ()
        with (
            self._store() as store,
            closing(Replies(self._settings, self._shard, self._stop)) as replies,
        ):
            for session in sessions:
                if session.label in written.labels:
                    continue
                day = Day(session, symbols)
                _take_stored(day, store)
                self._ask(day, command.run, writer, replies)
                if self._stop.is_set():
                    return
                frames = frames_of(day, command, written.last, self._shard, self._shards)
                self._write(frames, self._refusals(day), writer, written)
        self._write([end_of(command, written.last, self._shard, self._shards)], (), writer, written)
        log.info("shard %d: run %s: its trailing days are out", self._shard, command.run)

    def _written(self, run: str, last: Delivered | None) -> _Written:
        """Look what is out of a run."""
        written = _Written(None if last is None else last.frame)
        if last is None or last.frame.run != run:
            return written
        written.is_over = last.frame.event == "end"
        if written.is_over:
            return written
        topic = self._topics.history
        with FrameReader(self._settings, shards=(self._shard,), topic=topic) as reader:
            reader.assign(reader.starts())
            reached = -1
            while reached < last.offset and not self._stop.is_set():
                for one in reader.poll():
                    reached = one.offset
                    if one.frame.run == run:
                        self._begin(written, one.offset)
                        written.labels.add(one.frame.session)
        return written

    @contextmanager
    def _store(self) -> Iterator[Store | None]:
        """Open what was recorded; None where there is nothing."""
        try:
            store = self._open_store(self._settings)
        except HistoryError as exc:
            log.info("trailing days without a store: %s", exc)
            yield None
            return
        with closing(store):
            yield store

    def _ask(self, day: Day, run: str, writer: FrameWriter, replies: Replies) -> None:
        """Ask for what lacks until it is there, every attempt was made, or we are stopped."""
        settings = self._settings
        for attempt in range(1, settings.gap_attempts + 1):
            if not day.lacking:
                return
            if attempt > 1 and self._stop.wait(settings.gap_backoff_s * 2 ** (attempt - 2)):
                return
            request = DataRequest(
                id=f"{run}/{day.session.label}/{self._shard}/history/{attempt}",
                run=run,
                kind="history",
                streams=("bars",),
                symbols=day.lacking,
                start_ns=day.session.open_ns,
                end_ns=day.session.close_ns,
                interval="1m",
                session=day.session.label,
                shard=self._shard,
                attempt=attempt,
                reason="not in the store" if attempt == 1 else "no answer that vouches for it",
            )
            replies.begin()
            writer.release((), [self._outgoing(request, self._topics.requests)])
            for record in replies.to(request):
                day.take(record)
                if not day.lacking:
                    return
            if self._stop.is_set():
                return
        log.warning("shard %d: session %s: %s", self._shard, day.session.label, day.reason)

    def _write(
        self,
        frames: Sequence[Frame],
        others: Sequence[Outgoing],
        writer: FrameWriter,
        written: _Written,
    ) -> None:
        """Write frames in one transaction; behind the first of a run, delete older runs'."""
        offset = writer.release(frames, others)[0]
        written.last = frames[-1]
        self._begin(written, offset)

    def _begin(self, written: _Written, offset: int) -> None:
        """Delete what older runs left before a run's first frame, but for what the sink lacks."""
        if written.is_begun:
            return
        written.is_begun = True
        topic, shard = self._topics.history, self._shard
        with FrameReader(self._settings, self._topics.sink, (shard,), topic) as sink:
            stored = sink.committed()[shard]
        offset = offset if stored is None else min(offset, stored)
        place = TopicPartition(topic, shard, offset)
        if offset <= 0:
            return
        with admin(self._settings) as client:
            done = client.delete_records([place])[place]
            try:
                done.result(ADMIN_TIMEOUT_S)
            except KafkaException as exc:  # readers skip what is of older runs
                log.warning("%s[%d] can't be cut: %s", place.topic, place.partition, exc)

    def _refusals(self, day: Day) -> list[Outgoing]:
        raw, found = self._topics.raw_history, []
        for reason, block in day.refused:
            log.warning(
                "%s[%d]: %d rows of %s: %s", raw, self._shard, len(block), block.request, reason
            )
            headers = {"reason": reason, "topic": raw, "partition": str(self._shard)}
            packed = tuple((name, text.encode()) for name, text in headers.items())
            value = self._codec.encode(block, self._topics.rejected)[:MESSAGE_BYTES]
            found.append(Outgoing(self._topics.rejected, raw.encode(), value, headers=packed))
        REJECTED.labels(self._topics.namespace, "upkeep", raw).inc(len(found))
        return found

    def _outgoing(self, request: DataRequest, topic: str) -> Outgoing:
        value = self._codec.encode(request, topic)
        return Outgoing(topic, request.symbols[0].encode(), value, self._shard)


def _take_stored(day: Day, store: Store | None) -> None:
    """Take what the store has of one session: one at a time, so that memory holds no more."""
    if store is None:
        return
    close_ns = day.session.close_ns
    try:
        recorded = store.sessions(day.symbols, sessions=1, before_ns=close_ns)
        if day.session.label in recorded["session"].to_pylist():
            bars = store.bars(day.symbols, "1m", sessions=1, before_ns=close_ns)
            day.store(bars, is_whole=is_whole(recorded, day.session))
    except HistoryError as exc:
        log.info("session %s out of no store: %s", day.session.label, exc)
