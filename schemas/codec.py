"""Records to bytes and back: Avro in a single-object envelope, or in Confluent's with a registry.

Columns are Avro ``bytes`` of packed little-endian numbers, with logical types of our own; the
codec hands them out as read-only numpy arrays over the bytes of the message.

What comes out of ``decode`` fits together: one length a record, indexes inside their lists, slices
that add up. Whether a price is right it can't tell: a flipped bit inside a column is a valid
message with another value. Kafka keeps a CRC-32C of every batch against that.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas import records
from schemas.binary import COUNTED, Plan, counts, plan_of
from schemas.records import Frame, Record
from schemas.resolve import translator
from streams.errors import ConfigError, DecodeError

__all__ = ["RECORDS", "Codec", "Registry", "schema_of"]

FOLDER = Path(__file__).parent
SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT = b"\x00"

RECORDS: Mapping[str, type[Record]] = {
    name: getattr(records, name)
    for name in (
        *("Bar", "Quote", "Tick", "BarBlock", "QuoteBlock", "TickBlock", "Coverage"),
        *("DataRequest", "Command", "Frame"),
    )
}
_COLUMN_GROUPS: Mapping[str, type[Record]] = {
    "bars": records.BarColumns,
    "quotes": records.QuoteColumns,
    "ticks": records.TickColumns,
}
_ABSENT = {"revision": 0, "condition": -1}
"""Value of the columns that may be left empty."""
_ONE_FOR_ALL = frozenset({"symbol", "interval_ns", "source", "revision", "condition"})
_SLICES = tuple(name for name in Frame.__dataclass_fields__ if name.startswith("slice_"))

_Translate: TypeAlias = Callable[[bytes], bytes]
_Writer: TypeAlias = tuple[str, _Translate | None]


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
def _plan(name: str) -> Plan:
    return plan_of(schema_of(name))


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
            yield _header(schema), (name, translator(schema, schema_of(name)))
        # Last: a version that differs in docs or defaults alone has today's fingerprint.
        yield _header_of(name), (name, None)


@cache
def _by_header(history: Path = FOLDER / "history") -> dict[bytes, _Writer]:
    """Map each envelope to its record and how to bring it to today's schema, None if it is that."""
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
        if isinstance(record, Frame):
            _check_frame(record)
        elif record.columns:
            _check_columns(record)
        out: list[Any] = [self._envelope(name, topic)]
        _plan(name).write(out, record)
        return b"".join(out)

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
        name, translate, start = self._writer_of(data, fail)
        try:
            if translate is not None:
                data, start = translate(data[start:]), 0
            value, end = _plan(name).read(data, start)
            record = _from_dict(RECORDS[name], value)
        except (IndexError, EOFError, struct.error) as exc:
            raise fail(f"the {name} is cut short") from exc
        except Exception as exc:
            raise fail(f"not a {name} ({type(exc).__name__}: {exc})") from exc
        if end != len(data):
            raise fail(f"{len(data) - end} bytes stand behind the end of the {name}")
        return record

    def _envelope(self, name: str, topic: str) -> bytes:
        if self._registry is None:
            return _header_of(name)
        key = (topic, name)
        if key not in self._ids:
            schema_id = self._registry.id_of(topic, schema_of(name))
            self._ids[key] = CONFLUENT + schema_id.to_bytes(4, "big")
        return self._ids[key]

    def _writer_of(
        self, data: bytes, fail: Callable[[str], DecodeError]
    ) -> tuple[str, _Translate | None, int]:
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
        return name, translator(schema, schema_of(name))
    except Exception as exc:
        raise fail(f"schema {schema_id} of the registry can't be used ({exc})") from exc


def _from_dict(cls: type[Record], value: dict[str, Any]) -> Record:
    if cls is Frame:
        value["positions"] = tuple(records.RawPosition(**p) for p in value["positions"])
        for group, columns in _COLUMN_GROUPS.items():
            if value[group] is not None:
                _stretch(columns, value[group])
                value[group] = columns(**value[group])
        frame = Frame(**value)
        _check_frame(frame)
        return frame
    if cls.columns:
        _stretch(cls, value)
    record = cls(**value)
    if cls.columns:
        _check_columns(record)
    return record


