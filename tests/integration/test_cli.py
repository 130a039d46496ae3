"""Commands that bring their own stack: replay and demo, ended by themselves and by signals."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from streams.local import LocalBroker
from tests.integration.commands import begin, processes_of, run, wait_until

pytestmark = pytest.mark.timeout(300)

SOURCE = "synthetic:symbols=5,missing=0.02,bad=0.001"
DAYS = ("--start", "2024-11-27", "--end", "2024-11-29")


@pytest.fixture
def on(broker: LocalBroker, namespace: str) -> dict[str, str]:
    """Settings of a run of this test's own on the shared broker."""
    return {
        "SESSIONTAPE_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "SESSIONTAPE_NAMESPACE": namespace,
    }


def part_files(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*.part")]


def test_a_replay_prints_its_result_and_leaves_no_process(
    tmp_path: Path, on: dict[str, str]
) -> None:
    found = run(tmp_path, "replay", "--source", SOURCE, *DAYS, "--json", "--workers=2", **on)
    assert found.returncode == 0, found.stderr
    said: dict[str, Any] = json.loads(found.stdout)
    assert said["namespace"] == on["SESSIONTAPE_NAMESPACE"]
    assert said["sessions"] == 2
    minutes = 390 + 210
    assert said["rows"] == {"bars": said["bars"], "quotes": 0, "ticks": 0}
    quality = said["quality"]
    assert sorted(quality) == [f"SYN000{number}" for number in range(1, 6)]
    share = sum(quality.values()) / len(quality) / 100
    good = round(share * minutes * len(quality))
    assert said["bars"] + said["no_trade_minutes"] == good
    assert 0.9 < share < 1
    assert said["gaps_found"] > 0
    assert said["gaps_filled"] == 0
    assert said["gaps_given_up"] > 0  # of rows that make no sense nobody has better ones
    assert 0 <= said["prefetch_hit_rate"] <= 1
    assert set(said["transition_ms"]) == {"p50", "p99", "max"}
    assert said["rejected"] > 0
    assert said["rows_per_s"] > 0
    assert len(said["digest"]) == len(said["digest_as_known"]) == 64
    assert "messages or rows were refused" in found.stderr
    assert processes_of(tmp_path) == []
    assert part_files(tmp_path) == []

    again = run(tmp_path, "replay", "--source", SOURCE, *DAYS, "--no-tables", "--no-sink", **on)
    assert again.returncode == 0, again.stderr
    assert said["digest"] in again.stdout
    assert said["digest_as_known"] in again.stdout
    assert "quality, the 5 worst of 5 symbols" in again.stdout
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: int, code: int) -> None:
    """With a broker of its own too, and once the tape moves."""
    playing = begin(tmp_path, "replay", "--source", SOURCE, *DAYS, "--speed=300", "--json")
    try:
        log = tmp_path / "logs" / "tape.coordinator-1.log"
        wait_until(lambda: log.exists() and " open 2024-11-27" in log.read_text(), 120)
        assert processes_of(tmp_path)
        playing.send_signal(number)
        out, _ = playing.communicate(timeout=60)
    finally:
        playing.kill()
        playing.wait()
    assert playing.returncode == code
    assert out == ""
    assert processes_of(tmp_path) == []
    assert part_files(tmp_path) == []
    assert list((tmp_path / "stacks").iterdir()) == []
    assert LocalBroker.find(tmp_path / "broker") is None


def test_a_signal_while_it_starts_leaves_nothing_behind(tmp_path: Path, on: dict[str, str]) -> None:
    playing = begin(tmp_path, "replay", "--source", SOURCE, *DAYS, **on)
    try:
        log = tmp_path / "logs" / f"{on['SESSIONTAPE_NAMESPACE']}.sink.log"
        wait_until(log.exists)
        playing.send_signal(signal.SIGINT)
        _, said = playing.communicate(timeout=60)
    finally:
        playing.kill()
        playing.wait()
    assert playing.returncode == 130, said
    assert processes_of(tmp_path) == []


def test_what_a_killed_replay_leaves_is_tidied_up(tmp_path: Path) -> None:
    playing = begin(tmp_path, "replay", "--source", SOURCE, *DAYS, "--speed=300")
    try:
        log = tmp_path / "logs" / "tape.coordinator-1.log"
        wait_until(lambda: log.exists() and " open 2024-11-27" in log.read_text(), 120)
    finally:
        os.kill(playing.pid, signal.SIGKILL)
        playing.communicate()
    assert processes_of(tmp_path) != []
    found = run(tmp_path, "status", "--json")
    assert found.returncode == 1
    again = run(tmp_path, "replay", "--source", SOURCE, *DAYS, "--json")
    assert again.returncode == 0, again.stderr
    assert "ended what a killed stack had left" in again.stderr
    run(tmp_path, "down")
    assert processes_of(tmp_path) == []


def test_a_source_that_gives_nothing_times_out_and_says_so(
    tmp_path: Path, on: dict[str, str]
) -> None:
    slow = "synthetic:symbols=2,delay_ms=600000"
    found = run(
        tmp_path,
        *("replay", "--source", slow, *DAYS, "--json", "--no-sink", "--no-tables"),
        *("--session-timeout", "1", "--on-timeout", "stop"),
        **on,
    )
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout)
    assert said["sessions"] == 1
    assert [one["session"] for one in said["incomplete"]] == ["2024-11-27"]
    assert "no coverage of" in said["incomplete"][0]["reason"]
    assert "warning: session 2024-11-27 is incomplete" in found.stderr
    assert said["bars"] == 0
    assert processes_of(tmp_path) == []


def test_a_worker_that_can_not_work_is_one_error(tmp_path: Path, on: dict[str, str]) -> None:
    (tmp_path / "faust").write_text("where the coordinator would have its folder")
    # It is the only one of Faust's here.
    found = run(tmp_path, "replay", "--source", SOURCE, *DAYS, "--no-tables", "--no-upkeep", **on)
    assert found.returncode == 1
    assert "sessiontape: worker coordinator-1 ended with code 1 4 times in a row" in found.stderr
    assert processes_of(tmp_path) == []


def test_the_demo(tmp_path: Path, on: dict[str, str]) -> None:
    found = run(tmp_path, "demo", "--speed", "max", **on)
    assert found.returncode == 0, found.stderr
    for words in (
        "sessions    4",
        "bars        68,300",
        "692 found, 692 without trade",
        "quality: 100 % of each of 50 symbols",
        "where to go next",
    ):
        assert words in found.stdout
    assert "close 2024-11-29, session clock 2024-11-29 13:00:00 New York" in found.stderr
    assert processes_of(tmp_path) == []
