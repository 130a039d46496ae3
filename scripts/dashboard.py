"""``python -m scripts.dashboard`` writes the dashboard for Grafana, or to the file it is given.

What it shows stands in `ROWS`; the JSON around it is the same for every panel.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["FILE", "ROWS", "Panel", "render", "write"]

FILE = Path(__file__).parents[1] / "deploy" / "grafana" / "sessiontape.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT, COLUMNS = 8, 7, 3
_OF = '{namespace=~"$namespace"}'
_WHO = ' * on(instance) group_left(worker) sessiontape_worker_info{namespace=~"$namespace"}'


class Panel(NamedTuple):
    """One panel.

    Attributes
    ----------
    title
        What it shows.
    unit
        Grafana's name of the unit.
    lines
        Expressions, each with its legend.
    """

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]


def _rate(name: str, by: str, **labels: str) -> str:
    chosen = "".join(f', {label}="{value}"' for label, value in labels.items())
    return f'sum by ({by}) (rate({name}{{namespace=~"$namespace"{chosen}}}[$__rate_interval]))'


def _gone(name: str, by: str) -> str:
    return f"sum by ({by}) (increase({name}{_OF}[$__rate_interval]))"


def _quantile(share: float, name: str, by: str) -> str:
    rate = f"rate({name}_bucket{_OF}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (le, {by}) ({rate}))"


def _both(name: str, by: str) -> tuple[tuple[str, str], ...]:
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return tuple(
        (_quantile(share, name, by), f"p{100 * share:.0f} {legend}") for share in (0.5, 0.99)
    )


ROWS: dict[str, tuple[Panel, ...]] = {
    "The tape": (
        Panel(
            "Rows a second",
            "short",
            ((_rate("sessiontape_rows_total", "worker, topic"), "{{worker}} {{topic}}"),),
        ),
        Panel(
            "Clock behind",
            "s",
            ((f"sessiontape_clock_delay_seconds{_OF}", "{{namespace}} {{shard}}"),),
        ),
        Panel(
            "Not taken yet",
            "short",
            ((f"sessiontape_lag_offsets{_OF}", "{{worker}} {{topic}} {{shard}}"),),
        ),
        Panel(
            "Session clock",
            "dateTimeAsIso",
            ((f"sessiontape_session_clock_seconds{_OF} * 1000", "{{namespace}} {{shard}}"),),
        ),
        Panel(
            "Sessions: open, closed, incomplete",
            "short",
            (
                (f"sum by (namespace) (sessiontape_open_sessions{_OF})", "open {{namespace}}"),
                (_gone("sessiontape_sessions_total", "namespace"), "closed {{namespace}}"),
                (
                    _gone("sessiontape_incomplete_sessions_total", "namespace"),
                    "incomplete {{namespace}}",
                ),
            ),
        ),
        Panel(
            "Corrections and rejected",
            "short",
            (
                (_gone("sessiontape_corrections_total", "namespace"), "corrections {{namespace}}"),
                (_gone("sessiontape_rejected_total", "worker, topic"), "rejected {{topic}}"),
            ),
        ),
    ),
    "Minutes": (
        Panel(
            "Quality",
            "percentunit",
            ((f"sessiontape_quality_ratio{_OF}", "{{namespace}} {{shard}}"),),
        ),
        Panel(
            "Minutes in gaps",
            "short",
            ((f"sum by (status) (sessiontape_gap_minutes{_OF})", "{{status}}"),),
        ),
        Panel(
            "Asked again and given up",
            "short",
            (
                (_gone("sessiontape_gap_requests_total", "namespace"), "asked {{namespace}}"),
                (_gone("sessiontape_gaps_given_up_total", "namespace"), "given up {{namespace}}"),
            ),
        ),
    ),
    "From session to session": (
        Panel("Transition", "s", _both("sessiontape_transition_seconds", "namespace")),
        Panel(
            "Prefetch hits",
            "percentunit",
            (
                (
                    f"{_gone('sessiontape_prefetch_hits_total', 'namespace')} / "
                    f"{_gone('sessiontape_rolls_total', 'namespace')}",
                    "{{namespace}}",
                ),
            ),
        ),
        Panel("Flush", "s", _both("sessiontape_flush_seconds", "worker")),
    ),
    "Where rows come from": (
        Panel("Answer to a request", "s", _both("sessiontape_answer_seconds", "kind")),
        Panel(
            "Under way",
            "short",
            (
                (f"sessiontape_open_requests{_OF}", "requests {{namespace}}"),
                (f"sessiontape_unacknowledged_messages{_OF}", "feeder's messages {{namespace}}"),
            ),
        ),
        Panel(
            "Feed lost",
            "short",
            ((_gone("sessiontape_feed_losses_total", "namespace"), "{{namespace}}"),),
        ),
    ),
    "Workers": (
        Panel(
            "Memory",
            "bytes",
            ((f"process_resident_memory_bytes{_WHO}", "{{worker}} {{instance}}"),),
        ),
        Panel(
            "CPU",
            "percentunit",
            (
                (
                    f"rate(process_cpu_seconds_total[$__rate_interval]){_WHO}",
                    "{{worker}} {{instance}}",
                ),
            ),
        ),
        Panel(
            "Files and connections",
            "short",
            ((f"process_open_fds{_WHO}", "{{worker}} {{instance}}"),),
        ),
        Panel(
            "Shards taken over",
            "short",
            ((_gone("sessiontape_takeovers_total", "worker, shard"), "{{worker}} {{shard}}"),),
        ),
        Panel(
            "Up since",
            "s",
            ((f"(time() - process_start_time_seconds){_WHO}", "{{worker}} {{instance}}"),),
        ),
        Panel(
            "Versions",
            "short",
            (
                (
                    f"count by (worker, version) (sessiontape_worker_info{_OF})",
                    "{{worker}} {{version}}",
                ),
            ),
        ),
    ),
}


def render() -> str:
    """Return the dashboard as JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        at = {"x": 0, "y": y, "w": WIDTH * COLUMNS, "h": 1}
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": at})
        y += 1
        for number, panel in enumerate(row):
            below, beside = divmod(number, COLUMNS)
            at = {"x": beside * WIDTH, "y": y + below * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append(_panel(panel, at))
        y += -(-len(row) // COLUMNS) * HEIGHT
    for number, made in enumerate(panels, 1):
        made["id"] = number
    board = {
        "uid": "sessiontape",
        "title": "sessiontape",
        "tags": ["sessiontape"],
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }
    return json.dumps(board, indent=1) + "\n"


def _panel(panel: Panel, at: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": at,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend,
            }
            for number, (expression, legend) in enumerate(panel.lines)
        ],
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "source"},
        {
            "name": "namespace",
            "type": "query",
            "datasource": SOURCE,
            "query": "label_values(sessiontape_worker_info, namespace)",
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "current": {"text": "All", "value": "$__all"},
        },
    ]


def write(file: Path = FILE) -> None:
    """Write the dashboard to ``file``, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render(), "utf-8")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:2]))
