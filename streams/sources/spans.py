"""Sessions of a calendar that a range touches, looked up by the year."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from streams.calendar import Session, sessions_between
from streams.errors import CalendarError
from streams.intervals import MINUTE_NS

__all__ = ["sessions_in"]

DAY_NS = 1440 * MINUTE_NS


def sessions_in(calendar: str, hours: str, start_ns: int, end_ns: int) -> list[Session]:
    """Return the sessions that [start_ns, end_ns) touches, ascending; none is no error.

    Raises
    ------
    CalendarError
        An unknown calendar, or hours that are none.
    """
    if end_ns <= start_ns:
        return []
    first = datetime.fromtimestamp((start_ns - DAY_NS) // 10**9, UTC).year
    last = datetime.fromtimestamp((end_ns + DAY_NS) // 10**9, UTC).year
    years = (_year(calendar, year, hours) for year in range(first, last + 1))
    return [s for found in years for s in found if s.open_ns < end_ns and start_ns < s.close_ns]


@lru_cache(maxsize=16)
def _year(calendar: str, year: int, hours: str) -> tuple[Session, ...]:
    try:
        return sessions_between(calendar, f"{year}-01-01", f"{year}-12-31", hours)
    except CalendarError:
        # Told apart from a wrong name or wrong hours by a year that every calendar has.
        sessions_between(calendar, "2015-06-01", "2015-06-30", hours)
        return ()
