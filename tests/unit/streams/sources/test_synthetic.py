"""The synthetic market: real-looking, the same however it is asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock
from streams.calendar import Session, sessions_between
from streams.errors import CalendarError, ConfigError
from streams.intervals import MINUTE_NS
from streams.sources import Answer, load_range, open_source
from streams.sources.synthetic import SyntheticSource, _patterns

WEEK = sessions_between("XNYS", "2024-07-01", "2024-07-05")  # 3rd: half-day, 4th: holiday
DAY = WEEK[0]
FIELDS = ("ts_ns", "open", "high", "low", "close", "volume")


def rows(
    source: Any, symbols: Sequence[str], start_ns: int, end_ns: int
) -> dict[tuple[str, int], tuple[float, ...]]:
    blocks, _, _ = load_range(source, symbols, start_ns, end_ns)
    return {
        (block.symbols[s], int(ts)): tuple(values)
        for block in blocks
        for s, ts, *values in zip(block.symbol, *(getattr(block, f) for f in FIELDS), strict=True)
    }


def column(source: Any, symbol: str, name: str, session: Session = DAY) -> Any:
    blocks, _, _ = load_range(source, (symbol,), session.open_ns, session.close_ns)
    return np.concatenate([getattr(block, name) for block in blocks])


def test_it_has_500_symbols_and_every_minute_of_every_session() -> None:
    source = open_source("synthetic:")
    assert len(source.symbols()) == 500
    assert source.sessions() is None
    assert source.name == "synthetic"
    blocks, kinds, bad = load_range(source, source.symbols(), DAY.open_ns, DAY.close_ns)
    assert set(kinds.values()) == {"rows"}
    assert len(kinds) == 500
    assert not bad
    assert sum(map(len, blocks)) == 500 * 390
    for block in blocks:
        assert len(block.symbols) > 1
        for n in range(len(block.symbols)):
            assert (block.ts_ns[block.symbol == n] == DAY.starts(MINUTE_NS)).all()


@pytest.mark.parametrize(("label", "minutes"), [("2024-07-02", 390), ("2024-07-03", 210)])
def test_half_days_come_from_the_calendar(label: str, minutes: int) -> None:
    [session] = [s for s in WEEK if s.label == label]
    assert len(column(open_source("synthetic:"), "SYN0001", "close", session)) == minutes


def test_there_is_nothing_on_a_holiday() -> None:
    blocks, kinds, _ = load_range(
        open_source("synthetic:"), ("SYN0001",), WEEK[2].close_ns, WEEK[3].open_ns
    )
    assert (blocks, kinds) == ([], {"SYN0001": "nothing"})


@pytest.mark.parametrize("calendar", ["XNYS", "24/7", "XTKS"])
def test_bars_are_consistent_and_continuous(calendar: str) -> None:
    source = open_source(f"synthetic:symbols=40,calendar={calendar}")
    for symbol in source.symbols()[::8]:
        last = None
        for session in sessions_between(calendar, "2024-07-01", "2024-07-05"):
            o, h, low, c, v = (column(source, symbol, f, session) for f in FIELDS[1:])
            assert (h >= np.maximum(o, c)).all()
            assert (low <= np.minimum(o, c)).all()
            assert (low > 0).all()
            assert (v >= 1).all()
            assert (v == np.rint(v)).all()
            for prices in (o, h, low, c):
                assert (prices == np.rint(prices * 100) / 100).all()
            assert (o[1:] == c[:-1]).all()
            if last is not None:
                gap = abs(o[0] / last - 1)
                assert gap < 0.15  # a holiday lies between: the walk goes on without us
            last = c[-1]


def test_sessions_that_follow_each_other_are_continuous_to_the_tick() -> None:
    source = open_source("synthetic:symbols=20")
    for symbol in source.symbols():
        first, second = (
            column(source, symbol, f, s) for f, s in zip(("close", "open"), WEEK[:2], strict=True)
        )
        assert first[-1] == second[0]


def test_volume_is_high_at_the_ends_of_a_session() -> None:
    blocks, _, _ = load_range(
        source := open_source("synthetic:"), source.symbols(), DAY.open_ns, DAY.close_ns
    )
    volume = np.concatenate([block.volume for block in blocks]).reshape(500, 390)
    share = (volume / volume.sum(axis=1, keepdims=True)).mean(axis=0)
    assert share[:20].mean() > 2 * share[180:210].mean() < share[-20:].mean()


def test_paths_differ_and_returns_are_those_of_shares() -> None:
    blocks, _, _ = load_range(
        source := open_source("synthetic:"), source.symbols(), DAY.open_ns, DAY.close_ns
    )
    close = np.concatenate([block.close for block in blocks]).reshape(500, 390)
    assert len(np.unique(close, axis=0)) == 500
    days = np.log(close[:, -1] / close[:, 0])
    assert 0.008 < days.std() < 0.03
    assert abs(np.corrcoef(np.diff(np.log(close), axis=1))).mean() < 0.35


WANTED = ("SYN0003", "SYN0011", "SYN0030")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([f"SYN{n:04d}" for n in range(1, 41)]), unique=True, max_size=40),
    st.lists(st.integers(DAY.open_ns, WEEK[-1].close_ns), max_size=4),
)
def test_a_row_is_the_same_whatever_is_asked_together_and_however_it_is_cut(
    others: list[str], cuts: list[int]
) -> None:
    source = open_source("synthetic:symbols=40,seed=9,missing=0.05")
    alone = {
        key: value
        for symbol in WANTED
        for key, value in rows(source, (symbol,), DAY.open_ns, WEEK[-1].close_ns).items()
    }
    edges = sorted({DAY.open_ns, WEEK[-1].close_ns, *cuts})
    symbols = list(dict.fromkeys([*others, *WANTED]))
    together: dict[tuple[str, int], tuple[float, ...]] = {}
    for start_ns, end_ns in pairwise(edges):
        part = rows(source, symbols, start_ns, end_ns)
        assert not part.keys() & together.keys()
        together |= part
    assert {k: v for k, v in together.items() if k[0] in WANTED} == alone


def test_it_is_the_same_in_every_version_of_numpy_and_on_every_machine() -> None:
    source = open_source("synthetic:seed=7")
    close = column(source, "SYN0042", "close")
    volume = column(source, "SYN0042", "volume")
    assert list(close[:4]) == CLOSES
    assert list(volume[:4]) == VOLUMES


CLOSES = [16.16, 16.2, 16.19, 16.18]
VOLUMES = [6164.0, 42144.0, 25541.0, 4630.0]


def test_another_seed_is_another_market() -> None:
    one, two = (column(open_source(f"synthetic:seed={n}"), "SYN0001", "close") for n in (1, 2))
    assert (one != two).all()


def test_missing_minutes_are_about_their_share_and_always_the_same() -> None:
    source = open_source("synthetic:symbols=50,missing=0.1")
    blocks, kinds, _ = load_range(source, source.symbols(), DAY.open_ns, DAY.close_ns)
    share = 1 - sum(map(len, blocks)) / (50 * 390)
    assert 0.08 < share < 0.12
    assert set(kinds.values()) == {"rows"}
    full = rows(open_source("synthetic:symbols=50"), ("SYN0009",), DAY.open_ns, DAY.close_ns)
    some = rows(source, ("SYN0009",), DAY.open_ns, DAY.close_ns)
    assert some.items() < full.items()


@pytest.mark.parametrize(
    ("options", "vouched"), [("", True), ("vouch=1", True), ("vouch=0", False)]
)
def test_it_vouches_for_missing_minutes_unless_told_not_to(options: str, vouched: bool) -> None:
    source = open_source(f"synthetic:{options}")
    *_, answer = source.load("bars", ("SYN0001",), DAY.open_ns, DAY.close_ns, MINUTE_NS)
    assert answer == Answer(("SYN0001",), "rows", vouched=vouched)
    assert isinstance(answer, Answer)
    assert answer.says_nothing == vouched
    assert answer.is_whole


def test_bad_rows_make_no_sense_in_three_ways_and_stand_for_good_ones() -> None:
    source = open_source("synthetic:symbols=50,bad=0.05")
    blocks, _, _ = load_range(source, source.symbols(), DAY.open_ns, DAY.close_ns)
    o, h, low, c = (np.concatenate([getattr(b, f) for b in blocks]) for f in FIELDS[1:5])
    kinds = (np.isnan(c), (h < low), low < 0)
    for kind in kinds:
        assert 0.01 < kind.mean() < 0.03
    assert 0.04 < np.logical_or.reduce(kinds).mean() < 0.06
    assert len(o) == 50 * 390


def test_late_rows_come_behind_all_others_before_the_answer() -> None:
    source = open_source("synthetic:symbols=50,late=0.05")
    parts = list(source.load("bars", source.symbols(), DAY.open_ns, DAY.close_ns, MINUTE_NS))
    blocks = parts[:-1]
    assert sum(len(b) for b in blocks if isinstance(b, BarBlock)) == 50 * 390
    late = rows(source, source.symbols(), DAY.open_ns, DAY.close_ns)
    assert late == rows(
        open_source("synthetic:symbols=50"), source.symbols(), DAY.open_ns, DAY.close_ns
    )
    assert len(blocks) == 2 * len(
        load_range(
            open_source("synthetic:symbols=50"), source.symbols(), DAY.open_ns, DAY.close_ns
        )[0]
    )


@pytest.mark.parametrize(
    ("stream", "symbol", "interval_ns"),
    [
        ("quotes", "SYN0001", MINUTE_NS),
        ("bars", "IBM", MINUTE_NS),
        ("bars", "SYN0001", 5 * MINUTE_NS),
    ],
)
def test_what_it_does_not_have_it_cannot_say(stream: str, symbol: str, interval_ns: int) -> None:
    parts = list(SyntheticSource().load(stream, (symbol,), DAY.open_ns, DAY.close_ns, interval_ns))
    assert [(p.symbols, p.kind) for p in parts] == [((symbol,), "cannot_say")]  # type: ignore[union-attr]


def test_an_empty_range_has_nothing() -> None:
    _, kinds, _ = load_range(SyntheticSource(), ("SYN0001",), DAY.open_ns, DAY.open_ns)
    assert kinds == {"SYN0001": "nothing"}


def test_a_slow_source_waits_before_each_session() -> None:
    source = open_source("synthetic:symbols=1,delay_ms=30")
    start = time.monotonic()
    load_range(source, source.symbols(), WEEK[0].open_ns, WEEK[1].close_ns)
    assert time.monotonic() - start >= 0.06


def test_it_goes_back_before_1970() -> None:
    [session] = sessions_between("XNYS", "1955-03-01", "1955-03-01")
    assert len(column(open_source("synthetic:missing=0.01"), "SYN0001", "close", session)) > 300


def test_years_outside_the_calendar_are_empty_but_a_wrong_calendar_is_an_error() -> None:
    korea = open_source("synthetic:calendar=XKRX")  # known from 1986 on
    assert load_range(korea, ("SYN0001",), 0, MINUTE_NS)[1] == {"SYN0001": "nothing"}
    with pytest.raises(CalendarError, match="NOWHERE"):
        load_range(
            open_source("synthetic:calendar=NOWHERE"), ("SYN0001",), DAY.open_ns, DAY.close_ns
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("symbols=0", "symbols=0 has to be a number from 1 to 100000"),
        ("symbols=1.5", "symbols=1.5 has to be a whole number"),
        ("missing=2", "missing=2 has to be a number from 0 to 1"),
        ("missing=x", "missing=x has to be"),
        ("vouch=2", "vouch=2 has to be a number from 0 to 1"),
        ("colour=red", "'colour=red' is no option: .* keys are symbols, seed"),
        ("seed", "'seed' is no option"),
        ("seed=1,seed=2", "'seed=2' stands twice"),
    ],
)
def test_a_wrong_option_is_named(options: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(f"synthetic:{options}")


def test_it_takes_at_most_150_ns_a_bar() -> None:
    source = open_source("synthetic:")
    symbols = source.symbols()
    load_range(source, symbols, DAY.open_ns, DAY.close_ns)
    best = 1e9
    for session in WEEK * 3:
        _patterns.cache_clear()
        start = time.process_time()
        blocks, _, _ = load_range(source, symbols, session.open_ns, session.close_ns)
        best = min(best, (time.process_time() - start) / sum(map(len, blocks)) * 1e9)
    assert best < 150
