"""Where a shard stands, and the frames that say so."""

from __future__ import annotations

from dataclasses import replace

from streams.tape import Tape
from tests.unit.streams.shards import command

PLACE = {"session": "2024-11-29", "open_ns": 1, "close_ns": 9}


def test_frames_and_rows_are_counted_without_holes() -> None:
    tape = Tape(1, 2, run="r", clock_ns=5)
    first = tape.write("rows", command(), rows=0, **PLACE)
    second = tape.write("rows", command(version=4, paused=True), **PLACE)
    assert (first.frame, first.first_row, first.shard, first.shards) == (0, 0, 1, 2)
    assert (second.frame, second.clock_ns, second.command) == (1, 5, 4)
    assert (first.state, second.state) == ("running", "paused")
    assert tape.write("end", command(), **PLACE).state == "stopped"


def test_it_stands_behind_the_last_committed_frame() -> None:
    last = Tape(0, 1, run="r", clock_ns=7, incomplete=True, reason="late").write(
        "rows", command(), **PLACE
    )
    last = replace(last, frame=11, first_row=90, rows=10, open_offset=3)
    tape = Tape(0, 1)
    tape.stand_at(last)
    assert (tape.run, tape.frame, tape.row, tape.clock_ns) == ("r", 12, 100, 7)
    assert (tape.open_offset, tape.incomplete, tape.reason) == (3, True, "late")
    rolled = Tape(0, 1)
    rolled.stand_at(replace(last, event="roll"))
    assert (rolled.incomplete, rolled.reason) == (False, "")
