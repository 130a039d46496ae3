"""Sources of rows, found by URI.

``open_source`` takes one of

=====================================  ============================================================
``synthetic:[key=value,…]``            a seeded market; keys: symbols, seed, calendar, hours,
                                       missing, bad, late, vouch, delay_ms
``lean:DIR[?key=value&…]``             a LEAN data folder; keys: market
``csv:PATH[?key=value&…]``             a CSV file, or a folder of them; keys: stream, map, tz,
                                       symbol, interval, scale
``parquet:PATH[?key=value&…]``         a Parquet file, or a folder of them; same keys
``alpaca:[key=value,…]``               US stocks, by Alpaca; keys: feed, symbols, asof, rest, url
``coinbase:[key=value,…]``             crypto, by Coinbase Exchange; keys: symbols, rest, url
``clickhouse:WHERE[?key=value&…]``     a DSN (``http://user:password@host:port/database``) or a
                                       chDB folder; keys: database, table
=====================================  ============================================================

Options follow the first ``?`` and are joined by ``&``; a synthetic market and vendors have nothing
else, so their options follow the colon, joined by ``,``. Each module documents its own.

What a source says of a minute without a row decides whether the next one is asked:

=====================================  ============================================================
``synthetic``                          no trade; with ``vouch=0`` it can't say
``lean``                               no trade where all files of the days were read without a
                                       loss; else it can't say
``csv``, ``parquet``                   no trade between the first and the last day of the files
``clickhouse``                         it can't say
``alpaca``                             no trade, but for the last minutes and unknown symbols
``coinbase``                           no trade where the numbers of the trades prove it
=====================================  ============================================================

``withheld`` takes any of them and withholds rows by a seed, to see gaps found and filled.
"""

from __future__ import annotations

from pathlib import Path

from streams.errors import ConfigError
from streams.sources.alpaca import AlpacaSource
from streams.sources.clickhouse import ClickHouseSource
from streams.sources.coinbase import CoinbaseSource
from streams.sources.columnar import ColumnarSource
from streams.sources.lean import LeanSource
from streams.sources.protocol import Answer, BadRow, Block, Part, Source
from streams.sources.rows import load_range
from streams.sources.synthetic import SyntheticSource
from streams.sources.withheld import withheld, withheld_minutes

__all__ = [
    "Answer",
    "BadRow",
    "Block",
    "Part",
    "Source",
    "absolute",
    "load_range",
    "open_source",
    "withheld",
    "withheld_minutes",
]

FORMS = (
    "lean:DIR, csv:PATH, parquet:PATH, synthetic:[key=value,…], clickhouse:DSN-or-folder, "
    "alpaca:[key=value,…] or coinbase:[key=value,…], with options as ?key=value&… behind a path"
)


def absolute(uri: str) -> str:
    """Return the URI of a source with its path made absolute: it means the same from anywhere."""
    scheme, colon, rest = uri.partition(":")
    place, mark, options = rest.partition("?")
    is_path = scheme in ("lean", "csv", "parquet") or (scheme == "clickhouse" and "//" not in place)
    if not (is_path and place):
        return uri
    return f"{scheme}{colon}{Path(place).absolute()}{mark}{options}"


def open_source(uri: str) -> Source:
    """Return the source at ``uri``.

    Raises
    ------
    ConfigError
        No such form, or an option that is none.
    SourceError
        The file or folder is not there, or is none of that kind.
    """
    scheme, colon, rest = uri.partition(":")
    place, _, options = rest.partition("?")
    if colon and scheme == "synthetic":
        return SyntheticSource.open(rest)
    if colon and scheme == "alpaca":
        return AlpacaSource.open(rest)
    if colon and scheme == "coinbase":
        return CoinbaseSource.open(rest)
    if not (colon and place and scheme in ("lean", "csv", "parquet", "clickhouse")):
        msg = f"{uri!r} is no source: write {FORMS}"
        raise ConfigError(msg)
    if scheme == "lean":
        return LeanSource.open(place, options)
    if scheme == "clickhouse":
        return ClickHouseSource.open(place, options)
    return ColumnarSource.open(scheme, place, options)
