"""Confluent's wire format, by confluent-kafka's own registry client and its registry in memory."""

from __future__ import annotations

import copy
import io
import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Bar, Codec, Coverage, schema_of
from schemas.registry import ConfluentRegistry, codec_for
from streams.errors import ConfigError, DecodeError
from tests.unit.schemas.samples import NAMES, image, records

BAR = Bar("A", 1, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_round_trip(name: str, data: st.DataObject) -> None:
    record = data.draw(records(name))
    codec = codec_for("mock://round-trip")
    message = codec.encode(record, "raw.bars")
    assert message[:5] == b"\x00\x00\x00\x00\x01"
    assert message[5:] == Codec().encode(record)[10:]
    assert image(codec.decode(message)) == image(record)


def test_without_an_address_there_is_no_registry() -> None:
    assert codec_for("").encode(BAR) == Codec().encode(BAR)


def test_both_envelopes_are_read() -> None:
    codec = codec_for("mock://both")
    assert codec.decode(Codec().encode(BAR)) == BAR
    with pytest.raises(DecodeError, match="needs SESSIONTAPE_SCHEMA_REGISTRY_URL"):
        Codec().decode(codec.encode(BAR, "raw.bars"))


def test_subjects_and_ids() -> None:
    registry = ConfluentRegistry("mock://subjects")
    codec = Codec(registry)
    first = codec.encode(BAR, "raw.bars")
    assert codec.encode(BAR, "raw.bars") == first
    codec.encode(Coverage(("A",), 1, 2), "raw.bars")
    codec.encode(BAR, "other")
    subjects = sorted(registry._client.get_subjects())
    assert subjects == [
        "other-sessiontape.Bar",
        "raw.bars-sessiontape.Bar",
        "raw.bars-sessiontape.Coverage",
    ]
    schema_id = int.from_bytes(first[1:5], "big")
    assert registry.schema_of(schema_id) == schema_of("Bar")
    assert registry.id_of("raw.bars", schema_of("Bar")) == schema_id


def test_a_third_party_writes_with_a_schema_of_its_own() -> None:
    registry = ConfluentRegistry("mock://third-party")
    schema = copy.deepcopy(schema_of("Bar"))
    schema["fields"] = [field for field in schema["fields"] if "default" not in field]
    schema_id = registry.id_of("raw.bars", schema)
    out = io.BytesIO()
    value = {"symbol": "A", "ts_ns": 1, "open": 1, "high": 2, "low": 3, "close": 4, "volume": 5}
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    message = b"\x00" + schema_id.to_bytes(4, "big") + out.getvalue()
    codec = Codec(registry)
    assert codec.decode(message) == BAR
    for end in range(1, len(message)):
        with pytest.raises(DecodeError):
            codec.decode(message[:end], topic="raw.bars", partition=0, offset=1)
    with pytest.raises(DecodeError, match="1 bytes stand behind the end of the Bar"):
        codec.decode(message + b"\x00")


NEEDED = ["symbol", "ts_ns", "open", "high", "low", "close", "volume"]


def variant(*fields: Any) -> dict[str, Any]:
    schema = copy.deepcopy(schema_of("Bar"))
    schema["fields"] = [f for f in schema["fields"] if f["name"] in NEEDED] + list(fields)
    return schema


def registered(schema: dict[str, Any], value: dict[str, Any]) -> tuple[Codec, bytes]:
    """Return a codec whose registry knows ``schema``, and a message of ``value`` written by it."""
    registry = ConfluentRegistry("mock://variants")
    out = io.BytesIO()
    out.write(b"\x00" + registry.id_of("raw.bars", schema).to_bytes(4, "big"))
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return Codec(registry), out.getvalue()


def test_a_schema_with_less_more_and_other_types() -> None:
    schema = variant(
        {"name": "venues", "type": {"type": "array", "items": "string"}},
        {"name": "tags", "type": {"type": "map", "values": "long"}},
        {"name": "key", "type": {"type": "fixed", "name": "Key", "size": 2}},
        {"name": "side", "type": {"type": "enum", "name": "Side", "symbols": ["buy"]}},
        {"name": "note", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    )
    for field in schema["fields"]:
        if field["name"] == "volume":
            field["type"] = "long"
    value: dict[str, Any] = dict.fromkeys(NEEDED, 2) | {
        "symbol": "A",
        "venues": ["x"],
        "tags": {"a": 1},
    }
    value |= {"key": b"ab", "side": "buy", "note": None, "at": 5}
    codec, message = registered(schema, value)
    assert codec.decode(message) == Bar("A", 2, 2, 2, 2, 2, 2)


def test_another_unit_is_not_taken_for_nanoseconds() -> None:
    schema = variant()
    schema["fields"][1]["type"] = {"type": "long", "logicalType": "timestamp-micros"}
    codec, message = registered(schema, dict.fromkeys(NEEDED, 2) | {"symbol": "A"})
    with pytest.raises(DecodeError, match=r"ts_ns: datetime.* is no long"):
        codec.decode(message)


NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]}


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "array", "items": "null"},
        {"type": "array", "items": NOTHING},
        {"type": "array", "items": {"type": "null"}},
        {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}},
        {"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}},
        {"type": "map", "values": {"type": "array", "items": "null"}},
        ["null", {"type": "array", "items": "null"}],
        ["null", "sessiontape.Bar"],
    ],
)
def test_schemas_that_could_hang_a_reader_are_refused(kind: Any) -> None:
    registry = ConfluentRegistry("mock://hang")
    schema_id = registry.id_of("raw.bars", variant({"name": "x", "type": kind}))
    with pytest.raises(DecodeError, match=r"can't be used \(it has parts that take no bytes"):
        Codec(registry).decode(b"\x00" + schema_id.to_bytes(4, "big") + b"abc")


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ('{"type": "record", "name": "Trade", "fields": []}', "is 'Trade', no record of ours"),
        ('"long"', "no Avro record"),
        ("syntax = proto3", "no Avro record"),
        (
            '{"type": "record", "name": "Bar", "fields": [{"name": "x", "type": "Bar"}]}',
            "can't be used .*refers to a type by its name",
        ),
        ('{"type": "record", "name": "Bar", "fields": [{"name": "x"}]}', "can't be used"),
    ],
)
def test_schemas_that_are_not_ours(schema: str, reason: str) -> None:
    registry = ConfluentRegistry("mock://not-ours")
    schema_id = registry._client.register_schema("raw.bars-x", Schema(schema, "AVRO"))
    message = b"\x00" + schema_id.to_bytes(4, "big") + b"abc"
    with pytest.raises(DecodeError, match=reason) as caught:
        Codec(registry).decode(message, topic="raw.bars", partition=1, offset=8)
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("raw.bars", 1, 8)


