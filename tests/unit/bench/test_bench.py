"""The bench itself: what it runs, what it prints, what it holds against an earlier result."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bench
from bench import built, end_to_end, minutes, prefetch, scale, upkeep
from bench.machine import machine
from bench.merge import run as merge
from bench.replay import Replayed, Watch
from bench.session_data import run as session_data
from streams.cli.bench import bench as command
from streams.errors import ConfigError
from streams.intervals import MINUTE_NS
from streams.tick_bars import bars_of_ticks

SYMBOLS = 20


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurements without a broker, on a small market."""
    for name in ("bench.merge", "bench.session_data"):
        monkeypatch.setattr(f"{name}.SYMBOLS", SYMBOLS)
    monkeypatch.setattr("bench.session_data.REPEAT", 1)


def test_every_measurement_is_a_module_that_says_what_it_is() -> None:
    for name, text in bench.MEASUREMENTS.items():
        assert text
        assert (Path(bench.__file__).parent / f"{name}.py").is_file()


def test_merging_is_timed_against_a_heap(small: None) -> None:
    said: list[str] = []
    found = merge(said.append)
    assert found["bars"] == SYMBOLS * 390
    assert found["bars_per_s"] > 0
    assert found["heap_bars_per_s"] > 0
    assert found["ratio_to_heap"] == pytest.approx(
        found["bars_per_s"] / found["heap_bars_per_s"], abs=0.06
    )
    assert len(said) == 1
    assert "a heap" in said[0]


def test_gaps_and_longer_bars_are_timed_against_plain_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(minutes, "SYMBOLS", 20)
    monkeypatch.setattr(minutes, "ROUNDS", 2)
    said: list[str] = []
    found = minutes.run(said.append)
    for name in ("gap_search_ms", "derive_ms", "encode_derived_ms", "plain_derive_ms"):
        assert 0 < found[name]["best"] <= found[name]["median"]
    assert found["ratio_plain_to_derive"] > 0
    assert found["ratio_plain_to_gap_search"] > 0
    assert len(said) == 1


def test_ticks_are_made_bars_against_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built, "SYMBOLS", 3)
    monkeypatch.setattr(built, "TICKS", 4_000)
    said: list[str] = []
    found = built.run(said.append)
    assert found["ticks"] == 12_000
    assert found["ticks_per_s"] > 0
    assert found["ratio_to_plain"] > 0
    assert found["ratio_bit_by_bit_to_plain"] > 0
    assert len(said) == 1


