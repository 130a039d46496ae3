"""Bars built where a source has none: of folders as users have them, of answers of all kinds."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas import BarBlock, TickBlock
from streams.errors import ConfigError
from streams.intervals import MINUTE_NS
from streams.sources import Answer, BadRow, Part, Source, absolute, load_range, open_source
from streams.sources.built import BuiltSource
from streams.sources.rows import bar_block, tick_block

OPEN_MS = 34_200_000
OPEN_NS = 1_720_186_200 * 10**9
"""09:30 in New York on 2024-07-05."""
DAY = "20240705"


def zipped(root: Path, symbol: str, resolution: str, kind: str, lines: Sequence[str]) -> None:
    path = root / "equity/usa" / resolution / symbol / f"{DAY}_{kind}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{DAY}_{symbol}_{resolution}_{kind}.csv", "\n".join(lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a LEAN folder: BAR has minutes, TICK ticks, BOTH both, QUOTE quotes."""
    bars = [f"{OPEN_MS},1000000,1000000,1000000,1000000,7"]
    trades = [
        f"{OPEN_MS + 5},1000000,100,N,1,0",
        f"{OPEN_MS + 6},1020000,100,K,20000020,0",
        f"{OPEN_MS + 7},1010000,100,N,1,0",
        f"{OPEN_MS + 120_000},1030000,50,N,1,0",
        f"{OPEN_MS + 120_001},1040000,50,N,1,1",
    ]
    for symbol in ("bar", "both"):
        zipped(tmp_path, symbol, "minute", "trade", bars)
    for symbol in ("tick", "both"):
        zipped(tmp_path, symbol, "tick", "trade", trades)
    zipped(
        tmp_path,
        "quote",
        "tick",
        "quote",
        [f"{OPEN_MS},990000,1,0,0,P,1,0", f"{OPEN_MS},0,0,1010000,1,P,1,0"],
    )
    return tmp_path


def loaded(
    source: Source, *symbols: str, minutes: tuple[float, float] = (0, 4), interval: str = "1m"
) -> tuple[dict[str, list[tuple[float, ...]]], dict[str, str], list[BadRow]]:
    """Return by symbol its bars, minute since the open first; its answer; and what is bad."""
    span = [OPEN_NS + round(minute * MINUTE_NS) for minute in minutes]
    blocks, kinds, bad = load_range(source, symbols, *span, interval=interval)
    found: dict[str, list[tuple[float, ...]]] = {}
    for block in blocks:
        columns = (block.open, block.high, block.low, block.close, block.volume)
        at = (block.ts_ns - OPEN_NS) / MINUTE_NS
        for number, *values in zip(block.symbol, at, *columns, strict=True):
            found.setdefault(block.symbols[number], []).append(tuple(map(float, values)))
    return found, kinds, bad


FIRST_LEAN = (0, 100, 101, 100, 101, 300)
THIRD = (2, 103, 103, 103, 103, 50)


def test_bars_are_built_of_ticks_where_there_are_none(folder: Path) -> None:
    source = open_source(f"built:lean:{folder}")
    assert isinstance(source, Source)
    assert source.name == "built:lean"
    assert source.symbols() == ("BAR", "BOTH", "TICK")
    assert source.sessions() == ("2024-07-05", "2024-07-05")
    found, kinds, bad = loaded(source, "BAR", "BOTH", "TICK", "QUOTE")
    own = [(0, 100, 100, 100, 100, 7)]
    assert found == {"BAR": own, "BOTH": own, "TICK": [FIRST_LEAN, THIRD]}
    assert kinds == {"BAR": "rows", "BOTH": "rows", "TICK": "rows", "QUOTE": "cannot_say"}
    assert bad == []


def test_a_minute_without_a_tick_has_no_trade_where_the_ticks_are_whole(folder: Path) -> None:
    source = open_source(f"built:lean:{folder}")
    span = (OPEN_NS, OPEN_NS + 4 * MINUTE_NS)
    said = [p for p in source.load("bars", ("TICK",), *span, MINUTE_NS) if isinstance(p, Answer)]
    assert said == [Answer(("TICK",), "rows", vouched=True)]
    assert loaded(source, "TICK", minutes=(1, 2))[1] == {"TICK": "nothing"}


