"""Holes of known size: what is withheld can't be said, all else is as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock
from streams.calendar import sessions_between
from streams.errors import CalendarError, ConfigError
from streams.intervals import MINUTE_NS
from streams.sources import (
    Answer,
    BadRow,
    Part,
    Source,
    load_range,
    open_source,
    withheld,
    withheld_minutes,
)
from streams.sources.withheld import parse

WEEK = sessions_between("XNYS", "2024-07-01", "2024-07-05")  # 3rd: half-day, 4th: holiday
DAY = WEEK[0]
MARKET = open_source("synthetic:symbols=20,seed=3")
SYMBOLS = MARKET.symbols()
SPECS = ("2%@7", "10%@1", "hour@7", "ends", "symbol:SYN0003", "5%@1+ends+hour@2+symbol:SYN0001")

Minute = tuple[str, int]


def minutes(parts: Sequence[Part] | Sequence[BarBlock]) -> set[Minute]:
    return {
        (part.symbols[symbol], int(ts))
        for part in parts
        if isinstance(part, BarBlock)
        for symbol, ts in zip(part.symbol, part.ts_ns, strict=True)
    }


def holes(spec: str, symbols: Sequence[str] = SYMBOLS) -> set[Minute]:
    return {
        (symbol, int(ts))
        for symbol in symbols
        for session in WEEK
        for ts in withheld_minutes(spec, symbol, session)
    }


def unsaid(parts: Sequence[Part], start_ns: int, end_ns: int) -> set[Minute]:
    """The minutes of which the last word is that nothing can be said."""
    said: dict[Minute, bool] = {}
    starts = [int(ts) for s in WEEK for ts in s.starts(MINUTE_NS) if start_ns <= ts < end_ns]
    for answer in parts:
        if isinstance(answer, Answer):
            low, high = (answer.start_ns, answer.end_ns)
            if answer.is_whole:
                low, high = start_ns, end_ns
            for symbol in answer.symbols:
                inside = [ts for ts in starts if low <= ts < high]
                said |= dict.fromkeys(((symbol, ts) for ts in inside), answer.says_nothing)
    return {minute for minute, is_known in said.items() if not is_known}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(SPECS),
    st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=5, unique=True),
    st.integers(-10, 1400),
    st.integers(1, 1400),
)
def test_exactly_the_withheld_minutes_are_gone_and_can_t_be_said(
    spec: str, symbols: list[str], first: int, length: int
) -> None:
    start_ns = DAY.open_ns + first * MINUTE_NS
    end_ns = start_ns + length * MINUTE_NS
    source = withheld(MARKET, spec, "XNYS", "regular")
    parts = list(source.load("bars", symbols, start_ns, end_ns, MINUTE_NS))
    everything = minutes(list(MARKET.load("bars", symbols, start_ns, end_ns, MINUTE_NS)))
    gone = {m for m in holes(spec, symbols) if start_ns <= m[1] < end_ns}
    assert minutes(parts) == everything - gone
    assert unsaid(parts, start_ns, end_ns) == gone


def test_what_is_withheld_can_be_counted() -> None:
    counts = {spec: [len(withheld_minutes(spec, "AIG", s)) for s in WEEK] for spec in SPECS}
    assert counts["hour@7"] == [60, 60, 60, 60]
    assert counts["ends"] == [2, 2, 2, 2]
    assert counts["symbol:SYN0003"] == [0, 0, 0, 0]
    assert [len(withheld_minutes("symbol:AIG", "AIG", s)) for s in WEEK] == [390, 390, 210, 390]
    many = [f"S{n}" for n in range(200)]
    share = np.mean([len(withheld_minutes("2%@7", s, DAY)) / 390 for s in many])
    assert 0.018 < share < 0.022


def test_an_hour_is_a_whole_one_and_differs_by_symbol_session_and_seed() -> None:
    def hour(spec: str, symbol: str, number: int) -> int:
        found = withheld_minutes(spec, symbol, WEEK[number])
        assert (np.diff(found) == MINUTE_NS).all()
        first, rest = divmod(int(found[0]) - WEEK[number].open_ns, 60 * MINUTE_NS)
        assert rest == 0
        return first

    chosen = [hour("hour@7", f"S{n}", 0) for n in range(60)]
    assert set(chosen) == set(range(6))  # six whole hours and a half
    assert chosen != [hour("hour@7", f"S{n}", 1) for n in range(60)]
    assert chosen != [hour("hour@8", f"S{n}", 0) for n in range(60)]
    assert chosen == [hour("hour@7", f"S{n}", 0) for n in range(60)]


def test_another_seed_is_another_choice() -> None:
    one, two = (set(withheld_minutes(f"10%@{seed}", "AIG", DAY).tolist()) for seed in (1, 2))
    assert one != two
    assert set(withheld_minutes("10%@1+10%@2", "AIG", DAY).tolist()) == one | two


@dataclass
class Told:
    """A source that gives what it was told to."""

    parts: Sequence[Part]
    name: str = "told"

    def symbols(self) -> tuple[str, ...]:
        return ("A", "B")

    def sessions(self) -> tuple[str, str] | None:
        return ("2024-07-01", "2024-07-05")

    def load(self, *_: object) -> Iterator[Part]:
        yield from self.parts


def test_all_else_is_as_the_other_source_says_it() -> None:
    bad = BadRow("x", 1, "no row")
    early = (DAY.open_ns, DAY.open_ns + 2 * MINUTE_NS)
    said: list[Part] = [Answer(("A",), "nothing"), bad]
    said.append(Answer(("B", "X"), "rows", *early, vouched=True))
    source: Source = withheld(Told(said), "ends", "XNYS", "regular")
    assert isinstance(source, Source)
    assert (source.name, source.symbols()) == ("told", ("A", "B"))
    assert source.sessions() == ("2024-07-01", "2024-07-05")
    parts = list(source.load("bars", ("A", "B"), DAY.open_ns, DAY.close_ns, MINUTE_NS))
    first = (DAY.open_ns, DAY.open_ns + MINUTE_NS)
    assert parts == [
        said[0],
        Answer(("A",), "cannot_say", *first),
        Answer(("A",), "cannot_say", DAY.close_ns - MINUTE_NS, DAY.close_ns),
        bad,
        said[2],
        Answer(("B",), "cannot_say", *first),
    ]


def test_rows_outside_of_every_session_stay() -> None:
    source = withheld(open_source("synthetic:symbols=2,calendar=24/7"), "100%@1", "XNYS", "regular")
    blocks, _, _ = load_range(source, ("SYN0001",), DAY.close_ns, WEEK[1].open_ns)
    assert sum(map(len, blocks)) == (WEEK[1].open_ns - DAY.close_ns) // MINUTE_NS
    blocks, _, _ = load_range(source, ("SYN0001",), DAY.open_ns - MINUTE_NS, DAY.close_ns)
    assert minutes(blocks) == {("SYN0001", DAY.open_ns - MINUTE_NS)}


def test_a_whole_symbol_is_not_asked_for() -> None:
    source = withheld(Told([BadRow("x", 0, "asked")]), "symbol:A", "XNYS", "regular")
    parts = list(source.load("bars", ("A",), DAY.open_ns, DAY.close_ns, MINUTE_NS))
    assert parts == [Answer(("A",), "cannot_say")]


def test_breaks_part_what_is_withheld() -> None:
    [tokyo] = sessions_between("XTKS", "2024-03-04", "2024-03-04")
    market = open_source("synthetic:symbols=1,calendar=XTKS")
    source = withheld(market, "100%@1", "XTKS", "regular")
    parts = list(source.load("bars", ("SYN0001",), tokyo.open_ns, tokyo.close_ns, MINUTE_NS))
    [(start, end)] = tokyo.breaks
    assert [(p.start_ns, p.end_ns) for p in parts[1:] if isinstance(p, Answer)] == [
        (tokyo.open_ns, start),
        (end, tokyo.close_ns),
    ]


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "2%",
        "2@7",
        "101%@1",
        "x%@1",
        "2%@-1",
        "hour",
        "hour@x",
        "ends@1",
        "symbol:",
        "2%@7+",
        "+",
    ],
)
def test_a_spec_that_is_none_is_one_sentence(spec: str) -> None:
    with pytest.raises(
        ConfigError, match=r"is none of 2%@7, hour@7, ends and symbol:AIG"
    ) as caught:
        parse(spec)
    assert repr(spec) in str(caught.value)


def test_hours_and_calendars_that_are_none_are_said_at_once() -> None:
    with pytest.raises(CalendarError, match="NOWHERE"):
        withheld(MARKET, "ends", "NOWHERE", "regular")
    with pytest.raises(CalendarError, match="are no hours"):
        withheld(MARKET, "ends", "XNYS", "late")