def test_the_peer_makes_the_same_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built, "SYMBOLS", 3)
    monkeypatch.setattr(built, "TICKS", 4_000)
    ticks = built._ticks()
    bars = bars_of_ticks(ticks, MINUTE_NS)
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    values = map(list, zip(*(column.tolist() for column in columns), strict=True))
    places = zip(bars.symbol.tolist(), (bars.ts_ns // MINUTE_NS).tolist(), strict=True)
    assert built._plain(ticks) == dict(zip(places, values, strict=True))


def test_reads_are_timed_against_a_dict(small: None) -> None:
    said: list[str] = []
    found = session_data(said.append)
    assert set(found) == {
        "latest_bar_ns",
        "last_20_bars_ns",
        "latest_of_all_ns",
        "latest_of_500_by_name_ns",
        "apply_ns_a_bar",
        "plain_dict_ns",
        "ratio_plain_to_latest_bar",
    }
    assert all(value > 0 for value in found.values())
    assert found["latest_bar_ns"] < found["latest_of_500_by_name_ns"]
    assert said[0].startswith("latest_bar_ns ")


def test_the_machine_is_named() -> None:
    found = machine()
    assert found["cores"] >= 1
    assert found["memory_gb"] >= 1
    assert found["python"] == ".".join(str(part) for part in sys.version_info[:3])
    json.dumps(found)


def test_some_measurements_are_run_and_their_names_told(small: None) -> None:
    said: list[str] = []
    found = bench.run(["merge"], said.append)
    assert list(found) == ["machine", "merge"]
    assert said[0] == f"merge: {bench.MEASUREMENTS['merge']}"


def test_no_name_runs_all_of_them(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    some = {name: bench.MEASUREMENTS[name] for name in ("session_data", "merge")}
    monkeypatch.setattr(bench, "MEASUREMENTS", some)
    assert list(bench.run()) == ["machine", "session_data", "merge"]


def test_an_unknown_measurement_is_refused_before_any_is_run() -> None:
    said: list[str] = []
    with pytest.raises(ConfigError, match=r"no measurement 'speed': take of end_to_end, "):
        bench.run(["merge", "speed"], said.append)
    assert said == []


def test_a_result_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text('{"merge": {"ratio_to_heap": 20.5}}')
    assert bench.read(path) == {"merge": {"ratio_to_heap": 20.5}}
    path.write_text("{")
    with pytest.raises(ConfigError, match="is no result of a bench"):
        bench.read(path)
    with pytest.raises(ConfigError, match="is no result of a bench"):
        bench.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("now", "before", "says"),
    [
        ({"a": {"ratio_x": 0.91}}, {"a": {"ratio_x": 1.0}}, []),
        ({"a": {"ratio_x": 0.89}}, {"a": {"ratio_x": 1.0}}, ["a.ratio_x is 0.89, it was 1"]),
        ({"a": {"bars_per_s": 1}}, {"a": {"bars_per_s": 100}}, []),
        ({"a": {"ratio_new": 0.1}}, {"a": {"ratio_x": 1.0}}, []),
        (
            {"a": {"b": {"ratio_x": 1}}},
            {"a": {"b": {"ratio_x": 2}}},
            ["a.b.ratio_x is 1, it was 2"],
        ),
        ({"a": {"ratio_x": 3.0}}, {"a": {"ratio_x": 1.0}}, []),
    ],
)
def test_only_ratios_are_held_against_an_earlier_result(
    now: dict[str, Any], before: dict[str, Any], says: list[str]
) -> None:
    assert bench.worse(now, before) == says


def test_the_module_prints_json_and_nothing_else(
    small: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "merge"])
    runpy.run_module("bench", run_name="__main__")
    out, error = capsys.readouterr()
    assert json.loads(out)["merge"]["bars"] == SYMBOLS * 390
    assert error.startswith("merge: ")


def test_the_command_prints_tables(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("merge") == 0
    out, error = capsys.readouterr()
    assert f"{SYMBOLS * 390:,}" in out
    assert "heap_bars_per_s" in out
    assert "processor" in out
    assert error.startswith("merge: ")


@pytest.mark.parametrize(("factor", "code"), [(0.01, 0), (1000.0, 1)])
def test_the_command_fails_when_a_ratio_got_worse(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], factor: float, code: int
) -> None:
    before = tmp_path / "before.json"
    before.write_text(json.dumps({"merge": {"ratio_to_heap": factor}}))
    assert command("merge", compare=before, json=True) == code
    out, error = capsys.readouterr()
    assert set(json.loads(out)) == {"machine", "merge"}
    assert ("worse: merge.ratio_to_heap is" in error) == bool(code)


def replayed(seconds: float, transitions: list[float]) -> Replayed:
    watch = Watch({}, {"broker": 400, "tables": 100}, cpu_s={"broker": 1.0})
    watch.by_session_mb = {str(day): {"broker": 100 + day, "tables": 100} for day in range(4)}
    return Replayed(1000, seconds, transitions, "d", watch)


def test_the_middle_of_the_rounds_is_what_counts() -> None:
    ours = [replayed(2.0, [1.0]), replayed(1.0, [2.0]), replayed(4.0, [9.0])]
    found = end_to_end._result(ours, [100.0, 50.0, 100.0], [1000.0, 2000.0, 500.0])
    assert found["bars_per_s"] == 500
    assert found["bars_per_s_rounds"] == [500, 1000, 250]
    assert found["ratio_to_plain"] == 5.0
    assert found["ratio_to_raw"] == 0.5
    assert found["peak_rss_mb"]["total"] == 500
    assert found["peak_rss_mb"]["last_to_third_session"] == round(203 / 202, 3)
    assert found["transition_ms"] == {"p50": 2.0, "p99": 8.9, "max": 9.0, "n": 3}


def test_the_upkeep_is_held_against_itself_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, str]] = []

    def played(is_on: bool, _: str, historical: str = "") -> Replayed:
        asked.append((is_on, historical))
        one = replayed(1.1 if is_on else 1.0, [])
        one.watch.cpu_s = {"broker": 1.2 if is_on else 1.0}
        one.watch.peak_mb = {"broker": 300 if is_on else 200}
        return one

    monkeypatch.setattr(upkeep, "_played", played)
    monkeypatch.setattr(upkeep, "expected_digest", lambda *_: "d")
    monkeypatch.setattr(upkeep, "ROUNDS", 3)
    found = upkeep.run(lambda _: None)
    assert asked == [(True, ""), (False, "")] * 3 + [(True, "1m,5m")]
    medians = {name: found[f"on_to_off_{name}"]["median"] for name in ("time", "cpu", "memory")}
    assert medians == {"time": 1.1, "cpu": 1.2, "memory": 1.5}
    assert len(found["on_to_off_time"]["rounds"]) == 3
    assert found["with_trailing_days"] == {"seconds": 1.1, "cpu_s": 1.2, "peak_mb": 300}


