"""The files of a LEAN folder: what stands in each kind of them, and how one is read.

``FORMATS`` has for each stream the kinds of files that hold it, the finest first. Of a quote bar
(minutes, seconds) the close is taken, 1 ns before the bar ends: then it was known; a side that the
bar has not is 0 with size 0. A tick of a quote may name one side only; the other is as it was
before in the file. Ticks and quotes carry their place among the lines that can be read, from 0, as
sequence: several of one time keep their order.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.records import Floats, Ints, Longs
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.sources.held import Day, stamp_of
from streams.sources.lines import Lines, Table
from streams.sources.protocol import BadRow, Block
from streams.sources.rows import (
    Found,
    bar_block,
    quote_block,
    sort_out,
    sort_ticks,
    tick_block,
)
from streams.sources.times import day_times

__all__ = ["FORMATS", "MARKETS", "Format", "Market", "formats_of", "read_day"]

DAY_MS = 86_400_000
BAR = ("time_ms", "open", "high", "low", "close", "volume")
QUOTE_BAR = (
    *("time_ms", "bid_open", "bid_high", "bid_low", "bid", "bid_size"),
    *("ask_open", "ask_high", "ask_low", "ask", "ask_size"),
)
TRADE = ("time_ms", "price", "size")
QUOTE = ("time_ms", "bid", "bid_size", "ask", "ask_size")
MORE = (("exchange", "condition", "suspicious"), ("suspicious",), ())
"""What may stand behind the columns of a tick; the file says which by the number of its fields."""
NO_SIDE = re.compile(rb"(?<=,)(?=,|\r?\n|\Z)")
"""A field without text, as a quote bar has it of a side that is not there."""


@dataclass(frozen=True, slots=True)
class Market:
    """What is the same in all files of a security type.

    Attributes
    ----------
    zone
        Time zone whose midnight the times count from.
    scale
        What prices are to be divided by.
    weekend
        Whether Saturday and Sunday have files.
    """

    zone: str
    scale: float
    weekend: bool


@dataclass(frozen=True, slots=True)
class Format:
    """Where the files of one kind lie, their columns, and the length of a bar in ns; 0: ticks."""

    resolution: str
    kind: str
    columns: tuple[str, ...]
    length_ns: int = 0


MARKETS: Mapping[str, Market] = {
    "equity/usa": Market("America/New_York", 10_000.0, weekend=False),
    "crypto": Market("UTC", 1.0, weekend=True),
}
"""By folder: of a market, or of a security type where all its markets are alike."""

FORMATS: Mapping[str, tuple[Format, ...]] = {
    "bars": (
        Format("second", "trade", BAR, SECOND_NS),
        Format("minute", "trade", BAR, MINUTE_NS),
    ),
    "quotes": (
        Format("tick", "quote", QUOTE),
        Format("second", "quote", QUOTE_BAR, SECOND_NS),
        Format("minute", "quote", QUOTE_BAR, MINUTE_NS),
    ),
    "ticks": (Format("tick", "trade", TRADE),),
}
"""By stream, the finest first; another kind of file is another entry and its reader."""


def formats_of(stream: str, interval_ns: int) -> tuple[Format, ...]:
    """Return the kinds of files that may hold a stream; of bars those of one length."""
    found = FORMATS.get(stream, ())
    return tuple(f for f in found if stream != "bars" or f.length_ns == interval_ns)


@dataclass(frozen=True, slots=True)
class _File:
    """The lines of a file that lie in its day."""

    layout: Format
    market: Market
    symbol: str
    columns: Mapping[str, pa.ChunkedArray]
    ts_ns: Longs
    rows: Longs

    def prices(self, name: str) -> Floats:
        """Return a column of prices in the market's currency."""
        return self.numbers(name) / self.market.scale

    def numbers(self, name: str) -> Floats:
        """Return a column of numbers."""
        found: Floats = self.columns[name].to_numpy()[self.rows]
        return found

    @property
    def number(self) -> Ints:
        """Number of the symbol a row: there is one."""
        return np.zeros(len(self.rows), np.int32)


def read_day(path: Path, layout: Format, market: Market, symbol: str, day: date) -> Day:
    """Read one file; what is wrong with it is in what comes back."""
    stamp = stamp_of(path)  # before it is read: a change meanwhile shows later
    try:
        name, data = _unzipped(path)
    except FileNotFoundError:
        return Day((BadRow(str(path), 0, "the file is missing", symbol=symbol),))
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as exc:
        return Day((BadRow(str(path), 0, f"no readable zip: {exc}", symbol=symbol),))
    place = f"{path}#{name}"
    if layout.columns == QUOTE_BAR:
        data = NO_SIDE.sub(b"0", data)
    names = layout.columns if layout.length_ns else _tick_columns(layout, data)
    types = {column: TYPES.get(column, pa.float64()) for column in names}
    if layout.length_ns:  # only ticks have parts of a millisecond
        types["time_ms"] = pa.int64()
    table = Lines(data).table(types)
    bad = [BadRow(place, f.line, f.reason, f.text, symbol) for f in table.faults]
    bad += _outside(table, place, symbol)
    time_ms = table.columns["time_ms"].to_numpy()
    rows = np.flatnonzero((time_ms >= 0) & (time_ms < DAY_MS))
    file = _File(
        layout,
        market,
        symbol,
        {column: table.columns[column] for column in names},
        _times(time_ms[rows], market.zone, day),
        rows,
    )
    block, found = READ[layout.columns](file)
    bad += [_told(table, place, symbol, int(rows[f.row]), f.reason) for f in found.faults]
    # Of bars a second row of a time is no minute that was lost.
    whole = len(np.unique(time_ms)) if layout.columns == BAR else len(time_ms)
    return Day(tuple(bad), block, len(table.faults) + whole - len(block), stamp)


