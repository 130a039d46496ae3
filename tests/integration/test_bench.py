"""The measurements with a broker, as small as they can be and still play several sessions."""

from __future__ import annotations

import pytest

from bench import end_to_end, prefetch, upkeep, with_sink

pytestmark = pytest.mark.timeout(300)

SYMBOLS = 20
START, END = "2024-11-04", "2024-11-06"
BARS = SYMBOLS * 390 * 3


def smaller(monkeypatch: pytest.MonkeyPatch, measurement: object) -> None:
    sizes = {"SYMBOLS": SYMBOLS, "START": START, "END": END, "ROUNDS": 1, "PLAIN_SESSIONS": 1}
    for name, value in sizes.items():
        monkeypatch.setattr(measurement, name, value)


def test_end_to_end_beside_its_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller(monkeypatch, end_to_end)
    said: list[str] = []
    found = end_to_end.run(said.append)
    assert found["bars"] == BARS
    assert found["bars_per_s_rounds"] == [found["bars_per_s"]]
    for name in ("bars_per_s", "plain_bars_per_s", "raw_bars_per_s"):
        assert found[name] > 0
    assert found["ratio_to_plain"] > 0
    assert found["ratio_to_raw"] > 0
    workers = {"producer", "coordinator-1", "upkeep", "tables", "broker", "subscriber"}
    assert set(found["cpu_s"]) == set(found["peak_rss_mb"]["by_process"]) == workers
    assert found["peak_rss_mb"]["total"] >= max(found["peak_rss_mb"]["by_process"].values())
    assert found["transition_ms"]["n"] == 2
    assert 0 < found["transition_ms"]["p50"] <= found["transition_ms"]["max"]
    assert [line.split(":")[0].strip() for line in said] == ["round 1", "plain Python", "raw bytes"]


def test_with_the_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller(monkeypatch, with_sink)
    said: list[str] = []
    found = with_sink.run(said.append)
    assert found["bars_per_s"] > 0
    assert found["ratio_to_plain"] > 0
    assert "sink" in found["cpu_s"]
    assert len(said) == 2


def test_the_upkeep_on_against_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SYMBOLS": SYMBOLS, "START": START, "END": END, "ROUNDS": 1}.items():
        monkeypatch.setattr(upkeep, name, value)
    said: list[str] = []
    found = upkeep.run(said.append)
    assert found["bars"] == BARS
    for name in ("time", "cpu", "memory"):
        ratio = found[f"on_to_off_{name}"]
        assert ratio["rounds"] == [ratio["median"]]
        assert ratio["median"] > 0
    assert set(found["cpu_s"]) - set(found["cpu_s_off"]) == {"upkeep"}
    assert len(said) == 1


def test_prefetch_with_a_slow_source_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    days = {"START": "2024-11-04", "END": "2024-11-18"}
    slow = {"SLOW_START": START, "SLOW_END": END, "SLOWER_START": START, "SLOWER_END": END}
    times = {"SLOWER_MS": 100, "SLOWER_SESSION_S": 2.0, "ROUNDS": 1, "SYMBOLS": SYMBOLS}
    for name, value in {**days, **slow, **times}.items():
        monkeypatch.setattr(prefetch, name, value)
    found = prefetch.run(lambda _: None)
    assert found["rolls"] == 10
    assert 0 <= found["hit_rate"] <= 1
    assert found["ratio_off_to_on_200ms"] > 0
    # At a speed that gives it the time every session is there before it is needed.
    assert found["slow_5s"]["hit_rate"] == 1.0


def test_another_digest_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller(monkeypatch, end_to_end)
    monkeypatch.setattr(end_to_end, "SYMBOLS", 2)
    monkeypatch.setattr(end_to_end, "expected_digest", lambda *_: "another")
    with pytest.raises(RuntimeError, match=r"the digest is [0-9a-f]{64}, the source gives another"):
        end_to_end.run(lambda _: None)
