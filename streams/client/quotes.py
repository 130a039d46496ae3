"""The last quote of each symbol."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from schemas import Quote, QuoteColumns

__all__ = ["Quotes"]


class Quotes:
    """Written by one thread; ``latest`` is replaced whole, so readers need no lock."""

    def __init__(self) -> None:
        self.latest: Mapping[str, Quote] = {}

    def take(self, symbols: tuple[str, ...], quotes: QuoteColumns) -> None:
        """Take quotes in, in order; one older than what is here stays out."""
        latest = dict(self.latest)
        last = len(quotes) - 1
        _, from_end = np.unique(quotes.symbol[::-1], return_index=True)
        for at in (last - from_end).tolist():
            name = symbols[quotes.symbol[at]]
            quote = Quote(
                symbol=name,
                ts_ns=int(quotes.ts_ns[at]),
                bid=float(quotes.bid[at]),
                bid_size=float(quotes.bid_size[at]),
                ask=float(quotes.ask[at]),
                ask_size=float(quotes.ask_size[at]),
                revision=int(quotes.revision[at]),
            )
            if name not in latest or latest[name].ts_ns <= quote.ts_ns:
                latest[name] = quote
        self.latest = latest
