"""What tapes made by hand say of minutes: runs for frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas import Minutes
from streams.coverage import Status
from streams.intervals import MINUTE_NS
from tests.frames import Day

__all__ = ["Run", "minutes_of"]


class Run(NamedTuple):
    """Minutes [first, stop) of a symbol, counted from the open, and what is known of them."""

    symbol: str
    first: int
    stop: int
    status: Status
    attempt: int = 0
    request: str = ""


def minutes_of(day: Day, runs: Sequence[Run], *, loaded: bool = False) -> Minutes:
    """Return what a frame says of minutes of a day."""
    requests = tuple(sorted({run.request for run in runs if run.request}))

    def ints(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        return np.array(values, np.int32)

    return Minutes(
        symbols=day.symbols,
        symbol=ints([day.symbols.index(run.symbol) for run in runs]),
        ts_ns=np.array([day.open_ns + run.first * MINUTE_NS for run in runs], np.int64),
        end_ns=np.array([day.open_ns + run.stop * MINUTE_NS for run in runs], np.int64),
        status=ints([run.status for run in runs]),
        attempt=ints([run.attempt for run in runs]),
        request=ints([requests.index(r.request) if r.request else -1 for r in runs]),
        session=day.label,
        loaded=loaded,
        requests=requests,
    )
