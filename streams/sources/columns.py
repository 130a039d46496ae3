"""Which column of a file is what: by the names that common exports use, or by a mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from streams.errors import ConfigError, SourceError

__all__ = ["FIELDS", "PRICES", "Columns", "mapping_of"]

PRICES = ("open", "high", "low", "close")
FIELDS = ("timestamp", *PRICES, "volume", "symbol")

# The better sign comes first: pandas (Datetime, Date, an index without a name), Databento
# (ts_event), Alpaca (t, o, h, l, c, v, S). Compared in lower case.
NAMES: Mapping[str, tuple[str, ...]] = {
    "timestamp": (
        *("ts_event", "ts_ns", "timestamp", "datetime", "t", "ts", "date", "time"),
        *("index", "__index_level_0__", "unnamed: 0", ""),
    ),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "v", "vol"),
    "symbol": ("symbol", "s", "sym", "ticker"),
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Positions of the columns in one file; ``symbol`` is -1 where there is none.

    ``fixed_point`` says that integer prices are Databento's, in units of 1e-9.
    """

    timestamp: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    symbol: int
    fixed_point: bool

    @classmethod
    def of(cls, header: Sequence[str], mapping: Mapping[str, str], path: str) -> Self:
        """Return the columns of a file with that header.

        Raises
        ------
        SourceError
            A column is missing, or date and time stand in two.
        """
        names = [name.strip().lower() for name in header]
        found: dict[str, int] = {}
        for field in FIELDS:
            wanted = (mapping[field].lower(),) if field in mapping else NAMES[field]
            found[field] = next((names.index(n) for n in wanted if n in names), -1)
        missing = [field for field in FIELDS[:-1] if found[field] < 0]
        if missing:
            reason = (
                f"no column for {', '.join(missing)} among {', '.join(header)}: "
                f"name it by ?map={missing[0]}:NAME"
            )
            raise SourceError(reason, path=path)
        chosen = names[found["timestamp"]]
        if chosen == "date" and "time" in names and "timestamp" not in mapping:
            reason = "date and time stand in two columns: join them, or choose by ?map=timestamp:"
            raise SourceError(reason, path=path)
        return cls(**found, fixed_point=chosen == "ts_event")

    def __getitem__(self, field: str) -> int:
        """Return the position of a field's column."""
        return int(getattr(self, field))


def mapping_of(text: str) -> dict[str, str]:
    """Return ``field:column,field:column`` as a mapping.

    Raises
    ------
    ConfigError
        A pair that is none, or a field that is none.
    """
    mapping: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        field, colon, column = pair.partition(":")
        if not colon or field not in FIELDS:
            msg = f"map={text}: {pair!r} is no field:column, fields are {', '.join(FIELDS)}"
            raise ConfigError(msg)
        mapping[field] = column
    return mapping