def test_always_and_other_rules(folder: Path) -> None:
    source = open_source(f"built:always=1,rules=tape:lean:{folder}?market=equity/usa")
    assert source.symbols() == ("BOTH", "TICK")
    assert source.sessions() == ("2024-07-05", "2024-07-05")
    found, kinds, _ = loaded(source, "BAR", "BOTH")
    assert found == {"BOTH": [(0, 100, 102, 100, 101, 300), THIRD]}
    assert kinds == {"BAR": "cannot_say", "BOTH": "rows"}


def test_bars_of_quotes(folder: Path) -> None:
    source = open_source(f"built:from=quotes:lean:{folder}")
    assert source.symbols() == ("BAR", "BOTH", "QUOTE")
    found, kinds, _ = loaded(source, "QUOTE", "TICK")
    assert found == {"QUOTE": [(0, 100, 100, 100, 100, 0)]}
    assert kinds == {"QUOTE": "rows", "TICK": "cannot_say"}


def test_quotes_and_ticks_are_given_as_they_are(folder: Path) -> None:
    [block], kinds, _ = load_range(
        open_source(f"built:lean:{folder}"), ("TICK",), OPEN_NS, OPEN_NS + 10**9, stream="ticks"
    )
    assert isinstance(block, TickBlock)
    assert (len(block), kinds) == (3, {"TICK": "rows"})


def test_ticks_of_files_with_conditions_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    lines = ["ts,symbol,price,size,conditions", "2024-07-05T13:30:01Z,X,5,10,C F"]
    path.write_text("\n".join([*lines, "2024-07-05T13:30:02Z,X,6,20,@ Q"]))
    source = open_source(f"built:csv:{path}?stream=ticks")
    assert (source.symbols(), source.sessions()) == (("X",), ("2024-07-05", "2024-07-05"))
    assert loaded(source, "X")[0] == {"X": [(0, 5, 6, 5, 6, 30)]}
    always = open_source(f"built:always=1:csv:{path}?stream=ticks")
    assert (always.symbols(), always.sessions()) == (source.symbols(), source.sessions())


def test_what_is_no_option_is_told(folder: Path) -> None:
    for how, what in (
        ("from=bars", "built: from=bars has to be one of ticks, quotes"),
        ("rules=mine", "built: rules=mine has to be one of tape, lean, all"),
        ("always=2", "built: always=2 has to be a number from 0 to 1"),
        ("form=ticks", "'form=ticks' is no option"),
    ):
        with pytest.raises(ConfigError, match=what):
            open_source(f"built:{how}:lean:{folder}")
    with pytest.raises(ConfigError, match="not built again"):
        open_source(f"built:built:lean:{folder}")
    with pytest.raises(ConfigError, match="'lean' is no source"):
        open_source("built:lean")


def test_a_path_in_it_means_the_same_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("built:lean:data") == f"built:lean:{tmp_path}/data"
    assert absolute("built:from=quotes:csv:a?stream=quotes") == (
        f"built:from=quotes:csv:{tmp_path}/a?stream=quotes"
    )


@dataclass
class Other:
    """A source that gives what a test says, and remembers what it was asked."""

    parts: Mapping[str, Sequence[Part]]
    name: str = "other"
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def symbols(self) -> tuple[str, ...]:
        return ("A", "B")

    def sessions(self) -> tuple[str, str] | None:
        return None

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        self.asked.append((stream, tuple(symbols), start_ns, end_ns))
        yield from self.parts[stream]


def ticks(*rows: tuple[str, float], text: str = "") -> TickBlock:
    """Return ticks by symbol and minute, each of price 5 and size 1."""
    names = tuple(dict.fromkeys(symbol for symbol, _ in rows))
    ones = np.ones(len(rows))
    return tick_block(
        names,
        np.array([names.index(symbol) for symbol, _ in rows], np.int32),
        np.array([OPEN_NS + round(at * MINUTE_NS) for _, at in rows], np.int64),
        price=5 * ones,
        size=ones,
        sequence=np.arange(len(rows)),
        condition=np.zeros(len(rows), np.int32),
        conditions=(text,),
    )


