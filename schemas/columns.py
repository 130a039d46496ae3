"""Records to the values that fastavro writes and back, and whether their columns fit together.

A column is Avro ``bytes`` of packed little-endian numbers; in a record it is a numpy array, one
value a row. Where its schema says so, one value in the message stands for all rows, and a column
that only counts the rows, or has the same value everywhere by default, may be left empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import fastavro
import numpy as np
from numpy.typing import NDArray

from schemas import records
from schemas.records import Frame, Record

__all__ = ["check", "from_avro", "to_avro"]

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "int32-column": np.dtype("<i4"),
    "int64-column": np.dtype("<i8"),
    "float64-column": np.dtype("<f8"),
}
_COUNTED = frozenset({"row", "sequence"})
"""Columns that are left empty where they only count the rows: 0, 1, 2, …"""
_BEFORE = ("before_open", "before_high", "before_low", "before_close", "before_volume")
_ABSENT: Mapping[str, float] = {
    **{"revision": 0, "condition": -1, "status": 0, "attempt": 0, "request": -1},
    **dict.fromkeys(_BEFORE, float("nan")),
}
"""Value of the columns that may be left empty."""
_ONE_FOR_ALL = frozenset(
    {
        *("symbol", "interval_ns", "source", "revision", "condition", "count", "quality"),
        *("status", "attempt", "request", "sequence", *_BEFORE),
    }
)
Reader: TypeAlias = Callable[[Any], Any]
_BITS = {"int": 31, "long": 63}
_SAID = ("string", "double", "boolean")
"""Types that bytes can't say wrongly."""
_READERS: dict[str, Reader] = {}
_SLICES = tuple(name for name in Frame.__dataclass_fields__ if name.startswith("slice_"))


def to_avro(kind: Any, value: Any, name: str = "") -> Any:
    """Return ``value``, of the raw Avro type ``kind``, as fastavro writes it: columns as bytes.

    Raises
    ------
    ValueError
        The field ``name``, or one inside it, does not fit its type.
    """
    if isinstance(kind, list):
        # fastavro takes the branch by its name; else it would look at all of the value first.
        branch = f"sessiontape.{kind[1]['name']}"
        return None if value is None else (branch, to_avro(kind[1], value, name))
    if _is("bytes", kind):
        return _packed(kind, np.asarray(value), name)
    if _is("record", kind):
        return {
            field["name"]: to_avro(field["type"], getattr(value, field["name"]), field["name"])
            for field in kind["fields"]
        }
    if _is("array", kind) and kind["items"] != "string":
        return [to_avro(kind["items"], item) for item in value]
    return _valid(kind, value, name)


def from_avro(kind: Any, value: Any) -> Any:
    """Return what ``value``, as fastavro read it by the raw Avro record ``kind``, is as a record.

    Raises
    ------
    ValueError
        A number is out of the bounds of its type, or a column of no whole number of values.
    """
    return _record_reader(kind)(value)


def check(record: Record) -> None:
    """Raise ValueError where the columns of ``record`` don't fit each other or their lists."""
    minutes = getattr(record, "minutes" if isinstance(record, Frame) else "gaps", None)
    if minutes is not None:
        _check_columns(minutes)
        _check_index(minutes.request, len(minutes.requests), "request", lowest=-1)
    if isinstance(record, Frame):
        _check_frame(record)
    elif record.columns:
        _check_columns(record)


def _record_reader(kind: Any) -> Reader:
    """Return the reader of a record, made once: one by one rows are many."""
    name = kind["name"]
    if name not in _READERS:
        cls = getattr(records, name)
        readers = [(f["name"], _reader(f["type"], f["name"])) for f in kind["fields"]]

        def read(value: Any) -> Any:
            fields = {name: reader(value[name]) for name, reader in readers}
            if cls.columns:
                _stretch(cls.columns, fields)
            elif cls is Frame:
                _stretch_slices(fields)
            return cls(**fields)

        _READERS[name] = read
    return _READERS[name]


def _reader(kind: Any, name: str) -> Reader:
    if isinstance(kind, list):
        inner = _reader(kind[1], name)
        return lambda value: None if value is None else inner(value)
    if _is("bytes", kind):
        dtype = _DTYPES[kind["logicalType"]]
        # A default, when an older version lacks the column, comes as the text of the schema.
        return lambda value: np.frombuffer(value or b"", dtype)
    if _is("record", kind):
        return _record_reader(kind)
    if _is("array", kind):
        item = _reader(kind["items"], name)
        return tuple if item is _as_read else lambda value: tuple(map(item, value))
    return _as_read if kind in _SAID else partial(_valid, kind, name=name)


def _as_read(value: Any) -> Any:
    return value


def _is(type_name: str, kind: Any) -> bool:
    return isinstance(kind, dict) and kind["type"] == type_name


