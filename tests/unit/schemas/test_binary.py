"""Our bytes are Avro: held against fastavro, which knows nothing of our column types."""

from __future__ import annotations

import io
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Codec, Coverage, Frame, schema_of
from schemas.binary import plan_of
from tests.unit.schemas.samples import DTYPES, GROUPS, NAMES, columns_of, image, records

CODEC = Codec()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_fastavro_reads_it_and_writes_the_same(name: str, data: st.DataObject) -> None:
    encoded = CODEC.encode(data.draw(records(name)))
    schema = fastavro.parse_schema(schema_of(name))
    stream = io.BytesIO(encoded[10:])
    value = fastavro.schemaless_reader(stream, schema, None)
    assert stream.read() == b""
    again = io.BytesIO()
    fastavro.schemaless_writer(again, schema, value)
    assert again.getvalue() == encoded[10:]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_foreign_reader_needs_numpy_and_fastavro_alone(data: st.DataObject) -> None:
    """A dozen lines, as somebody else would write them."""
    frame: Frame = data.draw(records("Frame"))
    message = CODEC.encode(frame)

    schema = schema_of("Frame")
    value: Any = fastavro.schemaless_reader(io.BytesIO(message[10:]), schema, None)
    bars = value["bars"]
    if frame.bars is None:
        assert bars is None
        return
    kinds = next(f["type"][1]["fields"] for f in schema["fields"] if f["name"] == "bars")
    rows = len(bars["ts_ns"]) // 8
    for kind in kinds:
        name, logical = kind["name"], kind["type"]["logicalType"]
        column = np.frombuffer(bars[name], DTYPES[logical])
        if name == "row" and not len(column):
            column = np.arange(rows, dtype=np.int32)
        if len(column) == 1 and kind["type"].get("broadcast"):
            column = np.broadcast_to(column, rows)
        assert image(column) == image(getattr(frame.bars, name))
    assert len(columns_of(frame.bars)) == len(kinds)
    assert set(GROUPS) <= set(value)


@given(st.integers(-(2**63), 2**63 - 1))
def test_longs(value: int) -> None:
    plan = plan_of("long")
    out: list[Any] = []
    plan.write(out, value)
    packed = b"".join(out)
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, "long", value)
    assert packed == stream.getvalue()
    assert plan.read(packed, 0) == (value, len(packed))


def test_numpy_numbers_are_numbers() -> None:
    out: list[Any] = []
    plan_of("long").write(out, np.int64(-(2**63)))
    assert plan_of("long").read(b"".join(out), 0)[0] == -(2**63)


STRINGS = {"type": "array", "items": "string"}
ENUM = {"type": "enum", "name": "E", "symbols": ["x", "y"]}
COLUMN = {"type": "bytes", "logicalType": "int64-column"}


@pytest.mark.parametrize(
    ("schema", "data", "reason"),
    [
        ("long", b"\xff" * 9 + b"\x02", "more than 64 bits"),
        ("long", b"\xff" * 11, "more than 64 bits"),
        ("int", b"\x80\x80\x80\x80\x10", "2147483648 does not fit an int"),
        ("boolean", b"\x02", "a boolean of 2"),
        ("string", b"\x01", "a length of -1"),
        ("string", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01abc", "where 3 bytes are left"),
        ("string", b"\x02\xff", "utf-8"),
        (ENUM, b"\x04", "index 2 in an enum of 2"),
        (ENUM, b"\x01", "index -1 in an enum of 2"),
        (["null", "long"], b"\x04", "index 2 in a union of 2"),
        (["null", "long"], b"\x01", "index -1 in a union of 2"),
        (STRINGS, b"\x80\x80\x80\x80\x80\x80\x80\x80\x40a", "items where 1 bytes are left"),
        (STRINGS, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", "items where 0 bytes are left"),
        (STRINGS, b"\x01\x01\x02a\x00", "a length of -1"),
        (STRINGS, b"\x01\x02\x02a\x00", "not as long as it says"),
        (COLUMN, b"\x06abc", "of 3 bytes is no int64-column"),
    ],
)
def test_what_is_not_avro(schema: Any, data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        plan_of(schema).read(data, 0)


def test_blocks_of_items_that_say_their_size() -> None:
    assert plan_of(STRINGS).read(b"\x03\x08\x02a\x02b\x02\x02c\x00", 0) == (("a", "b", "c"), 10)


def test_lists_that_come_again_are_looked_at_once() -> None:
    plan = plan_of(STRINGS)
    out: list[Any] = []
    symbols = tuple(f"SYM{n:04d}" for n in range(500))
    plan.write(out, symbols)
    plan.write(out, list(symbols))
    assert out[0] is out[1]
    first, end = plan.read(b"".join(out), 0)
    second, _ = plan.read(b"".join(out), end)
    assert first == symbols
    assert first is second


def test_lists_with_one_beginning_are_told_apart() -> None:
    plan = plan_of(STRINGS)
    long = tuple(f"a symbol of more than {n} letters" for n in range(2))
    for strings in (long, (long[0], "other"), long, (), (), long):
        out: list[Any] = []
        plan.write(out, strings)
        assert plan.read(b"".join(out), 0) == (strings, len(b"".join(out)))


def test_what_is_remembered_is_bounded() -> None:
    plan = plan_of(STRINGS)
    big = tuple("x" * 1000 + str(n) for n in range(100))
    tracemalloc.start()
    try:
        for n in range(300):
            out: list[Any] = []
            plan.write(out, (str(n), *big[:60]))
            assert plan.read(b"".join(out), 0)[0][0] == str(n)
        plan.write(out := [], big)
        assert plan.read(b"".join(out), 0)[0] == big
        assert tracemalloc.get_traced_memory()[0] < 64 * 3 * 70_000
    finally:
        tracemalloc.stop()


def test_threads_share_a_codec() -> None:
    """Only whole values are remembered, so a reader beside a writer never sees half a list."""

    def work(seed: int) -> bool:
        for n in range(300):
            record = Coverage(tuple(f"{seed}-{n}-{k}" for k in range(5)), 1, 2)
            if CODEC.decode(CODEC.encode(record)) != record:
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
