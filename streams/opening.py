"""Whether a session may open, and what is to be said of it then: pure."""

from __future__ import annotations

from collections.abc import Sequence

from streams.buffer import SessionBuffer
from streams.intervals import SECOND_NS
from streams.ledger import Ledger

__all__ = ["TIMED_OUT", "names", "why_incomplete"]

TIMED_OUT = "nothing came for"


def why_incomplete(
    buffer: SessionBuffer, ledger: Ledger | None, waited_ns: int, timeout_s: float
) -> str | None:
    """Return why a session opens incomplete, empty where it is complete; None: it waits.

    Parameters
    ----------
    buffer, ledger
        What came of it, and what is known of minutes without a bar.
    waited_ns
        Wall time since anything came.
    timeout_s
        So long it waits.
    """
    if buffer.is_covered and (ledger is None or ledger.is_settled):
        silent = buffer.unknown if ledger is None else ledger.silent(buffer.unknown)
        others = buffer.unknown_others
        said = [names(silent)] if silent else []
        said += [f"{stream} of {names(symbols)}" for stream, symbols in others.items()]
        return f"no source can say: {'; '.join(said)}" if said else ""
    if waited_ns < timeout_s * SECOND_NS:
        return None
    what = f"no coverage of {names(buffer.uncovered)}"
    if buffer.is_covered and ledger is not None:
        what = f"gaps of {names(ledger.unsettled)} are open"
    return f"{TIMED_OUT} {waited_ns / SECOND_NS:.0f} s; {what}"


def names(symbols: Sequence[str]) -> str:
    """Return symbols for people: the first few, and how many more."""
    first = ", ".join(symbols[:5])
    return first if len(symbols) <= 5 else f"{first} and {len(symbols) - 5} more"
