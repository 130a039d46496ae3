"""CSV and Parquet files of bars, quotes or ticks, by way of pyarrow.

URI: ``csv:PATH[?key=value&…]`` or ``parquet:PATH[…]``; PATH is a file, or a folder whose files of
that kind are taken together. Options:

``stream=ticks``        what the rows are: bars (the default), quotes or ticks
``map=field:column,…``  which column is what: of bars timestamp, open, high, low, close, volume and
                        symbol, of quotes bid, bid_size, ask and ask_size, of ticks price, size and
                        conditions; else the names of pandas, Databento and Alpaca are known
``tz=America/New_York`` zone of times that name none; default UTC
``symbol=IBM``          symbol of files without such a column; default: the file's name
``interval=1m``         length of the bars
``scale=10000``         what prices are to be divided by

A CSV file without header is LEAN's if it has LEAN's name (``20131007_ibm_minute_trade.csv``): times
are those of New York and prices 1/10,000 dollar unless ``tz`` and ``scale`` say otherwise.

Between the first and the last day of the files it vouches that minutes without a row had no trade.

CSV files are read once and held (60 bytes a row); of Parquet files a request reads the row groups
that its range touches, so their size has no bound.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.records import Floats, Ints, Longs
from streams.errors import SourceError
from streams.intervals import MINUTE_NS, interval_ns
from streams.sources.columns import SHAPES, Columns, mapping_of
from streams.sources.files import (
    Form,
    Rows,
    csv_rows,
    group_spans,
    no_rows,
    opened,
    parquet_rows,
)
from streams.sources.options import Options
from streams.sources.protocol import Answer, BadRow, Block, Part
from streams.sources.rows import bar_block, quote_block, sort_out, sort_ticks, tick_block
from streams.sources.times import NO_TIME

__all__ = ["ColumnarSource"]

DAY_NS = 1440 * MINUTE_NS
OPTIONS = ("stream", "map", "tz", "symbol", "interval", "scale")


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Good rows of all files, sorted by symbol and time; ``bounds`` cut them by symbol.

    ``sequence`` is their place among those of one symbol and time, whatever else was read.
    """

    symbols: tuple[str, ...]
    bounds: Longs
    ts_ns: Longs
    prices: tuple[Floats, ...]
    sizes: tuple[Floats, ...]
    text: Ints
    texts: tuple[str, ...]
    sequence: Longs

    def block(self, stream: str, symbol: str, cut: slice, interval_ns: int) -> Block:
        """Return some rows of one symbol."""
        ts_ns = self.ts_ns[cut]
        number = np.zeros(len(ts_ns), np.int32)
        prices = [column[cut] for column in self.prices]
        sizes = [column[cut] for column in self.sizes]
        sequence = self.sequence[cut]
        if stream == "bars":
            return bar_block(
                (symbol,), number, ts_ns, interval_ns=interval_ns, prices=prices, volume=sizes[0]
            )
        if stream == "quotes":
            return quote_block(
                (symbol,), number, ts_ns, prices=prices, sizes=sizes, sequence=sequence
            )
        return tick_block(
            (symbol,),
            number,
            ts_ns,
            price=prices[0],
            size=sizes[0],
            sequence=sequence,
            condition=self.text[cut],
            conditions=self.texts,
        )


