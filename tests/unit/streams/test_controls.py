"""Where a seek goes, and the run that it begins."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from schemas import Command, Frame
from streams import controls
from streams.control import is_one_replay, sought_run
from streams.controls import Controls
from streams.errors import CommandError
from streams.intervals import MINUTE_NS
from streams.places import place_of
from streams.settings import Settings
from streams.standing import clock_of, is_at
from streams.topics import shard_of
from tests.unit.streams.shards import Stage, command

PLAIN = command(hours="regular")
OPEN_NS = 1_732_717_800_000_000_000


def ns(text: str) -> int:
    return pd.Timestamp(text).value


@pytest.mark.parametrize(
    ("to", "session", "clock"),
    [
        ("2024-11-27", "2024-11-27", "2024-11-27T14:30Z"),
        ("2024-11-29T10:00", "2024-11-29", "2024-11-29T15:00Z"),
        ("2024-11-29T10:00:30", "2024-11-29", "2024-11-29T15:00:30Z"),
        ("2024-11-29T16:00+01:00", "2024-11-29", "2024-11-29T15:00Z"),
        (ns("2024-11-29T15:00Z"), "2024-11-29", "2024-11-29T15:00Z"),
        (np.int64(ns("2024-11-29T15:00Z")), "2024-11-29", "2024-11-29T15:00Z"),
        # Between two sessions, and behind an early close.
        ("2024-11-28T12:00", "2024-11-29", "2024-11-29T14:30Z"),
        ("2024-11-29T13:00", "2024-12-02", "2024-12-02T14:30Z"),
        ("2024-11-29T12:59:59", "2024-11-29", "2024-11-29T17:59:59Z"),
        # Before the first session of the run, which the calendar has, too.
        ("2024-11-26", "2024-11-26", "2024-11-26T14:30Z"),
    ],
)
def test_a_place_is_in_the_zone_of_the_calendar(to: str | int, session: str, clock: str) -> None:
    found, clock_ns = place_of(PLAIN, to)
    assert (found.label, clock_ns) == (session, ns(clock))


def test_of_a_calendar_without_a_break_every_time_is_a_place() -> None:
    always = command(calendar="24/7", hours="regular", start="2024-11-30", end="2024-12-01")
    found, clock_ns = place_of(always, "2024-12-01T00:00")
    assert (found.label, clock_ns) == ("2024-12-01", found.open_ns)
    with pytest.raises(CommandError, match="it ends with session 2024-12-01"):
        place_of(always, "2024-12-02T00:00")


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("2024-11-28", "XNYS has no session"),
        ("2024-12-03", "it ends with session 2024-12-02"),
        ("2024-12-02T16:00", "it ends with session 2024-12-02"),
        ("2025-06-02T12:00", "it ends with session 2024-12-02"),
        ("2024-13-01", "is no place on the tape"),
        ("noon", "is no place on the tape"),
        ("now", "is no place on the tape"),
        ("", "is no place on the tape"),
        ("nat", "is no place on the tape"),
        ("03/04/2024", "is no place on the tape"),
    ],
)
def test_what_is_no_place_is_said(to: str, says: str) -> None:
    with pytest.raises(CommandError, match=says):
        place_of(PLAIN, to)


def test_runs_of_one_replay_are_counted() -> None:
    assert [sought_run("a"), sought_run("a.2"), sought_run("a.9")] == ["a.2", "a.3", "a.10"]
    assert is_one_replay("a", "a.3")
    assert not is_one_replay("a.2", "b.2")


def frames(*stands: tuple[str, int]) -> list[Frame]:
    """Last frames of shards, by event and clock."""
    stage = Stage()
    stage.run()
    return [
        replace(stage.tape[0], shard=n, shards=len(stands), event=event, clock_ns=clock_ns)
        for n, (event, clock_ns) in enumerate(stands)
    ]


def test_the_clock_is_that_of_the_furthest_shard_that_has_something_to_play() -> None:
    full, bare = sorted({shard_of(name, 2): name for name in ("AA", "BB", "CC", "DD")}.items())
    both = command(symbols=(full[1], bare[1]))
    assert clock_of(both, frames(("rows", 5), ("rows", 7))) == 7
    assert clock_of(both, frames(("rows", 5), ("end", 9))) == 5
    assert clock_of(both, frames(("end", 9), ("end", 9))) == 9
    one = command(symbols=(full[1],))
    assert clock_of(one, frames(("rows", 5), ("rows", 9))) == 5


def test_a_place_that_was_sought_counts_before_the_shards_are_there() -> None:
    there = frames(("start", 5))
    assert clock_of(command(anchor_clock_ns=8, paused=True), there) == 8
    assert clock_of(command(anchor_clock_ns=8, speed=60.0), there) == 8
    assert clock_of(command(anchor_clock_ns=8), there) == 5, "as fast as it goes: no place"


def test_a_shard_before_an_open_stands_at_it() -> None:
    (rows,) = frames(("rows", 5))
    assert is_at(rows, 5)
    assert not is_at(rows, 6)
    (roll,) = frames(("roll", 5))
    assert is_at(replace(roll, open_ns=6), 6)
    assert not is_at(replace(roll, open_ns=6), 7)
    assert is_at(replace(rows, waiting=True, open_ns=6), 6)


def test_a_pause_says_where_all_stand_when_it_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that began within the pause says so where it begins, and then goes on to the rest."""
    sent: list[Command] = []
    later = OPEN_NS + 60 * MINUTE_NS

    def stand(first: tuple[str, int, str], second: tuple[str, int, str]) -> list[Frame]:
        found = frames(first[:2], second[:2])
        return [
            replace(frame, state=state, command=len(sent))
            for frame, state in zip(found, (first[2], second[2]), strict=True)
        ]

    plain = command(version=1)
    looks = iter(
        [
            stand(("rows", later, "running"), ("start", OPEN_NS, "running")),
            stand(("rows", later, "paused"), ("start", OPEN_NS, "paused")),
            stand(("rows", later, "paused"), ("rows", later, "paused")),
        ]
    )

    def latest(*_: object) -> Command:
        return sent[-1] if sent else plain

    monkeypatch.setattr(controls, "FrameReader", lambda *_, **__: SimpleNamespace(shards=(0, 1)))
    monkeypatch.setattr(controls, "run_that_is_on", lambda *_: (latest(), next(looks)))
    monkeypatch.setattr(controls, "last_of", lambda *_: next(looks))
    monkeypatch.setattr(controls, "latest_command", latest)
    monkeypatch.setattr(controls, "send_command", lambda _, asked: sent.append(asked))
    found = Controls(settings=Settings(bootstrap_servers="nowhere:1")).pause()
    assert (found.state, found.clock_ns, found.waits_for) == ("paused", later, ())
    assert [asked.anchor_clock_ns for asked in sent] == [later]