def test_an_unknown_id() -> None:
    with pytest.raises(DecodeError, match="the registry has no schema 7"):
        codec_for("mock://unknown").decode(b"\x00\x00\x00\x00\x07abc")


def test_an_envelope_cut_short() -> None:
    with pytest.raises(DecodeError, match="the envelope is cut short"):
        codec_for("mock://short").decode(b"\x00\x00\x00")


def test_a_registry_needs_the_topic() -> None:
    with pytest.raises(ConfigError, match="a message needs its topic"):
        codec_for("mock://topic").encode(BAR)


@pytest.mark.parametrize("url", ["somewhere", "user:secret@somewhere", "x://user:secret@host"])
def test_no_such_address(url: str) -> None:
    with pytest.raises(ConfigError, match="SESSIONTAPE_SCHEMA_REGISTRY_URL=") as caught:
        codec_for(url)
    assert "secret" not in str(caught.value)


def test_the_client_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("confluent_kafka.schema_reg")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr("confluent_kafka.schema_registry", raising=False)
    monkeypatch.setitem(sys.modules, "authlib", None)
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)
    with pytest.raises(ConfigError, match=r"pip install 'sessiontape\[registry\]'"):
        codec_for("mock://missing")
    assert codec_for("").encode(BAR)


class Answer(BaseHTTPRequestHandler):
    """Refuses everything, as a registry does that has other rules, or that is something else."""

    status = 409

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        body = json.dumps({"error_code": self.status, "message": "not compatible"}).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Stay silent."""


@pytest.fixture
def refusing() -> Iterator[tuple[str, type[Answer]]]:
    answer = type("ThisAnswer", (Answer,), {})
    with HTTPServer(("127.0.0.1", 0), answer) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://user:secret@127.0.0.1:{server.server_port}", answer
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [401, 404, 409, 422])
def test_a_registry_that_refuses(refusing: tuple[str, type[Answer]], status: int) -> None:
    url, answer = refusing
    answer.status = status
    codec = codec_for(url)
    with pytest.raises(ConfigError, match=r"does not register raw\.bars-sessiontape\.Bar: not") as (
        caught
    ):
        codec.encode(BAR, "raw.bars")
    assert "secret" not in str(caught.value)


def test_a_message_is_not_at_fault_when_the_registry_is(refusing: tuple[str, type[Answer]]) -> None:
    """What can't be looked up now may be good: it must stop the reader, not be set aside."""
    url, answer = refusing
    codec = codec_for(url)
    answer.status = 401
    with pytest.raises(ConfigError, match="does not give schema 1: not compatible"):
        codec.decode(b"\x00\x00\x00\x00\x01abc")
    answer.status = 404
    with pytest.raises(DecodeError, match="the registry has no schema 1"):
        codec.decode(b"\x00\x00\x00\x00\x01abc")
