"""What a trade counts for in a bar, by its conditions, as LEAN's files write them: pure.

A condition is a text such as ``P 20002020`` or ``D 1 suspicious``: exchange, flags in hexadecimal,
and whether the data vendor doubts it. The flags are those of LEAN's ``TradeConditionFlags``, which
stand for the sale conditions of the consolidated tape.

Rules
-----
``tape``
    The tape's own: the tables of sale conditions in the *CTS Pillar Output Specification* of the
    CTA Plan and the *UTP Data Feed Services Specification* of the UTP Plan, columns of the
    consolidated high and low, last and volume. A sweep is a trade like any other. An average
    price, another settlement, a stock-option trade or an odd lot has volume only. A trade that is
    derivatively priced, of a prior price or out of sequence sets high and low, but open and close
    only where no other does. A trade of extended hours sets prices where no trade of regular hours
    is in the bar: else bars before the open and after the close had none. The *official* open and
    close are no trades at all.
``lean``
    Those of LEAN's own bars of minutes, so that what is built is like what is there: prices are
    not set by sweeps and by trades exempt from the trade-through rule, but where they are also
    regular, of extended hours, cash, next-day, opening or closing prints. The opening print is the
    open, the closing print the close. From *LEAN's Core Data Types* (which conditions trade bars
    include) and from five days of its files; see ``docs/reference/built-bars.md``.
``all``
    Every trade counts for everything: for sources whose conditions are of another kind.

Under all but the last, a suspicious trade counts for nothing: LEAN's readme of equity data has
bars without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import IntFlag
from functools import lru_cache
from typing import NamedTuple, TypeAlias

__all__ = ["RULES", "Flag", "Rule", "Weight", "all_rule", "flags_of", "lean_rule", "tape_rule"]


class Flag(IntFlag):
    """The conditions of a trade that some rule asks for, by their bits in LEAN's files."""

    REGULAR = 0x1
    CASH = 0x2
    NEXT_DAY = 0x4
    SELLER = 0x8
    SWEEP = 0x20
    OPENING_PRINT = 0x40
    CLOSING_PRINT = 0x80
    DERIVATIVELY_PRICED = 0x200
    FORM_T = 0x400
    EXTENDED_HOURS = 0x2000
    OUT_OF_SEQUENCE = 0x4000
    STOCK_OPTION = 0x4_0000
    AVERAGE_PRICE = 0x10_0000
    PRICE_VARIATION = 0x40_0000
    OFFICIAL_CLOSE = 0x100_0000
    PRIOR_PRICE = 0x200_0000
    OFFICIAL_OPEN = 0x400_0000
    TRADE_THROUGH_EXEMPT = 0x2000_0000
    ODD_LOT = 0x8000_0000


class Weight(NamedTuple):
    """What a trade counts for in its bar.

    Attributes
    ----------
    open, close
        Rank as the first or the last price: of the trades of a bar only those of the highest rank
        are looked at; 0 never sets it. All ranks of a weight are 0, or none is.
    range
        Rank for high and low: 2 sets them, 1 where no trade of the bar has 2, 0 never.
    volume
        Whether its size is traded volume.
    """

    open: int
    close: int
    range: int
    volume: bool


Rule: TypeAlias = Callable[[str], Weight]

WHOLE = Weight(3, 3, 2, volume=True)
RANGE_FIRST = Weight(2, 2, 2, volume=True)
EXTENDED = Weight(1, 1, 1, volume=True)
VOLUME_ONLY = Weight(0, 0, 0, volume=True)
NOTHING = Weight(0, 0, 0, volume=False)

OFFICIAL = Flag.OFFICIAL_OPEN | Flag.OFFICIAL_CLOSE
TAPE_ORDER: tuple[tuple[Flag, Weight], ...] = (
    (OFFICIAL, NOTHING),
    (
        Flag.CASH
        | Flag.NEXT_DAY
        | Flag.SELLER
        | Flag.STOCK_OPTION
        | Flag.AVERAGE_PRICE
        | Flag.PRICE_VARIATION
        | Flag.ODD_LOT,
        VOLUME_ONLY,
    ),
    (Flag.FORM_T | Flag.EXTENDED_HOURS, EXTENDED),
    (Flag.DERIVATIVELY_PRICED | Flag.PRIOR_PRICE | Flag.OUT_OF_SEQUENCE, RANGE_FIRST),
)
"""Of several conditions the one that allows least holds: it stands first."""
LEAN_ORDER: tuple[tuple[Flag, Weight], ...] = (
    (OFFICIAL, NOTHING),
    (Flag.OPENING_PRINT, Weight(4, 3, 2, volume=True)),
    (Flag.CLOSING_PRINT, Weight(3, 4, 2, volume=True)),
    (
        Flag.REGULAR | Flag.CASH | Flag.NEXT_DAY | Flag.FORM_T | Flag.EXTENDED_HOURS,
        WHOLE,
    ),
    (Flag.SWEEP | Flag.TRADE_THROUGH_EXEMPT | Flag.ODD_LOT, VOLUME_ONLY),
)

_FORM = re.compile(r"\S* ?([0-9A-Fa-f]{0,8})( suspicious)?")
_DOUBTED = "suspicious"


def flags_of(text: str) -> Flag:
    """Return the flags in a condition; a text of another form has none."""
    match = _FORM.fullmatch(text)
    return Flag(int(match[1] or "0", 16)) if match else Flag(0)


@lru_cache(maxsize=4096)
def tape_rule(text: str) -> Weight:
    """Return what a trade counts for on the consolidated tape."""
    return _weight(text, TAPE_ORDER)


@lru_cache(maxsize=4096)
def lean_rule(text: str) -> Weight:
    """Return what a trade counts for in LEAN's own bars."""
    return _weight(text, LEAN_ORDER)


def all_rule(text: str) -> Weight:
    """Return that a trade counts for everything."""
    return WHOLE


RULES: Mapping[str, Rule] = {"tape": tape_rule, "lean": lean_rule, "all": all_rule}
"""By the names that users give them."""


def _weight(text: str, order: tuple[tuple[Flag, Weight], ...]) -> Weight:
    if text.endswith(_DOUBTED):
        return NOTHING
    flags = flags_of(text)
    return next((weight for some, weight in order if flags & some), WHOLE)
