"""Options of a source's URI: ``key=value`` pairs, checked."""

from __future__ import annotations

from collections.abc import Iterable

from streams.errors import ConfigError

__all__ = ["Options"]


class Options:
    """The options of one URI.

    Parameters
    ----------
    scheme
        For messages.
    text
        ``key=value`` pairs with ``&`` or ``,`` (``separator``) between; may be empty.
    allowed
        The keys there are.

    Raises
    ------
    ConfigError
        A pair that is none, an unknown key, or a key that stands twice.
    """

    def __init__(
        self, scheme: str, text: str, allowed: Iterable[str], separator: str = "&"
    ) -> None:
        self._scheme = scheme
        self._values: dict[str, str] = {}
        known = tuple(allowed)
        for pair in text.split(separator) if text else ():
            key, equals, value = pair.partition("=")
            if not equals or key not in known or key in self._values:
                what = "stands twice" if key in self._values else "is no option"
                msg = f"{scheme}: {pair!r} {what}: write key=value with {separator!r} between, "
                raise ConfigError(msg + f"keys are {', '.join(known)}")
            self._values[key] = value

    def text(self, key: str, default: str = "") -> str:
        """Return the value of ``key``."""
        return self._values.get(key, default)

    def names(self, key: str) -> tuple[str, ...]:
        """Return the names that stand in ``key`` with + between, sorted, each once."""
        return tuple(sorted(filter(None, set(self.text(key).split("+")))))

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """Return the value of ``key`` as a number from ``low`` to ``high``, both inclusive."""
        text = self._values.get(key)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise self.wrong(key, f"a number from {low:g} to {high:g}")
        return value

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """Return the value of ``key`` as a whole number from ``low`` to ``high``, inclusive."""
        value = self.number(key, default, low, high)
        if value != int(value):
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return int(value)

    def wrong(self, key: str, allowed: str) -> ConfigError:
        """Return the error that says that the value of ``key`` has to be ``allowed``."""
        return ConfigError(f"{self._scheme}: {key}={self._values[key]} has to be {allowed}")
