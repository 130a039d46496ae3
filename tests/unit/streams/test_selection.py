"""What a replay is asked to play, held against what its sources have."""

from __future__ import annotations

import pytest

from streams.errors import ConfigError
from streams.selection import derived_of, range_of, symbols_of
from streams.settings import Settings
from streams.sources import open_source
from streams.sources.alpaca import AlpacaSource

TWO = open_source("synthetic:symbols=2")
FOUR = open_source("synthetic:symbols=4")


def test_symbols_are_those_of_the_source_or_those_named() -> None:
    assert symbols_of(TWO, "two", None) == ("SYN0001", "SYN0002")
    assert symbols_of(TWO, "two", ["SYN0002", "SYN0002"]) == ("SYN0002",)


def test_a_symbol_that_a_fallback_has_may_be_named() -> None:
    named = ["SYN0004", "SYN0001"]
    assert symbols_of(TWO, "two", named, [TWO, FOUR]) == ("SYN0001", "SYN0004")
    # All of the source are its own, and no others.
    assert symbols_of(TWO, "two", None, [FOUR]) == ("SYN0001", "SYN0002")
    with pytest.raises(ConfigError, match="two has no SYN0009; it has SYN0001, SYN0002"):
        symbols_of(TWO, "two", ["SYN0009", "SYN0004"], [FOUR])


def test_of_a_source_that_cant_list_its_symbols_any_may_be_named() -> None:
    silent = AlpacaSource.open("", Settings(alpaca_key_id="K", alpaca_secret_key="S"))
    assert symbols_of(silent, "alpaca:", ["IBM", "AIG"]) == ("AIG", "IBM")
    with pytest.raises(ConfigError, match="alpaca: has no symbols"):
        symbols_of(silent, "alpaca:", None)


@pytest.mark.parametrize("names", [[], ["NONE"]])
def test_what_nobody_has_is_refused(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="two has no"):
        symbols_of(TWO, "two", names)


def test_a_range_is_given_or_known() -> None:
    assert range_of(TWO, "two", "2024-11-25", "2024-11-26") == ("2024-11-25", "2024-11-26")
    with pytest.raises(ConfigError, match="does not say which days it has"):
        range_of(TWO, "two", "2024-11-25", None)


@pytest.mark.parametrize(
    ("intervals", "derived"),
    [
        ([], ()),
        (["1m"], ()),
        (["15m", "1m", "5m", "5m"], ("5m", "15m")),
        (["60m", "90s", "1m"], None),
    ],
)
def test_intervals_but_the_base_are_derived(
    intervals: list[str], derived: tuple[str, ...] | None
) -> None:
    if derived is None:
        with pytest.raises(ConfigError, match="90s can't be derived from minutes"):
            derived_of(intervals, has_upkeep=True)
        return
    assert derived_of(intervals, has_upkeep=True) == derived


def test_without_an_upkeep_nothing_is_derived() -> None:
    assert derived_of(["1m"], has_upkeep=False) == ()
    with pytest.raises(ConfigError, match="without an upkeep nothing derives bars of 5m, 1h"):
        derived_of(["1h", "5m"], has_upkeep=False)
