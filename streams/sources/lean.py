"""LEAN data folders: ``<security>/<market>/<resolution>/<symbol>/<yyyymmdd>_<kind>.zip``.

A zip holds one CSV file without header, a row a bar: milliseconds since midnight of the market's
time zone, open, high, low, close, volume. Equity prices are in 1/10,000 dollar, crypto prices plain
(LEAN's Data folder, readme of ``equity`` and of ``crypto``). Symbols are the folders' names in
capitals. Files hold extended hours too: what is given is what the range asks for.

Where all files of the days were read, and no line of them was lost, it vouches that minutes without
a row had no trade. The files read last are held: a few minutes asked for again cost no reading.

URI: ``lean:DIR[?market=equity/usa]``; ``market`` limits the folder to one market, needed where two
markets have a symbol of the same name.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from schemas.records import BarBlock
from streams.errors import SourceError
from streams.intervals import MINUTE_NS
from streams.sources.held import Day, HeldDays, stamp_of
from streams.sources.lines import Lines, Table
from streams.sources.options import Options
from streams.sources.protocol import Answer, BadRow, Part
from streams.sources.rows import bar_block, sort_out
from streams.sources.times import day_times

__all__ = ["FORMATS", "MARKETS", "Format", "LeanSource", "Market"]

DAY_MS = 86_400_000


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
    """Where the files of one stream and interval lie, and their columns."""

    resolution: str
    kind: str
    columns: tuple[str, ...]


MARKETS: Mapping[str, Market] = {
    "equity/usa": Market("America/New_York", 10_000.0, weekend=False),
    "crypto": Market("UTC", 1.0, weekend=True),
}
"""By folder: of a market, or of a security type where all its markets are alike."""

FORMATS: Mapping[tuple[str, int], Format] = {
    ("bars", MINUTE_NS): Format(
        "minute", "trade", ("time_ms", "open", "high", "low", "close", "volume")
    ),
}
"""By stream and interval in ns; another file format is another entry and its reader."""


@dataclass(frozen=True, slots=True)
class LeanSource:
    """One LEAN folder.

    Attributes
    ----------
    folder
        Its root, with ``equity`` or ``crypto`` in it.
    places
        By symbol, the market's folder below the root.
    """

    folder: Path
    places: Mapping[str, str] = field(repr=False)
    name: str = "lean"
    _held: HeldDays = field(default_factory=HeldDays, repr=False, compare=False)

    @classmethod
    def open(cls, place: str, options: str = "") -> Self:
        """Return the source at the folder ``place``.

        Raises
        ------
        SourceError
            No LEAN folder, or a symbol that stands in two markets.
        ConfigError
            An option that is none.
        """
        folder = Path(place)
        wanted = Options("lean", options, ("market",)).text("market")
        if not folder.is_dir():
            raise SourceError("there is no such folder", path=place)
        places: dict[str, str] = {}
        for path in sorted(folder.glob("*/*/*/*/")):
            security, market, resolution, symbol = path.relative_to(folder).parts
            where = f"{security}/{market}"
            known = where in MARKETS or security in MARKETS
            if not known or resolution not in RESOLUTIONS or wanted not in ("", where):
                continue
            if places.setdefault(symbol.upper(), where) != where:
                reason = (
                    f"{symbol.upper()} is in {places[symbol.upper()]} and in {where}: "
                    "choose one by ?market="
                )
                raise SourceError(reason, path=place)
        if not places:
            kinds = ", ".join(f"{name}/…/{min(RESOLUTIONS)}" for name in MARKETS)
            reason = f"no LEAN data folder: it has none of {kinds}"
            raise SourceError(reason, path=str(folder / wanted))
        return cls(folder, places)

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that have a folder, sorted."""
        return tuple(sorted(self.places))

    def sessions(self) -> tuple[str, str] | None:
        """Return the first and the last day that a file is named by."""
        patterns = (f"*/*/{f.resolution}/*/*_{f.kind}.zip" for f in FORMATS.values())
        days = {p.name[:8] for pattern in patterns for p in self.folder.glob(pattern)}
        if not days:
            return None
        first, last = (f"{day[:4]}-{day[4:6]}-{day[6:8]}" for day in (min(days), max(days)))
        return first, last

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give the rows by symbol and day; of a symbol that lacks a day's file it can't say."""
        layout = FORMATS.get((stream, interval_ns))
        if layout is None:
            yield Answer(tuple(symbols), "cannot_say")
            return
        for symbol in symbols:
            if symbol not in self.places:
                yield Answer((symbol,), "cannot_say")
                continue
            where = self.places[symbol]
            market = MARKETS.get(where) or MARKETS[where.partition("/")[0]]
            folder = self.folder / where / layout.resolution / symbol.lower()
            rows, complete, vouched = 0, True, True
            for day in _days(market, start_ns, end_ns):
                path = folder / f"{day:%Y%m%d}_{layout.kind}.zip"
                found = self._held.of(path)
                if found is None:
                    found = _day(path, layout, market, symbol, day)
                    self._held.keep(path, found)
                yield from found.bad
                if found.bars is not None:
                    low, high = np.searchsorted(found.bars.ts_ns, (start_ns, end_ns))
                    rows += int(high - low)
                    if low < high:
                        yield found.bars.take(slice(low, high))
                complete &= found.bars is not None
                vouched &= found.lost == 0
            # A line that was lost may have been a minute of the range.
            said = "rows" if rows else "nothing" if vouched else "cannot_say"
            yield Answer((symbol,), said if complete else "cannot_say", vouched=vouched)


RESOLUTIONS = frozenset(layout.resolution for layout in FORMATS.values())


def _days(market: Market, start_ns: int, end_ns: int) -> Iterator[date]:
    """Give the days, in the market's zone, that [start_ns, end_ns) touches and that have files."""
    if end_ns <= start_ns:
        return
    zone = ZoneInfo(market.zone)
    day = datetime.fromtimestamp(start_ns // 10**9, zone).date()
    last = datetime.fromtimestamp((end_ns - 1) // 10**9, zone).date()
    while day <= last:
        if market.weekend or day.weekday() < 5:
            yield day
        day += timedelta(days=1)


def _day(path: Path, layout: Format, market: Market, symbol: str, day: date) -> Day:
    """Read one file."""
    stamp = stamp_of(path)  # before it is read: a change meanwhile shows later
    try:
        name, data = _unzipped(path)
    except FileNotFoundError:
        return Day((BadRow(str(path), 0, "the file is missing", symbol=symbol),))
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as exc:
        return Day((BadRow(str(path), 0, f"no readable zip: {exc}", symbol=symbol),))
    place = f"{path}#{name}"
    types = {c: pa.int64() if c == "time_ms" else pa.float64() for c in layout.columns}
    table = Lines(data).table(types)
    bad = [BadRow(place, f.line, f.reason, f.text, symbol) for f in table.faults]
    parts = list(_bars(table, place, market, symbol, day))
    bad += [part for part in parts if isinstance(part, BadRow)]
    [bars] = [part for part in parts if isinstance(part, BarBlock)]
    times = len(np.unique(table.columns["time_ms"].to_numpy()))
    return Day(tuple(bad), bars, len(table.faults) + times - len(bars), stamp)


def _bars(
    table: Table, place: str, market: Market, symbol: str, day: date
) -> Iterator[BarBlock | BadRow]:
    columns = {name: table.columns[name].to_numpy() for name in table.columns.column_names}
    time_ms = columns["time_ms"]
    inside = (time_ms >= 0) & (time_ms < DAY_MS)
    for row in np.flatnonzero(~inside):
        line, text = table.where(int(row))
        yield BadRow(place, line, "the time is outside the day", text, symbol)
    rows = np.flatnonzero(inside)
    prices = [columns[c][rows] / market.scale for c in ("open", "high", "low", "close")]
    volume = columns["volume"][rows]
    ts_ns = day_times(time_ms[rows], market.zone, day)
    found = sort_out(np.zeros(len(rows), np.int32), ts_ns, prices, volume)
    for fault in found.faults:
        line, text = table.where(int(rows[fault.row]))
        yield BadRow(place, line, fault.reason, text, symbol)
    yield bar_block(
        (symbol,),
        np.zeros(len(found.keep), np.int32),
        ts_ns[found.keep],
        interval_ns=MINUTE_NS,
        prices=[column[found.keep] for column in prices],
        volume=volume[found.keep],
    )


def _unzipped(path: Path) -> tuple[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            msg = f"it holds {len(names)} files, not one"
            raise zipfile.BadZipFile(msg)
        return names[0], archive.read(names[0])
