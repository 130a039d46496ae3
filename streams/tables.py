"""The session_data tables: a view of the tape, one row a symbol and one a shard.

Faust keeps them, folded in numpy and flushed in batches, never once a row. Each value carries the
row it is folded up to and takes only later ones; the position that is committed is the session's
open frame, so after any crash the running session is folded anew from its start.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from faust.streams import _current_event
from faust.types import TP

from schemas import Frame
from schemas.registry import codec_for
from streams.delivery import Delivered, FrameReader
from streams.errors import DecodeError, SessiontapeError
from streams.kafka import check_topics
from streams.metrics import FLUSH, ROWS, TAKEOVERS, Lag
from streams.refetch import Refetch
from streams.session import SessionState
from streams.settings import Settings, load
from streams.topics import Topics, shard_of
from streams.worker import UNASSIGNED, fail, make_app, run_app

__all__ = ["Tables"]

log = logging.getLogger(__name__)

FLUSH_SHARE = 0.05
"""Share of the time that flushes may take: a write to a Faust table costs about 160 µs."""

LONGEST_REST_S = 5.0
"""So long is the rest at most, for a flush may have done nothing but wait for a broker."""


@dataclass
class _View:
    """What is folded of one shard, and what of it is not flushed yet.

    ``told`` is the last frame that says where the shard stands; others tell of a session to come.
    """

    event: Any
    last: Frame
    offset: int = -1
    state: SessionState | None = None
    told: Frame | None = None
    received: int = 0
    no_trade: int = 0
    missing: int = 0
    changed: set[int] = field(default_factory=set)
    open_offset: int = -1
    is_dirty: bool = False


class Tables:
    """The Faust app of the tables.

    Parameters
    ----------
    settings
        Brokers, namespace and how often the tables are flushed.

    Raises
    ------
    TopicError
        The topics of the namespace are missing or differ in their partitions.
    """

    def __init__(self, settings: Settings) -> None:
        self.topics = Topics(settings.namespace)
        self._settings = settings
        shards = check_topics(settings, (self.topics.session,))
        check_topics(settings, {self.topics.changelog(t): shards for t in ("symbols", "shards")})
        self._codec = codec_for(settings.schema_registry_url)
        self._count = shards
        self._worker = settings.namespace, "tables"
        self._views: dict[int, _View] = {}
        self._flushing = asyncio.Lock()
        self.app = make_app(settings, self.topics.tables, topic_partitions=shards)
        self.symbols = self._table("symbols", shards)
        self.shards = self._table("shards", shards)
        self._was_asked = False
        self.app.on_partitions_assigned.connect(self._assigned, weak=False)
        self.app.on_partitions_revoked.connect(self._forget, weak=False)
        self.app.agent(self.app.topic(self.topics.session))(self._frames)
        self.app.task(self._flush_often)
        lag = Lag(settings.namespace, "tables", self.topics.session)
        Refetch(self.app, self.topics.session, self._next_offsets, lag)

    def run(self) -> None:
        """Run until SIGTERM or a fault."""
        run_app(self.app, self._settings, "tables", self._problem)

    def _table(self, name: str, shards: int) -> Any:
        raw = self.app.topic(
            self.topics.changelog(name),
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=shards,
            compacting=True,
            internal=True,
        )
        return self.app.Table(
            name, partitions=shards, key_type=bytes, value_type=bytes, changelog_topic=raw
        )

    def _next_offsets(self) -> dict[int, int | None]:
        places = [p for p in self.app.consumer.assignment() if p.topic == self.topics.session]
        views = {place.partition: self._views.get(place.partition) for place in places}
        return {s: None if view is None else view.offset + 1 for s, view in views.items()}

    def _problem(self) -> str:
        """Return in one sentence what the worker lacks; empty for nothing."""
        return "" if self._was_asked else UNASSIGNED

    async def _assigned(self, *_: Any, **__: Any) -> None:
        self._views = {}
        self._was_asked = True

    async def _forget(self, *_: Any, **__: Any) -> None:
        self._views = {}

    async def _frames(self, stream: Any) -> None:
        """Fold every frame; a fault ends the process, and its successor folds the session anew."""
        async for event in stream.noack().events():
            if event.message.generation_id != self.app.consumer_generation_id:
                continue  # of an assignment that is over
            try:
                await self._fold(event)
            except Exception as exc:  # noqa: BLE001 - it ends the process, whatever it is
                await fail(self.app, exc)
                return

    async def _fold(self, event: Any) -> None:
        message = event.message
        shard, offset = message.partition, message.offset
        place = {"topic": self.topics.session, "partition": shard, "offset": offset}
        frame = self._codec.decode(message.value, **place)
        if not isinstance(frame, Frame):
            reason = f"a {type(frame).__name__} is no frame"
            raise DecodeError(reason, **place)
        view = self._views.get(shard)
        if view is not None and frame.frame <= view.last.frame:
            return  # a repeat
        missed = await self._missed(shard, view, frame)
        if message.generation_id != self.app.consumer_generation_id:
            return
        for delivered in missed:
            await self._take(shard, delivered.frame, delivered.offset, event)
        await self._take(shard, frame, offset, event)

    async def _missed(self, shard: int, view: _View | None, frame: Frame) -> list[Delivered]:
        """Return the frames before this one that Faust did not hand on, or an earlier life had.

        An app with tables misses messages now and then at a rebalance; and what was folded of the
        running session before is folded anew.

        Raises
        ------
        HoleError
            They are deleted.
        """
        if view is None:
            start = frame.open_offset if frame.event not in ("start", "open") else -1
        else:
            start = view.offset + 1 if frame.frame > view.last.frame + 1 else -1
        if start < 0:
            return []
        return await asyncio.to_thread(self._read, shard, start, frame.frame)

    def _read(self, shard: int, offset: int, until: int) -> list[Delivered]:
        """Return the frames of a shard from an offset on, before the frame of a number."""
        found: list[Delivered] = []
        with FrameReader(self._settings, shards=(shard,)) as reader:
            reader.assign({shard: offset})
            while not found or found[-1].frame.frame < until - 1:
                found += reader.poll()
        return [delivered for delivered in found if delivered.frame.frame < until]

    async def _take(self, shard: int, frame: Frame, offset: int, event: Any) -> None:
        view = self._views.get(shard)
        if view is None:
            view = self._views[shard] = _View(event, frame)
            TAKEOVERS.labels(*self._worker, shard).inc()
            log.info("shard %d is folded from offset %d on", shard, offset)
        ROWS.labels(*self._worker, shard, self.topics.session).inc(frame.rows)
        view.event, view.last, view.offset, view.is_dirty = event, frame, offset, True
        if frame.waiting:
            return
        view.told = frame
        if frame.event == "open":
            view.state, view.changed, view.open_offset = SessionState(frame), set(), offset
            view.received, view.no_trade, view.missing = 0, 0, 0
        elif view.state is not None:
            names = view.state.symbols
            changed = np.flatnonzero(view.state.fold(frame)).tolist()
            if view.state.symbols is not names:
                view.changed.clear()  # numbers of symbols that have others now
            view.changed.update(changed)
            view.no_trade += int(frame.slice_no_trade.sum())
            view.received += int(frame.slice_received.sum())
            view.missing += int(frame.slice_missing.sum())
        if frame.event in ("open", "close") and view.state is not None:
            view.changed.update(range(len(view.state.symbols)))  # what is expected changed for all
        if frame.event == "open":
            # What was not flushed of the session before, the first flush of this one replaces.
            await self._commit(shard, view, offset)
        if frame.event == "end":
            await self._flush(shard, view)

    async def _flush_often(self) -> None:
        """Flush what changed again and again, but spend little of the time on it."""
        while not self.app.should_stop:
            started = time.monotonic()
            for shard, view in list(self._views.items()):
                if view.is_dirty:
                    await self._flush(shard, view)
            spent_s = time.monotonic() - started
            rest_s = min(spent_s * (1 / FLUSH_SHARE - 1), LONGEST_REST_S)
            await asyncio.sleep(max(self._settings.flush_interval_ms / 1000, rest_s))

    async def _flush(self, shard: int, view: _View) -> None:
        """Write what changed, wait until it is acknowledged, and commit the position."""
        async with self._flushing:
            began_s = time.monotonic()
            event, frame, offset = view.event, view.last, view.offset
            changed, view.changed, view.is_dirty = view.changed, set(), False
            # A table is written within an event: its changelog partition is the event's.
            token = _current_event.set(weakref.ref(event))
            try:
                if view.state is not None:
                    self._drop_others(shard, view.state)
                    self._write_symbols(view.state, frame, np.array(sorted(changed), np.int64))
                self._write_shard(shard, view, frame)
            finally:
                _current_event.reset(token)
            await self.app.producer.flush()
            FLUSH.labels(*self._worker).observe(time.monotonic() - began_s)
            # Behind the end of a run nothing is to be folded anew.
            done = offset + 1 if frame.event == "end" else view.open_offset
            if done >= 0:
                await self._commit(shard, view, done)

    async def _commit(self, shard: int, view: _View, offset: int) -> None:
        """Commit from where to fold anew, unless the shard is somebody else's by now."""
        if self._views.get(shard) is not view:
            return
        if not await self.app.consumer._commit({TP(self.topics.session, shard): offset}):
            view.is_dirty = True  # again soon: the tape may wait for this very commit

    def _drop_others(self, shard: int, state: SessionState) -> None:
        """Take out symbols of the shard that an earlier run had and this one has not."""
        held = {key.decode() for key in self.symbols} - set(state.symbols)
        for symbol in held:
            if shard_of(symbol, self._count) == shard:
                self.symbols.pop(symbol.encode())

    def _write_symbols(self, state: SessionState, frame: Frame, which: Any) -> None:
        head = {
            "run": state.run,
            "session": state.label,
            "frame": frame.frame,
            "row": frame.first_row + frame.rows - 1,
        }
        for value in state.values(which):
            self._write(self.symbols, value["symbol"].encode(), value | head)

    def _write_shard(self, shard: int, view: _View, last: Frame) -> None:
        frame = view.told
        if frame is None:
            return
        value = {
            "run": frame.run,
            "session": frame.session,
            "shard": shard,
            "mode": frame.mode,
            "state": frame.state,
            "speed": frame.speed,
            "event": frame.event,
            "clock_ns": frame.clock_ns,
            "open_ns": frame.open_ns,
            "close_ns": frame.close_ns,
            "incomplete": frame.incomplete,
            "reason": frame.reason,
            "received": view.received,
            "no_trade": view.no_trade,
            "missing": view.missing,
            "frame": last.frame,
            "row": last.first_row + last.rows - 1,
        }
        self._write(self.shards, str(shard).encode(), value)

    def _write(self, table: Any, key: bytes, value: dict[str, Any]) -> None:
        """Write a value unless the table holds one that is folded as far or further."""
        held = table.get(key)
        if held is None or json.loads(held)["frame"] < value["frame"]:
            table[key] = json.dumps(value, separators=(",", ":")).encode()


def main() -> None:
    """Run the tables with the settings of the environment."""
    try:
        Tables(load()).run()
    except SessiontapeError as exc:
        sys.exit(f"sessiontape tables: {exc}")


if __name__ == "__main__":
    main()
