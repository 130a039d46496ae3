"""Two strategies in two processes and a run at full speed that waits for both, kills included."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.local import LocalBroker
from tests.harness import Tape
from tests.rows import expected_rows
from tests.workers import environment

pytestmark = pytest.mark.timeout(180)

SOURCE = "synthetic:symbols=6,seed=5,missing=0.05"
START, END, HOURS = "2024-11-27", "2024-11-29", "09:30-10:10"
STRATEGY = """
import json, random, sys, time
from streams import SessionStream
from streams.settings import load
name, output = sys.argv[1:]
rng = random.Random(name)
found = []
with SessionStream(settings=load(), start="now", group=name, lockstep=True) as stream:
    print("ready", flush=True)
    for one in stream:
        began_ns = time.monotonic_ns()
        time.sleep(rng.choice([0.0, 0.0, 0.005]))
        found.append((one.ready_ns, began_ns, time.monotonic_ns()))
with open(output, "w") as file:
    json.dump(found, file)
"""


@pytest.fixture
def tape(broker: LocalBroker, namespace: str, tmp_path: Path) -> Iterator[Tape]:
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2, source=SOURCE) as found:
        found.coordinator()
        found.producer()
        yield found


def strategy(tape: Tape, name: str, output: Path) -> subprocess.Popen[str]:
    """Start a strategy; it is subscribed when this comes back."""
    names = ("bootstrap_servers", "namespace", "data_dir")
    started = subprocess.Popen(
        [sys.executable, "-c", STRATEGY, name, str(output)],
        env=environment({key: getattr(tape.settings, key) for key in names}),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


@pytest.mark.parametrize("kills", [(), (100, 250)], ids=["undisturbed", "killed"])
def test_two_processes_never_see_different_clocks(
    tape: Tape, tmp_path: Path, kills: tuple[int, ...]
) -> None:
    """However often the coordinator is killed: ``kills`` are the rows out before each time."""
    outputs = {f"{tape.settings.namespace}.{name}": tmp_path / name for name in ("a", "b")}
    started = [strategy(tape, name, output) for name, output in outputs.items()]
    try:
        tape.start(START, END, hours=HOURS, lockstep=tuple(outputs), lockstep_timeout_s=60.0)
        for rows in kills:
            tape.until(lambda rows=rows: tape.rows_seen >= rows, "rows before the kill")  # type: ignore[misc]
            tape.workers[0].kill()
            tape.read()
            assert not tape.ended(), "it was killed too late"
            tape.workers[0].start()
        tape.play(timeout_s=120)
        assert [one.wait(30) for one in started] == [0, 0]
    finally:
        for one in started:
            one.kill()
            one.communicate()
    assert tape.rows() == expected_rows(SOURCE, "XNYS", START, END, HOURS)
    assert not any(frame.left_out for frame in tape.frames_of())
    first, second = (json.loads(output.read_text()) for output in outputs.values())
    assert [one[0] for one in first] == [one[0] for one in second]
    assert len(first) == 2 * 40
    # Nobody begins with a slice before all are done with the one before it.
    for before, after in zip(zip(first, second, strict=True), [*zip(first, second)][1:]):  # noqa: B905
        assert max(one[2] for one in before) <= min(one[1] for one in after)


def test_one_that_is_silent_is_named_and_left_out(tape: Tape, tmp_path: Path) -> None:
    here, away = f"{tape.settings.namespace}.here", f"{tape.settings.namespace}.away"
    started = strategy(tape, here, tmp_path / "here")
    try:
        tape.start(START, END, hours=HOURS, lockstep=(here, away), lockstep_timeout_s=8.0)
        tape.play(timeout_s=120)
        assert started.wait(30) == 0
    finally:
        started.kill()
        started.communicate()
    assert tape.rows() == expected_rows(SOURCE, "XNYS", START, END, HOURS)
    assert {frame.left_out for frame in tape.frames_of()} == {(), (away,)}
    assert {frames[-1].frame.left_out for frames in tape.frames.values()} == {(away,)}
    assert f"{away} has not taken offset" in tape.workers[0].log
    assert f"{here} has not taken" not in tape.workers[0].log
    assert len(json.loads((tmp_path / "here").read_text())) == 2 * 40
