"""Variants of our schemas are brought to today's bytes; those that could hang a reader are not."""

from __future__ import annotations

import copy
import io
from typing import Any

import fastavro
import pytest

from schemas import Bar, Codec, schema_of
from schemas.resolve import plain, translator

TODAY = schema_of("Bar")
NEEDED = ["symbol", "ts_ns", "open", "high", "low", "close", "volume"]


def variant(*fields: Any) -> dict[str, Any]:
    schema = copy.deepcopy(TODAY)
    schema["fields"] = [f for f in schema["fields"] if f["name"] in NEEDED] + list(fields)
    return schema


def test_a_schema_with_less_more_and_other_types() -> None:
    schema = variant(
        {"name": "venues", "type": {"type": "array", "items": "string"}},
        {"name": "tags", "type": {"type": "map", "values": "long"}},
        {"name": "key", "type": {"type": "fixed", "name": "Key", "size": 2}},
        {"name": "note", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    )
    for field in schema["fields"]:
        if field["name"] == "volume":
            field["type"] = "long"
    value = dict.fromkeys(NEEDED, 2) | {
        "symbol": "A",
        "venues": ["x"],
        "tags": {"a": 1},
        "key": b"ab",
        "note": None,
        "at": 5,
    }
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(plain(schema)), value)
    body = translator(schema, TODAY)(out.getvalue())
    envelope = Codec().encode(Bar("B", 1, 1, 1, 1, 1, 1))[:10]
    assert Codec().decode(envelope + body) == Bar("A", 2, 2, 2, 2, 2, 2)


EMPTY = {"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]}


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "array", "items": "null"},
        {"type": "array", "items": EMPTY},
        {"type": "array", "items": {"type": "null"}},
        {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}},
        {"type": "array", "items": "Unknown"},
        {"type": "map", "values": {"type": "array", "items": "null"}},
        ["null", {"type": "array", "items": "null"}],
    ],
)
def test_lists_of_nothing_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="items take no bytes"):
        translator(variant({"name": "x", "type": kind}), TODAY)


def test_a_schema_inside_itself_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nests sessiontape\.Bar in itself"):
        translator(variant({"name": "x", "type": ["null", "sessiontape.Bar"]}), TODAY)


@pytest.mark.parametrize(
    "items",
    [
        {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}]},
        {"type": "array", "items": "long"},
        {"type": "fixed", "name": "F", "size": 1},
        {"type": "string"},
        ["null", "long"],
    ],
)
def test_lists_of_something_are_not(items: Any) -> None:
    translator(variant({"name": "x", "type": {"type": "array", "items": items}}), TODAY)
