"""Minutes from several sources: exactly those asked for, each with one status, in their order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock, DataRequest, Minutes, QuoteBlock
from streams.calendar import sessions_between
from streams.errors import SourceError
from streams.filler import Filled, Filler, asked_minutes, minutes_asked
from streams.intervals import MINUTE_NS
from streams.sources import Answer, BadRow, Part, open_source, withheld, withheld_minutes
from streams.sources.rows import bar_block

DAY = sessions_between("XNYS", "2024-07-01", "2024-07-01")[0]
NAMES = ("A", "B", "C")
ROWS, NOTHING, UNKNOWN = 1, 2, 3

Run = tuple[str, int, int]
"""Symbol, first minute from the open, and the minute behind the last."""
Cell = tuple[str, int]


def ns(minute: int) -> int:
    return DAY.open_ns + minute * MINUTE_NS


def runs_of(*runs: Run, attempts: Sequence[int] = ()) -> Minutes:
    names = tuple(dict.fromkeys(run[0] for run in runs))
    count = len(runs)
    return Minutes(
        symbols=names,
        symbol=np.array([names.index(run[0]) for run in runs], np.int32),
        ts_ns=np.array([ns(run[1]) for run in runs], np.int64),
        end_ns=np.array([ns(run[2]) for run in runs], np.int64),
        status=np.full(count, 3, np.int32),
        attempt=np.array(attempts or [0] * count, np.int32),
        request=np.full(count, -1, np.int32),
    )


def request_of(*runs: Run, **changes: Any) -> DataRequest:
    fields: dict[str, Any] = {
        "id": "run/gap/1",
        "run": "run",
        "kind": "gap",
        "streams": ("bars",),
        "symbols": tuple(sorted({run[0] for run in runs})),
        "start_ns": ns(min((run[1] for run in runs), default=0)),
        "end_ns": ns(max((run[2] for run in runs), default=0)),
        "session": DAY.label,
        "shard": 0,
        "attempt": 2,
        "gaps": runs_of(*runs),
    }
    return DataRequest(**(fields | changes))


def block_of(close: float, *cells: Cell, length_ns: int = MINUTE_NS) -> BarBlock:
    names = tuple(dict.fromkeys(name for name, _ in cells))
    prices = np.full(len(cells), close)
    return bar_block(
        names,
        np.array([names.index(name) for name, _ in cells], np.int32),
        np.array([ns(minute) for _, minute in cells], np.int64),
        interval_ns=length_ns,
        prices=[prices, prices, prices, prices.copy()],
        volume=np.ones(len(cells)),
    )


@dataclass
class Told:
    """A source that gives what it was told to, and notes what it was asked."""

    parts: Sequence[Part] = ()
    name: str = "told"
    then: Callable[[], object] = lambda: None
    asked: list[tuple[tuple[str, ...], int, int]] = field(default_factory=list)

    def symbols(self) -> tuple[str, ...]:
        return NAMES

    def sessions(self) -> tuple[str, str] | None:
        return None

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        assert (stream, interval_ns) == ("bars", MINUTE_NS)
        first, last = ((t - DAY.open_ns) // MINUTE_NS for t in (start_ns, end_ns))
        self.asked.append((tuple(sorted(symbols)), first, last))
        yield from self.parts
        self.then()


def found(filled: Filled) -> dict[Cell, tuple[int, str, float]]:
    """By minute: its status, and the source and the close of its row."""
    rows: dict[Cell, tuple[str, float]] = {}
    for name, block in filled.blocks:
        assert len(block)
        assert set(block.symbols) == {block.symbols[n] for n in block.symbol}
        for symbol, ts, close in zip(block.symbol, block.ts_ns, block.close, strict=True):
            cell = (block.symbols[symbol], int(ts - DAY.open_ns) // MINUTE_NS)
            assert cell not in rows
            rows[cell] = (name, float(close))
    known: dict[Cell, tuple[int, str, float]] = {}
    runs = filled.minutes
    for symbol, start, end, status in zip(
        runs.symbol, runs.ts_ns, runs.end_ns, runs.status, strict=True
    ):
        for ts in range(int(start), int(end), MINUTE_NS):
            cell = (runs.symbols[symbol], (ts - DAY.open_ns) // MINUTE_NS)
            value = (int(status), *rows.get(cell, ("", 0.0)))
            assert known.setdefault(cell, value) == value
            assert (status == ROWS) == (cell in rows)
    assert rows.keys() <= known.keys()
    return known


def fill(*sources: Told, runs: Sequence[Run] = (("A", 0, 3),), timeout_s: float = 30.0) -> Filled:
    return Filler(sources, timeout_s).fill(request_of(*runs))


RUNS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 20), st.integers(0, 6)).map(
        lambda run: (run[0], run[1], run[1] + run[2])
    ),
    max_size=6,
)
ANSWERS = st.lists(
    st.builds(
        lambda names, kind, vouched, part: Answer(
            tuple(names), kind, *((ns(min(part)), ns(max(part))) if part else (0, 0)), vouched
        ),
        st.lists(st.sampled_from((*NAMES, "X")), max_size=3),
        st.sampled_from(["rows", "nothing", "cannot_say"]),
        st.booleans(),
        st.none() | st.tuples(st.integers(0, 30), st.integers(0, 30)),
    ),
    max_size=4,
)
CELLS = st.lists(st.tuples(st.sampled_from((*NAMES, "X")), st.integers(-2, 30)), max_size=40)


@settings(max_examples=400, deadline=None)
@given(RUNS, st.lists(st.tuples(CELLS, ANSWERS), min_size=1, max_size=3))
def test_each_minute_asked_for_has_one_status_by_the_first_source_that_knows(
    runs: list[Run], told: list[tuple[list[Cell], list[Answer]]]
) -> None:
    sources = [
        Told([block_of(n + 1.0, *cells), *answers], f"s{n}")
        for n, (cells, answers) in enumerate(told)
    ]
    filled = fill(*sources, runs=runs)
    asked = {(name, minute) for name, first, last in runs for minute in range(first, last)}
    expected: dict[Cell, tuple[int, str, float]] = {}
    given_rows = 0
    for n, (cells, answers) in enumerate(told):
        still = asked - expected.keys()
        assert sources[n].asked == (
            [
                (
                    tuple(sorted({name for name, _ in still})),
                    min(minute for _, minute in still),
                    max(minute for _, minute in still) + 1,
                )
            ]
            if still
            else []
        )
        if not still:
            continue
        given_rows += len(cells)
        expected |= dict.fromkeys(still & set(cells), (ROWS, f"s{n}", n + 1.0))
        for cell in still - set(cells):
            said = [
                a.says_nothing
                for a in answers
                if cell[0] in a.symbols and (a.is_whole or a.start_ns <= ns(cell[1]) < a.end_ns)
            ]
            if said and said[-1]:
                expected[cell] = (NOTHING, "", 0.0)
    assert found(filled) == {cell: expected.get(cell, (UNKNOWN, "", 0.0)) for cell in asked}
    taken = sum(status == ROWS for status, _, _ in expected.values())
    assert filled.ignored == given_rows - taken
    kinds = {status for status, _, _ in found(filled).values()}
    assert filled.answer == (
        "rows" if ROWS in kinds else "cannot_say" if UNKNOWN in kinds else "nothing"
    )
    assert minutes_asked(request_of(*runs)) == sum(last - first for _, first, last in runs)


def test_runs_keep_their_places_and_say_by_whom_they_were_asked() -> None:
    request = request_of(gaps=runs_of(("B", 5, 8), ("A", 0, 2), attempts=(4, 0)))
    source = Told([block_of(1.0, ("B", 6)), Answer(("A",), "nothing")])
    minutes = Filler([source], 30.0).fill(request).minutes
    assert minutes.symbols == ("B", "A")
    columns = (minutes.symbol, minutes.ts_ns, minutes.end_ns, minutes.status, minutes.attempt)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == [
        (0, ns(5), ns(6), UNKNOWN, 4),
        (0, ns(6), ns(7), ROWS, 4),
        (0, ns(7), ns(8), UNKNOWN, 4),
        (1, ns(0), ns(2), NOTHING, 2),
    ]
    assert (minutes.session, minutes.requests) == (DAY.label, ("run/gap/1",))
    assert minutes.request.tolist() == [0] * 4
    assert not minutes.loaded


def test_a_request_without_runs_means_all_its_symbols_over_the_whole_range() -> None:
    request = request_of(gaps=None, symbols=("B", "A"), start_ns=ns(0), end_ns=ns(3))
    source = Told([block_of(1.0, ("A", 1), ("A", 3)), Answer(("A", "B"), "nothing")])
    filled = Filler([source], 30.0).fill(request)
    known = {cell: status for cell, (status, _, _) in found(filled).items()}
    assert known == {(n, m): NOTHING for n in "AB" for m in range(3)} | {("A", 1): ROWS}
    assert len(asked_minutes(request)) == 2
    assert minutes_asked(request) == 6


def test_nothing_is_asked_for_nothing() -> None:
    source = Told()
    filled = fill(source, runs=())
    assert (len(filled.minutes), filled.answer, source.asked) == (0, "nothing", [])


def test_rows_that_make_no_sense_fill_nothing_and_are_no_word_that_there_is_nothing() -> None:
    wrong = block_of(float("nan"), ("A", 0), ("A", 1))
    source = Told([wrong, block_of(2.0, ("A", 1)), Answer(("A",), "rows", vouched=True)], "one")
    other = Told([block_of(3.0, ("A", 0), ("A", 2))], "two")
    filled = fill(source, other)
    assert found(filled) == {
        ("A", 0): (ROWS, "two", 3.0),
        ("A", 1): (ROWS, "one", 2.0),
        ("A", 2): (NOTHING, "", 0.0),
    }
    assert filled.ignored == 3


def test_rows_that_come_twice_count_once_and_the_first_holds() -> None:
    source = Told([block_of(1.0, ("A", 0), ("A", 0)), block_of(2.0, ("A", 0), ("A", 1))])
    filled = fill(source)
    assert {c: v[2] for c, v in found(filled).items() if v[0] == ROWS} == {
        ("A", 0): 1.0,
        ("A", 1): 2.0,
    }
    assert filled.ignored == 2


def test_bars_of_another_length_and_other_streams_are_no_rows() -> None:
    long = block_of(1.0, ("A", 0), length_ns=5 * MINUTE_NS)
    zero, one = np.zeros(1, np.int64), np.ones(1)
    index = np.zeros(1, np.int32)
    quote = QuoteBlock(("A",), index, long.ts_ns, one, one, one, one, zero, index)
    filled = fill(Told([long, quote]))
    assert {status for status, _, _ in found(filled).values()} == {UNKNOWN}
    assert filled.ignored == 2


def test_what_could_not_be_read_is_handed_on() -> None:
    bad: list[Part] = [BadRow("x.csv", 1, "no row"), BadRow("y.csv", 0, "gone")]
    assert fill(Told(bad[:1]), Told(bad[1:])).bad == tuple(bad)


def failing(error: Exception) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SourceError("the disk is gone", path="x.csv"), "x.csv: the disk is gone"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_a_source_that_fails_is_told_and_the_next_one_asked(
    error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts: list[Part] = [block_of(1.0, ("A", 0))]
    parts.append(Answer(("A",), "rows", ns(0), ns(2), vouched=True))
    source = Told(parts, "first", failing(error))
    filled = fill(source, Told([block_of(2.0, ("A", 1), ("A", 2))], "second"))
    assert found(filled) == {
        ("A", 0): (ROWS, "first", 1.0),
        ("A", 1): (NOTHING, "", 0.0),  # what was said before it failed counts
        ("A", 2): (ROWS, "second", 2.0),
    }
    assert f"source=first request=run/gap/1: {reason}" in caplog.messages


def test_a_source_that_hangs_is_left_until_it_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    back, ended = threading.Event(), threading.Event()

    @dataclass
    class Hanging(Told):
        def load(self, *question: Any) -> Iterator[Part]:
            try:
                yield from super().load(*question)
                yield Answer(("A",), "nothing")
            finally:
                ended.set()

    first = Hanging([block_of(1.0, ("A", 0))], "first", lambda: back.wait(60))
    second = Told([block_of(2.0, ("A", 1))], "second")
    filler = Filler([first, second], 0.05)
    request = request_of(("A", 0, 3))
    known = found(filler.fill(request))
    assert known == {
        ("A", 0): (ROWS, "first", 1.0),  # it came in time
        ("A", 1): (ROWS, "second", 2.0),
        ("A", 2): (UNKNOWN, "", 0.0),
    }
    assert len(first.asked) == 1
    found(filler.fill(request))
    assert (len(first.asked), len(second.asked)) == (1, 2)
    reasons = [message for message in caplog.messages if "source=first" in message]
    assert [reason.partition(": ")[2] for reason in reasons] == [
        "no answer within 0.05 s",
        "it still hangs over an earlier question",
    ]
    back.set()
    assert ended.wait(30)
    for thread in threading.enumerate():
        if thread.name == "ask-first":
            thread.join(30)
    first.then = lambda: None
    assert found(Filler([first], 30.0).fill(request))[("A", 2)] == (NOTHING, "", 0.0)
    assert found(filler.fill(request))[("A", 0)] == (ROWS, "first", 1.0)
    assert len(first.asked) == 3


def test_what_comes_after_the_time_is_not_waited_for_to_its_end() -> None:
    back = threading.Event()

    @dataclass
    class Endless(Told):
        given: int = 0

        def load(self, *_: Any) -> Iterator[Part]:
            back.wait(60)
            while True:
                self.given += 1
                yield BadRow("x", self.given, "on and on")

    source = Endless()
    filled = fill(source, timeout_s=0.05)
    assert (filled.bad, filled.answer) == ((), "cannot_say")
    back.set()
    for thread in threading.enumerate():
        if thread.name == "ask-told":
            thread.join(30)
            assert not thread.is_alive()
    assert source.given == 1


@pytest.mark.parametrize("spec", ["2%@7", "10%@7", "hour@7", "ends", "symbol:SYN0004"])
def test_what_is_withheld_is_filled_from_complete_data_and_else_can_t_be_said(
    spec: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    market = open_source("synthetic:symbols=30,seed=2")
    primary = withheld(market, spec, "XNYS", "regular")
    holes = {
        (s, int(ts - DAY.open_ns) // MINUTE_NS)
        for s in market.symbols()
        for ts in withheld_minutes(spec, s, DAY)
    }
    request = request_of(*((s, m, m + 1) for s, m in sorted(holes)))
    complete = Filler([primary, market], 30.0).fill(request)
    assert {v[0] for v in found(complete).values()} == {ROWS}
    assert found(complete).keys() == holes
    alone = Filler([primary], 30.0).fill(request)
    assert {v[0] for v in found(alone).values()} == {UNKNOWN}
    line = f"filled request=run/gap/1 rows={len(holes)} no_trade=0 cannot_say=0"
    assert any(message.startswith(line) for message in caplog.messages)