def _valid(kind: Any, value: Any, name: str) -> Any:
    bits = _BITS.get(kind) if isinstance(kind, str) else None
    if bits is not None and type(value) is int and -1 <= value >> bits <= 0:
        return value
    # fastavro looks at each of hundreds of symbols for a microsecond or so.
    is_list = _is("array", kind) and isinstance(value, tuple | list)
    if is_list and all(isinstance(item, str) for item in value):
        return value
    if not fastavro.validate(value, kind, raise_errors=False):
        wanted = kind if isinstance(kind, str) else kind.get("symbols", "list of strings")
        msg = f"{name}: {value!r} is no {wanted}"
        raise ValueError(msg)
    return value


def _packed(kind: Mapping[str, Any], column: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Return the bytes of ``column`` as fastavro takes them without a copy."""
    rows = len(column)
    if rows == 0 or (
        name in _COUNTED and column[-1] == rows - 1 and np.array_equal(column, np.arange(rows))
    ):
        return np.empty(0, np.uint8)
    if kind.get("broadcast") and _is_one_value(column):
        column = column[:1]
    dtype = _DTYPES[kind["logicalType"]]
    if column.dtype != dtype:
        fits = np.can_cast(column.dtype, dtype, "same_kind")
        if not fits or (dtype.kind == "i" and bool((column.astype(dtype) != column).any())):
            msg = f"column {name} of {column.dtype} has values that fit no {kind['logicalType']}"
            raise ValueError(msg)
    return np.ascontiguousarray(column, dtype).view(np.uint8)


def _is_one_value(column: NDArray[Any]) -> bool:
    return column.strides == (0,) or bool(
        column[0] == column[-1] and (column[:8] == column[0]).all() and (column == column[0]).all()
    )


def _stretch(names: Sequence[str], fields: dict[str, Any]) -> None:
    """Bring the columns in ``fields`` that are empty or hold one value for all to full length.

    Those that don't fit stay as they are, for ``check`` to find.
    """
    rows = len(fields["ts_ns"]) if names else 0
    for name in names:
        column = fields[name]
        if len(column) == rows:
            continue
        if len(column) == 0 and name in _COUNTED:
            column = np.arange(rows, dtype=column.dtype)
            column.flags.writeable = False
        elif len(column) == 0 and name in _ABSENT:
            column = np.broadcast_to(np.array(_ABSENT[name], column.dtype), rows)
        elif len(column) == 1 and name in _ONE_FOR_ALL:
            column = np.broadcast_to(column, rows)
        fields[name] = column


def _stretch_slices(fields: dict[str, Any]) -> None:
    """Bring the columns of slices that hold one value for all to full length."""
    slices = len(fields["slice_ns"])
    for name in _SLICES:
        if len(fields[name]) == 1 and slices:
            fields[name] = np.broadcast_to(fields[name], slices)


def _check_columns(block: Any, symbols: int = -1, sources: int = -1) -> None:
    rows = len(block.ts_ns)
    for name in block.columns:
        length = len(getattr(block, name))
        if length == rows or (length == 0 and (name in _COUNTED or name in _ABSENT)):
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
    kinds: tuple[Any, ...] = (frame.bars, frame.quotes, frame.ticks, frame.derived)
    groups = [group for group in kinds if group is not None]
    for group in groups:
        sources = len(frame.sources) if "source" in group.columns else -1
        _check_columns(group, len(frame.symbols), sources)
    if len({len(getattr(frame, name)) for name in _SLICES}) != 1:
        msg = "the slice columns differ in length"
        raise ValueError(msg)
    rows = sum(len(group) for group in groups)
    slice_rows, corrections = np.asarray(frame.slice_rows), np.asarray(frame.slice_corrections)
    if not rows == frame.rows == slice_rows.sum():
        msg = (
            f"{frame.rows} rows are announced and {int(slice_rows.sum())} in the slices, "
            f"the columns hold {rows}"
        )
        raise ValueError(msg)
    if ((corrections < 0) | (corrections > slice_rows)).any():
        msg = "a slice has more corrections than rows, or less than none"
        raise ValueError(msg)
    _check_places([np.asarray(group.row) for group in groups if len(group)], rows)


def _check_places(places: list[NDArray[Any]], rows: int) -> None:
    """Raise ValueError unless the rows of all kinds together are 0, 1, 2, …, each in order."""
    if not places or (len(places) == 1 and len(places[0]) == 0):
        return
    together = places[0]
    if len(places) > 1:
        together = np.sort(np.concatenate(places), kind="stable")  # in linear time on sorted runs
    in_order = len(places) == 1 or all((place[1:] > place[:-1]).all() for place in places)
    if not (in_order and np.array_equal(together, np.arange(rows))):
        msg = "the rows of the frame are not 0, 1, 2, …, each kind in order"
        raise ValueError(msg)
