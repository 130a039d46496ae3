"""Built bars against LEAN's own of the same minutes: each that differs is told why.

The figures are those of ``docs/reference/built-bars.md``.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from schemas import BarBlock, QuoteBlock, TickBlock
from streams.conditions import (
    Flag,
    Rule,
    Weight,
    all_rule,
    flags_of,
    lean_rule,
    tape_rule,
)
from streams.intervals import MINUTE_NS
from streams.sources import load_range, open_source
from streams.tick_bars import bars_of_quotes, bars_of_ticks

REAL = Path(__file__).parents[4] / "shared" / "data" / "lean"
pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason="the LEAN sample folder is not beside the repository"
)
DAYS = [f"2013-10-{day:02}" for day in range(7, 12)]
NEW_YORK = ZoneInfo("America/New_York")
HOUR_NS = 60 * MINUTE_NS
OPEN_NS, CLOSE_NS = 9 * HOUR_NS + 30 * MINUTE_NS, 16 * HOUR_NS
"""Since midnight."""

Bars = dict[int, tuple[float, ...]]


def midnight(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=NEW_YORK).timestamp()) * 10**9


def loaded(day: str, stream: str) -> BarBlock | TickBlock | QuoteBlock:
    span = midnight(day), midnight(day) + 24 * HOUR_NS
    [block], kinds, bad = load_range(open_source(f"lean:{REAL}"), ("IBM",), *span, stream=stream)
    assert (kinds, bad) == ({"IBM": "rows"}, [])
    assert isinstance(block, BarBlock | TickBlock | QuoteBlock)
    return block


@pytest.fixture(scope="module")
def ticks() -> dict[str, TickBlock]:
    found = {day: loaded(day, "ticks") for day in DAYS}
    return {day: block for day, block in found.items() if isinstance(block, TickBlock)}


@pytest.fixture(scope="module")
def own() -> Bars:
    """Return LEAN's own bars of all days."""
    found: Bars = {}
    for day in DAYS:
        block = loaded(day, "bars")
        assert isinstance(block, BarBlock)
        found |= said(block)
    return found


def said(block: BarBlock) -> Bars:
    columns = (block.open, block.high, block.low, block.close, block.volume)
    values = zip(*(column.tolist() for column in columns), strict=True)
    return dict(zip(block.ts_ns.tolist(), values, strict=True))


def built(ticks: dict[str, TickBlock], rule: Rule) -> Bars:
    found: Bars = {}
    for block in ticks.values():
        found |= said(bars_of_ticks(block, MINUTE_NS, rule))
    return found


def other(one: Bars, two: Bars) -> list[int]:
    """Return the minutes in which two differ, or that only one has."""
    return sorted(ts for ts in one.keys() | two.keys() if one.get(ts) != two.get(ts))


def flags(block: TickBlock) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    values = np.array([int(flags_of(text)) for text in block.conditions], np.int64)
    return values[block.condition]


def exchange(block: TickBlock) -> list[str]:
    return [block.conditions[n].split(" ")[0] for n in block.condition.tolist()]


Mend = Callable[[TickBlock, int], TickBlock]
"""What LEAN does with some ticks of a day, whose midnight is given."""


def closing_print(block: TickBlock, day_ns: int) -> TickBlock:
    """Put the closing print, reported after the close, into the last minute before it."""
    late = (flags(block) & Flag.CLOSING_PRINT > 0) & (block.ts_ns >= day_ns + CLOSE_NS)
    assert late.sum() == 1
    return replace(block, ts_ns=np.where(late, day_ns + CLOSE_NS - 1, block.ts_ns))


def late_opening_print(block: TickBlock, day_ns: int) -> TickBlock:
    """Leave out an opening print that is reported behind the first minute."""
    late = flags(block) & Flag.OPENING_PRINT > 0
    return block.take(~(late & (block.ts_ns >= day_ns + OPEN_NS + MINUTE_NS)))


def other_cross(block: TickBlock, day_ns: int) -> TickBlock:
    """Leave out an opening print of an exchange that the symbol is not listed on."""
    is_other = np.array([name != "N" for name in exchange(block)])
    return block.take(~((flags(block) & Flag.OPENING_PRINT > 0) & is_other))


MENDS: dict[Mend, int] = {closing_print: 10, late_opening_print: 2, other_cross: 1}
"""In how many minutes each of them shows."""


def mended(ticks: dict[str, TickBlock], mends: Sequence[Mend]) -> dict[str, TickBlock]:
    found = dict(ticks)
    for mend in mends:
        found = {day: mend(block, midnight(day)) for day, block in found.items()}
    return found


def test_by_leans_rules_only_the_prints_of_auctions_differ(
    ticks: dict[str, TickBlock], own: Bars
) -> None:
    plain = built(ticks, lean_rule)
    assert (len(own), len(other(plain, own))) == (2_155, 13)
    assert other(built(mended(ticks, list(MENDS)), lean_rule), own) == []
    explained: list[int] = []
    for mend, minutes in MENDS.items():
        rest = [one for one in MENDS if one is not mend]
        shows = other(built(mended(ticks, rest), lean_rule), own)
        assert len(shows) == minutes, mend.__doc__
        explained += shows
    assert sorted(explained) == other(plain, own)


