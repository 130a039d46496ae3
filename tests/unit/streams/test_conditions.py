"""What a trade counts for, by its conditions."""

from __future__ import annotations

import pytest

from streams.conditions import RULES, Flag, Weight, flags_of, lean_rule, tape_rule

WHOLE, RANGE_FIRST, EXTENDED = (3, 3, 2, True), (2, 2, 2, True), (1, 1, 1, True)
VOLUME, NOTHING = (0, 0, 0, True), (0, 0, 0, False)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("P 20002020", Flag.TRADE_THROUGH_EXEMPT | Flag.EXTENDED_HOURS | Flag.SWEEP),
        ("D 1 suspicious", Flag.REGULAR),
        ("D 80000000", Flag.ODD_LOT),
        ("N", Flag(0)),
        ("N  suspicious", Flag(0)),
        ("suspicious", Flag(0)),
        ("", Flag(0)),
        (" 20", Flag.SWEEP),
        ("@ F T I", Flag(0)),
        ("P 123456789", Flag(0)),
    ],
)
def test_the_flags_in_a_condition(text: str, flags: Flag) -> None:
    assert flags_of(text) == flags


@pytest.mark.parametrize(
    ("text", "tape", "lean"),
    [
        ("N 1", WHOLE, WHOLE),
        ("", WHOLE, WHOLE),
        ("N 0", WHOLE, WHOLE),
        ("K 20000020", WHOLE, VOLUME),
        ("B 20", WHOLE, VOLUME),
        ("P 20000001", WHOLE, WHOLE),
        ("P 2000", EXTENDED, WHOLE),
        ("P 20002020", EXTENDED, WHOLE),
        ("D 400", EXTENDED, WHOLE),
        ("D 20000200", RANGE_FIRST, VOLUME),
        ("D 2000000", RANGE_FIRST, WHOLE),
        ("D 4800", RANGE_FIRST, WHOLE),
        ("D 6004", VOLUME, WHOLE),
        ("M 20000002", VOLUME, WHOLE),
        ("D 20000004", VOLUME, WHOLE),
        ("D 20000008", VOLUME, VOLUME),
        ("D 100000", VOLUME, WHOLE),
        ("D 20100200", VOLUME, VOLUME),
        ("M 20040200", VOLUME, VOLUME),
        ("D 400000", VOLUME, WHOLE),
        ("D 80000000", VOLUME, VOLUME),
        ("N 40", WHOLE, (4, 3, 2, True)),
        ("N 80", WHOLE, (3, 4, 2, True)),
        ("Q 4000000", NOTHING, NOTHING),
        ("P 1000000", NOTHING, NOTHING),
        ("N 1 suspicious", NOTHING, NOTHING),
        ("suspicious", NOTHING, NOTHING),
    ],
)
def test_what_a_trade_counts_for(
    text: str, tape: tuple[int, int, int, bool], lean: tuple[int, int, int, bool]
) -> None:
    assert tape_rule(text) == Weight(*tape)
    assert lean_rule(text) == Weight(*lean)


def test_of_all_trades_everything_counts() -> None:
    assert {RULES["all"](text) for text in ("", "@ F T I", "Q 4000000")} == {Weight(*WHOLE)}


@pytest.mark.parametrize("name", RULES)
def test_who_sets_one_price_may_set_all(name: str) -> None:
    for flag in Flag:
        weight = RULES[name](f"X {flag.value:X}")
        assert len({weight.open > 0, weight.close > 0, weight.range > 0}) == 1
        assert weight.volume or weight.open == 0
