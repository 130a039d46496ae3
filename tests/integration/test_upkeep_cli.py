"""What the upkeep does, seen from the command line: on a stack that is left running."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streams.control import latest_command, send_command
from streams.errors import CommandError
from streams.settings import Settings
from streams.symbols import symbol_states
from tests.integration.commands import begin, processes_of, run, wait_until

pytestmark = pytest.mark.timeout(300)

DAYS = ("--start", "2024-11-27", "--end", "2024-11-29")
MARKET = "synthetic:symbols=6,missing=0.01"
SYMBOLS = [f"SYN000{number}" for number in range(1, 7)]
LABEL = "2024-11-29"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a stack that is up, with two shards."""
    folder = tmp_path_factory.mktemp("upkeep") / "data"
    found = run(folder, "up", "--partitions", "2", "--json")
    try:
        assert found.returncode == 0, found.stderr
        assert "upkeep" in json.loads(found.stdout)["workers"]
        yield folder
    finally:
        assert run(folder, "down").returncode == 0
        assert processes_of(folder) == []


def said(data_dir: Path, *arguments: str) -> Any:
    found = run(data_dir, *arguments, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def replayed(data_dir: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = said(data_dir, "replay", "--source", MARKET, *DAYS, *arguments)
    return found


@pytest.fixture(scope="module")
def whole(data_dir: Path) -> dict[str, Any]:
    """A replay of a source that has all there is, and vouches for the rest."""
    return replayed(data_dir)


def test_a_source_that_vouches_has_no_gap_left(whole: dict[str, Any]) -> None:
    assert whole["quality"] == dict.fromkeys(SYMBOLS, 100.0)
    assert whole["gaps_found"] == whole["gaps_no_trade"] > 0
    assert whole["no_trade_minutes"] == whole["missing_minutes"] >= whole["gaps_found"]
    assert (whole["gaps_filled"], whole["gaps_given_up"], whole["fill_rate"]) == (0, 0, None)
    assert whole["bars"] + whole["no_trade_minutes"] == len(SYMBOLS) * (390 + 210)
    assert whole["prefetch_hit_rate"] in (0.0, 1.0)
    assert whole["incomplete"] == []


def test_what_the_source_lacks_the_fallback_fills(data_dir: Path, whole: dict[str, Any]) -> None:
    found = replayed(data_dir, "--withhold", "5%@7", "--fallback", MARKET, "--interval", "5m")
    assert found["fill_rate"] == 1.0
    assert found["filled_minutes"] > 50
    assert found["no_trade_minutes"] == whole["no_trade_minutes"]
    assert found["quality"] == whole["quality"]
    for name in ("digest", "digest_as_known", "rows"):
        assert found[name] == whole[name], name
    quality = said(data_dir, "quality")
    assert (quality["run"], quality["session"]) == (found["run"], LABEL)
    assert quality["from"] == "tape"
    assert sorted(one["symbol"] for one in quality["symbols"]) == SYMBOLS
    for one in quality["symbols"]:
        assert (one["quality"], one["expected"]) == (100.0, 210)
        assert one["traded"] + one["filled"] + one["no_trade"] == 210
    gaps = said(data_dir, "gaps")["gaps"]
    assert sum(gap["filled"] for gap in gaps) == sum(one["filled"] for one in quality["symbols"])
    filled = said(data_dir, "gaps", "--status", "filled", "--symbols", "SYN0001,SYN0002")["gaps"]
    assert filled == [
        gap for gap in gaps if gap["status"] == "filled" and gap["symbol"] in SYMBOLS[:2]
    ]
    for gap in filled:
        steps = [(step["status"], step["attempt"]) for step in gap["steps"]]
        assert steps == [("missing", 0), ("requested", 1), ("filled", 1)]
        assert gap["steps"][1]["request"].startswith(f"{found['run']}/{LABEL}/")
        assert gap["sources"]
    # The session before is on the tape, too, and the store says the same.
    before = said(data_dir, "quality", "--session", "2024-11-27")
    assert {one["expected"] for one in before["symbols"]} == {390}


def test_without_an_upkeep_what_is_missing_is_missing(
    data_dir: Path, whole: dict[str, Any]
) -> None:
    found = replayed(data_dir, "--no-upkeep", "--no-prefetch")
    assert (found["gaps_no_trade"], found["gaps_filled"]) == (0, 0)
    assert found["gaps_found"] == whole["gaps_found"]
    assert found["missing_minutes"] == whole["no_trade_minutes"]
    assert found["fill_rate"] == 0.0
    assert found["prefetch_hit_rate"] == 0.0
    assert min(found["quality"].values()) < 100
    assert found["digest"] == whole["digest"]
    shown = run(data_dir, "quality", "--worst", "1")
    assert "the 1 worst of 6 symbols" in shown.stdout
    assert "m missing" in shown.stdout


def test_bars_that_the_running_stack_does_not_derive_are_refused(data_dir: Path) -> None:
    found = run(data_dir, "replay", "--source", MARKET, *DAYS, "--interval", "7m")
    assert found.returncode == 2
    assert "the running stack has no bars of 7m" in found.stderr


def test_the_lag_of_the_upkeep_is_shown(data_dir: Path, whole: dict[str, Any]) -> None:
    for shard in said(data_dir, "status")["shards"]:
        assert isinstance(shard["lag"]["upkeep"], int)


def test_symbols_join_and_leave_a_run_that_is_watched(data_dir: Path) -> None:
    first = ",".join(SYMBOLS[:3])
    playing = begin(
        data_dir,
        *("replay", "--source", MARKET, "--start", LABEL, "--end", LABEL),
        *("--symbols", first, "--speed", "60", "--json"),
    )
    watching = None
    address = said(data_dir, "status")["broker"]["address"]
    settings = Settings(bootstrap_servers=address, data_dir=data_dir)

    def states() -> dict[str, str]:
        try:
            return symbol_states(settings)
        except CommandError:  # it is not on yet
            return {}

    try:
        wait_until(lambda: states() == dict.fromkeys(SYMBOLS[:3], "active"), 120)
        watching = begin(data_dir, "quality", "--watch", "--json")
        added = said(data_dir, "symbols", "add", SYMBOLS[3])
        assert added["add"] == [SYMBOLS[3]]
        again = run(data_dir, "symbols", "add", SYMBOLS[3])
        assert again.returncode == 1
        assert f"has {SYMBOLS[3]} already" in again.stderr
        listed = said(data_dir, "symbols")
        assert {"symbol": SYMBOLS[0], "state": "active"} in listed
        assert SYMBOLS[3] in {one["symbol"] for one in listed}
        wait_until(lambda: states().get(SYMBOLS[3]) == "active")
        assert run(data_dir, "symbols", "remove", SYMBOLS[0]).returncode == 0
        wait_until(lambda: SYMBOLS[0] not in states())
        latest = latest_command(settings)
        assert latest is not None
        # The rest of the day as fast as it goes.
        fast = replace(latest, version=latest.version + 1, action="speed", speed=0.0)
        send_command(settings, replace(fast, anchor_wall_ns=time.time_ns()))
        out, error = playing.communicate(timeout=120)
        lines, _ = watching.communicate(timeout=60)
    finally:
        for process in (playing, watching):
            if process is not None:
                process.kill()
                process.wait()
    assert playing.returncode == 0, error
    result = json.loads(out)
    assert {name: result["quality"][name] for name in SYMBOLS[1:4]} == dict.fromkeys(
        SYMBOLS[1:4], 100.0
    )
    views = [json.loads(line) for line in lines.splitlines()]
    assert len(views) > 1
    assert sorted(one["symbol"] for one in views[-1]["symbols"]) == SYMBOLS[1:4]
    assert {one["quality"] for one in views[-1]["symbols"]} == {100.0}
    over = run(data_dir, "symbols")
    assert over.returncode == 1
    assert "no run is on" in over.stderr
