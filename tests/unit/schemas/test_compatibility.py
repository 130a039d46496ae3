"""Each recorded version and today's schema read each other's messages; a bad change is caught."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Codec, schema_of
from schemas.codec import RECORDS
from schemas.compatibility import HISTORY, main, problems, record, versions
from tests.unit.schemas.samples import NAMES, records

EACH_VERSION = [(name, number) for name in NAMES for number in range(1, len(versions(name)) + 1)]


def carry(value: Any, writer: dict[str, Any], reader: dict[str, Any]) -> Any:
    """Return ``value`` as fastavro reads it by ``reader`` from a message of ``writer``."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(writer), value)
    out.seek(0)
    read = fastavro.schemaless_reader(
        out, fastavro.parse_schema(writer), fastavro.parse_schema(reader)
    )
    assert out.read() == b""
    return read


def only(value: Any, like: Any) -> Any:
    """Return of a value what one of an older version has, too."""
    if isinstance(like, dict):
        return {name: only(value[name], part) for name, part in like.items()}
    if isinstance(like, list):
        return [only(one, other) for one, other in zip(value, like, strict=True)]
    return value


def raw(data: st.DataObject, name: str) -> Any:
    body = Codec().encode(data.draw(records(name)))[10:]
    return fastavro.schemaless_reader(
        io.BytesIO(body), fastavro.parse_schema(schema_of(name)), None
    )


def test_every_record_has_a_first_version() -> None:
    assert {name for name, number in EACH_VERSION if number == 1} == set(NAMES)
    files = {path.name for path in HISTORY.iterdir()}
    assert files == {f"{name}.v{number}.avsc" for name, number in EACH_VERSION}


@pytest.mark.parametrize(("name", "number"), EACH_VERSION)
def test_no_version_is_broken(name: str, number: int) -> None:
    assert list(problems(versions(name)[number - 1], schema_of(name))) == []


@pytest.mark.parametrize(("name", "number"), EACH_VERSION)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_both_read_each_other(name: str, number: int, data: st.DataObject) -> None:
    old, new = versions(name)[number - 1], schema_of(name)
    today = raw(data, name)
    before = carry(today, new, old)
    assert set(before) == {field["name"] for field in old["fields"]}
    after = carry(before, old, new)
    assert set(after) == {field["name"] for field in new["fields"]}
    for field in set(before) & set(after):
        had = before[field]
        assert repr(only(after[field], had)) == repr(only(today[field], had))


def test_todays_schemas_are_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().err == ""
    command = [sys.executable, "-m", "schemas.compatibility"]
    assert subprocess.run(command, check=False).returncode == 0
    assert subprocess.run([*command, "forget"], check=False, capture_output=True).returncode == 2


def field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(f for f in schema["fields"] if f["name"] == name)
    return found


