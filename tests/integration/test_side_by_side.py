"""One live run and three replays side by side on one broker: none touches the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from streams.calendar import sessions_between
from streams.local import LocalBroker
from tests.harness import Tape
from tests.rows import Row, expected_rows

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unmeasured")]

DAYS = ("2024-11-26", "2024-11-29")
MARKETS = [f"synthetic:symbols={3 + number},seed={number}" for number in range(4)]
HOURS = "09:30-10:00"


@pytest.fixture
def tapes(broker: LocalBroker, namespace: str, tmp_path: Path) -> Iterator[list[Tape]]:
    with ExitStack() as held:
        found = []
        for number, market in enumerate(MARKETS):
            source = market if number else f"playback:{market}"
            (tmp_path / str(number)).mkdir()
            tape = Tape(
                broker.bootstrap_servers,
                f"{namespace}-{number}",
                tmp_path / str(number),
                source=source,
            )
            found.append(held.enter_context(tape))
        yield found


def test_a_live_run_and_three_replays_are_each_as_if_alone(tapes: list[Tape]) -> None:
    for number, tape in enumerate(tapes):
        tape.coordinator()
        tape.producer()
        if number == 0:
            tape.feeder()
    for tape in tapes:
        tape.await_members(tape.topics.coordinator, 1)
    (first,) = sessions_between("XNYS", DAYS[0], DAYS[0], HOURS)
    # Its minutes wait for their bars as long as it takes: it is not the machine that is tested.
    tapes[0].start(
        DAYS[0],
        DAYS[0],
        mode="live",
        speed=600.0,
        anchor_clock_ns=first.open_ns,
        lateness_s=1e5,
        hours=HOURS,
    )
    for number, tape in enumerate(tapes[1:]):
        # At speeds of their own; one is paused until the others are done.
        tape.start(*DAYS, speed=(0.0, 1800.0, 3600.0)[number], hours=HOURS, paused=number == 0)
    for tape in tapes[2:]:
        tape.play()
    assert tapes[1].rows_seen == 0, "it is paused"
    tapes[1].command(action="resume", paused=False)
    tapes[1].play()
    tapes[0].until(lambda: len(tapes[0].rows()) == len(wanted(0)), "all of the live run")
    for number, tape in enumerate(tapes):
        assert tape.rows() == wanted(number)
        assert {frame.mode for frame in tape.frames_of()} == {"replay" if number else "live"}
        assert tape.messages(tape.topics.rejected) == []


def wanted(number: int) -> tuple[Row, ...]:
    last = DAYS[1] if number else DAYS[0]
    return expected_rows(MARKETS[number], "XNYS", DAYS[0], last, HOURS)
