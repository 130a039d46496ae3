"""Any record the schemas allow, as hypothesis strategies, and when two of them are the same."""

from __future__ import annotations

import struct
from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import strategies as st

from schemas import (
    BarColumns,
    DerivedColumns,
    Frame,
    Minutes,
    QuoteColumns,
    RawPosition,
    Record,
    TickColumns,
    schema_of,
)
from schemas.codec import RECORDS

NAMES = sorted(RECORDS)
BLOCKS = ("BarBlock", "QuoteBlock", "TickBlock")
GROUPS: dict[str, type[Any]] = {
    "bars": BarColumns,
    "quotes": QuoteColumns,
    "ticks": TickColumns,
    "derived": DerivedColumns,
}
DTYPES = {"int32-column": "<i4", "int64-column": "<i8", "float64-column": "<f8"}

# Every bit pattern, so NaNs with payloads, infinities, -0.0 and subnormals too.
DOUBLES = st.one_of(
    st.binary(min_size=8, max_size=8).map(lambda b: float(struct.unpack("<d", b)[0])),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 5e-324]),
)
LONGS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), 2**63 - 1, 0, -1, 63, 64, -65])
)
INTS = st.one_of(st.integers(-(2**31), 2**31 - 1), st.sampled_from([-(2**31), 2**31 - 1, 0]))
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "double": DOUBLES,
    "long": LONGS,
    "int": INTS,
    "boolean": st.booleans(),
    "string": st.text(max_size=12),
}
SYMBOLS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5).map(tuple)


def field_types(schema: dict[str, Any]) -> dict[str, Any]:
    return {field["name"]: field["type"] for field in schema["fields"]}


def scalar(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, list):
        return minutes(kind[1])
    if isinstance(kind, str):
        return SCALARS[kind]
    if kind["type"] == "enum":
        return st.sampled_from(kind["symbols"])
    assert kind["items"] == "string"
    return st.lists(SCALARS["string"], max_size=4).map(tuple)


@st.composite
def column(draw: st.DrawFn, kind: dict[str, Any], rows: int) -> Any:
    dtype = np.dtype(DTYPES[kind["logicalType"]])
    if kind.get("broadcast") and draw(st.booleans()):
        one = np.frombuffer(
            draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize)), dtype
        )
        return np.broadcast_to(one, rows) if draw(st.booleans()) else np.repeat(one, rows)
    size = rows * dtype.itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype)


@st.composite
def index(draw: st.DrawFn, rows: int, size: int, lowest: int = 0) -> Any:
    values = st.integers(lowest, size - 1)
    if draw(st.booleans()):
        return np.broadcast_to(np.array(draw(values), np.int32), rows)
    return np.array(draw(st.lists(values, min_size=rows, max_size=rows)), np.int32)


@st.composite
def columnar(
    draw: st.DrawFn, cls: type[Any], kinds: dict[str, Any], rows: int, given: dict[str, Any]
) -> Any:
    value = dict(given)
    for name, kind in kinds.items():
        if name in value:
            continue
        if name == "condition":
            value[name] = draw(index(rows, len(value["conditions"]), -1))
        elif name == "sequence" and draw(st.booleans()):
            value[name] = np.arange(rows)
        elif isinstance(kind, dict) and kind["type"] == "bytes":
            value[name] = draw(column(kind, rows))
        else:
            value[name] = draw(scalar(kind))
    return cls(**value)


@st.composite
def minutes(draw: st.DrawFn, schema: dict[str, Any]) -> Minutes | None:
    if draw(st.booleans()):
        return None
    runs = draw(st.integers(0, 4))
    symbols, requests = draw(SYMBOLS), draw(SYMBOLS)
    given = {
        "symbols": symbols,
        "requests": requests,
        "symbol": draw(index(runs, len(symbols))),
        "request": draw(index(runs, len(requests), -1)),
    }
    found: Minutes = draw(columnar(Minutes, field_types(schema), runs, given))
    return found