def remove(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda schema: schema["fields"].remove(field(schema, name))


def set_type(name: str, kind: Any) -> Callable[[dict[str, Any]], None]:
    return lambda schema: field(schema, name).update(type=kind)


def add(**added: Any) -> Callable[[dict[str, Any]], None]:
    return lambda schema: schema["fields"].append(added)


CHANGES: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    ("Bar", remove("close"), "close: removed, and it had no default for old readers"),
    ("Bar", add(name="vwap", type="double"), "vwap: added without a default for old messages"),
    ("Bar", set_type("volume", "long"), "volume: the type was double and is long"),
    ("Bar", set_type("ts_ns", "double"), "ts_ns: the type was long and is double"),
    ("Bar", set_type("run", ["null", "string"]), "run: the type was string and is null or string"),
    ("Bar", lambda s: field(s, "run").pop("default"), "run: its default is gone"),
    ("Bar", lambda s: s.update(name="Candle"), ": name was Bar and is Candle"),
    (
        "Coverage",
        lambda s: field(s, "answer")["type"]["symbols"].append("perhaps"),
        "answer: perhaps means nothing to the other version",
    ),
    (
        "Coverage",
        lambda s: field(s, "answer")["type"]["symbols"].remove("nothing"),
        "answer: nothing means nothing to the other version",
    ),
    (
        "Coverage",
        set_type("symbols", {"type": "array", "items": "long"}),
        "symbols: the type was string and is long",
    ),
    (
        "BarBlock",
        lambda s: field(s, "ts_ns")["type"].update(logicalType="int32-column"),
        "ts_ns: logicalType was int64-column and is int32-column",
    ),
    (
        "BarBlock",
        lambda s: field(s, "close")["type"].update(broadcast=True),
        "close: broadcast was None and is True",
    ),
    (
        "BarBlock",
        set_type("close", "bytes"),
        "close: the type was float64-column and is bytes",
    ),
    (
        "Frame",
        lambda s: remove("close")(field(s, "bars")["type"][1]),
        "bars.close: removed, and it had no default for old readers",
    ),
    (
        "Frame",
        lambda s: add(name="hash", type="long")(field(s, "bars")["type"][1]),
        "bars.hash: added without a default for old messages",
    ),
    (
        "Frame",
        lambda s: remove("keep")(field(s, "positions")["type"]["items"]),
        "positions.keep: removed, and it had no default for old readers",
    ),
]


@pytest.mark.parametrize(("name", "change", "problem"), CHANGES, ids=[c[2] for c in CHANGES])
def test_a_bad_change_is_caught(
    name: str, change: Callable[[dict[str, Any]], None], problem: str
) -> None:
    new = copy.deepcopy(schema_of(name))
    change(new)
    assert any(problem in found for found in problems(schema_of(name), new))


def test_a_good_change_is_not() -> None:
    new = copy.deepcopy(schema_of("Bar"))
    add(name="trades", type="long", default=0)(new)
    remove("source")(new)
    field(new, "ts_ns")["doc"] = "Better words."
    assert list(problems(schema_of("Bar"), new)) == []
    value = dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
    bar = carry(value | {"symbol": "A", "ts_ns": 1, "source": "x"}, schema_of("Bar"), new)
    assert bar["trades"] == 0
    assert "source" not in bar


def test_symbols_may_come_where_the_old_reader_has_a_default() -> None:
    old = {"type": "enum", "name": "E", "symbols": ["x", "other"], "default": "other"}
    assert list(problems(old, {**old, "symbols": ["x", "other", "y"]}, "e")) == []


def test_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [path.name for path in record(tmp_path)] == [f"{name}.v1.avsc" for name in RECORDS]
    assert record(tmp_path) == []
    docs = copy.deepcopy(schema_of("Bar"))
    field(docs, "ts_ns")["doc"] = "Other words."
    (tmp_path / "Bar.v1.avsc").write_text(json.dumps(docs))
    assert record(tmp_path) == []  # words are no version

    old = copy.deepcopy(schema_of("Bar"))
    remove("run")(old)
    (tmp_path / "Bar.v1.avsc").write_text(json.dumps(old))
    assert main([], tmp_path) == 1
    assert "changed since the last version: Bar; run python -m" in capsys.readouterr().err
    assert main(["record"], tmp_path) == 0
    assert capsys.readouterr().out == "recorded Bar.v2.avsc\n"
    assert versions("Bar", tmp_path) == [old, schema_of("Bar")]

    remove("close")(old)
    (tmp_path / "Bar.v1.avsc").write_text(json.dumps(old))
    for arguments in ([], ["record"]):
        assert main(arguments, tmp_path) == 1
        assert "Bar against v1: close: added without a default" in capsys.readouterr().err
    with pytest.raises(ValueError, match="Bar against v1: close: added"):
        record(tmp_path)
    assert main(["forget"], tmp_path) == 2
    assert "usage" in capsys.readouterr().err


def test_versions_are_in_order_of_their_number(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        (tmp_path / f"Bar.v{number}.avsc").write_text(json.dumps({"number": number}))
    assert [old["number"] for old in versions("Bar", tmp_path)] == [1, 9, 10]
