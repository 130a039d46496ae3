from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import sinks.store as store_module
from schemas import Minutes
from sinks.clickhouse import ClickHouseSink
from sinks.derived import DerivedSink
from sinks.expiry import expire
from sinks.history import open_history
from sinks.owner import FolderOwner, chdb_folder
from sinks.store import Store
from sinks.store import _steps as steps
from sinks.ticks import TICKS
from streams.errors import ConfigError, HistoryError, HoleError
from streams.intervals import MINUTE_NS
from streams.positions import Delivered
from streams.settings import Settings
from tests.unit.sinks.derived import Longer, frame_of, put
from tests.unit.sinks.frames import (
    DAY_NS,
    FIRST_OPEN_NS,
    BarRow,
    Tape,
    bars_of,
    final_of,
    label,
)
from tests.unit.sinks.ticking import Slice, Told
from tests.unit.sinks.ticking import put as put_ticks

LONGER = ["vwap", "count", "quality"]
NOTHING: dict[int, int | None] = {0: None}


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with FolderOwner(settings):
        opened = Store.open(settings)
        yield opened
        opened.close()


def written(
    store: Store, frames: Sequence[Delivered], committed: dict[int, int | None] | None = None
) -> ClickHouseSink:
    sink = ClickHouseSink(store)
    sink.resume(committed or NOTHING, dict.fromkeys(committed or NOTHING, 0))
    sink.write(frames)
    sink.flush()
    return sink


def missing_on(day: int) -> Minutes:
    """The first minute of the first symbol has no bar."""
    start = np.array([FIRST_OPEN_NS + day * DAY_NS])
    return Minutes(
        symbols=("AAA",),
        symbol=np.zeros(1, np.int32),
        ts_ns=start,
        end_ns=start + MINUTE_NS,
        status=np.array([3], np.int32),
        attempt=np.zeros(1, np.int32),
        request=np.full(1, -1, np.int32),
        session=label(day),
    )


def without_ticks(columns: dict[str, list[object]]) -> dict[str, list[object]]:
    return {name: column for name, column in columns.items() if name not in TICKS}


def final(store: Store) -> list[BarRow]:
    sql = """SELECT symbol, ts_ns, open, high, low, close, volume, revision, session
             FROM bars FINAL ORDER BY symbol, ts_ns"""
    return [BarRow(*row) for row in store.rows(sql)]


def as_known(store: Store) -> list[Any]:
    sql = """SELECT run, shard, row_number, known_ns, interval_ns, source,
             symbol, ts_ns, open, high, low, close, volume, revision, session
             FROM bars_as_known FINAL ORDER BY run, shard, row_number"""
    return [(*row[:6], BarRow(*row[6:])) for row in store.rows(sql)]


def expected_as_known(frames: Sequence[Delivered]) -> list[Any]:
    rows = [
        (f.run, f.shard, number, known_ns, MINUTE_NS, "made", row)
        for f, number, known_ns, row in bars_of(frames)
    ]
    return sorted(rows, key=lambda row: row[:3])


def test_every_column_of_every_bar_arrives_in_both_tables(store: Store) -> None:
    tape = Tape()
    tape.start()
    for day in range(3):
        tape.session(day, price=10.0 + day)
    sink = ClickHouseSink(store)
    assert sink.resume(NOTHING, {0: 0}) == {0: 0}
    sink.write(tape.frames)
    assert sink.flush() == {0: tape.offset}
    assert sink.flush() == {}
    assert len(final(store)) == 3 * 3 * 10
    assert final(store) == final_of(tape.frames)
    assert as_known(store) == expected_as_known(tape.frames)


def test_a_batch_written_again_after_a_crash_changes_nothing(store: Store) -> None:
    tape = Tape()
    tape.start()
    tape.session(0)
    written(store, tape.frames)
    before = final(store), as_known(store)
    # The first process died before its commit; the group stands at offset 1.
    again = ClickHouseSink(store)
    assert again.resume({0: 1}, {0: 0}) == {0: 1}
    again.write(tape.frames[1:])
    again.flush()
    assert (final(store), as_known(store)) == before
    assert store.rows("SELECT count() FROM bars")[0][0] == 60  # it was in fact written twice


def test_a_correction_wins_in_the_final_state_and_stands_beside_as_known(store: Store) -> None:
    tape = Tape()
    tape.session(0, price=10.0)
    tape.correction(0, minute=4, price=99.0)
    written(store, tape.frames)
    assert final(store) == final_of(tape.frames)
    corrected = [row for row in final(store) if row.revision == 1]
    assert [(row.symbol, row.open) for row in corrected] == [("AAA", 99.04)]
    assert as_known(store) == expected_as_known(tape.frames)
    assert len(as_known(store)) == 31


