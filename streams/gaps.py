"""When to ask for what is missing, and when to give it up: pure, the wall time is passed in.

What the tape says of minutes comes in; requests and give-ups come out. A gap is asked for at once,
again after a wait that doubles with each attempt, and given up by number of attempts. Adjacent
minutes stand in one run, many runs in one request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from schemas.records import Coverage, DataRequest, Frame, Longs, Minutes
from streams.coverage import Grid, Status
from streams.plan import Plan

__all__ = ["Due", "Gaps", "Limits", "Sent"]

RUNS = 2_000
"""Runs of minutes in one request, at most: some 50 kB."""
JITTER = 0.5
"""A wait is longer by up to this share of it, so that shards don't ask all at once."""
_FAR = 2**63 - 1
_SETTLED = (Status.TRADED, Status.NO_TRADE, Status.FILLED, Status.GIVEN_UP, Status.HALTED)


@dataclass(frozen=True, slots=True)
class Limits:
    """How often and how fast gaps are asked for.

    Attributes
    ----------
    attempts
        Requests for a minute until it is given up.
    backoff_ns
        Wait before the second request; it doubles with each.
    timeout_ns
        Wait until a request without an answer counts as failed.
    requests
        Requests that may be unanswered at once.
    live_backoff_ns
        Wait before the second request in a live run, where a source may know only later.
    """

    attempts: int
    backoff_ns: int
    timeout_ns: int
    requests: int
    live_backoff_ns: int = 2_000_000_000


class Sent(NamedTuple):
    """A request that an earlier life has sent, and when."""

    request: DataRequest
    wall_ns: int


class Due(NamedTuple):
    """What is to go out now."""

    requests: tuple[DataRequest, ...]
    given_up: tuple[Coverage, ...]


@dataclass
class _Session:
    grid: Grid
    due_ns: Longs
    count: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    next_ns: int = _FAR

    @classmethod
    def of(cls, grid: Grid) -> _Session:
        return cls(grid, np.full(grid.status.shape, _FAR))

    def extend(self, symbols: tuple[str, ...]) -> None:
        """Have the symbols of the tape where they are others than those at hand."""
        if set(symbols) <= set(self.grid.symbols):
            return
        both = tuple(sorted({*symbols, *self.grid.symbols}))
        due_ns = np.full((len(both), self.due_ns.shape[1]), _FAR)
        due_ns[[both.index(name) for name in self.grid.symbols]] = self.due_ns
        self.grid, self.due_ns = self.grid.renamed(both), due_ns


