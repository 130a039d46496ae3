from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Frame, Minutes
from sinks.clickhouse import ClickHouseSink
from sinks.history import open_history
from sinks.minutes import MinuteBook, gap_steps
from sinks.native import Letters, Texts
from sinks.owner import FolderOwner
from sinks.rows import Sessions
from sinks.store import Store
from streams.coverage import Status
from streams.intervals import MINUTE_NS
from streams.letters import LETTERS
from streams.positions import Delivered
from streams.settings import Settings
from tests.frames import Day, Row, Tape, full_day

MINUTES = 6
CELLS = [(minute, symbol) for symbol in ("A", "B") for minute in range(MINUTES)]


def minutes_of(
    day: Day,
    told: Mapping[tuple[int, str], Status],
    *,
    loaded: bool = False,
    requests: Sequence[str] = (),
) -> Minutes:
    """Say of single minutes what is known; of a request each is the last one's."""
    count = len(told)
    starts = np.array([day.open_ns + minute * MINUTE_NS for minute, _ in told], np.int64)
    return Minutes(
        symbols=day.symbols,
        symbol=np.array([day.symbols.index(name) for _, name in told], np.int32),
        ts_ns=starts,
        end_ns=starts + MINUTE_NS,
        status=np.array([int(status) for status in told.values()], np.int32),
        attempt=np.full(count, len(requests), np.int32),
        request=np.full(count, len(requests) - 1, np.int32),
        session=day.label,
        loaded=loaded,
        requests=tuple(requests),
    )


def day_of(
    missing: Sequence[tuple[int, str]], late: Mapping[tuple[int, str], int] | None = None
) -> Day:
    """A day without some bars; some of them come in the slice of a later minute."""
    day = full_day(("A", "B"), MINUTES)
    rows = [
        Row(
            *(day.open_ns + (at + 1) * MINUTE_NS, name, day.open_ns + minute * MINUTE_NS, 9.0),
            is_late=True,
        )
        for (minute, name), at in (late or {}).items()
    ]
    lacking = frozenset((day.open_ns + (m + 1) * MINUTE_NS, name) for m, name in missing)
    return full_day(("A", "B"), MINUTES, missing=lacking, late=rows)


def frames_of(day: Day, cuts: Sequence[int] = ()) -> list[Frame]:
    tape = Tape(cuts={0: cuts})
    tape.start()
    tape.day(day)
    return [item.frame for item in tape.frames[0]]


