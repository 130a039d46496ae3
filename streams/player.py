"""Who writes a run that is told again: the frames of one tape in, those of another out.

It takes the place of the coordinators and holds their transactional ids, so that nobody else writes
the tape meanwhile. What it plays is what the other tape held when it began, which is no more than
that one may hold: nothing of the run is deleted while it plays, and its readers lose nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

from confluent_kafka import TopicPartition

from schemas import Command, Frame
from streams.control import ControlReader
from streams.delivery import FrameReader
from streams.errors import BrokerError, CommandError, HoleError, SessiontapeError
from streams.kafka import admin, report_uncut
from streams.kept import KeptRun
from streams.plan import Plan, plan_of
from streams.positions import FrameWriter
from streams.release import RELEASE_ROWS
from streams.rerun import Rerun, is_due, start_before
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["Lane", "Player"]

log = logging.getLogger(__name__)

WAIT_S = 0.005
"""Rest where nothing is due: a slice goes out this late at most."""
READERS_S = 0.02
RELEASE_FRAMES = 64
"""Frames of one transaction, at most; and frames that wait for theirs, about."""
END_S = 5.0
DELETE_S = 15.0
PassedAt = Callable[[int, Sequence[str]], int]


class Player:
    """Plays a kept run onto the tape of another namespace, in a thread of its own.

    Parameters
    ----------
    origin, settings
        Settings of the namespace whose tape holds the run, and of the one that it is played onto.
    kept
        The run.
    """

    def __init__(self, origin: Settings, settings: Settings, kept: KeptRun) -> None:
        self._origin, self._settings, self._kept = origin, settings, kept
        self._run = ""
        self._command: Command | None = None
        self._error: Exception | None = None
        self._stopped = threading.Event()
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._lanes: list[Lane] = []
        self._control = ControlReader(settings, self._hear, self._fail)
        self._thread = threading.Thread(target=self._work, name="player", daemon=True)

    def begin(self, command: Command) -> Command:
        """Return the command of the run, its clock at the first open now; it plays once it's sent.

        The command comes before the frames it leads to, as everywhere.
        """
        self._run = command.run
        self._control.start()
        self._thread.start()
        return replace(command, anchor_wall_ns=time.time_ns())

    def check(self) -> None:
        """Raise what ended it."""
        if self._error is not None:
            raise self._error

    def tidy(self) -> None:
        """Delete what the tape held before this run; to be called when all have read the run."""
        topic = Topics(self._settings.namespace).session
        places = [TopicPartition(topic, lane.shard, lane.began_at) for lane in self._lanes]
        places = [place for place in places if place.offset > 0]
        with admin(self._settings) as client:
            for place, done in (client.delete_records(places) if places else {}).items():
                done.add_done_callback(partial(report_uncut, place))
                with suppress(TimeoutError):  # the next run deletes it
                    done.exception(DELETE_S)

    def close(self) -> None:
        """Stop; a run that is not at its end is ended here."""
        self._stopped.set()
        self._closing.set()
        self._wake.set()
        if not self._run:
            return
        self._thread.join(END_S)
        for lane in self._lanes:  # the brokers are away: not for ever
            lane.writer.close()
        self._thread.join()
        self._control.stop()

    def _hear(self, command: Command) -> None:
        if command.run == self._run:
            self._command = command
        elif self._command is not None:
            msg = (
                f"run {command.run} took the place of {self._run}: a run that is played as known "
                "can't be sought; play it again"
            )
            self._fail(CommandError(msg))
        self._wake.set()

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._stopped.set()
        self._wake.set()

    def _work(self) -> None:
        try:
            with ExitStack() as held:
                self._play(held)
        except HoleError as exc:
            msg = (
                f"the tape of {self._origin.namespace} was cut before it was played ({exc}): play "
                "it faster, or when its run is over"
            )
            self._fail(SessiontapeError(msg))
        except Exception as exc:  # noqa: BLE001 - a thread has nobody else to tell
            self._fail(exc)

    def _play(self, held: ExitStack) -> None:
        passed = _Passed(self._settings, self._kept.shards, held)
        for shard in self._kept.begins:
            reader = held.enter_context(FrameReader(self._origin, shards=(shard,)))
            writer = FrameWriter(self._settings, shard)
            lane = Lane(self._kept, shard, reader, writer, passed.at)
            self._lanes.append(lane)
            lane.take_over(self._run, Topics(self._settings.namespace).raw)
        lanes = list(self._lanes)
        while lanes and not self._stopped.is_set():
            command, wall_ns = self._command, time.time_ns()
            moved = command is not None and [lane.step(command, wall_ns) for lane in lanes]
            lanes = [lane for lane in lanes if not lane.is_over]
            if not moved or not any(moved):
                self._wake.wait(WAIT_S)
                self._wake.clear()
        command = self._command
        if lanes and command is not None:
            self._closing.wait()  # who reads the run is to hear first what is wrong with it
            for lane in lanes:
                lane.end(command, "stopped")


class _Passed:
    """Up to where all of some groups have committed, asked for now and then."""

    def __init__(self, settings: Settings, shards: int, held: ExitStack) -> None:
        self._settings, self._shards, self._held = settings, shards, held
        self._readers: dict[str, FrameReader] = {}
        self._known: dict[int, int] = {}
        self._asked_s = 0.0

    def at(self, shard: int, groups: Sequence[str]) -> int:
        """Return the least offset of the tape that the groups have committed on a shard."""
        if time.monotonic() - self._asked_s >= READERS_S:
            self._known = self._ask(groups)
            self._asked_s = time.monotonic()
        return self._known.get(shard, -1)

    def _ask(self, groups: Sequence[str]) -> dict[int, int]:
        for group in groups:
            if group not in self._readers:
                reader = FrameReader(self._settings, group, range(self._shards))
                self._readers[group] = self._held.enter_context(reader)
        try:
            found = [self._readers[group].committed() for group in groups]
        except BrokerError as exc:
            log.warning("the readers' positions: %s", exc)
            return {}
        return {shard: min(one[shard] or -1 for one in found) for shard in range(self._shards)}


class Lane:
    """One shard of a run: reads what is kept of it, and writes what is due.

    Parameters
    ----------
    kept
        The run.
    shard
        Number of the shard.
    reader, writer
        Read the shard of the one tape, and write that of the other.
    passed_at
        Returns the least offset of the tape that is written which some groups have committed.

    Attributes
    ----------
    is_over
        Whether the run has ended on this shard.
    began_at
        Offset of its first frame on the tape that is written; -1 before it.
    """

    def __init__(
        self,
        kept: KeptRun,
        shard: int,
        reader: FrameReader,
        writer: FrameWriter,
        passed_at: PassedAt,
    ) -> None:
        self.shard = shard
        self.writer = writer
        self.is_over = False
        self.began_at = -1
        self._kept, self._reader, self._passed_at = kept, reader, passed_at
        self._pending: deque[Frame] = deque()
        self._is_read = False
        self._plan: Plan | None = None
        self._passed = -1

    def take_over(self, run: str, raw: Sequence[str]) -> None:
        """Take the shard from whoever wrote it."""
        last = self.writer.open()
        frame = None if last is None else last.frame
        self._rerun = Rerun(self.shard, self._kept.shards, run, frame, raw)
        self._reader.assign({self.shard: self._kept.begins[self.shard]})

    def step(self, command: Command, wall_ns: int) -> bool:
        """Read some of the run and write what is due; tell whether anything moved."""
        plan = self._plan
        if plan is None or plan.command is not command:
            plan = self._plan = plan_of(command, self.shard, self._kept.shards)
        came = self._read()
        if self.began_at >= 0 and command.stopped:
            self.end(command, "stopped by command")
            return True
        if not self._pending and self._is_read:
            self.end(command, "its tape held no more of it")
            return True
        frames = self._due(plan, wall_ns)
        if not frames and (news := self._rerun.news(plan)) is not None:
            frames = [news]
        self._write(frames)
        return came or bool(frames)

    def end(self, command: Command, reason: str) -> None:
        """End the run where it has not ended by itself."""
        frame = None if self.is_over else self._rerun.end(command, reason)
        if frame is not None:
            self._write([frame])

    def _read(self) -> bool:
        if self._is_read or len(self._pending) >= RELEASE_FRAMES:
            return False
        came = self._reader.poll(0.0)
        for one in came:
            is_first = self.began_at < 0 and not self._pending
            if is_first and one.frame.event != "start":
                self._pending.append(start_before(one.frame))
            self._pending.append(one.frame)
            if one.offset >= self._kept.ends[self.shard]:
                self._is_read = True
                break
        return bool(came)

    def _due(self, plan: Plan, wall_ns: int) -> list[Frame]:
        """Return the frames that go out now, as this tape has them; an open is the last of them."""
        told: list[Frame] = []
        rows, pending = 0, self._pending
        while pending and rows < RELEASE_ROWS and len(told) < RELEASE_FRAMES:
            frame = pending[0]
            is_open = frame.event == "open"
            if not is_due(plan, frame, wall_ns) or (is_open and not self._may_open(plan.command)):
                break
            told.append(self._rerun.tell(pending.popleft(), plan.command))
            rows += frame.rows
            if is_open or frame.event == "start":
                break
        return told

    def _may_open(self, command: Command) -> bool:
        """Tell whether the readers are far enough: none is to hold more than the tape would."""
        needed = self._rerun.tape.open_back(max(command.trailing_sessions, 1))
        if needed > max(self._passed, 0):
            self._passed = max(self._passed, self._passed_at(self.shard, command.readers))
        return needed <= max(self._passed, 0)

    def _write(self, frames: Sequence[Frame]) -> None:
        if not frames:
            return
        offsets, last = self.writer.release(frames), frames[-1]
        if last.event == "open":
            self._rerun.opened(offsets[-1])
        if self.began_at < 0:
            self.began_at = offsets[0]
        self.is_over = last.event == "end"
