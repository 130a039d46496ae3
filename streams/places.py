"""Places of a run that a person names: a session, or a time in the calendar's zone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC

import pandas as pd

from schemas import Command
from streams.calendar import Session, sessions_between, zone_of
from streams.errors import CalendarError, CommandError
from streams.settings import Settings

__all__ = ["live_sessions", "place_of"]

LIVE_DAYS = 366
"""Days that a run by the clock on the wall may last; then it is over, and another is begun."""

_PLACE = r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?"


def place_of(command: Command, to: str | int) -> tuple[Session, int]:
    """Return the session of a place to seek to, and the clock there.

    Raises
    ------
    CommandError
        It is none, or lies outside the run.
    """
    return _place(command.calendar, command.hours, command.end, to, f"run {command.run}")


def live_sessions(
    settings: Settings, begin: str | int | None = None, end: str | None = None
) -> tuple[tuple[Session, ...], int]:
    """Return the sessions of a live run, and of a rehearsal what time it is on its tape first.

    Parameters
    ----------
    settings
        Calendar and hours.
    begin
        Of a rehearsal the session or time at which it begins, as `place_of` takes it; None: the
        run goes by the clock on the wall, from the session of now on.
    end
        Last session of a rehearsal, YYYY-MM-DD; None for the one of ``begin``.

    Raises
    ------
    CommandError
        ``begin`` is no place, or lies behind the end.
    CalendarError
        No such calendar, day or hours.
    """
    calendar, hours = settings.calendar, settings.hours
    if begin is None:
        now = pd.Timestamp.now(UTC)
        first, last = (
            (now + pd.Timedelta(days=days)).strftime("%Y-%m-%d") for days in (-2, LIVE_DAYS)
        )
        found = sessions_between(calendar, first, last, hours)
        return tuple(session for session in found if session.close_ns > now.value), 0
    end = end or _moment(calendar, begin)[0].strftime("%Y-%m-%d")
    session, clock_ns = _place(calendar, hours, end, begin, "a rehearsal")
    return sessions_between(calendar, session.label, end, hours), clock_ns


def _place(calendar: str, hours: str, end: str, to: str | int, who: str) -> tuple[Session, int]:
    at, is_day = _moment(calendar, to)
    try:
        if is_day:
            label = at.strftime("%Y-%m-%d")
            sessions: Sequence[Session] = sessions_between(calendar, label, label, hours)
        else:
            # A session may be labelled by another day than that of its open.
            first = (at - pd.Timedelta(days=2)).strftime("%Y-%m-%d")
            sessions = () if first > end else sessions_between(calendar, first, end, hours)
    except CalendarError as exc:
        msg = f"{who} can't go to {to}: {exc}"
        raise CommandError(msg) from exc
    found = next((s for s in sessions if is_day or s.close_ns > at.value), None)
    if found is None or found.label > end:
        msg = f"{who} can't go to {to}: it ends with session {end}"
        raise CommandError(msg)
    return found, found.open_ns if is_day else max(at.value, found.open_ns)


def _moment(calendar: str, to: str | int) -> tuple[pd.Timestamp, bool]:
    """Return a place as a time in the calendar's zone, and whether it is a session's label."""
    zone = zone_of(calendar)
    if not isinstance(to, str):
        return pd.Timestamp(int(to), tz="UTC").tz_convert(zone), False
    try:
        at = pd.Timestamp(to if re.fullmatch(_PLACE, to) else "no place")
    except ValueError as exc:
        msg = f"{to!r} is no place on the tape: YYYY-MM-DD or YYYY-MM-DDTHH:MM"
        raise CommandError(msg) from exc
    is_day = "T" not in to
    return at.tz_localize(zone) if at.tzinfo is None else at.tz_convert(zone), is_day
