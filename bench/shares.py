"""How times are spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["shares"]


def shares(ms: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and max of times in ms, at least one."""
    p50, p99 = np.percentile(ms, (50, 99))
    return {name: round(float(v), 2) for name, v in (("p50", p50), ("p99", p99), ("max", max(ms)))}
