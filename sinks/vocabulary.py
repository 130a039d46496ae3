"""Texts by number, as LowCardinality columns want them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.records import Ints

__all__ = ["Vocabulary"]


class Vocabulary:
    """Numbers different texts in the order in which they come."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._codes: dict[str, int] = {}
        self._by_tuple: dict[tuple[str, ...], Ints] = {}
        self._ranks: NDArray[np.uint16] | Ints = np.empty(0, np.uint16)

    def code(self, text: str) -> int:
        """Return the number of one text."""
        found = self._codes.setdefault(text, len(self.texts))
        if found == len(self.texts):
            self.texts.append(text)
        return found

    def codes(self, texts: tuple[str, ...]) -> Ints:
        """Return the numbers of texts; those of a tuple seen lately are at hand."""
        found = self._by_tuple.get(texts)
        if found is None:
            if len(self._by_tuple) >= 64:
                self._by_tuple.clear()
            found = np.fromiter((self.code(t) for t in texts), np.int32, len(texts))
            self._by_tuple[texts] = found
        return found

    def ranks(self) -> NDArray[np.uint16] | Ints:
        """Return the place of each text among all, sorted; 16 bits wide where that does."""
        if len(self._ranks) != len(self.texts):
            order = sorted(range(len(self.texts)), key=self.texts.__getitem__)
            ranks = np.empty(len(order), np.int32)
            ranks[order] = np.arange(len(order), dtype=np.int32)
            self._ranks = ranks.astype(np.uint16) if len(order) <= 1 << 16 else ranks
        return self._ranks
