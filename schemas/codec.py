"""Records to bytes and back: Avro in a single-object envelope, or in Confluent's with a registry.

fastavro writes, reads and resolves what was written with another schema than today's: an older
version of ours, or a third party's variant from a registry (without the optional fields, say).

What comes out of ``decode`` fits together: one length a record, indexes inside their lists, slices
that add up. Whether a price is right it can't tell: a flipped bit inside a column is a valid
message with another value. Kafka keeps a CRC-32C of every batch against that.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas import records
from schemas.columns import check, from_avro, to_avro
from schemas.records import Record
from streams.errors import ConfigError, DecodeError

__all__ = ["RECORDS", "Codec", "Registry", "schema_of"]

FOLDER = Path(__file__).parent
SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT = b"\x00"

RECORDS: Mapping[str, type[Record]] = {
    name: getattr(records, name)
    for name in (
        *("Bar", "Quote", "Tick", "BarBlock", "QuoteBlock", "TickBlock", "Coverage"),
        *("Halt", "DataRequest", "Command", "Frame"),
    )
}

_Writer: TypeAlias = tuple[str, Any]
"""Name of a record and the schema it was written with, parsed; None if that is today's."""


class Registry(Protocol):
    """What the codec needs of a schema registry."""

    def id_of(self, topic: str, schema: Mapping[str, Any]) -> int:
        """Return the id of ``schema`` on ``topic``, registering it if it is new there."""
        ...

    def schema_of(self, schema_id: int) -> Mapping[str, Any]:
        """Return the schema with that id.

        Raises
        ------
        LookupError
            The registry has none with that id: the message is at fault.
        ConfigError
            The registry could not be asked: the message may be good, and must be kept.
        """
        ...


@cache
def schema_of(name: str) -> dict[str, Any]:
    """Return the raw Avro schema of a record, as ``schemas/<name>.avsc`` has it."""
    return cast("dict[str, Any]", json.loads((FOLDER / f"{name}.avsc").read_text("utf-8")))


@cache
def _today(name: str) -> Any:
    """Return today's schema as fastavro wants it."""
    return fastavro.parse_schema(schema_of(name))


def _header(schema: Mapping[str, Any]) -> bytes:
    canonical = to_parsing_canonical_form(cast("dict[str, Any]", schema))
    return SINGLE_OBJECT + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))


@cache
def _header_of(name: str) -> bytes:
    return _header(schema_of(name))


def _known(history: Path) -> Iterator[tuple[bytes, _Writer]]:
    for name in RECORDS:
        for path in sorted(history.glob(f"{name}.v*.avsc")):
            schema = json.loads(path.read_text("utf-8"))
            yield _header(schema), (name, fastavro.parse_schema(schema))
        # Last: a version that differs in docs or defaults alone has today's fingerprint.
        yield _header_of(name), (name, None)


@cache
def _by_header(history: Path = FOLDER / "history") -> dict[bytes, _Writer]:
    return dict(_known(history))


