"""Letters of minutes: what they count to, and a bar of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.coverage import Status
from streams.letters import LETTERS, cells, quality_of


def test_every_status_has_a_letter_of_its_own() -> None:
    assert set(LETTERS) == set(Status)
    assert len(set(LETTERS.values())) == len(Status)


def test_quality_counts_the_minutes_that_are_over() -> None:
    found = quality_of("AA", "ttnfmrgtpp")
    assert (found.symbol, found.expected, found.traded, found.filled) == ("AA", 8, 3, 1)
    assert (found.no_trade, found.requested, found.missing, found.given_up) == (1, 1, 1, 1)
    assert found.quality == 62.5
    assert quality_of("AA", "ppp").quality == 100.0
    assert quality_of("AA", "").quality == 100.0


@pytest.mark.parametrize(
    ("minutes", "width", "shown"),
    [
        ("tttt", 2, "tt"),
        ("tmtt", 2, "mt"),
        ("tnfg", 1, "g"),
        ("tp", 1, "t"),
        ("nf", 1, "n"),
        ("rh", 1, "r"),
        ("tttttm", 4, "tttm"),
        ("tm", 60, "tm"),
        ("", 60, ""),
        ("tt", 0, ""),
    ],
)
def test_a_cell_is_the_worst_of_its_minutes(minutes: str, width: int, shown: str) -> None:
    assert cells(minutes, width) == shown


@given(st.text("ptfnhrgm", max_size=400), st.integers(1, 80))
def test_no_status_gets_lost_that_is_the_worst(minutes: str, width: int) -> None:
    shown = cells(minutes, width)
    assert len(shown) == min(width, len(minutes))
    for letter in reversed("ptfnhrgm"):
        if letter in minutes:
            assert letter in shown
            break
