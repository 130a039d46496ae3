"""Runs that are begun and left to themselves: two stacks side by side, each with its source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams import Controls, SessionStream
from streams.control import latest_command
from streams.local.running import connected
from streams.settings import Settings
from tests.integration.commands import processes_of, run, wait_until
from tests.rows import Row, expected_rows, rows_of

pytestmark = pytest.mark.timeout(300)

SOURCES = {"one": "synthetic:symbols=4,seed=1", "two": "synthetic:symbols=3,seed=2"}
SHARDS = {"one": 1, "two": 2}
MORE = {"one": (), "two": ("--no-upkeep",)}
START, END = "2024-11-27", "2024-12-02"
DAYS = ("--start", START, "--end", END)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of two stacks that are up, on one broker."""
    folder = tmp_path_factory.mktemp("started") / "data"
    try:
        for name, source in SOURCES.items():
            made = ("--namespace", name, "--source", source, "--partitions", str(SHARDS[name]))
            found = run(folder, "up", *made, "--no-sink", "--no-tables", *MORE[name], "--json")
            assert found.returncode == 0, found.stderr
            assert "producer" in json.loads(found.stdout)["workers"]
        yield folder
    finally:
        assert run(folder, "down").returncode == 0
        assert processes_of(folder) == []


def said(data_dir: Path, *arguments: str) -> dict[str, Any]:
    found = run(data_dir, *arguments, "--json")
    assert found.returncode == 0, found.stderr
    made: dict[str, Any] = json.loads(found.stdout)
    return made


def settings_of(data_dir: Path, name: str) -> Settings:
    return connected(Settings(namespace=name, data_dir=data_dir))


def is_over(data_dir: Path, name: str) -> bool:
    with Controls(settings=settings_of(data_dir, name)) as controls:
        return controls.state().state == "stopped"


def rows_on(data_dir: Path, name: str, run_id: str) -> tuple[Row, ...]:
    """Read what a run has put on the tape, to its end."""
    rows: list[Row] = []
    with SessionStream(settings=settings_of(data_dir, name), start="first", run=run_id) as stream:
        for batch in stream.frames(30):
            rows += rows_of(batch, batch.symbols)
            if batch.event == "end":
                return tuple(rows)
    pytest.fail(f"the end of {run_id} did not come")


def test_runs_side_by_side_do_not_touch_each_other(data_dir: Path) -> None:
    runs = {
        name: said(data_dir, "start", "--namespace", name, *DAYS, "--paused") for name in SOURCES
    }
    assert {found["state"] for found in runs.values()} == {"paused"}
    assert said(data_dir, "step", "3", "--namespace", "one")["state"] == "paused"
    assert said(data_dir, "resume", "--namespace", "two")["state"] != "paused"
    wait_until(lambda: is_over(data_dir, "two"))
    at = said(data_dir, "status", "--namespace", "one")
    assert {shard["state"] for shard in at["shards"]} == {"paused"}
    assert sum(shard["rows"] for shard in at["shards"]) == 3 * 4

    twice = run(data_dir, "start", "--namespace", "one", *DAYS)
    assert (twice.returncode, twice.stdout) == (1, "")
    assert f"run {runs['one']['run']} is on in namespace one: stop it first" in twice.stderr
    beside = run(data_dir, "replay", "--namespace", "one", "--source", SOURCES["one"], *DAYS)
    assert beside.returncode == 1
    assert "has a source of its own: `sessiontape start` plays it" in beside.stderr

    assert said(data_dir, "resume", "--namespace", "one")["state"] != "paused"
    wait_until(lambda: is_over(data_dir, "one"))
    for name, source in SOURCES.items():
        assert rows_on(data_dir, name, runs[name]["run"]) == expected_rows(
            source, "XNYS", START, END
        )


def test_a_run_that_was_stopped_makes_room_for_the_next(data_dir: Path) -> None:
    slow = said(data_dir, "start", "--namespace", "two", *DAYS, "--speed", "60")
    assert (slow["state"], slow["speed"]) == ("running", 60.0)
    assert said(data_dir, "stop", "--namespace", "two")["state"] == "stopped"
    some = ("--symbols", "SYN0002", "--start", END, "--end", END)
    again = said(data_dir, "start", "--namespace", "two", *some)
    wait_until(lambda: is_over(data_dir, "two"))
    assert again["run"] != slow["run"]
    with Controls(settings=settings_of(data_dir, "two")) as controls:
        found = controls.start(["SYN0002"], END, END)
        wait_until(lambda: is_over(data_dir, "two"))
    command = latest_command(settings_of(data_dir, "two"))
    assert command is not None
    assert (command.run, command.readers, command.upkeep) == (found.run, (), False)
    wanted = [row for row in expected_rows(SOURCES["two"], "XNYS", END, END) if "SYN0002" in row]
    assert rows_on(data_dir, "two", again["run"]) == tuple(wanted)
