"""Avro's binary encoding of our records, compiled from their schemas.

The same bytes as fastavro's, which the tests hold it against, for two reasons. A column goes from
numpy into the message in one copy and comes out in one (aligned, which numpy needs to be fast),
and a list of symbols that is the same in every message is looked at once. And it takes nothing
that is not Avro: fastavro counts a negative enum or union index from the end.

Every read is bounded by the message: a forged length or count fails before anything is allocated.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLUMN_TYPES", "COUNTED", "Plan", "counts", "plan_of"]

Buffers: TypeAlias = list[Any]
Write: TypeAlias = Callable[[Buffers, Any], None]
Read: TypeAlias = Callable[[bytes, int], tuple[Any, int]]


class Plan(NamedTuple):
    """How values of one schema are written and read."""

    write: Write
    """``write(out, value)`` appends the value's buffers to ``out``; ValueError if it can't be."""
    read: Read
    """``read(data, at)`` returns the value and where it ends; ValueError if it is not Avro,
    IndexError or struct.error if ``data`` ends first."""


COLUMN_TYPES: Mapping[str, np.dtype[Any]] = {
    "int32-column": np.dtype("<i4"),
    "int64-column": np.dtype("<i8"),
    "float64-column": np.dtype("<f8"),
}
COUNTED = frozenset({"row", "sequence"})
"""Columns that are left empty where they only count the rows: 0, 1, 2, …"""

_COUNTS = {size: np.arange(1 << 16, dtype=f"<i{size}") for size in (4, 8)}
for _counts in _COUNTS.values():
    _counts.flags.writeable = False


def counts(rows: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the read-only column 0, 1, 2, … of ``rows`` values."""
    ready = _COUNTS[dtype.itemsize]
    if rows <= len(ready):
        return ready[:rows]
    column = np.arange(rows, dtype=dtype)
    column.flags.writeable = False
    return column


_SMALL = [bytes([zigzag]) for zigzag in range(128)]


