"""CSV and Parquet files as pandas, LEAN, Databento and Alpaca write them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streams.errors import ConfigError, SourceError
from streams.intervals import MINUTE_NS
from streams.sources import Answer, BadRow, load_range, open_source
from streams.sources.columnar import DAY_NS

UTC = ZoneInfo("UTC")


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 10**9


OPEN_NS = at("2024-07-05T13:30")  # 09:30 in New York
CLOSE_NS = at("2024-07-05T20:00")
Row = tuple[str, int, float, float, float, float, float]


def ask(
    uri: str, *symbols: str, start_ns: int = OPEN_NS, end_ns: int = CLOSE_NS, **how: Any
) -> tuple[list[Row], dict[str, str], list[BadRow]]:
    """Rows with their times in minutes from the open, answers, bad rows."""
    blocks, kinds, bad = load_range(open_source(uri), symbols, start_ns, end_ns, **how)
    rows = [
        (b.symbols[s], (int(ts) - OPEN_NS) // MINUTE_NS, *(float(v) for v in values))
        for b in blocks
        for s, ts, *values in zip(
            b.symbol, b.ts_ns, b.open, b.high, b.low, b.close, b.volume, strict=True
        )
    ]
    return rows, kinds, bad


TWO = [("ABC", 0, 10.0, 11.0, 9.0, 10.5, 100.0), ("ABC", 1, 10.5, 10.5, 10.0, 10.0, 250.5)]


def written(tmp_path: Path, text: str, name: str = "abc.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


PANDAS_INDEX = """\
Datetime,Open,High,Low,Close,Adj Close,Volume
2024-07-05 09:30:00-04:00,10,11,9,10.5,1,100
2024-07-05 09:31:00-04:00,10.5,10.5,10,10,1,250.5
"""
PANDAS_UNNAMED = """\
,open,high,low,close,volume,symbol
2024-07-05 13:30:00,10,11,9,10.5,100,ABC
2024-07-05 13:31:00,10.5,10.5,10,10,250.5,ABC
"""
DATABENTO = """\
ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol
1720186200000000000,33,2,38,10000000000,11000000000,9000000000,10500000000,100,ABC
1720186260000000000,33,2,38,10500000000,10500000000,10000000000,10000000000,250.5,ABC
"""
DATABENTO_PRETTY = """\
ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol
2024-07-05T13:30:00.000000000Z,33,2,38,10.000000000,11.000000000,9.000000000,10.500000000,100,ABC
2024-07-05T13:31:00.000000000Z,33,2,38,10.500000000,10.500000000,10.000000000,10.000000000,250.5,ABC
"""
ALPACA_SHORT = """\
t,o,h,l,c,v,n,vw
2024-07-05T13:30:00Z,10,11,9,10.5,100,3,10.1
2024-07-05T13:31:00Z,10.5,10.5,10,10,250.5,3,10.1
"""
ALPACA_FRAME = """\
symbol,timestamp,open,high,low,close,volume,trade_count,vwap
ABC,2024-07-05 13:30:00+00:00,10,11,9,10.5,100,3,10.1
ABC,2024-07-05 13:31:00+00:00,10.5,10.5,10,10,250.5,3,10.1
"""
QUOTED = """\
"Ticker","Time","O","H","L","C","Vol"
"ABC","1720186200","10","11","9","10.5","100"
"ABC","1720186260","10.5","10.5","10","10","250.5"
"""


@pytest.mark.parametrize(
    "text",
    [PANDAS_INDEX, PANDAS_UNNAMED, DATABENTO, DATABENTO_PRETTY, ALPACA_SHORT, ALPACA_FRAME, QUOTED],
    ids=["pandas", "unnamed", "databento", "pretty", "alpaca", "alpaca-frame", "quoted"],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_names_of_common_exports_are_known(tmp_path: Path, text: str, line_end: str) -> None:
    path = tmp_path / "ABC.csv"
    path.write_bytes(text.replace("\n", line_end).encode())
    assert ask(f"csv:{path}", "ABC") == (TWO, {"ABC": "rows"}, [])


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_epochs_of_any_unit_are_told_by_their_size(tmp_path: Path, unit: int) -> None:
    lines = [f"{(OPEN_NS // 10**9 + 60 * n) * unit},10,11,9,10.5,100" for n in range(2)]
    path = written(tmp_path, "\n".join(["ts,open,high,low,close,volume", *lines]))
    rows, _, bad = ask(f"csv:{path}?symbol=ABC", "ABC")
    assert ([row[1] for row in rows], bad) == ([0, 1], [])


def test_times_without_a_zone_are_those_of_tz(tmp_path: Path) -> None:
    text = "date,open,high,low,close,volume\n2024-07-05 09:30,10,11,9,10.5,100\n"
    path = written(tmp_path, text)
    assert ask(f"csv:{path}?tz=America/New_York&symbol=ABC", "ABC")[0] == TWO[:1]
    assert ask(f"csv:{path}?symbol=ABC", "ABC")[0] == []


def test_other_columns_are_mapped(tmp_path: Path) -> None:
    text = "Zeit,Erster,Hoch,Tief,Letzter,Menge,WKN\n1720186200,100,110,90,105,100,ABC\n"
    path = written(tmp_path, text)
    names = "timestamp:Zeit,open:Erster,high:Hoch,low:Tief,close:Letzter,volume:Menge,symbol:WKN"
    assert ask(f"csv:{path}?map={names}&scale=10", "ABC")[0] == TWO[:1]


def test_a_file_without_symbols_has_its_name_or_the_option(tmp_path: Path) -> None:
    path = written(tmp_path, PANDAS_INDEX, "XYZ.csv")
    assert open_source(f"csv:{path}").symbols() == ("XYZ",)
    assert open_source(f"csv:{path}?symbol=ABC").symbols() == ("ABC",)


def test_a_lean_csv_file_is_known_by_its_name(tmp_path: Path) -> None:
    text = "34200000,100000,110000,90000,105000,100\n34260000,105000,105000,100000,100000,250.5\n"
    written(tmp_path, text + "x,1,1,1,1,1\n", "20240705_abc_minute_trade.csv")
    rows, kinds, [bad] = ask(f"csv:{tmp_path}", "ABC")
    assert (rows, kinds) == (TWO, {"ABC": "rows"})
    assert (bad.line, bad.text, bad.symbol) == (3, b"x,1,1,1,1,1", "ABC")
    assert ask(f"csv:{tmp_path}?tz=UTC&scale=1", "ABC", start_ns=0)[0][0] == (
        *("ABC", -240, 100000.0, 110000.0, 90000.0, 105000.0, 100.0),
    )


def test_many_symbols_in_the_order_of_time_and_many_files(tmp_path: Path) -> None:
    written(tmp_path, ALPACA_FRAME.replace("ABC,2024-07-05 13:31", "DEF,2024-07-05 13:30"), "a.csv")
    written(tmp_path, ALPACA_FRAME.replace("13:3", "13:4"), "b.csv")
    rows, kinds, bad = ask(f"csv:{tmp_path}", "DEF", "ABC", "GHI")
    assert [row[:2] for row in rows] == [("DEF", 0), ("ABC", 0), ("ABC", 10), ("ABC", 11)]
    assert (kinds, bad) == ({"DEF": "rows", "ABC": "rows", "GHI": "cannot_say"}, [])
    source = open_source(f"csv:{tmp_path}")
    assert source.symbols() == ("ABC", "DEF")
    assert source.sessions() == ("2024-07-05", "2024-07-05")


def test_it_vouches_for_its_days_only(tmp_path: Path) -> None:
    uri = f"csv:{written(tmp_path, ALPACA_FRAME)}"
    assert ask(uri, "ABC", start_ns=OPEN_NS + 2 * MINUTE_NS)[1] == {"ABC": "nothing"}
    assert ask(uri, "ABC", end_ns=at("2024-07-08T20:00"))[1:] == ({"ABC": "cannot_say"}, [])
    assert ask(uri, "ABC", start_ns=at("2024-07-04T13:30"))[1] == {"ABC": "cannot_say"}
    assert ask(uri, "ABC", interval="5m")[1] == {"ABC": "cannot_say"}
    assert ask(uri, "ABC", stream="quotes")[1] == {"ABC": "cannot_say"}
    assert ask(f"{uri}?interval=5m", "ABC", interval="5m")[0] == TWO


HEAD = "timestamp,open,high,low,close,volume"
FIRST, SECOND, THIRD = (f"2024-07-05T13:3{n}:00Z,10,11,9,10.5,100" for n in range(3))


@pytest.mark.parametrize(
    ("lines", "kept", "faults"),
    [
        ([FIRST, "2024-07-05T13:31:00Z,10", THIRD], [0, 2], [(3, "it has 2 fields, not 6")]),
        (
            [FIRST, "", "soon,1,1,1,1,1", THIRD],
            [0, 2],
            [(4, "timestamp is 'soon', which is no timestamp[ns, tz=UTC]")],
        ),
        (
            [FIRST, "2024-07-05T13:31:00Z,1,1,1,x,1", THIRD],
            [0, 2],
            [(3, "close is 'x', which is no double")],
        ),
        ([FIRST, "2024-07-05T13:31:00Z,1,1,1,NaN,1", THIRD], [0, 2], [(3, "a price is no number")]),
        ([FIRST, "2024-07-05T13:31:00Z,1,1,-1,1,1", THIRD], [0, 2], [(3, "a price is negative")]),
        (
            [FIRST, "2024-07-05T13:31:00Z,1,1,2,1,1", THIRD],
            [0, 2],
            [(3, "the high is below the low")],
        ),
        ([FIRST, FIRST, SECOND], [0, 1], [(3, "a second row of this time")]),
        (
            [THIRD, FIRST, SECOND],
            [0, 1, 2],
            [(3, "out of order 1 time, first here; the rows were sorted")],
        ),
        (
            [FIRST, '2024-07-05T13:31:00Z,"1,1,1,1,1', THIRD],
            [0, 2],
            [(3, "it has 2 fields, not 6")],
        ),
        ([], [], []),
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_on(
    tmp_path: Path, lines: list[str], kept: list[int], faults: list[tuple[int, str]]
) -> None:
    path = written(tmp_path, "\n".join([HEAD, *lines]), "ABC.csv")
    rows, _, bad = ask(f"csv:{path}", "ABC")
    assert [row[1] for row in rows] == kept
    assert [(row.line, row.reason) for row in bad] == faults
    for row in bad:
        assert (row.path, row.text) == (str(path), lines[row.line - 2].encode())


def test_bad_lines_are_told_once(tmp_path: Path) -> None:
    source = open_source(f"csv:{written(tmp_path, HEAD + chr(10) + FIRST + chr(10) + 'x')}")
    source.symbols()
    assert len(load_range(source, ("abc",), OPEN_NS, CLOSE_NS)[2]) == 1
    assert len(load_range(source, ("abc",), OPEN_NS, CLOSE_NS)[2]) == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "no column for timestamp, open, high, low, close, volume among a, b"),
        ("Date,Time,O,H,L,C,V\n", "date and time stand in two columns"),
        ("", "no column for timestamp"),
        (b"\xff\xfe\n", "the header is no text"),
    ],
)
def test_a_file_that_can_t_be_read_is_named_and_the_others_go_on(
    tmp_path: Path, text: str | bytes, reason: str
) -> None:
    written(tmp_path, ALPACA_FRAME, "good.csv")
    wrong = tmp_path / "wrong.csv"
    wrong.write_bytes(text if isinstance(text, bytes) else text.encode())
    rows, _, [bad] = ask(f"csv:{tmp_path}", "ABC")
    assert rows == TWO
    assert (bad.path, bad.line) == (str(wrong), 1)
    assert bad.reason.startswith(reason)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, ALPACA_FRAME)
    source = open_source(f"csv:{path}")
    path.unlink()
    _, kinds, [bad] = load_range(source, ("ABC",), OPEN_NS, CLOSE_NS)
    assert (kinds, bad.reason) == (
        {"ABC": "cannot_say"},
        "it can't be read: No such file or directory",
    )
    assert source.sessions() is None


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("csv:DIR/none.csv", SourceError, "there is no such file"),
        ("csv:DIR", SourceError, r"the folder has no \.csv file"),
        ("parquet:DIR", SourceError, r"the folder has no \.parquet file"),
        ("csv:DIR?tz=Mars", ConfigError, "tz=Mars has to be a time zone such as"),
        ("csv:DIR?map=price:x", ConfigError, "'price:x' is no field:column, fields are timestamp"),
        ("csv:DIR?interval=1x", ConfigError, "'1x' is no interval"),
        ("csv:DIR?scale=0", ConfigError, "scale=0 has to be a number"),
        ("csv:DIR?colour=red", ConfigError, "'colour=red' is no option"),
    ],
)
def test_a_wrong_uri_is_one_sentence(
    tmp_path: Path, uri: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_source(uri.replace("DIR", str(tmp_path)))


FRAME = pd.DataFrame(
    {
        "open": [10.0, 10.5],
        "high": [11.0, 10.5],
        "low": [9.0, 10.0],
        "close": [10.5, 10.0],
        "volume": [100.0, 250.5],
    },
    index=pd.DatetimeIndex(["2024-07-05 13:30", "2024-07-05 13:31"], tz="UTC"),
)


def times(kind: str) -> Any:
    index = pd.DatetimeIndex(FRAME.index)
    return {
        "utc": index,
        "zoned": index.tz_convert("America/New_York"),
        "naive": index.tz_localize(None),
        "ms": index.tz_localize(None).astype("datetime64[ms]"),
        "epoch": index.as_unit("ns").astype("int64"),
        "seconds": index.as_unit("ns").astype("int64") / 1e9,
        "text": index.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }[kind]


@pytest.mark.parametrize("kind", ["utc", "zoned", "naive", "ms", "epoch", "seconds", "text"])
def test_parquet_times_of_every_type(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ABC.parquet"
    FRAME.assign(timestamp=times(kind)).to_parquet(path, index=False)
    assert ask(f"parquet:{path}", "ABC") == (TWO, {"ABC": "rows"}, [])


def test_a_pandas_index_and_categories_are_known(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    FRAME.assign(symbol=pd.Categorical(["ABC", "ABC"])).to_parquet(path)
    assert ask(f"parquet:{path}", "ABC") == (TWO, {"ABC": "rows"}, [])


def test_databento_s_fixed_point_prices_and_undefined_ones(tmp_path: Path) -> None:
    path = tmp_path / "ABC.parquet"
    prices = {
        n: (FRAME[n].to_numpy() * 1e9).astype(np.int64) for n in ("open", "high", "low", "close")
    }
    prices["high"][1] = 2**63 - 1
    frame = FRAME.assign(**prices)
    frame.index.name = "ts_event"
    frame.to_parquet(path)
    rows, _, bad = ask(f"parquet:{path}", "ABC")
    assert rows == TWO[:1]
    assert bad == [BadRow(str(path), 2, "a price is no number", b"", "ABC")]


def test_a_time_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ABC.parquet"
    FRAME.assign(timestamp=pd.DatetimeIndex(["2024-07-05 13:30", None])).to_parquet(
        path, index=False
    )
    source = open_source(f"csv:{written(tmp_path, ALPACA_FRAME)}")
    assert source.name == "csv"
    rows, _, bad = ask(f"parquet:{path}", "ABC")
    assert rows == TWO[:1]
    assert [(row.line, row.reason) for row in bad] == [(2, "the time is missing")]


def test_only_the_row_groups_of_the_range_are_read(tmp_path: Path) -> None:
    count = 1000
    start = np.arange(count) * MINUTE_NS + OPEN_NS
    one = np.ones(count)
    table = pa.table(
        {"ts_ns": start, "open": one, "high": one, "low": one, "close": one, "volume": one}
    )
    path = tmp_path / "ABC.parquet"
    pq.write_table(table, path, row_group_size=100)
    damaged = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(5).column(1)
    first = column.dictionary_page_offset or column.data_page_offset
    damaged[first : first + 20] = b"\xff" * 20
    path.write_bytes(bytes(damaged))
    early, kinds, bad = ask(f"parquet:{path}", "ABC", end_ns=int(start[250]))
    assert ([row[1] for row in early], kinds, bad) == (list(range(250)), {"ABC": "rows"}, [])
    _, _, bad = ask(f"parquet:{path}", "ABC", end_ns=int(start[600]))
    assert [(row.line, row.reason[:27]) for row in bad] == [(501, "row group 5 can't be read: ")]
    source = open_source(f"parquet:{path}")
    assert source.sessions() == ("2024-07-05", "2024-07-06")


def test_a_parquet_file_that_is_none_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "ABC.parquet")
    (tmp_path / "wrong.parquet").write_bytes(b"no parquet")
    source = open_source(f"parquet:{tmp_path}")
    blocks, kinds, bad = load_range(source, ("ABC",), OPEN_NS, CLOSE_NS)
    assert (sum(map(len, blocks)), kinds) == (2, {"ABC": "rows"})
    assert [(row.path, row.line) for row in bad] == [(str(tmp_path / "wrong.parquet"), 0)]


def test_parquet_symbols_are_those_of_all_files(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "B.parquet")
    FRAME.assign(symbol=["A", "C"]).to_parquet(tmp_path / "x.parquet")
    source = open_source(f"parquet:{tmp_path}")
    assert source.symbols() == ("A", "B", "C")
    _, kinds, _ = load_range(source, ("A", "D"), OPEN_NS, CLOSE_NS)
    assert kinds == {"A": "rows", "D": "cannot_say"}


def test_it_vouches_for_minutes_between_its_first_and_its_last_day(tmp_path: Path) -> None:
    source = open_source(f"csv:{written(tmp_path, ALPACA_FRAME)}")
    *_, inside = source.load("bars", ("ABC",), OPEN_NS, CLOSE_NS, MINUTE_NS)
    assert inside == Answer(("ABC",), "rows", vouched=True)
    *_, beyond = source.load("bars", ("ABC",), OPEN_NS, CLOSE_NS + DAY_NS, MINUTE_NS)
    assert beyond == Answer(("ABC",), "cannot_say", vouched=False)
