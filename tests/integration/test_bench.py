"""The measurements with a broker, as small as they can be and still play several sessions."""

from __future__ import annotations

import pytest

from bench import end_to_end, with_sink

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


def test_another_digest_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller(monkeypatch, end_to_end)
    monkeypatch.setattr(end_to_end, "SYMBOLS", 2)
    monkeypatch.setattr(end_to_end, "expected_digest", lambda *_: "another")
    with pytest.raises(RuntimeError, match=r"the digest is [0-9a-f]{64}, the source gives another"):
        end_to_end.run(lambda _: None)
