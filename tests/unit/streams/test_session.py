"""The state of a session, against a fold of its rows one by one in plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarColumns, Frame, Minutes, QuoteColumns, TickColumns
from streams import session
from streams.coverage import Status
from streams.intervals import MINUTE_NS
from streams.latest import Latest
from streams.session import SessionState

SYMBOLS = ("AA", "BB", "CC", "DD")
OPEN_NS = 1_700_000_040 * 1_000_000_000
MINUTES = 8
FIVE_NS = 5 * MINUTE_NS
TICK, QUOTE = 0, -1
LATEST = {
    "tick": {"price": "open", "size": "volume"},
    "quote": {"bid": "low", "bid_size": "volume", "ask": "high", "ask_size": "close"},
}
"""Which of a row's values stand for those of a tick or quote."""
SUMMED = ("open", "high", "low", "close", "volume", "turnover", "bars")


@dataclass(frozen=True)
class Row:
    """A bar, or a tick or quote where ``interval_ns`` says so."""

    symbol: int
    ts_ns: int
    open: float = 10.0
    high: float = 11.0
    low: float = 9.0
    close: float = 10.5
    volume: float = 1.0
    interval_ns: int = MINUTE_NS
    revision: int = 0
    number: int = -1


@dataclass(frozen=True)
class Slice:
    """What comes out at one ready time, in the order of the tape."""

    minute: int
    corrections: tuple[Row, ...] = ()
    rows: tuple[Row, ...] = ()

    @property
    def known_ns(self) -> int:
        return OPEN_NS + self.minute * MINUTE_NS

    @property
    def all(self) -> tuple[Row, ...]:
        return self.corrections + self.rows


def open_frame(symbols: Sequence[str] = SYMBOLS) -> Frame:
    return frame_of((), event="open", symbols=tuple(symbols))


def frame_of(slices: Sequence[Slice], first_row: int = 0, **changes: Any) -> Frame:
    rows = [row for found in slices for row in found.all]
    places = [place for place, row in enumerate(rows) if row.interval_ns > 0]
    fields: dict[str, Any] = {
        "run": "run-1",
        "shard": 0,
        "shards": 1,
        "frame": 0,
        "first_row": first_row,
        "rows": len(rows),
        "clock_ns": slices[-1].known_ns if slices else OPEN_NS,
        "event": "rows",
        "mode": "replay",
        "speed": 0.0,
        "command": 1,
        "session": "2023-11-14",
        "open_ns": OPEN_NS,
        "close_ns": OPEN_NS + MINUTES * MINUTE_NS,
        "open_offset": 0,
        "symbols": SYMBOLS,
        "sources": ("hand",),
        "slice_ns": np.array([found.known_ns for found in slices], np.int64),
        "slice_rows": ints(len(found.all) for found in slices),
        "slice_corrections": ints(len(found.corrections) for found in slices),
        "slice_expected": ints(len(SYMBOLS) for _ in slices),
        "bars": columns(rows, places) if places else None,
        "ticks": latest_columns(rows, "tick", TICK),
        "quotes": latest_columns(rows, "quote", QUOTE),
    }
    return Frame(**(fields | changes))


def columns(rows: Sequence[Row], places: Sequence[int]) -> BarColumns:
    bars = [rows[place] for place in places]
    prices = {
        name: np.array([getattr(bar, name) for bar in bars], np.float64)
        for name in ("open", "high", "low", "close", "volume")
    }
    return BarColumns(
        row=ints(places),
        symbol=ints(bar.symbol for bar in bars),
        ts_ns=np.array([bar.ts_ns for bar in bars], np.int64),
        interval_ns=np.array([bar.interval_ns for bar in bars], np.int64),
        **prices,
        source=ints(0 for _ in bars),
        revision=ints(bar.revision for bar in bars),
    )


def latest_columns(rows: Sequence[Row], kind: str, interval_ns: int) -> Any:
    mine = [(place, row) for place, row in enumerate(rows) if row.interval_ns == interval_ns]
    if not mine:
        return None
    columns: dict[str, Any] = {
        "row": ints(place for place, _ in mine),
        "symbol": ints(row.symbol for _, row in mine),
        "ts_ns": np.array([row.ts_ns for _, row in mine], np.int64),
        "source": ints(0 for _ in mine),
        "revision": ints(row.revision for _, row in mine),
        "sequence": np.array([row.number for _, row in mine], np.int64),
        **{
            name: np.array([getattr(row, of) for _, row in mine], np.float64)
            for name, of in LATEST[kind].items()
        },
    }
    if kind == "quote":
        return QuoteColumns(**columns)
    return TickColumns(**columns, condition=ints(-1 for _ in mine))


