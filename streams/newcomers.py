"""Grids over symbols that come and go in mid-session: pure.

What becomes known of a symbol's minutes is told while it joins, before frames list it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from schemas.records import Minutes
from streams.coverage import Grid

__all__ = ["of_symbols", "with_symbols"]


def of_symbols(minutes: Minutes, names: Collection[str]) -> Minutes:
    """Return what is said of some symbols."""
    wanted = [number for number, name in enumerate(minutes.symbols) if name in names]
    return minutes.take(np.isin(minutes.symbol, wanted))


def with_symbols(grid: Grid, symbols: Sequence[str], said: Iterable[Minutes]) -> Grid:
    """Return a grid over other symbols, with what was said of new ones before they were listed.

    Parameters
    ----------
    grid
        The grid; what it knows of symbols in both goes along.
    symbols
        The other symbols.
    said
        All that was said of minutes of the session, in order.
    """
    found = grid.renamed(symbols)
    if fresh := set(found.symbols).difference(grid.symbols):
        for minutes in said:
            found.apply(of_symbols(minutes, fresh))
    return found
