"""The upkeep beside the tape, on real processes: gaps filled, bars derived, both told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streams.calendar import sessions_between
from streams.coverage import Status
from streams.intervals import MINUTE_NS
from streams.local import LocalBroker
from tests.harness import Tape
from tests.reading import read_topic
from tests.upkept import derived_frames, gap_requests, statuses

SOURCE = "synthetic:symbols=12,seed=11"
START, END = "2024-11-27", "2024-11-29"
MINUTES = {"2024-11-27": 390, "2024-11-29": 210}


@pytest.fixture
def tape(broker: LocalBroker, namespace: str, tmp_path: Path) -> Iterator[Tape]:
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2, source=SOURCE) as made:
        made.coordinator()
        made.upkeep()
        yield made


def begin(tape: Tape, run: str = "run-1", **changes: object) -> None:
    tape.start(
        START, END, run=run, upkeep=True, derived=("5m", "15m"),
        readers=(tape.topics.upkeep, tape.group), **changes,
    )  # fmt: skip


def test_what_is_withheld_comes_from_the_fallback_and_the_digest_is_that_of_complete_data(
    tape: Tape,
) -> None:
    tape.producer("--fallback", SOURCE, "--withhold", "5%@3")
    begin(tape)
    tape.play()
    digest = tape.digest()
    assert (digest.rows, digest.sessions) == (12 * (390 + 210), 2)
    found = [statuses(tape, label) for label in MINUTES]
    counted = [status for day in found for row in day.values() for status in row]
    filled = counted.count(Status.FILLED)
    assert filled + counted.count(Status.TRADED) == len(counted) == 12 * 600
    assert 0.03 < filled / len(counted) < 0.07
    assert all((frame.slice_corrections == 0).all() for frame in tape.frames_of())
    gaps = gap_requests(tape)
    assert {request.attempt for request in gaps} == {1}
    assert 2 <= len(gaps) <= 4

    # The same on complete data.
    tape.start(START, END, run="complete", symbols=tape.symbols)
    tape.workers[-1].stop()
    tape.producer()
    tape.play("complete")
    assert tape.digest("complete").final() == digest.final()
    assert tape.digest("complete").as_known() == digest.as_known()


def test_a_source_that_vouches_and_one_that_can_not_say(tape: Tape) -> None:
    tape.source = f"{SOURCE},missing=0.02"
    producer = tape.producer()
    begin(tape, run="vouched")
    tape.play("vouched")
    quiet = [s for day in MINUTES for row in statuses(tape, day, "vouched").values() for s in row]
    assert set(quiet) == {Status.TRADED, Status.NO_TRADE}
    share = quiet.count(Status.NO_TRADE) / len(quiet)
    assert 0.01 < share < 0.03
    marks = sum(int(frame.slice_no_trade.sum()) for frame in tape.frames_of("vouched"))
    assert marks == quiet.count(Status.NO_TRADE)
    assert producer.stop() == 0

    tape.source = f"{SOURCE},missing=0.02,vouch=0"
    tape.producer()
    begin(tape, run="silent")
    tape.play("silent")
    lost = [s for day in MINUTES for row in statuses(tape, day, "silent").values() for s in row]
    assert set(lost) == {Status.TRADED, Status.GIVEN_UP}
    assert lost.count(Status.GIVEN_UP) == quiet.count(Status.NO_TRADE)
    gaps = gap_requests(tape, "silent")
    assert {request.attempt for request in gaps} == {1, 2, 3, 4, 5}


def test_derived_bars_are_those_of_the_rows_of_the_tape(tape: Tape) -> None:
    tape.producer("--fallback", SOURCE, "--withhold", "10%@5")
    begin(tape)
    tape.play()
    rows = tape.rows()
    for interval, minutes in (("5m", 5), ("15m", 15)):
        length = minutes * MINUTE_NS
        wanted: dict[tuple[str, int], list[float]] = {}
        opens = [s.open_ns for s in sessions_between("XNYS", START, END)]
        for row in rows:
            open_ns = max(ns for ns in opens if ns <= row.ts_ns)
            start = open_ns + (row.ts_ns - open_ns) // length * length
            bar = wanted.setdefault(
                (row.symbol, start), [row.open, row.high, row.low, row.close, 0.0]
            )
            bar[1], bar[2], bar[3] = max(bar[1], row.high), min(bar[2], row.low), row.close
            bar[4] += row.volume
        came: dict[tuple[str, int], list[float]] = {}
        for frame in derived_frames(tape, interval):
            if frame.derived is None:
                continue
            bars = frame.derived
            assert (bars.ts_ns + bars.interval_ns <= frame.clock_ns).all()
            assert (bars.count == minutes).all()
            assert (bars.quality == 100.0).all()
            for at, symbol in enumerate(bars.symbol.tolist()):
                key = (frame.symbols[symbol], int(bars.ts_ns[at]))
                assert key not in came
                names = ("open", "high", "low", "close", "volume")
                came[key] = [float(getattr(bars, name)[at]) for name in names]
        assert came == wanted


@pytest.mark.timeout(240)
def test_two_keepers_share_the_shards_and_either_goes_on_for_the_other(tape: Tape) -> None:
    other = tape.upkeep("upkeep-2", is_supervised=True)
    tape.until(
        lambda: sorted(len(s) for s in tape.members(tape.topics.upkeep).values()) == [1, 1],
        "two members with one shard each",
    )
    tape.producer("--fallback", SOURCE, "--withhold", "5%@3")
    begin(tape, speed=600.0 * 60 / 8)
    tape.until(lambda: tape.rows_seen > 500, "rows")
    other.kill()
    tape.play()
    assert tape.digest().rows == 12 * 600
    for interval in ("5m", "15m"):
        numbers: dict[int, list[int]] = {}
        for frame in derived_frames(tape, interval):
            numbers.setdefault(frame.shard, []).append(frame.frame)
        for found in numbers.values():
            assert np.diff(found).tolist() == [1] * (len(found) - 1)
    assert read_topic(tape.settings, tape.topics.rejected) == []
