"""A source with faults: it wraps another; see ``streams.sources.rehearsal`` for what it does.

Of a rehearsal it takes what can happen to a source: a share of bars is not there when they are
asked for at first, but is when they are asked for again; rows come twice or out of order; questions
take longer (``delay``), or fail and are answered when they are put again. Of what is ``dead`` it
can't say, however often it is asked. Late and revised rows and connections are a feed's affair.

What it was asked is forgotten with the process: one that died gives at first what it gave before.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas import BarBlock
from streams.errors import SourceError
from streams.intervals import SECOND_NS
from streams.sources.protocol import Answer, BadRow, Block, Part
from streams.sources.rehearsal import Spec
from streams.sources.wrapper import Wrapper

__all__ = ["Rehearsed"]

REMEMBERED = 512
"""Questions that are remembered."""


class _Question(NamedTuple):
    stream: str
    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int
    interval_ns: int


class _Questions:
    """The last questions; for several threads."""

    def __init__(self) -> None:
        self._put: deque[_Question] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()

    def put(self, question: _Question) -> list[_Question]:
        """Return the questions before this one that it laps over."""
        with self._lock:
            before = [other for other in self._put if _lap(other, question)]
            if question not in before:
                self._put.append(question)
            return before


def _lap(one: _Question, other: _Question) -> bool:
    return (
        (one.stream, one.interval_ns) == (other.stream, other.interval_ns)
        and one.start_ns < other.end_ns
        and other.start_ns < one.end_ns
    )


@dataclass(frozen=True, slots=True)
class Rehearsed(Wrapper):
    """The source, and what is done to it."""

    spec: Spec
    _questions: _Questions = field(default_factory=_Questions, repr=False, compare=False)

    def load(
        self, stream: str, symbols: Sequence[str], start_ns: int, end_ns: int, interval_ns: int
    ) -> Iterator[Part]:
        """Give what the other source gives, with faults; of what is not there it can't say."""
        spec = self.spec
        question = _Question(stream, tuple(symbols), start_ns, end_ns, interval_ns)
        before = self._questions.put(question)
        if question not in before and spec.happens("error", spec.error, *question):
            reason = "the rehearsal lets a question fail: put it again"
            raise SourceError(reason, path=self.name)
        if spec.happens("delay", spec.delay.often, *question):
            time.sleep(spec.delay.length_ns / SECOND_NS)
        gone: defaultdict[str, list[int]] = defaultdict(list)
        for part in self.source.load(stream, symbols, start_ns, end_ns, interval_ns):
            if isinstance(part, Answer):
                yield part
                yield from self._unsaid(part, question, gone)
            elif isinstance(part, BadRow):
                yield part
            else:
                # By other dice than the feed's: what that drops is there for who asks.
                dropped = spec.hits("answer", part, spec.drop) & _is_first(part, before)
                if not isinstance(part, BarBlock):  # nobody would ask for them again
                    dropped[:] = False
                for row in np.flatnonzero(dropped).tolist():
                    gone[part.symbols[part.symbol[row]]].append(int(part.ts_ns[row]))
                kept = part.take(~dropped & ~spec.silenced(part, start_ns, end_ns))
                if len(kept):
                    yield _spoilt(spec, kept)

    def _unsaid(
        self, answer: Answer, question: _Question, gone: defaultdict[str, list[int]]
    ) -> Iterator[Answer]:
        """Give what has to be said behind an answer: of what is not there nothing is known."""
        windows: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        for symbol in answer.symbols:
            for ts_ns in gone.pop(symbol, ()):
                windows[ts_ns, ts_ns + question.interval_ns].append(symbol)
            for low, high in self.spec.silence(symbol, question.start_ns, question.end_ns):
                windows[low, high].append(symbol)
        for (low, high), names in sorted(windows.items()):
            yield Answer(tuple(names), "cannot_say", low, high)


def _is_first(block: Block, before: Sequence[_Question]) -> NDArray[np.bool_]:
    """Return which rows of a block no question before has asked for."""
    is_first = np.ones(len(block), np.bool_)
    for other in before:
        known = set(other.symbols)
        is_mine = np.array([symbol in known for symbol in block.symbols], np.bool_)
        inside = (block.ts_ns >= other.start_ns) & (block.ts_ns < other.end_ns)
        is_first &= ~(is_mine[block.symbol] & inside)
    return is_first


def _spoilt(spec: Spec, block: Block) -> Block:
    """Return a block with rows that come twice, and rows behind the one that follows them."""
    place = 2 * np.arange(len(block))
    place += 3 * spec.hits("disorder", block, spec.disorder)
    twice = np.flatnonzero(spec.hits("duplicate", block, spec.duplicate))
    rows = np.concatenate([np.arange(len(block)), twice])
    return block.take(rows[np.argsort(np.concatenate([place, place[twice]]), kind="stable")])
