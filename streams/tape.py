"""Where a shard stands on its tape, and the frames that say so: pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from schemas.records import Command, Frame

__all__ = ["Tape", "state_of"]


@dataclass
class Tape:
    """Position of a shard: what every frame carries, and what follows from it.

    Attributes
    ----------
    shard, shards
        Number of the shard, and how many there are.
    run
        Id of the run; empty before the first.
    frame, row
        Numbers of the frame and the row that come next.
    clock_ns
        Session clock.
    number
        Number of the session that plays or comes.
    phase
        ``idle`` (no run), ``waiting`` (for coverage), ``opened`` or ``ended``.
    has_begun
        Whether a slice of the session is out.
    open_offset
        Offset of the session's open frame; -1 where there is none.
    opens
        Offsets of the open frames that are kept, ascending.
    requested
        Number of the last session that was asked for; -1 before the first.
    incomplete, reason
        Whether the session is played without complete coverage, and why.
    progress_ns
        Wall time at which a message of the run last came in.
    told
        State, speed and whether it catches up as the last frame has them.
    left_out
        Groups in lock-step that are waited for no more.
    catching_up
        Whether the clock of a live run is far behind the wall's.
    """

    shard: int
    shards: int
    run: str = ""
    frame: int = 0
    row: int = 0
    clock_ns: int = 0
    number: int = 0
    phase: str = "idle"
    has_begun: bool = False
    open_offset: int = -1
    opens: deque[int] = field(default_factory=deque)
    requested: int = -1
    incomplete: bool = False
    reason: str = ""
    progress_ns: int = 0
    told: tuple[str, float, bool] = ("", 0.0, False)
    left_out: tuple[str, ...] = ()
    catching_up: bool = False

    def write(self, event: str, command: Command, **fields: Any) -> Frame:
        """Return the next frame; the numbers move on past it."""
        frame = Frame(
            run=self.run,
            shard=self.shard,
            shards=self.shards,
            frame=self.frame,
            first_row=self.row,
            rows=fields.pop("rows", 0),
            clock_ns=self.clock_ns,
            event=event,
            state=state_of(event, command),
            mode=command.mode,
            speed=command.speed,
            command=command.version,
            open_offset=self.open_offset,
            incomplete=self.incomplete,
            reason=self.reason,
            left_out=self.left_out,
            catching_up=self.catching_up,
            **fields,
        )
        self.frame += 1
        self.row += frame.rows
        self.told = frame.state, frame.speed, frame.catching_up
        return frame

    def open_back(self, count: int) -> int:
        """Return the offset of the ``count``-th open frame from the last; 0 for none."""
        return self.opens[-count] if len(self.opens) >= count else 0

    def cut(self, kept: int) -> int:
        """Forget the opens before the last ``kept``; return the first offset, 0 for fewer."""
        while len(self.opens) > kept:
            self.opens.popleft()
        return self.opens[0] if len(self.opens) == kept else 0

    def is_news(self, command: Command) -> bool:
        """Tell whether state, speed or catching up are other than the tape says."""
        return self.told != (state_of("rows", command), command.speed, self.catching_up)

    def stand_at(self, last: Frame) -> None:
        """Stand behind the last committed frame."""
        self.run = last.run
        self.frame, self.row = last.frame + 1, last.first_row + last.rows
        self.clock_ns = last.clock_ns
        self.open_offset = last.open_offset
        self.told = last.state, last.speed, last.catching_up
        self.left_out, self.catching_up = last.left_out, last.catching_up
        if last.event != "roll":
            self.incomplete, self.reason = last.incomplete, last.reason


def state_of(event: str, command: Command) -> str:
    """Return the state of the tape behind a frame of an event."""
    if event == "end":
        return "stopped"
    return "paused" if command.paused else "running"
