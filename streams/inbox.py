"""What came in on a shard's raw partition, looked at and put where it belongs: pure.

Messages are put in by one thread and sorted by another; the queue between them is the only thing
both touch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from schemas.records import Bar, Coverage, DataRequest, Halt, Ints, Longs, Record
from streams.arrival import Arrival, AsCame, Clock, Noted, Rejection
from streams.errors import ConfigError
from streams.intervals import interval_ns
from streams.kinds import KINDS, Block, Kind, One, Rows, block_of
from streams.merge import columns_of, faults, ready_ns, renumbered
from streams.plan import Plan
from streams.topics import shard_of

__all__ = ["Inbox"]

Mask: TypeAlias = NDArray[np.bool_]
Wanted: TypeAlias = Callable[[str, Rows], Mask | None]
"""Given the request that rows answer: which of them it may bring; None for all of them."""


class Inbox:
    """Messages of one raw partition, in the order of offsets.

    Parameters
    ----------
    kind
        What rows belong on its topic.
    sources
        Names of the sources, as the source columns of the rows count them; those that are new
        come in behind.
    topic
        The raw topic.
    """

    def __init__(
        self, kind: Kind = KINDS["bars"], sources: list[str] | None = None, topic: str = ""
    ) -> None:
        self.kind = kind
        self.sources: list[str] = [] if sources is None else sources
        self.topic = topic
        self.taken = 0
        """Offset behind which every message has been looked at."""
        self.rejections: list[Rejection] = []
        """What was refused and has not been put on ``rejected`` yet."""
        self._late: list[tuple[Rows, AsCame]] = []
        self._queue: deque[tuple[int, Record | Rejection]] = deque()
        self._held: deque[tuple[int, int]] = deque()
        self._last_put, self._is_placed = -1, False
        self._seen_before = 0
        self._begins = 0

    def __len__(self) -> int:
        """Return the number of messages that nobody has looked at yet."""
        return len(self._queue)

    @property
    def is_behind(self) -> bool:
        """Whether messages that an earlier owner had looked at have not come again yet."""
        return self._last_put + 1 < self._seen_before

    @property
    def next_offset(self) -> int | None:
        """Offset that is to come next; None before anything is known of the partition."""
        return self._last_put + 1 if self._is_placed else None

    def resume(self, keep: int, taken: int) -> None:
        """Expect the messages from ``keep`` on; those before ``taken`` were looked at before."""
        self._last_put, self._is_placed = keep - 1, True
        self._seen_before = self.taken = taken

    def put(self, offset: int, record: Record | Rejection) -> None:
        """Take a message; one from before where we stand is left out."""
        if offset > self._last_put:
            self._queue.append((offset, record))
            self._last_put, self._is_placed = offset, True

    def forget(self) -> None:
        """Begin a new run: what was looked at before it does not belong to it.

        Nor does what an earlier owner had looked at, whether it has come again by now or not.
        """
        self._held.clear()
        self._late = []
        self.sources.clear()
        self._seen_before, self._begins = 0, self.taken

    def rename(self, places: Ints) -> None:
        """Have other symbols from now on; ``places`` are the new numbers by the old ones."""
        late = [(renumbered(rows, places), places[rows.symbol] >= 0, o) for rows, o in self._late]
        self._late = [(rows, o.take(np.flatnonzero(kept))) for rows, kept, o in late if len(rows)]

    def keep(self, clock_ns: int) -> int:
        """Return the first offset that still holds a row or a coverage beyond the clock."""
        held = self._held
        while held and held[0][1] <= clock_ns:
            held.popleft()
        return held[0][0] if held else self.taken

    def pass_over(self, run: str) -> Iterator[Halt]:
        """Leave out what came in, for the run does not play this kind; give the halts among it."""
        while self._queue:
            offset, record = self._queue.popleft()
            self.taken = max(self.taken, offset + 1)
            if isinstance(record, Halt) and record.run in ("", run) and offset >= self._begins:
                yield record

    @property
    def has_late(self) -> bool:
        """Whether rows from behind the clock wait to be taken."""
        return bool(self._late)

    def sort(
        self, plan: Plan, at: Clock, is_wanted: Wanted = lambda _, __: None
    ) -> Iterator[Arrival | Noted]:
        """Look at what came in; give it in the order in which it came, rows by session."""
        ones: list[tuple[int, One]] = []
        while self._queue:
            offset, record = self._queue.popleft()
            if offset < self._begins:
                continue
            if offset == self._seen_before or not isinstance(record, self.kind.one):
                yield from self._sort_ones(ones, plan, at, is_wanted)
                ones = []
            if isinstance(record, self.kind.one):
                ones.append((offset, record))
            else:
                yield from self._sort_one(offset, record, plan, at, is_wanted)
            self.taken = max(self.taken, offset + 1)
        yield from self._sort_ones(ones, plan, at, is_wanted)

    def take_late(self, is_outdone: Callable[[Rows], Mask]) -> list[Rows]:
        """Return the rows from behind the clock that came since the last call, as they came.

        Rows that a later revision, which is out, outdoes are refused.
        """
        pending, self._late = self._late, []
        found = []
        for rows, origin in pending:
            outdone = is_outdone(rows)
            if outdone.any():
                self._refuse_rows(origin, outdone, "a later revision of it is out")
            if not outdone.all():
                found.append(rows.take(~outdone))
        return found

    def refuse(self, came: Arrival, bad: Mask, reason: str) -> None:
        """Refuse rows that were taken before; ``bad`` says which, shape (rows,)."""
        origin = came.origin if came.places is None else came.origin.take(came.places)
        self._refuse_rows(origin, bad, reason)

    def _sort_one(
        self, offset: int, record: Record | Rejection, plan: Plan, at: Clock, is_wanted: Wanted
    ) -> Iterator[Arrival | Noted]:
        if isinstance(record, self.kind.block):
            if record.run in ("", at.run):
                offsets = np.broadcast_to(np.int64(offset), len(record))
                source = np.int32(self._number_of(record.source))
                came = AsCame(offsets, record, source, None)
                yield from self._sort_rows(came, plan, at, is_wanted)
        elif isinstance(record, Coverage | Halt) or self._is_for_gaps(record):
            if record.run in ("", at.run):
                if isinstance(record, Coverage):
                    self._held.append((offset, min(record.end_ns, int(plan.closes[-1]))))
                elif isinstance(record, Halt):  # until the tape says of its minute what became
                    self._held.append((offset, record.ts_ns + plan.interval_ns))
                yield Noted(record, offset >= self._seen_before)
        elif isinstance(record, Rejection):
            self._refuse(replace(record, topic=self.topic))
        else:
            kind = type(record).__name__
            self._refuse(self._rejection(offset, f"a {kind} does not belong on this topic", record))

    def _is_for_gaps(self, record: Record | Rejection) -> TypeGuard[DataRequest]:
        """Tell whether it is the copy of a request for gaps, which are minutes without a bar."""
        is_request = isinstance(record, DataRequest) and record.kind == "gap"
        return is_request and self.kind.one is Bar

    def _sort_ones(
        self, ones: list[tuple[int, One]], plan: Plan, at: Clock, is_wanted: Wanted
    ) -> Iterator[Arrival]:
        """Sort messages of one row each together: one by one each would cost a whole block."""
        good = [(o, one) for o, one in ones if one.run in ("", at.run) and self._is_sound(o, one)]
        if good:
            offsets = np.array([offset for offset, _ in good])
            rows = [one for _, one in good]
            sources = np.array([self._number_of(one.source) for one in rows], np.int32)
            came = AsCame(offsets, block_of(self.kind, rows), sources, rows)
            yield from self._sort_rows(came, plan, at, is_wanted)

    def _is_sound(self, offset: int, one: One) -> bool:
        try:
            if isinstance(one, Bar):
                interval_ns(one.interval)
        except ConfigError as exc:
            self._refuse(self._rejection(offset, str(exc), one))
            return False
        return True

    def _sort_rows(
        self, came: AsCame, plan: Plan, at: Clock, is_wanted: Wanted
    ) -> Iterator[Arrival]:
        rows = columns_of(came.block, plan.numbers, came.sources)
        ready = ready_ns(rows)
        number = np.searchsorted(plan.opens, rows.ts_ns, "right") - 1
        # What an earlier owner looked at is out if it is behind the clock, or was refused then.
        stays = (came.offsets >= self._seen_before) | (ready > at.clock_ns)
        request = came.block.request
        reasons = list(_reasons(came.block, rows, number, plan, at))
        wanted = is_wanted(request, rows) if request else None
        if wanted is not None and plan.is_live:  # what was asked for may have come by itself
            stays &= wanted
        elif wanted is not None:
            reasons.append((f"no minute that is missing, and {request} asks for", ~wanted))
        stays = self._refuse_bad(came, reasons, stays)
        places: NDArray[np.intp] | None = None
        if not stays.all():
            rows, ready, number = rows.take(stays), ready[stays], number[stays]
            places = np.flatnonzero(stays)
        if len(rows) == 0:
            return
        self._hold(came.offsets if places is None else came.offsets[places], ready)
        is_new = int(came.offsets[0]) >= self._seen_before
        arrival = partial(Arrival, request=request, is_new=is_new, origin=came)
        if at.is_open:
            late = (ready <= at.clock_ns) & (number == at.number)
            if late.any():
                found = _among(places, late)
                self._late.append((rows.take(late), came.take(found)))
                behind = self._late[-1][0]
                yield arrival(at.number, behind, is_late=True, places=found)
                places = _among(places, ~late)
                rows, number = rows.take(~late), number[~late]
        first, last = (int(number.min()), int(number.max())) if len(rows) else (0, -1)
        if first == last:
            yield arrival(first, rows, is_late=False, places=places)
            return
        for session in range(first, last + 1):
            mine = number == session
            if mine.any():
                kept = _among(places, mine)
                yield arrival(session, rows.take(mine), is_late=False, places=kept)

    def _refuse_bad(self, came: AsCame, reasons: Iterable[tuple[str, Mask]], stays: Mask) -> Mask:
        """Refuse rows for the first reason that fits; return which of them stay."""
        for reason, mask in reasons:
            bad = mask & stays
            if bad.any():
                stays = stays & ~bad
                self._refuse_rows(came, bad, reason)
        return stays

    def _refuse_rows(self, came: AsCame, bad: Mask, reason: str) -> None:
        """Refuse rows: of a block together, messages of one row one by one."""
        if came.ones is None:
            offset = int(came.offsets[0])
            self._refuse(self._rejection(offset, reason, came.block.take(bad)))
            return
        for row in np.flatnonzero(bad).tolist():
            self._refuse(self._rejection(int(came.offsets[row]), reason, came.ones[row]))

    def _rejection(self, offset: int, reason: str, what: Record) -> Rejection:
        return Rejection(offset, reason, what, self.topic)

    def _refuse(self, rejection: Rejection) -> None:
        if rejection.offset >= self._seen_before:
            self.rejections.append(rejection)

    def _hold(self, offsets: Longs, ready: Longs) -> None:
        if offsets.strides == (0,):
            self._held.append((int(offsets[0]), int(ready.max())))
        else:
            self._held.extend(zip(offsets.tolist(), ready.tolist(), strict=True))

    def _number_of(self, source: str) -> int:
        if source not in self.sources:
            self.sources.append(source)
        return self.sources.index(source)


def _among(places: NDArray[np.intp] | None, mask: Mask) -> NDArray[np.intp]:
    """Return those of some places at which a mask holds; None: of all there are."""
    found = np.flatnonzero(mask)
    return found if places is None else places[found]


def _reasons(
    block: Block, rows: Rows, number: Longs, plan: Plan, at: Clock
) -> Iterable[tuple[str, Mask]]:
    stranger = rows.symbol < 0
    if stranger.any():
        for index in np.unique(block.symbol[stranger]):
            symbol = block.symbols[index]
            if symbol not in plan.everywhere:
                reason = f"symbol {symbol!r} is not one of the run"
            else:
                right = shard_of(symbol, plan.shards)
                reason = f"symbol {symbol!r} belongs in partition {right} of {plan.shards}"
            yield reason, block.symbol == index
    yield from faults(rows).items()
    closes = plan.closes[np.maximum(number, 0)]
    ready = ready_ns(rows)
    outside = (number < 0) | (ready > closes) | (ready < rows.ts_ns)
    yield "the time lies outside every session", outside
    yield "its session is over", number < at.number
    if plan.is_live:
        yield "it is from the future", number > at.number + 1
