"""Answers to requests as records: blocks first, their coverage behind them. Nothing is sent here.

Several threads may make answers at once.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from schemas import Coverage, DataRequest
from streams.coverage import Status
from streams.errors import SourceError
from streams.filler import Filled, Filler
from streams.intervals import interval_ns
from streams.sources.packing import Packer, minute_lists, symbol_lists
from streams.sources.protocol import Answer, BadRow, Block, Source
from streams.topics import Topics

__all__ = ["Answers", "Message", "Out", "Refusal"]

log = logging.getLogger("sessiontape.producer")

KINDS = ("rows", "nothing", "cannot_say")
_Stretch: TypeAlias = tuple[int, int, str]
"""Start, end and kind of what is said of a part of a range."""
TOLD = 10_000
"""Bad rows that are remembered, so that not each gap that is asked for tells them again."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record and the topic it is for."""

    topic: str
    record: Block | Coverage


@dataclass(frozen=True, slots=True)
class Refusal:
    """Input that is no row, and the topic that it would have been for."""

    topic: str
    row: BadRow


Out: TypeAlias = Message | Refusal


class Answers:
    """Makes answers from the sources.

    Parameters
    ----------
    topics
        Where they go.
    sources
        The primary source, then those to fall back on.
    gap_timeout_s, history_timeout_s
        How long each source may take for a gap, and for a session of history.
    """

    def __init__(
        self,
        topics: Topics,
        sources: Sequence[Source],
        *,
        gap_timeout_s: float,
        history_timeout_s: float,
    ) -> None:
        self._topics = topics
        self._primary = sources[0]
        # Of their own each: a source that is slow with history need not hang in a gap.
        self._gaps = Filler(sources, gap_timeout_s)
        self._history = Filler(sources, history_timeout_s)
        self._told: dict[BadRow, None] = {}

    def to(self, request: DataRequest) -> Iterator[Out]:
        """Give the answer to a request, in the order in which it is to be sent."""
        if request.kind == "gap":
            yield from self._gap(request)
        elif request.kind == "history":
            yield from self._trailing(request)
        else:
            for stream in request.streams:
                yield from self._session(request, stream)

    def _session(self, request: DataRequest, stream: str) -> Iterator[Out]:
        """Answer from the primary source alone: what it lacks is asked for as gaps."""
        topic: str = getattr(self._topics, f"raw_{stream}")
        name = self._primary.name
        packer: Packer[Any] = Packer(run=request.run, request=request.id, source=name)
        kinds: dict[str, str] = {}
        said: dict[str, list[_Stretch]] = {}
        length = interval_ns(request.interval)
        parts = self._primary.load(
            stream, request.symbols, request.start_ns, request.end_ns, length
        )
        try:
            for part in parts:
                if isinstance(part, Answer):
                    if stream == "bars":
                        kinds |= {s: _said(part, kinds.get(s)) for s in part.symbols}
                    else:
                        said |= {s: _cut(request, part, said.get(s)) for s in part.symbols}
                elif isinstance(part, BadRow):
                    self._is_news(part)
                    yield Refusal(topic, part)
                else:
                    yield from (Message(topic, block) for block in packer.add(part))
        except SourceError as exc:
            log.error("source=%s fails: %s", name, exc)  # noqa: TRY400 - for people, no trace
            yield Refusal(topic, BadRow(exc.path, exc.line, exc.reason))
        yield from (Message(topic, block) for block in packer.end())
        if stream == "bars":  # minutes that can't be said are asked for one by one, as gaps
            said = _whole(request, kinds)
        yield from _coverages(topic, request, said, (packer.blocks, packer.rows), name)

    def _gap(self, request: DataRequest) -> Iterator[Out]:
        """Answer from all sources: rows of the minutes asked for, then what is known of each."""
        topic = self._topics.raw_bars
        filled = self._gaps.fill(request)
        sent = yield from self._filled(topic, request, filled)
        for minutes in minute_lists(filled.minutes):
            coverage = Coverage(
                symbols=minutes.symbols,
                start_ns=request.start_ns,
                end_ns=request.end_ns,
                answer=filled.answer,
                blocks=sent[0],
                rows=sent[1],
                run=request.run,
                request=request.id,
                source=self._names(filled),
                gaps=minutes,
            )
            yield Message(topic, coverage)

    def _trailing(self, request: DataRequest) -> Iterator[Out]:
        """Answer with a session of history from all sources."""
        topic = self._topics.raw_history
        filled = self._history.fill(request)
        sent = yield from self._filled(topic, request, filled)
        minutes = filled.minutes
        kinds = dict.fromkeys(request.symbols, "nothing")
        for status, kind in ((Status.MISSING, "cannot_say"), (Status.TRADED, "rows")):
            found = np.unique(minutes.symbol[minutes.status == status]).tolist()
            kinds |= dict.fromkeys((minutes.symbols[n] for n in found), kind)
        yield from _coverages(topic, request, _whole(request, kinds), sent, self._names(filled))

    def _filled(
        self, topic: str, request: DataRequest, filled: Filled
    ) -> Generator[Out, None, tuple[int, int]]:
        """Give the bad rows that are news and the blocks; return how many blocks and rows."""
        yield from (Refusal(topic, row) for row in filled.bad if self._is_news(row))
        blocks = rows = 0
        for name, some in groupby(filled.blocks, key=lambda pair: pair[0]):
            packer: Packer[Any] = Packer(
                run=request.run, request=request.id, source=name, first=blocks
            )
            for _, block in some:
                yield from (Message(topic, full) for full in packer.add(block))
            yield from (Message(topic, full) for full in packer.end())
            blocks, rows = blocks + packer.blocks, rows + packer.rows
        return blocks, rows

    def _names(self, filled: Filled) -> str:
        """Return the names of the sources that rows came from; of the primary if none did."""
        return "+".join(dict.fromkeys(name for name, _ in filled.blocks)) or self._primary.name

    def _is_news(self, row: BadRow) -> bool:
        """Tell whether a bad row was not told before, as far as that is remembered."""
        if row in self._told:
            return False
        if len(self._told) >= TOLD:
            self._told.clear()
        self._told[row] = None
        return True


