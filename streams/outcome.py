"""Where a replay stands, and what it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from streams.tally import Incomplete

__all__ = ["Progress", "ReplayResult"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a replay stands.

    Attributes
    ----------
    session, clock_ns
        Label of the session that plays; its clock.
    share
        Share of the tape time of the whole run that is played, 0 to 1.
    closed, sessions
        Sessions that are closed, of how many.
    rows, elapsed_s
        Rows so far, in how many seconds since the command.
    """

    session: str
    clock_ns: int
    share: float
    closed: int
    sessions: int
    rows: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay did.

    Attributes
    ----------
    namespace, run
        Where its tape stands.
    sessions
        Sessions that were closed.
    rows
        Rows by kind; ``bars`` is one of them.
    elapsed_s, rows_per_s
        Seconds from the command to the last row in the subscriber's hands, and rows a second.
    gaps_found, gaps_filled, gaps_no_trade, gaps_given_up
        Runs of expected minutes that had no bar of their own accord; those in which every minute
        was filled; those that were answered to the end, and not by rows alone; those in which a
        minute was given up. What is left is open.
    missing_minutes, filled_minutes, no_trade_minutes
        Minutes in all gaps; those that were filled; those a source says had no trade.
    fill_rate
        filled_minutes / (missing_minutes - no_trade_minutes), 0 to 1; None where that is nothing.
    quality
        (bars + no-trade minutes) / expected minutes in %, by symbol.
    prefetch_hit_rate
        Share of rolls at which the session to come was complete before the close of the one
        before, 0 to 1; None without a roll.
    transition_ms
        p50, p99 and max of what a reader waits at a roll; None without a roll.
    digest, digest_as_known
        See ``streams.digest``.
    incomplete
        Sessions that were played without complete coverage.
    rejected
        Messages and rows that could not be taken.
    """

    namespace: str
    run: str
    sessions: int
    rows: dict[str, int]
    bars: int
    elapsed_s: float
    rows_per_s: float
    gaps_found: int
    gaps_filled: int
    gaps_no_trade: int
    gaps_given_up: int
    missing_minutes: int
    filled_minutes: int
    no_trade_minutes: int
    fill_rate: float | None
    quality: dict[str, float]
    prefetch_hit_rate: float | None
    transition_ms: dict[str, float] | None
    digest: str
    digest_as_known: str
    incomplete: tuple[Incomplete, ...]
    rejected: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return asdict(self)
