"""Quotes and ticks of CSV and Parquet files, as pandas, Databento and Alpaca write them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ConfigError
from streams.sources import BadRow, load_range, open_source
from streams.sources.rows import sort_ticks

OPEN_NS = int(datetime(2024, 7, 5, 13, 30, tzinfo=UTC).timestamp()) * 10**9
CLOSE_NS = OPEN_NS + 390 * 60 * 10**9
MS_NS = 10**6


def ask(uri: str, stream: str, *symbols: str) -> tuple[list[Any], dict[str, str], list[BadRow]]:
    return load_range(open_source(uri), symbols, OPEN_NS, CLOSE_NS, stream=stream)


def written(folder: Path, text: str, name: str = "abc.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def ticks_of(block: Any) -> list[tuple[int, float, float, str]]:
    said = [block.conditions[n] for n in block.condition]
    times = ((block.ts_ns - OPEN_NS) // MS_NS).tolist()
    return list(zip(times, block.price.tolist(), block.size.tolist(), said, strict=True))


def quotes_of(block: Any) -> list[tuple[float, ...]]:
    times = ((block.ts_ns - OPEN_NS) // MS_NS).tolist()
    sides = (block.bid, block.bid_size, block.ask, block.ask_size)
    return list(zip(times, *(side.tolist() for side in sides), strict=True))


TICKS = [(0, 10.5, 100.0, "@"), (5, 10.25, 1.0, "@ I"), (5, 10.5, 7.0, "@")]


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,price,size,conditions\n"
        "2024-07-05T13:30:00.000Z,10.5,100,@\n"
        "2024-07-05T13:30:00.005Z,10.25,1,@ I\n"
        "2024-07-05T13:30:00.005Z,10.5,7,@\n",
        "t,x,p,s,c,i,z,S\n"
        "2024-07-05T13:30:00.000Z,V,10.5,100,@,1,A,abc\n"
        "2024-07-05T13:30:00.005Z,V,10.25,1,@ I,2,A,abc\n"
        "2024-07-05T13:30:00.005Z,V,10.5,7,@,3,A,abc\n",
        "ts_event,price,size,conditions,symbol\n"
        "1720186200000000000,10500000000,100,@,abc\n"
        "1720186200005000000,10250000000,1,@ I,abc\n"
        "1720186200005000000,10500000000,7,@,abc\n",
    ],
    ids=["pandas", "alpaca", "databento"],
)
def test_ticks_of_common_exports(tmp_path: Path, text: str) -> None:
    blocks, kinds, bad = ask(f"csv:{written(tmp_path, text)}?stream=ticks", "ticks", "abc")
    [block] = blocks
    assert ticks_of(block) == TICKS
    assert (kinds, bad) == ({"abc": "rows"}, [])
    assert block.sequence.tolist() == [0, 0, 1]


@pytest.mark.parametrize("header", ["T,P,S,C", "t,p,s,S"])
def test_a_column_that_two_fields_would_be_has_to_be_named(tmp_path: Path, header: str) -> None:
    path = written(tmp_path, f"{header}\n2024-07-05T13:30:00Z,10.5,100,x\n", "wrong.csv")
    _, kinds, bad = ask(f"csv:{path}?stream=ticks", "ticks", "wrong")
    if header == "t,p,s,S":  # each means what Alpaca means by it
        assert (kinds, bad) == ({"wrong": "cannot_say"}, [])
        assert open_source(f"csv:{path}?stream=ticks").symbols() == ("x",)
        return
    assert kinds == {"wrong": "cannot_say"}
    assert [row.reason for row in bad] == [
        "size and symbol would both be column S: name them by ?map="
    ]
    blocks, _, bad = ask(f"csv:{path}?stream=ticks&map=symbol:C", "ticks", "x")
    assert [ticks_of(block) for block in blocks] == [[(0, 10.5, 100.0, "")]]


@pytest.mark.parametrize(
    "header",
    [
        "Timestamp,Bid,Bid_Size,Ask,Ask_Size",
        "t,bp,bs,ap,as",
        "ts,bid_px_00,bid_sz_00,ask_px_00,ask_sz_00",
    ],
)
def test_quotes_of_common_exports(tmp_path: Path, header: str) -> None:
    text = f"{header}\n2024-07-05T13:30:00.001Z,10,1,10.5,2\n2024-07-05T13:30:00.001Z,10.25,3,0,0\n"
    [block], kinds, bad = ask(f"csv:{written(tmp_path, text)}?stream=quotes", "quotes", "abc")
    assert quotes_of(block) == [(1, 10, 1, 10.5, 2), (1, 10.25, 3, 0, 0)]
    assert (kinds, bad) == ({"abc": "rows"}, [])


@pytest.mark.parametrize("scheme", ["csv", "parquet"])
def test_many_symbols_and_files_in_the_order_of_time(tmp_path: Path, scheme: str) -> None:
    rng = np.random.default_rng(3)
    frames = []
    for n in range(3):
        times = OPEN_NS + np.sort(rng.integers(0, 50, 200)) * MS_NS
        frames.append(
            pd.DataFrame(
                {
                    "timestamp": pd.to_datetime(times, utc=True),
                    "symbol": rng.choice(["A", "B"], 200),
                    "price": rng.integers(1, 1000, 200) / 4,
                    "size": rng.integers(1, 9, 200),
                    "conditions": rng.choice(["x", "y", "z"], 200),
                }
            )
        )
        path = tmp_path / f"{n}.{scheme}"
        frames[-1].to_csv(path, index=False) if scheme == "csv" else frames[-1].to_parquet(path)
    blocks, kinds, bad = ask(f"{scheme}:{tmp_path}?stream=ticks", "ticks", "A", "B", "C")
    assert kinds == {"A": "rows", "B": "rows", "C": "cannot_say"}
    # Files one behind the other are out of order together; pandas sorts the same by other means.
    assert [row.reason.split(",")[0] for row in bad] == ["out of order 4 times"]
    whole = pd.concat(frames, ignore_index=True)
    for block in blocks:
        [name] = block.symbols
        some = whole[whole["symbol"] == name].sort_values("timestamp", kind="stable")
        assert block.price.tolist() == some["price"].tolist()
        assert block.size.tolist() == some["size"].tolist()
        assert [block.conditions[c] for c in block.condition] == some["conditions"].tolist()
        assert block.ts_ns.tolist() == some["timestamp"].astype("int64").tolist()
        assert block.sequence.tolist() == some.groupby("timestamp").cumcount().tolist()


@pytest.mark.parametrize("scheme", ["csv", "parquet"])
def test_a_row_has_one_number_whatever_is_asked_for_with_it(tmp_path: Path, scheme: str) -> None:
    """Else what is asked for again, within other bounds, would be there twice."""
    at = OPEN_NS + np.array([0, 0, 5, 5, 5, 9]) * MS_NS
    table = pd.DataFrame(
        {"timestamp": pd.to_datetime(at, utc=True), "symbol": "A", "price": 1.0, "size": 1.0}
    )
    path = tmp_path / f"a.{scheme}"
    table.to_csv(path, index=False) if scheme == "csv" else table.to_parquet(path)
    source = open_source(f"{scheme}:{path}?stream=ticks")
    found = {}
    for start_ns in (OPEN_NS, OPEN_NS + 5 * MS_NS):
        [block], _, _ = load_range(source, ("A",), start_ns, CLOSE_NS, stream="ticks")
        found[start_ns] = list(zip(block.ts_ns.tolist(), block.sequence.tolist(), strict=True))
    whole, later = found.values()
    assert [number for _, number in whole] == [0, 1, 0, 1, 2, 0]
    assert later == whole[2:]


@pytest.mark.parametrize(
    "symbols",
    [
        pa.array(["A", "B", "A", None]),
        pa.array(["A", "B", "A", None], pa.large_string()),
        pa.array(["A", "B", "A", None]).dictionary_encode(),
        pa.array(["A", "B", "A", "A"]).dictionary_encode(),
        pa.array(["A", "B", "A", "A"], pa.large_string()).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([1, 2, 1, 1], pa.int8()), ["unused", "A", "B"]),
        pa.chunked_array(
            [pa.array(["A", "B"]).dictionary_encode(), pa.array(["A", "C"]).dictionary_encode()]
        ),
    ],
    ids=["text", "large", "null", "encoded", "encoded large", "more than there are", "differing"],
)
def test_symbols_as_a_parquet_file_may_have_them(tmp_path: Path, symbols: Any) -> None:
    at = pa.array(OPEN_NS + np.arange(4) * MS_NS, pa.timestamp("ns", "UTC"))
    columns = {"timestamp": at, "symbol": symbols, "price": [1.0, 2.0, 3.0, 4.0], "size": [1.0] * 4}
    path = tmp_path / "ticks.parquet"
    pq.write_table(pa.table(columns), path)
    names = [name or "" for name in symbols.to_pylist()]
    blocks, _, bad = ask(f"parquet:{path}?stream=ticks", "ticks", "A", "B")
    prices = {block.symbols[0]: block.price.tolist() for block in blocks}
    assert prices == {
        name: [n + 1.0 for n, said in enumerate(names) if said == name] for name in ("A", "B")
    }
    assert bad == []
    known = set(open_source(f"parquet:{path}?stream=ticks").symbols())
    assert known == set(names) - {""}


def test_bad_rows_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    text = (
        "timestamp,price,size\n2024-07-05T13:30:00Z,-1,1\n2024-07-05T13:30:00Z,1,nan\n"
        "2024-07-05T13:30:00Z,1,2\n2024-07-05T13:30:00Z,x,1\n2024-07-05T13:30:00Z,1,-3\n"
    )
    [block], kinds, bad = ask(f"csv:{written(tmp_path, text)}?stream=ticks", "ticks", "abc")
    assert (ticks_of(block), kinds) == ([(0, 1.0, 2.0, "")], {"abc": "rows"})
    assert sorted((row.line, row.reason) for row in bad) == [
        (2, "a price is negative"),
        (3, "a size is no number"),
        (5, "price is 'x', which is no double"),
        (6, "a size is negative"),
    ]


def test_a_source_of_one_stream_can_t_say_of_another(tmp_path: Path) -> None:
    path = written(tmp_path, "timestamp,price,size\n2024-07-05T13:30:00Z,1,1\n")
    for stream in ("bars", "quotes"):
        assert ask(f"csv:{path}?stream=ticks", stream, "abc") == ([], {"abc": "cannot_say"}, [])
    with pytest.raises(ConfigError, match="stream=trades has to be one of bars, quotes, ticks"):
        open_source(f"csv:{path}?stream=trades")
    with pytest.raises(
        ConfigError, match="'open:x' is no field:column, fields are timestamp, price"
    ):
        open_source(f"csv:{path}?stream=ticks&map=open:x")


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, 3),
            st.sampled_from([-1.0, 0.0, 1.5, np.inf, np.nan]),
            st.sampled_from([0.0, 2.0, -2.0, np.nan]),
        ),
        max_size=30,
    )
)
def test_ticks_are_kept_in_the_order_of_symbol_time_and_coming(
    rows: list[tuple[int, int, float, float]],
) -> None:
    symbol = np.array([row[0] for row in rows], np.int32)
    ts_ns = np.array([row[1] for row in rows], np.int64)
    price, size = (np.array([row[n] for row in rows], np.float64) for n in (2, 3))
    found = sort_ticks(symbol, ts_ns, [price], [size])
    good = [n for n, row in enumerate(rows) if 0 <= row[2] < np.inf and 0 <= row[3] < np.inf]
    assert found.keep.tolist() == sorted(good, key=lambda n: (rows[n][0], rows[n][1], n))
    bad = {fault.row for fault in found.faults if not fault.reason.startswith("out of order")}
    assert bad == set(range(len(rows))) - set(good)
