"""Symbols that join a session under way: held back until all they have is there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.records import Coverage, DataRequest, Ints
from streams.arrival import Arrival
from streams.buffer import reaches
from streams.calendar import Session
from streams.intervals import SECOND_NS
from streams.kinds import Rows, kind_of
from streams.merge import ready_ns, renumbered
from streams.plan import Plan

__all__ = ["PATIENCE", "Held", "Joiner", "Patience", "places"]


class Patience(NamedTuple):
    """How often a live run asks for symbols that join, and how long it waits for each answer."""

    attempts: int = 5
    timeout_ns: int = 10 * SECOND_NS


PATIENCE = Patience()


class Held(NamedTuple):
    """Rows that are held back: as they are numbered now, and which they are of those that came."""

    rows: Rows
    came: Arrival
    mask: NDArray[np.bool_]


class Joiner:
    """What came of the symbols that a command added to a session that is open.

    Readers see them only when all of the session is there, so that they join with one release:
    what was ready by then as corrections, at that clock.

    Parameters
    ----------
    plan
        Plan with the symbols that are to be.
    number
        Number of the session.
    active
        Symbols that the tape has now, sorted; all are symbols of the plan.
    name
        Makes the id of the request unique: a repeat after a crash is another one.
    until_ns
        Of a live run, up to where they are asked for: what comes later, comes.
    held
        What another held of symbols that still are to join.
    """

    def __init__(
        self,
        plan: Plan,
        number: int,
        active: Sequence[str],
        name: str,
        *,
        until_ns: int = 0,
        held: Sequence[Held] = (),
    ) -> None:
        self.active = tuple(active)
        self.session: Session = plan.sessions[number]
        self._is_active = np.array([one in set(active) for one in plan.symbols], np.bool_)
        self.joining = tuple(
            n for n, old in zip(plan.symbols, self._is_active, strict=True) if not old
        )
        self._places = places(plan.symbols, self.active)
        self._pieces: dict[tuple[str, str], list[tuple[int, int]]] = {}
        asked = plan.request(number, is_now=True, until_ns=until_ns)
        self.is_asked = asked.end_ns > asked.start_ns
        """Whether there is anything to ask for: else nothing was before they join."""
        streams = plan.streams if self.is_asked else ()
        self._rest = {(stream, name) for stream in streams for name in self.joining}
        self._held = list(held)
        self.request: DataRequest = replace(
            asked,
            id=f"{plan.command.run}/{self.session.label}/{plan.shard}/join/{name}",
            symbols=self.joining,
            reason="symbols were added",
        )
        """What is to be asked for them."""
        self._ids = {self.request.id}
        self._asked_ns = 0

    @property
    def is_ready(self) -> bool:
        """Whether all of the session is there."""
        return not self._rest

    def hold(self, came: Arrival) -> Arrival:
        """Keep the rows of symbols that join; return the others."""
        if came.request in self._ids:
            self._asked_ns = 0  # it is being answered: the wait begins anew
        old = self._is_active[came.rows.symbol]
        if old.all():
            return came
        self._held.append(Held(came.rows.take(~old), came, ~old))
        return replace(came, rows=came.rows.take(old))

    def held(self, moved: Ints) -> Iterator[Held]:
        """Give what is held of symbols that still are, by their new numbers; see `renumbered`."""
        for one in self._held:
            rows = renumbered(one.rows, moved)
            if len(rows):
                yield one._replace(rows=rows)

    def refused(self) -> Iterator[tuple[str, Arrival, NDArray[np.bool_]]]:
        """Give the kind of what is held, and which rows of what came it is."""
        for one in self._held:
            yield kind_of(one.rows).stream, one.came, one.mask

    @property
    def lacking(self) -> tuple[str, ...]:
        """Symbols that nobody has answered for, sorted."""
        return tuple(sorted({name for _, name in self._rest}))

    def is_overdue(self, wall_ns: int, timeout_ns: int) -> bool:
        """Tell whether the last request is unanswered for too long."""
        if not self._asked_ns:
            self._asked_ns = wall_ns
        return wall_ns - self._asked_ns >= timeout_ns

    def ask_again(self) -> DataRequest:
        """Return the same question once more; each may be answered."""
        attempt = len(self._ids) + 1
        again = replace(self.request, id=f"{self.request.id}/{attempt}", attempt=attempt)
        self._ids.add(again.id)
        self._asked_ns = 0
        return again

    @property
    def attempts(self) -> int:
        """How often it was asked."""
        return len(self._ids)

    def without(self, rows: Rows) -> Rows:
        """Return the rows of symbols that are there."""
        old = self._is_active[rows.symbol]
        return rows if old.all() else rows.take(old)

    def cover(self, coverage: Coverage, stream: str, *, is_new: bool) -> None:
        """Take what was answered about a kind.

        Of answers to others' questions those count that nobody has seen: one that an earlier owner
        has looked at may stand behind rows that came before it and are not read again.
        """
        asked = self.request
        is_ours = coverage.request in self._ids or (not coverage.request and is_new)
        if not is_ours:
            return
        for one in self._rest.intersection((stream, name) for name in coverage.symbols):
            # An answer comes in pieces where it can't say of all of it.
            pieces = self._pieces.setdefault(one, [])
            pieces.append((coverage.start_ns, coverage.end_ns))
            if reaches(pieces, asked.start_ns) >= asked.end_ns:
                self._rest.discard(one)

    def take(self, clock_ns: Callable[[Rows], int]) -> tuple[list[Rows], list[Rows]]:
        """Return what was held: what is ready at a clock (that of its kind), and what is not."""
        held, self._held = self._held, []
        late = [(one.rows, ready_ns(one.rows) <= clock_ns(one.rows)) for one in held]
        return [r.take(m) for r, m in late if m.any()], [r.take(~m) for r, m in late if not m.all()]

    def shown(self, rows: Rows) -> Rows:
        """Return rows with the symbols numbered as the tape has them now."""
        return renumbered(rows, self._places)


def places(symbols: Sequence[str], among: Sequence[str]) -> Ints:
    """Return where each of some symbols stands among others, -1 for those that don't."""
    place = {name: number for number, name in enumerate(among)}
    return np.array([place.get(name, -1) for name in symbols], np.int32)
