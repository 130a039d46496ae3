"""The feeder against a real broker: rows as they happen, what vouches for them behind them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from schemas import BarBlock, Codec, Coverage, DataRequest
from streams.calendar import sessions_between
from streams.intervals import MINUTE_NS
from streams.local import LocalBroker
from tests.harness import Tape
from tests.reading import read_topic

DAY = sessions_between("XNYS", "2024-03-04", "2024-03-04")[0]
SPEED = 300.0
"""A minute of the tape takes 200 ms, and the session 78 s: that is time enough."""


def records(tape: Tape, topic: str) -> list[tuple[int, Any]]:
    """Return what a topic holds, with the partition of each, in its order."""
    codec = Codec()
    return [
        (message.partition() or 0, codec.decode(message.value() or b""))
        for message in read_topic(tape.settings, topic)
    ]


def test_rows_come_in_order_with_coverage_behind_them_and_a_death_is_asked_for(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    source = "synthetic:symbols=6,seed=3"
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2, source=source) as tape:
        feeder = tape.worker("feeder", "streams.feeder", "--source", f"playback:{source}")
        tape.until(lambda: "ready feed=synthetic" in feeder.log, "the feeder")
        command = tape.start(
            DAY.label,
            DAY.label,
            mode="live",
            speed=SPEED,
            anchor_wall_ns=time.time_ns(),
            anchor_clock_ns=DAY.open_ns,
        )

        def has(count: int) -> bool:
            return tape.end_of(tape.topics.raw_bars) >= count

        tape.until(lambda: has(30), "messages of the feed")
        feeder.kill()
        before = records(tape, tape.topics.raw_bars)
        feeder.start()
        tape.until(lambda: has(len(before) + 30), "messages of the feed after its death")
        began_s = time.monotonic()
        assert feeder.stop() == 0
        assert time.monotonic() - began_s < 5
        found = records(tape, tape.topics.raw_bars)
        requests = [record for _, record in records(tape, tape.topics.requests)]

    for shard in range(2):
        reached = dict.fromkeys((s for s in tape.symbols if tape.shard_of(s) == shard), 0)
        vouched = dict.fromkeys(reached, 0)
        for _, record in (pair for pair in found if pair[0] == shard):
            assert record.run == command.run
            assert record.source == "synthetic"
            if isinstance(record, BarBlock):
                ready = record.ts_ns + MINUTE_NS
                for name, ns in zip(
                    (record.symbols[n] for n in record.symbol), ready.tolist(), strict=True
                ):
                    assert ns > reached[name]  # each once, in order
                    assert ns > vouched[name]  # nobody has vouched for it before
                    reached[name] = ns
            else:
                assert isinstance(record, Coverage)
                assert set(record.symbols) <= set(reached)
                for name in record.symbols:
                    # Behind what it vouches for: whole minutes of it are there.
                    assert reached[name] >= record.end_ns - record.end_ns % MINUTE_NS
                    vouched[name] = record.end_ns
        assert min(vouched.values()) > DAY.open_ns

    # What came before it began again is asked for, up to where it vouches from.
    assert all(isinstance(r, DataRequest) and r.run == command.run for r in requests)
    again = {request.shard: request for request in requests}
    assert set(again) == {0, 1}
    for shard, request in again.items():
        assert (request.kind, request.streams, request.session) == ("session", ("bars",), DAY.label)
        assert request.start_ns == DAY.open_ns
        assert request.end_ns in {
            r.start_ns for p, r in found if p == shard and isinstance(r, Coverage)
        }
    assert len({request.id for request in requests}) == len(requests)
