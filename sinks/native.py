"""ClickHouse's Native format from numpy columns: a block is the columns' own bytes, end to end.

Twice as fast as Arrow and four times as fast as lists of Python objects, and the same bytes go to
a server and to chDB. Layout: https://clickhouse.com/docs/interfaces/formats/Native and, for
LowCardinality, ``SerializationLowCardinality`` of ClickHouse's source.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.records import Ints

__all__ = ["Column", "Letters", "Texts", "native_block", "taken"]

_TYPES = {"i8": "Int64", "i4": "Int32", "u8": "UInt64", "f8": "Float64", "b1": "Bool"}
_KEY_TYPES: tuple[tuple[int, Any], ...] = ((1 << 8, np.uint8), (1 << 16, np.uint16))
_KEYS_VERSION = 1
_OWN_KEYS = 1 << 9
_NEW_DICTIONARY = 1 << 10


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """A LowCardinality(String) column: its different values, and for each row the index of its."""

    values: Sequence[str]
    index: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Letters:
    """A String column of texts of one length: their ASCII letters, shape (rows, letters)."""

    letters: NDArray[np.uint8]


Column: TypeAlias = NDArray[Any] | Texts | Letters


def taken(column: Column, order: NDArray[Any]) -> Column:
    """Return the rows of a column in ``order`` (positions or a mask)."""
    if isinstance(column, Texts):
        return Texts(column.values, column.index[order])
    return Letters(column.letters[order]) if isinstance(column, Letters) else column[order]


def native_block(columns: Mapping[str, Column]) -> bytes:
    """Return the columns, all of one length above 0, as one block.

    Raises
    ------
    ValueError
        The lengths differ, or there are no rows: the format has no such block.
    """
    lengths = {_length(c) for c in columns.values()}
    if len(lengths) != 1 or 0 in lengths:
        msg = f"columns without rows or of different lengths: {sorted(lengths)}"
        raise ValueError(msg)
    parts: list[bytes] = [_varint(len(columns)), _varint(lengths.pop())]
    for name, column in columns.items():
        parts.append(_text(name))
        if isinstance(column, Texts):
            parts += [_text("LowCardinality(String)"), *_low_cardinality(column)]
        elif isinstance(column, Letters):
            parts += [_text("String"), _strings(column.letters)]
        else:
            little = np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
            parts += [_text(_TYPES[little.dtype.str[1:]]), little.tobytes()]
    return b"".join(parts)


def _length(column: Column) -> int:
    if isinstance(column, Letters):
        return len(column.letters)
    return len(column.index) if isinstance(column, Texts) else len(column)


def _strings(letters: NDArray[np.uint8]) -> bytes:
    """Return texts of one length, each behind that length."""
    rows, size = letters.shape
    length = np.frombuffer(_varint(size), np.uint8)
    return np.hstack((np.broadcast_to(length, (rows, len(length))), letters)).tobytes()


def _low_cardinality(column: Texts) -> list[bytes]:
    keys = ["", *column.values]  # place 0 is the default value
    width = next((w for w, (most, _) in enumerate(_KEY_TYPES) if len(keys) <= most), 2)
    dtype = _KEY_TYPES[width][1] if width < 2 else np.uint32
    head = struct.pack("<QQQ", _KEYS_VERSION, width | _OWN_KEYS | _NEW_DICTIONARY, len(keys))
    index = (column.index + 1).astype(dtype)
    return [head, *map(_text, keys), struct.pack("<Q", len(index)), index.tobytes()]


def _text(value: str) -> bytes:
    data = value.encode()
    return _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
