"""Sessions and their expected minutes, from exchange_calendars.

A session is one trading day of one calendar; ``24/7`` has one a UTC day. Hours are ``regular``,
``extended`` or ``HH:MM-HH:MM`` in the calendar's time zone, on days that have a session.
"""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from datetime import tzinfo
from functools import cache
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd
from exchange_calendars.errors import CalendarError as UnknownCalendarError

from schemas.records import Longs
from streams.errors import CalendarError

__all__ = ["Session", "prepare", "sessions_between", "zone_of"]

# Pre-market opens and after-hours trading of the US exchanges; it ends at 17:00 on days that
# close early (NYSE, "Holidays & Trading Hours": late trading session of early-close days).
EXTENDED_HOURS = {"XNYS": ("04:00", "20:00", "17:00"), "XNAS": ("04:00", "20:00", "17:00")}
_HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)")
_MARGIN = pd.Timedelta(days=14)
_LONG = (pd.Timestamp("1990-01-01"), pd.Timestamp("2035-12-31"))
_SOME_DAY = pd.Timestamp("2024-01-02")


@dataclass(frozen=True, slots=True)
class Session:
    """One trading day.

    Attributes
    ----------
    label
        Its day, YYYY-MM-DD.
    open_ns, close_ns
        First moment and first moment behind it, ns since the epoch, UTC.
    breaks
        Intervals [start_ns, end_ns) inside it without trading.
    """

    label: str
    open_ns: int
    close_ns: int
    breaks: tuple[tuple[int, int], ...] = ()

    def starts(self, interval_ns: int) -> Longs:
        """Return the starts of the bars of one length that are expected, ascending, shape (n,)."""
        starts = np.arange(self.open_ns, self.close_ns, interval_ns, dtype=np.int64)
        for start, end in self.breaks:
            starts = starts[(starts < start) | (starts >= end)]
        return starts


def sessions_between(
    calendar: str, start: str, end: str, hours: str = "regular"
) -> tuple[Session, ...]:
    """Return the sessions labelled ``start`` to ``end``, both inclusive, ascending.

    Raises
    ------
    CalendarError
        An unknown calendar, dates that are none or stand the wrong way round, hours that are
        none, or a range without a session.
    """
    first, last = _day(start), _day(end)
    if last < first:
        msg = f"the end {end} is before the start {start}"
        raise CalendarError(msg)
    schedule = _calendar(calendar, first, last).schedule.loc[first:last]
    found = tuple(
        _session(calendar, label, row, hours)
        for label, row in zip(schedule.index, schedule.itertuples(index=False), strict=True)
    )
    if not found:
        msg = f"{calendar} has no session from {start} to {end}: weekend or holidays"
        raise CalendarError(msg)
    return found


def zone_of(calendar: str) -> tzinfo:
    """Return the time zone of a calendar.

    Raises
    ------
    CalendarError
        An unknown calendar.
    """
    zone: tzinfo = _calendar(calendar, _SOME_DAY, _SOME_DAY).tz
    return zone


def prepare(calendar: str) -> None:
    """Make a calendar ahead of its first use, which then takes no time; an unknown one is left."""
    with suppress(CalendarError):
        _made(calendar, *_LONG)


def _day(text: str) -> pd.Timestamp:
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return pd.Timestamp(text)
    except ValueError:  # the form of a date, but none of the calendar's
        pass
    msg = f"{text!r} is no date: write YYYY-MM-DD"
    raise CalendarError(msg)


def _calendar(name: str, first: pd.Timestamp, last: pd.Timestamp) -> Any:
    """Return a calendar that has the days from ``first`` to ``last``.

    One takes 0.3 s of the processor to make, however long it is: it is a long one where it can.
    """
    start, end = _LONG
    if start + _MARGIN < first and last < end - _MARGIN:
        try:
            return _made(name, start, end)
        except CalendarError:  # not every calendar goes back that far
            pass
    return _made(name, first - _MARGIN, last + _MARGIN)


@cache
def _made(name: str, start: pd.Timestamp, end: pd.Timestamp) -> Any:
    try:
        return _get_calendar(name, start=start, end=end)
    except UnknownCalendarError as exc:
        known = ", ".join(sorted(exchange_calendars.get_calendar_names(include_aliases=False))[:6])
        msg = f"there is no calendar {name!r}: take one of exchange_calendars ({known}, …)"
        raise CalendarError(msg) from exc
    except ValueError as exc:  # outside the bounds of that calendar
        raise CalendarError(str(exc)) from exc


def _get_calendar(name: str, **bounds: pd.Timestamp) -> Any:
    with warnings.catch_warnings():
        # The library uses what pandas 4 will take away: nothing that our callers could change.
        warnings.simplefilter("ignore", DeprecationWarning)
        return exchange_calendars.get_calendar(name, **bounds)


def _session(calendar: str, label: pd.Timestamp, row: Any, hours: str) -> Session:
    day = label.strftime("%Y-%m-%d")
    breaks = () if pd.isna(row.break_start) else ((row.break_start.value, row.break_end.value),)
    if hours == "regular":
        return Session(day, row.open.value, row.close.value, breaks)
    start, end = _hours(calendar, row, hours)
    zone = _get_calendar(calendar).tz
    opens = pd.Timestamp(f"{day} {start}").tz_localize(zone)
    closes = pd.Timestamp(day).tz_localize(None) + pd.Timedelta(f"{end}:00")
    closes = closes.tz_localize(zone)
    if closes <= opens:
        msg = f"hours {hours!r} end before they start"
        raise CalendarError(msg)
    inside = tuple(b for b in breaks if opens.value < b[1] and b[0] < closes.value)
    return Session(day, opens.value, closes.value, inside)


def _hours(calendar: str, row: Any, hours: str) -> tuple[str, str]:
    if hours == "extended":
        if calendar not in EXTENDED_HOURS:
            msg = f"{calendar} has no extended hours here: give them as HH:MM-HH:MM"
            raise CalendarError(msg)
        start, end, early_end = EXTENDED_HOURS[calendar]
        is_early = row.close.tz_convert("America/New_York").hour < 16
        return start, early_end if is_early else end
    if not _HOURS.fullmatch(hours):
        msg = f"{hours!r} are no hours: write regular, extended or HH:MM-HH:MM"
        raise CalendarError(msg)
    start, _, end = hours.partition("-")
    return start, end
