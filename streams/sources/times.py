"""Times of files to ns since the epoch: wall clocks, epochs of any unit, text."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.records import Longs

__all__ = ["NO_TIME", "RFC3339", "day_times", "epoch_times", "ns_text", "number_ns", "text_ns"]

NO_TIME = np.iinfo(np.int64).min
"""Stands for a time that is missing or can't be held in int64 ns."""

MS_NS = 1_000_000
UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))
"""Bound and length in ns of an epoch unit: up to the year 5138, s, ms and µs can't be mixed up."""

RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")


def text_ns(text: str) -> int:
    """Return a time of RFC 3339, at most 9 digits behind the second, as ns since the epoch.

    Raises
    ------
    ValueError
        It is none.
    """
    found = RFC3339.fullmatch(text)
    if not found:
        msg = f"{text!r} is no time of RFC 3339"
        raise ValueError(msg)
    second = datetime.fromisoformat(found[1] + found[3].upper())
    return int(second.timestamp()) * 10**9 + int((found[2] or "").ljust(9, "0"))


def number_ns(number: float) -> int:
    """Return a number of s, ms, µs or ns since the epoch, told apart by its size, as ns.

    Raises
    ------
    ValueError
        It can't be held in int64 ns.
    """
    size = abs(number)
    if not size < 2**63:
        msg = f"{number!r} is no time"
        raise ValueError(msg)
    unit = next((length for bound, length in UNITS if size < bound), 1)
    # A float holds s to the µs and less: whole µs are what can be meant.
    return number * unit if isinstance(number, int) else round(number * (unit / 1000)) * 1000


def ns_text(ts_ns: int) -> str:
    """Return ns since the epoch as a time of RFC 3339, UTC, to the ns."""
    return f"{datetime.fromtimestamp(ts_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{ts_ns % 10**9:09d}Z"


def day_times(time_ms: Longs, zone: str, day: date) -> Longs:
    """Return times of a local day, in ms since its midnight, as ns since the epoch.

    On a day when the clocks change each time is looked up by itself: an hour that comes twice is
    taken as the first one, as wall-clock times can't tell them apart.
    """
    info = ZoneInfo(zone)
    midnight = datetime.combine(day, time(), info)
    next_midnight = datetime.combine(day + timedelta(days=1), time(), info)
    start_ns = int(midnight.timestamp()) * 10**9
    if midnight.utcoffset() == next_midnight.utcoffset():
        return start_ns + time_ms * MS_NS
    naive = datetime.combine(day, time())
    seconds = [
        int((naive + timedelta(seconds=s)).replace(tzinfo=info).astimezone(UTC).timestamp())
        for s in (time_ms // 1000).tolist()
    ]
    return np.array(seconds, np.int64) * 10**9 + time_ms % 1000 * MS_NS


def epoch_times(column: pa.ChunkedArray, zone: str) -> Longs:
    """Return a column of times as ns since the epoch, NO_TIME where there is none.

    Numbers are s, ms, µs or ns since the epoch, told apart by their size. Text is ISO 8601. What
    names no zone of its own is wall-clock time of ``zone``; an hour that comes twice is the first.

    Raises
    ------
    pyarrow.ArrowInvalid
        Text that is no time, or a column of another type.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _of_numbers(column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        try:
            column = column.cast(pa.timestamp("ns"))
        except pa.ArrowInvalid:
            column = column.cast(pa.timestamp("ns", "UTC"))
    elif pa.types.is_date(kind):
        column = column.cast(pa.timestamp("s"))
    if not pa.types.is_timestamp(column.type):
        msg = f"{kind} is no type of times"
        raise pa.ArrowInvalid(msg)
    if column.type.tz is None:
        column = pc.assume_timezone(column, zone, ambiguous="earliest", nonexistent="earliest")
    column = column.cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
    times: Longs = column.fill_null(NO_TIME).to_numpy()
    return times


def _of_numbers(column: pa.ChunkedArray) -> Longs:
    if pa.types.is_floating(column.type):
        numbers = column.to_numpy()
        known = np.isfinite(numbers)
    else:
        known = column.is_valid().to_numpy()
        numbers = column.cast(pa.int64()).fill_null(0).to_numpy()
    largest = float(np.abs(numbers[known]).max(initial=0))
    unit = next((length for bound, length in UNITS if largest < bound), 1)
    times = np.full(len(numbers), NO_TIME, np.int64)
    if numbers.dtype == np.int64:
        times[known] = numbers[known] * unit
    else:  # a float holds s to the µs and less: whole µs are what can be meant
        times[known] = np.rint(numbers[known] * (unit / 1000)).astype(np.int64) * 1000
    return times
