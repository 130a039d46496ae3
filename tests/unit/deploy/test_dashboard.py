"""The dashboard and the alerts speak of metrics and labels that the code exports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import dashboard
from streams.metrics import DECLARED, PROCESS

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
SCRAPED = {"job", "instance"}
"""What Prometheus itself puts on every series."""
METRIC = re.compile(r"\b(?:sessiontape|process)_\w+")
PARTS = re.compile(r"_(?:bucket|sum|count)$")
CHOSEN = re.compile(r"\b(\w+)\s*(?:=~|!~|!=|=)\s*\"")
GROUPED = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
LEGEND = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


def metrics_of(expression: str) -> set[str]:
    """Return the names of metrics in an expression, as they are declared."""
    outside = GROUPED.sub("", re.sub(r"\"[^\"]*\"", '""', expression))
    found = set()
    for name in METRIC.findall(outside):
        whole = PARTS.sub("", name)
        is_part = whole in DECLARED and DECLARED[whole].kind == "histogram"
        found.add(whole if is_part else name)
    return found


def labels_of(expression: str) -> set[str]:
    grouped = {name.strip() for names in GROUPED.findall(expression) for name in names.split(",")}
    return (grouped | set(CHOSEN.findall(expression))) - {""}


def known(expression: str) -> set[str]:
    """Return the labels that may stand in an expression."""
    names = metrics_of(expression)
    found = SCRAPED.union(*(DECLARED[name].labels for name in names if name in DECLARED))
    is_histogram = any(name in DECLARED and DECLARED[name].kind == "histogram" for name in names)
    return found | ({"le"} if is_histogram else set())


def targets() -> Iterator[tuple[str, str, str]]:
    board = json.loads(dashboard.FILE.read_text("utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))["groups"]
    return list(group["rules"])


def expressions() -> dict[str, str]:
    panels = {f"{title}: {legend}": expression for title, expression, legend in targets()}
    return panels | {rule["alert"]: rule["expr"] for rule in rules()}


def test_the_dashboard_is_up_to_date(tmp_path: Path) -> None:
    current = dashboard.FILE.read_text("utf-8")
    assert current == dashboard.render(), "run python -m scripts.dashboard"
    dashboard.write(tmp_path / "new" / "board.json")
    assert (tmp_path / "new" / "board.json").read_text("utf-8") == current


def test_panels_do_not_overlap_and_have_a_number_each() -> None:
    panels = json.loads(dashboard.render())["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        taken |= cells
        assert at["x"] + at["w"] <= 24


@pytest.mark.parametrize(("name", "expression"), expressions().items(), ids=expressions())
def test_what_an_expression_names_is_exported(name: str, expression: str) -> None:
    names = metrics_of(expression)
    assert names <= {*DECLARED, *PROCESS}, name
    assert names or expression.startswith("up{")
    assert labels_of(expression) <= known(expression), name


@pytest.mark.parametrize(("title", "expression", "legend"), list(targets()))
def test_a_legend_names_labels_that_are_left(title: str, expression: str, legend: str) -> None:
    named = set(LEGEND.findall(legend))
    assert named <= known(expression)
    summed = re.search(r"\bby \(([^)]*)\)", expression)
    if summed:
        assert named <= {label.strip() for label in summed[1].split(",")}, title


def test_each_metric_is_on_the_dashboard() -> None:
    shown = {name for _, expression, _ in targets() for name in metrics_of(expression)}
    assert shown == {*DECLARED, *PROCESS}


def test_the_check_finds_what_is_wrong() -> None:
    wrong = 'sum by (symbol) (rate(sessiontape_bars_total{namespace=~"$n", venue="X"}[5m]))'
    assert metrics_of(wrong) == {"sessiontape_bars_total"}
    assert labels_of(wrong) == {"symbol", "namespace", "venue"}
    assert metrics_of("sessiontape_rows_total_count") == {"sessiontape_rows_total_count"}
    assert metrics_of("sessiontape_flush_seconds_bucket") == {"sessiontape_flush_seconds"}


def test_each_alert_says_what_it_is_and_has_its_section() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert re.findall(r"^### (Sessiontape\w+)$", page, re.MULTILINE) == names
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        summary = rule["annotations"]["summary"]
        assert set(re.findall(r"\$labels\.(\w+)", summary)) <= known(rule["expr"])


def test_prometheus_is_told_of_the_rules_and_of_the_job_that_they_name() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    assert all((PROMETHEUS / name).is_file() for name in config["rule_files"])
    jobs = {scrape["job_name"] for scrape in config["scrape_configs"]}
    named = {job for text in expressions().values() for job in re.findall(r"job=\"(\w+)\"", text)}
    assert named == jobs == {"sessiontape"}
