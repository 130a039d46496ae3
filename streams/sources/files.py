"""Rows of CSV and Parquet files, file by file, as they stand there."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from schemas.records import Floats, Ints, Longs, empty_floats, empty_ints, empty_longs
from streams.errors import SourceError
from streams.sources.columns import SHAPES, Columns, Shape
from streams.sources.lines import Lines, Place
from streams.sources.protocol import BadRow
from streams.sources.times import NO_TIME, day_times, epoch_times

__all__ = ["Form", "Rows", "csv_rows", "group_spans", "no_rows", "opened", "parquet_rows"]

LEAN_NAME = re.compile(r"(\d{8})_([^_]+)_minute_trade\.csv")
BARS = SHAPES["bars"]
LEAN_TYPES = {
    "timestamp": pa.int64(),
    **dict.fromkeys((*BARS.prices, *BARS.sizes), pa.float64()),
}
WHOLE = re.compile(r"\s*[+-]?\d+\s*")
NUMBER = re.compile(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*")
ZONED = re.compile(r".*(Z|[+-]\d\d:?\d\d)\s*")


@dataclass(frozen=True, slots=True)
class Form:
    """How the files are to be read: the options of the URI."""

    shape: Shape
    mapping: Mapping[str, str]
    zone: str
    symbol: str
    interval_ns: int
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of one file, or of a part of it, as they stand there."""

    path: str
    symbols: tuple[str, ...]
    symbol: Ints
    ts_ns: Longs
    prices: tuple[Floats, ...]
    sizes: tuple[Floats, ...]
    text: Ints
    texts: tuple[str, ...]
    where: Place

    def take(self, rows: Any) -> Rows:
        """Return the rows at some positions, or of a slice, which copies none."""
        at = range(len(self.ts_ns))[rows] if isinstance(rows, slice) else rows
        return replace(
            self,
            symbol=self.symbol[rows],
            ts_ns=self.ts_ns[rows],
            prices=tuple(price[rows] for price in self.prices),
            sizes=tuple(size[rows] for size in self.sizes),
            text=self.text[rows],
            where=lambda row: self.where(int(at[row])),
        )


def no_rows(shape: Shape) -> Rows:
    """Return no rows of a shape."""
    floats, ints = empty_floats(), empty_ints()
    return Rows(
        path="",
        symbols=(),
        symbol=ints,
        ts_ns=empty_longs(),
        prices=tuple(floats for _ in shape.prices),
        sizes=tuple(floats for _ in shape.sizes),
        text=ints,
        texts=(),
        where=lambda row: (row, b""),
    )


