"""Quotes and ticks of a frame with the numbers that their source gave them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from schemas.records import Longs, QuoteColumns, TickColumns, empty_longs

__all__ = ["NumberedQuotes", "NumberedTicks"]


@dataclass(frozen=True, slots=True, eq=False)
class NumberedQuotes(QuoteColumns):
    """Quotes with numbers."""

    columns: ClassVar[tuple[str, ...]] = (*QuoteColumns.columns, "sequence")
    sequence: Longs = field(default_factory=empty_longs)


@dataclass(frozen=True, slots=True, eq=False)
class NumberedTicks(TickColumns):
    """Ticks with numbers."""

    columns: ClassVar[tuple[str, ...]] = (*TickColumns.columns, "sequence")
    sequence: Longs = field(default_factory=empty_longs)
