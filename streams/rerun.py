"""A run told again on the tape of another namespace, frame by frame: pure.

What readers see stays as it was: rows, slices, marks, corrections, minutes, clocks, and that it was
live. A frame's own are where it stands (run, numbers, offsets, positions) and how this tape goes
(state, speed, command).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from schemas.records import Command, Frame, RawPosition
from streams.frames import NO_SLICES
from streams.plan import Plan
from streams.tape import Tape, state_of

__all__ = ["Rerun", "is_due", "start_before"]


class Rerun:
    """One shard of a run that is told again.

    Parameters
    ----------
    shard, shards
        Number of the shard, and how many there are.
    run
        Id of the run that is made.
    last
        Last frame of the shard's tape, of whichever run: numbers and positions in the raw topics
        go on from it; None for an empty tape.
    raw
        Raw topics of the namespace, for an empty tape: nothing of them was looked at.
    """

    def __init__(
        self, shard: int, shards: int, run: str, last: Frame | None, raw: Iterable[str]
    ) -> None:
        self.tape = Tape(shard, shards)
        if last is None:
            self._positions = tuple(RawPosition(topic, shard, 0, 0) for topic in raw)
        else:
            self._positions = last.positions
            self.tape.stand_at(last)
        self._run = run
        self._told: Frame | None = None

    def tell(self, frame: Frame, command: Command) -> Frame:
        """Return a frame of the run as the next one of this tape, under a command."""
        tape = self.tape
        told = replace(
            frame,
            run=self._run,
            shards=tape.shards,
            frame=tape.frame,
            first_row=tape.row,
            open_offset=-1 if frame.open_offset < 0 else tape.open_offset,
            positions=self._positions,
            state=state_of(frame.event, command),
            speed=command.speed,
            command=command.version,
        )
        tape.stand_at(told)
        self._told = told
        return told

    def opened(self, offset: int) -> None:
        """Take note of where the open frame that was told last stands."""
        self.tape.open_offset = offset
        self.tape.opens.append(offset)

    def news(self, plan: Plan) -> Frame | None:
        """Return a frame that says the state or speed that is wanted, None where the last does."""
        last, command = self._told, plan.command
        if last is None or last.event == "end" or not self.tape.is_news(command):
            return None
        waiting = last.waiting or last.event not in ("open", "rows")
        session = last.session or plan.sessions[0].label
        return self.tell(_bare(last, "rows", session=session, waiting=waiting), command)

    def end(self, command: Command, reason: str) -> Frame | None:
        """Return the frame that ends the run before its own end; None before it has begun."""
        last = self._told
        if last is None:
            return None
        return self.tell(_bare(last, "end", session="", symbols=(), reason=reason), command)


def start_before(opened: Frame) -> Frame:
    """Return the frame that begins a run whose first kept frame is one that opens a session."""
    return _bare(opened, "start", session="", incomplete=False, reason="")


def is_due(plan: Plan, frame: Frame, wall_ns: int) -> bool:
    """Tell whether a frame is to go out: its clock has come. Between sessions no time passes.

    Frames go out whole: one of many slices, as a replay at full speed has them, with its last.
    """
    if frame.waiting or frame.event not in ("open", "rows", "close"):
        return True
    clock_ns = plan.clock_ns(plan.index(frame.session), wall_ns)
    return clock_ns is not None and frame.clock_ns <= clock_ns


def _bare(frame: Frame, event: str, **changes: Any) -> Frame:
    """Return a frame that stands where another does, without its rows and minutes."""
    nothing: dict[str, Any] = {"bars": None, "quotes": None, "ticks": None, "minutes": None}
    plain = replace(frame, event=event, rows=0, waiting=False, prefetched=False)
    return replace(plain, **{**NO_SLICES, **nothing, **changes})
