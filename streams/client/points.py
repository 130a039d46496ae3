"""What a replica tells of quotes and ticks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streams.client.convert import As, converted
from streams.client.recent import POINTS, Recent, blank_points
from streams.client.state import State

__all__ = ["PointReads"]

_NONE = {kind: blank_points(kind, 0) for kind in POINTS}


class PointReads:
    """Reads of the latest quotes and ticks; see `SessionData`."""

    _state: State

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols in the order of arrays over all of them."""
        raise NotImplementedError

    def get_latest_quote(self, symbol: str) -> Any:
        """Return the last quote of a symbol in this session, None before the first."""
        return _latest(self._state.quotes, symbol)

    def get_latest_tick(self, symbol: str) -> Any:
        """Return the last tick of a symbol in this session, None before the first."""
        return _latest(self._state.ticks, symbol)

    def get_last_n_quotes(self, symbol: str, n: int, *, as_: As = "numpy") -> Any:
        """Return the last ``n`` quotes (or all at hand), ascending, without a copy."""
        return _last(self._state.quotes, "quotes", symbol, n, as_)

    def get_last_n_ticks(self, symbol: str, n: int, *, as_: As = "numpy") -> Any:
        """Return the last ``n`` ticks (or all at hand), ascending, without a copy."""
        return _last(self._state.ticks, "ticks", symbol, n, as_)

    def get_quote_count(self, symbol: str) -> int:
        """Return the number of quotes of a symbol in this session; a revision counts as none."""
        return _count(self._state.quotes, symbol)

    def get_tick_count(self, symbol: str) -> int:
        """Return the number of ticks of a symbol in this session; a revision counts as none."""
        return _count(self._state.ticks, symbol)

    def get_latest_quotes(self, symbols: Sequence[str] | None = None, *, as_: As = "numpy") -> Any:
        """Return the last quote of many symbols as one array, shape (symbols,).

        Parameters
        ----------
        symbols
            Names; default all of the session, in the order of `symbols`. Of one without a quote
            ``ts_ns`` is 0 and the values are NaN.
        """
        names = self.symbols if symbols is None else symbols
        return converted(_latest_of(self._state.quotes, "quotes", names), as_)

    def get_latest_ticks(self, symbols: Sequence[str] | None = None, *, as_: As = "numpy") -> Any:
        """Return the last tick of many symbols as one array, as `get_latest_quotes` does."""
        names = self.symbols if symbols is None else symbols
        return converted(_latest_of(self._state.ticks, "ticks", names), as_)


def _latest(recent: Recent, symbol: str) -> Any:
    at = recent.find(symbol)
    return None if at is None else recent.rows[at][recent.ends[at] - 1]


def _last(recent: Recent, kind: str, symbol: str, n: int, as_: As) -> Any:
    at = recent.find(symbol)
    rows = _NONE[kind] if at is None else recent.last(at, n)
    return rows if as_ == "numpy" else converted(rows, as_)


def _count(recent: Recent, symbol: str) -> int:
    at = recent.find(symbol)
    return 0 if at is None else recent.counts[at]


def _latest_of(recent: Recent, kind: str, symbols: Sequence[str]) -> Any:
    places = [recent.place.get(name, -1) for name in symbols]
    if not recent.place:
        return blank_points(kind, len(places))
    rows = recent.latest[places]
    if -1 in places:
        rows[np.array(places) < 0] = blank_points(kind, 1)
    return rows