@dataclass(slots=True)
class ColumnarSource:
    """The files of one URI."""

    name: str
    files: tuple[Path, ...]
    form: Form
    stream: str = "bars"
    _bad: deque[BadRow] = field(default_factory=deque, repr=False)
    _held: _Held | None = field(default=None, repr=False)
    _known: tuple[str, ...] = field(default=(), repr=False)
    _span: tuple[int, int] | None = field(default=None, repr=False)
    # Several threads may ask at once: the files are read by one of them.
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def open(cls, scheme: str, place: str, options: str = "") -> Self:
        """Return the source of the files at ``place``; ``scheme`` is csv or parquet.

        Raises
        ------
        SourceError
            There is no such file, or a folder without any.
        ConfigError
            An option that is none, or has no meaning.
        """
        given = Options(scheme, options, OPTIONS)
        zone = given.text("tz")
        try:
            ZoneInfo(zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
            raise given.wrong("tz", "a time zone such as America/New_York") from exc
        stream = given.text("stream", "bars")
        if stream not in SHAPES:
            raise given.wrong("stream", f"one of {', '.join(SHAPES)}")
        form = Form(
            shape=SHAPES[stream],
            mapping=mapping_of(given.text("map"), SHAPES[stream]),
            zone=zone,
            symbol=given.text("symbol"),
            interval_ns=interval_ns(given.text("interval", "1m")),
            scale=given.number("scale", 0.0, 1e-12, 1e12),
        )
        path = Path(place)
        files = tuple(sorted(path.glob(f"**/*.{scheme}"))) if path.is_dir() else (path,)
        if not files:
            raise SourceError(f"the folder has no .{scheme} file", path=place)
        if not files[0].is_file():
            raise SourceError("there is no such file", path=place)
        return cls(scheme, files, form, stream)

    @property
    def streams(self) -> tuple[str, ...]:
        """Kinds of rows that it has: one."""
        return (self.stream,)

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols of all rows, sorted."""
        if not self._known:
            self._known = self._csv().symbols if self.name == "csv" else self._parquet_symbols()
        return self._known

    def sessions(self) -> tuple[str, str] | None:
        """Return the first and the last day, in UTC."""
        first_ns, last_ns = self._bounds()
        if last_ns < first_ns:
            return None
        first, last = (datetime.fromtimestamp(ns // 10**9, UTC) for ns in (first_ns, last_ns))
        return f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give the rows by symbol; beyond the first and last day of the files it can't say."""
        is_other = stream == "bars" and interval_ns != self.form.interval_ns
        if stream != self.stream or is_other:
            yield Answer(tuple(symbols), "cannot_say")
            return
        with self._lock:
            held = self._csv() if self.name == "csv" else self._parquet(start_ns, end_ns)
            bad = [self._bad.popleft() for _ in range(len(self._bad))]
            known = set(self.symbols())
            first_ns, last_ns = self._bounds()
        yield from bad
        inside = (
            first_ns // DAY_NS * DAY_NS <= start_ns and end_ns <= (last_ns // DAY_NS + 1) * DAY_NS
        )
        number = {symbol: n for n, symbol in enumerate(held.symbols)}
        for symbol in symbols:
            rows = 0
            if symbol in number:
                at = number[symbol]
                of_symbol = slice(int(held.bounds[at]), int(held.bounds[at + 1]))
                low, high = np.searchsorted(held.ts_ns[of_symbol], (start_ns, end_ns))
                rows = int(high - low)
            if rows:
                cut = slice(of_symbol.start + int(low), of_symbol.start + int(high))
                yield held.block(stream, symbol, cut, interval_ns)
            vouched = inside and symbol in known
            kind = "cannot_say" if not vouched else "rows" if rows else "nothing"
            yield Answer((symbol,), kind, vouched=vouched)

    def _csv(self) -> _Held:
        """Return all rows, read at the first call; what is bad is told by the next ``load``."""
        if self._held is None:
            found = [rows for path in self.files for rows in csv_rows(path, self.form, self._bad)]
            self._held = _sorted(found, self.stream, self._bad)
        return self._held

    def _parquet(self, start_ns: int, end_ns: int) -> _Held:
        found: list[Rows] = []
        for path, file, columns in self._opened():
            wanted = (start_ns, end_ns)
            for rows in parquet_rows(path, file, columns, self.form, wanted=wanted, bad=self._bad):
                inside = (rows.ts_ns >= start_ns) & (rows.ts_ns < end_ns)
                inside |= rows.ts_ns == NO_TIME
                found.append(rows.take(_cut(inside)))
        return _sorted(found, self.stream, self._bad)

    def _parquet_symbols(self) -> tuple[str, ...]:
        found: set[str] = set()
        for path, file, columns in self._opened():
            if columns["symbol"] < 0:
                found.add(self.form.symbol or path.stem)
            else:
                name = file.schema_arrow.names[columns["symbol"]]
                names = pc.unique(file.read(columns=[name]).column(name).unify_dictionaries())
                found |= set(names.cast(pa.string()).drop_null().to_pylist())
        return tuple(sorted(found))

    def _opened(self) -> Iterator[tuple[Path, pa.parquet.ParquetFile, Columns]]:
        """Open the files one by one; one that is no Parquet is told and left out from then on."""
        for path in self.files:
            try:
                file, columns = opened(path, self.form)
            except SourceError as exc:
                self._bad.append(BadRow(exc.path, exc.line, exc.reason))
                self.files = tuple(kept for kept in self.files if kept != path)
            else:
                yield path, file, columns

    def _bounds(self) -> tuple[int, int]:
        """Return the first and the last time there is; the last before the first if none is."""
        if self._span is None:
            if self.name == "csv":
                times = [self._csv().ts_ns]
            else:
                spans = (
                    group_spans(file, columns, self.form) for _, file, columns in self._opened()
                )
                times = [np.array(span, np.int64) for file in spans for span in file]
            all_times = np.concatenate([np.empty(0, np.int64), *times])
            known = all_times[all_times != NO_TIME]
            self._span = (int(known.min()), int(known.max())) if len(known) else (0, -1)
        return self._span


def _cut(inside: NDArray[np.bool_]) -> Any:
    """Return which rows are inside, as a slice where they stand together: that copies none."""
    places = np.flatnonzero(inside)
    first, stop = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
    return slice(first, stop) if stop - first == len(places) else places


def _sorted(found: list[Rows], stream: str, bad: deque[BadRow]) -> _Held:
    """Join rows of many files; put those that make no sense on ``bad``."""
    shape = SHAPES[stream]
    symbols = tuple(sorted({symbol for rows in found for symbol in rows.symbols}))
    texts = tuple(sorted({text for rows in found for text in rows.texts}))
    found = [*found, no_rows(shape)]
    symbol = _renumbered([(rows.symbols, rows.symbol) for rows in found], symbols)
    text = _renumbered([(rows.texts, rows.text) for rows in found], texts)
    ts_ns = np.concatenate([rows.ts_ns for rows in found])
    prices = [np.concatenate([r.prices[n] for r in found]) for n in range(len(shape.prices))]
    sizes = [np.concatenate([r.sizes[n] for r in found]) for n in range(len(shape.sizes))]
    starts = np.cumsum([0, *(len(rows.ts_ns) for rows in found)])

    def tell(row: int, reason: str) -> None:
        file = int(np.searchsorted(starts, row, side="right")) - 1
        line, line_text = found[file].where(row - int(starts[file]))
        bad.append(BadRow(found[file].path, line, reason, line_text, symbols[symbol[row]]))

    untimed = np.flatnonzero(ts_ns == NO_TIME)
    for row in untimed.tolist():
        tell(row, "the time is missing")
    timed = np.delete(np.arange(len(ts_ns)), untimed)
    # Millions of rows are copied only where some are left out.
    some: Any = timed if len(untimed) else slice(None)
    columns = [price[some] for price in prices], [size[some] for size in sizes]
    if stream == "bars":
        sorted_out = sort_out(symbol[some], ts_ns[some], columns[0], columns[1][0])
    else:
        sorted_out = sort_ticks(symbol[some], ts_ns[some], *columns)
    for fault in sorted_out.faults:
        tell(int(timed[fault.row]), fault.reason)
    keep = timed[sorted_out.keep] if len(untimed) else sorted_out.keep
    symbol, ts_ns = symbol[keep], ts_ns[keep]
    return _Held(
        symbols=symbols,
        bounds=np.searchsorted(symbol, np.arange(len(symbols) + 1)),
        ts_ns=ts_ns,
        prices=tuple(price[keep] for price in prices),
        sizes=tuple(size[keep] for size in sizes),
        text=text[keep] if len(texts) > 1 else np.broadcast_to(np.int32(0), len(keep)),
        texts=texts,
        sequence=_places(symbol, ts_ns),
    )


def _places(symbol: Ints, ts_ns: Longs) -> Longs:
    """Return the place of each row, from 0, among those of its symbol and time, which adjoin."""
    is_next = (ts_ns[1:] == ts_ns[:-1]) & (symbol[1:] == symbol[:-1])
    if not is_next.any():
        return np.broadcast_to(np.int64(0), len(ts_ns))
    starts = np.flatnonzero(np.concatenate(([True], ~is_next)))
    sizes = np.diff(starts, append=len(ts_ns))
    return np.arange(len(ts_ns)) - np.repeat(starts, sizes)


def _renumbered(parts: list[tuple[tuple[str, ...], Ints]], names: tuple[str, ...]) -> Ints:
    """Return columns that count in lists of their own as one that counts in ``names``."""
    place = {name: n for n, name in enumerate(names)}
    own = [np.array([place[name] for name in some], np.int32) for some, _ in parts]
    return np.concatenate([o[column] for o, (_, column) in zip(own, parts, strict=True)])