STEPS: Sequence[tuple[str, Flag, int]] = (
    ("as the tape counts", Flag(0), 1_112),
    ("sweeps set no price", Flag.SWEEP, 97),
    (
        "derived and average prices that are exempt set none, other ones all",
        Flag.DERIVATIVELY_PRICED | Flag.STOCK_OPTION | Flag.AVERAGE_PRICE,
        57,
    ),
    ("trades of extended hours set prices whatever else they are", Flag.EXTENDED_HOURS, 19),
    ("trades for cash or the next day set prices", Flag.CASH | Flag.NEXT_DAY, 16),
    ("the opening print is the open", Flag.OPENING_PRINT, 13),
)
"""What LEAN counts otherwise, one after the other, and how many minutes differ by then."""


def test_what_differs_from_the_tape_is_counted_otherwise_by_lean(
    ticks: dict[str, TickBlock], own: Bars
) -> None:
    switched = Flag(0)
    for what, some, left in STEPS:
        switched |= some

        def rule(text: str, switched: Flag = switched) -> Weight:
            return lean_rule(text) if flags_of(text) & switched else tape_rule(text)

        assert len(other(built(ticks, rule), own)) == left, what
        last = rule
    # The rest is the prints of auctions.
    assert other(built(mended(ticks, list(MENDS)), last), own) == []


def test_without_any_rule_half_of_the_minutes_differ(
    ticks: dict[str, TickBlock], own: Bars
) -> None:
    found = built(ticks, all_rule)
    assert (len(found), len(other(found, own))) == (2_157, 1_111)


def lines(day: str, resolution: str) -> Iterator[list[str]]:
    path = REAL / "equity/usa" / resolution / "ibm" / f"{day.replace('-', '')}_quote.zip"
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        yield from csv.reader(io.TextIOWrapper(file, "ascii"))


def own_mids(day: str) -> Bars:
    """Return the mids of LEAN's own bars of quotes; all of them have both sides."""
    found: Bars = {}
    for ms, *texts in lines(day, "minute"):
        values = [int(text) for text in texts]
        mids = [(values[n] / 10_000 + values[n + 5] / 10_000) / 2 for n in range(4)]
        found[midnight(day) + int(ms) * 1_000_000] = (*mids, 0.0)
    return found


def trusted(day: str, block: QuoteBlock) -> QuoteBlock:
    """Leave out the quotes that are suspicious or not of the continuous market."""
    good = np.array([line[6:8] == ["1", "0"] for line in lines(day, "tick")])
    return block.take(good[block.sequence])


def carried(block: QuoteBlock) -> QuoteBlock:
    """Put before the quotes of each minute the one that stood when it began."""
    start = block.ts_ns // MINUTE_NS * MINUTE_NS
    first = np.flatnonzero(start[1:] != start[:-1]) + 1
    stood = replace(block.take(first - 1), ts_ns=start[first])
    # Behind it, for of one time the last quote counts; LEAN's times are whole 100 ns.
    later = replace(block, ts_ns=block.ts_ns + 1)
    order = np.argsort(np.concatenate([np.arange(len(block)), first - 0.5]))
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(later, name), getattr(stood, name)])[order]
        for name in block.columns
    }
    return replace(block, **columns)


def test_bars_of_quotes_differ_by_what_stood_before_them() -> None:
    plain: Bars = {}
    good: Bars = {}
    whole: Bars = {}
    own: Bars = {}
    left_out = 0
    for day in DAYS:
        block = loaded(day, "quotes")
        assert isinstance(block, QuoteBlock)
        some = trusted(day, block)
        left_out += len(block) - len(some)
        own |= own_mids(day)
        plain |= said(bars_of_quotes(block, MINUTE_NS))
        good |= said(bars_of_quotes(some, MINUTE_NS))
        whole |= said(bars_of_quotes(carried(some), MINUTE_NS))
    assert (left_out, len(own), len(other(plain, own))) == (21, 2_853, 1_439)
    assert len(plain.keys() - own.keys()) == 2
    # Suspicious quotes, and the last ones of an exchange, are in no bar of LEAN's.
    assert len(other(plain, good)) == 7
    assert (len(other(good, own)), fields(good, own)) == (1_437, [1_437, 122, 264, 0])
    # Nearly all the rest: LEAN begins a bar with the quote that stood before it.
    rest = other(whole, own)
    # One has none before it: its first quote has one side, and LEAN opens each side by itself.
    assert rest == [midnight(DAYS[0]) + 4 * HOUR_NS]
    assert fields({rest[0]: whole[rest[0]]}, {rest[0]: own[rest[0]]}) == [1, 0, 0, 0]


def fields(one: Bars, two: Bars) -> list[int]:
    """Return how often open, high, low and close of common minutes differ."""
    common = one.keys() & two.keys()
    return [sum(one[ts][n] != two[ts][n] for ts in common) for n in range(4)]
