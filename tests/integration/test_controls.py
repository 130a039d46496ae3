"""A run that is on, under the controls, on a real broker with two shards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streams import Controls
from streams.calendar import sessions_between
from streams.control import latest_command
from streams.coverage import expected_ends
from streams.errors import CommandError, ConfigError, SessiontapeError
from streams.intervals import MINUTE_NS
from streams.local import LocalBroker
from tests.harness import Tape
from tests.rows import expected_rows

START, END = "2024-11-27", "2024-12-02"
SOURCE = "synthetic:symbols=6"
DAYS = sessions_between("XNYS", START, END)


@pytest.fixture
def tape(broker: LocalBroker, namespace: str, tmp_path: Path) -> Iterator[Tape]:
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2, source=SOURCE) as found:
        found.coordinator()
        found.producer()
        yield found


@pytest.fixture
def controls(tape: Tape) -> Iterator[Controls]:
    with Controls(settings=tape.settings) as found:
        yield found


def clocks(tape: Tape) -> set[int]:
    """Where the shards stand, by all that was read; -1: nothing was read of one yet."""
    return {frames[-1].frame.clock_ns if frames else -1 for frames in tape.frames.values()}


def states(tape: Tape) -> set[str]:
    """What the shards say of themselves, by all that was read; empty: nothing was yet."""
    return {frames[-1].frame.state if frames else "" for frames in tape.frames.values()}


def stand_still(tape: Tape, seconds: float = 1.0) -> bool:
    """Read on for a while; tell whether no row came, and no clock moved."""
    before = tape.rows_seen, clocks(tape)
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        tape.read()
    return (tape.rows_seen, clocks(tape)) == before


def has_rows(tape: Tape, count: int) -> None:
    tape.until(lambda: tape.rows_seen >= count, f"{count} rows")


def test_pause_step_speed_and_go_on_to_the_same_rows(tape: Tape, controls: Controls) -> None:
    tape.start(START, END, speed=600.0)
    has_rows(tape, 30)
    found = controls.pause()
    assert (found.state, found.speed, found.waits_for) == ("paused", 600.0, ())
    tape.until(lambda: clocks(tape) == {found.clock_ns}, "all shards at one clock")
    assert stand_still(tape)
    assert states(tape) == {"paused"}
    with pytest.raises(CommandError, match="is paused already"):
        controls.pause()

    ends = expected_ends(DAYS[0], MINUTE_NS)
    at = int(np.searchsorted(ends, found.clock_ns))
    for slices, stop in ((1, at + 1), (3, at + 4)):
        assert controls.step(slices).clock_ns == ends[stop]
        tape.until(lambda stop=stop: clocks(tape) == {int(ends[stop])}, "the step")  # type: ignore[misc]
        assert stand_still(tape, 0.3)

    assert controls.speed(1200.0).state == "paused"
    assert stand_still(tape, 0.3)
    assert controls.resume().state == "running"
    has_rows(tape, tape.rows_seen + 30)
    with pytest.raises(CommandError, match="is not paused"):
        controls.resume()
    with pytest.raises(CommandError, match="is not paused"):
        controls.step()
    assert controls.speed(0.0).speed == 0.0
    tape.play()
    assert tape.rows() == expected_rows(SOURCE, "XNYS", START, END)
    assert not any(frame.incomplete for frame in tape.frames_of())
    assert controls.state().state == "stopped"
    with pytest.raises(CommandError, match="no run is on"):
        controls.pause()


def test_a_run_at_full_speed_is_paused_and_steps_into_the_next_session(
    tape: Tape, controls: Controls
) -> None:
    tape.start(START, END, paused=True)
    tape.until(lambda: len(tape.came) == 2, "the start of both shards")
    assert stand_still(tape, 0.3)
    first = expected_ends(DAYS[0], MINUTE_NS)
    second = expected_ends(DAYS[1], MINUTE_NS)
    assert controls.step(len(first)).clock_ns == first[-1]
    found = controls.step()
    assert (found.session, found.clock_ns) == (DAYS[1].label, second[0])
    assert controls.state() == found
    tape.until(lambda: clocks(tape) == {int(second[0])}, "the first slice of the second session")
    expected = expected_rows(SOURCE, "XNYS", START, END)
    assert tape.rows() == expected[: 6 * (len(first) + 1)]
    everything = controls.step(10_000)
    assert everything.clock_ns == DAYS[2].close_ns
    with pytest.raises(CommandError, match="no run is on"):
        controls.step()


def test_seek_there_and_back_gives_the_rows_of_a_run_that_came_by(
    tape: Tape, controls: Controls
) -> None:
    tape.start(START, END, speed=600.0, run="run")
    has_rows(tape, 30)
    controls.pause()
    noon = f"{DAYS[1].label}T12:00"
    found = controls.seek(noon)
    assert (found.run, found.state) == ("run.2", "paused")
    there = [
        end for end in expected_ends(DAYS[1], MINUTE_NS) if end <= DAYS[1].open_ns + 150 * MINUTE_NS
    ]
    tape.until(lambda: clocks(tape) == {there[-1]}, "the clock at noon")
    assert stand_still(tape, 0.5)
    expected = expected_rows(SOURCE, "XNYS", DAYS[1].label, END)
    assert tape.rows("run.2") == expected[: 6 * len(there)]
    # At once, before anything of it is loaded: the place that was sought counts.
    assert controls.seek(noon).run == "run.3"
    assert controls.step().clock_ns == there[-1] + MINUTE_NS
    # It stands so already: nobody has to say so again.
    assert controls.speed(600.0).waits_for == ()

    back = controls.seek(DAYS[0].label)
    assert (back.run, back.session, back.clock_ns) == ("run.4", "", DAYS[0].open_ns)
    tape.until(lambda: clocks(tape) == {DAYS[0].open_ns}, "the start of both shards")
    assert stand_still(tape, 0.5)
    controls.resume()
    controls.speed(0.0)
    tape.play("run.4")
    assert tape.rows("run.4") == expected_rows(SOURCE, "XNYS", START, END)


def test_stop_ends_the_run_where_it_stands(tape: Tape, controls: Controls) -> None:
    tape.start(START, END, speed=600.0)
    has_rows(tape, 30)
    assert controls.stop().state == "stopped"
    tape.until(tape.ended, "the end")
    assert len(tape.rows()) < 6 * 390
    with pytest.raises(CommandError, match="no run is on"):
        controls.stop()


def test_what_is_out_of_place_changes_nothing(tape: Tape, controls: Controls) -> None:
    with pytest.raises(CommandError, match="no run is on"):
        controls.state()
    with pytest.raises(CommandError, match="no run is on"):
        controls.pause()
    tape.start(START, END, speed=60.0)
    has_rows(tape, 6)
    known = latest_command(tape.settings)
    refused = {
        "2024-11-28": "has no session",
        "2024-12-03": "it ends with session 2024-12-02",
        "2024-12-02T17:00": "it ends with session 2024-12-02",
        "next tuesday": "is no place on the tape",
    }
    for to, says in refused.items():
        with pytest.raises(CommandError, match=says):
            controls.seek(to)
    with pytest.raises(CommandError, match="it ends with session 2024-12-02"):
        controls.seek(DAYS[2].close_ns)
    for speed in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="is no speed"):
            controls.speed(speed)
    with pytest.raises(ConfigError, match="are no step"):
        controls.step(0)
    assert latest_command(tape.settings) == known


def test_a_shard_without_a_worker_is_named(
    tape: Tape, controls: Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.controls.ANSWER_S", 1.0)
    tape.start(START, END, speed=60.0)
    has_rows(tape, 6)
    tape.workers[0].kill()
    found = controls.pause()
    assert (found.state, found.waits_for) == ("paused", (0, 1))
    tape.coordinator()
    with pytest.raises(SessiontapeError, match="is paused already"):
        controls.pause()
    monkeypatch.undo()
    tape.until(lambda: states(tape) == {"paused"}, "the pause")
    assert controls.resume().waits_for == ()
