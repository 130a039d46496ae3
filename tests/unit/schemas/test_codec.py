"""What the codec writes it reads again, to the last bit; what doesn't fit together it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastavro.schema import to_parsing_canonical_form
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import (
    Bar,
    BarBlock,
    BarColumns,
    Codec,
    Coverage,
    Frame,
    QuoteBlock,
    QuoteColumns,
    TickBlock,
    TickColumns,
    schema_of,
)
from schemas import codec as codec_module
from schemas.codec import RECORDS
from streams.errors import DecodeError
from tests.unit.schemas.samples import NAMES, check_consistent, columns_of, image, names_of, records

CODEC = Codec()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_round_trip(name: str, data: st.DataObject) -> None:
    record = data.draw(records(name))
    decoded = CODEC.decode(CODEC.encode(record))
    assert image(decoded) == image(record)
    check_consistent(decoded)
    for column in columns_of(decoded):
        assert not column.flags.writeable
        assert column.flags.aligned


def ints(*values: int) -> Any:
    return np.array(values, np.int32)


def longs(*values: int) -> Any:
    return np.array(values, np.int64)


def floats(*values: float) -> Any:
    return np.array(values, np.float64)


def bars(rows: int = 3, **changed: Any) -> BarColumns:
    value: dict[str, Any] = {
        "row": np.arange(rows, dtype=np.int32),
        "symbol": np.arange(rows, dtype=np.int32) % 2,
        "ts_ns": np.arange(rows, dtype=np.int64),
        "interval_ns": np.full(rows, 60_000_000_000),
        "source": np.zeros(rows, np.int32),
        "revision": np.zeros(rows, np.int32),
    }
    for name in ("open", "high", "low", "close", "volume"):
        value[name] = np.arange(rows, dtype=np.float64)
    return BarColumns(**(value | changed))


def quotes(rows: int, row: Any) -> QuoteColumns:
    zeros = np.zeros(rows)
    index = np.zeros(rows, np.int32)
    return QuoteColumns(
        row, index, np.arange(rows, dtype=np.int64), zeros, zeros, zeros, zeros, index, index
    )


def frame(**changed: Any) -> Frame:
    value: dict[str, Any] = {
        "run": "r",
        "shard": 0,
        "shards": 1,
        "frame": 0,
        "first_row": 0,
        "rows": 3,
        "clock_ns": 0,
        "event": "rows",
        "mode": "replay",
        "speed": 0.0,
        "command": 1,
        "session": "2020-01-02",
        "open_ns": 1,
        "close_ns": 2,
        "open_offset": -1,
        "symbols": ("A", "B"),
        "sources": ("x",),
        "bars": bars(),
    }
    for name in Frame.__dataclass_fields__:
        if name.startswith("slice_"):
            value[name] = longs(1, 2) if name == "slice_ns" else ints(0, 0)
    value["slice_rows"] = ints(1, 2)
    return Frame(**(value | changed))


ONE_TWO = floats(1, 2)
BLOCK = BarBlock(
    symbols=("A", "B"),
    symbol=ints(0, 1),
    ts_ns=longs(1, 2),
    interval_ns=longs(60, 60),
    open=ONE_TWO,
    high=ONE_TWO,
    low=ONE_TWO,
    close=ONE_TWO,
    volume=ONE_TWO,
    revision=ints(0, 0),
)
TICKS = TickBlock(
    ("A",), ints(0), longs(1), floats(1), floats(1), ints(0), longs(0), ints(0), conditions=("@",)
)


def crc_64_avro(data: bytes) -> bytes:
    """Fingerprint by the Avro specification, its pseudo-code bit by bit; little-endian."""
    empty = 0xC15D213AA4D7A795
    value = empty
    for byte in data:
        entry = (value ^ byte) & 0xFF
        for _ in range(8):
            entry = (entry >> 1) ^ (empty if entry & 1 else 0)
        value = (value >> 8) ^ entry
    return value.to_bytes(8, "little")


def test_crc_is_the_one_of_the_specification() -> None:
    # Test vectors of Avro's own share/test/data/schema-tests.txt: "null" and {"type":"fixed"...}.
    assert crc_64_avro(b'"null"') == (7195948357588979594).to_bytes(8, "little")
    assert crc_64_avro(b'"int"') == (8247732601305521295).to_bytes(8, "little")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_header(name: str, data: st.DataObject) -> None:
    canonical = to_parsing_canonical_form(schema_of(name)).encode()
    encoded = CODEC.encode(data.draw(records(name)))
    assert encoded[:10] == b"\xc3\x01" + crc_64_avro(canonical)


def test_columns_are_as_small_as_they_can_be() -> None:
    """One value for all rows, nothing for a count: the price columns are what is left."""
    rows = 10_000
    small = len(CODEC.encode(frame(rows=0, bars=None, slice_rows=ints(0, 0))))
    many = len(CODEC.encode(frame(rows=rows, bars=bars(rows), slice_rows=ints(0, rows))))
    assert many - small < rows * (4 + 8 + 5 * 8) + 100


def test_what_is_the_same_of_all_ticks_and_slices_is_said_once() -> None:
    """A slice each, as ticks have them: time, symbol, price and size are left, and the mark."""
    rows = 10_000
    counts = {name: ints(*[0] * rows) for name in names_of(frame()) if name.startswith("slice_")}
    ticks = TickColumns(
        row=np.arange(rows, dtype=np.int32),
        symbol=np.arange(rows, dtype=np.int32) % 2,
        ts_ns=np.arange(rows, dtype=np.int64),
        price=np.arange(rows, dtype=np.float64),
        size=np.arange(rows, dtype=np.float64),
        source=np.zeros(rows, np.int32),
        condition=np.full(rows, -1, np.int32),
        revision=np.zeros(rows, np.int32),
        sequence=np.full(rows, -1, np.int64),
    )
    said = frame(
        **counts | {"slice_ns": np.arange(rows), "slice_rows": ints(*[1] * rows)},
        rows=rows,
        bars=None,
        ticks=ticks,
    )
    encoded = CODEC.encode(said)
    assert len(encoded) < rows * (4 + 8 + 8 + 8 + 8) + 1_000
    assert image(CODEC.decode(encoded)) == image(said)
    other = replace(said, slice_expected=ints(*[0] * (rows - 1), 7))
    decoded = CODEC.decode(CODEC.encode(other))
    assert isinstance(decoded, Frame)
    assert decoded.slice_expected.tolist()[-2:] == [0, 7]


def test_decoded_columns_are_the_bytes_of_the_message() -> None:
    decoded = CODEC.decode(CODEC.encode(frame()))
    assert isinstance(decoded, Frame)
    assert decoded.bars is not None
    base: Any = decoded.bars.close.base
    assert base == bars().close.tobytes()
    assert type(base) is bytes
    for column in columns_of(decoded.bars):
        if column is not decoded.bars.row:
            assert not column.flags.owndata


def test_many_rows() -> None:
    rows = 70_000
    decoded = CODEC.decode(
        CODEC.encode(frame(rows=rows, bars=bars(rows), slice_rows=ints(0, rows)))
    )
    assert isinstance(decoded, Frame)
    assert decoded.bars is not None
    assert decoded.bars.row.tolist() == list(range(rows))


def test_a_frame_without_rows_and_slices() -> None:
    opened = frame(event="open", rows=0, bars=None)
    names = [name for name in names_of(opened) if name.startswith("slice_")]
    bare = Frame(**{n: getattr(opened, n) for n in names_of(opened) if n not in names})
    decoded = CODEC.decode(CODEC.encode(bare))
    assert image(decoded) == image(bare)
    assert all(len(getattr(decoded, name)) == 0 for name in names)


def test_columns_may_be_left_out() -> None:
    """As a third party may send them: empty counts, revisions and conditions, one value for all."""
    some = 4
    zeros = np.zeros(some)
    decoded = CODEC.decode(
        CODEC.encode(
            TickBlock(("A",), ints(0), np.arange(some), zeros, zeros, ints(), longs(), ints())
        )
    )
    assert isinstance(decoded, TickBlock)
    assert decoded.symbol.tolist() == [0] * some
    assert decoded.condition.tolist() == [-1] * some
    assert decoded.revision.tolist() == [0] * some
    assert decoded.sequence.tolist() == list(range(some))


def test_lists_are_columns_too() -> None:
    loose: dict[str, Any] = {"ts_ns": [1, 2], "symbol": [0, 1]}
    assert image(CODEC.decode(CODEC.encode(replace(BLOCK, **loose)))) == image(BLOCK)


NOT_THE_ROWS = "the rows of the frame are not 0, 1, 2, …, each kind in order"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (replace(BLOCK, close=floats(1)), "column close has 1 values for 2 rows"),
        (replace(BLOCK, close=floats()), "column close has 0 values for 2 rows"),
        (replace(BLOCK, revision=ints(1, 2, 3)), "column revision has 3 values for 2 rows"),
        (replace(BLOCK, symbol=ints(0, 2)), "column symbol points outside its list of 2"),
        (replace(BLOCK, symbol=ints(-1, 0)), "column symbol points outside its list of 2"),
        (replace(TICKS, condition=ints(1)), "column condition points outside its list of 1"),
        (replace(TICKS, condition=ints(-2)), "column condition points outside its list of 1"),
        (frame(rows=4), "4 rows are announced and 3 in the slices, the columns hold 3"),
        (frame(slice_rows=ints(1, 1)), "3 rows are announced and 2 in the slices"),
        (frame(slice_missing=ints(1)), "the slice columns differ in length"),
        (frame(slice_corrections=ints(2, 0)), "a slice has more corrections than rows"),
        (frame(slice_corrections=ints(-1, 0)), "or less than none"),
        (frame(slice_rows=ints(-1, 4)), "a slice has more corrections than rows"),
        (frame(bars=bars(source=ints(0, 0, 1))), "column source points outside its list of 1"),
        (frame(bars=bars(row=ints(0, 2, 1))), NOT_THE_ROWS),
        (
            frame(rows=5, slice_rows=ints(1, 4), quotes=quotes(2, ints(3, 5))),
            NOT_THE_ROWS,
        ),
        (
            frame(rows=5, slice_rows=ints(1, 4), quotes=quotes(2, ints(-1, 4))),
            NOT_THE_ROWS,
        ),
        (frame(rows=5, slice_rows=ints(1, 4), quotes=quotes(2, ints(4, 3))), NOT_THE_ROWS),
        (frame(rows=5, slice_rows=ints(1, 4), quotes=quotes(2, ints())), NOT_THE_ROWS),
        (
            frame(rows=5, slice_rows=ints(1, 4), quotes=quotes(2, ints(2, 4))),
            NOT_THE_ROWS,
        ),
        (frame(rows=5, slice_rows=ints(1, 4), quotes=quotes(2, ints(3, 3))), NOT_THE_ROWS),
        (Bar("A", 2**63, 1, 1, 1, 1, 1), "ts_ns: 9223372036854775808 is no long"),
        (Bar("A", 1, 1, 1, 1, 1, 1, revision=2**31), "revision: 2147483648 is no int"),
        (Bar("A", 1, "x", 1, 1, 1, 1), "open: 'x' is no double"),  # type: ignore[arg-type]
        (Bar("A", 1, 10**400, 1, 1, 1, 1), "the Bar can't be written: int too large"),
        (Bar(7, 1, 1, 1, 1, 1, 1), "symbol: 7 is no string"),  # type: ignore[arg-type]
        (Bar("\ud800", 1, 1, 1, 1, 1, 1), "the Bar can't be written: .* surrogates not allowed"),
        (Coverage(("A",), 1, 2, answer="maybe"), r"answer: 'maybe' is no \['rows', 'nothing'"),
        (Coverage("AAPL", 1, 2), "symbols: 'AAPL' is no list of strings"),  # type: ignore[arg-type]
        (Coverage((1,), 1, 2), r"symbols: \(1,\) is no list of strings"),  # type: ignore[arg-type]
        (frame(positions=("raw.bars",)), "'str' object has no attribute 'topic'"),
        (
            replace(BLOCK, revision=longs(0, 2**31)),
            "column revision of int64 has values that fit no",
        ),
        (replace(BLOCK, ts_ns=floats(1, 2)), "column ts_ns of float64 has values that fit no"),
    ],
)
def test_what_nobody_could_read_is_not_written(record: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CODEC.encode(record)


def test_what_does_not_fit_together_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(codec_module, "check", lambda _: None)
        bad = [CODEC.encode(frame(rows=4)), CODEC.encode(replace(BLOCK, close=floats(1)))]
    for message in bad:
        with pytest.raises(DecodeError, match=r"raw\[2\]@7: not a .* for 2 rows|announced"):
            CODEC.decode(message, topic="raw", partition=2, offset=7)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "an empty message is no record"),
        (b"", "an empty message is no record"),
        (b"\xc3", "neither Avro's single-object encoding nor Confluent's wire format"),
        (b'{"symbol": "A"}', "neither Avro's"),
        (b"\xc3\x01abc", "no schema of ours has the fingerprint 616263"),
        (b"\x00\x00\x00\x00\x01", "needs SESSIONTAPE_SCHEMA_REGISTRY_URL"),
        (CODEC.encode(BLOCK)[:-30], "not a BarBlock|cut short"),
        (CODEC.encode(Bar("A", 1, 1, 1, 1, 1, 1))[:20], "the Bar is cut short"),
        (CODEC.encode(Bar("A", 1, 1, 1, 1, 1, 1)) + b"x", "1 bytes stand behind the end"),
    ],
)
def test_what_is_no_message_of_ours(data: bytes | None, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason) as caught:
        CODEC.decode(data, topic="raw.bars", partition=3, offset=2**40)
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == (
        "raw.bars",
        3,
        2**40,
    )


def test_an_older_version_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Bar from before ``run`` came in is read with its default."""
    old = json.loads(json.dumps(schema_of("Bar")))
    old["fields"] = [field for field in old["fields"] if field["name"] != "run"]
    (tmp_path / "Bar.v1.avsc").write_text(json.dumps(old))
    known = dict(codec_module._known(tmp_path))
    monkeypatch.setattr(codec_module, "_by_header", lambda: known)
    today = CODEC.encode(Bar("A", 1, 1, 2, 3, 4, 5))
    message = codec_module._header(old) + today[10:-1]
    assert CODEC.decode(message) == Bar("A", 1, 1, 2, 3, 4, 5)
    assert CODEC.decode(today) == Bar("A", 1, 1, 2, 3, 4, 5)
    with pytest.raises(DecodeError, match="1 bytes stand behind"):
        CODEC.decode(message + b"\x00")
    for end in range(10, len(message)):
        with pytest.raises(DecodeError):
            CODEC.decode(message[:end])


