"""How a process of ours logs: one line a record to stderr, as text for people or as JSON.

A JSON line has ``time``, ``level``, ``logger``, ``event`` and ``namespace``, and what the line
names: ``run=%s`` or ``shard %d`` in its format make the fields ``run`` and ``shard``, and
``%s[%d]@%d`` is a ``topic``, a ``shard`` and an ``offset``. Secrets of the settings and passwords
in addresses stand in neither.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, MutableMapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from streams.settings import Settings

__all__ = ["FORMAT", "fields_of", "log_to_stderr"]

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
"""How most workers log for people."""

_TOKEN = re.compile(
    r"(?P<place>%s\[%d\](?P<at>@%d)?)"
    r"|(?:(?P<key>\b\w+)=|\b(?P<word>run|session|shard|offset|namespace) )?"
    r"%(?:(?P<none>%)|[-#0+ ]*\d*(?:\.\d+)?[a-zA-Z])"
)
_PASSWORD = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]+(?=@)")
_HIDDEN = "***"


def log_to_stderr(settings: Settings, text: str = FORMAT, *, force: bool = False) -> None:
    """Log one line a record to stderr.

    Parameters
    ----------
    settings
        Level, form, namespace and the secrets that are left out.
    text
        Format of a line for people.
    force
        Whether it takes the place of what logs already.
    """
    hide = _hider(_secrets(settings))
    formatter = _Text(text, hide) if settings.log_format == "text" else _json(settings, hide)
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=force)


def fields_of(message: str, values: tuple[Any, ...]) -> dict[str, Any]:
    """Return what a format names before its places, with the values that come there."""
    found: dict[str, Any] = {}
    left = iter(values)
    for token in _TOKEN.finditer(message):
        if token["place"]:
            names = ("topic", "shard", "offset") if token["at"] else ("topic", "shard")
            found.update(zip(names, left, strict=False))
        elif not token["none"]:
            value = next(left, None)
            if name := token["key"] or token["word"]:
                found[name] = value
    return found


class _Text(logging.Formatter):
    def __init__(self, text: str, hide: Callable[[str], str]) -> None:
        super().__init__(text)
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        return self._hide(super().format(record))


def _json(settings: Settings, hide: Callable[[str], str]) -> logging.Formatter:
    """Return the formatter of JSON lines; its library is loaded only where they are wanted."""
    import structlog  # noqa: PLC0415

    def said(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        record: logging.LogRecord = event.pop("_record")
        values = event.pop("positional_args", ())
        named = fields_of(str(record.msg), values) if isinstance(values, tuple) else {}
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event["event"],
            "namespace": settings.namespace,
        }
        if "exception" in event:
            line["exception"] = event["exception"]
        found = line | {name: value for name, value in named.items() if name not in line}
        return {name: _plain(value, hide) for name, value in found.items()}

    chain = [structlog.processors.format_exc_info]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=chain,
        processors=[said, structlog.processors.JSONRenderer(serializer=json.dumps)],
        pass_foreign_args=True,
    )


def _plain(value: object, hide: Callable[[str], str]) -> str | int | float:
    if isinstance(value, bool | int | float):
        return value
    return hide(str(value))


def _secrets(settings: Settings) -> set[str]:
    """Return all that nobody is to read: secret settings, and the store's password."""
    values = [getattr(settings, name) for name in type(settings).model_fields]
    found = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
    password = urlsplit(settings.clickhouse_dsn).password or ""
    return (found | {password, unquote(password)}) - {""}


def _hider(secrets: Iterable[str]) -> Callable[[str], str]:
    # The longest first: one may be a part of another.
    known = "|".join(re.escape(secret) for secret in sorted(secrets, key=len, reverse=True))
    pattern = re.compile(known) if known else None

    def hide(text: str) -> str:
        text = _PASSWORD.sub(_HIDDEN, text) if "://" in text else text
        return pattern.sub(_HIDDEN, text) if pattern else text

    return hide
