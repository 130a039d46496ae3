"""A source whose bars are built of the ticks or quotes of another, where that has none.

URI: ``built:[key=value,…:]SOURCE``, such as ``built:lean:DIR`` or
``built:from=quotes,always=1:csv:quotes.csv?stream=quotes``.

======================  ===========================================================================
``from``                ``ticks`` (as it is without it) or ``quotes``
``rules``               which trade counts for what: ``tape``, ``lean`` or ``all``, see
                        ``streams.conditions``; ``lean`` for a LEAN folder, else ``all``
``always``              1: also where there are bars
======================  ===========================================================================

Of a symbol that the other can't say bars of, the bars are built of all ticks in the range; where it
gave some bars all the same, those stay. What is said of the ticks is said of the bars: a minute
without a bar had no trade where it vouches for minutes without a tick. A minute whose trades all
have volume only has no bar either. Ticks and quotes are given as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from schemas.records import BarBlock, Longs, QuoteBlock, TickBlock
from streams.conditions import RULES
from streams.errors import ConfigError
from streams.sources.options import Options
from streams.sources.protocol import Answer, BadRow, Part, Source, Streams
from streams.tick_bars import BarBuilder

__all__ = ["BuiltSource"]

FROM = ("ticks", "quotes")
EVER_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class BuiltSource:
    """The other source, and how its bars are built.

    Attributes
    ----------
    source
        Whose rows they are.
    made_of
        ``ticks`` or ``quotes``.
    rules
        Name of the rule by which trades count.
    always
        Whether its own bars are left alone.
    """

    source: Source
    made_of: str = "ticks"
    rules: str = "all"
    always: bool = False

    @classmethod
    def open(cls, source: Source, options: str = "") -> Self:
        """Return the source that builds what ``source`` lacks.

        Raises
        ------
        ConfigError
            An option that is none.
        """
        given = Options("built", options, ("from", "rules", "always"), ",")
        made_of = given.text("from", "ticks")
        rules = given.text("rules", "lean" if source.name == "lean" else "all")
        if made_of not in FROM:
            raise given.wrong("from", f"one of {', '.join(FROM)}")
        if rules not in RULES:
            raise given.wrong("rules", f"one of {', '.join(RULES)}")
        if isinstance(source, cls):
            msg = "built: what is built already is not built again: leave out one `built:`"
            raise ConfigError(msg)
        return cls(source, made_of, rules, bool(given.whole("always", 0, 0, 1)))

    @property
    def name(self) -> str:
        """Name of the other source with ``built:`` before it."""
        return f"built:{self.source.name}"

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that it has bars of, or can build them of, sorted."""
        found: set[str] = set()
        if isinstance(self.source, Streams):
            found.update(self.source.symbols_of(self.made_of))
        if not (self.always and isinstance(self.source, Streams)):
            found.update(self.source.symbols())
        return tuple(sorted(found))

    def sessions(self) -> tuple[str, str] | None:
        """Return the first and the last day of bars or of what they are built of."""
        spans: list[tuple[str, str] | None] = []
        if isinstance(self.source, Streams):
            spans.append(self.source.sessions_of(self.made_of))
        if not (self.always and isinstance(self.source, Streams)):
            spans.append(self.source.sessions())
        known = [span for span in spans if span is not None]
        if not known:
            return None
        return min(first for first, _ in known), max(last for _, last in known)

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give the rows of the other source; of bars that it lacks those that can be built."""
        if stream != "bars":
            yield from self.source.load(stream, symbols, start_ns, end_ns, interval_ns)
            return
        lacking = list(dict.fromkeys(symbols))
        there: dict[str, list[Longs]] = defaultdict(list)
        if not self.always:
            lacking = []
            for part in self.source.load(stream, symbols, start_ns, end_ns, interval_ns):
                if isinstance(part, Answer) and part.is_whole and part.kind == "cannot_say":
                    lacking += part.symbols
                    continue
                if isinstance(part, BarBlock):
                    _note(part, there)
                yield part
        if lacking:
            build = _Build(self, tuple(lacking), start_ns, end_ns, interval_ns)
            for part in build.parts():
                yield _left(part, there) if isinstance(part, BarBlock) else part


class _Build:
    """The bars of some symbols over one range, and what is said of them."""

    def __init__(
        self,
        source: BuiltSource,
        symbols: tuple[str, ...],
        start_ns: int,
        end_ns: int,
        interval_ns: int,
    ) -> None:
        self._source, self._symbols, self._interval_ns = source, symbols, interval_ns
        # A bar belongs to the range that its start lies in, with all its ticks.
        self._start_ns, self._end_ns = self._next(start_ns), self._next(end_ns)
        self._builder = BarBuilder(interval_ns, RULES[source.rules])
        self._open: set[str] = set()
        self._rows: set[str] = set()

    def parts(self) -> Iterator[Part]:
        """Give the bars by symbol, each behind its ticks, and an answer behind them."""
        held: list[Answer] = []
        for part in self._source.source.load(
            self._source.made_of, self._symbols, self._start_ns, self._end_ns, self._interval_ns
        ):
            if isinstance(part, TickBlock | QuoteBlock):
                self._open.update(part.symbols[n] for n in np.unique(part.symbol).tolist())
                self._builder.take(part)
            elif isinstance(part, BadRow):
                yield part
            elif isinstance(part, Answer):
                held.append(part)
                if part.is_whole:
                    self._open.difference_update(part.symbols)
                # Bars go out when no symbol is left half-way.
                if not self._open:
                    yield from self._out(held)
                    held = []
        yield from self._out(held)

    def _out(self, held: Sequence[Answer]) -> Iterator[Part]:
        bars = self._builder.until(EVER_NS)
        self._builder.forget(EVER_NS)
        self._rows.update(bars.symbols)
        if len(bars):
            yield bars
        for answer in held:
            yield from self._said(answer)

    def _said(self, answer: Answer) -> Iterator[Answer]:
        """Give what an answer about ticks says of bars."""
        if not answer.is_whole:
            # Of bars that are partly in what it can't say nothing is known; else whole ones count.
            is_gap = answer.kind == "cannot_say"
            edge = answer.start_ns // self._interval_ns * self._interval_ns
            start_ns = edge if is_gap else self._next(answer.start_ns)
            end = answer.end_ns // self._interval_ns * self._interval_ns
            end_ns = self._next(answer.end_ns) if is_gap else end
            if start_ns < end_ns:
                yield replace(answer, start_ns=start_ns, end_ns=end_ns)
        elif answer.kind != "rows":
            yield answer
        else:
            some = tuple(symbol for symbol in answer.symbols if symbol in self._rows)
            none = tuple(symbol for symbol in answer.symbols if symbol not in self._rows)
            if some:
                yield replace(answer, symbols=some)
            if none:  # it has ticks, but none that makes a bar
                kind = "nothing" if answer.vouched else "cannot_say"
                yield replace(answer, symbols=none, kind=kind)

    def _next(self, ts_ns: int) -> int:
        """Return the first start of a bar at or behind a time."""
        return -(-ts_ns // self._interval_ns) * self._interval_ns


def _note(block: BarBlock, there: dict[str, list[Longs]]) -> None:
    for number, name in enumerate(block.symbols):
        there[name].append(block.ts_ns[block.symbol == number])


def _left(block: BarBlock, there: dict[str, list[Longs]]) -> BarBlock:
    """Return the bars that were not there."""
    mine = np.zeros(len(block), np.bool_)
    for number, name in enumerate(block.symbols):
        if name in there:
            at = block.symbol == number
            mine[at] = np.isin(block.ts_ns[at], np.concatenate(there[name]))
    return block.take(~mine) if mine.any() else block
