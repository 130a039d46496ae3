"""Which column of a file is what: by the names that common exports use, or by a mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from streams.errors import ConfigError, SourceError

__all__ = ["SHAPES", "Columns", "Shape", "mapping_of"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the rows of one stream hold beside their time and symbol.

    Attributes
    ----------
    prices, sizes
        Numbers that have to be there.
    texts
        What may be there.
    names
        For each field the columns that mean it, the better sign first.
    """

    prices: tuple[str, ...]
    sizes: tuple[str, ...]
    texts: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]

    @property
    def needed(self) -> tuple[str, ...]:
        """Fields that have to be there."""
        return ("timestamp", *self.prices, *self.sizes)

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields."""
        return (*self.needed, *self.texts, "symbol")


TIME = (
    *("ts_event", "ts_ns", "timestamp", "datetime", "t", "ts", "date", "time"),
    *("index", "__index_level_0__", "unnamed: 0", ""),
)

# pandas (Datetime, Date, an index without a name), Databento (ts_event, bid_px_00), Alpaca (t, o,
# h, l, c, v, S; bp, bs, ap, as; p, s, c). As they are first, then in lower case.
SHAPES: Mapping[str, Shape] = {
    "bars": Shape(
        ("open", "high", "low", "close"),
        ("volume",),
        (),
        {
            "timestamp": TIME,
            "open": ("open", "o"),
            "high": ("high", "h"),
            "low": ("low", "l"),
            "close": ("close", "c"),
            "volume": ("volume", "v", "vol"),
            "symbol": ("symbol", "s", "sym", "ticker"),
        },
    ),
    "quotes": Shape(
        ("bid", "ask"),
        ("bid_size", "ask_size"),
        (),
        {
            "timestamp": TIME,
            "bid": ("bid", "bid_price", "bid_px_00", "bp"),
            "bid_size": ("bid_size", "bid_sz_00", "bs"),
            "ask": ("ask", "ask_price", "ask_px_00", "ap"),
            "ask_size": ("ask_size", "ask_sz_00", "as"),
            "symbol": ("symbol", "s", "sym", "ticker"),
        },
    ),
    "ticks": Shape(
        ("price",),
        ("size",),
        ("conditions",),
        {
            "timestamp": TIME,
            "price": ("price", "p", "last"),
            "size": ("size", "s", "quantity", "qty", "volume"),
            "conditions": ("conditions", "condition", "c"),
            "symbol": ("symbol", "S", "sym", "ticker"),
        },
    ),
}
"""By stream."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Positions of the columns in one file, by field; -1 where there is none.

    ``fixed_point`` says that integer prices are Databento's, in units of 1e-9.
    """

    shape: Shape
    places: Mapping[str, int]
    fixed_point: bool

    @classmethod
    def of(cls, header: Sequence[str], shape: Shape, mapping: Mapping[str, str], path: str) -> Self:
        """Return the columns of a file with that header.

        Raises
        ------
        SourceError
            A column is missing, or date and time stand in two.
        """
        names = [name.strip() for name in header]
        found = {field: _place(names, name, any_case=True) for field, name in mapping.items()}
        named = set(found.values())
        for field in shape.fields:
            places = (_place(names, name, any_case=False) for name in shape.names[field])
            free = (place for place in places if place >= 0 and place not in named)
            found.setdefault(field, next(free, -1))
        missing = [field for field in shape.needed if found[field] < 0]
        if missing:
            reason = (
                f"no column for {', '.join(missing)} among {', '.join(header)}: "
                f"name it by ?map={missing[0]}:NAME"
            )
            raise SourceError(reason, path=path)
        taken = [place for place in found.values() if place >= 0]
        if twice := [place for place in taken if taken.count(place) > 1]:
            both = " and ".join(field for field, place in found.items() if place == twice[0])
            reason = f"{both} would both be column {header[twice[0]]}: name them by ?map="
            raise SourceError(reason, path=path)
        names = [name.lower() for name in names]
        chosen = names[found["timestamp"]]
        if chosen == "date" and "time" in names and "timestamp" not in mapping:
            reason = "date and time stand in two columns: join them, or choose by ?map=timestamp:"
            raise SourceError(reason, path=path)
        return cls(shape, found, fixed_point=chosen == "ts_event")

    def __getitem__(self, field: str) -> int:
        """Return the position of a field's column."""
        return self.places[field]


def _place(names: Sequence[str], wanted: str, *, any_case: bool) -> int:
    """Return where a column stands: of that very name, else in lower case; -1 for none.

    What is written in capitals here means just that, unless a person wrote it (``any_case``).
    """
    if wanted in names:
        return names.index(wanted)
    if not any_case and wanted != wanted.lower():
        return -1
    lower = [name.lower() for name in names]
    return lower.index(wanted.lower()) if wanted.lower() in lower else -1


def mapping_of(text: str, shape: Shape) -> dict[str, str]:
    """Return ``field:column,field:column`` as a mapping.

    Raises
    ------
    ConfigError
        A pair that is none, or a field that is none.
    """
    mapping: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        field, colon, column = pair.partition(":")
        if not colon or field not in shape.fields:
            msg = f"map={text}: {pair!r} is no field:column, fields are {', '.join(shape.fields)}"
            raise ConfigError(msg)
        mapping[field] = column
    return mapping