@pytest.mark.parametrize("name", NAMES)
def test_fields_of_class_and_schema_are_the_same(name: str) -> None:
    def check(cls: Any, schema: dict[str, Any]) -> None:
        kinds = {field["name"]: field["type"] for field in schema["fields"]}
        assert set(names_of(cls)) == set(kinds)
        columns = {
            field
            for field, kind in kinds.items()
            if isinstance(kind, dict) and kind["type"] == "bytes"
        }
        assert set(cls.columns) == (set() if cls is Frame else columns)
        assert all(field["doc"] for field in schema["fields"])

    schema = schema_of(name)
    check(RECORDS[name], schema)
    if name == "Frame":
        groups = {"bars": BarColumns, "quotes": QuoteColumns, "ticks": TickColumns}
        for field in schema["fields"]:
            if field["name"] in groups:
                check(groups[field["name"]], field["type"][1])


def test_take_picks_rows_in_order() -> None:
    picked = BLOCK.take(np.array([1, 0]))
    assert picked.ts_ns.tolist() == [2, 1]
    assert picked.symbols == ("A", "B")
    assert len(BLOCK.take(slice(0, 1))) == 1
    assert len(BLOCK.take(BLOCK.ts_ns > 5)) == 0
    assert isinstance(TICKS.take([0]), TickBlock)
    assert not isinstance(TICKS.take([0]), QuoteBlock)
