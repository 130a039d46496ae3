"""What every method of SessionData answers, in a form that can be compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streams import SessionData
from streams.intervals import MINUTE_NS

__all__ = ["answers"]


def answers(data: SessionData, symbols: Iterable[str]) -> dict[str, Any]:
    """What every method answers, in a form that can be compared."""
    found: dict[str, Any] = {
        "active": data.is_session_active(),
        "ended": data.session_ended(),
        "date": data.get_current_session_date(),
        "symbols": data.get_active_symbols(),
        "clock": data.clock_ns,
        "all": repr(data.get_latest_bars().tolist()),  # NaN is what it is
        "points": repr((data.get_latest_quotes().tolist(), data.get_latest_ticks().tolist())),
    }
    # Behind the first rows of the session, wherever it stands.
    since_ns = data.clock_ns - 2 * MINUTE_NS
    for symbol in symbols:
        past = data.get_historical_bars(symbol)
        found[symbol] = {
            "latest": _plain(data.get_latest_bar(symbol)),
            "last": data.get_last_n_bars(symbol, 3).tolist(),
            "since": data.get_bars_since(symbol, since_ns).tolist(),
            "count": data.get_bar_count(symbol),
            "multi": _plain(data.get_latest_bars_multi([symbol])[symbol]),
            "metrics": data.get_session_metrics(symbol),
            "history": {day: rows.tolist() for day, rows in past.items()},
            "one day": list(data.get_historical_bars(symbol, 1)),
            "with history": data.get_all_bars_including_historical(symbol).tolist(),
            "quality": data.get_quality_metric(symbol),
            "bars": data.get_bars(symbol).tolist(),
            "5m": data.get_bars(symbol, 5).tolist(),
            "quote": _plain(data.get_latest_quote(symbol)),
            "tick": _plain(data.get_latest_tick(symbol)),
            "quotes": data.get_last_n_quotes(symbol, 9).tolist(),
            "ticks": data.get_last_n_ticks(symbol, 9).tolist(),
            "counts": (data.get_quote_count(symbol), data.get_tick_count(symbol)),
        }
    return found


def _plain(bar: Any) -> Any:
    return None if bar is None else bar.tolist()
