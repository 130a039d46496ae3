"""Update flags: what has come since a reader last asked."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Protocol

import numpy as np

from streams.client.state import State

__all__ = ["Flags"]

_KINDS = ("bars", "quotes", "ticks")


class _Data(Protocol):
    @property
    def _state(self) -> State: ...


class Flags:
    """Which symbols have got rows since this reader last asked, by kind.

    New rows set a flag, corrections too. Taking the flags of a kind clears them, in one step, for
    this reader alone; rows that come meanwhile are in what is taken next. With a new session those
    of the one before are clear.
    """

    def __init__(self, data: _Data) -> None:
        self._data = data
        self._lock = Lock()
        self._seen = dict.fromkeys(_KINDS, data._state.write)

    def take(self) -> frozenset[str]:
        """Return the symbols with new rows of any kind and clear their flags, in one step."""
        return self._take(_KINDS)

    def bars_updated(self) -> frozenset[str]:
        """Return the symbols with new bars, of any length, and clear their flags, in one step."""
        return self._take(("bars",))

    def quotes_updated(self) -> frozenset[str]:
        """Return the symbols with new quotes and clear their flags, in one step."""
        return self._take(("quotes",))

    def ticks_updated(self) -> frozenset[str]:
        """Return the symbols with new ticks and clear their flags, in one step."""
        return self._take(("ticks",))

    def _take(self, kinds: tuple[str, ...]) -> frozenset[str]:
        with self._lock:
            state = self._data._state
            found = {name for kind in kinds for name in _written(state, kind, self._seen[kind])}
            self._seen.update(dict.fromkeys(kinds, state.write))
            return frozenset(found)


def _written(state: State, kind: str, since: int) -> Iterator[str]:
    """Give the symbols that a write behind ``since`` touched."""
    if kind == "bars":
        for view in state.views.values():
            yield from (view.symbols[i] for i in np.flatnonzero(view.written > since).tolist())
        return
    recent = state.quotes if kind == "quotes" else state.ticks
    names = [*recent.place]  # in the order of their places
    yield from (names[i] for i in np.flatnonzero(recent.written > since).tolist())
