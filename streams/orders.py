"""The stable order of rows by small numbers, such as their symbols'."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["order_by"]

_MOST_FOR_DIGITS = 1 << 16


def order_by(numbers: NDArray[Any], bound: int) -> NDArray[np.intp]:
    """Return the positions of some numbers, shape (n,), ascending; equal ones as they stand.

    Parameters
    ----------
    numbers
        Integers in [0, ``bound``).
    bound
        Up to 65,536 they are sorted by their digits, which takes numpy a tenth of the time.
    """
    return np.argsort(
        numbers.astype(np.uint16) if bound <= _MOST_FOR_DIGITS else numbers, kind="stable"
    )
