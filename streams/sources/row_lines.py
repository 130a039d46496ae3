"""Rows as they come, a line each: CSV under a header, or JSON objects.

The names of columns and fields are those of ``streams.sources.columns``. A line that is no row is
told with its reason, and the rest goes on. Whoever writes may say between the rows that all rows
up to a ready time are out: ``# heard TIME`` in CSV, ``{"heard": TIME}`` in JSON.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from streams.errors import SourceError
from streams.sources.columns import Columns, Shape
from streams.sources.files import Form
from streams.sources.gathered import Row
from streams.sources.protocol import BadRow
from streams.sources.times import RFC3339, epoch_times, number_ns, text_ns
from streams.topics import SYMBOL_BYTES

__all__ = ["Found", "Line", "Mark", "RowLines"]

HEARD = "# heard "
NUMBER = re.compile(r"\s*[+-]?\d+(\.\d*)?\s*")

Line: TypeAlias = tuple[int, bytes]
"""Number of a line, from 1, and the line without its end."""


@dataclass(frozen=True, slots=True)
class Mark:
    """All rows up to a ready time, ns since the epoch, are out, by the word of who writes."""

    until_ns: int


Found: TypeAlias = Row | BadRow | Mark


class RowLines:
    """Reads the lines of one input, in their order.

    Parameters
    ----------
    path
        Name of the input, for messages.
    form
        What the rows are and how they are to be read.
    is_json
        Whether the lines are JSON; else they are CSV, the first one the header.
    """

    def __init__(self, path: str, form: Form, *, is_json: bool) -> None:
        self._path = path
        self._form = form
        self._is_json = is_json
        self._header: list[str] = []
        self._columns: dict[tuple[str, ...], Columns] = {}

    def read(self, lines: Iterable[Line]) -> Iterator[Found]:
        """Give what some lines are; empty ones are nothing.

        Raises
        ------
        SourceError
            The header lacks a column.
        """
        for number, line in lines:
            if not line.strip():
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                found = self._json(text) if self._is_json else self._csv(text)
            except (ValueError, SourceError) as exc:
                if not (self._is_json or self._header):
                    raise SourceError(_reason(exc), path=self._path, line=number) from exc
                yield BadRow(self._path, number, _reason(exc), line)
            else:
                if found is not None:
                    yield found

    def _csv(self, text: str) -> Row | Mark | None:
        if text.startswith(HEARD):
            return Mark(self._time(text.removeprefix(HEARD).strip()))
        try:
            fields = next(csv.reader([text], strict=True))
        except csv.Error as exc:
            msg = f"it can't be parsed: {exc}"
            raise ValueError(msg) from exc
        if not self._header:
            self._columns_of(fields)
            self._header = fields
            return None
        if len(fields) != len(self._header):
            msg = f"it has {len(fields)} fields, not {len(self._header)}"
            raise ValueError(msg)
        return self._row(self._columns_of(self._header), fields)

    def _json(self, text: str) -> Row | Mark:
        try:
            found = json.loads(text)
        except ValueError as exc:
            msg = f"it is no JSON: {exc}"
            raise ValueError(msg) from exc
        if not isinstance(found, dict):
            msg = "it is no JSON object"
            raise ValueError(msg)  # noqa: TRY004 - of the line, as all that is wrong with it
        if found.keys() == {"heard"}:
            return Mark(self._time(found["heard"]))
        return self._row(self._columns_of(list(found)), list(found.values()))

    def _columns_of(self, header: Sequence[str]) -> Columns:
        names = tuple(header)
        if names not in self._columns:
            columns = Columns.of(header, self._form.shape, self._form.mapping, "")
            if columns["symbol"] < 0 and not self._form.symbol:
                raise SourceError(
                    f"no column for symbol among {', '.join(header)}: give --symbol or --map"
                )
            if len(self._columns) > 1000:  # names that differ from line to line are no form
                self._columns.clear()
            self._columns[names] = columns
        return self._columns[names]

    def _row(self, columns: Columns, fields: Sequence[Any]) -> Row:
        shape = self._form.shape
        symbol = self._form.symbol if columns["symbol"] < 0 else str(fields[columns["symbol"]])
        symbol = symbol.strip()
        if not 0 < len(symbol.encode()) <= SYMBOL_BYTES:
            msg = f"the symbol {symbol!r} has to have 1 to {SYMBOL_BYTES} bytes"
            raise ValueError(msg)
        prices = [self._price(columns, name, fields[columns[name]]) for name in shape.prices]
        sizes = [_number(name, fields[columns[name]]) for name in shape.sizes]
        condition = _codes(columns, shape, fields)
        row = Row(
            symbol,
            self._time(fields[columns["timestamp"]]),
            tuple(prices),
            tuple(sizes),
            condition=condition,
        )
        _check(row, shape)
        return row

    def _price(self, columns: Columns, name: str, field: Any) -> float:
        value = _number(name, field)
        is_whole = isinstance(field, int) or (isinstance(field, str) and field.strip().isdigit())
        divisor = self._form.scale or (1e9 if columns.fixed_point and is_whole else 1.0)
        return value / divisor

    def _time(self, field: Any) -> int:
        """Return a time as ns since the epoch."""
        try:
            if isinstance(field, str):
                if RFC3339.fullmatch(field):
                    return text_ns(field)
                if NUMBER.fullmatch(field):
                    return number_ns(float(field) if "." in field else int(field))
                column = pa.chunked_array([pa.array([field.strip()])])
                return int(epoch_times(column, self._form.zone or "UTC")[0])
            if isinstance(field, int | float) and not isinstance(field, bool):
                return number_ns(field)
        except (ValueError, OverflowError):  # pyarrow's error is a ValueError, too
            pass
        msg = f"the time is {field!r}, which is none"
        raise ValueError(msg)


def _number(name: str, field: Any) -> float:
    try:
        return float(str(field) if isinstance(field, bool) else field)  # True is no number here
    except (TypeError, ValueError, OverflowError):
        msg = f"{name} is {field!r}, which is no number"
        raise ValueError(msg) from None


def _codes(columns: Columns, shape: Shape, fields: Sequence[Any]) -> str:
    place = columns[shape.texts[0]] if shape.texts else -1
    found = fields[place] if place >= 0 else ""
    if isinstance(found, list):
        return ",".join(str(code) for code in found if str(code).strip())
    return "" if found is None else str(found)


def _check(row: Row, shape: Shape) -> None:
    """Raise ValueError for a row that makes no sense."""
    for values, names in ((row.prices, shape.prices), (row.sizes, shape.sizes)):
        for value, name in zip(values, names, strict=True):
            if not math.isfinite(value) or value < 0:
                msg = f"{name} is {value:g}: a finite number from 0 is meant"
                raise ValueError(msg)
    if len(row.prices) == 4 and row.prices[1] < row.prices[2]:
        msg = "the high is below the low"
        raise ValueError(msg)


def _reason(exc: Exception) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return "it is no text"
    return exc.reason.replace("?map=", "--map=") if isinstance(exc, SourceError) else str(exc)
