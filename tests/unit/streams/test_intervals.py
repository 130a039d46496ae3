"""Lengths of bars as text and as nanoseconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ConfigError
from streams.intervals import MINUTE_NS, SECOND_NS, interval_name, interval_ns


@pytest.mark.parametrize(
    ("written", "length_ns"),
    [
        ("1s", SECOND_NS),
        ("1m", MINUTE_NS),
        ("5m", 5 * MINUTE_NS),
        (5, 5 * MINUTE_NS),
        ("90s", 90 * SECOND_NS),
        ("1h", 60 * MINUTE_NS),
        ("1d", 1440 * MINUTE_NS),
    ],
)
def test_text_and_minutes_are_lengths(written: str | int, length_ns: int) -> None:
    assert interval_ns(written) == length_ns


@pytest.mark.parametrize("wrong", ["", "m", "0m", "01m", "1 m", "1M", "-1m", "1.5m", "1w", 0, -5])
def test_what_is_no_interval_is_an_error(wrong: str | int) -> None:
    with pytest.raises(ConfigError, match="is no interval"):
        interval_ns(wrong)


@given(st.integers(1, 99_999))
def test_a_name_says_its_length(seconds: int) -> None:
    assert interval_ns(interval_name(seconds * SECOND_NS)) == seconds * SECOND_NS


def test_the_shortest_name_is_taken() -> None:
    assert interval_name(60 * SECOND_NS) == "1m"
    assert interval_name(86_400 * SECOND_NS) == "1d"
    assert interval_name(90 * SECOND_NS) == "90s"


@pytest.mark.parametrize("length_ns", [0, 1, SECOND_NS + 1])
def test_no_whole_number_of_seconds_has_no_name(length_ns: int) -> None:
    with pytest.raises(ConfigError, match="no whole number of seconds"):
        interval_name(length_ns)