@st.composite
def blocks(draw: st.DrawFn, name: str) -> Record:
    rows = draw(st.integers(0, 6))
    symbols = draw(SYMBOLS)
    given = {"symbols": symbols, "symbol": draw(index(rows, len(symbols)))}
    cls = RECORDS[name]
    block: Record = draw(columnar(cls, field_types(schema_of(name)), rows, given))
    return block


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    kinds = field_types(schema_of("Frame"))
    rows = draw(st.integers(0, 8))
    owner = np.array(draw(st.lists(st.sampled_from([*GROUPS]), min_size=rows, max_size=rows)))
    value: dict[str, Any] = {"symbols": draw(SYMBOLS), "sources": draw(SYMBOLS), "rows": rows}
    for group, cls in GROUPS.items():
        places = np.flatnonzero(owner == group).astype(np.int32)
        if not len(places) and draw(st.booleans()):
            value[group] = None
            continue
        given = {
            "row": places,
            "symbol": draw(index(len(places), len(value["symbols"]))),
        }
        if group != "derived":
            given["source"] = draw(index(len(places), len(value["sources"])))
        value[group] = draw(columnar(cls, field_types(kinds[group][1]), len(places), given))
    slices = np.array(draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows)), np.int32)
    value["slice_rows"] = np.bincount(slices, minlength=4).astype(np.int32)
    value["slice_corrections"] = value["slice_rows"] // 2
    value["positions"] = tuple(
        RawPosition(**place)
        for place in draw(
            st.lists(
                st.fixed_dictionaries(
                    {
                        field: scalar(kind)
                        for field, kind in field_types(kinds["positions"]["items"]).items()
                    }
                ),
                max_size=2,
            )
        )
    )
    for name, kind in kinds.items():
        if name not in value:
            is_column = isinstance(kind, dict) and kind["type"] == "bytes"
            value[name] = draw(column(kind, 4) if is_column else scalar(kind))
    return Frame(**value)


def records(name: str) -> st.SearchStrategy[Any]:
    """Return any record of that name."""
    if name == "Frame":
        return frames()
    if name in BLOCKS:
        return blocks(name)
    kinds = field_types(schema_of(name))
    return st.builds(RECORDS[name], **{field: scalar(kind) for field, kind in kinds.items()})


def names_of(record: Any) -> list[str]:
    return [part.name for part in fields(record)]


def image(value: Any) -> Any:
    """Return what two records have in common when they are the same to the last bit."""
    if isinstance(value, Record):
        return (type(value), *((name, image(getattr(value, name))) for name in names_of(value)))
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, tuple):
        return tuple(map(image, value))
    return value


def columns_of(record: Any) -> list[Any]:
    """Return every numpy column of a record, those of its parts too."""
    found = []
    for name in names_of(record):
        value = getattr(record, name)
        if isinstance(value, np.ndarray):
            found.append(value)
        elif isinstance(value, Record):
            found += columns_of(value)
    return found


def check_consistent(record: Any) -> None:
    """Assert, independently of the codec, that a decoded record fits together."""
    if isinstance(record, Frame):
        groups = [getattr(record, name) for name in GROUPS if getattr(record, name) is not None]
        for group in groups:
            check_group(group, len(record.symbols))
            if group is record.derived:
                continue
            assert all(0 <= value < len(record.sources) for value in group.source.tolist())
        places = sorted(place for group in groups for place in group.row.tolist())
        assert places == list(range(record.rows))
        slices = [name for name in field_types(schema_of("Frame")) if name.startswith("slice_")]
        assert len({len(getattr(record, name)) for name in slices}) == 1
        assert sum(record.slice_rows.tolist()) == record.rows
    elif record.columns:
        check_group(record, len(record.symbols))
    for field in field_types(schema_of(type(record).__name__)).items():
        check_scalar(getattr(record, field[0]), field[1])


def check_group(group: Any, symbols: int) -> None:
    assert {len(getattr(group, name)) for name in group.columns} == {len(group)}
    assert all(0 <= value < symbols for value in group.symbol.tolist())
    if "condition" in group.columns:
        assert all(-1 <= value < len(group.conditions) for value in group.condition.tolist())


def check_scalar(value: Any, kind: Any) -> None:
    if kind == "int":
        assert -(2**31) <= value < 2**31
    elif kind == "long":
        assert -(2**63) <= value < 2**63
    elif kind == "string":
        value.encode()
    elif isinstance(kind, dict) and kind["type"] == "enum":
        assert value in kind["symbols"]
