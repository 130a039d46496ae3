"""A source with faults: what is not there at first is there for who asks again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import BarBlock, DataRequest
from streams.calendar import sessions_between
from streams.errors import CalendarError, ConfigError, SourceError
from streams.filler import Filler
from streams.intervals import MINUTE_NS
from streams.sources import Answer, BadRow, Source, absolute, load_range, open_source
from streams.sources import rehearsed as module
from streams.sources.rehearsal import Dead, Sometimes, Spec, inner_of, parse
from streams.sources.rehearsed import Rehearsed
from streams.sources.rows import tick_block

DAYS = sessions_between("XNYS", "2024-11-27", "2024-11-29")
DAY = DAYS[0]
URI = "synthetic:symbols=20,seed=3"
MARKET = open_source(URI)
SYMBOLS = MARKET.symbols()
Minute = tuple[str, int]


def open_rehearsal(options: str) -> Rehearsed:
    found = open_source(f"rehearsal:{options}:{URI}")
    assert isinstance(found, Rehearsed)
    return found


def parts_of(
    source: Source,
    symbols: Sequence[str] = SYMBOLS,
    start_ns: int = DAY.open_ns,
    end_ns: int = DAY.close_ns,
) -> list[Any]:
    return list(source.load("bars", symbols, start_ns, end_ns, MINUTE_NS))


def minutes(parts: Sequence[Any]) -> list[Minute]:
    return [
        (part.symbols[symbol], int(ts))
        for part in parts
        if isinstance(part, BarBlock)
        for symbol, ts in zip(part.symbol, part.ts_ns, strict=True)
    ]


def unsaid(parts: Sequence[Any]) -> set[Minute]:
    """The minutes of the day of which the last word is that nothing can be said."""
    said: dict[Minute, str] = {}
    for part in parts:
        if isinstance(part, Answer):
            for ts in DAY.starts(MINUTE_NS).tolist():
                if part.is_whole or part.start_ns <= ts < part.end_ns:
                    said |= dict.fromkeys(((name, ts) for name in part.symbols), part.kind)
    return {minute for minute, kind in said.items() if kind == "cannot_say"}


CLEAN = set(minutes(parts_of(MARKET)))


def test_what_is_dropped_can_t_be_said_and_is_there_when_it_is_asked_for_again() -> None:
    source = open_rehearsal("seed=7,drop=0.1")
    parts = parts_of(source)
    gone = CLEAN - set(minutes(parts))
    assert 0.05 < len(gone) / len(CLEAN) < 0.15
    assert unsaid(parts) == gone
    assert minutes(parts_of(open_rehearsal("seed=7,drop=0.1"))) == minutes(parts)
    for symbols in (SYMBOLS, SYMBOLS[:5]):
        again = parts_of(source, symbols)
        assert set(minutes(again)) == {minute for minute in CLEAN if minute[0] in symbols}
        assert unsaid(again) == set()
    # What nobody has asked for before is dropped as ever.
    other = {
        minute
        for day in DAYS[1:]
        for minute in minutes(parts_of(source, SYMBOLS, day.open_ns, day.close_ns))
    }
    assert len(other) < len(SYMBOLS) * len(DAYS[1].starts(MINUTE_NS))


def test_rows_asked_for_before_are_there_whoever_asks_for_more() -> None:
    source = open_rehearsal("drop=1")
    half_ns = DAY.open_ns + 60 * MINUTE_NS
    assert minutes(parts_of(source, SYMBOLS[:3], end_ns=half_ns)) == []
    found = set(minutes(parts_of(source)))
    assert found == {(s, ts) for s, ts in CLEAN if s in SYMBOLS[:3] and ts < half_ns}


def test_the_gap_filler_gets_what_was_dropped() -> None:
    source = open_rehearsal("drop=0.2,duplicate=0.2,disorder=0.2")
    parts_of(source)
    request = DataRequest(
        id="gap",
        run="run",
        kind="gap",
        streams=("bars",),
        symbols=SYMBOLS[:5],
        start_ns=DAY.open_ns,
        end_ns=DAY.close_ns,
        session=DAY.label,
        shard=0,
    )
    filled = Filler([source], 5.0).fill(request)
    found = [minute for _, block in filled.blocks for minute in minutes([block])]
    assert sorted(found) == sorted(m for m in CLEAN if m[0] in SYMBOLS[:5])


def test_of_the_dead_it_can_t_say_however_often_it_is_asked() -> None:
    source = open_rehearsal("dead=SYN0002@10:00-10:20+*@12:00-12:01")
    for symbols in (SYMBOLS, SYMBOLS[:2], SYMBOLS):
        parts = parts_of(source, symbols)
        dead = {
            (symbol, ts)
            for symbol, ts in CLEAN
            if symbol in symbols
            and (
                (ts - DAY.open_ns) // MINUTE_NS == 150
                or (symbol == "SYN0002" and 30 <= (ts - DAY.open_ns) // MINUTE_NS < 50)
            )
        }
        assert set(minutes(parts)) == {m for m in CLEAN if m[0] in symbols} - dead
        assert unsaid(parts) == dead


def test_rows_come_twice_and_out_of_order() -> None:
    parts = parts_of(open_rehearsal("duplicate=0.1,disorder=0.1"))
    found = minutes(parts)
    assert set(found) == CLEAN
    assert 0.05 < len(found) / len(CLEAN) - 1 < 0.15
    blocks = [part for part in parts if isinstance(part, BarBlock)]
    steps = [np.diff(block.ts_ns)[np.diff(block.symbol) == 0] for block in blocks]
    assert any((step < 0).any() for step in steps)


def test_a_question_fails_once() -> None:
    source = open_rehearsal("error=1")
    with pytest.raises(SourceError, match="the rehearsal lets a question fail"):
        parts_of(source)
    assert set(minutes(parts_of(source))) == CLEAN


def test_a_question_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("streams.sources.rehearsed.time.sleep", slept.append)
    source = open_rehearsal("delay=0.5@250ms")
    for number in range(1, 41):
        parts_of(source, SYMBOLS[:1], end_ns=DAY.open_ns + number * MINUTE_NS)
    assert set(slept) == {0.25}
    assert 10 < len(slept) < 30


def test_questions_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    source = open_rehearsal("drop=1")
    assert not minutes(parts_of(source))
    for symbol in SYMBOLS[:2]:
        assert minutes(parts_of(source, [symbol]))
    # The first one is forgotten now: what only it had asked for is new.
    assert {symbol for symbol, _ in minutes(parts_of(source))} == {*SYMBOLS[:2]}


def test_ticks_are_not_dropped_nobody_would_ask_again() -> None:
    zero = np.zeros(3, np.int32)
    block = tick_block(
        ("AA",),
        zero,
        np.full(3, DAY.open_ns),
        price=np.ones(3),
        size=np.ones(3),
        sequence=np.arange(3),
        condition=zero,
        conditions=("",),
    )

    bad = BadRow("file", 1, "it is no row")

    class Ticks:
        name = "ticks"

        def symbols(self) -> tuple[str, ...]:
            return ("AA",)

        def sessions(self) -> tuple[str, str]:
            return ("2024-11-27", "2024-11-27")

        def load(self, *_: object) -> Any:
            yield block
            yield bad
            yield Answer(("AA",), "rows")

    source = Rehearsed(Ticks(), parse("drop=1,duplicate=1"))
    assert (source.name, source.symbols(), source.sessions()) == (
        *("ticks", ("AA",)),
        ("2024-11-27", "2024-11-27"),
    )
    blocks, _, found = load_range(source, ("AA",), DAY.open_ns, DAY.close_ns, stream="ticks")
    assert found == [bad]
    assert blocks[0].sequence.tolist() == [0, 0, 1, 1, 2, 2]
    # Those of one moment are told apart.
    assert {int(parse(f"seed={n}").hits("drop", block, 0.5).sum()) for n in range(20)} >= {1, 2}


def test_the_whole_grammar() -> None:
    text = (
        "seed=7,drop=0.01,duplicate=0.02,disorder=0.03,delay=0.05@3s,late=1@2m,revise=0@20ms,"
        "disconnect=2@30s,dead=AIG@10:00-10:20+*@23:50-00:10,error=0.5,calendar=24/7"
    )
    spec = parse(text)
    assert (spec.seed, spec.drop, spec.duplicate, spec.disorder, spec.error) == (
        *(7, 0.01, 0.02, 0.03),
        0.5,
    )
    assert spec.delay == Sometimes(0.05, 3_000_000_000)
    assert spec.late == Sometimes(1.0, 2 * MINUTE_NS)
    assert spec.revise == Sometimes(0.0, 20_000_000)
    assert spec.disconnect == Sometimes(2.0, 30_000_000_000)
    assert [dead.symbol for dead in spec.dead] == ["AIG", "*"]
    assert isinstance(spec.dead[0], Dead)
    windows = list(spec.silence("BAC", DAY.open_ns, DAY.close_ns))
    assert windows == []  # it is dead at midnight, UTC
    midnight_ns = DAY.open_ns - DAY.open_ns % (1440 * MINUTE_NS) + 1440 * MINUTE_NS
    (found,) = spec.silence("BAC", midnight_ns - 1, midnight_ns + 60 * MINUTE_NS)
    assert found == (midnight_ns - 1, midnight_ns + 10 * MINUTE_NS)
    assert parse("") == Spec()


@pytest.mark.parametrize(
    ("text", "source", "options"),
    [
        ("lean:DIR", "lean:DIR", ""),
        ("seed=7:lean:DIR", "lean:DIR", "seed=7"),
        (
            "seed=7,dead=AIG@10:00-10:20:lean:DIR?market=equity/usa",
            "lean:DIR?market=equity/usa",
            "seed=7,dead=AIG@10:00-10:20",
        ),
        ("drop=0.1:rehearsal:seed=1:synthetic:", "rehearsal:seed=1:synthetic:", "drop=0.1"),
    ],
)
def test_the_source_stands_behind_the_options(text: str, source: str, options: str) -> None:
    assert inner_of(text) == (options, source)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("drop=2:synthetic:", "rehearsal: drop=2 has to be a number from 0 to 1"),
        ("drops=0.1:synthetic:", "rehearsal: 'drops=0.1' is no option"),
        ("delay=0.1:synthetic:", "delay=0.1 has to be a share from 0 to 1 with a time, such as 0"),
        ("delay=x@1s:synthetic:", "delay=x@1s has to be a share"),
        ("delay=2@1s:synthetic:", "delay=2@1s has to be a share"),
        ("delay=nan@1s:synthetic:", "delay=nan@1s has to be a share"),
        ("disconnect=1.5@1s:synthetic:", "disconnect=1.5@1s has to be a number from 0 to 1000"),
        ("dead=AIG@25:00-26:00:synthetic:", "has to be SYMBOL@HH:MM-HH:MM, joined by"),
        ("seed=7", "rehearsal:seed=7 names no source"),
        ("", "rehearsal: names no source"),
        ("seed=7:nowhere:x", "'nowhere:x' is no source"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_source(f"rehearsal:{text}")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_calendar_is_one() -> None:
    with pytest.raises(CalendarError):
        parse("calendar=MOON")


def test_a_path_inside_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("rehearsal:seed=1:lean:data") == f"rehearsal:seed=1:lean:{tmp_path}/data"
    assert absolute("rehearsal:lean:data") == f"rehearsal:lean:{tmp_path}/data"
    assert absolute("playback:lean:data") == f"playback:lean:{tmp_path}/data"


@given(st.integers(0, 2**53), st.floats(0, 1), st.integers(1, 20))
def test_a_decision_hangs_on_nothing_else(seed: int, share: float, count: int) -> None:
    spec = parse(f"seed={seed}")
    block = load_range(MARKET, SYMBOLS, DAY.open_ns, DAY.close_ns)[0][0]
    whole = spec.hits("drop", block, share)
    part = np.arange(0, len(block), count)
    assert (spec.hits("drop", block.take(part), share) == whole[part]).all()
