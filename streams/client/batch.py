"""What a subscriber gets: batches of the merged tape, their slices, the position behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from schemas.records import (
    BarColumns,
    DerivedColumns,
    Ints,
    Longs,
    Minutes,
    QuoteColumns,
    TickColumns,
    empty_ints,
    empty_longs,
)
from streams.finals import known_ns, late_rows
from streams.intervals import MINUTE_NS

__all__ = ["KINDS", "MARKS", "PLACES", "ROWS", "Batch", "DerivedBars", "Position", "Slice"]

KINDS = ("ticks", "quotes", "bars", "derived")
"""The kinds of rows, in their order inside a slice."""

MARKS = ("slice_expected", "slice_received", "slice_no_trade", "slice_missing")
"""The slice-complete marks; those of all shards add up."""

PLACES = {"start": 0, "roll": 1, "open": 2, "rows": 3, "close": 4, "end": 5}
"""The order of the events of a session."""

ROWS = PLACES["rows"]


@dataclass(frozen=True, slots=True, eq=False)
class DerivedBars(DerivedColumns):
    """Derived bars of a batch, in order.

    Attributes
    ----------
    length_ns
        Length that was asked for. ``interval_ns`` is shorter in a bar that the close cut.
    """

    columns: ClassVar[tuple[str, ...]] = (*DerivedColumns.columns, "length_ns")
    length_ns: Longs


@dataclass(frozen=True, slots=True, eq=True)
class Position(Mapping[int, int]):
    """Where to go on: shard to offset, and what of the frames there is already out.

    Store it with the results it belongs to (`as_dict`), give it to ``SessionStream(start=…)``:
    the rows behind it come exactly once.

    Attributes
    ----------
    offsets
        Next offset of every shard: its first frame that is not wholly out.
    clocks
        Of every shard, its clock before that frame and how often a slice came again at it.
    run, session, place, slice_ns, repeat
        The last that is out: event of a session (its place in the order of events) or slice.
    begun
        Shards of which a part of the next frame is out; None: any may be, up to that slice.
    """

    offsets: Mapping[int, int]
    clocks: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    run: str = ""
    session: str = ""
    place: int = -1
    slice_ns: int = 0
    repeat: int = 0
    begun: tuple[int, ...] | None = None

    def __getitem__(self, shard: int) -> int:
        """Return the next offset of a shard."""
        return self.offsets[shard]

    def __iter__(self) -> Iterator[int]:
        """Go over the shards."""
        return iter(self.offsets)

    def __len__(self) -> int:
        """Return the number of shards."""
        return len(self.offsets)

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "offsets": {str(shard): offset for shard, offset in self.offsets.items()},
            "clocks": {str(shard): list(clock) for shard, clock in self.clocks.items()},
            "run": self.run,
            "session": self.session,
            "place": self.place,
            "slice_ns": self.slice_ns,
            "repeat": self.repeat,
            "begun": None if self.begun is None else list(self.begun),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the position that `as_dict` gave."""
        rest = {k: v for k, v in value.items() if k not in ("offsets", "clocks", "begun")}
        begun = value.get("begun")
        return cls(
            offsets={int(shard): int(offset) for shard, offset in value["offsets"].items()},
            clocks={int(shard): (int(c[0]), int(c[1])) for shard, c in value["clocks"].items()},
            begun=None if begun is None else tuple(map(int, begun)),
            **rest,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Everything with one ready time, closed by its mark.

    Attributes
    ----------
    session
        Label of the session.
    ready_ns
        Ready time: the session clock when it is out.
    expected, received, no_trade, missing
        Bars expected over all symbols of the tape; those that came, those a source vouches were
        not traded, the others.
    symbols
        Names that the symbol column counts in.
    bars
        Its bars in order, corrections first; with symbols filtered, theirs only.
    derived
        Its derived bars in order, corrections first; they stand behind the bars.
    corrections
        Number of corrections among its rows.
    """

    session: str
    ready_ns: int
    expected: int
    received: int
    no_trade: int
    missing: int
    symbols: tuple[str, ...]
    corrections: int
    bars: BarColumns | None = None
    quotes: QuoteColumns | None = None
    ticks: TickColumns | None = None
    derived: DerivedBars | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of all shards in global order, and at most one event.

    ``open`` counts before its rows, ``close`` behind them. Columns are as in
    ``schemas/Frame.avsc``, over all shards.

    Attributes
    ----------
    symbols
        Symbols of the session, sorted. Where some are added or removed in mid-session a new batch
        begins, which has those that are listed from there on.
    interval_ns
        Length of the bars that are expected.
    minutes
        What became known of minutes of this session, one a shard and frame: in ``open`` all those
        that have no bar of their own accord, later what changed.
    prefetched
        In ``roll``: whether every shard had the session to come complete before this one closed.
    clock_ns
        Everything with a ready time up to and including it was delivered, by every shard.
    position
        Where to go on behind this batch.
    slice_repeat
        How many slices with its ready time a slice's shard had given out before: corrections
        that came between two slices. Empty: none.
    catching_up
        Whether a live tape was so far behind the wall clock that it is no basis for decisions.
    is_final
        Whether it is all of a session so far in its final state, as ``view="as_final"`` gives the
        past. Its slices are one step of ``position``.
    """

    run: str
    event: str
    mode: str
    session: str
    open_ns: int
    close_ns: int
    clock_ns: int
    position: Position
    incomplete: bool = False
    reason: str = ""
    expected: int = 0
    symbols: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    slice_ns: Longs = field(default_factory=empty_longs)
    slice_rows: Ints = field(default_factory=empty_ints)
    slice_corrections: Ints = field(default_factory=empty_ints)
    slice_expected: Ints = field(default_factory=empty_ints)
    slice_received: Ints = field(default_factory=empty_ints)
    slice_no_trade: Ints = field(default_factory=empty_ints)
    slice_missing: Ints = field(default_factory=empty_ints)
    slice_repeat: Ints = field(default_factory=empty_ints)
    bars: BarColumns | None = None
    quotes: QuoteColumns | None = None
    ticks: TickColumns | None = None
    derived: DerivedBars | None = None
    interval_ns: int = MINUTE_NS
    minutes: tuple[Minutes, ...] = ()
    prefetched: bool = False
    catching_up: bool = False
    is_final: bool = False

    @property
    def rows(self) -> int:
        """Number of rows over all kinds."""
        kinds = (self.bars, self.quotes, self.ticks, self.derived)
        return sum(len(columns) for columns in kinds if columns is not None)

    def known_ns(self, kind: str = "bars") -> Longs:
        """Return the time at which each row of a kind was known: its slice's, shape (rows,).

        ``kind`` is ``bars``, ``quotes``, ``ticks`` or ``derived``.
        """
        columns = getattr(self, kind)
        if columns is None:
            return empty_longs()
        return known_ns(self.slice_ns, self.slice_rows, columns.row, len(columns))

    def late(self, kind: str = "bars") -> NDArray[np.bool_] | None:
        """Return which rows of a kind are corrections, shape (rows,); None if none is."""
        columns = getattr(self, kind)
        if columns is None:
            return None
        return late_rows(self, columns.row)

    def slices(self) -> Iterator[Slice]:
        """Give its slices in order."""
        ends = np.cumsum(self.slice_rows)
        cuts: dict[str, Any] = {}
        for kind in KINDS:
            columns = getattr(self, kind)
            if columns is not None:
                cuts[kind] = (columns, [0, *np.searchsorted(columns.row, ends).tolist()])
        marks = [getattr(self, name).tolist() for name in MARKS]
        corrections = self.slice_corrections.tolist()
        for at, ready_ns in enumerate(self.slice_ns.tolist()):
            rows = {
                kind: columns.take(slice(places[at], places[at + 1]))
                for kind, (columns, places) in cuts.items()
            }
            yield Slice(
                session=self.session,
                ready_ns=ready_ns,
                expected=marks[0][at],
                received=marks[1][at],
                no_trade=marks[2][at],
                missing=marks[3][at],
                symbols=self.symbols,
                corrections=corrections[at],
                **rows,
            )

    def cut(
        self, start: int, end: int, before: Position, rows: tuple[int, int] | None = None
    ) -> Batch:
        """Return slices [start, end) of it; ``before`` is the position in front of them.

        What became known of minutes goes with the last one. ``rows`` are the places of the first
        row and behind the last, where they are known.
        """
        if rows is None:
            rows = (int(self.slice_rows[:start].sum()), int(self.slice_rows[:end].sum()))
        first, stop = rows
        changes: dict[str, Any] = {}
        for kind in KINDS:
            columns = getattr(self, kind)
            if columns is not None:
                at, to = np.searchsorted(columns.row, (first, stop))
                part = columns.take(slice(at, to))
                changes[kind] = replace(part, row=part.row - np.int32(first))
        for name in ("slice_ns", "slice_rows", "slice_corrections", *MARKS, "slice_repeat"):
            changes[name] = getattr(self, name)[start:end]
        if end < len(self.slice_ns):
            clock_ns = int(self.slice_ns[end - 1])
            repeat = int(self.slice_repeat[end - 1]) if len(self.slice_repeat) else 0
            changes["clock_ns"] = clock_ns
            changes["minutes"] = ()
            if not self.is_final:
                reached = (self.run, self.session, ROWS, clock_ns, repeat)
                before = Position(before.offsets, before.clocks, *reached)
            changes["position"] = before
        return replace(self, **changes)

    def only(
        self, wanted: NDArray[np.bool_], symbols: tuple[str, ...], kinds: frozenset[str]
    ) -> Batch:
        """Return the rows of the symbols ``wanted`` (a mask over all) and of some kinds.

        The marks stay those of the whole tape.
        """
        starts = np.cumsum(self.slice_rows) - self.slice_rows
        total = int(self.slice_rows.sum())
        keep = np.zeros(total, bool)
        masks = {}
        for kind in KINDS:
            columns = getattr(self, kind)
            if columns is not None and kind in kinds:
                masks[kind] = wanted[columns.symbol]
                keep[columns.row[masks[kind]]] = True
        before = np.concatenate(([0], np.cumsum(keep)))
        renumber = (np.cumsum(wanted) - 1).astype(np.int32)
        changes: dict[str, Any] = dict.fromkeys(KINDS)
        for kind, mask in masks.items():
            taken = getattr(self, kind).take(np.flatnonzero(mask))
            changes[kind] = replace(
                taken,
                symbol=renumber[taken.symbol],
                row=before[taken.row].astype(np.int32),
            )
        late_ends = starts + self.slice_corrections
        return replace(
            self,
            symbols=symbols,
            slice_rows=(before[starts + self.slice_rows] - before[starts]).astype(np.int32),
            slice_corrections=(before[late_ends] - before[starts]).astype(np.int32),
            **changes,
        )
