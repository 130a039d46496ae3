"""Which symbols and kinds a reader wants."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from streams.client.batch import Batch
from streams.errors import ConfigError

__all__ = ["Choice"]

KINDS = frozenset({"bars", "quotes", "ticks"})


class Choice:
    """Takes out of each batch what a reader wants.

    Parameters
    ----------
    symbols
        ``"*"`` for all, a glob, or a list of names.
    kinds
        Of ``bars``, ``quotes`` and ``ticks``.

    Raises
    ------
    ConfigError
        Another kind.
    """

    def __init__(self, symbols: str | Sequence[str], kinds: Sequence[str]) -> None:
        if unknown := set(kinds) - KINDS:
            msg = f"kinds are bars, quotes and ticks, not {', '.join(sorted(unknown))}"
            raise ConfigError(msg)
        self._glob = symbols if isinstance(symbols, str) else None
        self._names = frozenset() if isinstance(symbols, str) else frozenset(symbols)
        self._kinds = frozenset(kinds)
        self._unwanted = KINDS - self._kinds
        self._known: tuple[str, ...] = ()
        self._mask: NDArray[np.bool_] = np.zeros(0, bool)
        self._chosen: tuple[str, ...] = ()

    def of(self, batch: Batch) -> Batch:
        """Return what is wanted of a batch; the batch itself where that is all of it."""
        has_all_kinds = all(getattr(batch, kind) is None for kind in self._unwanted)
        if self._glob == "*" and has_all_kinds:
            return batch
        if batch.symbols is not self._known and batch.symbols != self._known:
            self._mask = np.array([self._wants(name) for name in batch.symbols], bool)
            self._chosen = tuple(name for name in batch.symbols if self._wants(name))
        self._known = batch.symbols
        return batch.only(self._mask, self._chosen, self._kinds)

    def _wants(self, name: str) -> bool:
        return name in self._names if self._glob is None else fnmatchcase(name, self._glob)
