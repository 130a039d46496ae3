"""CSV and Parquet files of bars, by way of pyarrow.

URI: ``csv:PATH[?key=value&…]`` or ``parquet:PATH[…]``; PATH is a file, or a folder whose files of
that kind are taken together. Options:

``map=field:column,…``  which column is timestamp, open, high, low, close, volume or symbol; else
                        the names of pandas, Databento and Alpaca are known
``tz=America/New_York`` zone of times that name none; default UTC
``symbol=IBM``          symbol of files without such a column; default: the file's name
``interval=1m``         length of the bars
``scale=10000``         what prices are to be divided by

A CSV file without header is LEAN's if it has LEAN's name (``20131007_ibm_minute_trade.csv``): times
are those of New York and prices 1/10,000 dollar unless ``tz`` and ``scale`` say otherwise.

Between the first and the last day of the files it vouches that minutes without a row had no trade.

CSV files are read once and held (52 bytes a row); of Parquet files a request reads the row groups
that its range touches, so their size has no bound.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.records import Floats, Longs
from streams.errors import SourceError
from streams.intervals import MINUTE_NS, interval_ns
from streams.sources.columns import Columns, mapping_of
from streams.sources.files import (
    NO_ROWS,
    Form,
    Rows,
    csv_rows,
    group_spans,
    opened,
    parquet_rows,
)
from streams.sources.options import Options
from streams.sources.protocol import Answer, BadRow, Part
from streams.sources.rows import bar_block, sort_out
from streams.sources.times import NO_TIME

__all__ = ["ColumnarSource"]

DAY_NS = 1440 * MINUTE_NS
OPTIONS = ("map", "tz", "symbol", "interval", "scale")


@dataclass(frozen=True, slots=True, eq=False)
class _Bars:
    """Good rows of all files, sorted by symbol and time; ``bounds`` cut them by symbol."""

    symbols: tuple[str, ...]
    bounds: Longs
    ts_ns: Longs
    prices: tuple[Floats, ...]
    volume: Floats


@dataclass(slots=True)
class ColumnarSource:
    """The files of one URI."""

    name: str
    files: tuple[Path, ...]
    form: Form
    _bad: deque[BadRow] = field(default_factory=deque, repr=False)
    _held: _Bars | None = field(default=None, repr=False)
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
        form = Form(
            mapping=mapping_of(given.text("map")),
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
        return cls(scheme, files, form)

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
        if stream != "bars" or interval_ns != self.form.interval_ns:
            yield Answer(tuple(symbols), "cannot_say")
            return
        with self._lock:
            bars = self._csv() if self.name == "csv" else self._parquet(start_ns, end_ns)
            bad = [self._bad.popleft() for _ in range(len(self._bad))]
            known = set(self.symbols())
            first_ns, last_ns = self._bounds()
        yield from bad
        inside = (
            first_ns // DAY_NS * DAY_NS <= start_ns and end_ns <= (last_ns // DAY_NS + 1) * DAY_NS
        )
        number = {symbol: n for n, symbol in enumerate(bars.symbols)}
        for symbol in symbols:
            rows = 0
            if symbol in number:
                at = number[symbol]
                of_symbol = slice(int(bars.bounds[at]), int(bars.bounds[at + 1]))
                low, high = np.searchsorted(bars.ts_ns[of_symbol], (start_ns, end_ns))
                rows = int(high - low)
            if rows:
                cut = slice(of_symbol.start + int(low), of_symbol.start + int(high))
                yield bar_block(
                    (symbol,),
                    np.zeros(rows, np.int32),
                    bars.ts_ns[cut],
                    interval_ns=interval_ns,
                    prices=[price[cut] for price in bars.prices],
                    volume=bars.volume[cut],
                )
            vouched = inside and symbol in known
            kind = "cannot_say" if not vouched else "rows" if rows else "nothing"
            yield Answer((symbol,), kind, vouched=vouched)

    def _csv(self) -> _Bars:
        """Return all rows, read at the first call; what is bad is told by the next ``load``."""
        if self._held is None:
            found = [rows for path in self.files for rows in csv_rows(path, self.form, self._bad)]
            self._held = _sorted(found, self._bad)
        return self._held

    def _parquet(self, start_ns: int, end_ns: int) -> _Bars:
        found: list[Rows] = []
        for path, file, columns in self._opened():
            wanted = (start_ns, end_ns)
            for rows in parquet_rows(path, file, columns, self.form, wanted=wanted, bad=self._bad):
                inside = (rows.ts_ns >= start_ns) & (rows.ts_ns < end_ns)
                inside |= rows.ts_ns == NO_TIME
                found.append(rows.take(np.flatnonzero(inside)))
        return _sorted(found, self._bad)

    def _parquet_symbols(self) -> tuple[str, ...]:
        found: set[str] = set()
        for path, file, columns in self._opened():
            if columns.symbol < 0:
                found.add(self.form.symbol or path.stem)
            else:
                name = file.schema_arrow.names[columns.symbol]
                names = file.read(columns=[name]).column(name).cast(pa.string())
                found |= set(pc.unique(names).drop_null().to_pylist())
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


def _sorted(found: list[Rows], bad: deque[BadRow]) -> _Bars:
    """Join rows of many files; put those that make no sense on ``bad``."""
    symbols = tuple(sorted({symbol for rows in found for symbol in rows.symbols}))
    place = {symbol: n for n, symbol in enumerate(symbols)}
    found = [*found, NO_ROWS]
    own = [np.array([place[s] for s in rows.symbols], np.int32) for rows in found]
    symbol = np.concatenate([o[rows.symbol] for o, rows in zip(own, found, strict=True)])
    ts_ns = np.concatenate([rows.ts_ns for rows in found])
    prices = tuple(np.concatenate([rows.prices[n] for rows in found]) for n in range(4))
    volume = np.concatenate([rows.volume for rows in found])
    starts = np.cumsum([0, *(len(rows.ts_ns) for rows in found)])

    def tell(row: int, reason: str) -> None:
        file = int(np.searchsorted(starts, row, side="right")) - 1
        line, text = found[file].where(row - int(starts[file]))
        bad.append(BadRow(found[file].path, line, reason, text, symbols[symbol[row]]))

    for row in np.flatnonzero(ts_ns == NO_TIME):
        tell(int(row), "the time is missing")
    timed = np.flatnonzero(ts_ns != NO_TIME)
    sorted_out = sort_out(symbol[timed], ts_ns[timed], [p[timed] for p in prices], volume[timed])
    for fault in sorted_out.faults:
        tell(int(timed[fault.row]), fault.reason)
    keep = timed[sorted_out.keep]
    return _Bars(
        symbols,
        np.searchsorted(symbol[keep], np.arange(len(symbols) + 1)),
        ts_ns[keep],
        tuple(price[keep] for price in prices),
        volume[keep],
    )
