"""Lines of comma-separated text to columns, and the lines among them that can't be read."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv

__all__ = ["BadLine", "Lines", "Place", "Table"]

Place = Callable[[int], tuple[int, bytes]]
"""Returns the number (from 1) and the text of the line that a row stood in."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that can't be read: its number from 1, why, and the line."""

    line: int
    reason: str
    text: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Arrow columns, the lines that could not be read, and where each row stood."""

    columns: pa.Table
    faults: tuple[BadLine, ...]
    where: Place


class Lines:
    """The lines of one file, without a header or behind it.

    Parameters
    ----------
    data
        The whole text; lines end with LF or CRLF, empty lines don't count.
    first
        Number of its first line in the file, from 1.
    """

    def __init__(self, data: bytes, first: int = 1) -> None:
        self._data = data
        self._first = first

    def table(self, types: Mapping[str, pa.DataType | None]) -> Table:
        """Return the columns in the order of the file; one without a type is left out.

        A line with another number of fields, or with a field that is not of its type, is a fault.
        """
        count = self._data.count(b"\n") + (not self._data.endswith(b"\n") and bool(self._data))
        columns = _parse(self._data, types, count)
        if columns is not None:
            return Table(columns, (), self._place())
        # By halves: the parser that reads the whole also judges each line, so what passes here
        # passes there, and a bad line costs a few readings of its neighbours.
        good: list[tuple[int, bytes]] = []
        faults: list[BadLine] = []
        parts: list[pa.Table] = [_empty(types)]
        todo = [self._numbered()]
        while todo:
            lines = todo.pop()
            part = _parse(b"\n".join(text for _, text in lines), types, len(lines))
            if part is not None:
                parts.append(part)
                good += lines
            elif len(lines) == 1:
                line, text = lines[0]
                faults.append(BadLine(line, _objection(text, types), text))
            else:
                todo += [lines[len(lines) // 2 :], lines[: len(lines) // 2]]
        return Table(pa.concat_tables(parts), tuple(faults), good.__getitem__)

    def _numbered(self) -> list[tuple[int, bytes]]:
        lines = enumerate(self._data.split(b"\n"), self._first)
        return [(number, line.rstrip(b"\r")) for number, line in lines if line.strip()]

    def _place(self) -> Place:
        found: list[tuple[int, bytes]] = []

        def where(row: int) -> tuple[int, bytes]:
            if not found:  # only now: most files need no line numbers
                found.extend(self._numbered())
            return found[row]

        return where


def _empty(types: Mapping[str, pa.DataType | None]) -> pa.Table:
    wanted = {name: kind for name, kind in types.items() if kind is not None}
    return pa.schema(list(wanted.items())).empty_table()


def _parse(data: bytes, types: Mapping[str, pa.DataType | None], rows: int) -> pa.Table | None:
    """Return the columns, or None where they can't be read or are not that many rows."""
    if not rows:
        return _empty(types)
    wanted = {name: kind for name, kind in types.items() if kind is not None}
    try:
        table = pa.csv.read_csv(
            io.BytesIO(data),
            read_options=pa.csv.ReadOptions(
                column_names=list(types), use_threads=False, block_size=len(data) + 1
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=wanted,
                include_columns=list(wanted),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    return table if table.num_rows == rows else None


def _objection(text: bytes, types: Mapping[str, pa.DataType | None]) -> str:
    """Return why a line can't be read."""
    try:
        fields = next(csv.reader([text.decode()]))
    except (UnicodeDecodeError, csv.Error):
        return "it is no text"
    if len(fields) != len(types):
        return f"it has {len(fields)} fields, not {len(types)}"
    for (name, kind), field in zip(types.items(), fields, strict=True):
        if kind is not None:
            try:
                pa.array([field.strip()]).cast(kind)
            except pa.ArrowInvalid:
                return f"{name} is {field!r}, which is no {kind}"
    return "it can't be parsed"
