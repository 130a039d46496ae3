"""A stack that is left running: up, status, replays on it, crashes of its parts, down."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.local.state import StackState, state_path
from tests.integration.commands import begin, processes_of, run, wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("unmeasured")]

WEEK = ("--start", "2024-11-27", "--end", "2024-11-29")
SOURCE = ("--source", "synthetic:symbols=7,missing=0.01")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a stack that is up, with two shards."""
    folder = tmp_path_factory.mktemp("stack") / "data"
    # What a stack leaves that was killed long ago: no process of ours has this start time.
    stale = StackState.read(state_path(folder, "tape"))
    assert stale is None
    state_path(folder, "tape").parent.mkdir(parents=True)
    state_path(folder, "tape").write_text(
        json.dumps(
            {
                "namespace": "tape",
                "kind": "up",
                "owner": {"pid": os.getpid(), "created_s": 1.0, "ports": {}},
                "is_ready": True,
            }
        )
    )
    found = run(folder, "up", "--partitions", "2", "--json")
    try:
        assert found.returncode == 0, found.stderr
        said = json.loads(found.stdout)
        assert set(said["workers"]) == {"coordinator-1", "upkeep", "tables", "sink"}
        yield folder
    finally:
        down = run(folder, "down")
        assert down.returncode == 0, down.stderr
        assert processes_of(folder) == []


def status(data_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(data_dir, "status", "--json").stdout)
    return found


def worker(data_dir: Path, name: str) -> dict[str, Any]:
    (stack,) = (s for s in status(data_dir)["stacks"] if s["kind"] == "up")
    (found,) = (w for w in stack["workers"] if w["name"] == name)
    return dict(found)


def opened(data_dir: Path) -> int:
    """How many sessions the coordinator says it has opened since it was started."""
    log = data_dir / "logs" / "tape.coordinator-1.log"
    return log.read_text().count(": open ") if log.exists() else 0


def replayed(data_dir: Path, *arguments: str) -> dict[str, Any]:
    found = run(data_dir, "replay", *SOURCE, *WEEK, "--json", *arguments)
    assert found.returncode == 0, found.stderr
    return dict(json.loads(found.stdout))


def test_it_is_found_and_not_started_twice(data_dir: Path) -> None:
    found = status(data_dir)
    assert found["up"] is True
    assert found["broker"]["running"] is True
    assert all(w["running"] for stack in found["stacks"] for w in stack["workers"])
    again = run(data_dir, "up")
    assert again.returncode == 1
    assert "runs already" in again.stderr
    assert "ready" in run(data_dir, "status").stdout
    checked = run(data_dir, "doctor")
    assert "namespace tape, 2 shard(s)" in checked.stdout


def test_two_replays_on_it_are_equal_and_leave_it_up(data_dir: Path) -> None:
    first, second = replayed(data_dir), replayed(data_dir)
    assert first["run"] != second["run"]
    for name in ("digest", "digest_as_known", "rows", "quality", "gaps_found", "sessions"):
        assert first[name] == second[name], name
    assert first["sessions"] == 2
    assert first["transition_ms"]["p50"] <= first["transition_ms"]["max"]
    assert first["incomplete"] == []
    found = status(data_dir)
    assert found["up"] is True
    assert {stack["kind"] for stack in found["stacks"]} == {"up"}
    assert found["run"]["run"] == second["run"]
    for shard in found["shards"]:
        assert shard["event"] == "end"
        assert shard["lag"]["sink"] is not None
    a, b = f"tape/{first['run']}", f"tape/{second['run']}"
    same = run(data_dir, "verify", a, b, "--json")
    assert same.returncode == 0, same.stderr
    assert json.loads(same.stdout)["a"]["digest"] == first["digest"]


def test_another_market_differs_and_is_told_where(data_dir: Path) -> None:
    first = replayed(data_dir)
    found = run(
        data_dir, "replay", "--source", "synthetic:symbols=7,missing=0.01,seed=1", *WEEK, "--json"
    )
    other = json.loads(found.stdout)
    a, b = f"tape/{first['run']}", f"tape/{other['run']}"
    verdict = run(data_dir, "verify", a, b, "--json")
    assert verdict.returncode == 1
    at = json.loads(verdict.stdout)["first"]
    assert at["session"] == "2024-11-27"
    assert at["symbol"].startswith("SYN000")
    assert at["a"] != at["b"]
    assert "they differ, first at 2024-11-27 14:30:00 UTC" in run(data_dir, "verify", a, b).stdout