class Codec:
    """Writes and reads every record of ``schemas/``.

    Parameters
    ----------
    registry
        With it, messages are written in Confluent's envelope; both envelopes are always read.
    """

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry
        self._ids: dict[tuple[str, str], bytes] = {}
        self._writers: dict[int, _Writer] = {}

    def encode(self, record: Record, topic: str = "") -> bytes:
        """Return ``record`` as the value of a message on ``topic`` (needed with a registry).

        Raises
        ------
        ValueError
            A field doesn't fit its schema, or the columns don't fit each other: what no reader
            could decode is not written.
        ConfigError
            The registry refuses the schema or can't be reached.
        """
        name = type(record).__name__
        check(record)
        out = io.BytesIO()
        out.write(self._envelope(name, topic))
        try:
            fastavro.schemaless_writer(out, _today(name), to_avro(schema_of(name), record))
        except (ArithmeticError, AttributeError, TypeError, ValueError) as exc:
            msg = f"the {name} can't be written: {exc}"
            raise ValueError(msg) from exc
        return out.getvalue()

    def decode(
        self, data: bytes | None, *, topic: str = "", partition: int = -1, offset: int = -1
    ) -> Record:
        """Return the record that ``data`` holds.

        Raises
        ------
        DecodeError
            Not an envelope we know, cut short, or columns that don't fit each other.
        ConfigError
            The registry can't be asked for the schema.
        """

        def fail(reason: str) -> DecodeError:
            return DecodeError(reason, topic=topic, partition=partition, offset=offset)

        if not data:
            raise fail("an empty message is no record")
        name, writer, start = self._writer_of(data, fail)
        today = _today(name)
        stream = io.BytesIO(data)
        stream.seek(start)
        try:
            value = fastavro.schemaless_reader(stream, writer or today, writer and today)
            record = from_avro(schema_of(name), value)
            check(record)
        except EOFError as exc:
            raise fail(f"the {name} is cut short") from exc
        except Exception as exc:
            raise fail(f"not a {name} ({type(exc).__name__}: {exc})") from exc
        if stream.tell() != len(data):
            raise fail(f"{len(data) - stream.tell()} bytes stand behind the end of the {name}")
        return cast("Record", record)

    def _envelope(self, name: str, topic: str) -> bytes:
        if self._registry is None:
            return _header_of(name)
        key = (topic, name)
        if key not in self._ids:
            schema_id = self._registry.id_of(topic, schema_of(name))
            self._ids[key] = CONFLUENT + schema_id.to_bytes(4, "big")
        return self._ids[key]

    def _writer_of(self, data: bytes, fail: Callable[[str], DecodeError]) -> tuple[str, Any, int]:
        if data[:2] == SINGLE_OBJECT:
            try:
                return (*_by_header()[data[:10]], 10)
            except KeyError:
                raise fail(f"no schema of ours has the fingerprint {data[2:10].hex()}") from None
        if data[:1] != CONFLUENT:
            raise fail("neither Avro's single-object encoding nor Confluent's wire format")
        if self._registry is None:
            raise fail("Confluent's wire format needs SESSIONTAPE_SCHEMA_REGISTRY_URL")
        if len(data) < 5:
            raise fail("the envelope is cut short")
        schema_id = int.from_bytes(data[1:5], "big")
        if schema_id not in self._writers:
            self._writers[schema_id] = _registered(self._registry, schema_id, fail)
        return (*self._writers[schema_id], 5)


def _registered(registry: Registry, schema_id: int, fail: Callable[[str], DecodeError]) -> _Writer:
    try:
        schema = registry.schema_of(schema_id)
    except ConfigError:
        raise
    except Exception as exc:
        raise fail(f"the registry has no schema {schema_id} ({exc})") from exc
    name = str(schema.get("name", "")).rsplit(".", 1)[-1]
    if name not in RECORDS:
        raise fail(f"schema {schema_id} of the registry is {name!r}, no record of ours")
    try:
        if _header(schema) == _header_of(name):
            return name, None
        if not _takes_bytes(schema):
            msg = "it has parts that take no bytes, or refers to a type by its name"
            raise ValueError(msg)  # noqa: TRY301 - as every reason not to use it
        return name, fastavro.parse_schema(dict(schema))
    except Exception as exc:
        raise fail(f"schema {schema_id} of the registry can't be used ({exc})") from exc


def _takes_bytes(schema: Any) -> bool:
    """Tell whether each part takes a byte at least, so that no short message makes a long list.

    Types that are referred to by their names don't count: they could be inside themselves.
    """
    if isinstance(schema, list):
        return all(branch == "null" or _takes_bytes(branch) for branch in schema)
    if not isinstance(schema, dict):
        return schema in {"boolean", "int", "long", "float", "double", "bytes", "string"}
    if "fields" in schema:
        return bool(schema["fields"]) and all(_takes_bytes(f["type"]) for f in schema["fields"])
    if schema["type"] in ("fixed", "enum"):
        return bool(schema.get("size", 1) > 0)
    return _takes_bytes(schema.get("items") or schema.get("values") or schema["type"])
