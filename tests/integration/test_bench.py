"""The measurements with a broker, as small as they can be and still play several sessions."""

from __future__ import annotations

import pytest

from bench import controls, end_to_end, live, soak, ticks, with_sink

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("unmeasured")]

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


def test_another_digest_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller(monkeypatch, end_to_end)
    monkeypatch.setattr(end_to_end, "SYMBOLS", 2)
    monkeypatch.setattr(end_to_end, "expected_digest", lambda *_: "another")
    with pytest.raises(RuntimeError, match=r"the digest is [0-9a-f]{64}, the source gives another"):
        end_to_end.run(lambda _: None)


def test_the_latency_of_a_live_run_beside_its_hops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SYMBOLS", {"one": 2})
    monkeypatch.setattr(live, "SLICES", {"one": 5})
    said: list[str] = []
    found = live.run(said.append)["one"]
    assert (found["symbols"], found["slices"]) == (2, 5)
    peers = ("upkeep_off", "back_to_back", "plain_consumer", "bare_transaction")
    for shares in (found, *(found[name] for name in peers)):
        assert 0 < shares["p50"] <= shares["p99"] <= shares["max"]
    assert found["ratio_to_plain"] < found["ratio_to_both_hops"]
    assert len(said) == 1


def test_ticks_beside_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SYMBOLS": 3, "TICKS": 2_000, "ROUNDS": 1, "PLAIN_SYMBOLS": 5}
    for name, value in sizes.items():
        monkeypatch.setattr(ticks, name, value)
    found = ticks.run(lambda _: None)
    assert found["ticks"] == 3 * 2_000
    assert found["ratio_to_plain"] > 0


def test_how_soon_a_run_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "ROUNDS", 3)
    found = controls.run(lambda _: None)
    for name in ("pause_ms", "call_ms", "message_and_back_ms"):
        assert 0 < found[name]["p50"] <= found[name]["max"]


def test_a_short_soak_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SPEED": 600, "HOURS": "09:40-10:20", "EVERY_NS": 120 * 10**9}
    for name, value in sizes.items():
        monkeypatch.setattr(soak, name, value)
    said: list[str] = []
    found = soak.soak(2, 8, said.append)
    assert found["sessions"] == 2
    assert found["bars"] >= found["bars_of_the_replay"] > 0
    assert {"coordinator-1", "feeder", "upkeep"} <= found["memory_mb_by_halves"].keys()
