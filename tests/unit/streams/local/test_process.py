"""Processes started, found again and ended, with real ones."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from streams.errors import SessiontapeError
from streams.local.process import ProcessRecord, alive, end, spawn


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        os.sched_yield()


def test_a_spawned_process_writes_to_its_file_and_leads_its_own_session(tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = spawn(["sh", "-c", "echo out; echo err >&2; exec sleep 60"], output)
    try:
        wait_until(lambda: output.read_text() == "out\nerr\n")
        assert os.getsid(process.pid) == process.pid
        assert alive(process)
    finally:
        assert end(process, 10)
    assert not alive(process)


def test_a_program_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SessiontapeError, match="no-such-program is not a program"):
        spawn(["no-such-program"], tmp_path / "out")


def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SessiontapeError, match="could not start sleep: No such file"):
        spawn(["sleep", "60"], tmp_path / "missing" / "out")


def test_a_process_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = spawn(["sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 1; done'], output)
    wait_until(lambda: output.read_text() == "ready\n")
    assert not end(process, 0.2)
    assert not alive(process)


def test_ending_a_process_that_is_gone_does_nothing(tmp_path: Path) -> None:
    process = spawn(["true"], tmp_path / "out")
    process.wait(10)
    assert end(process, 1)


def test_a_zombie_is_not_alive(tmp_path: Path) -> None:
    process = spawn(["sleep", "60"], tmp_path / "out")
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not alive(process))
    assert process.is_running()
    assert process.wait(10) == -signal.SIGKILL
    assert not alive(process)


def test_a_record_finds_the_process_it_was_made_of(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    record = ProcessRecord.of(psutil.Process(), {"client": 9})
    record.write(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]
    read = ProcessRecord.read(path)
    assert read == record
    found = read.process()
    assert found is not None
    assert found.pid == os.getpid()


def test_a_pid_that_is_somebody_elses_by_now_is_not_found() -> None:
    mine = ProcessRecord.of(psutil.Process())
    assert ProcessRecord(mine.pid, mine.created_s - 60).process() is None


@pytest.mark.parametrize("pid", [2**22 + 1, -1])
def test_a_pid_that_is_nobodys_is_not_found(pid: int) -> None:
    assert ProcessRecord(pid, 0.0).process() is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"pid": "x", "created_s": 1, "ports": {}}', '{"ports": 1}']
)
def test_half_a_record_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    assert ProcessRecord.read(path) is None
    assert ProcessRecord.read(tmp_path / "missing.json") is None
