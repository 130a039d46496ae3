"""Which symbols, kinds and lengths of bars a reader wants."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from streams.client.batch import Batch
from streams.errors import ConfigError
from streams.intervals import interval_name, interval_ns

__all__ = ["BASE", "Choice"]

BASE = "1m"
"""Length of the bars that others are derived from."""
_KINDS = frozenset({"bars", "quotes", "ticks"})
_ALL = _KINDS | {"derived"}


class Choice:
    """Takes out of each batch what a reader wants.

    Parameters
    ----------
    symbols
        ``"*"`` for all, a glob, or a list of names.
    kinds
        Of ``bars``, ``quotes`` and ``ticks``.
    intervals
        Lengths of the bars; None: those of the tape, none that are derived.

    Attributes
    ----------
    has_bars
        Whether it takes the bars of the tape.
    derived
        Lengths of the derived bars that it takes, ascending.

    Raises
    ------
    ConfigError
        Another kind, a length that is none, or no length at all.
    """

    def __init__(
        self,
        symbols: str | Sequence[str],
        kinds: Sequence[str],
        intervals: str | Sequence[str | int] | None = None,
    ) -> None:
        if unknown := set(kinds) - _KINDS:
            msg = f"kinds are bars, quotes and ticks, not {', '.join(sorted(unknown))}"
            raise ConfigError(msg)
        self._glob = symbols if isinstance(symbols, str) else None
        self._names = frozenset() if isinstance(symbols, str) else frozenset(symbols)
        lengths = _lengths((BASE,) if intervals is None else intervals)
        self.has_bars = "bars" in kinds and BASE in lengths
        self.derived = tuple(one for one in lengths if one != BASE) if "bars" in kinds else ()
        wanted = set(kinds) if self.has_bars else set(kinds) - {"bars"}
        self._kinds = frozenset(wanted | {"derived"} if self.derived else wanted)
        self._unwanted = _ALL - self._kinds
        self._known: tuple[str, ...] = ()
        self._mask: NDArray[np.bool_] = np.zeros(0, bool)
        self._chosen: tuple[str, ...] = ()

    def of(self, batch: Batch) -> Batch:
        """Return what is wanted of a batch; the batch itself where that is all of it."""
        has_all_kinds = all(getattr(batch, kind) is None for kind in self._unwanted)
        if self._glob == "*" and has_all_kinds:
            return batch
        if batch.symbols is not self._known and batch.symbols != self._known:
            self._mask = np.array([self.wants(name) for name in batch.symbols], bool)
            self._chosen = tuple(name for name in batch.symbols if self.wants(name))
        self._known = batch.symbols
        return batch.only(self._mask, self._chosen, self._kinds)

    def wants(self, name: str) -> bool:
        """Tell whether a symbol is wanted."""
        return name in self._names if self._glob is None else fnmatchcase(name, self._glob)


def _lengths(intervals: str | Sequence[str | int]) -> tuple[str, ...]:
    """Return lengths as their topics write them, each once, ascending."""
    given = (intervals,) if isinstance(intervals, str) else intervals
    lengths = sorted({interval_ns(one) for one in given})
    if not lengths:
        msg = f'a stream has bars of at least one length: intervals=("{BASE}", "5m")'
        raise ConfigError(msg)
    return tuple(interval_name(length) for length in lengths)
