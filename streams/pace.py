"""When something of a replay falls due by itself: pure; of a live run see ``streams.live``."""

from __future__ import annotations

from streams.intervals import SECOND_NS
from streams.plan import FAR_NS, Plan
from streams.sessions import Sessions
from streams.tape import Tape

__all__ = ["beat_ns", "due_ns"]


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
