"""Answers as records: blocks first, then what they cover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas import BarBlock, Codec, Coverage, DataRequest, Minutes
from streams.answers import TOLD, Answers, Message, Out, Refusal
from streams.calendar import sessions_between
from streams.errors import SourceError
from streams.intervals import MINUTE_NS
from streams.sources import Answer, BadRow, Part, Source, open_source, withheld
from streams.sources.rows import bar_block
from streams.topics import MESSAGE_BYTES, Topics

DAY = sessions_between("XNYS", "2024-07-01", "2024-07-01")[0]
TOPICS = Topics("t")


@dataclass
class Told:
    """A source that gives what it was told to."""

    parts: Sequence[Part]
    name: str = "told"
    error: SourceError | None = None

    def symbols(self) -> tuple[str, ...]:
        return ("A", "B", "C")

    def sessions(self) -> tuple[str, str] | None:
        return None

    def load(self, *_: Any) -> Iterator[Part]:
        yield from self.parts
        if self.error:
            raise self.error


def bars(close: float, symbol: str = "A", *minutes: int) -> BarBlock:
    prices = np.full(len(minutes), close)
    return bar_block(
        (symbol,),
        np.zeros(len(minutes), np.int32),
        DAY.open_ns + np.array(minutes, np.int64) * MINUTE_NS,
        interval_ns=MINUTE_NS,
        prices=[prices] * 4,
        volume=prices,
    )


def request(*symbols: str, kind: str = "session", **changes: Any) -> DataRequest:
    fields: dict[str, Any] = {
        "id": "q",
        "run": "run",
        "kind": kind,
        "streams": ("bars",),
        "symbols": symbols,
        "start_ns": DAY.open_ns,
        "end_ns": DAY.open_ns + 3 * MINUTE_NS,
        "session": DAY.label,
        "shard": 0,
    }
    return DataRequest(**(fields | changes))


def answers_of(*sources: Source) -> Answers:
    return Answers(TOPICS, sources, gap_timeout_s=30.0, history_timeout_s=30.0)


def told(out: Sequence[Out]) -> tuple[list[BarBlock], list[Coverage], list[BadRow]]:
    """Blocks, coverages and bad rows; each coverage stands behind all blocks."""
    records = [o.record for o in out if isinstance(o, Message)]
    blocks = [r for r in records if isinstance(r, BarBlock)]
    coverages = [r for r in records if isinstance(r, Coverage)]
    assert records == [*blocks, *coverages]
    return blocks, coverages, [o.row for o in out if isinstance(o, Refusal)]


def test_a_session_is_the_affair_of_the_primary_source_alone() -> None:
    sources = (Told([Answer(("A",), "cannot_say")]), Told([bars(1.0, "A", 0)], "other"))
    blocks, [coverage], _ = told(list(answers_of(*sources).to(request("A"))))
    assert not blocks
    assert (coverage.answer, coverage.source) == ("cannot_say", "told")


def test_what_is_said_of_parts_does_not_undo_the_rows_of_a_session() -> None:
    part = (DAY.open_ns, DAY.open_ns + MINUTE_NS)
    parts: list[Part] = [
        bars(1.0, "A", 1),
        Answer(("A", "D"), "rows"),
        Answer(("B", "C"), "nothing"),
        Answer(("A", "B", "E"), "cannot_say", *part),
        Answer(("D",), "nothing", *part),
    ]
    _, coverages, _ = told(list(answers_of(Told(parts)).to(request("A", "B", "C", "D", "E"))))
    assert [(c.answer, c.symbols) for c in coverages] == [
        ("rows", ("A", "D")),
        ("nothing", ("C",)),
        ("cannot_say", ("B", "E")),
    ]


def test_a_withheld_session_has_rows_and_is_asked_for_again_as_gaps() -> None:
    market = open_source("synthetic:symbols=5")
    primary = withheld(market, "50%@1+symbol:SYN0002", "XNYS", "regular")
    answers = answers_of(primary, market)
    everything: dict[str, Any] = {"start_ns": DAY.open_ns, "end_ns": DAY.close_ns}
    blocks, coverages, _ = told(list(answers.to(request(*market.symbols(), **everything))))
    assert [(c.answer, len(c.symbols)) for c in coverages] == [("rows", 4), ("cannot_say", 1)]
    there = sum(map(len, blocks))
    gap = request(*market.symbols(), kind="gap", **everything)
    blocks, [coverage], _ = told(list(answers.to(gap)))
    assert coverage.answer == "rows"
    assert sum(map(len, blocks)) == coverage.rows == 5 * 390 > there


def test_a_gap_is_answered_by_blocks_of_each_source_and_one_coverage_of_its_minutes() -> None:
    first = Told([bars(1.0, "A", 1), Answer(("B",), "nothing")], "first")
    second = Told([bars(2.0, "A", 0, 1), bars(3.0, "C", 5)], "second")
    asked = request("A", "B", kind="gap")
    out = list(answers_of(first, second).to(asked))
    assert {o.topic for o in out} == {"t.raw.bars"}
    blocks, [coverage], _ = told(out)
    assert [(b.source, b.block, b.run, b.request, b.close.tolist()) for b in blocks] == [
        ("first", 0, "run", "q", [1.0]),
        ("second", 1, "run", "q", [2.0]),
    ]
    assert (coverage.answer, coverage.source) == ("rows", "first+second")
    assert (coverage.symbols, coverage.request, coverage.run) == (("A", "B"), "q", "run")
    assert (coverage.start_ns, coverage.end_ns) == (asked.start_ns, asked.end_ns)
    assert (coverage.blocks, coverage.rows, coverage.final) == (2, 2, False)
    assert coverage.gaps is not None
    assert coverage.gaps.status.tolist() == [1, 3, 2]
    assert coverage.gaps.attempt.tolist() == [1, 1, 1]


def test_the_coverage_of_a_gap_says_what_there_is_of_all_of_it() -> None:
    for parts, answer in (
        ([Answer(("A", "B"), "nothing")], "nothing"),
        ([Answer(("A",), "nothing")], "cannot_say"),
        ([], "cannot_say"),
    ):
        asked = request("A", "B", kind="gap")
        blocks, [coverage], _ = told(list(answers_of(Told(parts)).to(asked)))
        assert not blocks
        assert (coverage.answer, coverage.source) == (answer, "told")


def test_a_gap_of_no_minutes_is_answered_too() -> None:
    none = np.empty(0, np.int32)
    times = np.empty(0, np.int64)
    gaps = Minutes((), none, times, times, none, none, none)
    _, [coverage], _ = told(list(answers_of(Told([])).to(request("A", kind="gap", gaps=gaps))))
    assert coverage.gaps is not None
    assert (coverage.symbols, len(coverage.gaps)) == ((), 0)


def test_a_coverage_of_very_many_runs_is_cut_to_messages() -> None:
    count = 60_000
    names = tuple(f"S{n}" for n in range(100))
    index = np.sort(np.arange(count, dtype=np.int32) % 100)
    start = DAY.open_ns + np.arange(count, dtype=np.int64) * 2 * MINUTE_NS
    ones = np.ones(count, np.int32)
    gaps = Minutes(names, index, start, start + MINUTE_NS, ones * 3, ones, ones * -1)
    out = list(answers_of(Told([])).to(request(*names, kind="gap", gaps=gaps)))
    _, coverages, _ = told(out)
    assert len(coverages) > 1
    assert max(len(Codec().encode(c)) for c in coverages) <= MESSAGE_BYTES
    starts = np.concatenate([c.gaps.ts_ns for c in coverages if c.gaps is not None])
    assert starts.tolist() == start.tolist()
    assert {c.request for c in coverages} == {"q"}


def test_history_comes_from_all_sources_on_a_topic_of_its_own() -> None:
    first = Told([bars(1.0, "A", 0, 1, 2), Answer(("C",), "nothing")], "first")
    second = Told([bars(2.0, "B", 0, 1, 2)], "second")
    out = list(answers_of(first, second).to(request("A", "B", "C", "D", kind="history")))
    assert {o.topic for o in out} == {"t.raw.history"}
    blocks, coverages, _ = told(out)
    assert [(b.source, b.block, b.symbols, len(b)) for b in blocks] == [
        ("first", 0, ("A",), 3),
        ("second", 1, ("B",), 3),
    ]
    assert [(c.answer, c.symbols) for c in coverages] == [
        ("rows", ("A", "B")),
        ("nothing", ("C",)),
        ("cannot_say", ("D",)),
    ]
    assert {(c.blocks, c.rows, c.request, c.gaps) for c in coverages} == {(2, 6, "q", None)}


def test_gaps_tell_a_bad_row_once() -> None:
    bad = BadRow("x.csv", 1, "no row")
    other = BadRow("y.csv", 2, "no row")
    answers = answers_of(Told([bad]), Told([other]))
    assert told(list(answers.to(request("A"))))[2] == [bad]
    assert told(list(answers.to(request("A", kind="gap"))))[2] == [other]
    assert told(list(answers.to(request("A", kind="gap"))))[2] == []
    assert told(list(answers.to(request("A"))))[2] == [bad]


def test_what_is_remembered_of_bad_rows_has_a_bound() -> None:
    source = Told([BadRow("x.csv", n, "no row") for n in range(TOLD + 1)])
    answers = answers_of(source)
    assert len(told(list(answers.to(request("A", kind="gap"))))[2]) == TOLD + 1
    # Forgotten all at once, but for the last.
    assert len(told(list(answers.to(request("A", kind="gap"))))[2]) == TOLD + 1


def test_a_source_that_fails_is_told_for_a_session_and_passed_over_for_a_gap() -> None:
    failing = Told([bars(1.0, "A", 0)], error=SourceError("it is gone", path="x"))
    answers = answers_of(failing, Told([bars(2.0, "A", 1)], "other"))
    blocks, [coverage], [bad] = told(list(answers.to(request("A"))))
    assert (len(blocks), coverage.answer, bad.reason) == (1, "cannot_say", "it is gone")
    blocks, [coverage], none = told(list(answers.to(request("A", kind="gap"))))
    assert [b.source for b in blocks] == ["told", "other"]
    assert none == []


def test_a_part_of_ticks_that_cannot_be_said_is_cut_out_of_their_coverage() -> None:
    first, last = DAY.open_ns, DAY.open_ns + 3 * MINUTE_NS
    settled = last - 5
    parts: list[Part] = [
        Answer(("A",), "rows"),
        Answer(("A", "B"), "cannot_say", settled, last),
        Answer(("B", "C", "D"), "nothing"),  # the later word holds
        Answer(("C",), "cannot_say", first + 10, first + 20),
        Answer(("C",), "rows", first + 30, first + 40),
        Answer(("E",), "rows", first, first + 10),
        Answer(("A", "F"), "rows", last, last + MINUTE_NS),  # beside what was asked for
        Answer(("D",), "nothing", settled, last),
    ]
    asked = request("A", "B", "C", "D", "E", "F", streams=("ticks",))
    out = list(answers_of(Told(parts)).to(asked))
    coverages = [o.record for o in out if isinstance(o, Message)]
    said = [(c.answer, c.symbols, c.start_ns, c.end_ns) for c in coverages]  # type: ignore[union-attr]
    assert said == [
        ("rows", ("E",), first, first + 10),
        ("rows", ("A",), first, settled),
        ("rows", ("C",), first + 20, last),
        ("nothing", ("C",), first, first + 10),
        ("nothing", ("B", "D"), first, last),
        ("cannot_say", ("F",), first, last),
        ("cannot_say", ("C",), first + 10, first + 20),
        ("cannot_say", ("E",), first + 10, last),
        ("cannot_say", ("A",), settled, last),
    ]
