"""Rows of many frames as columns of one insert."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.records import Frame, Ints, Longs
from sinks.native import Column, Texts, taken
from sinks.store import Store
from sinks.vocabulary import Vocabulary
from streams.finals import corrections, known_ns

__all__ = ["GENERATION_BITS", "Pair", "Rows", "Sessions", "by_symbol", "version_of"]

Pair: TypeAlias = tuple[Frame, Any]
"""A frame and its columns of one kind, at least one row."""

GENERATION_BITS = 44
"""Row numbers stay below 2^44, 17 million million; above them counts the generation."""


def version_of(generation: int, number: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the order of delivery of rows, or of frames, by their numbers in a shard."""
    return np.uint64(generation << GENERATION_BITS) + number.astype(np.uint64)


class Sessions:
    """Bounds of the sessions that are known, by label."""

    def __init__(self) -> None:
        self.bounds: dict[str, tuple[int, int]] = {}

    def load(self, store: Store) -> None:
        """Take those of the store."""
        self.bounds = {
            str(label): (int(open_ns), int(close_ns))
            for label, open_ns, close_ns in store.rows(_SESSIONS)
        }

    def learn(self, frame: Frame) -> None:
        """Take that of a frame."""
        if frame.session:
            self.bounds[frame.session] = (frame.open_ns, frame.close_ns)

    def codes(self, frame: Frame, ts_ns: Longs, labels: Vocabulary) -> Ints:
        """Return, per row, the code of its session: the frame's, save for corrections of earlier.

        A row outside the frame's session belongs to the one that it lies in, if that is known. One
        at the very close of a session lies in it, unless the next one opens then.
        """
        found = np.full(len(ts_ns), labels.code(frame.session), np.int32)
        if int(ts_ns.min()) >= frame.open_ns and int(ts_ns.max()) <= frame.close_ns:
            return found
        astray = (ts_ns < frame.open_ns) | (ts_ns > frame.close_ns)
        for label, (open_ns, close_ns) in sorted(self.bounds.items(), key=itemgetter(1)):
            inside = astray & (ts_ns >= open_ns) & (ts_ns <= close_ns)
            if inside.any():
                found[inside] = labels.code(label)
        return found


_SESSIONS = """
SELECT session, max(open_ns), max(close_ns) FROM frames WHERE session != '' GROUP BY session
"""


class Rows:
    """Rows of one kind of some frames, end to end.

    Parameters
    ----------
    pairs
        Frames, at least one, each with its columns of that kind, at least one row.
    symbols
        Where the symbols get their numbers; it outlives the batch.
    """

    def __init__(self, pairs: Sequence[Pair], symbols: Vocabulary) -> None:
        self.pairs = pairs
        self._vocabulary = symbols
        self._counts = [len(group) for _, group in pairs]
        self.symbol = np.concatenate([symbols.codes(f.symbols)[g.symbol] for f, g in pairs])
        self.symbols = Texts(symbols.texts, self.symbol)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.symbol)

    def values(self, *names: str) -> dict[str, Column]:
        """Return columns by the names that they have in the frames."""
        return {name: self.column(name) for name in names}

    def column(self, name: str) -> NDArray[Any]:
        """Return a column by the name that it has in the frames."""
        return np.concatenate([getattr(group, name) for _, group in self.pairs])

    def ranks(self) -> NDArray[np.uint16] | Ints:
        """Return the place of each row's symbol among all, sorted."""
        found: NDArray[np.uint16] | Ints = self._vocabulary.ranks()[self.symbol]
        return found

    def is_late(self) -> NDArray[np.bool_]:
        """Return which rows are corrections."""
        return np.concatenate(
            [corrections(f.slice_rows, f.slice_corrections)[g.row] for f, g in self.pairs]
        )

    def sources(self, sources: Vocabulary) -> Texts:
        """Return the source of each row."""
        codes = [sources.codes(f.sources)[g.source] for f, g in self.pairs]
        return Texts(sources.texts, np.concatenate(codes))

    def conditions(self, conditions: Vocabulary) -> Texts:
        """Return the conditions of each row, of ticks; -1 where it has none."""
        # The number behind the last is that of none, for which -1 stands.
        codes = [np.append(conditions.codes(g.conditions), -1)[g.condition] for _, g in self.pairs]
        return Texts(conditions.texts, np.concatenate(codes).astype(np.int32))

    def sessions(self, sessions: Sessions) -> Texts:
        """Return the label of the session that each row lies in."""
        labels = Vocabulary()
        codes = [sessions.codes(f, g.ts_ns, labels) for f, g in self.pairs]
        return Texts(labels.texts, np.concatenate(codes))

    def numbers(self) -> Longs:
        """Return the number of each row in its shard."""
        found: Longs = np.concatenate([f.first_row + g.row.astype(np.int64) for f, g in self.pairs])
        return found

    def known_ns(self) -> Longs:
        """Return the session clock at which each row was delivered."""
        return np.concatenate(
            [known_ns(f.slice_ns, f.slice_rows, g.row, len(g)) for f, g in self.pairs]
        )

    def delivery(self) -> dict[str, Column]:
        """Return when and where each row was delivered: what keys the tables of what was known."""
        return {
            "run": self.texts_of(lambda frame: frame.run),
            "shard": self.numbers_of(lambda frame: frame.shard, np.int32),
            "row_number": self.numbers(),
            "known_ns": self.known_ns(),
        }

    def numbers_of(self, value: Callable[[Frame], int], dtype: type[Any]) -> NDArray[Any]:
        """Return, per row, a number of its frame."""
        return np.repeat(np.array([value(f) for f, _ in self.pairs], dtype), self._counts)

    def texts_of(self, value: Callable[[Frame], str]) -> Texts:
        """Return, per row, a text of its frame."""
        texts = Vocabulary()
        codes = np.array([texts.code(value(f)) for f, _ in self.pairs], np.int32)
        return Texts(texts.texts, np.repeat(codes, self._counts))


def by_symbol(rows: Rows, symbols: Vocabulary, columns: dict[str, Column]) -> dict[str, Column]:
    """Return columns in the order of their symbols, in which the tables of final state are kept.

    ClickHouse compares the symbols as texts when it sorts; here it is a radix sort.
    """
    order = np.argsort(symbols.ranks()[rows.symbol], kind="stable")
    return {name: taken(column, order) for name, column in columns.items()}