def test_prefetch_is_held_against_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def played(start: str, end: str, **how: Any) -> Replayed:
        asked.append(how)
        one = replayed(2.0 if how.get("prefetch") == 0 else 1.0, [10.0] * 9 + [20.0])
        one.watch.by_session_mb = {str(day): {"broker": 100 + day} for day in range(12)}
        return replace(one, hit_rate=0.9)

    monkeypatch.setattr(prefetch, "_played", played)
    monkeypatch.setattr(prefetch, "ROUNDS", 2)
    found = prefetch.run(lambda _: None)
    assert [how.get("prefetch") for how in asked] == [None, None, 0, None, 0, None]
    assert [how.get("delay_ms") for how in asked] == [None, 200, 200, 200, 200, 5_000]
    assert (found["rolls"], found["hit_rate"], found["ratio_off_to_on_200ms"]) == (10, 0.9, 2.0)
    assert found["transition_ms"] == {"p50": 10.0, "p99": 19.1, "max": 20.0}
    assert found["memory_mb_by_session"] == {"tenth": 109, "last": 111}


def test_cases_of_scale_are_held_against_one_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {(1, 1): 2.0, (2, 1): 4.0, (4, 1): 2.0, (1, 2): 2.0, (2, 2): 1.0, (4, 2): 8.0}
    played: list[int] = []

    def play(symbols: int, start: str, end: str, partitions: int, coordinators: int) -> Replayed:
        played.append(symbols)
        return replayed(seconds[partitions, coordinators], [])

    monkeypatch.setattr(scale, "_played", play)
    monkeypatch.setattr(scale, "expected_digest", lambda *_: "d")
    found = scale.run(lambda _: None)
    ratios = {name: case["ratio_to_1x1"] for name, case in found.items()}
    assert ratios == {
        "1x1": 1.0, "2x1": 0.5, "4x1": 1.0, "1x2": 1.0, "2x2": 2.0, "4x2": 0.25, "market": 1.0,
    }  # fmt: skip
    assert found["2x2"]["bars_per_s"] == 1000
    assert played == [scale.SYMBOLS] * 6 + [scale.MARKET]
    monkeypatch.setattr(scale, "expected_digest", lambda *_: "e")
    with pytest.raises(RuntimeError, match="the digest is d, the source gives e"):
        scale.run(lambda _: None)
