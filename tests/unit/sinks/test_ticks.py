"""Quotes and ticks in the store: their places against a count one by one, and both tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st

import sinks.ticks as ticks_module
from sinks.clickhouse import ClickHouseSink
from sinks.expiry import expire
from sinks.history import open_history
from sinks.owner import FolderOwner
from sinks.places import Places
from sinks.store import Store
from streams.errors import ConfigError
from streams.positions import Delivered
from streams.settings import Settings
from tests.unit.sinks.frames import DAY_NS, FIRST_OPEN_NS, Tape, label
from tests.unit.sinks.ticking import (
    VALUES,
    Kept,
    Slice,
    Stored,
    Told,
    final_of,
    put,
    rows_of,
)

KINDS = ("quotes", "ticks")
NOTHING: dict[int, int | None] = {0: None}
DAY = DAY_NS


def tick(symbol: int, at: int, value: float = 1.0, revision: int = 0, **more: int) -> Told:
    return Told("ticks", symbol, at, value, revision, **more)


def quote(symbol: int, at: int, value: float = 1.0, revision: int = 0) -> Told:
    return Told("quotes", symbol, at, value, revision)


@st.composite
def tapes(draw: st.DrawFn) -> list[Delivered]:
    """Give the frames of one or two runs over two shards: late rows, revisions, cut slices."""
    left, right = Tape(("A", "C"), shard=0, shards=2), Tape(("B",), shard=1, shards=2)
    found: list[Delivered] = []
    small = st.integers(0, 1)
    sequences = st.sampled_from((-1, -1, 0, 1, 2))
    for run in draw(st.sampled_from((("run-1",), ("run-1", "run-2")))):
        at = 0
        for number in range(draw(st.integers(1, 6))):
            tape = draw(st.sampled_from((left, right)))
            tape.run = run
            at += draw(st.integers(0 if number else 1, 1))  # a slice may go on in the next frame
            slices = []
            for _ in range(draw(st.integers(1, 2))):
                past = st.builds(
                    tick,
                    st.integers(0, len(tape.symbols) - 1),
                    st.integers(0, at - 1),
                    revision=st.integers(0, 2),
                    source=small,
                    sequence=sequences,
                )
                now = st.builds(
                    tick,
                    st.integers(0, len(tape.symbols) - 1),
                    st.just(at),
                    source=small,
                    sequence=sequences,
                )
                late = tuple(draw(st.lists(past, max_size=3)))
                rows = sorted(draw(st.lists(now, max_size=3)), key=lambda row: row.symbol)
                slices.append(Slice(at, late, tuple(rows)))
                at += 1
            at -= 1
            found.append(put(tape, slices))
            if draw(small):
                found.append(put(tape, [Slice(at, (), (quote(0, at),))]))
    return found


@checks(max_examples=150, deadline=None)
@given(st.data())
def test_places_are_those_of_a_count_one_by_one(data: st.DataObject) -> None:
    frames = data.draw(tapes())
    kept, places = Kept(), None
    cuts = sorted({0, *data.draw(st.sets(st.integers(0, len(frames)))), len(frames)})
    for start, end in pairwise(cuts):
        places = places or Places(kept.load)
        kept.take(places, frames[start:end])
        if data.draw(st.booleans()):  # read again, by another one where the first died
            places = Places(kept.load) if data.draw(st.booleans()) else places
            kept.take(places, frames[data.draw(st.integers(0, start)) : end])
    assert {at: (key, place) for at, (key, place, _) in kept.rows.items()} == {
        (frame.run, frame.shard, number): ((row.symbol, row.ts_ns), row.place)
        for frame, number, _, row in rows_of(frames, "ticks")
    }


def test_nothing_is_looked_up_where_nothing_is_late() -> None:
    tape, kept = Tape(("A", "B")), Kept()
    for at in range(5):
        put(
            tape, [Slice(at, (), (tick(0, at), tick(1, at))), Slice(at + 1, (), (tick(0, at + 1),))]
        )
    places = Places(kept.load)
    for item in tape.frames:
        kept.take(places, [item])
    assert kept.looks == 1  # of the first row of all
    assert [place for _, place, _ in kept.rows.values()] == [
        0,
        0,
        0,
        1,
        0,
        0,
        1,
        0,
        0,
        1,
        0,
        0,
        1,
        0,
        0,
    ]


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with FolderOwner(settings):
        opened = Store.open(settings)
        yield opened
        opened.close()


def write(store: Store, batches: Sequence[Sequence[Delivered]], at: int | None = None) -> None:
    """Write batches as one process does that finds ``at`` committed."""
    sink = ClickHouseSink(store)
    sink.resume({0: at}, {0: 0})
    for frames in batches:
        sink.write(frames)
        sink.flush()


def final(store: Store, kind: str) -> list[Stored]:
    return [row for *_, row in read(store, kind, "toString(version), 0, 0, 0", f"{kind} FINAL")]


def as_known(store: Store, kind: str) -> list[tuple[Any, ...]]:
    known = "run, shard, row_number, known_ns"
    return sorted(read(store, kind, known, f"{kind}_as_known FINAL"))


def read(store: Store, kind: str, head: str, table: str) -> list[tuple[Any, ...]]:
    values = ", ".join((*VALUES[kind], *(["condition"] if kind == "ticks" else [])))
    sql = f"""SELECT {head}, symbol, ts_ns, place, sequence, revision, source, session, {values}
              FROM {table} ORDER BY symbol, ts_ns, place"""  # noqa: S608 - names of this module
    return [
        (*row[:4], Stored(row[4], row[5], row[6], tuple(row[11:]), *row[7:11]))
        for row in store.rows(sql)
    ]


def expected_as_known(frames: Sequence[Delivered], kind: str) -> list[tuple[Any, ...]]:
    return sorted(
        (frame.run, frame.shard, number, known_ns, row)
        for frame, number, known_ns, row in rows_of(frames, kind)
    )


def busy(tape: Tape, day: int = 0) -> None:
    """Add a day: bars, rows of one time, a slice over two frames, late rows and a correction."""
    start = day * DAY
    tape.session(day)
    some = (tick(0, start + 5, 1.0), Told("ticks", 0, start + 5, 2.0, condition=1))
    put(
        tape,
        [Slice(start + 5, (), (*some, tick(1, start + 5, 3.0), quote(0, start + 5, 4.0)))],
        day,
    )
    put(tape, [Slice(start + 7, (), (tick(2, start + 7, 5.0),))], day)
    put(tape, [Slice(start + 7, (), (tick(2, start + 7, 6.0), quote(2, start + 7, 7.0)))], day)
    late = (
        tick(0, start + 5, 8.0),
        tick(1, start + 5, 9.0, revision=1),
        quote(0, start + 5, 10, 1),
    )
    put(tape, [Slice(start + 9, late, (Told("ticks", 1, start + 9, 11.0, condition=0),))], day)


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_arrives_in_both_tables_however_batches_are_cut(
    store: Store, kind: str
) -> None:
    tape = Tape()
    busy(tape)
    write(store, [tape.frames[:5], *([one] for one in tape.frames[5:])])
    assert final(store, kind) == final_of(tape.frames, kind)
    assert as_known(store, kind) == expected_as_known(tape.frames, kind)
    assert len(final(store, kind)) < len(as_known(store, kind))


def test_a_correction_takes_the_place_of_what_it_corrects(store: Store) -> None:
    tape = Tape()
    busy(tape)
    write(store, [tape.frames])
    at = {
        (row.symbol, row.place): row.values[0]
        for row in final(store, "ticks")
        if row.ts_ns == FIRST_OPEN_NS + 5
    }
    assert at == {("AAA", 0): 1.0, ("AAA", 1): 2.0, ("AAA", 2): 8.0, ("BBB", 0): 9.0}


def test_a_correction_among_rows_of_one_time_is_told_by_its_number(store: Store) -> None:
    tape = Tape()
    numbered = [tick(0, 5, 1.0 + n, sequence=n) for n in range(3)]
    put(tape, [Slice(5, (), (*numbered, tick(1, 5, 1.0), tick(1, 5, 2.0)))])
    late = (tick(0, 5, 8.0, 1, sequence=1), tick(1, 5, 9.0, 1))
    put(tape, [Slice(6, late)])
    put(tape, [Slice(7, (tick(0, 5, 8.5, 2, sequence=1), tick(0, 5, 7.0, 0, sequence=7)))])
    write(store, [[one] for one in tape.frames])
    found: dict[str, list[float | str]] = {}
    for row in final(store, "ticks"):
        found.setdefault(row.symbol, []).append(row.values[0])
    # Without numbers nothing tells which of two it corrects: then both stay.
    assert found == {"AAA": [1.0, 8.5, 3.0, 7.0], "BBB": [1.0, 2.0, 9.0]}
    assert as_known(store, "ticks") == expected_as_known(tape.frames, "ticks")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("again", range(4, 8))
def test_what_is_written_again_after_a_crash_changes_nothing(
    store: Store, kind: str, again: int
) -> None:
    tape = Tape()
    busy(tape)
    write(store, [tape.frames])
    before = final(store, kind), as_known(store, kind)
    write(store, [tape.frames[again:]], again)
    assert (final(store, kind), as_known(store, kind)) == before
    raw = store.rows("SELECT count() FROM {t:Identifier}", {"t": f"{kind}_as_known"})[0][0]
    assert raw > len(before[1])  # it was in fact written twice


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_plays_the_same_again_doubles_nothing(store: Store, kind: str) -> None:
    tape = Tape(run="run-1")
    busy(tape)
    write(store, [tape.frames])
    rows = len(final(store, kind))
    tape.run = "run-2"
    before = len(tape.frames)
    busy(tape)
    write(store, [tape.frames[before:]], before)
    assert len(final(store, kind)) == rows
    assert final(store, kind) == final_of(tape.frames[before:], kind)
    assert as_known(store, kind) == expected_as_known(tape.frames, kind)


def test_what_came_late_and_what_comes_in_time_are_the_same_rows(store: Store) -> None:
    tape = Tape(run="run-1")
    put(tape, [Slice(5, (), (tick(0, 5, 1.0), tick(0, 5, 3.0)))])
    put(tape, [Slice(6, (tick(0, 5, 2.0),), (tick(0, 6, 4.0),))])
    tape.run = "run-2"
    put(tape, [Slice(5, (), (tick(0, 5, 1.0), tick(0, 5, 2.0), tick(0, 5, 3.0)))])
    write(store, [tape.frames])
    found = [(row.place, row.values[0]) for row in final(store, "ticks")]
    assert found == [(0, 1.0), (1, 2.0), (2, 3.0), (0, 4.0)]


def test_late_rows_of_many_times_are_looked_up_in_parts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks_module, "KEYS_A_LOOK", 2)
    tape = Tape()
    put(tape, [Slice(at, (), (tick(0, at), tick(1, at))) for at in range(4)])
    late = tuple(tick(symbol, at, 2.0) for at in range(4) for symbol in range(2))
    put(tape, [Slice(9, late)])
    write(store, [[one] for one in tape.frames])
    assert {row.place for row in final(store, "ticks")} == {0, 1}
    assert final(store, "ticks") == final_of(tape.frames, "ticks")


def test_a_tick_at_the_close_belongs_to_the_session_that_closes(store: Store) -> None:
    tape = Tape(minutes=1440)  # a market without a night: one session opens as the other closes
    put(tape, [Slice(DAY, (), (tick(0, DAY, 1.0),))], 0)
    put(tape, [Slice(DAY, (), (tick(1, DAY, 2.0),)), Slice(DAY + 9, (tick(2, 3, 3.0),))], 1)
    write(store, [tape.frames])
    found = {row.values[0]: row.session for row in final(store, "ticks")}
    assert found == {1.0: label(0), 2.0: label(1), 3.0: label(0)}


def test_late_at_the_close_of_an_earlier_session(store: Store) -> None:
    tape = Tape(minutes=10)
    _, *_, closed = tape.session(0)
    at_close = closed.frame.close_ns - FIRST_OPEN_NS
    put(tape, [Slice(DAY + 5, (tick(0, at_close),))], 1)
    write(store, [tape.frames])
    assert [row.session for row in final(store, "ticks")] == [label(0)]


def test_sessions_count_the_rows_of_each_kind_and_expire_with_them(store: Store) -> None:
    tape = Tape()
    for day in range(2):
        busy(tape, day)
    write(store, [tape.frames])
    sql = "SELECT session, rows, bars, quotes, ticks FROM sessions ORDER BY session"
    assert [tuple(row) for row in store.rows(sql)] == [
        (label(day), 41, 30, 3, 8) for day in range(2)
    ]
    assert expire(store, 1) == (label(0),)
    for kind in KINDS:
        assert {row.session for row in final(store, kind)} == {label(1)}
        assert {row.session for *_, row in as_known(store, kind)} == {label(1)}


class TestHistory:
    @pytest.fixture(autouse=True)
    def tape(self, settings: Settings) -> Tape:
        tape = Tape()
        for day in range(3):
            busy(tape, day)
        with FolderOwner(settings):
            store = Store.open(settings)
            write(store, [tape.frames])
            store.close()
        return tape

    def test_ticks_and_quotes_in_their_final_state(self, settings: Settings, tape: Tape) -> None:
        history = open_history(settings)
        for kind, found in (("quotes", history.quotes("AAA")), ("ticks", history.ticks("AAA"))):
            names = (*VALUES[kind], *(["condition"] if kind == "ticks" else []))
            assert found.column_names == [
                *("symbol", "ts_ns", "place", *names, "sequence", "revision", "source", "session")
            ]
            wanted = [
                row
                for row in final_of(tape.frames, kind)
                if row.symbol == "AAA" and row.session == label(2)
            ]
            assert wanted
            columns = [found[name].to_pylist() for name in names]
            assert [
                Stored(values=values, **{n: row[n] for n in row if n not in names})
                for row, *values_ in zip(found.to_pylist(), *columns, strict=True)
                for values in (tuple(values_),)
            ] == wanted
        assert str(found.schema.field("place").type) == "int32"

    def test_a_range_of_them(self, settings: Settings, tape: Tape) -> None:
        history = open_history(settings)
        since, before = FIRST_OPEN_NS + DAY + 7, FIRST_OPEN_NS + 2 * DAY + 5
        found = history.ticks(None, sessions=3, before_ns=before, since_ns=since)
        wanted = [r for r in final_of(tape.frames, "ticks") if since <= r.ts_ns <= before]
        assert found["ts_ns"].to_pylist() == [row.ts_ns for row in wanted]
        assert set(found["session"].to_pylist()) == {label(1), label(2)}

    def test_what_was_known_by_then(self, settings: Settings, tape: Tape) -> None:
        history = open_history(settings)
        start = FIRST_OPEN_NS + 2 * DAY
        found = history.ticks(["BBB", "AAA"], before_ns=start + 8, view="as_known").to_pylist()
        assert [(row["symbol"], row["place"], row["price"]) for row in found] == [
            *(("AAA", 0, 1.0), ("AAA", 1, 2.0), ("BBB", 0, 3.0))
        ]
        found = history.ticks("BBB", view="as_known").to_pylist()
        assert [(row["place"], row["price"], row["revision"]) for row in found] == [
            *((0, 3.0, 0), (0, 9.0, 1), (0, 11.0, 0))
        ]
        assert [row["known_ns"] - start for row in found] == [5, 9, 9]
        assert {row["run"] for row in found} == {"run-1"}
        quotes = history.quotes(None, sessions=3, view="as_known")
        assert len(quotes) == len(list(rows_of(tape.frames, "quotes")))

    def test_a_wrong_view_is_told(self, settings: Settings) -> None:
        wrong: Any = "final"
        with pytest.raises(ConfigError, match="'final' is no view: say as_final or as_known"):
            open_history(settings).ticks("AAA", view=wrong)
        with pytest.raises(ConfigError, match="at least 1"):
            open_history(settings).quotes("AAA", sessions=0)
