"""What a source of rows is: a small protocol, one file an implementation.

Delivery: ``load`` is asked again after any failure, and must give the same rows in the same order
for the same arguments; then a producer that died sends what it sent before, and what was seen is
dropped. A source keeps no position of its own: the position is that of the requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from schemas import BarBlock, QuoteBlock, TickBlock

__all__ = ["Answer", "BadRow", "Block", "Part", "Source", "Streams"]

Block: TypeAlias = BarBlock | QuoteBlock | TickBlock


@dataclass(frozen=True, slots=True)
class BadRow:
    """Input that is no row: it goes to ``rejected`` and the rest goes on.

    Attributes
    ----------
    path
        File or URI it stands in.
    line
        Line in it, from 1; 0 if the whole file is meant.
    reason
        What is wrong with it, for people.
    text
        The line itself, as bytes; empty if the whole file is meant.
    symbol
        Symbol it was read for, if known.
    """

    path: str
    line: int
    reason: str
    text: bytes = b""
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a source says of some symbols when their rows are out.

    Where two answers speak of one minute the later one holds: an answer of the whole range may be
    followed by others that say something else of parts of it.

    Attributes
    ----------
    symbols
        Whom it is about.
    kind
        ``rows`` (all it has was sent), ``nothing`` (it vouches that there is nothing) or
        ``cannot_say`` (still missing: another source is to be asked).
    start_ns, end_ns
        The part of the range it is about: start_ns <= ts_ns < end_ns; both 0: all of it.
    vouched
        With ``rows``, whether it vouches too that there was no trade in minutes without a row.
        ``nothing`` always does, ``cannot_say`` never.
    """

    symbols: tuple[str, ...]
    kind: str
    start_ns: int = 0
    end_ns: int = 0
    vouched: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it is about the whole range that was asked for."""
        return not (self.start_ns or self.end_ns)

    @property
    def says_nothing(self) -> bool:
        """Whether minutes without a row had no trade, by the word of the source."""
        return self.kind == "nothing" or (self.kind == "rows" and self.vouched)


Part: TypeAlias = Block | BadRow | Answer


@runtime_checkable
class Source(Protocol):
    """Where rows come from.

    ``load`` gives blocks, bad rows, and for each symbol asked for one answer, in any order but
    with a symbol's answer behind its blocks. Blocks hold rows of any of the symbols, ascending by
    ``ts_ns`` within a symbol, unique by (symbol, interval, ts_ns) for bars; their ``run``,
    ``request`` and ``block`` are empty: the producer fills them and cuts them to messages.
    """

    @property
    def name(self) -> str:
        """Short name that rows carry as their source, such as ``lean``."""
        ...

    def symbols(self) -> tuple[str, ...]:
        """Return all symbols it has, sorted; none if it can't tell: then any may be asked for."""
        ...

    def sessions(self) -> tuple[str, str] | None:
        """Return the first and last day (YYYY-MM-DD) it has rows of, None if it can't tell."""
        ...

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give the rows of ``stream`` (bars, quotes, ticks) with start_ns <= ts_ns < end_ns.

        Raises
        ------
        SourceError
            It can't be read at all; what was given before counts, the rest is *cannot say*.
        """
        ...


@runtime_checkable
class Streams(Protocol):
    """What a source may also tell: what it has by stream, where bars are not all it has."""

    def symbols_of(self, stream: str) -> tuple[str, ...]:
        """Return all symbols it has rows of in a stream, sorted."""
        ...

    def sessions_of(self, stream: str) -> tuple[str, str] | None:
        """Return the first and last day (YYYY-MM-DD) it has rows of in a stream, None for none."""
        ...