def test_a_correction_of_an_earlier_session_belongs_to_that_session(store: Store) -> None:
    tape = Tape()
    tape.session(0, price=10.0)
    tape.session(1, price=20.0)
    tape.late(playing=1, day=0, minute=3, price=50.0)
    # Also in a process that has not seen the earlier session itself.
    written(store, tape.frames[:8])
    sink = ClickHouseSink(store)
    assert sink.resume({0: 8}, {0: 0}) == {0: 8}
    sink.write(tape.frames[8:])
    sink.flush()
    assert final(store) == final_of(tape.frames)
    assert {row.session for row in final(store) if row.revision} == {label(0)}


def test_a_later_run_wins_over_an_earlier_one_of_the_same_session(store: Store) -> None:
    tape = Tape(run="run-1")
    tape.session(0, price=10.0)
    tape.correction(0, minute=2, price=70.0, revision=3)
    tape.run = "run-2"
    tape.session(0, price=20.0)
    written(store, tape.frames)
    assert final(store) == final_of(tape.frames)
    assert {row.revision for row in final(store)} == {0}
    assert len(as_known(store)) == 61


def test_a_topic_made_anew_wins_though_its_rows_count_from_0(store: Store) -> None:
    first = Tape(run="run-1")
    for day in range(2):
        first.session(day, price=10.0)
    written(store, first.frames)
    second = Tape(run="run-2")
    second.session(1, price=30.0)
    sink = ClickHouseSink(store)
    assert sink.resume({0: None}, {0: 0}) == {0: 0}
    sink.write(second.frames)
    sink.flush()
    assert final(store) == final_of([*first.frames, *second.frames])


def test_the_store_knows_its_position_better_than_the_group(store: Store) -> None:
    tape = Tape()
    tape.session(0)
    written(store, tape.frames)
    # Another sink committed more: what lies between is not in this store.
    assert ClickHouseSink(store).resume({0: 400}, {0: 0}) == {0: 4}
    # A store that is new takes all there is, whatever was committed.
    store.run("TRUNCATE TABLE frames")
    assert ClickHouseSink(store).resume({0: 400}, {0: 7}) == {0: 7}


def test_a_shard_that_was_not_reached_before_the_crash_is_read_from_its_start(
    store: Store,
) -> None:
    tape = Tape(shards=2)
    tape.session(0)
    written(store, tape.frames, {0: 0, 1: 0})
    assert ClickHouseSink(store).resume({0: 4, 1: 0}, {0: 0, 1: 0}) == {0: 4, 1: 0}


def test_frames_deleted_before_the_sink_read_them_are_a_hole(store: Store) -> None:
    tape = Tape()
    for day in range(3):
        tape.session(day)
    written(store, tape.frames[:4])
    sink = ClickHouseSink(store)
    sink.resume({0: None}, {0: 8})
    with pytest.raises(HoleError) as caught:
        sink.write(tape.frames[8:])
    assert (caught.value.expected, caught.value.got) == (4, 8)


def test_two_shards_in_one_batch_keep_their_rows_apart(store: Store) -> None:
    left = Tape(symbols=("AAA", "CCC"), shard=0, shards=2)
    right = Tape(symbols=("BBB",), shard=1, shards=2)
    mixed = [d for pair in zip(left.session(0), right.session(0), strict=True) for d in pair]
    sink = ClickHouseSink(store)
    sink.resume({0: None, 1: None}, {0: 0, 1: 0})
    sink.write(mixed)
    assert sink.flush() == {0: 4, 1: 4}
    assert final(store) == final_of(mixed)
    assert as_known(store) == expected_as_known(mixed)


def test_many_symbols_need_wider_keys_and_still_arrive(store: Store) -> None:
    tape = Tape(symbols=tuple(f"S{n:03d}" for n in range(300)), minutes=2)
    tape.session(0)
    written(store, tape.frames)
    assert final(store) == final_of(tape.frames)


def test_sessions_tell_what_was_expected_and_what_came(store: Store) -> None:
    tape = Tape()
    tape.session(0)
    tape.roll(1)
    written(store, tape.frames)
    sql = """SELECT session, closed, incomplete, rows, bars, expected, received, missing,
             open_ns, close_ns, run FROM sessions ORDER BY session"""
    found = [tuple(row) for row in store.rows(sql)]
    close_ns = FIRST_OPEN_NS + 10 * MINUTE_NS
    assert found == [
        (label(0), True, False, 30, 30, 30, 30, 0, FIRST_OPEN_NS, close_ns, "run-1"),
        (label(1), False, False, 0, 0, 0, 0, 0, FIRST_OPEN_NS + DAY_NS, close_ns + DAY_NS, "run-1"),
    ]