def bars(symbol: str, *minutes: int) -> BarBlock:
    """Return bars of price 9 in some minutes."""
    nine = np.full(len(minutes), 9.0)
    return bar_block(
        (symbol,),
        np.zeros(len(minutes), np.int32),
        np.array([OPEN_NS + minute * MINUTE_NS for minute in minutes], np.int64),
        interval_ns=MINUTE_NS,
        prices=[nine] * 4,
        volume=nine,
    )


def at(minute: float) -> int:
    return OPEN_NS + round(minute * MINUTE_NS)


def test_ticks_in_pieces_of_many_symbols_make_each_bar_once() -> None:
    other = Other(
        {
            "bars": [Answer(("A", "B"), "cannot_say")],
            "ticks": [
                ticks(("A", 0.2), ("B", 0.5)),
                BadRow("x", 1, "bad"),
                ticks(("A", 0.7), ("A", 1.5)),
                Answer(("A",), "rows", vouched=True),
                ticks(("B", 0.9)),
                Answer(("B",), "rows"),
            ],
        }
    )
    found, kinds, bad = loaded(BuiltSource(other), "A", "B", "A")
    five = (5, 5, 5, 5)
    assert found == {"A": [(0, *five, 2), (1, *five, 1)], "B": [(0, *five, 2)]}
    assert (kinds, len(bad)) == ({"A": "rows", "B": "rows"}, 1)
    assert BuiltSource(other).sessions() is None


def test_the_bars_that_are_there_stay() -> None:
    other = Other(
        {
            "bars": [bars("A", 0, 2), Answer(("A",), "cannot_say"), Answer(("B",), "nothing")],
            "ticks": [ticks(("A", 0), ("A", 1), ("A", 2)), Answer(("A",), "rows", vouched=True)],
        }
    )
    found, kinds, _ = loaded(BuiltSource(other), "A", "B")
    nine, five = (9, 9, 9, 9, 9), (5, 5, 5, 5, 1)
    assert found == {"A": [(0, *nine), (2, *nine), (1, *five)]}
    assert kinds == {"A": "rows", "B": "nothing"}
    assert [call[:2] for call in other.asked] == [("bars", ("A", "B")), ("ticks", ("A",))]


def test_a_bar_belongs_to_the_range_of_its_start_with_all_its_ticks() -> None:
    other = Other({"ticks": [ticks(("A", 1.1), ("A", 2.9)), Answer(("A",), "rows")]})
    found, _, _ = loaded(BuiltSource(other, always=True), "A", minutes=(0.5, 2.5))
    assert other.asked == [("ticks", ("A",), at(1), at(3))]
    assert [minute for minute, *_ in found["A"]] == [1, 2]


@pytest.mark.parametrize(("vouched", "kind"), [(True, "nothing"), (False, "cannot_say")])
def test_ticks_that_make_no_bar(vouched: bool, kind: str) -> None:
    # Volume only: of prices a minute with them says nothing.
    some = ticks(("A", 0.1), text="D 20100200")
    other = Other({"ticks": [some, Answer(("A",), "rows", vouched=vouched)]}, name="lean")
    assert loaded(BuiltSource(other, rules="tape", always=True), "A")[1] == {"A": kind}


def test_what_is_said_of_parts_is_said_of_whole_minutes() -> None:
    answers = [
        Answer(("A",), "rows", vouched=True),
        Answer(("A",), "cannot_say", at(1.2), at(1.7)),
        Answer(("A",), "nothing", at(2.2), at(4.8)),
        Answer(("A",), "nothing", at(6.2), at(6.8)),
    ]
    other = Other({"ticks": [ticks(("A", 0)), *answers]})
    span = (OPEN_NS, OPEN_NS + 8 * MINUTE_NS, MINUTE_NS)
    parts = BuiltSource(other, always=True).load("bars", ("A",), *span)
    assert [part for part in parts if isinstance(part, Answer)] == [
        answers[0],
        Answer(("A",), "cannot_say", at(1), at(2)),
        Answer(("A",), "nothing", at(3), at(4)),
    ]


def test_what_ends_without_an_answer_gives_its_bars() -> None:
    found, kinds, _ = loaded(BuiltSource(Other({"ticks": [ticks(("A", 0))]}), always=True), "A")
    assert (list(found), kinds) == (["A"], {})