def _pack_long(number: Any) -> bytes:
    value = operator.index(number)
    zigzag = (value << 1) ^ (value >> 63)
    if 0 <= zigzag < 128:
        return _SMALL[zigzag]
    if not -(1 << 63) <= value < 1 << 63:
        msg = f"{value} does not fit a long"
        raise ValueError(msg)
    out = bytearray()
    while zigzag > 127:
        out.append(zigzag & 127 | 128)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def _read_long(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    at += 1
    if byte < 128:
        return (byte >> 1) ^ -(byte & 1), at
    zigzag = byte & 127
    for shift in range(7, 64, 7):
        byte = data[at]
        at += 1
        zigzag |= (byte & 127) << shift
        if byte < 128:
            if zigzag >> 64:
                break
            return (zigzag >> 1) ^ -(zigzag & 1), at
    msg = "a number of more than 64 bits"
    raise ValueError(msg)


def _write_long(out: Buffers, value: Any) -> None:
    out.append(_pack_long(value))


def _as_int(value: int) -> int:
    if not -(1 << 31) <= value < 1 << 31:
        msg = f"{value} does not fit an int"
        raise ValueError(msg)
    return value


def _write_int(out: Buffers, value: Any) -> None:
    out.append(_pack_long(_as_int(value)))


def _read_int(data: bytes, at: int) -> tuple[int, int]:
    value, at = _read_long(data, at)
    return _as_int(value), at


_DOUBLE = struct.Struct("<d")


def _write_double(out: Buffers, value: Any) -> None:
    out.append(_DOUBLE.pack(value))


def _read_double(data: bytes, at: int) -> tuple[float, int]:
    return _DOUBLE.unpack_from(data, at)[0], at + 8


def _write_boolean(out: Buffers, value: Any) -> None:
    out.append(b"\x01" if value else b"\x00")


def _read_boolean(data: bytes, at: int) -> tuple[bool, int]:
    if data[at] > 1:
        msg = f"a boolean of {data[at]}"
        raise ValueError(msg)
    return data[at] == 1, at + 1


def _read_length(data: bytes, at: int) -> tuple[int, int]:
    length, at = _read_long(data, at)
    if not 0 <= length <= len(data) - at:
        msg = f"a length of {length} where {len(data) - at} bytes are left"
        raise ValueError(msg)
    return length, at


def _write_string(out: Buffers, value: Any) -> None:
    encoded = value.encode()
    out.append(_pack_long(len(encoded)))
    out.append(encoded)


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    length, at = _read_length(data, at)
    return data[at : at + length].decode(), at + length


_PRIMITIVES = {
    "int": Plan(_write_int, _read_int),
    "long": Plan(_write_long, _read_long),
    "double": Plan(_write_double, _read_double),
    "boolean": Plan(_write_boolean, _read_boolean),
    "string": Plan(_write_string, _read_string),
}


def plan_of(schema: Any, name: str = "") -> Plan:
    """Compile ``schema``: what our records use of Avro, no more.

    Parameters
    ----------
    schema
        A raw Avro schema: int, long, double, boolean, string, columns (bytes), enum, array,
        ``[null, X]`` and records.
    name
        Name of the field it is the type of.
    """
    if isinstance(schema, str):
        return _PRIMITIVES[schema]
    if isinstance(schema, list):
        return _optional(plan_of(schema[1]))
    if schema["type"] == "bytes":
        return _column(schema, name)
    if schema["type"] == "enum":
        return _enum(schema["symbols"])
    if schema["type"] == "array":
        items = _array(plan_of(schema["items"]))
        return _remembered(items) if schema["items"] == "string" else items
    return _record(schema)


def _record(schema: Mapping[str, Any]) -> Plan:
    parts = tuple((f["name"], *plan_of(f["type"], f["name"])) for f in schema["fields"])

    def write(out: Buffers, value: Any) -> None:
        get: Callable[[Any, str], Any] = getattr
        if isinstance(value, dict):
            get = operator.getitem
        for name, write_field, _ in parts:
            try:
                write_field(out, get(value, name))
            except (TypeError, ValueError, AttributeError, struct.error) as exc:
                msg = f"{name}: {exc}"
                raise ValueError(msg) from exc

    def read(data: bytes, at: int) -> tuple[dict[str, Any], int]:
        value = {}
        for name, _, read_field in parts:
            value[name], at = read_field(data, at)
        return value, at

    return Plan(write, read)


def _optional(plan: Plan) -> Plan:
    def write(out: Buffers, value: Any) -> None:
        if value is None:
            out.append(b"\x00")
        else:
            out.append(b"\x02")
            plan.write(out, value)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        index, at = _read_long(data, at)
        if index == 1:
            return plan.read(data, at)
        if index == 0:
            return None, at
        msg = f"index {index} in a union of 2"
        raise ValueError(msg)

    return Plan(write, read)


def _enum(symbols: list[str]) -> Plan:
    packed = {symbol: _pack_long(index) for index, symbol in enumerate(symbols)}

    def write(out: Buffers, value: Any) -> None:
        if value not in packed:
            msg = f"{value!r} is none of {', '.join(symbols)}"
            raise ValueError(msg)
        out.append(packed[value])

    def read(data: bytes, at: int) -> tuple[str, int]:
        index, at = _read_long(data, at)
        if not 0 <= index < len(symbols):
            msg = f"index {index} in an enum of {len(symbols)}"
            raise ValueError(msg)
        return symbols[index], at

    return Plan(write, read)


def _array(items: Plan) -> Plan:
    def write(out: Buffers, value: Any) -> None:
        if isinstance(value, str):
            msg = "a string is no list"
            raise TypeError(msg)
        if len(value):
            out.append(_pack_long(len(value)))
            for item in value:
                items.write(out, item)
        out.append(b"\x00")

    def read(data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        value: list[Any] = []
        count, end, at = _read_block(data, at)
        while count:
            for _ in range(count):
                item, at = items.read(data, at)
                value.append(item)
            if end not in (-1, at):
                msg = "a block of items that is not as long as it says"
                raise ValueError(msg)
            count, end, at = _read_block(data, at)
        return tuple(value), at

    return Plan(write, read)


def _read_block(data: bytes, at: int) -> tuple[int, int, int]:
    """Return how many items come, where they end (-1 if that is not said) and where they begin."""
    count, at = _read_long(data, at)
    end = -1
    if count < 0:
        count = -count
        size, at = _read_length(data, at)
        end = at + size
    if count > len(data) - at:  # an item of ours takes a byte at least
        msg = f"{count} items where {len(data) - at} bytes are left"
        raise ValueError(msg)
    return count, end, at


_REMEMBERED = 64
_REMEMBERED_BYTES = 1 << 16
_BEGINNING = 24


def _remembered(array: Plan) -> Plan:
    """Keep the last lists of strings: frame after frame carries the symbols of its session."""
    written: dict[tuple[str, ...], bytes] = {}
    read_before: dict[bytes, tuple[bytes, tuple[str, ...]]] = {}

    def write(out: Buffers, value: Any) -> None:
        strings = value if isinstance(value, tuple) else tuple(value)
        packed = written.get(strings)
        if packed is None:
            buffers: Buffers = []
            array.write(buffers, value)
            packed = b"".join(buffers)
            if len(packed) <= _REMEMBERED_BYTES:
                if len(written) >= _REMEMBERED:
                    written.clear()
                written[strings] = packed
        out.append(packed)

    def read(data: bytes, at: int) -> tuple[tuple[str, ...], int]:
        start = data[at : at + _BEGINNING]
        packed, strings = read_before.get(start, (b"", ()))
        # The encoding says itself where it ends, so the same bytes are the same list.
        if packed and data.startswith(packed, at):
            return strings, at + len(packed)
        strings, end = array.read(data, at)
        if _BEGINNING <= end - at <= _REMEMBERED_BYTES:
            if len(read_before) >= _REMEMBERED:
                read_before.clear()
            read_before[start] = data[at:end], strings
        return strings, end

    return Plan(write, read)


def _column(schema: Mapping[str, Any], name: str) -> Plan:
    dtype = COLUMN_TYPES[schema["logicalType"]]
    broadcast = bool(schema.get("broadcast"))
    counted = name in COUNTED

    def write(out: Buffers, value: Any) -> None:
        column = np.frombuffer(value, dtype) if isinstance(value, bytes) else np.asarray(value)
        if counted and _is_count(column):
            column = column[:0]
        elif broadcast and _is_one_value(column):
            column = column[:1]
        packed = np.ascontiguousarray(column, dtype)
        out.append(_pack_long(packed.nbytes))
        out.append(packed)

    def read(data: bytes, at: int) -> tuple[NDArray[Any], int]:
        length, at = _read_length(data, at)
        if length % dtype.itemsize:
            msg = f"column {name} of {length} bytes is no {schema['logicalType']}"
            raise ValueError(msg)
        # A slice of its own, not an offset: numpy is up to four times slower on unaligned numbers.
        return np.frombuffer(data[at : at + length], dtype), at + length

    return Plan(write, read)


def _is_count(column: NDArray[Any]) -> bool:
    rows = len(column)
    return rows == 0 or (
        column.dtype.kind == "i"
        and bool(column[-1] == rows - 1)
        and bool((column == counts(rows, column.dtype)).all())
    )


def _is_one_value(column: NDArray[Any]) -> bool:
    return len(column) > 1 and (
        column.strides == (0,)
        or (bool(column[0] == column[-1]) and bool((column == column[0]).all()))
    )