def test_expiry_counts_sessions_of_the_tape_not_dates(store: Store) -> None:
    tape = Tape()
    for day in (40, 5, 6, 0, 1):  # a later replay of earlier days
        tape.session(day)
    written(store, tape.frames)
    assert expire(store, 9) == ()
    assert expire(store, 2) == (label(5), label(6), label(40))
    months = "SELECT DISTINCT partition FROM system.parts WHERE active AND table = 'bars'"
    assert [month for (month,) in store.rows(months)] == ["2013-10"]
    assert {row.session for row in final(store)} == {label(0), label(1)}
    assert len(as_known(store)) == 60
    assert expire(store, 2) == ()


def test_expiry_reaches_every_table(store: Store) -> None:
    tape, five = Tape(), Tape()
    for day in (0, 1, 40):
        opened, *_ = tape.session(day)
        tape.frames[-4] = frame_of(opened, minutes=missing_on(day))
        put(five, day, [Longer("AAA", day, 0, 10)])
        at = day * DAY_NS + 1
        put_ticks(tape, [Slice(at, (), (Told("ticks", 0, at), Told("quotes", 0, at)))], day)
    written(store, tape.frames)
    derived = DerivedSink(store, "unit-1.bars.5m", 5 * MINUTE_NS)
    derived.resume(NOTHING, {0: 0})
    derived.write(five.frames)
    derived.flush()
    tables = [
        str(name)
        for (name,) in store.rows(
            "SELECT table FROM system.columns WHERE database = {d:String} AND name = 'session'",
            {"d": "sessiontape_unit-1"},
        )
        if name != "sessions"  # a view of them
    ]
    assert len(tables) == 11

    def days() -> set[tuple[str, ...]]:
        """Return which sessions each table has: one answer where all have the same."""
        found = (
            store.rows("SELECT DISTINCT session FROM {t:Identifier}", {"t": t}) for t in tables
        )
        return {tuple(sorted(str(row[0]) for row in rows)) for rows in found}

    assert days() == {(label(0), label(1), label(40))}
    assert expire(store, 2) == (label(0),)
    assert days() == {(label(1), label(40))}
    assert expire(store, 1) == (label(1),)
    parts = (
        "SELECT DISTINCT table, partition FROM system.parts WHERE active AND database = {d:String}"
    )
    found = {tuple(row) for row in store.rows(parts, {"d": "sessiontape_unit-1"})}
    assert {month for table, month in found if table in tables} == {label(40)[:7]}


def test_gaps_of_a_session_to_come_do_not_expire(store: Store) -> None:
    tape = Tape(run="run-1")
    for day in (5, 6):
        tape.session(day)
    tape.run = "run-2"
    opened, *_ = tape.session(4)
    tape.frames[-4] = frame_of(opened, minutes=missing_on(6))
    written(store, tape.frames)
    assert expire(store, 1) == (label(5),)
    assert [row[0] for row in store.rows("SELECT session FROM gaps")] == [label(6)]


def test_a_sink_that_keeps_some_sessions_expires_at_the_roll(store: Store) -> None:
    tape = Tape()
    sink = ClickHouseSink(store, keep_sessions=2)
    sink.resume(NOTHING, {0: 0})
    for day in range(3):
        tape.session(day)
        tape.roll(day + 1)
    sink.write(tape.frames)
    sink.flush()
    assert {row.session for row in final(store)} == {label(2)}
    assert sink.resume({0: tape.offset}, {0: 0}) == {0: tape.offset}


def test_the_schema_is_applied_once_and_guarded(settings: Settings) -> None:
    with FolderOwner(settings):
        for _ in range(2):
            store = Store.open(settings)
            assert len(store.rows("SELECT version FROM schema_version")) == 3
            store.close()
        store = Store.open(settings)
        store.insert_rows("schema_version", {"version": [999], "namespace": ["unit-1"]})
        store.close()
        with pytest.raises(HistoryError, match=r"schema version 999.*upgrade sessiontape"):
            Store.open(settings)


def test_a_database_of_another_namespace_is_refused(settings: Settings, store: Store) -> None:
    store.insert_rows("schema_version", {"version": [1], "namespace": ["other"]})
    with pytest.raises(HistoryError, match="belongs to namespace other"):
        Store.open(settings)


def test_a_statement_that_fails_is_an_error_of_ours(store: Store) -> None:
    with pytest.raises(HistoryError, match="refused a statement"):
        store.run("DROP TABLE no_such_table")
    with pytest.raises(HistoryError, match="can't be read"):
        store.rows("SELECT 1 FROM no_such_table")


