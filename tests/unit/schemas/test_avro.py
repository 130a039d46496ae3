"""Our messages are plain Avro for everybody else, and what others may write is read with care."""

from __future__ import annotations

import copy
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock, Codec, Coverage, Frame, schema_of
from schemas import codec as codec_module
from streams.errors import DecodeError
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


BAR = {"symbol": "A", "ts_ns": 1, "interval": "1m", "source": "", "revision": 0, "run": ""}
BAR |= dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
COVERAGE = {"symbols": ["A"], "start_ns": 1, "end_ns": 2, "answer": "rows", "blocks": 0, "rows": 0}
COVERAGE |= {"run": "", "request": "", "source": ""}
BLOCK = {"symbols": ["A"], "symbol": b"", "run": "", "request": "", "block": 0, "source": ""}
BLOCK |= {"revision": b"", "interval_ns": b"", "ts_ns": b""}
BLOCK |= dict.fromkeys(("open", "high", "low", "close", "volume"), b"")


def foreign(name: str, value: dict[str, Any], schema: dict[str, Any] | None = None) -> bytes:
    """Return a message as fastavro writes it, with no check of ours."""
    out = io.BytesIO()
    out.write(codec_module._header(schema or schema_of(name)))
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema or schema_of(name)), value)
    return out.getvalue()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (foreign("Bar", BAR | {"revision": 2**31}), "revision: 2147483648 is no int"),
        (foreign("Coverage", COVERAGE)[:-1], "the Coverage is cut short"),
        (foreign("Coverage", COVERAGE).replace(b"\x02\x02A\x00", b"\x02\x02\xff\x00"), "utf-8"),
        (foreign("BarBlock", BLOCK | {"ts_ns": b"abc"}), "buffer size must be a multiple"),
        (foreign("BarBlock", BLOCK | {"symbol": bytes(8)}), "column symbol has 2 values for 0"),
    ],
)
def test_what_a_foreign_writer_gets_wrong(message: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        CODEC.decode(message)


def test_a_column_that_an_older_version_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    old = copy.deepcopy(schema_of("BarBlock"))
    old["fields"] = [field for field in old["fields"] if field["name"] != "revision"]
    value = BLOCK | {"ts_ns": bytes(16), "symbol": bytes(8), "interval_ns": bytes(8)}
    value |= dict.fromkeys(("open", "high", "low", "close", "volume"), bytes(16))
    known = {codec_module._header(old): ("BarBlock", fastavro.parse_schema(old))}
    monkeypatch.setattr(codec_module, "_by_header", lambda: known)
    block = CODEC.decode(foreign("BarBlock", value, old))
    assert isinstance(block, BarBlock)
    assert block.revision.tolist() == [0, 0]


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
