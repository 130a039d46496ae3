"""Who keeps a shard complete: reads its tape, asks for what is missing, writes derived bars.

Everything that goes out, derived frames, requests and their copies on the raw topic, goes out in
one transaction under ``<ns>.upkeep.<shard>``, so that a shard has one keeper. Derived frames carry
the position in the session topic; what was asked for is read back from the requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from schemas import Codec, Command, Coverage, DataRequest, Frame
from schemas.registry import codec_for
from streams.control import latest_command
from streams.counted import KeptCounts
from streams.delivery import Delivered, FrameReader
from streams.deriver import Deriver
from streams.errors import DecodeError
from streams.gaps import Due, Gaps, Limits
from streams.intervals import SECOND_NS
from streams.plan import Plan, plan_of
from streams.positions import Outgoing, Transactions
from streams.requested import requests_of
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["Keeper"]

log = logging.getLogger(__name__)
T = TypeVar("T")

HELD_FRAMES = 16
"""Frames that wait to be looked at, at most: 900 kB each."""
BATCH_ROWS = 262_144
BATCH_S = 0.25
"""At full speed derived frames go out together: when so many rows came, or after so long."""
LONGEST_WAIT_S = 1.0
HOUSEKEEPING_S = 0.25
CUT_S = 1.0


class Keeper:
    """Keeps one shard from an assignment to its end.

    Parameters
    ----------
    settings
        Brokers, namespace, how gaps are asked for, lengths of derived bars.
    shard, shards
        Number of the shard, and how many there are.
    tidy
        Called now and then with the shard, the first offset of the session topic that is still
        needed, and by topic of derived bars the offset before which nothing is.
    begun
        Called with the command of a run when its first frame came, or when a run that is under
        way was taken over.
    """

    def __init__(
        self,
        settings: Settings,
        shard: int,
        shards: int,
        *,
        tidy: Callable[[int, int, dict[str, int]], Awaitable[None]],
        begun: Callable[[int, Command], None] = lambda _, __: None,
    ) -> None:
        self._settings = settings
        self._topics = Topics(settings.namespace)
        self._codec: Codec = codec_for(settings.schema_registry_url)
        self._number, self._shards = shard, shards
        self._counts = KeptCounts(self._topics, shard)
        self._tidy = tidy
        self._begun = begun
        self._writer = Transactions(settings, shard, f"{self._topics.upkeep}.{shard}")
        self._deriver = Deriver(shard, shards, settings.derived, self._topics.session)
        limits = Limits(
            settings.gap_attempts,
            int(settings.gap_backoff_s * SECOND_NS),
            int(settings.gap_timeout_s * SECOND_NS),
            settings.gap_requests,
            int(settings.live_gap_backoff_s * SECOND_NS),
        )
        self._gaps = Gaps(shard, limits)
        self._plan: Plan | None = None
        self._queue: deque[tuple[int, bytes | None]] = deque()
        self._next_offset: int | None = None
        self._room = asyncio.Event()
        self._wake = asyncio.Event()
        self._last: tuple[int, int] | None = None  # number and offset of the last frame
        self._since_ns = 0
        self._rows = 0
        self._is_urgent = False
        self._open_offset = -1
        self._loaded: dict[str, int] = {}
        self._opens: dict[str, deque[int]] = {name: deque() for name in settings.derived}
        self._kept = 1
        self._keep = -1
        self._tidied = 0.0
        self._cut: dict[str, int] = {}
        self._cut_s = 0.0
        self._is_ours, self._is_closed = False, False
        self._over = ""
        self._resume_at: int | None = None
        self._caught_up_at = -1
        self._thread = ThreadPoolExecutor(1, f"keeper-{shard}")

    async def run(self) -> None:
        """Take the shard over and keep it, until cancelled.

        Raises
        ------
        FencedError
            Another worker keeps the shard now.
        HoleError
            Frames are missing.
        BrokerError
            The brokers refuse us for good.
        """
        await self._off_loop(self._take_over)
        self._is_ours = True
        self._counts.taken_over()
        log.info("shard %d is ours", self._number)
        while True:
            self._wake.clear()
            is_busy = await self._off_loop(self._advance)
            if len(self._queue) < HELD_FRAMES:
                self._room.set()
            await self._tidy_up()
            if not is_busy:
                await self._wait()

    async def take(self, topic: str, offset: int, value: bytes | None) -> None:
        """Take a message of the session topic; it waits while too many are held."""
        while len(self._queue) >= HELD_FRAMES and not self._is_closed:
            self._room.clear()
            await self._room.wait()
        self._queue.append((offset, value))
        self._next_offset = max(offset + 1, self._next_offset or 0)
        self._wake.set()

    @property
    def is_taking(self) -> bool:
        """Whether it takes messages: it holds them until the shard is taken over."""
        return not self._is_closed

    @property
    def is_ours(self) -> bool:
        """Whether the shard is taken over."""
        return self._is_ours

    def next_offset(self, topic: str) -> int | None:
        """Return the offset behind the last message of the tape that came; None where none did."""
        return self._next_offset

    def command(self, command: Command) -> None:
        """Take a command of the namespace; the plan follows when a frame of its run comes."""
        self._wake.set()

    def close(self) -> None:
        """Let go of the shard; what is not committed, the next keeper does again."""
        self._is_closed = True
        self._counts.forget()
        self._room.set()
        self._writer.close()
        self._thread.shutdown(wait=False)

    async def _off_loop(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # Taking over.

    def _take_over(self) -> None:
        self._writer.begin()
        last: dict[str, Frame | None] = {}
        for name in self._settings.derived:
            topic = self._topics.derived(name)
            with FrameReader(self._settings, shards=(self._number,), topic=topic) as reader:
                found = reader.last()[self._number]
            last[name] = None if found is None else _with_own_offset(found)
        self._deriver.resume(last)
        self._resume_at = self._deriver.first_offset(last)
        with FrameReader(self._settings, shards=(self._number,)) as reader:
            there = reader.last()[self._number]
        self._caught_up_at = -1 if there is None else there.offset
        command = latest_command(self._settings)
        if command is not None:
            self._gaps.recall(requests_of(self._settings, self._number, command))
            self._begun(self._number, command)

    # What comes in and goes out.

    def _advance(self) -> bool:
        """Look at what came and write what is due; tell whether there may be more at once."""
        fed = 0
        while self._queue and self._rows < BATCH_ROWS:
            self._feed(*self._queue.popleft())
            fed += 1
        now_ns = time.time_ns()
        due = self._gaps.due(now_ns) if self._is_caught_up else Due((), ())
        messages = [
            self._copy(request, topic)
            for request in due.requests
            for topic in (self._topics.requests, self._topics.raw_bars)
        ]
        messages += [self._copy(answer, self._topics.raw_bars) for answer in due.given_up]
        self._counts.asked(due.requests, due.given_up)
        for request in due.requests:
            log.info("asked id=%s attempt=%d: %s", request.id, request.attempt, request.reason)
        for answer in due.given_up:
            log.warning("gave up id=%s symbols=%d", answer.request, len(answer.symbols))
        is_full = self._rows >= BATCH_ROWS or now_ns - self._since_ns >= BATCH_S * SECOND_NS
        if self._since_ns and (self._is_urgent or is_full):
            self._write_derived(messages)
        elif messages:
            self._writer.write(messages)
        return fed > 0

    @property
    def _is_caught_up(self) -> bool:
        """Whether all of the tape was looked at: an answer may stand there that we wait for."""
        return not self._queue and (self._last is None or self._last[1] >= self._caught_up_at)

    def _write_derived(self, others: list[Outgoing]) -> None:
        """Write the derived frames that are due, and other messages with the first of them."""
        while True:
            began_s = time.monotonic()
            released = [
                (name, frame)
                for name, frames in self._deriver.release().items()
                for frame in frames
            ]
            messages = [
                Outgoing(
                    self._topics.derived(name),
                    str(self._number).encode(),
                    self._codec.encode(frame, self._topics.derived(name)),
                    self._number,
                )
                for name, frame in released
            ]
            if messages or others:
                offsets = self._writer.write([*messages, *others])
                rows = [(self._topics.derived(name), frame.rows) for name, frame in released]
                self._counts.derived(rows, time.monotonic() - began_s)
                for (name, frame), offset in zip(released, offsets, strict=False):
                    if frame.event == "open":
                        self._deriver.opened(name, offset)
                        self._opens[name].append(offset)
            others = []
            if not self._deriver.is_due:
                break
        self._rows, self._since_ns, self._is_urgent = 0, 0, False

    def _copy(self, record: Coverage | DataRequest, topic: str) -> Outgoing:
        key = record.symbols[0].encode()
        return Outgoing(topic, key, self._codec.encode(record, topic), self._number)

    def _feed(self, offset: int, value: bytes | None) -> None:
        topic, shard = self._topics.session, self._number
        frame = self._codec.decode(value, topic=topic, partition=shard, offset=offset)
        if not isinstance(frame, Frame):
            reason = f"a {type(frame).__name__} is no frame"
            raise DecodeError(reason, topic=topic, partition=shard, offset=offset)
        if self._last is None:
            first = self._resume_at
            if first is not None and first < offset:
                self._read(first, frame.frame)
        elif frame.frame > self._last[0] + 1:
            self._read(self._last[1] + 1, frame.frame)
        self._take(frame, offset)

    def _read(self, offset: int, until: int) -> None:
        """Take frames that Faust did not hand on: from an offset, to before that of a number."""
        with FrameReader(self._settings, shards=(self._number,)) as reader:
            reader.assign({self._number: offset})
            while self._last is None or self._last[0] < until - 1:
                for one in reader.poll():
                    if one.frame.frame < until:
                        self._take(one.frame, one.offset)
                    else:
                        return

    def _take(self, frame: Frame, offset: int) -> None:
        if self._last is not None and frame.frame <= self._last[0]:
            return  # a repeat
        self._last = (frame.frame, offset)
        self._deriver.take(frame, offset)
        self._rows += frame.rows
        self._counts.taken(frame)
        self._since_ns = self._since_ns or time.time_ns()
        # Only at full speed is there so much that it pays to wait for more.
        self._is_urgent |= frame.speed > 0 or frame.event in ("start", "roll", "end")
        self._place(frame, offset)
        plan = self._plan_of(frame)
        if plan is None:
            return
        self._kept = 1 + max(plan.command.trailing_sessions, 1)
        if frame.event == "start":
            self._begun(self._number, plan.command)
        if plan.command.upkeep:
            if frame.event == "close":  # behind it nothing is known of the session any more
                self._counts.minutes(frame, self._gaps)
            self._gaps.take(plan, frame, time.time_ns())
            if frame.event != "close":
                self._counts.minutes(frame, self._gaps)
        if frame.event == "end":
            self._plan = None

    def _place(self, frame: Frame, offset: int) -> None:
        """Find out from where on the tape is to be read again after a crash."""
        if frame.event == "start":
            self._open_offset, self._loaded = offset, {}
        elif frame.event == "open":
            self._open_offset = offset
            self._loaded.pop(frame.session, None)
        elif frame.event == "end":
            self._open_offset, self._loaded = offset + 1, {}
        minutes = frame.minutes
        if minutes is not None and (frame.waiting or minutes.session != frame.session):
            self._loaded.setdefault(minutes.session, offset)
        self._keep = min([self._open_offset, *self._loaded.values()])

    def _plan_of(self, frame: Frame) -> Plan | None:
        """Return the plan of a frame's run, None for a run that is over."""
        plan = self._plan
        if plan is None or plan.command.run != frame.run:
            if frame.run == self._over:
                return None
            command = latest_command(self._settings)
            if command is None or command.run != frame.run:
                # Commands come before the frames they lead to: another has taken its place.
                self._over = frame.run
                return None
            plan = self._plan = plan_of(command, self._number, self._shards)
        return plan

    async def _tidy_up(self) -> None:
        if self._keep < 0 or self._since_ns:
            return  # what is not written yet would be lost with us
        is_over = self._plan is None
        if is_over or time.monotonic() - self._tidied >= HOUSEKEEPING_S:
            keep, self._keep = self._keep, -1
            self._tidied = time.monotonic()
            await self._tidy(self._number, keep, self._delete_before())

    def _delete_before(self) -> dict[str, int]:
        """Return by topic the offset before which no derived bars are kept, as the tape has it."""
        found: dict[str, int] = {}
        if self._plan is None:
            return found
        for name, opens in self._opens.items():
            while len(opens) > self._kept:
                opens.popleft()
            if len(opens) == self._kept:
                found[self._topics.derived(name)] = opens[0]
        if found == self._cut or time.monotonic() - self._cut_s < CUT_S:
            return {}
        self._cut, self._cut_s = found, time.monotonic()
        return found

    async def _wait(self) -> None:
        due_ns = self._gaps.due_ns() if self._is_caught_up else None
        now_ns = time.time_ns()
        wait_s = LONGEST_WAIT_S
        if due_ns is not None:
            wait_s = min(max((due_ns - now_ns) / SECOND_NS, 0.001), wait_s)
        if self._since_ns:
            wait_s = min(max(BATCH_S - (now_ns - self._since_ns) / SECOND_NS, 0.001), wait_s)
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            pass


def _with_own_offset(found: Delivered) -> Frame:
    """Return a frame that says where its session's open frame stands, also if it is that."""
    frame = found.frame
    return replace(frame, open_offset=found.offset) if frame.event == "open" else frame
