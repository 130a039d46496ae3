"""The plan of a market: it grows with the load, is never nothing, and says what it stands on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.cli.scale_plan import scale_plan
from streams.errors import ConfigError
from streams.intervals import MINUTE_NS
from streams.scale import FIGURES, WORKERS, Load, Plan, plan

DOCS = Path(__file__).parents[3] / "docs" / "scale.md"

loads = st.builds(
    Load,
    symbols=st.integers(1, 50_000),
    interval_ns=st.sampled_from([MINUTE_NS // 60, MINUTE_NS, 5 * MINUTE_NS]),
    ticks_per_s=st.floats(0, 5e6),
    ticks_per_day=st.floats(0, 1e11),
    session_s=st.floats(60, 86_400),
    sessions=st.integers(1, 500),
    trailing=st.integers(0, 50),
    prefetch=st.integers(0, 10),
    replicas=st.integers(1, 5),
    readers=st.integers(0, 20),
    burst_s=st.floats(0.01, 60),
    busy=st.floats(0.05, 1),
    broker_cores=st.integers(1, 64),
    has_sink=st.booleans(),
)


def numbers(found: Plan) -> dict[str, float]:
    """Return all that a plan counts, but for how it divides the load."""
    groups: dict[str, dict[str, Any]] = {
        "workers": found.workers,
        "cores": found.cores,
        "network": found.network_mb_s,
        "day": found.day_gb,
        "disk": found.disk_gb,
    }
    flat = {f"{a}.{b}": value for a, group in groups.items() for b, value in group.items()}
    return {**flat, "brokers": found.brokers, "namespaces": found.namespaces}


def grown(load: Load, **by: float) -> dict[str, float]:
    return numbers(plan(replace(load, **{n: getattr(load, n) * k for n, k in by.items()})))


@given(loads)
def test_nothing_is_missing_and_every_worker_has_a_core_that_suffices(load: Load) -> None:
    found = plan(load)
    has = set(WORKERS) - (set() if load.has_sink else {"sink"})
    assert found.workers.keys() == has
    assert all(count >= 1 for count in found.workers.values())
    assert found.brokers >= load.replicas
    for count in (found.namespaces, found.partitions):
        assert count >= 1
        assert count & (count - 1) == 0
    for name, count in found.workers.items():
        assert found.cores[name] <= count * load.busy * 1.000001
        assert count <= found.namespaces * found.partitions
    assert found.cores["brokers"] <= found.brokers * load.broker_cores * load.busy * 1.000001
    always = {n: v for n, v in numbers(found).items() if load.has_sink or "store" not in n}
    always = {n: v for n, v in always.items() if load.has_sink or "clickhouse" not in n}
    assert all(v > 0 for n, v in always.items() if n != "network.replicas" or load.replicas > 1)


@given(loads, st.integers(1, 5), st.floats(1, 8))
def test_more_load_never_takes_less(load: Load, symbols: int, ticks: float) -> None:
    few, many = numbers(plan(load)), grown(load, symbols=symbols, ticks_per_s=ticks)
    assert all(many[name] >= few[name] * 0.999999 for name in few)


@given(loads)
def test_twice_the_load_is_twice_the_bytes_and_at_most_twice_the_processes(load: Load) -> None:
    one = numbers(plan(load))
    two = grown(load, symbols=2, ticks_per_s=2, ticks_per_day=2)
    for name, value in one.items():
        if name.split(".")[0] in ("cores", "network", "day", "disk"):
            assert two[name] == pytest.approx(2 * value)
        else:
            assert value <= two[name] <= 2 * value


@given(loads, st.integers(1, 5))
def test_more_replicas_and_sessions_take_more_disk(load: Load, more: int) -> None:
    few = plan(load).disk_gb
    many = plan(replace(load, replicas=load.replicas + more, sessions=load.sessions + more)).disk_gb
    assert many["brokers"] > few["brokers"]
    assert many["clickhouse"] > few["clickhouse"] or not load.has_sink


def test_a_market_of_minute_bars_by_hand() -> None:
    found = plan(Load(symbols=11_000, replicas=1))
    assert (found.namespaces, found.partitions, found.brokers) == (1, 1, 1)
    assert found.cores["coordinator"] == pytest.approx(11_000 * 0.69e-6)
    assert found.network_mb_s["in"] == pytest.approx(11_000 * (52 + 61) / 1e6)
    assert found.network_mb_s["out"] == pytest.approx(11_000 * (52 + 4 * 61) / 1e6)
    assert found.day_gb["tape"] == pytest.approx(11_000 * 390 * 61 / 1e9)
    assert found.disk_gb["clickhouse"] == pytest.approx(11_000 * 390 * 47.2 / 1e9 * 5 / 0.5)
    assert found.limits == []


def test_ticks_that_no_sink_can_take_are_divided_over_namespaces() -> None:
    load = Load(symbols=11_000, ticks_per_s=2e6)
    assert plan(load).namespaces == 16  # 5.4 cores of sinks, half of each in use
    assert "one sink reads a whole tape and would need 5.4 cores" in plan(load).limits[0]
    without = plan(replace(load, has_sink=False))
    assert without.namespaces == 4  # 1.8 cores of a reader
    assert "one reader reads a whole tape" in without.limits[0]
    assert plan(replace(load, has_sink=False, readers=0)).namespaces == 1
    assert len(plan(replace(load, symbols=2)).limits) == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"symbols": 0}, "symbols of at least 1"),
        ({"replicas": 0}, "replicas of at least 1"),
        ({"ticks_per_s": -1.0}, "ticks_per_s of 0 or more"),
        ({"ticks_per_day": float("nan")}, "ticks_per_day of 0 or more"),
        ({"busy": 0.0}, "busy above 0"),
        ({"burst_s": 0.0}, "burst_s above 0"),
        ({"session_s": 86_401.0}, "a session of a day at most"),
    ],
)
def test_what_can_not_be_is_refused(changes: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Load(**({"symbols": 1} | changes))  # type: ignore[arg-type]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale_plan(symbols=11_000, ticks_per_s=2e6, json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["load"]["symbols"] == 11_000
    assert found["plan"]["workers"]["sink"] == 16
    assert scale_plan(symbols=11_000, ticks_per_s=2e6) == 0
    out, error = capsys.readouterr()
    assert "processes: coordinator" in out
    assert "divided over 16 namespaces" in error


def test_every_figure_says_where_it_is_from_and_stands_in_the_docs() -> None:
    text = DOCS.read_text("utf-8")
    for name, figure in FIGURES.items():
        assert figure.value > 0
        assert date(2026, 11, 1) <= figure.on
        load = f"{figure.load:g}" if figure.load else ""
        line = f"| `{name}` | {figure.value:g} {figure.unit} | {figure.of} | {load} | {figure.on} |"
        assert line in text, line
