"""Lengths of bars: ``1m``, ``5m``, ``1h``, ``1d`` as text, nanoseconds inside."""

from __future__ import annotations

import re

from streams.errors import ConfigError

__all__ = ["MINUTE_NS", "SECOND_NS", "interval_name", "interval_ns"]

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
_UNITS = {"s": SECOND_NS, "m": MINUTE_NS, "h": 60 * MINUTE_NS, "d": 1440 * MINUTE_NS}
_FORM = re.compile(r"([1-9][0-9]{0,5})([smhd])")


def interval_ns(interval: str | int) -> int:
    """Return the length in ns of ``"5m"``, or of ``5``, which counts minutes.

    Raises
    ------
    ConfigError
        Not a whole number of seconds, minutes, hours or days above 0.
    """
    if isinstance(interval, int):
        interval = f"{interval}m"
    match = _FORM.fullmatch(interval)
    if not match:
        msg = f"{interval!r} is no interval: write 1s, 1m, 5m, 1h or 1d"
        raise ConfigError(msg)
    return int(match[1]) * _UNITS[match[2]]


def interval_name(length_ns: int) -> str:
    """Return the shortest way to write a length of ``length_ns``: 60 s is ``1m``."""
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(length_ns, _UNITS[unit])
        if rest == 0 and count > 0:
            return f"{count}{unit}"
    msg = f"{length_ns} ns is no whole number of seconds"
    raise ConfigError(msg)
