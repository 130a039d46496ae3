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
                                       chDB folder; keys: database, table, quotes, ticks
``built:[key=value,…:]SOURCE``         any of them, with bars built of its ticks or quotes where it
                                       has none; keys: from, rules, always
``rehearsal:[key=value,…:]SOURCE``     any of them with faults, by a seed; see
                                       ``streams.sources.rehearsal``
``playback:SOURCE``                    the source itself: a feed plays it, see ``streams.feeds``
``env:NAME``                           any of them, as the environment variable holds it: what has a
                                       password stands in no list of processes then
=====================================  ============================================================

Options follow the first ``?`` and are joined by ``&``. A synthetic market and vendors have nothing
else, so their options follow the colon, joined by ``,``; so do those of ``built`` and
``rehearsal``, which have no path of their own. Each module documents its own.

What a source says of a minute without a row decides whether the next one is asked:

=====================================  ============================================================
``synthetic``                          no trade; with ``vouch=0`` it can't say
``lean``                               no trade where all files of the days were read without a
                                       loss; else it can't say
``csv``, ``parquet``                   no trade between the first and the last day of the files
``clickhouse``                         it can't say
``built``                              what the other says of a minute without a tick
``alpaca``                             no trade, but for the last minutes and unknown symbols
``coinbase``                           no trade where the numbers of the trades prove it
=====================================  ============================================================

``withheld`` takes any of them and withholds rows by a seed, to see gaps found and filled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from streams.errors import ConfigError
from streams.sources.alpaca import AlpacaSource
from streams.sources.built import BuiltSource
from streams.sources.clickhouse import ClickHouseSource
from streams.sources.coinbase import CoinbaseSource
from streams.sources.columnar import ColumnarSource
from streams.sources.lean import LeanSource
from streams.sources.protocol import Answer, BadRow, Block, Part, Source
from streams.sources.rehearsal import inner_of, parse
from streams.sources.rehearsed import Rehearsed
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
    "split_built",
    "withheld",
    "withheld_minutes",
]

FORMS = (
    "lean:DIR, csv:PATH, parquet:PATH, synthetic:[key=value,…], clickhouse:DSN-or-folder, "
    "alpaca:[key=value,…] or coinbase:[key=value,…], with options as ?key=value&… behind a path, "
    "or one of built:, playback: and rehearsal: in front of any of them; or env:NAME, where an "
    "environment variable holds one"
)


def absolute(uri: str) -> str:
    """Return the URI of a source with its path made absolute: it means the same from anywhere."""
    scheme, colon, rest = uri.partition(":")
    if scheme == "playback":
        return f"{scheme}{colon}{absolute(rest)}"
    if scheme == "built":
        how, inner = split_built(rest)
        return f"{scheme}{colon}{how}{absolute(inner)}"
    if scheme == "rehearsal":
        options, source = inner_of(rest)
        return ":".join(filter(None, (scheme, options, absolute(source))))
    place, mark, options = rest.partition("?")
    is_path = scheme in _PLACES and not (scheme == "clickhouse" and "//" in place)
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
    place, _, _ = rest.partition("?")
    if not colon or scheme not in _OPENERS or (scheme in _PLACES and not place):
        msg = f"{uri!r} is no source: write {FORMS}"
        raise ConfigError(msg)
    return _OPENERS[scheme](rest)


def split_built(rest: str) -> tuple[str, str]:
    """Return the options in what follows ``built:``, with their colon, and the other source."""
    how, colon, inner = rest.partition(":")
    return (f"{how}{colon}", inner) if "=" in how else ("", rest)


def _open_built(rest: str) -> Source:
    how, inner = split_built(rest)
    return BuiltSource.open(open_source(inner), how.removesuffix(":"))


def _open_rehearsal(rest: str) -> Source:
    options, inner = inner_of(rest)
    return Rehearsed(open_source(inner), parse(options))


def _open_named(name: str) -> Source:
    """Open what a variable holds; what that is, with a password maybe, no message says."""
    uri = os.environ.get(name, "")
    if not uri:
        msg = f"env:{name} is no source: no environment variable {name} is set"
        raise ConfigError(msg)
    if uri.partition(":")[0] not in _OPENERS:
        msg = f"what the environment variable {name} holds is no source: write {FORMS}"
        raise ConfigError(msg)
    return open_source(uri)


def _placed(rest: str) -> tuple[str, str]:
    """Return the path and the options behind it."""
    place, _, options = rest.partition("?")
    return place, options


_PLACES = ("lean", "csv", "parquet", "clickhouse")
_OPENERS: Mapping[str, Callable[[str], Source]] = {
    "synthetic": SyntheticSource.open,
    "lean": lambda rest: LeanSource.open(*_placed(rest)),
    "csv": lambda rest: ColumnarSource.open("csv", *_placed(rest)),
    "parquet": lambda rest: ColumnarSource.open("parquet", *_placed(rest)),
    "clickhouse": lambda rest: ClickHouseSource.open(*_placed(rest)),
    "alpaca": AlpacaSource.open,
    "coinbase": CoinbaseSource.open,
    "built": _open_built,
    "env": _open_named,
    "playback": open_source,
    "rehearsal": _open_rehearsal,
}
