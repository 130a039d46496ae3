"""When something of a replay falls due, and how far a clock is behind: pure.

When something of a live run falls due, see ``streams.live``.
"""

from __future__ import annotations

from typing import NamedTuple

from streams.intervals import SECOND_NS
from streams.plan import FAR_NS, Plan
from streams.sessions import Sessions
from streams.tape import Tape

__all__ = ["Stand", "beat_ns", "due_ns", "stand_of"]


class Stand(NamedTuple):
    """Where the clock of a run stands, for whoever asks later how far it is behind.

    Attributes
    ----------
    plan
        The run.
    number
        The session that plays, or that is to open next.
    clock_ns
        Its clock; of one that is to open next, its open.
    is_open
        Whether it is open.
    """

    plan: Plan
    number: int
    clock_ns: int
    is_open: bool

    def delay_ns(self, wall_ns: int) -> int:
        """Return the wall time that the clock is behind, at least 0.

        Of a live run that is what has passed since the clock, at most to the close; of a replay
        what has passed since its next slice or open was due. Nothing at full speed or while paused.
        """
        plan, number, session = self.plan, self.number, self.plan.sessions[self.number]
        if plan.command.paused:
            return 0
        if plan.is_live:
            now_ns = min(plan.now_in(number, wall_ns), session.close_ns)
            behind_ns = plan.wall_in(number, now_ns) - plan.wall_in(number, self.clock_ns)
            return max(behind_ns, 0)
        if plan.command.speed == 0:
            return 0
        next_ns = session.open_ns
        if self.is_open:
            ends = plan.ends_behind(number, self.clock_ns)
            next_ns = int(ends[0]) if len(ends) else session.close_ns
        return max(wall_ns - plan.wall_in(number, next_ns), 0)


def stand_of(plan: Plan | None, tape: Tape) -> Stand | None:
    """Return where the clock of a run stands; None while none is on."""
    if plan is None or tape.phase in ("idle", "ended"):
        return None
    is_open = tape.phase != "waiting"
    clock_ns = tape.clock_ns if is_open else plan.sessions[tape.number].open_ns
    return Stand(plan, tape.number, clock_ns, is_open)


def due_ns(plan: Plan, held: Sessions, tape: Tape) -> int | None:
    """Return the wall time at which the next session or slice is due; None while paused."""
    session = plan.sessions[tape.number]
    if tape.phase == "waiting":
        opens_ns = plan.wall_ns(tape.number, session.open_ns)
        if opens_ns is None or held.is_complete(plan, tape.number):
            return opens_ns
        times_out_ns = tape.progress_ns + int(plan.command.session_timeout_s * SECOND_NS)
        return max(opens_ns, times_out_ns)
    ends = plan.ends_behind(tape.number, tape.clock_ns)
    next_ns = held.buffer(plan, tape.number).next_slice(ends, session.close_ns)
    return plan.wall_ns(tape.number, min(next_ns, beat_ns(plan, held, tape)))


def beat_ns(plan: Plan, held: Sessions, tape: Tape) -> int:
    """Return where the clock is to be told next; late rows wait for a slice to go with."""
    return FAR_NS if held.has_late else plan.beat_ns(tape.clock_ns)
