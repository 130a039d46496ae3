"""Wall clocks, epochs and text to ns since the epoch."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.sources.times import NO_TIME, day_times, epoch_times, ns_text, text_ns


def clock(text: str) -> int:
    hours, minutes = text.split(":")
    return (int(hours) * 60 + int(minutes)) * 60_000


@pytest.mark.parametrize(
    ("day", "local", "utc"),
    [
        (date(2024, 3, 10), "01:59", "2024-03-10T06:59"),  # before the clocks go on
        (date(2024, 3, 10), "03:00", "2024-03-10T07:00"),
        (date(2024, 3, 10), "09:30", "2024-03-10T13:30"),
        (date(2024, 11, 3), "00:59", "2024-11-03T04:59"),
        (date(2024, 11, 3), "01:30", "2024-11-03T05:30"),  # it comes twice: the first
        (date(2024, 11, 3), "02:00", "2024-11-03T07:00"),
        (date(2024, 11, 3), "09:30", "2024-11-03T14:30"),
        (date(2024, 7, 5), "09:30", "2024-07-05T13:30"),
        (date(2024, 1, 5), "09:30", "2024-01-05T14:30"),
    ],
)
def test_a_day_s_clock_on_the_days_when_it_changes(day: date, local: str, utc: str) -> None:
    found = day_times(np.array([clock(local) + 5]), "America/New_York", day)
    expected = datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()
    assert found.tolist() == [int(expected) * 10**9 + 5_000_000]


def test_an_hour_that_comes_twice_is_the_first_in_text_too() -> None:
    column = pa.chunked_array([["2024-11-03 01:30", "2024-11-03 02:30"]])
    assert np.diff(epoch_times(column, "America/New_York")).tolist() == [2 * 3600 * 10**9]


def test_what_is_missing_is_no_time() -> None:
    for values in ([1720186200, None], [1720186200.0, None], ["2024-07-05T13:30:00Z", None]):
        found = epoch_times(pa.chunked_array([values]), "UTC")
        assert found.tolist() == [1720186200 * 10**9, NO_TIME]


def test_dates_are_midnights() -> None:
    column = pa.chunked_array([[date(2024, 7, 5)]])
    assert epoch_times(column, "America/New_York").tolist() == [1720152000 * 10**9]


def test_other_types_are_refused() -> None:
    with pytest.raises(pa.ArrowInvalid, match="is no type of times"):
        epoch_times(pa.chunked_array([[True]]), "UTC")
    with pytest.raises(pa.ArrowInvalid):
        epoch_times(pa.chunked_array([["soon"]]), "UTC")


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2021-02-22T15:51:44.208Z", 1_614_009_104_208_000_000),
        ("2021-02-22T15:51:45.335689322Z", 1_614_009_105_335_689_322),
        ("2021-02-22 17:51:45.335689322+02:00", 1_614_009_105_335_689_322),
        ("2021-02-22t10:51:45-05:00", 1_614_009_105_000_000_000),
        ("1969-12-31T23:59:59.5Z", -500_000_000),
    ],
)
def test_a_time_of_rfc_3339(text: str, ns: int) -> None:
    assert text_ns(text) == ns


@pytest.mark.parametrize(
    "text", ["", "noon", "2021-02-22", "2021-02-22T15:51:44", "2021-02-30T15:51:44Z",
             "2021-02-22T15:51:44.1234567890Z"],
)  # fmt: skip
def test_no_time_of_rfc_3339(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time of RFC 3339|day is out of range|day"):
        text_ns(text)


@settings(deadline=None)
@given(st.integers(-(10**18), 4 * 10**18))
def test_a_time_and_its_text_are_one(ns: int) -> None:
    assert text_ns(ns_text(ns)) == ns
