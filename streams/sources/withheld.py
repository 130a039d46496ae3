"""A source with holes of known size: it withholds rows of another source, by a seed.

A spec is one or more of these, joined by ``+``:

``2%@7``        that share of a symbol's minutes, decided for each symbol and minute by the seed 7
``hour@7``      one whole hour of each session, chosen for each symbol and session by the seed
``ends``        the first and the last minute of each session
``symbol:AIG``  a whole symbol

Of what is withheld the source can't say; of all else it says what the other one says.
`withheld_minutes` tells the holes from outside.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from schemas.records import Longs
from streams.calendar import Session, sessions_between
from streams.errors import ConfigError
from streams.intervals import MINUTE_NS
from streams.sources.dice import keys_of, mix, share_of
from streams.sources.protocol import Answer, BadRow, Block, Part, Source
from streams.sources.spans import sessions_in
from streams.sources.wrapper import Wrapper

__all__ = ["Spec", "Withheld", "parse", "withheld", "withheld_minutes"]

HOUR = 60
SHARE = re.compile(r"(\d{1,3}(?:\.\d+)?)%@(\d{1,15})")
AN_HOUR = re.compile(r"hour@(\d{1,15})")


@dataclass(frozen=True, slots=True)
class Spec:
    """What is withheld: shares with their seeds, hours by seed, whole symbols, the ends or not."""

    shares: tuple[tuple[float, int], ...] = ()
    hours: tuple[int, ...] = ()
    symbols: frozenset[str] = frozenset()
    ends: bool = False

    def mask(self, symbols: Sequence[str], session: Session) -> NDArray[np.bool_]:
        """Return which minutes of a session are withheld, shape (symbols, minutes)."""
        starts = session.starts(MINUTE_NS)
        found = np.zeros((len(symbols), len(starts)), np.bool_)
        minutes = mix((starts // MINUTE_NS).view(np.uint64))
        for share, seed in self.shares:
            dice = mix(keys_of(seed, symbols)[:, None] ^ minutes)
            found |= share_of(dice) < share
        for seed in self.hours:
            dice = mix(keys_of(seed, symbols) ^ minutes[:1])
            hour = dice % np.uint64(max(1, len(starts) // HOUR))
            found |= np.arange(len(starts), dtype=np.uint64) // np.uint64(HOUR) == hour[:, None]
        if self.ends:
            found[:, [0, -1]] = True
        found[[symbol in self.symbols for symbol in symbols]] = True
        return found


def parse(text: str) -> Spec:
    """Return the spec that a text stands for.

    Raises
    ------
    ConfigError
        A part that is none of the four.
    """
    shares, hours, symbols, ends = [], [], [], False
    for part in text.split("+"):
        share, hour = SHARE.fullmatch(part), AN_HOUR.fullmatch(part)
        if share and float(share[1]) <= 100:
            shares.append((float(share[1]) / 100, int(share[2])))
        elif hour:
            hours.append(int(hour[1]))
        elif part.startswith("symbol:") and part != "symbol:":
            symbols.append(part.removeprefix("symbol:"))
        elif part == "ends":
            ends = True
        else:
            msg = f"--withhold {text!r}: {part!r} is none of 2%@7, hour@7, ends and symbol:AIG, "
            raise ConfigError(msg + "which may be joined by +")
    return Spec(tuple(shares), tuple(hours), frozenset(symbols), ends)


def withheld_minutes(spec: str, symbol: str, session: Session) -> Longs:
    """Return the starts of the minutes of a symbol that are withheld in a session, ascending."""
    starts: Longs = session.starts(MINUTE_NS)[parse(spec).mask((symbol,), session)[0]]
    return starts


def withheld(source: Source, spec: str, calendar: str, hours: str) -> Withheld:
    """Return a source that withholds rows of another.

    Parameters
    ----------
    source
        Whose rows they are.
    spec
        What is withheld.
    calendar, hours
        Whose sessions are meant.

    Raises
    ------
    ConfigError
        A spec that is none.
    CalendarError
        An unknown calendar, or hours that are none.
    """
    sessions_between(calendar, "2015-06-01", "2015-06-30", hours)  # every calendar has that month
    return Withheld(source, parse(spec), calendar, hours)


@dataclass(frozen=True, slots=True)
class Withheld(Wrapper):
    """The source, the spec, and whose sessions are meant."""

    spec: Spec
    calendar: str
    hours: str

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give what the other source gives but for the holes; of those it can't say."""
        asked = tuple(s for s in dict.fromkeys(symbols) if s not in self.spec.symbols)
        gone = tuple(s for s in dict.fromkeys(symbols) if s in self.spec.symbols)
        if gone:
            yield Answer(gone, "cannot_say")
        if not asked:
            return
        holes = _Holes.of(self, asked, start_ns, end_ns)
        for part in self.source.load(stream, asked, start_ns, end_ns, interval_ns):
            if isinstance(part, Answer):
                yield part
                yield from holes.answers(part, start_ns, end_ns)
            elif isinstance(part, BadRow):
                yield part
            else:
                kept = holes.left(part)
                if len(kept):
                    yield kept


