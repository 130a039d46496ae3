"""A rehearsed feed, its messages, the source that is asked and a shard: what comes of a loss."""

from __future__ import annotations

from schemas import DataRequest
from streams.answers import Answers, Message
from streams.calendar import sessions_between
from streams.feeds.dispatch import Dispatch
from streams.topics import Topics
from tests.unit.streams.feeds.playing import Given, StepClock, play
from tests.unit.streams.feeds.test_playback import MARKET, SYMBOLS, clean
from tests.unit.streams.feeds.test_rehearsal import feed
from tests.unit.streams.shards import Delivered, Stage, command, delivered

DAY, HOURS = "2024-11-29", "09:30-10:30"
SESSIONS = sessions_between("XNYS", DAY, DAY, HOURS)
OPEN_NS = SESSIONS[0].open_ns
LOSSES = "seed=3,disconnect=4@90s"


def played(options: str) -> list[Delivered]:
    """What a tape has of a session that a feed gives, and the source where it was away."""
    now = {"anchor_wall_ns": OPEN_NS, "anchor_clock_ns": OPEN_NS}
    span = {"start": DAY, "end": DAY, "hours": HOURS}
    stage = Stage(command(mode="live", speed=1.0, symbols=SYMBOLS, **span, **now))
    topics = Topics("model")
    dispatch = Dispatch(topics, stage.plan, MARKET.name)
    answers = Answers(topics, [MARKET], gap_timeout_s=5.0, history_timeout_s=5.0)
    for now_ns, event in play(feed(options), SYMBOLS, StepClock(SESSIONS, OPEN_NS)):
        stage.wall_ns = now_ns
        stage.run()
        for message in dispatch.take(event, now_ns):
            if isinstance(message.record, DataRequest):
                found = answers.to(message.record)
                stage.send(*(out.record for out in found if isinstance(out, Message)))
            else:
                stage.send(message.record)  # type: ignore[arg-type]
        stage.run()
    stage.run(60.0)
    assert stage.story[-1] == "end"
    assert stage.partition.rejections == []
    return delivered(stage.tape)


def given(one: Delivered) -> Given:
    symbol, ts_ns, _, revision = one.row
    return Given(symbol, ts_ns, revision, one.values)


def test_a_correction_that_came_while_the_connection_was_lost_is_on_the_tape() -> None:
    rows = played(f"{LOSSES},revise=1@90s")
    last = {one.row[:2]: given(one).values for one in rows}
    assert last == {(row.symbol, row.ts_ns): row.values for row in clean(SESSIONS)}
    assert {one.row[3] for one in rows} == {0, 1}


def test_what_is_known_and_was_not_corrected_does_not_come_again() -> None:
    rows = played(LOSSES)
    assert sorted(map(given, rows)) == sorted(clean(SESSIONS))
