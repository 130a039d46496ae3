"""SessionData: what readers get, whole and unchanging, while one thread writes."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import QuoteColumns
from streams import SessionData, get_session_data, reset_session_data
from streams.client import Batch, Position, Trailing
from streams.client.rows import bar_rows
from streams.errors import ConfigError
from streams.intervals import MINUTE_NS
from tests.frames import (
    DAY_NS,
    OPEN_NS,
    Day,
    Row,
    bar_columns,
    full_day,
    merged,
    tape_of,
)
from tests.unit.streams.client.answers import answers


def data_of(*days: Day, cuts: Iterable[int] = (), **arguments: Any) -> SessionData:
    data = SessionData(**arguments)
    for batch in merged(tape_of(days, cuts={0: tuple(cuts)})):
        data.apply(batch)
    return data


def at_minute(minute: int, day: int = 0) -> int:
    return OPEN_NS + day * DAY_NS + minute * MINUTE_NS


def test_the_names_that_people_move_from_are_there() -> None:
    """Names, the place of their arguments, and intervals as ``5`` or ``"5m"``."""
    expected = {
        "get_latest_bar": ["symbol", "interval"],
        "get_last_n_bars": ["symbol", "n", "interval"],
        "get_bars_since": ["symbol", "timestamp", "interval"],
        "get_bar_count": ["symbol", "interval"],
        "get_latest_bars_multi": ["symbols", "interval"],
        "get_session_metrics": ["symbol"],
        "get_historical_bars": ["symbol", "days_back", "interval"],
        "get_all_bars_including_historical": ["symbol", "interval"],
        "get_quality_metric": ["symbol", "interval"],
        "get_bars": ["symbol", "interval", "start", "end"],
        "get_latest_quote": ["symbol"],
        "get_current_session_date": [],
        "is_session_active": [],
        "session_ended": [],
        "get_active_symbols": [],
    }
    for name, arguments in expected.items():
        parameters = inspect.signature(getattr(SessionData, name)).parameters.values()
        positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional[1:] == arguments, name
        if "interval" in arguments:
            defaults = {p.name: p.default for p in parameters}
            assert defaults["interval"] == 1


def test_the_process_has_one_replica_until_it_is_reset() -> None:
    before = get_session_data()
    assert before is get_session_data()
    assert reset_session_data() is get_session_data()
    assert get_session_data() is not before


def test_the_bars_of_a_session() -> None:
    day = full_day(3, 5)
    data = data_of(day)
    own = [row for row in day.rows if row.symbol == "S001"]
    bar = data.get_latest_bar("S001")
    assert (bar["ts_ns"], bar["close"], bar.volume) == (
        own[-1].ts_ns,
        own[-1].close,
        own[-1].volume,
    )
    assert bar.known_ns == bar.ts_ns + bar.interval_ns == data.clock_ns
    assert data.get_bar_count("S001") == 5
    assert data.get_last_n_bars("S001", 2)["close"].tolist() == [own[-2].close, own[-1].close]
    assert len(data.get_last_n_bars("S001", 50)) == 5
    assert len(data.get_last_n_bars("S001", 0)) == 0
    since = data.get_bars_since("S001", own[3].ts_ns)
    assert since["close"].tolist() == [row.close for row in own[3:]]
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=own[1].ts_ns // 1000)
    assert len(data.get_bars_since("S001", start)) == 4
    between = data.get_bars("S001", start=own[1].ts_ns, end=own[3].ts_ns)
    assert between["ts_ns"].tolist() == [own[1].ts_ns, own[2].ts_ns]
    assert data.get_bars("S001").dtype.names == data.get_latest_bars().dtype.names
    every = data.get_latest_bars()
    assert data.symbols == ("S000", "S001", "S002")
    assert every["ts_ns"].tolist() == [at_minute(4)] * 3
    assert data.get_latest_bars(["S002", "S001"])["close"][1] == own[-1].close
    multi = data.get_latest_bars_multi(["S001", "nothing"])
    assert multi["S001"] == bar
    assert multi["nothing"] is None
    assert data.get_latest_bars_multi(["S000"], 5) == {"S000": None}


def test_what_is_not_there_is_none_or_empty() -> None:
    for data in (SessionData(), data_of(full_day(2, 3))):
        assert data.get_latest_bar("other") is None
        assert data.get_latest_quote("other") is None
        assert data.get_bar_count("other", "5m") == 0
        assert len(data.get_last_n_bars("other", 3)) == 0
        assert len(data.get_bars("other")) == 0
        assert len(data.get_all_bars_including_historical("other")) == 0
        assert data.get_historical_bars("other") == {}
        assert data.get_quality_metric("other") is None
        assert data.get_latest_bars_multi(["other"]) == {"other": None}
        rows = data.get_latest_bars(["other"])
        assert rows["ts_ns"].tolist() == [0]
        assert np.isnan(rows["close"]).all()
        assert data.get_session_metrics("other") == {
            "symbol": "other",
            "session_volume": 0.0,
            "session_high": None,
            "session_low": None,
            "last_update": None,
            "bar_quality": None,
            "bar_count": 0,
        }
    fresh = SessionData()
    assert fresh.get_current_session_date() is None
    assert fresh.get_active_symbols() == frozenset()
    assert fresh.symbols == ()
    assert fresh.clock_ns == 0
    assert not fresh.is_session_active()
    assert not fresh.session_ended()


@pytest.mark.parametrize("interval", [0, "5", "m", "five", -1])
def test_an_interval_that_is_none_says_so(interval: int | str) -> None:
    data = data_of(full_day(1, 2))
    with pytest.raises(ConfigError, match="is no interval"):
        data.get_latest_bar("S000", interval)
    with pytest.raises(ConfigError, match="is no interval"):
        data.get_quality_metric("S000", interval)


def test_a_time_without_a_zone_says_so() -> None:
    with pytest.raises(ValueError, match="zone"):
        data_of(full_day(1, 2)).get_bars_since("S000", datetime(2024, 1, 1))  # noqa: DTZ001


def test_small_letters_find_the_symbol() -> None:
    data = data_of(full_day(["AIG"], 2))
    assert data.get_latest_bar("aig") == data.get_latest_bar("AIG")
    assert len(data.get_last_n_bars("aig", 1)) == 1
    assert data.get_latest_bars_multi(["aig"])["aig"] == data.get_latest_bar("AIG")
    assert data.get_quality_metric("aig") == 100.0
    assert data.get_session_metrics("aig")["bar_count"] == 2


def test_metrics_and_quality() -> None:
    missing = frozenset({(at_minute(2), "S001"), (at_minute(3), "S001"), (at_minute(3), "S000")})
    day = full_day(3, 5, missing=missing, no_trade=frozenset({(at_minute(4), "S002")}))
    data = data_of(day, cuts=(2, 3))
    own = [row for row in day.rows if row.symbol == "S001"]
    volume = 0.0
    for row in own:
        volume += row.volume
    assert data.get_session_metrics("S001") == {
        "symbol": "S001",
        "session_volume": volume,
        "session_high": max(row.close for row in own) + 1,
        "session_low": min(row.close for row in own) - 1,
        "last_update": at_minute(5),
        "bar_quality": 60.0,
        "bar_count": 3,
    }
    assert data.get_quality_metric("S000", "1m") == 80.0
    assert data.get_quality_metric("S002") == 100.0  # the source vouches that it did not trade


def test_a_symbol_without_any_bar_has_its_quality() -> None:
    gone = frozenset((at_minute(minute + 1), "S000") for minute in range(4))
    assert data_of(full_day(1, 4, missing=gone)).get_quality_metric("S000") == 0.0
    data = data_of(full_day(2, 4, missing=gone))
    assert data.get_quality_metric("S000") == 0.0
    assert data.get_latest_bar("S000") is None
    assert data.get_latest_bars(["S000", "S001"])["ts_ns"].tolist() == [0, at_minute(3)]
    assert data.get_quality_metric("S001") == 100.0


def corrected() -> tuple[Day, list[Row]]:
    holes = frozenset({(at_minute(2), "S001")})
    fill = Row(at_minute(4), "S001", at_minute(1), 11.0, 5.5, 1, is_late=True)
    better = Row(at_minute(5), "S001", at_minute(0), 42.0, 7.7, 2, is_late=True)
    worse = Row(at_minute(5), "S001", at_minute(1), 1.0, 1.0, 0, is_late=True)
    return full_day(3, 5, missing=holes, late=[fill, better, worse]), [fill, better]


@pytest.mark.parametrize("cuts", [(), (1,), (1, 2, 3, 4), (3,), (4,)])
def test_corrections_take_their_place(cuts: tuple[int, ...]) -> None:
    day, (fill, better) = corrected()
    data = data_of(day, cuts=cuts)
    bars = data.get_bars("S001")
    assert bars["ts_ns"].tolist() == [at_minute(minute) for minute in range(5)]
    assert bars["close"][:2].tolist() == [better.close, fill.close]
    assert bars["revision"].tolist() == [2, 1, 0, 0, 0]
    assert bars["known_ns"][:2].tolist() == [at_minute(5), at_minute(4)]
    metrics = data.get_session_metrics("S001")
    volume = 0.0
    for value in bars["volume"].tolist():
        volume += value
    assert metrics["session_volume"] == volume
    assert metrics["session_high"] == 43.0
    assert metrics["bar_count"] == 5
    assert metrics["bar_quality"] == 100.0
    assert data.get_latest_bar("S001").ts_ns == at_minute(4)
    assert data.get_bar_count("S000") == 5


@settings(deadline=None)
@given(
    cuts=st.lists(st.integers(1, 9), max_size=5),
    other=st.lists(st.integers(1, 9), max_size=5),
    seed=st.integers(0, 99),
    shards=st.integers(1, 3),
)
def test_the_way_frames_are_cut_makes_no_difference(
    cuts: list[int], other: list[int], seed: int, shards: int
) -> None:
    rng = np.random.default_rng(seed)
    minutes, symbols = 10, 4
    holes = {
        (at_minute(int(m) + 1), f"S{int(s):03d}")
        for m, s in rng.integers(0, [minutes - 3, symbols], (4, 2))
    }
    late = [
        Row(ns + int(rng.integers(1, 3)) * MINUTE_NS, s, ns - MINUTE_NS, 12.0, 0.1, 1, is_late=True)
        for ns, s in sorted(holes)
    ]
    day = full_day(symbols, minutes, missing=frozenset(holes), late=late, seed=seed)
    states = []
    for n, edges in ((1, cuts), (shards, other)):
        data = SessionData()
        for batch in merged(tape_of([day], n, dict.fromkeys(range(n), edges))):
            data.apply(batch)
        states.append(answers(data, day.symbols))
    assert states[0] == states[1]


def test_trailing_sessions_stay_behind_the_running_one() -> None:
    days = [full_day(2, 3, number) for number in range(5)]
    data = data_of(*days, trailing_sessions=3)
    history = data.get_historical_bars("S001")
    assert list(history) == [date(2024, 1, day) for day in (2, 3, 4)]
    assert list(data.get_historical_bars("S001", 1)) == [date(2024, 1, 4)]
    assert [len(rows) for rows in history.values()] == [3, 3, 3]
    every = data.get_all_bars_including_historical("S001")
    assert every["close"].tolist() == [
        row.close for day in days[1:] for row in day.rows if row.symbol == "S001"
    ]
    assert data_of(*days, trailing_sessions=0).get_historical_bars("S001") == {}


def trailing_of(day: Day, known_by_ns: int) -> Trailing:
    rows = [row for row in day.rows if row.known_ns <= known_by_ns]
    known = np.array([row.known_ns for row in rows], np.int64)
    return Trailing(day.label, day.symbols, bar_columns(rows, day.symbols, ["hand"]), known)


def test_a_late_joiner_answers_as_a_reader_from_the_start_method_by_method() -> None:
    late = Row(at_minute(4, 1), "S001", at_minute(1, 1), 11.0, 5.5, 1, is_late=True)
    holes = frozenset({(at_minute(2, 1), "S001")})
    long = Row(at_minute(5, 0), "S000", at_minute(0), 3.0, 3.0, interval_ns=5 * MINUTE_NS)
    days = [
        full_day(2, 5, 0, late=[long]),
        full_day(3, 5, 1, missing=holes, late=[late]),
        full_day(3, 5, 2),
        full_day(2, 5, 3),
    ]
    asked = []

    def history(before: str, sessions: int, clock_ns: int) -> list[Trailing]:
        asked.append((before, sessions, clock_ns))
        past = [day for day in days if day.label < before]
        return [trailing_of(day, clock_ns) for day in past[-sessions:]]

    whole = merged(tape_of(days))
    opened = max(i for i, batch in enumerate(whole) if batch.event == "open")
    early, joined = SessionData(trailing_sessions=2), SessionData(0, 2, history)
    for at, batch in enumerate(whole):
        early.apply(batch)
        if at >= opened:
            joined.apply(batch)
            assert answers(joined, days[1].symbols) == answers(early, days[1].symbols)
    assert asked == [("2024-01-04", 2, days[3].open_ns)]


def test_the_state_of_the_session() -> None:
    data = SessionData()
    seen = []
    for batch in merged(tape_of([full_day(2, 2), full_day(3, 2, 1)])):
        data.apply(batch)
        seen.append((batch.event, data.is_session_active(), data.session_ended()))
    assert seen == [
        ("start", False, False),
        ("open", True, False),
        ("rows", True, False),
        ("close", False, True),
        ("roll", False, True),
        ("open", True, False),
        ("rows", True, False),
        ("close", False, True),
        ("end", False, True),
    ]
    assert data.get_current_session_date() == date(2024, 1, 2)
    assert data.get_active_symbols() == {"S000", "S001", "S002"}
    assert not data.is_incomplete


def test_an_incomplete_session_says_so() -> None:
    data = SessionData()
    for batch in merged(tape_of([full_day(2, 2)])):
        is_close = batch.event == "close"
        data.apply(replace(batch, incomplete=is_close, reason="late" if is_close else ""))
    assert data.is_incomplete


def test_flags_are_each_readers_own_and_cleared_when_taken() -> None:
    data = SessionData()
    first, second = data.flags(), data.flags()
    batches = merged(
        tape_of([full_day(3, 3, missing=frozenset({(at_minute(1), "S000")}))], cuts={0: [1]})
    )
    data.apply(batches[0])
    data.apply(batches[1])
    assert first.take() == frozenset()
    data.apply(batches[2])
    assert first.take() == {"S001", "S002"}
    assert first.take() == frozenset()
    data.apply(batches[3])
    assert first.take() == {"S000", "S001", "S002"}
    assert second.take() == {"S000", "S001", "S002"}
    assert data.flags().take() == frozenset()


def test_views_never_change_and_cannot_be_written() -> None:
    day, _ = corrected()
    data = SessionData()
    held: list[tuple[Any, bytes]] = []
    for batch in merged(tape_of([day], cuts={0: [1, 2, 3, 4]})):
        data.apply(batch)
        views = (data.get_bars("S001"), data.get_latest_bars(), data.get_last_n_bars("S001", 2))
        held += [(rows, rows.tobytes()) for rows in views]
    assert all(rows.tobytes() == before for rows, before in held)
    for rows, _ in held[-3:]:
        with pytest.raises(ValueError, match="read-only"):
            rows["close"][0] = 1.0


def test_more_bars_than_expected_find_room() -> None:
    day = replace(full_day(2, 60), symbols=("S000", "S001"))
    data = SessionData()
    for batch in merged(tape_of([day], cuts={0: range(1, 60)})):
        data.apply(replace(batch, expected=1))
    assert data.get_bar_count("S001") == 60
    assert data.get_bars("S001")["ts_ns"].tolist() == [at_minute(m) for m in range(60)]


def test_more_bars_than_expected_find_room_behind_corrections() -> None:
    fill = Row(at_minute(4), "S001", at_minute(1), 11.0, 5.5, 1, is_late=True)
    day = full_day(2, 60, missing=frozenset({(at_minute(2), "S001")}), late=[fill])
    more = [
        replace(fill, ts_ns=at_minute(1) + second * 1_000_000_000, known_ns=at_minute(50))
        for second in range(1, 55)
    ]
    day = replace(day, rows=tuple(sorted([*day.rows, *more], key=lambda row: row.order)))
    data = SessionData()
    for batch in merged(tape_of([day], cuts={0: range(1, 60)})):
        data.apply(replace(batch, expected=1))
    assert data.get_bar_count("S001") == 60 + 54
    assert data.get_bar_count("S000") == 60
    ts = data.get_bars("S001")["ts_ns"]
    assert (np.diff(ts) > 0).all()


def test_symbols_that_come_later_stand_behind_the_others() -> None:
    first, then = full_day(["A", "C"], 1), full_day(["A", "B", "C"], 2)
    data = SessionData()
    for batch in merged(tape_of([first]))[:3]:
        data.apply(batch)
    for batch in merged(tape_of([then], cuts={0: [1]}))[3:]:
        data.apply(batch)
    assert data.symbols == ("A", "C", "B")
    assert data.get_latest_bars()["ts_ns"].tolist() == [at_minute(1)] * 3
    assert [data.get_bar_count(name) for name in ("A", "B", "C")] == [2, 1, 2]


def test_other_intervals_on_the_tape_have_bars_of_their_own() -> None:
    long = Row(at_minute(5), "S000", at_minute(0), 3.0, 3.0, interval_ns=5 * MINUTE_NS)
    hour = replace(long, interval_ns=30 * 1_000_000_000, ts_ns=at_minute(5) - 30_000_000_000)
    data = data_of(full_day(2, 5, late=[long, hour]))
    assert data.get_bar_count("S000", 5) == data.get_bar_count("S000", "5m") == 1
    assert data.get_latest_bar("S000", "5m").close == 3.0
    assert data.get_latest_bar("S000", "30s").interval_ns == 30 * 1_000_000_000
    assert data.get_latest_bar("S001", 5) is None
    assert data.get_bar_count("S000", "300s") == 1
    assert data.get_bar_count("S000") == 5


def test_the_last_quote() -> None:
    data = data_of(full_day(2, 2))
    value = np.array([1.0, 2.0, 3.0])
    nought = np.zeros(3, np.int32)
    quotes = QuoteColumns(
        np.arange(3, dtype=np.int32),
        np.array([0, 0, 1], np.int32),
        np.array([5, 6, 7], np.int64),
        *(value, value, value, value, nought, nought),
    )
    day = full_day(2, 2)
    batch = Batch(
        *("run-1", "rows", "replay", day.label, day.open_ns, day.close_ns, day.close_ns),
        position=Position({0: 1}),
        symbols=day.symbols,
        sources=("hand",),
        slice_ns=np.array([day.close_ns]),
        slice_rows=np.array([3], np.int32),
        quotes=quotes,
    )
    data.apply(batch)
    found = data.get_latest_quote("s000")
    assert (found.bid, found["ts_ns"], found.known_ns) == (2.0, 6, day.close_ns)
    assert data.get_latest_quote("S001").ask == 3.0


@pytest.mark.parametrize("as_", ["arrow", "pandas", "polars"])
def test_bars_as_tables_of_other_libraries(as_: Any) -> None:
    data = data_of(full_day(2, 4), full_day(2, 4, 1))
    rows = data.get_bars("S001")
    tables = [
        data.get_bars("S001", as_=as_),
        data.get_last_n_bars("S001", 4, as_=as_),
        data.get_bars_since("S001", 0, as_=as_),
    ]
    for table in tables:
        for name in rows.dtype.names:
            column = table[name]
            values = column.to_pylist() if as_ == "arrow" else column.to_list()
            assert values == rows[name].tolist()
    if as_ == "pandas":
        assert str(tables[0].index.tz) == "UTC"
        assert tables[0].index[0].value == rows["ts_ns"][0]
    assert len(data.get_all_bars_including_historical("S001", as_=as_)) == 8
    assert len(data.get_historical_bars("S001", as_=as_)[date(2024, 1, 1)]) == 4
    assert len(data.get_latest_bars(as_=as_)) == 2
    assert len(data.get_last_n_bars("other", 4, as_=as_)) == 0


def test_an_unknown_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(full_day(1, 2))
    with pytest.raises(ConfigError, match="numpy, arrow, pandas or polars"):
        data.get_bars("S000", as_="excel")  # type: ignore[arg-type]

    def gone(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("streams.client.convert.import_module", gone)
    with pytest.raises(ConfigError, match="pip install pyarrow"):
        data.get_bars("S000", as_="arrow")


def value_at(ts_ns: Any, symbol: int) -> Any:
    return (ts_ns // MINUTE_NS % 10_007) + symbol * 20_000.0


def days_of_known_values(symbols: int, minutes: int, days: int) -> list[Batch]:
    """Days whose every value is a function of start and symbol, with many corrections."""
    batches = []
    for number in range(days):
        day = full_day(symbols, minutes, number)
        late = tuple(
            replace(row, known_ns=row.known_ns + 2 * MINUTE_NS, is_late=True, revision=1)
            for row in day.rows[symbols : -3 * symbols : 97]
        )
        rows = tuple(
            replace(row, close=float(value_at(row.ts_ns, int(row.symbol[1:]))))
            for row in sorted([*day.rows, *late], key=lambda row: row.order)
        )
        batches += merged(tape_of([replace(day, rows=rows)], cuts={0: range(1, minutes)}))
    return batches


class Watcher(threading.Thread):
    """Reads on and on, and notes what is not whole."""

    def __init__(self, data: SessionData, symbols: int, number: int) -> None:
        super().__init__()
        self.data, self.symbols, self.number = data, symbols, number
        self.is_done = threading.Event()
        self.wrong: list[str] = []
        self.reads = 0

    def run(self) -> None:
        rng = np.random.default_rng(self.number)
        while not (self.is_done.is_set() and self.reads) and not self.wrong:
            at = int(rng.integers(0, self.symbols))
            bar = self.data.get_latest_bar(f"S{at:03d}")
            if bar is None:
                continue
            self.check(bar, at)
            self.check(self.data.get_last_n_bars(f"S{at:03d}", 30), at)
            self.check(self.data.get_latest_bars()[at], at)
            self.reads += 1

    def check(self, rows: Any, symbol: int) -> None:
        expected = value_at(rows["ts_ns"], symbol)
        is_right = (
            (rows["close"] == expected)
            & (rows["open"] == expected - 0.5)
            & (rows["high"] == expected + 1)
            & (rows["low"] == expected - 1)
        )
        is_blank = rows["ts_ns"] == 0
        is_ordered = not np.ndim(rows) or bool(np.all(np.diff(rows["ts_ns"]) > 0))
        if not np.all(is_right | is_blank) or not is_ordered:
            self.wrong.append(repr(rows))


def test_reading_while_writing_never_gives_a_torn_bar() -> None:
    """Every value of a bar is a function of its start and symbol: a mix of two bars shows."""
    symbols, minutes = 20, 60
    batches = days_of_known_values(symbols, minutes, 4)
    data = SessionData()
    watchers = [Watcher(data, symbols, number) for number in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for batch in batches:
            data.apply(batch)
    finally:
        for watcher in watchers:
            watcher.is_done.set()
            watcher.join()
    assert [watcher.wrong for watcher in watchers] == [[], [], []]
    assert min(watcher.reads for watcher in watchers) > 0
    assert data.get_bar_count("S000") == minutes


def test_bars_one_by_one_are_the_bars_of_the_batch() -> None:
    day, _ = corrected()
    found = [row for batch in merged(tape_of([day])) for row in bar_rows(batch)]
    assert [(r.symbol, r.ts_ns, r.known_ns, r.is_correction, r.session) for r in found] == [
        (r.symbol, r.ts_ns, r.known_ns, r.is_late, day.label) for r in day.rows
    ]


def test_a_batch_of_corrections_alone() -> None:
    day, _ = corrected()
    data = data_of(day)
    late = [replace(row, known_ns=at_minute(5), is_late=True, revision=9) for row in day.rows[:2]]
    batch = merged(tape_of([day]))[2]
    only = replace(
        batch,
        slice_ns=batch.slice_ns[-1:],
        slice_rows=np.array([2], np.int32),
        slice_corrections=np.array([2], np.int32),
        slice_expected=np.zeros(1, np.int32),
        slice_received=np.zeros(1, np.int32),
        slice_no_trade=np.zeros(1, np.int32),
        slice_missing=np.zeros(1, np.int32),
        bars=bar_columns(late, batch.symbols, batch.sources),
    )
    flags = data.flags()
    data.apply(only)
    assert flags.take() == {"S000", "S001"}
    assert data.get_bars("S000")["revision"].tolist() == [9, 0, 0, 0, 0]
    assert data.get_session_metrics("S000")["last_update"] == at_minute(5)


def test_a_symbol_of_some_sessions_has_history_of_those() -> None:
    data = data_of(full_day(1, 2), full_day(2, 2, 1), full_day(2, 2, 2))
    assert list(data.get_historical_bars("S000")) == [date(2024, 1, 1), date(2024, 1, 2)]
    assert list(data.get_historical_bars("S001")) == [date(2024, 1, 2)]
    assert len(data.get_all_bars_including_historical("S001")) == 4


def test_reading_copies_nothing() -> None:
    data = data_of(full_day(3, 5))
    assert data.get_latest_bars() is data.get_latest_bars()
    bars = data.get_bars("S001")
    assert np.shares_memory(bars, data.get_last_n_bars("S001", 2))
    assert np.shares_memory(bars, data.get_bars_since("S001", at_minute(3)))
    assert np.shares_memory(data.get_latest_bars(), data.get_latest_bar("S001"))