def _stretch(cls: type[Record], value: dict[str, Any]) -> None:
    """Bring the columns of ``value`` that were left out or hold one value for all to full length.

    Those that don't fit stay as they are, for ``_check_columns`` to find.
    """
    rows = len(value["ts_ns"])
    for name in cls.columns:
        column = value[name]
        if len(column) == rows:
            continue
        if len(column) == 0 and name in COUNTED:
            value[name] = counts(rows, column.dtype)
        elif len(column) == 0 and name in _ABSENT:
            value[name] = _repeat(np.array(_ABSENT[name], column.dtype).tobytes(), column, rows)
        elif len(column) == 1 and name in _ONE_FOR_ALL:
            value[name] = _repeat(column.tobytes(), column, rows)


def _repeat(packed: bytes, like: Any, rows: int) -> Any:
    # What np.broadcast_to gives, at a tenth of its cost.
    return np.ndarray((rows,), like.dtype, packed, strides=(0,))


def _check_columns(block: Any, symbols: int = -1, sources: int = -1) -> None:
    """Raise ValueError where the columns of ``block`` don't fit each other or their lists."""
    rows = len(block.ts_ns)
    for name in block.columns:
        length = len(getattr(block, name))
        if length == rows or (length == 0 and (name in COUNTED or name in _ABSENT)):
            continue
        if length == 1 and name in _ONE_FOR_ALL:
            continue
        msg = f"column {name} has {length} values for {rows} rows"
        raise ValueError(msg)
    _check_index(block.symbol, len(block.symbols) if symbols < 0 else symbols, "symbol")
    if sources >= 0:
        _check_index(block.source, sources, "source")
    if "condition" in block.columns:
        _check_index(block.condition, len(block.conditions), "condition", lowest=-1)


def _check_index(index: Any, size: int, name: str, *, lowest: int = 0) -> None:
    column = np.asarray(index)
    if column.strides == (0,):
        column = column[:1]
    if len(column) and not (column.min() >= lowest and column.max() < size):
        msg = f"column {name} points outside its list of {size}"
        raise ValueError(msg)


def _check_frame(frame: Frame) -> None:
    groups = [group for group in (frame.bars, frame.quotes, frame.ticks) if group is not None]
    for group in groups:
        _check_columns(group, len(frame.symbols), len(frame.sources))
    lengths = {len(getattr(frame, name)) for name in _SLICES}
    if len(lengths) != 1:
        msg = "the slice columns differ in length"
        raise ValueError(msg)
    rows = sum(len(group) for group in groups)
    slice_rows = np.asarray(frame.slice_rows)
    if rows != frame.rows or int(slice_rows.sum()) != rows:
        msg = (
            f"{frame.rows} rows are announced and {int(slice_rows.sum())} in the slices, "
            f"the columns hold {rows}"
        )
        raise ValueError(msg)
    corrections = np.asarray(frame.slice_corrections)
    if len(slice_rows) and not bool(((corrections >= 0) & (corrections <= slice_rows)).all()):
        msg = "a slice has more corrections than rows, or less than none"
        raise ValueError(msg)
    _check_places([np.asarray(group.row) for group in groups if len(group)], rows)


def _check_places(places: list[Any], rows: int) -> None:
    """Raise ValueError unless the rows of all groups together are 0, 1, 2, …, each in order."""
    if len(places) == 1:
        if len(places[0]) and not bool((places[0] == counts(rows, places[0].dtype)).all()):
            msg = "the rows of the frame are not 0, 1, 2, …"
            raise ValueError(msg)
        return
    taken = np.zeros(rows, bool)
    for place in places:
        in_order = bool((place[1:] > place[:-1]).all())
        if not (len(place) and in_order and place[0] >= 0 and place[-1] < rows):
            msg = "the rows of a kind are out of order or outside the frame"
            raise ValueError(msg)
        taken[place] = True
    if not bool(taken.all()):
        msg = "two rows have one place in the frame"
        raise ValueError(msg)
