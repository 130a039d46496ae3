"""What Kafka is told, and what its log says."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.local.kafka import PORT_TAKEN, command, diagnose, properties


def test_the_properties_hold_folder_and_ports() -> None:
    text = properties(Path("/data/a\\b"), {"client": 1234, "controller": 5678})
    lines = dict(line.split("=", 1) for line in text.splitlines())
    assert lines["log.dirs"] == "/data/a\\\\b/data"
    assert lines["listeners"] == "PLAINTEXT://127.0.0.1:1234,CONTROLLER://127.0.0.1:5678"
    assert lines["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1234"
    assert lines["controller.quorum.voters"] == "1@127.0.0.1:5678"
    assert lines["auto.create.topics.enable"] == "false"


def test_the_command_holds_heap_and_class_path() -> None:
    line = command(Path("/jre/java"), [Path("/a.jar"), Path("/b.jar")], 300, Path("/data"))
    assert line[0] == "/jre/java"
    assert "-Xmx300m" in line
    assert line[-2:] == ["-cp", "/a.jar:/b.jar"]
    config = next(arg for arg in line if arg.startswith("-Dlog4j2.configurationFile="))
    assert Path(config.partition("=")[2]).is_file()


@pytest.mark.parametrize(
    ("sign", "reason"),
    [
        (PORT_TAKEN, "taken meanwhile"),
        ("No space left on device", "disk is full"),
        ("Failed to acquire lock", "another broker"),
        ("OutOfMemoryError", "heap is too small"),
    ],
)
def test_a_known_sign_in_any_log_is_found(tmp_path: Path, sign: str, reason: str) -> None:
    (tmp_path / "one").write_text("all is well\n")
    (tmp_path / "two").write_text(f"java.lang.Exception: {sign}\n\tat a.b.C\n")
    found, text = diagnose(tmp_path / "one", tmp_path / "missing", tmp_path / "two")
    assert found == sign
    assert reason in text


def test_an_unknown_reason_points_to_the_log(tmp_path: Path) -> None:
    assert diagnose(tmp_path / "missing") == ("", "the end of its log says why")
