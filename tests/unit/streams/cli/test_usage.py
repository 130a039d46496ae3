"""The command line: help, exit codes, one sentence an error; no broker."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.cli import COMMANDS
from streams.cli.output import atomic_file, clock
from streams.errors import ConfigError
from tests.unit.streams.cli.running import run


def test_help_lists_every_command(tmp_path: Path) -> None:
    found = run(tmp_path, "--help")
    assert found.returncode == 0
    assert found.stderr == ""
    for name in COMMANDS:
        assert f" {name} " in found.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_a_command_has_examples_and_says_what_options_mean(
    tmp_path: Path, name: str
) -> None:
    found = run(tmp_path, name, "--help")
    assert found.returncode == 0
    assert "Examples:" in found.stdout
    assert f"sessiontape {COMMANDS[name].examples[0]}"[:40] in found.stdout


def test_help_is_there_at_once() -> None:
    heavy = "confluent_kafka numpy pandas faust pydantic rich.live pyarrow psutil"
    code = (
        "import sys\nfrom streams.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {heavy.split()} if name in sys.modules], file=sys.stderr)"
    )
    # What takes the time is what is imported; a bound in seconds would measure the machine.
    began_s = time.process_time()
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stderr.strip() == "[]"
    assert time.process_time() - began_s < 5


def test_the_version(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout.strip()[0].isdigit()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], 'Unknown command "frobnicate"'),
        (["replay"], "--source"),
        (["replay", "--as-known=tape"], "can't be played onto its own tape tape: name a"),
        (["replay", "--as-known=a b"], "a b is no namespace and no namespace/run"),
        (
            ["replay", "--as-known=a", "--source=synthetic:", "--no-prefetch", "--kinds=ticks"],
            "leave --source, --kinds, --no-prefetch out",
        ),
        (["replay", "--source", "synthetic:", "--bogus", "1"], "--bogus"),
        (["replay", "--source", "x:y"], "'x:y' is no source: write lean:DIR"),
        (["replay", "--source", "synthetic:"], "does not say which days it has: give --start"),
        (["replay", "--source=synthetic:", "--kinds=bars,quotes"], "has no quotes; it has bars"),
        (["replay", "--source=synthetic:", "--kinds=bars,news"], "bars, quotes and ticks are the"),
        (["replay", "--source=synthetic:", "--kinds=,"], "bars, quotes and ticks are the kinds"),
        (["start", "--kinds=news"], "--kinds news: bars, quotes and ticks are the kinds there are"),
        (
            ["replay", "--source", "synthetic:symbols=2", "--symbols", "SYN0001,NONE"],
            "has no NONE; it has SYN0001, SYN0002",
        ),
        (
            ["replay", "--source=synthetic:", "--start=2024-11-31", "--end=2024-12-01"],
            "'2024-11-31' is no date",
        ),
        (
            ["replay", "--source=synthetic:", "--calendar=NO", "--start=2024-11-25",
             "--end=2024-11-25"],
            "there is no calendar 'NO'",
        ),
        (["replay", "--source=synthetic:", "--speed=-1"], "SESSIONTAPE_SPEED"),
        (["replay", "--source=s:", "--extended-hours", "--hours=regular"], "two different things"),
        (["replay", "--source=synthetic:", "--on-timeout=wait"], "go_on"),
        (
            ["replay", "--source=synthetic:symbols=2", "--fallback=synthetic:symbols=3",
             "--symbols=SYN0003,SYN0004"],
            "has no SYN0004; it has SYN0001, SYN0002",
        ),
        (["replay", "--source=synthetic:", "--fallback=x:y"], "'x:y' is no source"),
        (["replay", "--source=synthetic:", "--withhold=much"], "'much' is none of 2%@7"),
        (
            ["replay", "--source=synthetic:", "--start=2024-11-25", "--end=2024-11-25",
             "--interval=30s"],
            "30s can't be derived from minutes",
        ),
        (
            ["replay", "--source=synthetic:", "--start=2024-11-25", "--end=2024-11-25",
             "--interval=5m", "--no-upkeep"],
            "without an upkeep nothing derives bars of 5m",
        ),
        (["ingest"], "--stream"),
        (["ingest", "--stream=trades"], "ticks"),
        (["ingest", "--stream=bars", "--tz=Mars"], "--tz Mars has to be a time zone"),
        (["ingest", "--stream=bars", "--scale=-1"], "--scale -1 has to be a number above 0"),
        (["ingest", "--stream=bars", "--map=price:p"], "'price:p' is no field:column"),
        (["ingest", "--stream=bars", "--interval=1x"], "'1x' is no interval"),
        (["replay", "--source=alpaca:"], "set SESSIONTAPE_ALPACA_KEY_ID"),
        (["replay", "--source=alpaca:key=abc"], "'key=abc' is no option"),
        (["replay", "--source=coinbase:symbols=BTC-USD"], "does not say which days it has"),
        (["quality", "--session=yesterday"], "'yesterday' is no session: write its day"),
        (["quality", "--worst=0"], ">= 1"),
        (["gaps", "--status=gone"], "given_up"),
        (["symbols", "add"], "symbols add needs a symbol"),
        (["symbols", "drop", "AIG"], "remove"),
        (["up", "--workers", "0"], ">= 1"),
        (["up", "--partitions", "many"], "--partitions"),
        (["up", "--source", "x:y"], "'x:y' is no source"),
        (["up", "--source", "synthetic:", "--withhold", "much"], "'much' is none of 2%@7"),
        (["up", "--fallback", "synthetic:"], "belong to a --source"),
        (["start", "--extended-hours", "--hours=regular"], "two different things"),
        (["history", "A", "--sessions", "0"], ">= 1"),
        (["history", "A", "--format", "xml"], "parquet"),
        (["subscribe", "--from", "yesterday"], "session"),
        (["bench", "no-such"], "no measurement 'no-such'"),
        (["bench", "--compare", "no-such.json"], "is no result of a bench"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_sentence_and_code_2(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    found = run(tmp_path, *arguments)
    assert found.returncode == 2, found
    assert found.stdout == ""
    assert found.stderr.startswith("sessiontape: ")
    assert len(found.stderr.splitlines()) == 1
    assert says in found.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["replay", "--source", "lean:/no/such", "--start=a", "--end=b"], "no such folder"),
        (["history", "SYN0001"], "nothing is recorded"),
        (["subscribe"], "no broker runs on"),
        (["start"], "no stack of namespace tape is up here: `sessiontape up --source"),
        (["pause"], "no broker runs on"),
        (["ingest", "--stream=bars"], "no broker runs on"),
        (["verify", "tape", "other"], "no broker runs on"),
    ],
)
def test_a_failure_is_one_sentence_and_code_1(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    found = run(tmp_path, *arguments)
    assert found.returncode == 1, found
    assert found.stdout == ""
    assert found.stderr.startswith("sessiontape: ")
    assert len(found.stderr.splitlines()) == 1
    assert says in found.stderr


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    found = run(tmp_path, "status", SESSIONTAPE_SPEED="fast")
    assert found.returncode == 2
    assert "SESSIONTAPE_SPEED" in found.stderr
    assert "'fast'" in found.stderr


def test_nothing_runs(tmp_path: Path) -> None:
    found = run(tmp_path, "status")
    assert found.returncode == 1
    assert "not running" in found.stdout
    as_json = run(tmp_path, "status", "--json")
    assert as_json.returncode == 1
    said = json.loads(as_json.stdout)
    assert said["up"] is False
    assert said["broker"]["running"] is False
    down = run(tmp_path, "down")
    assert (down.returncode, down.stdout) == (0, "nothing was running\n")
    assert json.loads(run(tmp_path, "down", "--json").stdout) == {"ended": 0}
    assert not (tmp_path / "data").exists()


def test_the_doctor_looks_at_all_there_is(tmp_path: Path) -> None:
    found = run(tmp_path, "doctor", "--json")
    said = {finding["name"]: finding for finding in json.loads(found.stdout)}
    names = {"python", "memory", "disk", "java", "jars", "ports", "chdb", "broker"}
    assert set(said) == names
    assert found.returncode == (0 if all(finding["ok"] for finding in said.values()) else 1)
    assert " python " in run(tmp_path, "doctor").stdout


def test_the_doctor_says_what_is_wrong(tmp_path: Path) -> None:
    found = run(tmp_path, "doctor", SESSIONTAPE_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert found.returncode == 1
    assert "no broker answers at 127.0.0.1:1" in found.stdout


def result(path: Path, digest: str) -> str:
    said = {"run": "r", "bars": 1, "digest": digest, "digest_as_known": "k"}
    path.write_text(json.dumps(said))
    return str(path)


def test_results_are_compared_without_a_broker(tmp_path: Path) -> None:
    a, b = result(tmp_path / "a.json", "x"), result(tmp_path / "b.json", "x")
    c = result(tmp_path / "c.json", "y")
    same = run(tmp_path, "verify", a, b)
    assert same.returncode == 0
    assert "equal in their final state, and as known" in same.stdout
    other = run(tmp_path, "verify", a, c, "--json")
    assert other.returncode == 1
    assert json.loads(other.stdout)["equal"] is False
    assert "they differ; where can't be told" in run(tmp_path, "verify", a, c).stdout
    (tmp_path / "half.json").write_text("{")
    assert run(tmp_path, "verify", a, str(tmp_path / "half.json")).returncode == 2


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"

    def fails() -> None:
        with atomic_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert list(tmp_path.iterdir()) == []
    with atomic_file(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]
    with (
        pytest.raises(ConfigError, match="can't be written"),
        atomic_file(tmp_path / "no" / "file"),
    ):
        pass


def test_times_for_people() -> None:
    assert clock(0) == "-"
    assert clock(1_732_545_000_000_000_000) == "2024-11-25 14:30:00"
    assert clock(1_732_545_000_000_000_000, "America/New_York") == "2024-11-25 09:30:00"
