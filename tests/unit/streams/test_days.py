"""Which trailing sessions there are, what lacks of each, and what is taken of answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock, Command, Coverage
from streams.calendar import sessions_between
from streams.days import Day, is_whole, past_of
from streams.errors import CalendarError
from streams.intervals import MINUTE_NS
from tests.recorded import bars_table, blocks_of, sessions_table

DAY = sessions_between("XNYS", "2024-03-04", "2024-03-04")[0]
MARKET = "synthetic:symbols=6,seed=5"
SYMBOLS = ("SYN0001", "SYN0002", "SYN0003")


def command(**changes: Any) -> Command:
    made = Command(
        version=1,
        action="start",
        run="run-1",
        mode="replay",
        calendar="XNYS",
        start="2024-03-04",
        end="2024-03-08",
        symbols=SYMBOLS,
        streams=("bars",),
        anchor_wall_ns=0,
        trailing_sessions=3,
        historical=("1m", "5m"),
    )
    return replace(made, **changes)


def labels(made: Command) -> list[str]:
    return [session.label for session in past_of(made).sessions]


def covers(symbols: tuple[str, ...], request: str = "q/1", **changes: Any) -> Coverage:
    told = Coverage(symbols, DAY.open_ns, DAY.close_ns, request=request)
    return replace(told, **changes)


def blocks(*symbols: str, request: str = "q/1") -> list[BarBlock]:
    found = blocks_of(MARKET, DAY, symbols)
    return [replace(b, request=request, block=n, source="syn") for n, b in enumerate(found)]


def test_the_trailing_sessions_are_the_last_before_the_run_newest_first() -> None:
    # The first days of March 2024 behind a weekend; Presidents' Day was 19 February.
    assert labels(command()) == ["2024-03-01", "2024-02-29", "2024-02-28"]
    assert labels(command(trailing_sessions=10))[-2:] == ["2024-02-20", "2024-02-16"]
    assert past_of(command()).before_ns == DAY.open_ns


def test_they_are_counted_from_the_first_session_not_from_the_first_day() -> None:
    saturday = command(start="2024-03-02", trailing_sessions=1)
    assert labels(saturday) == ["2024-03-01"]
    assert past_of(saturday).before_ns == DAY.open_ns


def test_they_have_the_hours_of_the_run() -> None:
    (friday,) = past_of(command(trailing_sessions=1, hours="extended")).sessions
    (regular,) = past_of(command(trailing_sessions=1)).sessions
    assert friday.open_ns < regular.open_ns
    assert friday.close_ns > regular.close_ns


@pytest.mark.parametrize("changes", [{"trailing_sessions": 0}, {"historical": ()}])
def test_a_run_that_wants_none_has_none(changes: dict[str, Any]) -> None:
    assert past_of(command(**changes)).sessions == ()


def test_where_the_calendar_begins_there_are_fewer() -> None:
    first = command(calendar="24/7", start="1677-10-15", end="1677-10-20", trailing_sessions=30)
    found = labels(first)
    assert 0 < len(found) < 30
    assert found[0] == "1677-10-14"
    earliest = command(calendar="24/7", start="1677-10-06", end="1677-10-07")
    assert labels(earliest) == []


def test_a_calendar_that_is_none_is_an_error() -> None:
    with pytest.raises(CalendarError, match="no calendar 'NOWHERE'"):
        past_of(command(calendar="NOWHERE"))


@settings(deadline=None, max_examples=25)  # the first look at a calendar takes its time
@given(
    wanted=st.integers(1, 300),
    calendar=st.sampled_from(["XNYS", "24/7", "XTKS", "XSHG"]),
    month=st.integers(1, 12),
)
def test_however_many_are_wanted_no_session_is_left_out(
    wanted: int, calendar: str, month: int
) -> None:
    run = command(calendar=calendar, start=f"2019-{month:02d}-01", end="2019-12-31")
    past = past_of(replace(run, trailing_sessions=wanted))
    assert len(past.sessions) == wanted
    first, last = past.sessions[-1].label, past.sessions[0].label
    assert tuple(reversed(past.sessions)) == sessions_between(calendar, first, last)
    behind = sessions_between(calendar, last, run.end)
    assert behind[1].open_ns == past.before_ns


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"closed": False}, False),
        ({"incomplete": True}, False),
        ({"session": "2024-03-01"}, False),
        ({"open_ns": DAY.open_ns + 1}, False),
        ({"close_ns": DAY.close_ns - 1}, False),
        ({"open_ns": DAY.open_ns - MINUTE_NS, "close_ns": DAY.close_ns + MINUTE_NS}, True),
    ],
)
def test_a_session_is_whole_that_was_played_from_open_to_close(
    changes: dict[str, Any], expected: bool
) -> None:
    assert is_whole(sessions_table([DAY], **changes), DAY) is expected
    assert not is_whole(sessions_table([]), DAY)


def test_a_symbol_that_the_store_has_lacks_nothing_more() -> None:
    day = Day(DAY, SYMBOLS)
    day.store(bars_table(blocks("SYN0001", "SYN0003"), DAY.label), is_whole=True)
    assert day.lacking == ("SYN0002",)
    assert len(day.bars) == 2 * 390
    assert day.bars.source.tolist() == [0] * 780
    assert day.sources == ("store",)


def test_of_a_session_that_is_not_whole_all_symbols_lack_and_its_bars_count() -> None:
    day = Day(DAY, SYMBOLS)
    day.store(bars_table(blocks("SYN0001"), DAY.label), is_whole=False)
    assert day.lacking == SYMBOLS
    assert len(day.bars) == 390


def test_of_the_store_only_rows_of_the_session_and_of_the_shard_count() -> None:
    day = Day(DAY, SYMBOLS)
    day.store(bars_table(blocks("SYN0004"), DAY.label), is_whole=True)
    day.store(bars_table(blocks("SYN0001"), "2024-03-01"), is_whole=True)
    early = replace(DAY, open_ns=DAY.open_ns + 2 * MINUTE_NS, close_ns=DAY.open_ns + 5 * MINUTE_NS)
    assert (len(day.bars), day.lacking) == (0, SYMBOLS)
    shorter = Day(early, SYMBOLS)
    shorter.store(bars_table(blocks("SYN0001"), DAY.label), is_whole=True)
    assert shorter.bars.ts_ns.tolist() == [DAY.open_ns + n * MINUTE_NS for n in (2, 3, 4)]


def test_an_answer_is_taken_and_vouches_for_its_symbols() -> None:
    day = Day(DAY, SYMBOLS)
    sent = blocks(*SYMBOLS)
    for block in sent:
        day.take(block)
    assert set(day.lacking) == set(SYMBOLS)
    day.take(covers(SYMBOLS[:2], blocks=len(sent)))
    assert list(day.lacking) == ["SYN0003"]
    day.take(covers(SYMBOLS[2:], answer="nothing", blocks=len(sent)))
    assert (day.lacking, day.reason) == ((), "")
    assert len(day.bars) == 3 * 390
    assert day.sources == ("store", "syn")


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": "cannot_say"},
        {"blocks": 2},
        {"start_ns": DAY.open_ns + 1},
        {"end_ns": DAY.close_ns - 1},
        {"blocks": 1, "request": "q/2"},
    ],
)
def test_an_answer_that_is_not_whole_vouches_for_nothing(changes: dict[str, Any]) -> None:
    day = Day(DAY, SYMBOLS)
    for block in blocks("SYN0001"):
        day.take(block)
    day.take(covers(SYMBOLS, **{"blocks": 1, **changes}))
    assert day.lacking == SYMBOLS
    assert day.reason == (
        "neither the store nor a source vouches for 3 of 3 symbols: SYN0001, SYN0002, SYN0003"
    )


def test_a_sentence_names_some_symbols_of_many() -> None:
    assert Day(DAY, [f"S{n}" for n in range(9)]).reason.endswith("S0, S1, S2, S3, S4, …")


def test_of_each_symbol_and_minute_one_bar_is_kept_by_revision() -> None:
    day = Day(DAY, SYMBOLS)
    (stored,) = blocks("SYN0001")
    revised = np.zeros(390, np.int32)
    revised[:100] = 3
    day.store(bars_table([replace(stored, revision=revised)], DAY.label), is_whole=False)
    dearer = replace(
        stored, **{name: getattr(stored, name) + 1 for name in ("open", "high", "low", "close")}
    )
    day.take(dearer)
    bars = day.bars
    assert len(bars) == 390
    assert bars.source.tolist() == [0] * 100 + [1] * 290
    assert (bars.close[100:] == stored.close[100:] + 1).all()
    assert (bars.close[:100] == stored.close[:100]).all()


def test_an_answer_that_comes_twice_is_taken_once() -> None:
    once, twice = Day(DAY, SYMBOLS), Day(DAY, SYMBOLS)
    sent = blocks(*SYMBOLS)
    for block in sent:
        once.take(block)
    for block in (*sent, *sent):
        twice.take(block)
    for name in ("symbol", "ts_ns", "close", "revision", "row"):
        assert (getattr(once.bars, name) == getattr(twice.bars, name)).all()


def test_what_is_senseless_or_was_not_asked_for_is_refused_with_its_reason() -> None:
    day = Day(DAY, SYMBOLS)
    day.store(bars_table(blocks("SYN0002"), DAY.label), is_whole=True)
    (block,) = blocks("SYN0001")
    ts, interval = block.ts_ns.copy(), np.full(390, MINUTE_NS)
    low, volume = block.low.copy(), block.volume.copy()
    ts[0] -= MINUTE_NS
    ts[1] = DAY.close_ns
    interval[2] = 5 * MINUTE_NS
    low[3] = block.high[3] + 1
    volume[4] = np.nan
    day.take(replace(block, ts_ns=ts, interval_ns=interval, low=low, volume=volume))
    (of_the_store,) = blocks("SYN0002")
    (of_nobody,) = blocks("SYN0006")
    day.take(of_the_store)
    day.take(of_nobody)
    assert {(reason, len(rows)) for reason, rows in day.refused} == {
        ("the time lies outside the session", 2),
        ("it is not of one minute", 1),
        ("high is below low", 1),
        ("a price or volume is not a number", 1),
        ("it was not asked for", 390),
    }
    assert sum(len(rows) for _, rows in day.refused) == 5 + 2 * 390
    assert np.bincount(day.bars.symbol).tolist() == [385, 390]


def test_a_day_of_which_nothing_is_known_has_no_bars() -> None:
    assert len(Day(DAY, SYMBOLS).bars) == 0