def test_a_store_of_the_first_version_is_brought_up_to_date(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = Tape()
    for day in range(2):
        tape.session(day)
    with FolderOwner(settings):
        with monkeypatch.context() as patched:
            patched.setattr(store_module, "_steps", lambda: list(steps())[:1])
            old = Store.open(settings)
        assert {row[0] for row in old.rows("SHOW TABLES")} == {
            *("bars", "bars_as_known", "frames", "schema_version", "sessions")
        }
        # The sink of that version wrote bars and frames alone.
        sink = ClickHouseSink(old)
        monkeypatch.setattr(sink, "_insert_minutes", lambda: None)
        rows_of_now = sink._frame_rows
        monkeypatch.setattr(sink, "_frame_rows", lambda taken: without_ticks(rows_of_now(taken)))
        sink.write(tape.frames)
        sink.flush()
        old.close()
        store = Store.open(settings)
        assert final(store) == final_of(tape.frames)
        again = ClickHouseSink(store)
        assert again.resume({0: 8}, {0: 0}) == {0: 8}
        tape.late(playing=1, day=0, minute=3, price=50.0)
        tape.session(2)
        again.write(tape.frames[8:])
        again.flush()
        again.close()
    history = open_history(settings)
    assert len(history.bars(None)) == 90
    assert len(history.sessions()) == 3
    # What was not seen of the sessions before is not made up.
    assert set(history.quality()["session"].to_pylist()) == {label(2)}
    assert len(history.gaps()) == 0


class TestHistory:
    @pytest.fixture(autouse=True)
    def tape(self, settings: Settings) -> Tape:
        tape = Tape()
        tape.start()
        for day in range(4):
            tape.session(day)
        with FolderOwner(settings):
            store = Store.open(settings)
            written(store, tape.frames).close()
        return tape

    def test_bars_of_the_newest_sessions(self, settings: Settings, tape: Tape) -> None:
        history = open_history(settings)
        found = history.bars(["BBB"], "1m", sessions=2)
        assert found.column_names == [
            *("symbol", "interval", "ts_ns", "open", "high", "low", "close", "volume"),
            *("revision", "session", "vwap", "count", "quality"),
        ]
        rows = found.drop_columns(["interval", *LONGER]).to_pylist()
        wanted = [row for row in final_of(tape.frames) if row.symbol == "BBB"][-20:]
        assert [BarRow(**row) for row in rows] == wanted
        assert set(found["interval"].to_pylist()) == {"1m"}
        assert [str(f.type) for f in found.schema] == [
            *("string", "string", "int64", *["double"] * 5, "int32", "string"),
            *("double", "int32", "double"),
        ]
        assert {found[name].null_count for name in LONGER} == {len(found)}
        history.close()

    def test_nothing_that_was_not_over_by_then(self, settings: Settings) -> None:
        cut = FIRST_OPEN_NS + 2 * DAY_NS + 3 * MINUTE_NS
        found = open_history(settings).bars("AAA", 1, sessions=2, before_ns=cut)
        assert set(found["session"].to_pylist()) == {label(1), label(2)}
        assert max(found["ts_ns"].to_pylist()) == cut - MINUTE_NS
        at_open = FIRST_OPEN_NS + 2 * DAY_NS
        found = open_history(settings).bars("AAA", 1, sessions=1, before_ns=at_open)
        assert set(found["session"].to_pylist()) == {label(1)}

    def test_all_symbols_and_no_symbol(self, settings: Settings) -> None:
        history = open_history(settings)
        assert len(history.bars(None, sessions=1)) == 30
        empty = history.bars(["ZZZ"], sessions=1)
        assert (len(empty), empty.num_columns) == (0, 13)
        assert len(history.bars(["AAA"], "5m")) == 0

    def test_sessions(self, settings: Settings) -> None:
        found = open_history(settings).sessions(sessions=2).to_pylist()
        assert [row["session"] for row in found] == [label(2), label(3)]
        assert {row["run"] for row in found} == {"run-1"}
        assert {row["bars"] for row in found} == {30}
        assert {row["closed"] for row in found} == {True}

    def test_a_wrong_question_is_told(self, settings: Settings) -> None:
        with pytest.raises(ConfigError, match="at least 1"):
            open_history(settings).bars(["AAA"], sessions=0)
        with pytest.raises(ConfigError, match="no interval"):
            open_history(settings).bars(["AAA"], "1x")


def test_an_empty_folder_is_told_in_one_sentence(settings: Settings) -> None:
    with pytest.raises(HistoryError, match=r"nothing is recorded in .*unit-1: replay"):
        open_history(settings).bars(["AAA"])
    assert not chdb_folder(settings).exists()
