"""Who owns a shard: takes it over, feeds its state machine, writes its releases."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from schemas import Codec, Command, Frame
from schemas.records import Record
from schemas.registry import codec_for
from streams.arrival import Rejection
from streams.counted import ReleaseCounts
from streams.errors import DecodeError, HoleError
from streams.joiner import Patience
from streams.kafka import first_offset
from streams.positions import Delivered, FrameReader, FrameWriter, Outgoing
from streams.settings import Settings
from streams.shard import Release, Shard
from streams.topics import MESSAGE_BYTES, Topics

__all__ = ["Owner"]

log = logging.getLogger(__name__)
T = TypeVar("T")
ReadersAt = Callable[[Sequence[str], int], int]
IsAtEnd = Callable[[int], bool]

SECOND_NS = 1_000_000_000
LONGEST_WAIT_S = 1.0
GATE_WAIT_S = 0.02
BACKLOG_WAIT_S = 0.01
"""Rest of a live run between two looks whether the raw topics are read to their end."""
ACK_WAITS_S = (0.001, 0.02)
"""Rest between two looks at who is in lock-step: the first, then twice as long, to the last."""
HOUSEKEEPING_S = 1.0


class Owner:
    """Owns one shard from an assignment to its end.

    Parameters
    ----------
    settings
        Brokers and namespace.
    shard, shards
        Number of the shard, and how many there are.
    readers_at
        Returns the least offset that some groups have committed on a shard; it may block.
    is_at_end
        Tells of a shard whether all that its raw topics hold was handed on.
    tidy
        Called about once a second with the shard, the first offset of each raw topic and the first
        of the session topic that are still needed.
    """

    def __init__(
        self,
        settings: Settings,
        shard: int,
        shards: int,
        *,
        readers_at: ReadersAt,
        is_at_end: IsAtEnd,
        tidy: Callable[[int, Mapping[str, int], int], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._topics = Topics(settings.namespace)
        self._codec: Codec = codec_for(settings.schema_registry_url)
        self._streams = self._topics.streams
        topics = {stream: topic for topic, stream in self._streams.items()}
        timeout_ns = int(settings.gap_timeout_s * SECOND_NS)
        patience = Patience(settings.gap_attempts, timeout_ns)
        self._shard = Shard(shard, shards, topics, patience=patience)
        self._number = shard
        self._counts = ReleaseCounts(self._topics, shard)
        self._readers_at = readers_at
        self._is_at_end = is_at_end
        self._tidy = tidy
        self._writer: FrameWriter | None = None
        self._command: Command | None = None
        self._passed = -1
        self._is_held = False
        self._written, self._taken_at = -1, -1
        self._written_s, self._ack_wait_s = 0.0, ACK_WAITS_S[0]
        self._asking: asyncio.Task[None] | None = None
        self._is_closed = False
        self._tidied = 0.0
        self._keep: Mapping[str, int] = {}
        self._wake = asyncio.Event()
        self._recovered = asyncio.Event()
        # One thread a shard: the calls of a transactional producer block, and must not overlap.
        self._thread = ThreadPoolExecutor(1, f"shard-{shard}")

    async def run(self) -> None:
        """Take the shard over and release what falls due, until cancelled.

        Raises
        ------
        FencedError
            Another worker owns the shard now.
        BrokerError
            The brokers refuse us for good.
        """
        self._counts.taken_over(await self._off_loop(self._take_over))
        self._recovered.set()
        log.info("shard %d is ours", self._number)
        while True:
            self._wake.clear()
            may_open, may_go = await self._may_open(), await self._may_go()
            is_at_end = self._is_at_end(self._number)
            release = await self._off_loop(partial(self._step, may_open, may_go, is_at_end))
            if release is not None:
                self._look_ahead()
            await self._tidy_up(release)
            if release is None:
                await self._wait(may_open, may_go, is_at_end)

    async def take(self, topic: str, offset: int, value: bytes | None) -> None:
        """Take a message of a raw topic; it waits until the shard is taken over.

        Raises
        ------
        HoleError
            Messages between the last one and this were not handed to us.
        """
        await self._recovered.wait()
        if self._is_closed:
            return
        expected = self.next_offset(topic)
        if expected is not None and offset > expected:
            # Marks of transactions take offsets too: only what can be read there was lost.
            lost = partial(first_offset, self._settings, topic, self._number, expected, offset)
            got = await asyncio.to_thread(lost)
            if got is not None:
                raise HoleError(
                    "offset", topic=topic, partition=self._number, expected=got, got=offset
                )
        record: Record | Rejection
        try:
            record = self._codec.decode(value, topic=topic, partition=self._number, offset=offset)
        except DecodeError as exc:
            record = Rejection(offset, exc.reason, value or b"")
        self._shard.take(offset, record, time.time_ns(), self._streams[topic])
        self._wake.set()

    def command(self, command: Command) -> None:
        """Take a command of the namespace."""
        self._command = command
        self._shard.command(command)
        self._wake.set()

    @property
    def is_taking(self) -> bool:
        """Whether the shard is taken over, so that it is known what comes next."""
        return self._recovered.is_set() and not self._is_closed

    @property
    def is_ours(self) -> bool:
        """Whether the shard is taken over."""
        return self.is_taking

    def next_offset(self, topic: str) -> int | None:
        """Return the offset of a raw topic that is to come next; None before any is known."""
        return self._shard.inboxes[self._streams[topic]].next_offset

    def backlog(self, topic: str) -> int:
        """Return how many messages wait to be looked at, as they do while no run is on."""
        return len(self._shard.inboxes[self._streams[topic]])

    @property
    def is_idle(self) -> bool:
        """Whether no run is on."""
        return self._shard.is_idle

    def close(self) -> None:
        """Let go of the shard; what is not committed, the next owner does again."""
        self._is_closed = True
        self._counts.forget()
        self._recovered.set()  # whoever waits for it need not wait any longer
        if self._writer is not None:
            self._writer.close()
        self._thread.shutdown(wait=False)

    def _step(self, may_open: bool, may_go: bool, is_at_end: bool) -> Release | None:
        """Write what is due and return it: one call, for each costs a change of threads."""
        release = self._shard.advance(
            time.time_ns(), may_open=may_open, may_go=may_go, is_at_end=is_at_end
        )
        self._counts.stands(self._shard.stand)
        if release is not None:
            self._write(release)
        return release

    async def _off_loop(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _take_over(self) -> Frame | None:
        """Go on from the last frame of the shard; return it, None where there is none."""
        self._writer = FrameWriter(self._settings, self._number)
        last = self._writer.open()
        if last is None:
            return None
        self._written, self._written_s = last.offset, time.monotonic()
        frame = last.frame
        if frame.event == "open":
            frame = replace(frame, open_offset=last.offset)
        opens = [frame.open_offset] if frame.open_offset >= 0 else []
        is_open = frame.event in ("open", "rows") and not frame.waiting
        since = self._frames_since(frame.open_offset, last) if is_open else ()
        self._shard.recover(frame, since, opens)
        return frame

    def _frames_since(self, offset: int, last: Delivered) -> tuple[Frame, ...]:
        """Return the frames of a session that say more than where the clock stood."""
        found: list[Frame] = []
        number = -1
        with FrameReader(self._settings, shards=(self._number,)) as reader:
            reader.assign({self._number: offset})
            while number < last.frame.frame:
                for delivered in reader.poll():
                    frame, number = delivered.frame, delivered.frame.frame
                    if not found or frame.rows or frame.minutes is not None:
                        found.append(frame)
        if number > found[-1].frame:
            found.append(last.frame)
        return tuple(found)

    def _write(self, release: Release) -> None:
        if self._writer is None:
            msg = "the shard was not taken over"
            raise RuntimeError(msg)
        began_s = time.monotonic()
        offsets = self._writer.release(release.frames, self._others(release))
        self._counts.released(release, began_s, time.monotonic())
        if offsets:
            self._written, self._written_s = offsets[-1], time.monotonic()
        for frame, offset in zip(release.frames, offsets, strict=True):
            if frame.event == "open":
                self._shard.opened(offset)
            if frame.event != "rows":
                what = " ".join(filter(None, (frame.event, frame.session, frame.reason)))
                log.info("shard %d: run %s: %s", self._number, frame.run, what)
        for warning in release.warnings:
            log.warning("shard %d: %s", self._number, warning)

    def _others(self, release: Release) -> list[Outgoing]:
        topics, codec = self._topics, self._codec
        requests = [
            Outgoing(
                topics.requests,
                request.symbols[0].encode(),
                codec.encode(request, topics.requests),
                request.shard,
            )
            for request in release.requests
        ]
        return requests + [self._refusal(rejection) for rejection in release.rejections]

    def _refusal(self, rejection: Rejection) -> Outgoing:
        raw, what = rejection.topic, rejection.what
        log.warning("%s[%d]@%d: %s", raw, self._number, rejection.offset, rejection.reason)
        headers = {
            "reason": rejection.reason,
            "topic": raw,
            "partition": str(self._number),
            "offset": str(rejection.offset),
        }
        value = what if isinstance(what, bytes) else self._codec.encode(what, self._topics.rejected)
        if len(value) > MESSAGE_BYTES:  # with the headers it might be more than a message may hold
            headers["bytes"] = str(len(value))
            value = value[:MESSAGE_BYTES]
        return Outgoing(
            self._topics.rejected,
            raw.encode(),
            value,
            headers=tuple((name, text.encode()) for name, text in headers.items()),
        )

    def _look_ahead(self) -> None:
        """Ask where the readers are while a session plays, so that none has to wait for it."""
        is_asked = self._asking is not None and not self._asking.done()
        if self._shard.readers_needed_at > max(self._passed, 0) and not is_asked:
            self._asking = asyncio.get_running_loop().create_task(self._ask_readers())

    async def _ask_readers(self) -> None:
        command = self._command
        if command is not None and command.readers:
            # Not in the shard's thread, which has the tape to write.
            ask = partial(self._readers_at, command.readers, self._number)
            self._passed = max(self._passed, await asyncio.to_thread(ask))

    async def _may_open(self) -> bool:
        """Tell whether the readers are far enough for the next session to open.

        While one plays, that is what is known of them; between two it is asked for.
        """
        command = self._command
        needed = self._shard.readers_needed_at
        if command is None or not command.readers or needed <= max(self._passed, 0):
            return True
        if not self._shard.is_waiting:
            return False
        self._look_ahead()
        if self._asking is not None:
            await self._asking
        if self._passed < needed and not self._is_held:
            readers = ", ".join(command.readers)
            log.info("shard %d waits for its readers (%s)", self._number, readers)
        self._is_held = self._passed < needed
        return not self._is_held

    async def _may_go(self) -> bool:
        """Tell whether all that are in lock-step have committed behind what is out.

        One that is silent for too long is left out from then on.
        """
        command, tape = self._command, self._shard.tape
        if command is None or not command.lockstep or self._written <= self._taken_at:
            return True
        silent = [group for group in command.lockstep if group not in tape.left_out]
        for group in tuple(silent):
            offset = await asyncio.to_thread(self._readers_at, (group,), self._number)
            if offset > self._written:
                silent.remove(group)
        if silent and time.monotonic() - self._written_s < command.lockstep_timeout_s:
            return False
        for group in silent:
            log.warning(
                "shard %d: %s has not taken offset %d in %s s: it is left out of lock-step",
                *(self._number, group, self._written, command.lockstep_timeout_s),
            )
        tape.left_out += tuple(silent)
        self._taken_at, self._ack_wait_s = self._written, ACK_WAITS_S[0]
        return True

    async def _tidy_up(self, release: Release | None) -> None:
        if release is not None:
            self._keep = release.keep
        if self._keep and time.monotonic() - self._tidied >= HOUSEKEEPING_S:
            keep, self._keep = self._keep, {}
            self._tidied = time.monotonic()
            await self._tidy(self._number, keep, self._shard.delete_before)

    async def _wait(self, may_open: bool, may_go: bool, is_at_end: bool) -> None:
        due_ns = self._shard.due_ns()
        wait_s = LONGEST_WAIT_S
        if due_ns is not None:
            wait_s = min(max((due_ns - time.time_ns()) / SECOND_NS, 0.0), LONGEST_WAIT_S)
        if not is_at_end:
            wait_s = max(wait_s, BACKLOG_WAIT_S)
        if not may_open and self._shard.is_waiting:
            wait_s = GATE_WAIT_S
        if not may_go:
            wait_s = self._ack_wait_s
            self._ack_wait_s = min(2 * wait_s, ACK_WAITS_S[1])
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            pass
