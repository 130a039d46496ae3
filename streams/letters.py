"""Minutes of a symbol and session as letters, and the quality that they come to: pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from streams.coverage import Status

__all__ = ["LETTERS", "SymbolQuality", "cells", "quality_of"]

LETTERS = {
    Status.PENDING: "p",
    Status.TRADED: "t",
    Status.NO_TRADE: "n",
    Status.MISSING: "m",
    Status.REQUESTED: "r",
    Status.FILLED: "f",
    Status.GIVEN_UP: "g",
    Status.HALTED: "h",
}
"""A letter for each status, as the store has them, too."""

_WORST = "ptfnhrgm"
"""Letters from the best status to the worst; what is still to come is no status at all."""


@dataclass(frozen=True, slots=True)
class SymbolQuality:
    """Minutes of one symbol in one session.

    Attributes
    ----------
    symbol
        Its name.
    quality
        (traded + filled + no_trade) / expected in %, of the minutes that are over; 100 before the
        first.
    expected, traded, filled, no_trade, requested, missing, given_up
        Minutes that are over; of each status.
    minutes
        A letter (`LETTERS`) for each minute of the session, ``p`` for those that are not over.
    """

    symbol: str
    quality: float
    expected: int
    traded: int
    filled: int
    no_trade: int
    requested: int
    missing: int
    given_up: int
    minutes: str


def quality_of(symbol: str, minutes: str) -> SymbolQuality:
    """Return the quality of a symbol, given a letter for each minute."""
    count = {status: minutes.count(letter) for status, letter in LETTERS.items()}
    expected = len(minutes) - count[Status.PENDING]
    quiet = count[Status.NO_TRADE] + count[Status.HALTED]
    good = count[Status.TRADED] + count[Status.FILLED] + quiet
    return SymbolQuality(
        symbol=symbol,
        quality=round(100.0 * good / expected, 4) if expected else 100.0,
        expected=expected,
        traded=count[Status.TRADED],
        filled=count[Status.FILLED],
        no_trade=count[Status.NO_TRADE],
        requested=count[Status.REQUESTED],
        missing=count[Status.MISSING],
        given_up=count[Status.GIVEN_UP],
        minutes=minutes,
    )


def cells(minutes: str, width: int) -> str:
    """Return letters for at most ``width`` cells of equal length, each the worst of its minutes."""
    width = min(width, len(minutes))
    edges = [len(minutes) * cell // width for cell in range(width + 1)] if width else []
    parts = (minutes[a:b] for a, b in pairwise(edges))
    return "".join(max(part, key=_WORST.index) for part in parts)