def csv_rows(path: Path, form: Form, bad: deque[BadRow]) -> Iterator[Rows]:
    """Give the rows of one CSV file, none if it can't be read."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        bad.append(BadRow(str(path), 0, f"it can't be read: {exc.strerror}"))
        return
    first, _, rest = data.partition(b"\n")
    lean = LEAN_NAME.fullmatch(path.name)
    try:
        if lean and form.shape is BARS and NUMBER.fullmatch(first.decode().partition(",")[0]):
            yield _lean_rows(path, data, lean, form, bad)
            return
        header = next(csv.reader([first.decode("utf-8-sig").rstrip("\r")]), [])
        columns = Columns.of(header, form.shape, form.mapping, str(path))
    except (UnicodeDecodeError, csv.Error):
        bad.append(BadRow(str(path), 1, "the header is no text", first))
        return
    except SourceError as exc:
        bad.append(BadRow(str(path), 1, exc.reason, first))
        return
    types = _types(header, columns, rest)
    table = Lines(rest, 2).table(types)
    for fault in table.faults:
        bad.append(BadRow(str(path), fault.line, fault.reason, fault.text))
    yield _rows(path, table.columns, form, columns.fixed_point, table.where)


def _types(header: Sequence[str], columns: Columns, rest: bytes) -> dict[str, pa.DataType | None]:
    """Return the types of all columns, those that are wanted by their field, from the first row."""
    names = {place: field for field, place in columns.places.items()}
    sample = next((line for line in rest.split(b"\n", 20) if line.strip()), b"")
    fields = next(csv.reader([sample.decode(errors="replace")]), [])
    types: dict[str, pa.DataType | None] = {}
    for n in range(len(header)):
        name = names.get(n)
        text = fields[n] if n < len(fields) else ""
        if name is None:
            types[f"#{n}"] = None
        elif name == "timestamp":
            types[name] = _time_type(text)
        elif name == "symbol" or name in columns.shape.texts:
            types[name] = pa.string()
        elif name in columns.shape.prices and columns.fixed_point and WHOLE.fullmatch(text):
            types[name] = pa.int64()
        else:
            types[name] = pa.float64()
    return types


def _time_type(text: str) -> pa.DataType:
    if WHOLE.fullmatch(text):
        return pa.int64()
    if NUMBER.fullmatch(text):
        return pa.float64()
    return pa.timestamp("ns", "UTC") if ZONED.fullmatch(text) else pa.timestamp("ns")


def _lean_rows(
    path: Path, data: bytes, lean: re.Match[str], form: Form, bad: deque[BadRow]
) -> Rows:
    table = Lines(data).table(LEAN_TYPES)
    symbol = form.symbol or lean[2].upper()
    for fault in table.faults:
        bad.append(BadRow(str(path), fault.line, fault.reason, fault.text, symbol))
    day = datetime.strptime(lean[1], "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone
    time_ms = table.columns["timestamp"].to_numpy()
    return Rows(
        str(path),
        (symbol,),
        np.zeros(len(time_ms), np.int32),
        day_times(time_ms, form.zone or "America/New_York", day),
        tuple(table.columns[p].to_numpy() / (form.scale or 10_000.0) for p in BARS.prices),
        (table.columns["volume"].to_numpy(),),
        np.zeros(len(time_ms), np.int32),
        ("",),
        table.where,
    )


def _rows(path: Path, table: pa.Table, form: Form, fixed_point: bool, where: Place) -> Rows:
    """Return the columns of ``table``, which are named by field, as rows."""
    symbol, symbols = _encoded(table, "symbol", form.symbol or path.stem)
    text, texts = _encoded(table, next(iter(form.shape.texts), ""), "")
    prices = []
    for name in form.shape.prices:
        column = table[name]
        divisor = form.scale
        if fixed_point and pa.types.is_integer(column.type):
            divisor = divisor or 1e9
            undefined = pc.equal(column, pa.scalar(2**63 - 1, column.type))
            column = pc.if_else(undefined, None, column)
        values = column.cast(pa.float64(), safe=False).to_numpy()
        prices.append(values / divisor if divisor else values)
    return Rows(
        str(path),
        symbols,
        symbol,
        epoch_times(table["timestamp"], form.zone or "UTC"),
        tuple(prices),
        tuple(table[n].cast(pa.float64(), safe=False).to_numpy() for n in form.shape.sizes),
        text,
        texts,
        where,
    )


def _encoded(table: pa.Table, name: str, default: str) -> tuple[Ints, tuple[str, ...]]:
    """Return a column of text as numbers and the texts; ``default`` for all where there is none."""
    if name not in table.column_names:
        return np.zeros(table.num_rows, np.int32), (default,)
    column = table[name].unify_dictionaries().combine_chunks()
    is_encoded = pa.types.is_dictionary(column.type) and pa.types.is_string(column.type.value_type)
    if not is_encoded or column.null_count or column.dictionary.null_count:
        column = column.cast(pa.string()).fill_null("").dictionary_encode()
    return column.indices.to_numpy().astype(np.int32), tuple(column.dictionary.to_pylist())


def opened(path: Path, form: Form) -> tuple[pa.parquet.ParquetFile, Columns]:
    """Return a Parquet file and its columns; raise SourceError where it is none."""
    try:
        file = pa.parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as exc:
        raise SourceError(f"no readable Parquet file: {exc}", path=str(path)) from exc
    return file, Columns.of(file.schema_arrow.names, form.shape, form.mapping, str(path))


def parquet_rows(
    path: Path,
    file: pa.parquet.ParquetFile,
    columns: Columns,
    form: Form,
    *,
    wanted: tuple[int, int],
    bad: deque[BadRow],
) -> Iterator[Rows]:
    """Give the rows of the row groups that may hold times in [start_ns, end_ns)."""
    spans = group_spans(file, columns, form)
    header = file.schema_arrow.names
    names = {field: header[place] for field, place in columns.places.items() if place >= 0}
    row = 1
    for group, (first_ns, last_ns) in enumerate(spans):
        count = file.metadata.row_group(group).num_rows
        if NO_TIME in (first_ns, last_ns) or (first_ns < wanted[1] and wanted[0] <= last_ns):
            try:
                table = file.read_row_group(group, columns=list(names.values()))
                table = table.select(list(names.values())).rename_columns(list(names))
                yield _rows(path, table, form, columns.fixed_point, _numbering(row))
            except (OSError, pa.ArrowException) as exc:
                bad.append(BadRow(str(path), row, f"row group {group} can't be read: {exc}"))
        row += count


def _numbering(first: int) -> Place:
    return lambda row: (first + row, b"")


def group_spans(
    file: pa.parquet.ParquetFile, columns: Columns, form: Form
) -> list[tuple[int, int]]:
    """Return the first and last time of each row group, NO_TIME twice where it does not say."""
    spans = []
    kind = file.schema_arrow.types[columns["timestamp"]]
    for group in range(file.num_row_groups):
        statistics = file.metadata.row_group(group).column(columns["timestamp"]).statistics
        if statistics is None or not statistics.has_min_max or pa.types.is_dictionary(kind):
            spans.append((NO_TIME, NO_TIME))
            continue
        try:
            limits = pa.chunked_array([pa.array([statistics.min, statistics.max], kind)])
            first, last = (int(ns) for ns in epoch_times(limits, form.zone or "UTC"))
        except pa.ArrowException:  # text that is no time: told when the rows are read
            first, last = NO_TIME, NO_TIME
        spans.append((first, last))
    return spans