class _Holes(NamedTuple):
    """Minutes of a range, by their starts, and which of them are withheld from each symbol."""

    place: dict[str, int]
    starts: Longs
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, source: Withheld, symbols: Sequence[str], start_ns: int, end_ns: int) -> Self:
        sessions = sessions_in(source.calendar, source.hours, start_ns, end_ns)
        place = {symbol: n for n, symbol in enumerate(symbols)}
        if not sessions:
            return cls(place, np.empty(0, np.int64), np.zeros((len(symbols), 0), np.bool_))
        starts = np.concatenate([session.starts(MINUTE_NS) for session in sessions])
        mask = np.concatenate([source.spec.mask(symbols, s) for s in sessions], axis=1)
        return cls(place, starts, mask)

    def left(self, block: Block) -> Block:
        """Return the rows of a block that are not withheld."""
        if not len(self.starts):
            return block
        symbol = np.array([self.place.get(name, -1) for name in block.symbols], np.intp)
        symbol = symbol[block.symbol]
        at = np.searchsorted(self.starts, block.ts_ns, "right") - 1
        inside = (at >= 0) & (symbol >= 0) & (block.ts_ns < self.starts[at] + MINUTE_NS)
        gone = inside & self.mask[symbol, at]
        return block.take(np.flatnonzero(~gone)) if gone.any() else block

    def answers(self, answer: Answer, start_ns: int, end_ns: int) -> Iterator[Answer]:
        """Give what has to be said behind an answer: of the holes in its part nothing is known."""
        if not answer.is_whole:
            start_ns, end_ns = answer.start_ns, answer.end_ns
        runs: dict[tuple[int, int], list[str]] = defaultdict(list)
        rows = [self.place[symbol] for symbol in answer.symbols if symbol in self.place]
        ends = self.starts + MINUTE_NS
        inside = (ends > start_ns) & (self.starts < end_ns)
        starts, ends, mask = self.starts[inside], ends[inside], self.mask[rows][:, inside]
        # A run ends where the next minute is not withheld, or is not the next by the clock.
        joined = mask[:, 1:] & mask[:, :-1] & (starts[1:] == ends[:-1])
        first, last = mask.copy(), mask.copy()
        first[:, 1:] &= ~joined
        last[:, :-1] &= ~joined
        names = [symbol for symbol in answer.symbols if symbol in self.place]
        (symbol, begin), (_, end) = np.nonzero(first), np.nonzero(last)
        for row, a, b in zip(symbol.tolist(), begin.tolist(), end.tolist(), strict=True):
            runs[int(starts[a]), int(ends[b])].append(names[row])
        said = replace(answer, kind="cannot_say", vouched=False)
        for (low, high), some in sorted(runs.items()):
            part = (max(low, start_ns), min(high, end_ns))
            yield replace(said, symbols=tuple(some), start_ns=part[0], end_ns=part[1])
