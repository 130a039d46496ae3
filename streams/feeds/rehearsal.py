"""What a rehearsal makes of a session that a feed plays back: pure.

Rows are dropped, come twice, in another order, later, or wrong at first and right in the end; the
connection goes and comes, symbols fall silent. Whoever takes each row in its highest revision,
asks for the time away, for the bars of the minutes before it and for what is missing, has the
session as it was.

What is on its way when the connection goes comes when it is back; rows that became ready meanwhile
never come, nor does what sets a bar right that was heard of shortly before, if the source has it at
the first question. See ``streams.sources.rehearsal`` for how much of what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from schemas.records import BarBlock, Ints, Longs
from streams.feeds.protocol import EARLIER_NS
from streams.feeds.script import Cue, Script, Window, ready_ns
from streams.intervals import SECOND_NS
from streams.sources.protocol import Block
from streams.sources.rehearsal import Spec

__all__ = ["rehearsed"]

Mask = NDArray[np.bool_]
Places = NDArray[np.intp]

FIRST, AGAIN, FINAL = range(3)
DISORDER_NS = SECOND_NS
"""A row comes behind the one that follows it only if that comes so soon."""


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """What is given, one value a row of it: which row, when, whether it is held, as what."""

    row: Places
    due_ns: Longs
    is_held: Mask
    turn: Ints

    def take(self, index: Places | Mask) -> _Given:
        return _Given(self.row[index], self.due_ns[index], self.is_held[index], self.turn[index])


def rehearsed(spec: Spec, script: Script) -> Script:
    """Return a session with the faults of a rehearsal."""
    session = script.session
    span = session.open_ns, session.close_ns
    away = spec.away(session)
    dead = {name: tuple(spec.silence(name, *span)) for name in script.symbols}
    cues = {stream: _spoilt(spec, cue, span, away) for stream, cue in script.cues.items()}
    return replace(
        script,
        cues={stream: cue for stream, cue in cues.items() if len(cue.rows)},
        away=away,
        dead={name: windows for name, windows in dead.items() if windows},
    )


def _spoilt(spec: Spec, cue: Cue, span: tuple[int, int], away: Sequence[Window]) -> Cue:
    rows, (open_ns, close_ns) = cue.rows, span
    ready = ready_ns(rows)
    delayed = spec.hits("delay", rows, spec.delay.often)
    late = spec.hits("late", rows, spec.late.often) & ~delayed
    due = ready + delayed * spec.delay.length_ns + late * spec.late.length_ns
    due = np.minimum(due, close_ns)
    kept = ~(spec.hits("drop", rows, spec.drop) | spec.silenced(rows, open_ns, close_ns))
    order = np.argsort(due, kind="stable")
    first = _Given(order, due[order], delayed[order], np.zeros(len(order), np.int32))
    first = _disordered(first.take(kept[order]), spec, rows)
    again = first.take(spec.hits("duplicate", rows, spec.duplicate)[first.row])
    given = [first, replace(again, turn=np.full(len(again.row), AGAIN, np.int32))]
    if isinstance(rows, BarBlock):
        final = first.take(spec.hits("revise", rows, spec.revise.often)[first.row])
        due = np.minimum(final.due_ns + spec.revise.length_ns, close_ns)
        turn = np.full(len(final.row), FINAL, np.int32)
        given.append(_Given(final.row, due, np.zeros(len(turn), np.bool_), turn))
    answered = _is_answered(spec, rows)
    return _cue(spec, rows, _without_connection(_joined(given), ready, away, answered))


def _disordered(given: _Given, spec: Spec, rows: Block) -> _Given:
    """Return the same with a share of rows behind the one that follows it."""
    if len(given.row) < 2:
        return given
    hit = spec.hits("disorder", rows, spec.disorder)[given.row]
    following = np.append(given.due_ns[1:], given.due_ns[-1])
    hit &= following - given.due_ns <= DISORDER_NS
    is_later = hit & (following > given.due_ns)
    due = np.where(hit, following, given.due_ns)
    place = 2 * np.arange(len(hit)) + 3 * hit
    changed = replace(given, due_ns=due, is_held=given.is_held | is_later)
    return changed.take(np.lexsort((place, due)))


def _joined(given: Sequence[_Given]) -> _Given:
    """Return all of it in the order in which it is given; of one moment the final rows last."""
    whole = _Given(
        row=np.concatenate([some.row for some in given]),
        due_ns=np.concatenate([some.due_ns for some in given]),
        is_held=np.concatenate([some.is_held for some in given]),
        turn=np.concatenate([some.turn for some in given]),
    )
    return whole.take(np.lexsort((whole.turn, whole.due_ns)))


def _without_connection(
    given: _Given, ready: Longs, away: Sequence[Window], is_answered: Mask
) -> _Given:
    """Return what is given with these losses; ``is_answered``, by row, as `_is_answered` says."""
    for window in away:
        came = ready[given.row]
        given = given.take((came <= window.start_ns) | (came >= window.end_ns))
        waits = (given.due_ns > window.start_ns) & (given.due_ns < window.end_ns)
        first = given.row[(given.turn == FIRST) & (given.due_ns <= window.start_ns)]
        is_asked = np.isin(given.row, first) & (ready[given.row] > window.start_ns - EARLIER_NS)
        lost = waits & (given.turn == FINAL) & is_asked & is_answered[given.row]
        given, waits = given.take(~lost), waits[~lost]
        given = replace(given, due_ns=np.where(waits, window.end_ns, given.due_ns))
    return given.take(np.lexsort((given.turn, given.due_ns)))


def _is_answered(spec: Spec, rows: Block) -> Mask:
    """Return which rows the source of a rehearsal gives to whoever asks for the first time."""
    if spec.error:
        return np.zeros(len(rows), np.bool_)
    return ~spec.hits("answer", rows, spec.drop)


def _cue(spec: Spec, rows: Block, given: _Given) -> Cue:
    """Return what is given as rows."""
    found = rows.take(given.row)
    if isinstance(found, BarBlock):
        wrong = spec.hits("revise", found, spec.revise.often) & (given.turn != FINAL)
        found = replace(
            found,
            close=np.where(wrong, found.open, found.close),
            volume=np.where(wrong, found.volume / 2, found.volume),
            revision=(found.revision + (given.turn == FINAL)).astype(np.int32),
        )
    return Cue(found, given.due_ns, given.is_held)