class Gaps:
    """The gaps of one shard.

    Parameters
    ----------
    shard
        Its number.
    limits
        How often and how fast they are asked for.
    """

    def __init__(self, shard: int, limits: Limits) -> None:
        self._shard = shard
        self._limits = limits
        self._run = ""
        self._interval = "1m"
        self._backoff_ns = limits.backoff_ns
        self._sessions: dict[str, _Session] = {}
        self._recalled: dict[str, list[Sent]] = {}

    def recall(self, sent: Iterable[Sent]) -> None:
        """Take what an earlier life has sent; to be called before anything else."""
        for one in sent:
            self._recalled.setdefault(one.request.session, []).append(one)

    def take(self, plan: Plan, frame: Frame, wall_ns: int) -> None:
        """Take the next frame of the tape; ``plan`` is that of its run."""
        if frame.run != self._run:
            self._run, self._sessions = frame.run, {}
            self._interval = plan.command.interval
            limits = self._limits
            self._backoff_ns = limits.live_backoff_ns if plan.is_live else limits.backoff_ns
        if frame.minutes is not None:
            self._note(plan, frame.minutes, wall_ns)
        if frame.event == "close":
            self._sessions.pop(frame.session, None)
        elif frame.event == "end":
            self._sessions = {}

    @property
    def sessions(self) -> tuple[str, ...]:
        """Labels of the sessions of which something is known, sorted."""
        return tuple(sorted(self._sessions))

    @property
    def in_flight(self) -> int:
        """Requests that are not answered."""
        return sum(len(session.sent) for session in self._sessions.values())

    def minutes(self) -> Longs:
        """Return how many minutes of those sessions have each status, shape (statuses,).

        One that had a bar of its own accord counts as pending: the tape says nothing of it.
        """
        found = np.zeros(len(Status), np.int64)
        for session in self._sessions.values():
            found += [_count(session.grid.status, status) for status in Status]
        return found

    def quality(self, label: str, clock_ns: int) -> float:
        """Return the quality of a session at a clock, over all its symbols, 0 to 1.

        1 before its first minute, and where the tape has said nothing of its minutes: all came.
        """
        session = self._sessions.get(label)
        if session is None:
            return 1.0
        known = session.grid.status[:, : session.grid.expected(clock_ns)]
        bad = (Status.MISSING, Status.REQUESTED, Status.GIVEN_UP)
        count = sum(_count(known, status) for status in bad)
        return 1.0 - count / known.size if known.size else 1.0

    def due_ns(self) -> int | None:
        """Return the wall time at which something falls due by itself, None for nothing."""
        if self.in_flight < self._limits.requests:
            found = min((one.next_ns for one in self._sessions.values()), default=_FAR)
        else:
            sent = (at for one in self._sessions.values() for at in one.sent.values())
            found = min(sent) + self._limits.timeout_ns
        return None if found == _FAR else found

    def due(self, wall_ns: int) -> Due:
        """Return what is to go out at a wall time; it counts as sent."""
        requests: list[DataRequest] = []
        given_up: list[Coverage] = []
        for label, session in sorted(self._sessions.items()):
            if session.next_ns > wall_ns:
                continue
            self._time_out(session, wall_ns)
            missing = session.grid.status == Status.MISSING
            hopeless = missing & (session.grid.attempt >= self._limits.attempts)
            if hopeless.any():
                given_up.append(self._given_up(session, label, hopeless))
            ready = missing & ~hopeless & (session.due_ns <= wall_ns)
            if ready.any():
                requests += self._ask(session, label, ready, wall_ns)
            self._plan_next(session)
        return Due(tuple(requests), tuple(given_up))

    # What the tape says.

    def _note(self, plan: Plan, minutes: Minutes, wall_ns: int) -> None:
        session = self._sessions.get(minutes.session)
        if session is None:
            known = plan.sessions[plan.index(minutes.session)]
            grid = Grid(known, plan.interval_ns, minutes.symbols)
            session = self._sessions[minutes.session] = _Session.of(grid)
        session.extend(minutes.symbols)
        grid = session.grid
        at, run = grid.expanded(minutes)
        status, attempt = minutes.status[run], minutes.attempt[run]
        # What we have asked for since is newer than what the tape says of an earlier attempt.
        is_new = (attempt >= grid.attempt.reshape(-1)[at]) | np.isin(status, _SETTLED)
        at, run, status, attempt = at[is_new], run[is_new], status[is_new], attempt[is_new]
        numbers = np.array([*map(grid.number_of, minutes.requests), -1], np.int32)
        grid.status.reshape(-1)[at] = status
        grid.attempt.reshape(-1)[at] = attempt
        grid.request.reshape(-1)[at] = numbers[minutes.request[run]]
        due_ns = session.due_ns.reshape(-1)
        due_ns[at] = _FAR
        missing = status == Status.MISSING
        for number in np.unique(attempt[missing]).tolist():
            wait_ns = self._wait_ns(minutes.session, number)
            due_ns[at[missing & (attempt == number)]] = wall_ns + wait_ns
        # One that was given up waiting for, and is known to be out after all, is waited for anew.
        for number in np.unique(grid.request.reshape(-1)[at[status == Status.REQUESTED]]).tolist():
            session.sent.setdefault(grid.requests[number], wall_ns)
        for one in self._recalled.pop(minutes.session, ()):
            self._remember(session, one)
        self._forget_answered(session)
        self._plan_next(session)

    def _remember(self, session: _Session, one: Sent) -> None:
        """Count a request as sent that went out before we knew of the session."""
        grid, request = session.grid, one.request
        session.count += 1
        if request.gaps is None:
            return
        number = grid.number_of(request.id)
        cells = grid.cells(request.gaps) & grid.is_(Status.MISSING, Status.REQUESTED)
        cells &= grid.attempt < request.attempt
        grid.status[cells], grid.attempt[cells] = Status.REQUESTED, request.attempt
        grid.request[cells] = number
        session.due_ns[cells] = _FAR
        session.sent[request.id] = one.wall_ns

    def _forget_answered(self, session: _Session) -> None:
        grid = session.grid
        asked = grid.request[grid.status == Status.REQUESTED]
        out = {grid.requests[number] for number in np.unique(asked[asked >= 0]).tolist()}
        session.sent = {name: at for name, at in session.sent.items() if name in out}

    # What is due.

    def _time_out(self, session: _Session, wall_ns: int) -> None:
        grid = session.grid
        for name, at in list(session.sent.items()):
            if wall_ns - at >= self._limits.timeout_ns:
                del session.sent[name]
                cells = (grid.status == Status.REQUESTED) & (grid.request == grid.number_of(name))
                grid.status[cells] = Status.MISSING
                for number in np.unique(grid.attempt[cells]).tolist():
                    wait_ns = self._wait_ns(grid.session.label, number)
                    session.due_ns[cells & (grid.attempt == number)] = wall_ns + wait_ns

    def _given_up(self, session: _Session, label: str, cells: NDArray[np.bool_]) -> Coverage:
        grid = session.grid
        minutes = _concerned(grid.minutes(cells))
        grid.status[cells] = Status.GIVEN_UP
        session.due_ns[cells] = _FAR
        return Coverage(
            symbols=minutes.symbols,
            start_ns=int(minutes.ts_ns.min()),
            end_ns=int(minutes.end_ns.max()),
            answer="cannot_say",
            run=self._run,
            request=f"{self._run}/{label}/{self._shard}/gap",
            source="upkeep",
            gaps=minutes,
            final=True,
        )

    def _ask(
        self, session: _Session, label: str, ready: NDArray[np.bool_], wall_ns: int
    ) -> Iterator[DataRequest]:
        """Give requests for minutes that are due, as many as may be out."""
        grid = session.grid
        for number in np.unique(grid.attempt[ready]).tolist():
            cells = ready & (grid.attempt == number)
            minutes = grid.minutes(cells)
            for first in range(0, len(minutes), RUNS):
                if self.in_flight >= self._limits.requests:
                    return
                part = minutes.take(slice(first, first + RUNS))
                yield self._request(session, label, part, number + 1, wall_ns)

    def _request(
        self, session: _Session, label: str, part: Minutes, attempt: int, wall_ns: int
    ) -> DataRequest:
        grid = session.grid
        name = f"{self._run}/{label}/{self._shard}/gap/{session.count}"
        session.count += 1
        session.sent[name] = wall_ns
        cells = grid.cells(part)
        grid.status[cells], grid.attempt[cells] = Status.REQUESTED, attempt
        grid.request[cells] = grid.number_of(name)
        session.due_ns[cells] = _FAR
        gaps = _concerned(part)
        count = int(np.count_nonzero(cells))
        return DataRequest(
            id=name,
            run=self._run,
            kind="gap",
            streams=("bars",),
            symbols=gaps.symbols,
            start_ns=int(gaps.ts_ns.min()),
            end_ns=int(gaps.end_ns.max()),
            session=label,
            shard=self._shard,
            interval=self._interval,
            attempt=attempt,
            reason=f"{count} minutes in {len(part)} runs are missing",
            gaps=gaps,
        )

    def _plan_next(self, session: _Session) -> None:
        """Find out when something of a session falls due next."""
        grid = session.grid
        missing = grid.status == Status.MISSING
        times = [at + self._limits.timeout_ns for at in session.sent.values()]
        if missing.any():
            hopeless = missing & (grid.attempt >= self._limits.attempts)
            times.append(0 if hopeless.any() else int(session.due_ns[missing].min()))
        session.next_ns = min(times, default=_FAR)

    def _wait_ns(self, label: str, attempts: int) -> int:
        """Return how long to wait after so many attempts: longer by a share that hangs on names."""
        if attempts == 0:
            return 0
        name = f"{self._run}/{label}/{self._shard}/{attempts}"
        dice: int = xxhash.xxh3_64_intdigest(name.encode())
        share = 1.0 + JITTER * dice / 2**64
        return int(self._backoff_ns * 2 ** (attempts - 1) * share)


def _count(known: NDArray[np.int8], status: Status) -> int:
    # A plain number: numpy takes six times as long to look at an enum. Eight of these passes take
    # a third of one np.bincount.
    return int(np.count_nonzero(known == int(status)))


def _concerned(minutes: Minutes) -> Minutes:
    """Return runs with only their own symbols in the list, and no requests."""
    used, symbol = np.unique(minutes.symbol, return_inverse=True)
    size = len(minutes)
    return Minutes(
        symbols=tuple(minutes.symbols[number] for number in used.tolist()),
        symbol=symbol.astype(np.int32),
        ts_ns=minutes.ts_ns,
        end_ns=minutes.end_ns,
        status=minutes.status,
        attempt=minutes.attempt,
        request=np.full(size, -1, np.int32),
        session=minutes.session,
    )