def read(columns: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return rows of the book by session and symbol."""

    def value(column: Any, row: int) -> Any:
        if isinstance(column, Texts):
            return column.values[column.index[row]]
        if isinstance(column, Letters):
            return column.letters[row].tobytes().decode()
        return column[row].item()

    count = len(columns["shard"]) if columns else 0
    rows = [{name: value(c, row) for name, c in columns.items()} for row in range(count)]
    return {(row["session"], row["symbol"]): row for row in rows}


class Stored:
    """What the book has written, as the store would give it."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}

    def take(self, book: MinuteBook) -> None:
        self.rows |= read(book.rows(0))

    def load(self, run: str, session: str) -> dict[str, tuple[str, int]]:
        return {
            symbol: (row["statuses"], row["clock_ns"])
            for (label, symbol), row in self.rows.items()
            if label == session and row["run"] == run
        }


def folded(frames: Sequence[Frame], restarts: Sequence[int] = ()) -> Stored:
    stored, sessions = Stored(), Sessions()
    book = MinuteBook(stored.load)
    for number, frame in enumerate(frames):
        if number in restarts:
            stored.take(book)
            book = MinuteBook(stored.load)
        sessions.learn(frame)
        book.take(frame, sessions)
    stored.take(book)
    return stored


@settings(deadline=None)
@given(
    fate=st.fixed_dictionaries(
        {cell: st.sampled_from(("t", "t", "f", "m", "n", "g", "late", "late n")) for cell in CELLS}
    ),
    cuts=st.lists(st.integers(1, MINUTES), max_size=3),
    restarts=st.sets(st.integers(2, 8)),
)
def test_every_minute_is_what_the_frames_say(
    fate: Mapping[tuple[int, str], str], cuts: Sequence[int], restarts: set[int]
) -> None:
    fate = {  # what comes late comes before the close
        cell: word if cell[0] < MINUTES - 1 or not word.startswith("late") else "m"
        for cell, word in fate.items()
    }
    status = {"f": Status.FILLED, "n": Status.NO_TRADE, "g": Status.GIVEN_UP}
    status["late n"] = Status.NO_TRADE
    late = {cell: MINUTES - 1 for cell, word in fate.items() if word.startswith("late")}
    day = day_of([cell for cell, word in fate.items() if word not in "tf"], late)
    start, opened, *others = frames_of(day, cuts)
    told = {cell: status[word] for cell, word in fate.items() if word in status}
    opened = replace(opened, minutes=minutes_of(day, told) if told else None)
    rows = folded([start, opened, *others], sorted(restarts)).rows
    for name in day.symbols:
        words = [fate[minute, name] for minute in range(MINUTES)]
        letters = ["f" if word.startswith("late") else word for word in words]
        row = rows[day.label, name]
        assert row["statuses"] == "".join(letters)
        names = {"t": "traded", "f": "filled", "n": "no_trade", "m": "missing", "g": "given_up"}
        for letter, column in names.items():
            assert row[column] == letters.count(letter)
        assert row["expected"] == MINUTES
        good = sum(letters.count(letter) for letter in "tfn")
        assert row["quality"] == pytest.approx(100 * good / MINUTES)


def test_what_is_to_come_counts_when_it_is_over() -> None:
    day = day_of([(1, "A"), (4, "A")])
    _, opened, first, *_ = frames_of(day, [3])
    told = {(1, "A"): Status.REQUESTED, (4, "A"): Status.NO_TRADE}
    before = folded([replace(opened, minutes=minutes_of(day, told))]).rows[day.label, "A"]
    assert (before["expected"], before["quality"]) == (0, 100.0)
    rows = folded([replace(opened, minutes=minutes_of(day, told)), first]).rows
    row = rows[day.label, "A"]
    assert row["statuses"] == "trtpnp"
    assert (row["expected"], row["traded"], row["missing"], row["no_trade"]) == (3, 2, 1, 0)
    assert row["quality"] == pytest.approx(200 / 3)


def test_a_break_is_not_expected() -> None:
    day = day_of([(minute, name) for minute in (2, 3) for name in ("A", "B")] + [(4, "B")])
    frames = [replace(frame, expected=4) for frame in frames_of(day, [1, 3])]
    for at, frame in enumerate(frames):
        inside = (frame.slice_ns > day.open_ns + 2 * MINUTE_NS) & (
            frame.slice_ns <= day.open_ns + 4 * MINUTE_NS
        )
        frames[at] = replace(frame, slice_expected=np.where(inside, 0, frame.slice_expected))
    for restarts in ((), (3, 4)):
        rows = folded(frames, restarts).rows
        assert rows[day.label, "A"]["statuses"] == "tt--tt"
        assert rows[day.label, "B"]["statuses"] == "tt--mt"
        assert (rows[day.label, "B"]["expected"], rows[day.label, "B"]["quality"]) == (4, 75.0)


def test_minutes_after_a_session_was_left_are_missing() -> None:
    frames = frames_of(day_of([]), [2])
    rows = folded([*frames[:3], frames[-1]]).rows
    assert {row["statuses"] for row in rows.values()} == {"ttmmmm"}


def test_a_slice_over_two_frames_is_one() -> None:
    day = day_of([(2, "A")])
    tape = Tape(cuts={0: [3]})
    tape.day(day)
    opened, first, *others = [item.frame for item in tape.frames[0]]
    bars = first.bars
    assert bars is not None
    # The slice of the fourth minute begins in the first frame, and its mark comes in the second.
    second = others[0]
    assert second.bars is not None
    part = second.bars.take(slice(0, 1))
    columns = {
        name: np.concatenate([getattr(bars, name), getattr(part, name)]) for name in bars.columns
    }
    columns["row"] = np.arange(len(bars) + 1, dtype=np.int32)
    begun: dict[str, Any] = {
        name: np.append(getattr(first, name), 1 if name == "slice_rows" else 0).astype(np.int32)
        for name in Frame.__dataclass_fields__
        if name.startswith("slice_") and name != "slice_ns"
    }
    first = replace(
        first,
        rows=first.rows + 1,
        bars=replace(bars, **columns),
        slice_ns=np.append(first.slice_ns, second.slice_ns[0]),
        **begun,
    )
    rest = second.bars.take(slice(1, None))
    second = replace(
        second,
        rows=second.rows - 1,
        bars=replace(rest, row=np.arange(len(rest), dtype=np.int32)),
        slice_rows=second.slice_rows - (np.arange(len(second.slice_rows)) == 0),
        # One is lost, so that the bars are looked at.
        slice_received=second.slice_received - (np.arange(len(second.slice_rows)) == 1),
    )
    rows = folded([opened, first, second, *others[1:]]).rows
    assert rows[day.label, "A"]["statuses"] == "ttmttt"
    assert rows[day.label, "B"]["statuses"] == "tttttt"


def test_symbols_that_come_and_go() -> None:
    day = day_of([])
    _, opened, first, second, *_ = frames_of(day, [3])
    joined = replace(second, symbols=("B", "C"))
    rows = folded([opened, first, joined]).rows
    assert rows[day.label, "A"]["statuses"] == "tttppp"  # it left
    assert rows[day.label, "B"]["statuses"] == "tttttt"
    assert rows[day.label, "C"]["statuses"] == "pppttt"


def test_a_session_whose_beginning_nobody_has_is_left_out() -> None:
    _, _, first, *others = frames_of(day_of([]), [3])
    assert folded([first, *others]).rows == {}


def test_a_late_row_fills_a_minute_of_an_earlier_session() -> None:
    earlier = day_of([(2, "A"), (3, "A")])
    tape = Tape()
    tape.day(earlier)
    late = [
        Row(0, "A", earlier.open_ns + minute * MINUTE_NS, 9.0, is_late=True) for minute in (2, 3)
    ]
    later = full_day(("A", "B"), MINUTES, 1)
    late = [
        replace(row, known_ns=later.open_ns + MINUTE_NS * (n + 1)) for n, row in enumerate(late)
    ]
    tape.cuts = {0: [1]}
    tape.day(full_day(("A", "B"), MINUTES, 1, late=late), roll=True)
    frames = [item.frame for item in tape.frames[0]]
    for restarts in ((), (4,), (4, 5, 6)):
        rows = folded(frames, restarts).rows
        assert rows[earlier.label, "A"]["statuses"] == "ttfftt"
        assert rows[earlier.label, "A"]["filled"] == 2
        assert rows[later.label, "A"]["statuses"] == "tttttt"
    # Where it was never seen, nothing is made up.
    assert set(folded(frames[4:]).rows) == {(later.label, "A"), (later.label, "B")}


def test_steps_stand_as_they_were_told() -> None:
    day = day_of([(1, "B")])
    start, opened, *_ = frames_of(day)
    minutes = minutes_of(day, {(1, "B"): Status.REQUESTED}, requests=("r/1", "r/2"))
    told = replace(opened, event="rows", waiting=True, minutes=minutes, clock_ns=7)
    columns = gap_steps([start, told])
    assert len(columns) == 14
    assert gap_steps([start]) == {}
    assert gap_steps([replace(told, minutes=minutes_of(day, {}))]) == {}


def record(settings: Settings, frames: Sequence[Frame]) -> None:
    """Store frames one by one, and let go of the folder."""
    with FolderOwner(settings):
        sink = ClickHouseSink(Store.open(settings))
        sink.resume({0: None}, {0: 0})
        for number, frame in enumerate(frames):
            sink.write([Delivered(frame, number)])
            sink.flush()
        sink.flush()
        assert not sink.is_behind
        sink.close()


def story(settings: Settings) -> Day:
    """Store a session with a gap that is filled, one that is not, and a run over the same day."""
    first = day_of([(1, "A"), (4, "B")])
    second = day_of([(1, "A"), (2, "A"), (4, "B")])
    frames: list[Frame] = []
    for run, day in (("run-1", first), ("run-2", second)):
        start, opened, *others = frames_of(day, [3])
        found = {(1, "A"): Status.MISSING, (4, "B"): Status.MISSING}
        waiting = replace(opened, event="rows", waiting=True, clock_ns=0, symbols=())
        asked = minutes_of(day, dict.fromkeys(found, Status.REQUESTED), requests=("q/1",))
        said = {(1, "A"): Status.FILLED, (4, "B"): Status.NO_TRADE}
        answered = minutes_of(day, said, requests=("q/1",))
        told = [
            replace(waiting, minutes=minutes_of(day, found, loaded=True)),
            replace(waiting, minutes=asked),
            replace(waiting, minutes=answered),
        ]
        given_up = minutes_of(day, {(2, "A"): Status.GIVEN_UP}, requests=("q/1", "q/9"))
        others[0] = replace(others[0], minutes=given_up if run == "run-2" else None)
        came = [start, *told, replace(opened, minutes=answered), *others]
        frames += [replace(frame, run=run) for frame in came]
    number, row = 0, 0
    for at, frame in enumerate(frames):
        frames[at] = replace(frame, frame=number, first_row=row)
        number, row = number + 1, row + frame.rows
    record(settings, frames)
    return second


def test_gaps_are_told_step_by_step(settings: Settings) -> None:
    day = story(settings)
    history = open_history(settings)
    found = history.gaps(sessions=1)
    assert found.column_names == [
        *("session", "symbol", "start_ns", "end_ns", "status", "attempt", "request", "clock_ns"),
        *("number", "run"),
    ]
    types = [str(field.type) for field in found.schema]
    assert types == [
        *("string", "string", "int64", "int64", "string", "int32", "string", "int64"),
        *("int64", "string"),
    ]
    steps = [
        (
            *(row["symbol"], (row["start_ns"] - day.open_ns) // MINUTE_NS, row["status"]),
            *(row["attempt"], row["request"], row["number"]),
        )
        for row in found.to_pylist()
    ]
    assert steps == [
        ("A", 1, "missing", 0, "", 0),
        ("A", 1, "requested", 1, "q/1", 1),
        ("A", 1, "filled", 1, "q/1", 2),
        ("A", 2, "given_up", 2, "q/9", 3),
        ("B", 4, "missing", 0, "", 0),
        ("B", 4, "requested", 1, "q/1", 1),
        ("B", 4, "no_trade", 1, "q/1", 2),
    ]
    assert set(found["run"].to_pylist()) == {"run-2"}
    assert set(found["session"].to_pylist()) == {day.label}
    assert history.gaps(["B"]).num_rows == 3
    assert history.gaps(["Z"]).num_rows == 0
    assert history.gaps(before_ns=day.open_ns).num_rows == 0


def test_an_open_frame_tells_where_nothing_was_told_before(settings: Settings) -> None:
    day = day_of([(1, "A")])
    _, opened, *_ = frames_of(day)
    opened = replace(opened, minutes=minutes_of(day, {(1, "A"): Status.MISSING}))
    record(settings, [opened])
    assert open_history(settings).gaps()["status"].to_pylist() == ["missing"]


def test_what_an_open_frame_alone_says_is_told_too(settings: Settings) -> None:
    day = day_of([(1, "A"), (2, "A")])
    _, opened, *_ = frames_of(day)
    found = dict.fromkeys([(1, "A"), (2, "A")], Status.MISSING)
    waiting = replace(opened, event="rows", waiting=True, clock_ns=0)
    said = {(1, "A"): Status.MISSING, (2, "A"): Status.NO_TRADE}
    frames = [
        replace(waiting, minutes=minutes_of(day, found, loaded=True)),
        replace(opened, minutes=minutes_of(day, said)),
    ]
    record(settings, [replace(frame, frame=number) for number, frame in enumerate(frames)])
    told = open_history(settings).gaps().to_pylist()
    steps = [((row["start_ns"] - day.open_ns) // MINUTE_NS, row["status"]) for row in told]
    assert steps == [(1, "missing"), (2, "missing"), (2, "no_trade")]


def test_quality_is_of_the_latest_run(settings: Settings) -> None:
    day = story(settings)
    history = open_history(settings)
    found = history.quality(sessions=1).to_pylist()
    assert [(row["session"], row["symbol"], row["statuses"], row["run"]) for row in found] == [
        (day.label, "A", "tfgttt", "run-2"),
        (day.label, "B", "ttttnt", "run-2"),
    ]
    assert found[0] | {"quality": round(found[0]["quality"], 3)} == {
        **{"session": day.label, "symbol": "A", "run": "run-2", "statuses": "tfgttt"},
        **{"expected": 6, "traded": 4, "filled": 1, "no_trade": 0, "missing": 0, "given_up": 1},
        "quality": 83.333,
    }
    assert history.quality(["B"])["quality"].to_pylist() == [100.0]


def test_what_is_to_come_is_pending_in_the_answer(settings: Settings) -> None:
    day = day_of([(4, "A")])
    _, opened, first, *_ = frames_of(day, [3])
    opened = replace(opened, minutes=minutes_of(day, {(4, "A"): Status.NO_TRADE}))
    record(settings, [opened, replace(first, frame=1)])
    assert open_history(settings).quality(["A"])["statuses"].to_pylist() == ["tttppp"]


def test_letters_are_those_that_people_read() -> None:
    assert "".join(LETTERS[status] for status in Status) == "ptnmrfgh"


def letters(store: Store) -> dict[str, str]:
    found = store.rows("SELECT symbol, statuses FROM minutes FINAL")
    return {str(symbol): str(text) for symbol, text in found}


def test_minutes_are_written_now_and_then_and_made_up_for_after_a_crash(settings: Settings) -> None:
    day = day_of([(1, "A"), (4, "B")])
    tape = Tape(cuts={0: [2, 4]}, gap=0)
    tape.start()
    tape.day(day)
    tape.end()
    frames = tape.frames[0]
    now_s = 0.0
    with FolderOwner(settings):
        store = Store.open(settings)
        sink = ClickHouseSink(store, clock=lambda: now_s)
        sink.resume({0: None}, {0: 0})
        for stop, expected in ((3, "tmpppp"), (4, "tmpppp"), (5, "tmpppp")):
            sink.write(frames[stop - 1 : stop] if stop > 3 else frames[:3])
            assert sink.flush() == {0: stop}
            assert letters(store)["A"] == expected
        assert bool(sink.is_behind)
        # It dies here: what is not in the minutes is read again, and no row is there twice.
        again = ClickHouseSink(store, clock=lambda: now_s)
        assert again.resume({0: 5}, {0: 0}) == {0: 3}
        assert ClickHouseSink(store).resume({0: 5}, {0: 4}) == {0: 4}  # that one is deleted
        # Where frames are deleted that no table has, the reader has to see it.
        assert ClickHouseSink(store).resume({0: 5}, {0: 9}) == {0: 5}
        again.write(frames[3:5])
        again.flush()
        assert letters(store) == {"A": "tmtttt", "B": "ttttmt"}
        assert store.rows("SELECT count() FROM bars_as_known FINAL")[0][0] == 10
        behind = []
        for at_s, part in ((1.0, frames[5:6]), (2.0, frames[5:6]), (3.0, frames[6:])):
            now_s = at_s
            again.write(part)
            again.flush()
            behind.append(again.is_behind)
        assert behind == [True, False, False]  # by the time, and by the end of the run
        assert again.resume({0: 7}, {0: 0}) == {0: 7}
        # A topic made anew begins at its start, whatever was folded of the one before.
        assert again.resume({0: None}, {0: 0}) == {0: 0}
        store.close()


def test_minutes_of_sessions_that_are_over_do_not_wait(settings: Settings) -> None:
    """The tape may delete their frames once the sink has committed behind them."""
    tape = Tape(gap=0)
    tape.start()
    tape.day(full_day(("A", "B"), MINUTES), roll=True)
    tape.day(full_day(("A", "B"), MINUTES, 1))
    frames = tape.frames[0]
    rolled = next(number for number, one in enumerate(frames) if one.frame.event == "roll") + 1
    with FolderOwner(settings):
        store = Store.open(settings)
        sink = ClickHouseSink(store, clock=lambda: 0.0)
        sink.resume({0: None}, {0: 0})
        for part in (frames[:1], frames[1:rolled], frames[rolled:]):
            sink.write(part)
            sink.flush()
        assert bool(sink.is_behind)
        assert ClickHouseSink(store).resume({0: len(frames)}, {0: 0}) == {0: rolled}
        store.close()
