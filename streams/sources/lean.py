"""LEAN data folders: ``<security>/<market>/<resolution>/<symbol>/<yyyymmdd>_<kind>.zip``.

A zip holds one CSV file without header, a row a bar, quote or tick; of a bar: milliseconds since
midnight of the market's time zone, open, high, low, close, volume. Equity prices are in 1/10,000
dollar, crypto prices plain (LEAN's Data folder, readme of ``equity`` and of ``crypto``). Symbols
are the folders' names in capitals. Files hold extended hours too: what is given is what the range
asks for.
Quotes are taken from ticks where a day has them, else from seconds, else from minutes; see
``streams.sources.lean_files``.

Where all files of the days were read, and no line of them was lost, it vouches that minutes without
a row had no trade. The files read last are held: a few minutes asked for again cost no reading.

URI: ``lean:DIR[?market=equity/usa]``; ``market`` limits the folder to one market, needed where two
markets have a symbol of the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

import numpy as np

from streams.errors import SourceError
from streams.intervals import MINUTE_NS
from streams.sources.held import Day, HeldDays
from streams.sources.lean_files import FORMATS, MARKETS, Format, Market, formats_of, read_day
from streams.sources.options import Options
from streams.sources.protocol import Answer, Part

__all__ = ["LeanSource"]

RESOLUTIONS = frozenset(layout.resolution for some in FORMATS.values() for layout in some)
MINUTES = formats_of("bars", MINUTE_NS)
"""What a session is made of: symbols and days are those that have it."""


@dataclass(frozen=True, slots=True)
class LeanSource:
    """One LEAN folder.

    Attributes
    ----------
    folder
        Its root, with ``equity`` or ``crypto`` in it.
    places
        By symbol, the market's folder below the root.
    bars
        Symbols that have bars of minutes, sorted.
    """

    folder: Path
    places: Mapping[str, str] = field(repr=False)
    name: str = "lean"
    bars: tuple[str, ...] = field(repr=False, default=())
    _held: HeldDays = field(default_factory=HeldDays, repr=False, compare=False)
    _seen: set[tuple[str, Format]] = field(default_factory=set, repr=False, compare=False)

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
        others: dict[str, str] = {}
        minutes = {layout.resolution for layout in MINUTES}
        for path in sorted(folder.glob("*/*/*/*/")):
            security, market, resolution, name = path.relative_to(folder).parts
            where, symbol = f"{security}/{market}", name.upper()
            known = where in MARKETS or security in MARKETS
            if not known or resolution not in RESOLUTIONS or wanted not in ("", where):
                continue
            if resolution not in minutes:
                others.setdefault(symbol, where)
            elif places.setdefault(symbol, where) != where:
                reason = f"{symbol} is in {places[symbol]} and in {where}: choose one by ?market="
                raise SourceError(reason, path=place)
        bars = tuple(sorted(places))
        places = others | places
        if not places:
            kinds = ", ".join(f"{name}/…/{min(RESOLUTIONS)}" for name in MARKETS)
            reason = f"no LEAN data folder: it has none of {kinds}"
            raise SourceError(reason, path=str(folder / wanted))
        return cls(folder, places, bars=bars)

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that have a folder of minutes, sorted."""
        return self.bars

    def sessions(self) -> tuple[str, str] | None:
        """Return the first and the last day that a file of minute bars is named by."""
        return self._days_of(MINUTES)

    def symbols_of(self, stream: str) -> tuple[str, ...]:
        """Return the symbols that have a file of a stream, sorted; of bars those of minutes."""
        layouts = formats_of(stream, MINUTE_NS)
        return tuple(sorted(symbol for symbol in self.places if self._kinds(symbol, layouts)))

    def sessions_of(self, stream: str) -> tuple[str, str] | None:
        """Return the first and the last day that a file of a stream is named by."""
        return self._days_of(formats_of(stream, MINUTE_NS))

    def _days_of(self, layouts: Sequence[Format]) -> tuple[str, str] | None:
        patterns = (f"*/*/{f.resolution}/*/*_{f.kind}.zip" for f in layouts)
        days = {p.name[:8] for pattern in patterns for p in self.folder.glob(pattern)}
        if not days:
            return None
        first, last = (f"{day[:4]}-{day[4:6]}-{day[6:8]}" for day in (min(days), max(days)))
        return first, last

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give the rows by symbol and day; of a symbol that lacks a day's file it can't say."""
        layouts = formats_of(stream, interval_ns)
        for symbol in symbols:
            kinds = self._kinds(symbol, layouts)
            if not kinds:
                yield Answer((symbol,), "cannot_say")
                continue
            rows, complete, vouched = 0, True, True
            for day in _days(self._market(symbol), start_ns, end_ns):
                found = self._day(symbol, kinds, day)
                yield from found.bad
                if found.rows is not None:
                    low, high = np.searchsorted(found.rows.ts_ns, (start_ns, end_ns))
                    rows += int(high - low)
                    if low < high:
                        yield found.rows.take(slice(low, high))
                complete &= found.rows is not None
                vouched &= found.lost == 0
            # A line that was lost may have been a minute of the range.
            said = "rows" if rows else "nothing" if vouched else "cannot_say"
            yield Answer((symbol,), said if complete else "cannot_say", vouched=vouched)

    def _market(self, symbol: str) -> Market:
        where = self.places[symbol]
        return MARKETS.get(where) or MARKETS[where.partition("/")[0]]

    def _kinds(self, symbol: str, layouts: Sequence[Format]) -> list[Format]:
        """Return the kinds of files that a symbol has any of, or had, the finest first."""
        if symbol not in self.places:
            return []
        for layout in layouts:
            key = symbol, layout  # kept: a folder may hold a file for each day of 20 years
            if key not in self._seen and any(
                self._folder(symbol, layout).glob(f"*_{layout.kind}.zip")
            ):
                self._seen.add(key)
        return [layout for layout in layouts if (symbol, layout) in self._seen]

    def _folder(self, symbol: str, layout: Format) -> Path:
        return self.folder / self.places[symbol] / layout.resolution / symbol.lower()

    def _day(self, symbol: str, kinds: Sequence[Format], day: date) -> Day:
        """Return what a day's finest file holds; where it has none the coarsest is missing."""
        paths = [(f, self._folder(symbol, f) / f"{day:%Y%m%d}_{f.kind}.zip") for f in kinds]
        layout, path = next((pair for pair in paths if pair[1].exists()), paths[-1])
        found = self._held.of(path)
        if found is None:
            found = read_day(path, layout, self._market(symbol), symbol, day)
            self._held.keep(path, found)
        return found


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
