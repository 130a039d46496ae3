"""Trailing sessions from chDB, for a replica whose tape no longer keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from sinks.clickhouse import ClickHouseSink
from sinks.history import open_history
from sinks.owner import FolderOwner
from sinks.store import Store
from streams import SessionData, recorded
from streams.client import Batch
from streams.errors import ConfigError, HistoryError
from streams.intervals import MINUTE_NS
from streams.settings import Settings
from tests.frames import Day, Row, full_day, merged, tape_of
from tests.unit.streams.client.answers import answers

DAYS = [full_day(3, 5, number) for number in range(4)]
REVISED = Row(
    DAYS[1].close_ns, "S001", DAYS[1].open_ns + MINUTE_NS, 9.0, 1.0, revision=1, is_late=True
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, namespace="unit-1")


def record(settings: Settings, days: Sequence[Day]) -> None:
    """Store a tape as the sink does, and let go of the folder."""
    with FolderOwner(settings):
        sink = ClickHouseSink(Store.open(settings))
        sink.resume({0: None}, {0: 0})
        sink.write(tape_of(days).frames[0])
        sink.flush()
        sink.close()


def last_session(days: Sequence[Day]) -> list[Batch]:
    batches = merged(tape_of(days))
    opened = max(at for at, batch in enumerate(batches) if batch.event == "open")
    return batches[opened:]


def test_the_sessions_before_the_running_one(settings: Settings) -> None:
    # The store has the session that runs, too, and one behind it.
    record(settings, DAYS)
    days = DAYS[:3]
    early = SessionData(trailing_sessions=2)
    for batch in merged(tape_of(days)):
        early.apply(batch)
    data = SessionData(trailing_sessions=2, history=recorded(settings))
    for batch in last_session(days):
        data.apply(batch)
    assert answers(data, days[0].symbols) == answers(early, days[0].symbols)
    assert list(data.get_historical_bars("S001")) == [date(2024, 1, 1), date(2024, 1, 2)]


def test_bars_are_in_their_final_state(settings: Settings) -> None:
    record(settings, [DAYS[0], full_day(3, 5, 1, late=[REVISED]), DAYS[2]])
    data = SessionData(history=recorded(settings))
    data.apply(last_session(DAYS[:3])[0])
    bars = data.get_historical_bars("S001")[date(2024, 1, 2)]
    assert bars["close"][1] == 9.0
    assert bars["revision"].tolist() == [0, 1, 0, 0, 0]
    assert bars["known_ns"].tolist() == (bars["ts_ns"] + MINUTE_NS).tolist()


def test_before_the_first_session_there_is_none(settings: Settings) -> None:
    record(settings, DAYS[:1])
    data = SessionData(history=recorded(settings))
    data.apply(last_session(DAYS[:1])[0])
    assert data.get_historical_bars("S001") == {}
    # A session of that label is the running one, wherever another calendar has it begin.
    assert list(recorded(settings)(DAYS[0].label, 5, DAYS[0].close_ns)) == []
    assert len(list(recorded(settings)(DAYS[1].label, 5, DAYS[0].close_ns))) == 1


def test_where_nothing_is_recorded_it_says_so(settings: Settings) -> None:
    data = SessionData(history=recorded(settings))
    with pytest.raises(HistoryError, match="nothing is recorded"):
        data.apply(last_session(DAYS)[0])
    with FolderOwner(settings):
        Store.open(settings).close()  # the tables are there, and empty
    with pytest.raises(HistoryError, match="nothing is recorded"):
        data.apply(last_session(DAYS)[0])
    with pytest.raises(ConfigError, match="noon"):
        recorded(settings, interval="noon")


def test_as_known_is_what_was_known_at_the_open_and_when(settings: Settings) -> None:
    late = Row(
        *(DAYS[1].open_ns + 3 * MINUTE_NS, "S002", DAYS[1].open_ns, 7.0, 1.0),
        revision=1,
        is_late=True,
    )
    rows = sorted([*DAYS[1].rows, late, REVISED], key=lambda row: row.order)
    days = [DAYS[0], replace(DAYS[1], rows=tuple(rows)), DAYS[2]]
    record(settings, days)
    early = SessionData(trailing_sessions=2)
    for batch in merged(tape_of(days)):
        early.apply(batch)
    data = SessionData(trailing_sessions=2, history=recorded(settings, view="as_known"))
    for batch in last_session(days):
        data.apply(batch)
    assert answers(data, days[0].symbols) == answers(early, days[0].symbols)
    bars = data.get_historical_bars("S002", 1)[date(2024, 1, 2)]
    assert (bars["close"][0], bars["known_ns"][0]) == (7.0, late.known_ns)
    final = SessionData(trailing_sessions=2, history=recorded(settings))
    for batch in last_session(days):
        final.apply(batch)
    bars = final.get_historical_bars("S002", 1)[date(2024, 1, 2)]
    assert (bars["close"][0], bars["known_ns"][0]) == (7.0, DAYS[1].open_ns + MINUTE_NS)
    with closing(open_history(settings)) as store:
        table = store.bars_as_known(["S002"], "1m", 3, before_ns=late.known_ns - 1)
        assert late.close not in table["close"].to_pylist()
        table = store.bars_as_known(["S002"], "1m", 3)
        of_day = [row for row in table.to_pylist() if row["session"] == days[1].label]
        assert [row["known_ns"] for row in of_day] == sorted(row["known_ns"] for row in of_day)
        assert len(of_day) == 6
        assert {row["run"] for row in of_day} == {"run-1"}


def test_a_view_that_is_none_says_so(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="as_final or as_known, not 'live'"):
        recorded(settings, view="live")  # type: ignore[arg-type]