def _said(answer: Answer, before: str | None) -> str:
    """Return what holds for a symbol's whole range behind an answer, which may be of a part."""
    if answer.is_whole or before is None:
        return answer.kind
    # Rows in any part are rows; nothing is sure only where all of it is.
    return next(kind for kind in ("rows", "cannot_say", "nothing") if kind in (answer.kind, before))


def _whole(request: DataRequest, kinds: Mapping[str, str]) -> dict[str, list[_Stretch]]:
    """Return what holds for the whole range of each symbol."""
    return {symbol: [(request.start_ns, request.end_ns, kind)] for symbol, kind in kinds.items()}


def _cut(request: DataRequest, answer: Answer, before: list[_Stretch] | None) -> list[_Stretch]:
    """Return what holds for the parts of a symbol's range behind an answer, in their order."""
    first, last = request.start_ns, request.end_ns
    if answer.is_whole:
        return [(first, last, answer.kind)]
    low, high = max(answer.start_ns, first), min(answer.end_ns, last)
    if low >= high:
        return before or []
    found = [(low, high, answer.kind)]
    for start, end, kind in before or [(first, last, "cannot_say")]:
        found += [(start, min(end, low), kind), (max(start, high), end, kind)]
    return sorted(stretch for stretch in found if stretch[0] < stretch[1])


def _joined(stretches: Sequence[_Stretch]) -> Iterator[_Stretch]:
    """Give stretches that follow each other as one where both can be said, or neither."""
    for _, some in groupby(stretches, key=lambda stretch: stretch[2] == "cannot_say"):
        run = list(some)
        kinds = {kind for _, _, kind in run}
        yield run[0][0], run[-1][1], next(kind for kind in KINDS if kind in kinds)


def _coverages(
    topic: str,
    request: DataRequest,
    said: Mapping[str, list[_Stretch]],
    sent: tuple[int, int],
    source: str,
) -> Iterator[Message]:
    """Give the coverages of each kind; a symbol that nothing was said of can't be said."""
    unsaid = [(request.start_ns, request.end_ns, "cannot_say")]
    found: dict[_Stretch, list[str]] = {}
    for symbol in dict.fromkeys(request.symbols):
        for stretch in _joined(said.get(symbol) or unsaid):
            found.setdefault(stretch, []).append(symbol)
    for start_ns, end_ns, kind in sorted(found, key=lambda one: (KINDS.index(one[2]), one)):
        for some in symbol_lists(found[start_ns, end_ns, kind]):
            coverage = Coverage(
                symbols=some,
                start_ns=start_ns,
                end_ns=end_ns,
                answer=kind,
                blocks=sent[0],
                rows=sent[1],
                run=request.run,
                request=request.id,
                source=source,
            )
            yield Message(topic, coverage)
