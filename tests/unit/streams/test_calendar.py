"""Sessions and expected minutes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from streams.calendar import Session, sessions_between
from streams.errors import CalendarError
from streams.intervals import MINUTE_NS


def utc(text: str) -> int:
    return int(pd.Timestamp(text, tz="UTC").value)


def spans(found: tuple[Session, ...]) -> list[tuple[str, int, int]]:
    return [(session.label, session.open_ns, session.close_ns) for session in found]


def test_weekends_holidays_and_half_days() -> None:
    found = sessions_between("XNYS", "2024-11-27", "2024-12-02")
    assert spans(found) == [
        ("2024-11-27", utc("2024-11-27 14:30"), utc("2024-11-27 21:00")),
        ("2024-11-29", utc("2024-11-29 14:30"), utc("2024-11-29 18:00")),
        ("2024-12-02", utc("2024-12-02 14:30"), utc("2024-12-02 21:00")),
    ]
    assert [len(s.starts(MINUTE_NS)) for s in found] == [390, 210, 390]


def test_summer_time_moves_the_open() -> None:
    found = sessions_between("XNYS", "2024-03-08", "2024-03-11")
    assert [s.open_ns for s in found] == [utc("2024-03-08 14:30"), utc("2024-03-11 13:30")]


def test_around_the_clock_a_session_is_a_day() -> None:
    found = sessions_between("24/7", "2024-03-09", "2024-03-10")
    assert found[0].close_ns == found[1].open_ns == utc("2024-03-10")
    assert len(found[0].starts(MINUTE_NS)) == 1440


def test_nothing_is_expected_in_a_break() -> None:
    (session,) = sessions_between("XHKG", "2024-11-29", "2024-11-29")
    assert session.breaks == ((utc("2024-11-29 04:00"), utc("2024-11-29 05:00")),)
    starts = session.starts(MINUTE_NS)
    assert len(starts) == 330
    assert not ((starts >= session.breaks[0][0]) & (starts < session.breaks[0][1])).any()
    assert np.diff(starts).max() == 61 * MINUTE_NS


def test_extended_hours_end_early_on_half_days() -> None:
    found = sessions_between("XNYS", "2024-11-27", "2024-11-29", "extended")
    assert spans(found) == [
        ("2024-11-27", utc("2024-11-27 09:00"), utc("2024-11-28 01:00")),
        ("2024-11-29", utc("2024-11-29 09:00"), utc("2024-11-29 22:00")),
    ]


def test_hours_of_ones_own_keep_the_breaks_inside_them() -> None:
    (morning,) = sessions_between("XHKG", "2024-11-29", "2024-11-29", "09:30-12:00")
    assert morning.breaks == ()
    assert len(morning.starts(MINUTE_NS)) == 150
    (day,) = sessions_between("XHKG", "2024-11-29", "2024-11-29", "11:00-24:00")
    assert len(day.breaks) == 1
    assert day.close_ns == utc("2024-11-29 16:00")


@pytest.mark.parametrize(
    ("calendar", "start", "end", "hours", "reason"),
    [
        ("XNYS", "2024-12-02", "2024-11-27", "regular", "is before the start"),
        ("XNYS", "2024-11-28", "2024-11-28", "regular", "weekend or holidays"),
        ("XNYS", "2024-13-01", "2024-12-01", "regular", "is no date"),
        ("XNYS", "yesterday", "2024-12-01", "regular", "is no date"),
        ("NOWHERE", "2024-11-27", "2024-11-27", "regular", "no calendar 'NOWHERE'"),
        ("XHKG", "1901-01-02", "1901-01-03", "regular", "XHKG"),
        ("XHKG", "2024-11-27", "2024-11-27", "extended", "no extended hours"),
        ("XNYS", "2024-11-27", "2024-11-27", "9-16", "are no hours"),
        ("XNYS", "2024-11-27", "2024-11-27", "09:30-24:30", "are no hours"),
        ("XNYS", "2024-11-27", "2024-11-27", "16:00-09:30", "end before they start"),
    ],
)
def test_what_does_not_exist_is_an_error(
    calendar: str, start: str, end: str, hours: str, reason: str
) -> None:
    with pytest.raises(CalendarError, match=reason):
        sessions_between(calendar, start, end, hours)