def test_its_tape_and_history_are_read_by_commands(data_dir: Path, tmp_path: Path) -> None:
    # Days of its own: the final state of a minute is that of whichever run delivered it last.
    days = ("--start", "2024-12-02", "--end", "2024-12-03")
    bars = json.loads(run(data_dir, "replay", *SOURCE, *days, "--json").stdout)["bars"]
    printed = run(data_dir, "subscribe", "--from", "session", "--until", "idle", "--json")
    assert printed.returncode == 0, printed.stderr
    rows = [json.loads(line) for line in printed.stdout.splitlines()]
    assert {row["session"] for row in rows} == {"2024-12-03"}
    assert rows == sorted(rows, key=lambda row: (row["known_ns"], row["symbol"]))
    some = run(data_dir, "subscribe", "--until=idle", "--symbols=SYN0001,SYN0002", "--format=csv")
    assert {line.split(",")[1] for line in some.stdout.splitlines()[1:]} == {"SYN0001", "SYN0002"}
    marks = run(data_dir, "subscribe", "--until=idle", "--unit=slices", "--limit=3")
    assert len(marks.stdout.splitlines()) == 3
    frames = run(data_dir, "subscribe", "--from=start", "--until=idle", "--unit=frames")
    assert " open " in frames.stdout

    every = ",".join(f"SYN000{number}" for number in range(1, 8))
    path = tmp_path / "bars.csv"
    found = run(data_dir, "history", every, "--sessions", "2", "--output", str(path))
    assert found.returncode == 0, found.stderr
    assert len(path.read_text().splitlines()) == bars + 1
    assert list(tmp_path.iterdir()) == [path]
    one = run(data_dir, "history", "SYN0001", "--sessions", "1", "--json")
    assert {row["session"] for row in json.loads(one.stdout)} == {"2024-12-03"}
    assert "SYN0001" in run(data_dir, "history", "SYN0001", "--sessions", "1").stdout


def test_what_a_running_stack_has_can_not_be_asked_for_otherwise(data_dir: Path) -> None:
    more = run(data_dir, "replay", *SOURCE, *WEEK, "--workers", "3")
    assert more.returncode == 2
    assert "has 1 worker(s), not 3" in more.stderr
    shards = run(data_dir, "replay", *SOURCE, *WEEK, "--partitions", "5")
    assert shards.returncode == 1
    assert "has 2 partitions, not 5" in shards.stderr


def test_one_replay_at_a_time_and_ctrl_c_stops_it(data_dir: Path) -> None:
    before_it = opened(data_dir)
    playing = begin(data_dir, "replay", *SOURCE, *WEEK, "--speed", "600", "--json")
    try:
        wait_until(lambda: opened(data_dir) > before_it)
        busy = run(data_dir, "replay", *SOURCE, *WEEK)
        assert busy.returncode == 1
        assert "another replay plays in namespace tape" in busy.stderr
        playing.send_signal(signal.SIGINT)
        out, error = playing.communicate(timeout=60)
    finally:
        playing.kill()
        playing.wait()
    assert playing.returncode == 130
    assert out == ""
    assert "interrupted" in error
    found = status(data_dir)
    assert found["up"] is True
    assert found["run"]["stopped"] is True
    assert {stack["kind"] for stack in found["stacks"]} == {"up"}


@pytest.mark.parametrize("name", ["coordinator-1", "tables", "sink"])
def test_a_killed_worker_comes_back_and_the_tape_is_the_same(data_dir: Path, name: str) -> None:
    want = replayed(data_dir)["digest"]
    before = worker(data_dir, name)["pid"]
    before_it = opened(data_dir)
    playing = begin(data_dir, "replay", *SOURCE, *WEEK, "--speed", "3600", "--json")
    try:
        wait_until(lambda: opened(data_dir) > before_it)
        os.kill(before, signal.SIGKILL)
        out, error = playing.communicate(timeout=120)
    finally:
        playing.kill()
        playing.wait()
    assert playing.returncode == 0, error
    assert json.loads(out)["digest"] == want
    after = worker(data_dir, name)
    assert after["running"] is True
    assert after["pid"] != before


def test_a_killed_broker_comes_back_and_the_tape_is_the_same(data_dir: Path) -> None:
    want = replayed(data_dir)["digest"]
    before = status(data_dir)["broker"]
    before_it = opened(data_dir)
    playing = begin(data_dir, "replay", *SOURCE, *WEEK, "--speed", "3600", "--json")
    try:
        wait_until(lambda: opened(data_dir) > before_it)
        os.kill(before["pid"], signal.SIGKILL)
        out, error = playing.communicate(timeout=120)
    finally:
        playing.kill()
        playing.wait()
    assert playing.returncode == 0, error
    assert json.loads(out)["digest"] == want
    after = status(data_dir)["broker"]
    assert after["address"] == before["address"]
    assert after["pid"] != before["pid"]