def _tick_columns(layout: Format, data: bytes) -> tuple[str, ...]:
    fields = data.lstrip().partition(b"\n")[0].count(b",") + 1
    forms = [(*layout.columns, *more) for more in MORE]
    return next((form for form in forms if len(form) == fields), forms[0])


def _times(time_ms: NDArray[Any], zone: str, day: date) -> Longs:
    """Return times of a day as ns since the epoch; LEAN counts parts of a ms in 100 ns."""
    whole = np.floor(time_ms).astype(np.int64)
    parts = np.rint((time_ms - whole) * 10_000).astype(np.int64)
    found: Longs = day_times(whole, zone, day) + 100 * parts
    return found


def _outside(table: Table, place: str, symbol: str) -> Iterator[BadRow]:
    time_ms = table.columns["time_ms"].to_numpy()
    for row in np.flatnonzero(~((time_ms >= 0) & (time_ms < DAY_MS))).tolist():
        yield _told(table, place, symbol, row, "the time is outside the day")


def _told(table: Table, place: str, symbol: str, row: int, reason: str) -> BadRow:
    line, text = table.where(row)
    return BadRow(place, line, reason, text, symbol)


def _bars(file: _File) -> tuple[Block, Found]:
    prices = [file.prices(name) for name in ("open", "high", "low", "close")]
    volume = file.numbers("volume")
    found = sort_out(file.number, file.ts_ns, prices, volume)
    block = bar_block(
        (file.symbol,),
        file.number[found.keep],
        file.ts_ns[found.keep],
        interval_ns=file.layout.length_ns,
        prices=[column[found.keep] for column in prices],
        volume=volume[found.keep],
    )
    return block, found


def _quote_bars(file: _File) -> tuple[Block, Found]:
    ts_ns = file.ts_ns + (file.layout.length_ns - 1)
    prices, sizes = _sides(file)
    found = sort_ticks(file.number, ts_ns, prices, sizes)
    kept = ([column[found.keep] for column in columns] for columns in (prices, sizes))
    return _quote_block(file, ts_ns, found, *kept), found


def _quotes(file: _File) -> tuple[Block, Found]:
    prices, sizes = _sides(file)
    found = sort_ticks(file.number, file.ts_ns, prices, sizes)
    for side in range(2):
        price, size = prices[side][found.keep], sizes[side][found.keep]
        known = _last((price != 0) | (size != 0))
        prices[side], sizes[side] = _filled(price, known), _filled(size, known)
    return _quote_block(file, file.ts_ns, found, prices, sizes), found


def _sides(file: _File) -> tuple[list[Floats], list[Floats]]:
    """Return the prices and the sizes of bid and ask."""
    sides = ("bid", "ask")
    return [file.prices(s) for s in sides], [file.numbers(f"{s}_size") for s in sides]


def _quote_block(
    file: _File, ts_ns: Longs, found: Found, prices: Sequence[Floats], sizes: Sequence[Floats]
) -> Block:
    return quote_block(
        (file.symbol,),
        file.number[found.keep],
        ts_ns[found.keep],
        prices=prices,
        sizes=sizes,
        sequence=file.rows[found.keep],
    )


def _ticks(file: _File) -> tuple[Block, Found]:
    price, size = file.prices("price"), file.numbers("size")
    found = sort_ticks(file.number, file.ts_ns, [price], [size])
    condition, conditions = _conditions(file, file.rows[found.keep])
    block = tick_block(
        (file.symbol,),
        file.number[found.keep],
        file.ts_ns[found.keep],
        price=price[found.keep],
        size=size[found.keep],
        sequence=file.rows[found.keep],
        condition=condition,
        conditions=conditions,
    )
    return block, found


def _conditions(file: _File, rows: Longs) -> tuple[Ints, tuple[str, ...]]:
    """Return the conditions of rows, numbers and texts such as ``P 20002020 suspicious``."""
    if "suspicious" not in file.columns or not len(rows):
        return np.zeros(len(rows), np.int32), ("",) if len(rows) else ()
    texts = pc.if_else(pc.equal(file.columns["suspicious"], 0), "", "suspicious")
    if "exchange" in file.columns:
        said = (file.columns["exchange"], file.columns["condition"], texts)
        texts = pc.utf8_rtrim_whitespace(pc.binary_join_element_wise(*said, " "))
    found = texts.take(pa.array(rows)).combine_chunks().dictionary_encode()
    return found.indices.to_numpy().astype(np.int32), tuple(found.dictionary.to_pylist())


def _last(known: NDArray[np.bool_]) -> Longs:
    """Return for each row the last one up to it that is known, -1 before the first."""
    return np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))


def _filled(column: Floats, known: Longs) -> Floats:
    return np.where(known < 0, 0.0, column[known]) if len(column) else column


TYPES = {
    "exchange": pa.string(),
    "condition": pa.string(),
    "suspicious": pa.int64(),
}
"""Of columns that are no numbers with a fraction."""

READ: Mapping[tuple[str, ...], Callable[[_File], tuple[Block, Found]]] = {
    BAR: _bars,
    QUOTE_BAR: _quote_bars,
    QUOTE: _quotes,
    TRADE: _ticks,
}


def _unzipped(path: Path) -> tuple[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            msg = f"it holds {len(names)} files, not one"
            raise zipfile.BadZipFile(msg)
        return names[0], archive.read(names[0])
