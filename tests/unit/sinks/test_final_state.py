"""The final state of quotes and ticks: what the store has is what readers get and digests tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.places import Places
from streams import Digest, SessionStream
from streams.certificate import Certifier
from streams.client import Batch
from streams.digest import VALUES
from tests.frames import Day, MemoryReader, Tape, full_day
from tests.points import busy, busy_days, point, point_tape
from tests.unit.sinks.ticking import Kept

KINDS: tuple[Literal["quotes", "ticks"], ...] = ("quotes", "ticks")


def told(columns: Any, at: int, symbols: Sequence[str], sources: Sequence[str]) -> tuple[Any, ...]:
    """Return a row as a value."""
    condition = ""
    if hasattr(columns, "condition"):
        condition = (*columns.conditions, "")[columns.condition[at]]
    values = VALUES["ticks" if hasattr(columns, "condition") else "quotes"]
    return (
        *(int(columns.ts_ns[at]), symbols[columns.symbol[at]], sources[columns.source[at]]),
        *(float(getattr(columns, name)[at]) for name in values),
        *(condition, int(columns.sequence[at]), int(columns.revision[at])),
    )


def stored(tape: Tape, kind: Literal["quotes", "ticks"], cuts: Iterable[int]) -> list[Any]:
    """Return the final rows of a store that took the tape in batches, by time, symbol, source."""
    kept = Kept(kind)
    places = Places(kept.load)
    frames = sorted(
        (item for shard in tape.frames for item in shard),
        key=lambda item: (item.frame.frame, item.frame.shard),
    )
    edges = sorted({0, *(cut for cut in cuts if cut < len(frames)), len(frames)})
    for start, end in pairwise(edges):
        kept.take(places, frames[start:end])
    rows = {}
    for frame in (item.frame for item in frames):
        columns = getattr(frame, kind)
        for at, row in enumerate(columns.row.tolist() if columns else ()):
            number = (frame.run, frame.shard, frame.first_row + row)
            rows[number] = told(columns, at, frame.symbols, frame.sources)
    found = [(rows[number], place) for (_, place), number in kept.final().items()]
    return [row for row, _ in sorted(found, key=lambda one: (one[0][:3], one[1]))]


def batches(tape: Tape, view: str) -> list[Batch]:
    reader = MemoryReader(tape)
    more: dict[str, Any] = {"view": view, "kinds": ("bars", *KINDS), "start": "first"}
    return [*SessionStream(reader=reader, **more).frames()]


def final(tape: Tape, kind: str) -> Iterator[Any]:
    for batch in batches(tape, "as_final"):
        columns = getattr(batch, kind)
        for at in range(0 if columns is None else len(columns)):
            yield told(columns, at, batch.symbols, batch.sources)


def proofs(found: Sequence[Batch]) -> tuple[str, list[Any]]:
    """Return the digest of the final state, and the cells of the certificate that are of it."""
    digest, certifier = Digest(), Certifier()
    for batch in found:
        digest.add(batch)
        certifier.add(batch)
    cells = certifier.certificate().cells
    of_final = [(key, cells[key].minute.tolist(), cells[key].final.tolist()) for key in cells]
    return digest.final(), of_final


@settings(max_examples=60, deadline=None)
@given(
    days=busy_days(),
    shards=st.integers(1, 3),
    cuts=st.lists(st.integers(1, 12), max_size=5),
    batch_cuts=st.lists(st.integers(1, 40), max_size=8),
)
def test_store_readers_and_digests_have_one(
    days: list[Day], shards: int, cuts: list[int], batch_cuts: list[int]
) -> None:
    tape = point_tape(days, shards, dict.fromkeys(range(shards), cuts))
    for kind in KINDS:
        assert [*final(tape, kind)] == stored(tape, kind, batch_cuts)
    assert proofs(batches(tape, "as_final")) == proofs(batches(tape, "as_known"))


@pytest.mark.parametrize("shards", [1, 2])
def test_sources_of_other_frames_are_told_apart_by_name(shards: int) -> None:
    one = point(5, "S000", 1.0, 1.0, source="other", number=0)
    two = replace(one, source="hand", values=(2.0, 1.0))
    first = replace(one, source="first", ts_ns=one.ts_ns + 1, known_ns=one.ts_ns + 1)
    mended = replace(one, values=(3.0, 1.0), revision=1, is_late=True, known_ns=one.ts_ns + 2)
    # Each slice is a frame of its own: what a source is counted as differs between them.
    tape = point_tape(
        [busy(full_day(3, 2), [two, one, first, mended])],
        shards,
        dict.fromkeys(range(shards), range(9)),
    )
    assert [row[2:4] for row in final(tape, "ticks")] == [
        *(("hand", 2.0), ("other", 3.0), ("first", 1.0))
    ]
    assert stored(tape, "ticks", range(9)) == [*final(tape, "ticks")]
    assert proofs(batches(tape, "as_final")) == proofs(batches(tape, "as_known"))