def ints(values: Iterable[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(list(values), np.int32)


def folded(slices: Sequence[Slice], cuts: Iterable[int] = ()) -> SessionState:
    """Fold slices, cut into frames behind the slices of these numbers."""
    state = SessionState(open_frame())
    row = 0
    for start, end in pairwise(sorted({0, *cuts, len(slices)})):
        frame = frame_of(slices[start:end], row)
        state.fold(frame)
        row += frame.rows
    return state


def by_hand(slices: Sequence[Slice]) -> list[dict[str, Any]]:
    """Fold the same rows one by one; the values of a table, in the order of the symbols."""
    return [one_by_hand(slices, number) for number in range(len(SYMBOLS))]


def one_by_hand(slices: Sequence[Slice], symbol: int) -> dict[str, Any]:
    bars: dict[int, Row] = {}
    number = last = -1
    updated_ns = None
    for found in slices:
        for row in found.all:
            number += 1
            if row.symbol == symbol and row.interval_ns in {MINUTE_NS, TICK, QUOTE}:
                last = number
            if row.symbol == symbol and row.interval_ns == MINUTE_NS:
                bars[row.ts_ns] = row
                updated_ns = found.known_ns
    ordered = [bars[ts_ns] for ts_ns in sorted(bars)]
    volume = turnover = 0.0
    for bar in ordered:
        volume += bar.volume
        turnover += bar.volume * ((bar.high + bar.low + bar.close) / 3)
    expected = len(slices) * bool(SYMBOLS)
    names = ("ts_ns", "open", "high", "low", "close", "volume")
    return {
        "symbol": SYMBOLS[symbol],
        "bar": {name: getattr(ordered[-1], name) for name in names} if ordered else None,
        "open": ordered[0].open if ordered else None,
        "high": max(bar.high for bar in ordered) if ordered else None,
        "low": min(bar.low for bar in ordered) if ordered else None,
        "close": ordered[-1].close if ordered else None,
        "volume": volume,
        "bars": len(ordered),
        "row": last,
        "vwap": turnover / volume if volume > 0 else None,
        "expected": expected,
        "quality": 100.0 * len(ordered) / expected if expected else 100.0,
        "no_trade": 0,
        "tick": latest_by_hand(slices, symbol, "tick", TICK)[0],
        "quote": latest_by_hand(slices, symbol, "quote", QUOTE)[0],
        "ticks": latest_by_hand(slices, symbol, "tick", TICK)[1],
        "quotes": latest_by_hand(slices, symbol, "quote", QUOTE)[1],
        "updated_ns": {
            "bars": updated_ns,
            "ticks": latest_by_hand(slices, symbol, "tick", TICK)[2],
            "quotes": latest_by_hand(slices, symbol, "quote", QUOTE)[2],
        },
    }


def latest_by_hand(
    slices: Sequence[Slice], symbol: int, kind: str, interval_ns: int
) -> tuple[dict[str, Any] | None, int, int | None]:
    """Return the latest tick or quote, how many there were, and when the last one came."""
    latest: Row | None = None
    count, updated_ns = 0, None
    for found in slices:
        for at, row in enumerate(found.all):
            if (row.symbol, row.interval_ns) != (symbol, interval_ns):
                continue
            is_late = at < len(found.corrections)
            if latest is None or (row.ts_ns, row.number if is_late else latest.number) >= (
                *(latest.ts_ns, latest.number),
            ):
                latest = row
            count += not (is_late and row.revision)
            updated_ns = found.known_ns
    if latest is None:
        return None, count, updated_ns
    values = {name: getattr(latest, of) for name, of in LATEST[kind].items()}
    return {"ts_ns": latest.ts_ns, **values}, count, updated_ns


@st.composite
def bars(draw: st.DrawFn, /, symbol: int, ts_ns: int, **changes: Any) -> Row:
    low, open_, close, high = sorted(draw(st.lists(st.floats(0.01, 1e6), min_size=4, max_size=4)))
    volume = draw(st.just(0.0) | st.floats(0.001, 1e9))
    return Row(symbol, ts_ns, open_, high, low, close, volume, **changes)


def points(times: Sequence[int]) -> st.SearchStrategy[Row]:
    """Give ticks and quotes of some times."""
    value = st.floats(0.01, 1e6)
    return st.builds(
        Row,
        st.integers(0, len(SYMBOLS) - 1),
        st.sampled_from(times),
        *(value, value, value, value, value),
        interval_ns=st.sampled_from((TICK, QUOTE)),
        revision=st.integers(0, 1),
        number=st.sampled_from((-1, 0, 1, 2)),
    )


@st.composite
def tapes(draw: st.DrawFn) -> list[Slice]:
    """Give the slices of a session: holes, late bars, revisions, longer bars and ticks."""
    revisions: dict[tuple[int, int], int] = {}
    found: list[Slice] = []
    some = st.lists(st.sampled_from(range(len(SYMBOLS))), unique=True).map(sorted)
    for minute in range(1, draw(st.integers(1, MINUTES)) + 1):
        ts_ns = OPEN_NS + (minute - 1) * MINUTE_NS
        before = [(OPEN_NS + at * MINUTE_NS, s) for at in range(minute - 1) for s in range(4)]
        picked = draw(st.lists(st.sampled_from(before), unique=True, max_size=3)) if before else []
        corrections = []
        for at_ns, symbol in sorted(picked):
            revision = revisions.get((symbol, at_ns), -1) + 1
            revisions[symbol, at_ns] = revision
            corrections.append(draw(bars(symbol, at_ns, revision=revision)))
        now_ns = ts_ns + MINUTE_NS
        if minute > 1:
            corrections += draw(st.lists(points(range(OPEN_NS, now_ns, MINUTE_NS)), max_size=3))
        rows = draw(st.lists(points([now_ns]), max_size=4))
        for symbol in draw(some):
            revisions[symbol, ts_ns] = 0
            rows.append(draw(bars(symbol, ts_ns)))
        if minute % 5 == 0:
            start_ns = OPEN_NS + (minute - 5) * MINUTE_NS
            rows += [draw(bars(s, start_ns, interval_ns=FIVE_NS)) for s in draw(some)]
        found.append(Slice(minute, tuple(corrections), tuple(rows)))
    return found


def cuts_of(slices: Sequence[Slice]) -> st.SearchStrategy[set[int]]:
    return st.sets(st.integers(1, len(slices)))


def arrays_of(state: SessionState) -> Iterator[tuple[str, bytes]]:
    for name in (*SUMMED, "row", "updated_ns"):
        yield name, getattr(state, name).tobytes()
    for name, column in state.last.items():
        yield f"last {name}", column.tobytes()
    for kind in ("ticks", "quotes"):
        latest: Latest = getattr(state, kind)
        columns = {**latest.columns, "count": latest.count, "updated_ns": latest.updated_ns}
        for name, column in columns.items():
            yield f"{kind} {name}", column.tobytes()
    yield "expected", str(state.expected).encode()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_state_is_what_a_plain_fold_of_the_rows_gives(data: st.DataObject) -> None:
    slices = data.draw(tapes())
    state = folded(slices, data.draw(cuts_of(slices)))
    assert state.values(np.arange(len(SYMBOLS))) == by_hand(slices)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_how_the_tape_is_cut_into_frames_changes_no_bit(data: st.DataObject) -> None:
    slices = data.draw(tapes())
    one, other = data.draw(cuts_of(slices)), data.draw(cuts_of(slices))
    assert dict(arrays_of(folded(slices, one))) == dict(arrays_of(folded(slices, other)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_corrected_is_as_if_it_had_come_right_and_in_time(data: st.DataObject) -> None:
    slices = data.draw(tapes())
    final = {
        (row.symbol, row.ts_ns): row
        for found in slices
        for row in found.all
        if row.interval_ns == MINUTE_NS
    }
    undisturbed = [
        Slice(
            found.minute,
            rows=tuple(
                row for key, row in sorted(final.items()) if key[1] == found.known_ns - MINUTE_NS
            ),
        )
        for found in slices
    ]
    disturbed, plain = folded(slices, data.draw(cuts_of(slices))), folded(undisturbed)
    wanted, got = dict(arrays_of(plain)), dict(arrays_of(disturbed))
    for name in [*got]:  # when it came, and as which row, does differ
        if name in {"row", "updated_ns"} or name.startswith(("ticks", "quotes")):
            del wanted[name], got[name]
    assert got == wanted


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_changed_is_what_came(data: st.DataObject) -> None:
    state, row = SessionState(open_frame()), 0
    for found in data.draw(tapes()):
        before = state.values(np.arange(len(SYMBOLS)))
        changed = state.fold(frame_of([found], row))
        row += len(found.all)
        came = {row.symbol for row in found.all if row.interval_ns in {MINUTE_NS, TICK, QUOTE}}
        assert set(np.flatnonzero(changed).tolist()) == came
        after = state.values(np.arange(len(SYMBOLS)))
        for number in set(range(len(SYMBOLS))) - came:
            differ = {
                name for name, value in after[number].items() if before[number][name] != value
            }
            assert differ <= {"expected", "quality"}


def minute(number: int, *symbols: int, **changes: Any) -> Slice:
    """Return a slice with a plain bar of each symbol."""
    ts_ns = OPEN_NS + (number - 1) * MINUTE_NS
    return Slice(number, rows=tuple(Row(symbol, ts_ns, **changes) for symbol in symbols))


def test_a_correction_builds_the_touched_symbols_again_and_no_others() -> None:
    state = folded([minute(1, 0, 1, 2), minute(2, 0, 1, 2)])
    for name in ("volume", "turnover"):
        getattr(state, name)[:3] = -7.0  # whoever is built again loses it
    fixed = Row(1, OPEN_NS, high=20.0, volume=3.0, revision=1)
    late = Slice(3, (fixed,), minute(3, 0, 1).rows)
    assert state.fold(frame_of([late], 6)).tolist() == [True, True, False, False]
    assert state.volume.tolist() == [-6.0, 5.0, -7.0, 0.0]
    assert state.bars.tolist() == [3, 3, 2, 0]
    assert state.high.tolist() == [11.0, 20.0, 11.0, -np.inf]
    assert state.row.tolist() == [7, 8, 5, -1]


@pytest.mark.parametrize("rows", [session.PART_ROWS, 64])
def test_however_many_frames_came_few_parts_are_looked_through(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PART_ROWS", rows)
    slices = [minute(number, *range(1 + number % 4)) for number in range(1, 400)]
    fixed = Row(1, OPEN_NS, high=20.0, volume=3.0, revision=1)
    slices.append(Slice(400, (fixed,)))
    state = folded(slices, range(400))
    kept = [len(part) for part in state._rows]
    assert sum(kept) == sum(len(found.all) for found in slices)
    assert len(kept) <= np.log2(sum(kept)) + 2 * sum(kept) / rows
    assert dict(arrays_of(state)) == dict(arrays_of(folded(slices)))


def test_a_correction_can_take_back_an_extreme_the_first_bar_and_the_last() -> None:
    state = folded([minute(1, 0, open=1.0, low=0.5), minute(2, 0, high=99.0, close=98.0)])
    first = Row(0, OPEN_NS, open=10.0, low=9.0, revision=1)
    last = Row(0, OPEN_NS + MINUTE_NS, revision=1)
    state.fold(frame_of([Slice(3, (first, last))], 2))
    (value,) = state.values(np.array([0]))
    found = [value[name] for name in ("open", "high", "low", "close", "bars")]
    assert found == [10.0, 11.0, 9.0, 10.5, 2]
    assert value["bar"]["high"] == 11.0
    assert value["updated_ns"]["bars"] == OPEN_NS + 3 * MINUTE_NS


def test_a_late_bar_before_the_last_leaves_the_last_bar() -> None:
    state = folded([minute(2, 0, close=10.25)])
    state.fold(frame_of([Slice(3, (Row(0, OPEN_NS, close=9.5),))], 1))
    assert (state.close[0], state.last["ts_ns"][0]) == (10.25, OPEN_NS + MINUTE_NS)
    assert state.bars[0] == 2


def test_a_frame_of_longer_bars_alone_changes_nothing() -> None:
    state = folded([minute(1, 0)])
    before = [pair for pair in arrays_of(state) if pair[0] != "expected"]
    longer = Slice(5, (Row(0, OPEN_NS, interval_ns=2 * MINUTE_NS),), ())
    also = Slice(5, rows=(Row(0, OPEN_NS, high=50.0, interval_ns=FIVE_NS),))
    assert not state.fold(frame_of([longer, also], 1)).any()
    assert [pair for pair in arrays_of(state) if pair[0] != "expected"] == before


def test_a_frame_without_bars_moves_only_what_is_expected() -> None:
    state = folded([minute(1, 0)])
    off_hours = frame_of([Slice(2), Slice(3), Slice(4)], 1, slice_expected=ints([4, 0, 4]))
    assert not state.fold(off_hours).any()
    assert state.expected == 3
    assert state.quality().tolist() == [100.0 / 3, 0.0, 0.0, 0.0]


def test_ticks_among_the_bars_count_as_rows() -> None:
    tick = Row(1, OPEN_NS, interval_ns=0)
    slices = [
        Slice(1, rows=(tick, *minute(1, 0).rows)),
        Slice(2, (Row(2, OPEN_NS),), (tick, *minute(2, 0).rows)),
    ]
    state = folded(slices)
    assert state.row.tolist() == [4, 3, 2, -1]
    assert ((state.updated_ns - OPEN_NS) // MINUTE_NS)[[0, 2]].tolist() == [2, 2]
    assert state.bars.tolist() == [2, 0, 1, 0]


def test_a_late_tick_does_not_hide_a_newer_one() -> None:
    state = folded([Slice(3, rows=(Row(0, OPEN_NS + 3 * MINUTE_NS, 7.0, interval_ns=TICK),))])
    late = Row(0, OPEN_NS + MINUTE_NS, 5.0, interval_ns=TICK)
    assert state.fold(frame_of([Slice(4, (late,))], 1)).tolist() == [True, False, False, False]
    (value,) = state.values(np.array([0]))
    assert (value["tick"]["price"], value["ticks"]) == (7.0, 2)
    assert value["updated_ns"]["ticks"] == OPEN_NS + 4 * MINUTE_NS
    fixed = Row(0, OPEN_NS + 3 * MINUTE_NS, 6.0, interval_ns=TICK, revision=1)
    state.fold(frame_of([Slice(5, (fixed,))], 2))
    (value,) = state.values(np.array([0]))
    assert (value["tick"]["price"], value["ticks"]) == (6.0, 2)


def test_of_one_time_a_late_tick_of_a_lower_number_is_no_newer() -> None:
    at_ns = OPEN_NS + 3 * MINUTE_NS
    ticks = [Row(0, at_ns, 5.0 + n, interval_ns=TICK, number=n) for n in range(3)]
    state = folded([Slice(3, rows=tuple(ticks))])
    state.fold(frame_of([Slice(4, (replace(ticks[1], open=1.0, revision=1),))], 3))
    assert state.ticks.columns["price"][0] == 7.0
    state.fold(frame_of([Slice(5, (replace(ticks[2], open=2.0, revision=1),))], 4))
    assert state.ticks.columns["price"][0] == 2.0


def test_a_quote_of_the_session_before_is_not_of_this_one() -> None:
    early = Row(0, OPEN_NS - MINUTE_NS, interval_ns=QUOTE)
    state = SessionState(open_frame())
    assert not state.fold(frame_of([Slice(1, (early,))])).any()
    both = Slice(2, (early,), (Row(1, OPEN_NS + 2 * MINUTE_NS, interval_ns=QUOTE),))
    assert state.fold(frame_of([both], 1)).tolist() == [False, True, False, False]
    assert (state.quotes.count.tolist(), state.row.tolist()) == ([0, 1, 0, 0], [-1, 2, -1, -1])


def test_ticks_go_along_when_symbols_come_and_go() -> None:
    ticks = [Row(n, OPEN_NS + MINUTE_NS, 5.0 + n, interval_ns=TICK) for n in range(4)]
    state = folded([Slice(1, rows=tuple(ticks))])
    state.fold(frame_of((), 4, symbols=("AB", "BB", "DD")))
    found = {value["symbol"]: value for value in state.values(np.arange(3))}
    assert found["AB"]["tick"] is None
    assert [found[name]["tick"]["price"] for name in ("BB", "DD")] == [6.0, 8.0]
    assert state.ticks.count.tolist() == [0, 1, 1]


def test_before_the_first_bar_prices_are_absent_and_quality_is_whole() -> None:
    state = SessionState(open_frame())
    assert (state.run, state.label, state.symbols) == ("run-1", "2023-11-14", SYMBOLS)
    assert state.quality().tolist() == [100.0] * 4
    assert np.isnan(state.vwap()).all()
    assert state.values(np.array([2, 0])) == [by_hand([])[2], by_hand([])[0]]
    assert state.values(np.array([], np.int64)) == []


@pytest.mark.parametrize(("volumes", "vwap"), [((0.0, 0.0), None), ((1.0, 3.0), 17.5)])
def test_vwap_weighs_typical_prices_by_volume(
    volumes: tuple[float, float], vwap: float | None
) -> None:
    one = Row(0, OPEN_NS, 10.0, 12.0, 8.0, 10.0, volumes[0])
    two = Row(0, OPEN_NS + MINUTE_NS, 20.0, 22.0, 18.0, 20.0, volumes[1])
    (value,) = folded([Slice(1, rows=(one,)), Slice(2, rows=(two,))]).values(np.array([0]))
    assert (value["vwap"], value["volume"]) == (vwap, sum(volumes))


def test_a_shard_without_symbols_has_a_state_too() -> None:
    state = SessionState(open_frame(()))
    assert state.fold(frame_of([Slice(1)], symbols=(), slice_expected=ints([0]))).tolist() == []
    assert state.quality().tolist() == []


Run = tuple[str, int, int, Status]
"""A symbol, the first of its minutes and the one behind the last, from 0; what is known of them."""


def known(*runs: Run, session: str = "2023-11-14") -> Minutes:
    symbols = ("AA", "BB", "CC", "DD", "EE")
    return Minutes(
        symbols=symbols,
        symbol=ints(symbols.index(run[0]) for run in runs),
        ts_ns=np.array([OPEN_NS + run[1] * MINUTE_NS for run in runs], np.int64),
        end_ns=np.array([OPEN_NS + run[2] * MINUTE_NS for run in runs], np.int64),
        status=ints(run[3] for run in runs),
        attempt=ints(1 for _ in runs),
        request=ints(-1 for _ in runs),
        session=session,
    )


def opened(*runs: Run) -> SessionState:
    return SessionState(frame_of((), event="open", minutes=known(*runs)))


def test_a_minute_without_trade_is_good_once_it_is_over() -> None:
    state = opened(("AA", 1, 3, Status.NO_TRADE), ("BB", 1, 2, Status.MISSING))
    state.fold(frame_of([minute(1, 0, 1, 2, 3)]))
    assert state.no_trade().tolist() == [0, 0, 0, 0]
    assert state.quality().tolist() == [100.0] * 4
    state.fold(frame_of([minute(2, 2, 3)], 4))
    assert state.no_trade().tolist() == [1, 0, 0, 0]
    assert state.quality().tolist() == [100.0, 50.0, 100.0, 100.0]
    state.fold(frame_of([minute(3, 1, 2)], 6))
    assert state.no_trade().tolist() == [2, 0, 0, 0]
    assert state.quality()[0] == 100.0
    assert [value["no_trade"] for value in state.values(np.array([0, 1]))] == [2, 0]


def test_an_answer_behind_the_clock_changes_the_quality_of_its_symbol() -> None:
    state = folded([minute(1, 0, 2, 3), minute(2, 0, 2, 3)])
    assert state.quality()[1] == 0.0
    answered = known(("BB", 0, 2, Status.NO_TRADE), ("EE", 0, 1, Status.NO_TRADE))
    changed = state.fold(frame_of((), 6, minutes=answered))
    assert changed.tolist() == [False, True, False, False]
    assert state.quality().tolist() == [100.0] * 4
    # What has no trade and then a bar has a bar.
    state.fold(frame_of([Slice(3, (Row(1, OPEN_NS),), minute(3, 0, 1, 2, 3).rows)], 6))
    assert state.no_trade().tolist() == [0, 1, 0, 0]
    assert state.quality()[1] == 100.0
    filled = known(("BB", 1, 2, Status.FILLED))
    state.fold(frame_of([Slice(4, (Row(1, OPEN_NS + MINUTE_NS),))], 11, minutes=filled))
    assert state.no_trade().tolist() == [0, 0, 0, 0]
    assert state.quality()[1] == 75.0


def test_a_run_over_a_break_counts_the_minutes_that_were_expected() -> None:
    state = opened(("AA", 1, 6, Status.NO_TRADE))
    state.fold(frame_of([minute(1, 0, 1), minute(2, 1)]))
    state.fold(frame_of([minute(6, 1), minute(7, 0, 1)], 3))  # a break from the third on
    assert state.no_trade().tolist() == [2, 0, 0, 0]
    assert state.quality()[:2].tolist() == [100.0, 100.0]


def test_frames_of_a_session_to_come_change_nothing() -> None:
    state = folded([minute(1, 0)])
    before = dict(arrays_of(state))
    missing = known(("AA", 0, 1, Status.NO_TRADE), session="2023-11-15")
    assert not state.fold(frame_of((), 1, minutes=missing)).any()
    waiting = frame_of((), 1, minutes=missing, session="2023-11-15", waiting=True)
    assert not state.fold(waiting).any()
    assert not state.fold(frame_of((), 1, waiting=True, symbols=("ZZ",))).any()
    assert dict(arrays_of(state)) == before
    assert state.no_trade().tolist() == [0, 0, 0, 0]
    assert state.symbols == SYMBOLS


def test_symbols_come_and_go_in_mid_session() -> None:
    state = opened(("BB", 1, 2, Status.NO_TRADE), ("DD", 1, 2, Status.NO_TRADE))
    state.fold(frame_of([minute(1, 0, 1, 2, 3), minute(2, 0, 2)]))
    kept = dict(zip(SYMBOLS, state.values(np.arange(4)), strict=True))
    names = ("AA", "AB", "BB", "CC")  # AB is new, DD is gone
    changed = state.fold(frame_of((), 6, symbols=names))
    assert changed.tolist() == [True] * 4
    found = {value["symbol"]: value for value in state.values(np.arange(4))}
    assert {name: found[name] for name in ("AA", "BB", "CC")} == {
        name: kept[name] for name in ("AA", "BB", "CC")
    }
    assert (found["AB"]["bars"], found["AB"]["bar"], found["AB"]["quality"]) == (0, None, 0.0)
    assert found["BB"]["no_trade"] == 1
    # What the new one lacks comes behind the clock; others are corrected from their own rows.
    backfill = tuple(Row(1, OPEN_NS + at * MINUTE_NS, volume=3.0) for at in range(2))
    fixed = Row(3, OPEN_NS, volume=7.0, revision=1)
    late = Slice(3, (*backfill, fixed), minute(3, 0, 1, 2, 3).rows)
    state.fold(frame_of([late], 6, symbols=names))
    assert state.bars.tolist() == [3, 3, 2, 3]
    assert state.volume.tolist() == [3.0, 7.0, 2.0, 9.0]
    assert state.quality().tolist() == [100.0] * 4


def test_what_is_said_of_a_symbol_before_it_is_listed_counts() -> None:
    state = folded([minute(1, 0, 1, 2, 3), minute(2, 0, 1, 2, 3)])
    said = known(("EE", 0, 1, Status.NO_TRADE), ("AA", 1, 2, Status.NO_TRADE))
    state.fold(frame_of((), 8, minutes=said))
    assert state.no_trade().tolist() == [1, 0, 0, 0]
    state.fold(frame_of([Slice(3, rows=(Row(0, OPEN_NS + 2 * MINUTE_NS),))], 8))
    backfill = (Row(4, OPEN_NS + MINUTE_NS),)
    state.fold(frame_of([Slice(4, backfill)], 9, symbols=(*SYMBOLS, "EE")))
    assert state.no_trade().tolist() == [1, 0, 0, 0, 1]
    assert state.bars.tolist() == [3, 2, 2, 2, 1]


def test_all_symbols_of_a_shard_may_go() -> None:
    state = folded([minute(1, 0)])
    assert state.fold(frame_of([Slice(2)], 1, symbols=(), slice_expected=ints([0]))).tolist() == []
    state.fold(frame_of([minute(3, 0)], 1, symbols=("AA",)))
    assert state.bars.tolist() == [1]
