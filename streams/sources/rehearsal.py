"""What a rehearsal does to rows: how much of what, by a seed; how that is written in a URI.

``rehearsal:[key=value,…:]SOURCE``, such as ``rehearsal:seed=7,drop=0.01,delay=0.05@3s:lean:DIR``;
keys are

=============================  ====================================================================
``seed=7``                     another seed, other faults; 0
``drop=0.01``                  share of rows that never come; whoever asks again for them gets them
``duplicate=0.01``             share of rows that come twice
``disorder=0.01``              share of rows that come behind the one that follows them
``delay=0.05@3s``              share of rows that come so much later; the feed waits for them
``late=0.01@30s``              share of rows that come so much later, after the feed has vouched
``revise=0.01@20s``            share of bars that are wrong at first and set right so much later
``disconnect=2@30s``           how often a session the connection is lost, and for how long
``dead=AIG@10:00-10:20``       nothing is heard of a symbol then, ``*`` for all; joined by ``+``
``error=0.1``                  share of questions to the source that fail at first
``calendar=XNYS``              whose local time ``dead`` is in; XNYS
=============================  ====================================================================

Times are whole numbers of ``ms``, ``s`` or ``m``, of the tape. Faults of a session end with it.
Each decision hangs on the seed, the fault, the symbol and the time of the row alone: it is the same
at any speed, whatever else is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from streams.calendar import Session, zone_of
from streams.errors import ConfigError
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.sources.dice import keys_of, mix, share_of
from streams.sources.options import Options
from streams.sources.protocol import Block

__all__ = ["Dead", "Sometimes", "Spec", "Window", "inner_of", "parse"]

Mask = NDArray[np.bool_]

OPTIONS = (
    *("seed", "drop", "duplicate", "disorder", "delay", "late", "revise"),
    *("disconnect", "dead", "error", "calendar"),
)
INNER = re.compile(r"(?:^|:)([a-z][a-z0-9]*:.*)")
TIMES = re.compile(r"([^@]+)@(\d{1,9})(ms|s|m)")
UNITS_NS = {"ms": SECOND_NS // 1000, "s": SECOND_NS, "m": MINUTE_NS}
DEAD = re.compile(r"([^@+]+)@([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class Window(NamedTuple):
    """Tape time from ``start_ns`` to ``end_ns``."""

    start_ns: int
    end_ns: int


class Sometimes(NamedTuple):
    """A share of rows, or a number of times a session, and the ns it is about."""

    often: float = 0.0
    length_ns: int = 0


NEVER = Sometimes()
CALENDAR = "XNYS"


class Dead(NamedTuple):
    """Nothing is heard of a symbol (``*``: of any) from one local time to another."""

    symbol: str
    start: time
    end: time


@dataclass(frozen=True, slots=True)
class Spec:
    """What is done; see the head of this module."""

    seed: int = 0
    drop: float = 0.0
    duplicate: float = 0.0
    disorder: float = 0.0
    error: float = 0.0
    delay: Sometimes = NEVER
    late: Sometimes = NEVER
    revise: Sometimes = NEVER
    disconnect: Sometimes = NEVER
    dead: tuple[Dead, ...] = ()
    calendar: str = CALENDAR

    def hits(self, fault: str, block: Block, share: float) -> Mask:
        """Return which rows of a block a fault is to hit, shape (rows,)."""
        if not share:
            return np.zeros(len(block), np.bool_)
        keys = keys_of(self._seed_of(fault, type(block).__name__), block.symbols)
        dice = mix(keys[block.symbol] ^ mix(block.ts_ns.view(np.uint64)))
        sequence = getattr(block, "sequence", None)
        if sequence is not None:  # quotes and ticks of one moment are told apart by it
            dice = mix(dice ^ np.asarray(sequence).astype(np.uint64))
        found: Mask = share_of(dice) < share
        return found

    def happens(self, fault: str, share: float, *what: Any) -> bool:
        """Tell whether a fault hits something that is no row."""
        return self._share(fault, *what) < share

    def away(self, session: Session) -> tuple[Window, ...]:
        """Return when a session has no connection, ascending, apart from each other."""
        count, length_ns = int(self.disconnect.often), self.disconnect.length_ns
        first = session.open_ns + MINUTE_NS
        room = session.close_ns - length_ns - first
        if room <= 0:
            return ()
        shares = (self._share("disconnect", session.label, n) for n in range(count))
        found: list[Window] = []
        for start in sorted(first + int(share * room) for share in shares):
            if not found or start > found[-1].end_ns:
                found.append(Window(start, start + length_ns))
        return tuple(found)

    def silence(self, symbol: str, start_ns: int, end_ns: int) -> Iterator[Window]:
        """Give when nothing is heard of a symbol in [start_ns, end_ns), ascending by the day."""
        mine = [dead for dead in self.dead if dead.symbol in (symbol, "*")]
        if not mine:
            return
        zone = zone_of(self.calendar)
        day = datetime.fromtimestamp(start_ns // SECOND_NS, zone).date() - timedelta(days=1)
        last = datetime.fromtimestamp(end_ns // SECOND_NS, zone).date()
        while day <= last:
            for _, begins, ends in mine:
                until = day if begins < ends else day + timedelta(days=1)
                low, high = (
                    int(datetime.combine(date, at, zone).astimezone(UTC).timestamp()) * SECOND_NS
                    for date, at in ((day, begins), (until, ends))
                )
                if low < end_ns and start_ns < high:
                    yield Window(max(low, start_ns), min(high, end_ns))
            day += timedelta(days=1)

    def silenced(self, block: Block, start_ns: int, end_ns: int) -> Mask:
        """Return which rows of a block, all in [start_ns, end_ns), are of a silence."""
        found = np.zeros(len(block), np.bool_)
        if not self.dead:
            return found
        for number, symbol in enumerate(block.symbols):
            for low, high in self.silence(symbol, start_ns, end_ns):
                found |= (block.symbol == number) & (block.ts_ns >= low) & (block.ts_ns < high)
        return found

    def _seed_of(self, *what: Any) -> int:
        return int(xxhash.xxh3_64_intdigest(repr(what).encode(), self.seed))

    def _share(self, *what: Any) -> float:
        return float(share_of(np.array([self._seed_of(*what)], np.uint64))[0])


def inner_of(text: str) -> tuple[str, str]:
    """Return the options and the URI of the source of what follows ``rehearsal:``.

    Raises
    ------
    ConfigError
        No source stands there.
    """
    found = INNER.search(text)
    if not found:
        msg = f"rehearsal:{text} names no source: write rehearsal:key=value,…:SOURCE"
        raise ConfigError(msg)
    return text[: found.start()], found[1]


def parse(text: str) -> Spec:
    """Return the spec that options stand for.

    Raises
    ------
    ConfigError
        An option that is none, or a value that can't be used.
    CalendarError
        An unknown calendar.
    """
    options = Options("rehearsal", text, OPTIONS, ",")
    calendar = options.text("calendar", CALENDAR)
    zone_of(calendar)

    def share(key: str) -> float:
        return options.number(key, 0.0, 0.0, 1.0)

    return Spec(
        seed=options.whole("seed", 0, 0, 2**53),
        drop=share("drop"),
        duplicate=share("duplicate"),
        disorder=share("disorder"),
        error=share("error"),
        delay=_sometimes(options, "delay", 1.0),
        late=_sometimes(options, "late", 1.0),
        revise=_sometimes(options, "revise", 1.0),
        disconnect=_sometimes(options, "disconnect", 1000.0),
        dead=_dead(options),
        calendar=calendar,
    )


def _sometimes(options: Options, key: str, most: float) -> Sometimes:
    text = options.text(key)
    if not text:
        return NEVER
    what = "a number" if most > 1 else "a share"
    example = "2@30s" if most > 1 else "0.01@3s"
    wrong = options.wrong(key, f"{what} from 0 to {most:g} with a time, such as {example}")
    found = TIMES.fullmatch(text)
    if not found:
        raise wrong
    try:
        often = float(found[1])
    except ValueError:
        raise wrong from None
    if not 0 <= often <= most or (most > 1 and often != int(often)):
        raise wrong
    return Sometimes(often, int(found[2]) * UNITS_NS[found[3]])


def _dead(options: Options) -> tuple[Dead, ...]:
    dead = []
    for part in filter(None, options.text("dead").split("+")):
        found = DEAD.fullmatch(part)
        if not found:
            raise options.wrong("dead", "SYMBOL@HH:MM-HH:MM, joined by +")
        begin, begin_minute, end, end_minute = (int(text) for text in found.groups()[1:])
        dead.append(Dead(found[1], time(begin, begin_minute), time(end, end_minute)))
    return tuple(dead)
