"""When the clock of a live run moves, and when its sessions open and close: pure.

A slice goes out when every expected symbol has reported, or ``lateness`` behind the end of its
minute. The wall counts only for whoever has read all there is to read: behind an outage what came
meanwhile is not late.
"""

from __future__ import annotations

from streams.intervals import SECOND_NS
from streams.opening import TIMED_OUT, names
from streams.plan import Plan
from streams.sessions import Sessions
from streams.tape import Tape

__all__ = ["due_ns", "is_behind", "may_close", "target_ns", "why_incomplete"]


def target_ns(plan: Plan, held: Sessions, tape: Tape, wall_ns: int, *, is_at_end: bool) -> int:
    """Return where the clock of the session that plays is to stand.

    Just before the open while quotes and ticks of that time are waited for.

    Parameters
    ----------
    plan, held, tape
        The run, what the shard holds of it, and where it stands.
    wall_ns
        Wall time.
    is_at_end
        Whether all messages that the raw topics have were taken.
    """
    clock_ns = held.begun_ns(plan, tape)
    if plan.command.paused:
        return clock_ns
    now_ns = plan.now_in(tape.number, wall_ns)
    reached = held.reached(plan, tape)
    if is_at_end:
        reached = max(reached, now_ns - _lateness_ns(plan))
    return max(min(now_ns, reached, plan.sessions[tape.number].close_ns), clock_ns)


def may_close(plan: Plan, held: Sessions, tape: Tape, wall_ns: int, *, is_at_end: bool) -> bool:
    """Tell whether a session whose clock is behind its last minute may be closed.

    Not before late rows had their time. While minutes are asked for it waits for them, at most as
    long as a session may stand still, and never beyond the next open.
    """
    now_ns = plan.now_in(tape.number, wall_ns)
    close_ns = plan.sessions[tape.number].close_ns
    if plan.command.paused or not is_at_end or now_ns < close_ns + _lateness_ns(plan):
        return False
    if tape.clock_ns < int(plan.expected_ends(tape.number)[-1]):
        return False
    return held.is_settled(tape.number) or now_ns >= _closes_at(plan, tape.number)


def why_incomplete(plan: Plan, held: Sessions, tape: Tape, wall_ns: int) -> str | None:
    """Return why a session opens incomplete, empty where it does not; None: it waits.

    It waits only for what came before a run that began in mid-session.
    """
    if plan.command.paused or plan.now_in(tape.number, wall_ns) < plan.opens[tape.number]:
        return None
    until_ns = plan.catchup_end_ns
    if not plan.opens[tape.number] < until_ns < plan.closes[tape.number]:
        return ""
    lacking = held.buffer(plan, tape.number).lacking(until_ns)
    if not lacking:
        return ""
    waited_s = (wall_ns - tape.progress_ns) / SECOND_NS
    if waited_s < plan.command.session_timeout_s:
        return None
    return f"{TIMED_OUT} {waited_s:.0f} s; no coverage of {names(lacking)} before the run began"


def due_ns(plan: Plan, held: Sessions, tape: Tape) -> int | None:
    """Return the wall time at which something falls due by itself, None while paused."""
    if plan.command.paused:
        return None
    number = tape.number
    session = plan.sessions[number]
    if tape.phase == "waiting":
        opens_ns = plan.wall_in(number, session.open_ns)
        if not session.open_ns < plan.catchup_end_ns < session.close_ns:
            return opens_ns
        return max(opens_ns, tape.progress_ns + int(plan.command.session_timeout_s * SECOND_NS))
    ends = plan.ends_behind(number, tape.clock_ns)
    next_ns = held.buffer(plan, number).next_slice(ends, session.close_ns)
    if not len(ends) and next_ns == session.close_ns:
        late_ns = session.close_ns + _lateness_ns(plan)
        is_settled = held.is_settled(number)
        return plan.wall_in(number, late_ns if is_settled else _closes_at(plan, number))
    next_ns = min(next_ns, plan.beat_ns(tape.clock_ns))
    # What has been reported waits for its time alone: a vendor's clock may be ahead of ours.
    is_reported = held.reached(plan, tape) >= next_ns
    return plan.wall_in(number, next_ns + (0 if is_reported else _lateness_ns(plan)))


def is_behind(plan: Plan, tape: Tape, wall_ns: int, until_ns: int) -> bool:
    """Tell whether what goes out up to a time is too far behind to decide by."""
    now_ns = min(plan.now_in(tape.number, wall_ns), plan.sessions[tape.number].close_ns)
    lag_ns = now_ns - until_ns
    return lag_ns > int(plan.command.catchup_threshold_s * SECOND_NS)


def _lateness_ns(plan: Plan) -> int:
    return int(plan.command.lateness_s * SECOND_NS)


def _closes_at(plan: Plan, number: int) -> int:
    """Return the time at which a session is closed in any case, as that session tells the time."""
    close_ns = plan.sessions[number].close_ns
    latest = close_ns + int(plan.command.session_timeout_s * SECOND_NS)
    if plan.is_wall and number + 1 < len(plan.sessions):
        latest = min(latest, plan.sessions[number + 1].open_ns)
    return max(latest, close_ns + _lateness_ns(plan))
