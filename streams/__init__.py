"""sessiontape: a market-data session platform on Kafka.

``from streams import SessionStream, SessionData`` is all a subscriber imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.client import (
        BarRow,
        Batch,
        Position,
        QuoteRow,
        SessionData,
        SessionStream,
        Slice,
        TickRow,
        get_session_data,
        recorded,
        reset_session_data,
    )
    from streams.controls import Controls
    from streams.digest import Digest
    from streams.errors import SessiontapeError
    from streams.standing import TapeState

__all__ = [
    "BarRow",
    "Batch",
    "Controls",
    "Digest",
    "Position",
    "QuoteRow",
    "SessionData",
    "SessionStream",
    "SessiontapeError",
    "Slice",
    "TapeState",
    "TickRow",
    "get_session_data",
    "recorded",
    "reset_session_data",
]

_ELSEWHERE = {
    "Controls": "streams.controls",
    "Digest": "streams.digest",
    "SessiontapeError": "streams.errors",
    "TapeState": "streams.standing",
}


def __getattr__(name: str) -> Any:
    # At first use: the workers import modules of this package and need no subscriber.
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(_ELSEWHERE.get(name, "streams.client")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
