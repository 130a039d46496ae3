"""Bars read back from a chDB folder that a plain client has filled."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from schemas import TickBlock
from sinks.clickhouse import ClickHouseSink
from sinks.owner import FolderOwner, chdb_folder
from sinks.store import Store
from streams.errors import ConfigError, SourceError
from streams.intervals import MINUTE_NS
from streams.settings import Settings
from streams.sources import Answer, clickhouse, load_range, open_source
from streams.sources.clickhouse import ClickHouseSource
from tests.unit.sinks.frames import FIRST_OPEN_NS, Tape
from tests.unit.sinks.ticking import Slice, Told, put

COLUMNS = ("symbol", "interval_ns", "ts_ns", "open", "high", "low", "close", "volume", "revision")
TABLE = """
CREATE TABLE {name} (symbol LowCardinality(String), interval_ns Int64, ts_ns Int64, open Float64,
high Float64, low Float64, close Float64, volume Float64, revision Int32)
ENGINE = ReplacingMergeTree(revision) ORDER BY (symbol, interval_ns, ts_ns)
"""


def bar(symbol: str, minute: int, close: float, revision: int = 0, minutes: int = 1) -> list[Any]:
    prices = [1.0, 2.0, 0.5, close]
    return [symbol, minutes * MINUTE_NS, minute * MINUTE_NS, *prices, 10.0, revision]


def filled(folder: Path, *names: str) -> Path:
    client = clickhouse_connect.get_client(interface="chdb", path=str(folder))
    try:
        for name in names:
            client.command(f"CREATE DATABASE {name}")
            client.command(TABLE.format(name=f"{name}.bars"))
            rows = [
                *(bar("ABC", minute, 1.5) for minute in range(5)),
                bar("DEF", 2, 1.25),
                bar("ABC", 0, 9.0, minutes=5),
            ]
            client.insert(f"{name}.bars", rows, column_names=COLUMNS)
            client.insert(f"{name}.bars", [bar("ABC", 1, 1.75, 1)], column_names=COLUMNS)
    finally:
        client.close()
    return folder


def test_it_gives_the_final_state_of_the_bars_in_the_range(tmp_path: Path) -> None:
    source = open_source(f"clickhouse:{filled(tmp_path, 'tape')}")
    assert source.name == "clickhouse"
    assert source.symbols() == ("ABC", "DEF")
    assert source.sessions() == ("1970-01-01", "1970-01-01")
    [block], kinds, bad = load_range(source, ("DEF", "ABC", "GHI"), MINUTE_NS, 4 * MINUTE_NS)
    assert block.symbols == ("ABC", "DEF")
    assert list(block.symbol) == [0, 0, 0, 1]
    assert list(block.ts_ns) == [n * MINUTE_NS for n in (1, 2, 3, 2)]
    assert list(block.close) == [1.75, 1.5, 1.5, 1.25]
    assert list(block.revision) == [1, 0, 0, 0]
    assert (kinds, bad) == ({"DEF": "rows", "ABC": "rows", "GHI": "cannot_say"}, [])
    parts = source.load("bars", ("DEF", "ABC", "GHI"), MINUTE_NS, 4 * MINUTE_NS, MINUTE_NS)
    answers = [part for part in parts if isinstance(part, Answer)]
    assert [answer.says_nothing for answer in answers] == [False, False]


def test_other_streams_and_empty_ranges_it_cannot_say(tmp_path: Path) -> None:
    source = open_source(f"clickhouse:{filled(tmp_path, 'tape')}")
    assert load_range(source, ("ABC",), 0, 9, stream="quotes")[1] == {"ABC": "cannot_say"}
    assert load_range(source, ("ABC",), 10**18, 10**18 + 1) == ([], {"ABC": "cannot_say"}, [])
    [block], _, _ = load_range(source, ("ABC",), 0, 10**12, interval="5m")
    assert list(block.close) == [9.0]


def test_of_several_databases_one_has_to_be_named(tmp_path: Path) -> None:
    filled(tmp_path, "one", "two")
    with pytest.raises(SourceError, match="databases one, two have a table bars: name one by"):
        open_source(f"clickhouse:{tmp_path}").symbols()
    assert open_source(f"clickhouse:{tmp_path}?database=two").symbols() == ("ABC", "DEF")
    with pytest.raises(SourceError, match="no database has a table quotes"):
        open_source(f"clickhouse:{tmp_path}?table=quotes").symbols()
    with pytest.raises(SourceError, match="it can't be read: "):
        open_source(f"clickhouse:{tmp_path}?database=three").symbols()


def test_an_empty_table_has_no_days(tmp_path: Path) -> None:
    client = clickhouse_connect.get_client(interface="chdb", path=str(tmp_path))
    client.command("CREATE DATABASE tape")
    client.command(TABLE.format(name="tape.bars"))
    client.close()
    assert open_source(f"clickhouse:{tmp_path}").sessions() is None


def recorded(settings: Settings) -> Tape:
    """Let the sink write bars, quotes and ticks; return the tape that they are of."""
    tape = Tape()
    tape.session(0)
    rows = (
        Told("ticks", 0, 5, 1.0, condition=1),
        Told("ticks", 0, 5, 2.0),
        Told("ticks", 2, 5, 3.0, condition=0),
        Told("quotes", 1, 5, 4.0),
    )
    put(tape, [Slice(5, (), rows)])
    put(tape, [Slice(9, (Told("ticks", 2, 5, 6.0, revision=1),), (Told("quotes", 0, 9, 7.0),))])
    with FolderOwner(settings):
        store = Store.open(settings)
        sink = ClickHouseSink(store)
        sink.resume({0: None}, {0: 0})
        sink.write(tape.frames)
        sink.flush()
        sink.close()
    return tape


def part_of(blocks: Sequence[TickBlock], symbol: str) -> TickBlock:
    """Return the rows of a symbol, which stand in one block."""
    [block] = [block for block in blocks if symbol in block.symbols]
    return block.take(block.symbol == block.symbols.index(symbol))


@pytest.mark.parametrize("at_once", [1, 2, 10])
def test_quotes_and_ticks_that_the_sink_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(clickhouse, "READ_ROWS", at_once)
    settings = Settings(data_dir=tmp_path, namespace="unit-1")
    recorded(settings)
    source = open_source(f"clickhouse:{chdb_folder(settings)}")
    assert source.symbols() == ("AAA", "BBB", "CCC")
    assert source.sessions() == ("2013-10-07", "2013-10-07")
    span = (("CCC", "BBB", "AAA"), FIRST_OPEN_NS, FIRST_OPEN_NS + 9)
    blocks, kinds, _ = load_range(source, *span, stream="ticks")
    assert kinds == {"AAA": "rows", "BBB": "cannot_say", "CCC": "rows"}
    first, last = (part_of(blocks, symbol) for symbol in ("AAA", "CCC"))
    assert len(blocks) == (2 if at_once < 3 else 1)
    assert list(first.ts_ns - FIRST_OPEN_NS) == [5, 5]
    assert (list(first.price), list(first.size)) == ([1.0, 2.0], [101.0, 102.0])
    assert (list(first.sequence), list(first.revision)) == ([1, 2], [0, 0])
    assert [first.conditions[n] if n >= 0 else "" for n in first.condition] == ["@ I", ""]
    assert (list(last.price), list(last.revision)) == ([6.0], [1])
    assert list(last.condition) == [-1]
    [quotes], kinds, _ = load_range(source, *span, stream="quotes")
    assert kinds == {"AAA": "cannot_say", "BBB": "rows", "CCC": "cannot_say"}
    values = (quotes.bid, quotes.bid_size, quotes.ask, quotes.ask_size)
    assert [list(column) for column in values] == [[4.0], [104.0], [4.25], [204.0]]
    assert (quotes.symbols, list(quotes.sequence), list(quotes.revision)) == (("BBB",), [1], [0])


def test_a_database_of_ticks_alone(tmp_path: Path) -> None:
    client = clickhouse_connect.get_client(interface="chdb", path=str(tmp_path))
    client.command("CREATE DATABASE tape")
    client.command(
        "CREATE TABLE tape.trades (symbol String, ts_ns Int64, place Int32, price Float64, "
        "size Float64, condition String, revision Int32) "
        "ENGINE = ReplacingMergeTree ORDER BY (symbol, ts_ns, place)"
    )
    client.insert("tape.trades", [["XYZ", 10**18, 0, 1.0, 2.0, "", 0]])
    client.close()
    source = open_source(f"clickhouse:{tmp_path}?ticks=trades")
    assert source.symbols() == ("XYZ",)
    assert source.sessions() == ("2001-09-09", "2001-09-09")
    assert load_range(source, ("XYZ",), 0, 2 * 10**18)[1] == {"XYZ": "cannot_say"}
    [block], _, _ = load_range(source, ("XYZ",), 0, 2 * 10**18, stream="ticks")
    assert list(block.size) == [2.0]
    # A table that was named has to be there.
    wrong = open_source(f"clickhouse:{tmp_path}?database=tape&ticks=nothing")
    with pytest.raises(SourceError, match="it can't be read: "):
        load_range(wrong, ("XYZ",), 0, 9, stream="ticks")


@pytest.mark.parametrize(
    ("place", "arguments", "database"),
    [
        ("http://localhost", ("localhost", 8123, "default", "", False), ""),
        ("//me:p%40ss@db.local:99/tape", ("db.local", 99, "me", "p@ss", False), "tape"),
        ("https://me@db.local/tape", ("db.local", 8443, "me", "", True), "tape"),
        (
            "clickhouses://db.local/tape?database=other",
            ("db.local", 8443, "default", "", True),
            "other",
        ),
    ],
)
def test_a_dsn_names_a_server(place: str, arguments: tuple[Any, ...], database: str) -> None:
    source = open_source(f"clickhouse:{place}")
    assert isinstance(source, ClickHouseSource)
    names = ("host", "port", "username", "password", "secure")
    assert tuple(source.arguments[name] for name in names) == arguments
    assert source.database == database
    assert "p@ss" not in repr(source)


def test_a_server_that_does_not_answer_is_one_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SourceError, match=f"127.0.0.1:{port}: it can't be opened: ") as caught:
        open_source(f"clickhouse:http://me:secret@127.0.0.1:{port}").symbols()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("nowhere", SourceError, "nowhere: there is no such chDB folder"),
        ("ftp://secret@host", ConfigError, "no DSN: write http"),
        ("http://secret@host:port/x", ConfigError, "no DSN: write http"),
        ("http://host?table=a;b", ConfigError, "'a;b' is no name"),
        ("http://host?database=1x", ConfigError, "'1x' is no name"),
        ("http://host?colour=red", ConfigError, "'colour=red' is no option"),
    ],
)
def test_a_wrong_place_is_one_sentence(place: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        open_source(f"clickhouse:{place}")
    assert "secret" not in str(caught.value)
