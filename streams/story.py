"""The story of each gap, told from all that became known of its minutes: pure.

A gap is a run of expected minutes, one behind the other, that had no bar of their own accord. Its
story are the steps in which more became known of it: found, asked for, filled, without trade or
given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from streams.calendar import Session
from streams.coverage import Status
from streams.intervals import MINUTE_NS

__all__ = ["Gap", "Part", "Stage", "gaps_of"]


@dataclass(frozen=True, slots=True)
class Part:
    """What became known of the minutes [start_ns, end_ns) of a symbol, and at which clock."""

    symbol: str
    start_ns: int
    end_ns: int
    status: Status
    attempt: int
    request: str
    clock_ns: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A step in the story of a gap.

    Attributes
    ----------
    status
        What its minutes became.
    attempt, request
        Number and id of the last request for them; 0 and empty for none.
    minutes
        How many of its minutes became so.
    clock_ns
        Session clock at which that was known first.
    """

    status: str
    attempt: int
    request: str
    minutes: int
    clock_ns: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap and its story.

    Attributes
    ----------
    session, symbol, start_ns, end_ns
        Where it is: minutes [start_ns, end_ns).
    status
        ``filled``, ``no_trade`` (answered to the end, not by rows alone), ``given_up`` or ``open``.
    minutes, filled, no_trade, given_up
        Its minutes, and those of each status.
    sources
        Where rows that filled it came from, as far as that is known.
    steps
        Its story, in order.
    """

    session: str
    symbol: str
    start_ns: int
    end_ns: int
    status: str
    minutes: int
    filled: int
    no_trade: int
    given_up: int
    sources: tuple[str, ...]
    steps: tuple[Stage, ...]

    @property
    def attempts(self) -> int:
        """Number of the last request for it."""
        return max((step.attempt for step in self.steps), default=0)


@dataclass(slots=True)
class _Minute:
    """A minute of a gap, and what became known of it, in order."""

    start_ns: int
    parts: list[Part] = field(default_factory=list)


def gaps_of(
    session: Session,
    parts: Iterable[Part],
    sources: Mapping[tuple[str, int], str] | None = None,
) -> list[Gap]:
    """Return the gaps of a session, by symbol and time, from all that became known of its minutes.

    Parameters
    ----------
    session
        The session; a gap reaches over a break in it.
    parts
        What became known, in order.
    sources
        Source of the row that filled a minute, by symbol and start of the minute.
    """
    by_symbol: dict[str, dict[int, _Minute]] = {}
    for part in parts:
        known = by_symbol.setdefault(part.symbol, {})
        for start_ns in range(part.start_ns, part.end_ns, MINUTE_NS):
            if not any(begin <= start_ns < end for begin, end in session.breaks):
                known.setdefault(start_ns, _Minute(start_ns)).parts.append(part)
    ends = dict(session.breaks)
    found: list[Gap] = []
    for symbol, known in sorted(by_symbol.items()):
        minutes = [known[start_ns] for start_ns in sorted(known)]
        runs = _runs(minutes, ends)
        found += [_gap(session.label, symbol, run, sources or {}) for run in runs]
    return found


def _runs(minutes: Sequence[_Minute], ends: Mapping[int, int]) -> Iterator[list[_Minute]]:
    """Give the runs of minutes that follow each other; ``ends`` of breaks by their starts."""
    run: list[_Minute] = []
    for minute in minutes:
        if run:
            next_ns = run[-1].start_ns + MINUTE_NS
            if ends.get(next_ns, next_ns) != minute.start_ns:
                yield run
                run = []
        run.append(minute)
    if run:
        yield run


def _gap(
    label: str, symbol: str, run: Sequence[_Minute], sources: Mapping[tuple[str, int], str]
) -> Gap:
    last = [minute.parts[-1].status for minute in run]
    filled, no_trade, given_up = (
        last.count(status) for status in (Status.FILLED, Status.NO_TRADE, Status.GIVEN_UP)
    )
    if given_up:
        status = "given_up"
    elif filled + no_trade < len(run):
        status = "open"
    else:
        status = "no_trade" if no_trade else "filled"
    names = (sources.get((symbol, minute.start_ns), "") for minute in run)
    return Gap(
        session=label,
        symbol=symbol,
        start_ns=run[0].start_ns,
        end_ns=run[-1].start_ns + MINUTE_NS,
        status=status,
        minutes=len(run),
        filled=filled,
        no_trade=no_trade,
        given_up=given_up,
        sources=tuple(sorted({name for name in names if name})),
        steps=_steps(run),
    )


def _steps(run: Sequence[_Minute]) -> tuple[Stage, ...]:
    """Return the story of a run of minutes: what is said again of a minute counts once."""
    found: dict[tuple[Status, int, str], tuple[int, int]] = {}
    for minute in run:
        stages = {(p.status, p.attempt, p.request): p.clock_ns for p in reversed(minute.parts)}
        for key in _implied(list(reversed(stages))):
            known_ns = stages.get(key, minute.parts[0].clock_ns)
            count, clock_ns = found.get(key, (0, known_ns))
            found[key] = (count + 1, min(clock_ns, known_ns))
    # In the order of attempts: of one attempt the request, then what came of it.
    order = sorted(found, key=lambda key: (key[1], key[0] != Status.REQUESTED))
    return tuple(Stage(key[0].label, key[1], key[2], *found[key]) for key in order)


def _implied(keys: Sequence[tuple[Status, int, str]]) -> list[tuple[Status, int, str]]:
    """Return what became known of a minute, with what must have gone before it.

    Whoever begins to read at the open frame finds what became of a gap, and not how.
    """
    found = [(Status.MISSING, 0, "")]
    for status, attempt, request in keys:
        asked = (Status.REQUESTED, attempt, request)
        if request and asked not in found:
            found.append(asked)
        if (status, attempt, request) not in found:
            found.append((status, attempt, request))
    return found
