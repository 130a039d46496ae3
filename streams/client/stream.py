"""SessionStream: subscribe to the tape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streams import settings as settings_module
from streams.client.batch import Batch, Position, Slice
from streams.client.data import SessionData
from streams.client.merging import Merger
from streams.client.reader import Reader, Start, first_offsets
from streams.errors import ConfigError
from streams.positions import FrameReader
from streams.settings import Settings

__all__ = ["BarRow", "SessionStream"]

KINDS = frozenset({"bars", "quotes", "ticks"})


@dataclass(frozen=True, slots=True)
class BarRow:
    """One bar as it came: plain values.

    Attributes
    ----------
    symbol
        Its symbol.
    ts_ns, interval_ns
        Start and length, ns; the start since the epoch, UTC.
    open, high, low, close, volume
        Its values.
    known_ns
        Session clock at which it was known.
    revision
        0 when first delivered, counted up by corrections.
    is_correction
        Whether it was delivered behind the clock.
    session
        Label of its session.
    """

    symbol: str
    ts_ns: int
    interval_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    known_ns: int
    revision: int
    is_correction: bool
    session: str


class SessionStream:
    """The tape of a namespace, all shards merged in one order, each row exactly once.

    Iterate `frames`, `slices` or `rows` (or ``aframes``, ``aslices``, ``arows`` under asyncio);
    the stream itself iterates slices. ``data`` is the state of the session at what was given out.

    Parameters
    ----------
    namespace
        Default: that of the settings.
    symbols
        ``"*"`` for all, a glob such as ``"BTC*"``, or a list of names.
    kinds
        Of ``bars``, ``quotes`` and ``ticks``.
    start
        ``"session"``: the open of the running session; ``"first"``: the first frame that is still
        kept; ``"now"``: only what comes; a time in ns: the first slice at or behind it; a position
        of an earlier stream, or an offset a shard.
    run
        Only this run.
    until
        ``"end"``: iteration is over at the end of the run; ``"never"``; ``"idle"``: over when it
        has given out what was there at the start.
    data
        The replica it feeds; default its own.
    settings, bootstrap_servers
        Default: the settings of the process.
    group
        Group for `commit`; none by default.
    reader
        Where frames come from; default the brokers.

    Raises
    ------
    ConfigError
        A kind, start or end that is none; no broker is known.
    TopicError
        The namespace has no tape.
    """

    def __init__(
        self,
        namespace: str | None = None,
        *,
        symbols: str | Sequence[str] = "*",
        kinds: Sequence[str] = ("bars",),
        start: Start = "session",
        run: str | None = None,
        until: str = "end",
        data: SessionData | None = None,
        settings: Settings | None = None,
        bootstrap_servers: str | None = None,
        group: str = "",
        reader: Reader | None = None,
    ) -> None:
        if unknown := set(kinds) - KINDS:
            msg = f"kinds are bars, quotes and ticks, not {', '.join(sorted(unknown))}"
            raise ConfigError(msg)
        if until not in ("end", "never", "idle"):
            msg = f"a stream goes on until end, never or idle, not {until!r}"
            raise ConfigError(msg)
        self.data = SessionData() if data is None else data
        self._patterns = (symbols,) if isinstance(symbols, str) else tuple(symbols)
        self._has_glob = isinstance(symbols, str)
        self._kinds = frozenset(kinds)
        self._until = until
        self._from_ns = start if isinstance(start, int) else 0
        self._mask: tuple[tuple[str, ...], NDArray[np.bool_]] = ((), np.zeros(0, bool))
        self._is_over = False
        self._is_closed = False
        if reader is None:
            reader = _broker_reader(settings, namespace, bootstrap_servers, group)
        self._reader = reader
        try:
            last = reader.last()
            offsets = first_offsets(start, reader, last)
            self._target = {s: d.offset for s, d in last.items() if d and d.offset >= offsets[s]}
            reader.assign(offsets)
        except BaseException:
            reader.close()
            raise
        self.data.caught_up = not self._target
        self._is_over = until == "idle" and not self._target
        position = start if isinstance(start, Position) else Position(offsets)
        self._merger = Merger(
            len(last), position, align=start in ("session", "now"), run=run or ""
        )

    @property
    def position(self) -> Position:
        """Where to go on behind what was given out: store it with your own results."""
        return self._merger.position if self._given is None else self._given

    _given: Position | None = None

    @property
    def has_caught_up(self) -> bool:
        """Whether all that was on the tape at the start was given out."""
        return self.data.caught_up

    def frames(self, timeout_s: float | None = None) -> Iterator[Batch]:
        """Give batches in order; stop after ``timeout_s`` without one (None: wait for ever)."""
        waited = 0.0
        step = 1.0 if timeout_s is None else min(max(timeout_s, 0.0), 1.0)
        while not self._is_over and not self._is_closed:
            batches = self.poll(step)
            yield from self._handed(batches)
            waited = 0.0 if batches else waited + step
            if timeout_s is not None and waited >= timeout_s:
                return

    def poll(self, timeout_s: float = 0.0) -> list[Batch]:
        """Return the batches that are out by now, after waiting up to ``timeout_s`` for some.

        ``data`` and ``position`` move when a batch is handed on: call `take` on each.
        """
        delivered = self._reader.poll(timeout_s)
        found: list[Batch] = []
        for number, one in enumerate(delivered, 1):
            self._merger.add(one.frame, one.offset)
            target = self._target.get(one.frame.shard)
            if target is not None and one.offset >= target:
                del self._target[one.frame.shard]
            if number % self._merger.shards == 0 or number == len(delivered):
                found += self._merger.drain()
        return [batch for one in found if (batch := self._chosen(one)) is not None]

    def take(self, batch: Batch) -> Batch:
        """Feed ``data`` with a batch of `poll` and move ``position`` behind it; return it."""
        self.data.apply(batch)
        self._given = batch.position
        if batch.event == "end" and self._until == "end":
            self._is_over = True
        return batch

    def _handed(self, batches: Sequence[Batch]) -> Iterator[Batch]:
        for number, batch in enumerate(batches, 1):
            if number == len(batches):
                self._mark()
            yield self.take(batch)
            if self._is_over and self._until == "end":
                return
        if not batches:
            self._mark()

    def _mark(self) -> None:
        """Note whether all that was there at the start is out with this batch."""
        if not self._target:
            self.data.caught_up = True
            self._is_over = self._is_over or self._until == "idle"

    def slices(self, timeout_s: float | None = None) -> Iterator[Slice]:
        """Give slices in order, each when it is complete."""
        for batch in self.frames(timeout_s):
            yield from batch.slices()

    def rows(self, timeout_s: float | None = None) -> Iterator[BarRow]:
        """Give bars one by one, in order."""
        for batch in self.frames(timeout_s):
            yield from bar_rows(batch)

    def __iter__(self) -> Iterator[Slice]:
        """Give slices in order."""
        return self.slices()

    async def aframes(self, timeout_s: float | None = None) -> AsyncIterator[Batch]:
        """Give batches in order; waiting happens on another thread, ``data`` moves on this one."""
        waited = 0.0
        step = 0.2 if timeout_s is None else min(max(timeout_s, 0.0), 0.2)
        while not self._is_over and not self._is_closed:
            batches = await self._apoll(step)
            for batch in self._handed(batches):
                yield batch
            waited = 0.0 if batches else waited + step
            if timeout_s is not None and waited >= timeout_s:
                return

    async def _apoll(self, timeout_s: float) -> list[Batch]:
        """Poll on a thread; a cancelled reader still waits for it, so no frame is lost."""
        polling = asyncio.ensure_future(asyncio.to_thread(self.poll, timeout_s))
        try:
            return await asyncio.shield(polling)
        except asyncio.CancelledError:
            for batch in await polling:
                self._late.append(batch)
            raise

    async def aslices(self, timeout_s: float | None = None) -> AsyncIterator[Slice]:
        """Give slices in order, each when it is complete."""
        async for batch in self.aframes(timeout_s):
            for found in batch.slices():
                yield found

    async def arows(self, timeout_s: float | None = None) -> AsyncIterator[BarRow]:
        """Give bars one by one, in order."""
        async for batch in self.aframes(timeout_s):
            for row in bar_rows(batch):
                yield row

    def __aiter__(self) -> AsyncIterator[Slice]:
        """Give slices in order."""
        return self.aslices()
