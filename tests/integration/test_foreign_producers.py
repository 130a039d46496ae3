"""Producers that know nothing of us: plain Avro rows by confluent-kafka and by kcat, good and bad.

The messages are made with fastavro and the published schemas alone; nothing of ours writes them.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Message, Producer

from streams.local import LocalBroker
from tests.harness import Tape
from tests.rows import Row

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
MINUTE = 60 * 10**9
OPEN = 1_732_717_800 * 10**9  # 2024-11-27 09:30 in New York
CLOSE = OPEN + 390 * MINUTE
DAY = "2024-11-27"
NEXT = "2024-11-29"
NEXT_OPEN = OPEN + 2 * 1440 * MINUTE  # a holiday lies between
NEXT_CLOSE = NEXT_OPEN + 210 * MINUTE


def avro(name: str, values: Mapping[str, Any]) -> bytes:
    """Return a record in Avro's single-object encoding: marker, fingerprint, body."""
    raw = json.loads((SCHEMAS / f"{name}.avsc").read_text())
    schema = fastavro.parse_schema(raw)
    canonical = fastavro.schema.to_parsing_canonical_form(raw)
    # CRC-64-AVRO as hex, the bytes in the order in which the encoding wants them.
    fingerprint = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, dict(values))
    return b"\xc3\x01" + fingerprint + body.getvalue()


def bar(symbol: str, minute: int, close: float = 10.5, **changes: Any) -> bytes:
    values = {
        "symbol": symbol,
        "ts_ns": OPEN + minute * MINUTE,
        "open": 10.0,
        "high": 11.0,
        "low": 9.0,
        "close": close,
        "volume": 100.0 + minute,
        "source": "theirs",
    }
    return avro("Bar", values | changes)


def row(symbol: str, minute: int, close: float = 10.5, known: int = 0, revision: int = 0) -> Row:
    ts_ns = OPEN + minute * MINUTE
    known_ns = known or ts_ns + MINUTE
    values = (10.0, 11.0, 9.0, close, 100.0 + minute)
    return Row(known_ns, symbol, ts_ns, MINUTE, *values, revision)


def coverage(symbols: Iterable[str], start: int = OPEN, end: int = CLOSE) -> bytes:
    values = {"symbols": list(symbols), "start_ns": start, "end_ns": end, "answer": "rows"}
    return avro("Coverage", values)


class Theirs:
    """A third party's producer."""

    def __init__(self, tape: Tape) -> None:
        self._topic = tape.topics.raw_bars
        servers = tape.settings.bootstrap_servers
        self._client = Producer(
            {"bootstrap.servers": servers, "partitioner": "murmur2_random", "acks": "all"}
        )

    def send(self, value: bytes, key: str, partition: int = -1) -> tuple[int, int]:
        """Send one message; return where it stands."""
        sent: list[Message] = []
        self._client.produce(
            self._topic, value, key.encode(), partition, on_delivery=lambda _, m: sent.append(m)
        )
        assert self._client.flush(30) == 0
        assert sent[0].error() is None
        return int(sent[0].partition() or 0), int(sent[0].offset() or 0)


def names(tape: Tape) -> tuple[str, str]:
    """Return a symbol of each of two shards."""
    every = ("ALPHA", "BETA", "GAMMA", "DELTA", "EPSILON", "ZETA")
    return (
        next(name for name in every if tape.shard_of(name) == 0),
        next(name for name in every if tape.shard_of(name) == 1),
    )


def test_plain_rows_of_confluent_kafka_come_out_on_the_tape(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2) as tape:
        tape.coordinator()
        tape.symbols = one, two = names(tape)
        tape.start(DAY, DAY)
        theirs = Theirs(tape)
        # Later minutes first; one row twice, once corrected before it is out.
        for minute in (5, 0, 389, 7):
            for symbol in (two, one):
                theirs.send(bar(symbol, minute), symbol)
        theirs.send(bar(one, 5), one)
        theirs.send(bar(two, 7, close=10.75, revision=2), two)
        theirs.send(bar(two, 7, close=10.25, revision=1), two)
        for symbol in (one, two):
            theirs.send(coverage([symbol]), symbol)
        tape.play()
        wanted = [row(symbol, minute) for minute in (0, 5, 389) for symbol in (one, two)]
        wanted += [row(one, 7), row(two, 7, close=10.75, revision=2)]
        assert tape.rows() == tuple(sorted(wanted))
        (source,) = {name for frame in tape.frames_of() for name in frame.sources}
        assert source == "theirs"
        frames = [frame for frame in tape.frames_of(shard=0) if frame.event == "rows"]
        assert sum(int(frame.slice_expected.sum()) for frame in frames) == 390
        assert sum(int(frame.slice_missing.sum()) for frame in frames) == 386
        assert tape.messages(tape.topics.rejected) == []


def test_plain_rows_of_kcat_come_out_on_the_tape(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    kcat = shutil.which("kcat")
    if kcat is None and "CI" not in os.environ:
        pytest.skip("kcat is not there: apt-get install kcat (or brew install kcat)")
    assert kcat, "kcat is not there, and CI must have it: .ci/run installs it"
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2) as tape:
        tape.coordinator()
        tape.symbols = names(tape)
        tape.start(DAY, DAY)

        def send(symbol: str, value: bytes) -> None:
            message = tmp_path / "message"
            message.write_bytes(value)
            command = [kcat, "-P", "-b", tape.settings.bootstrap_servers]
            command += [
                "-t",
                tape.topics.raw_bars,
                "-k",
                symbol,
                "-X",
                "partitioner=murmur2_random",
            ]
            subprocess.run([*command, str(message)], check=True, timeout=60)

        for symbol in tape.symbols:
            for minute in (1, 0):
                send(symbol, bar(symbol, minute))
            send(symbol, coverage([symbol]))
        tape.play()
        wanted = [row(symbol, minute) for minute in (0, 1) for symbol in tape.symbols]
        assert tape.rows() == tuple(sorted(wanted))


def test_bad_messages_are_set_aside_once_and_the_rest_goes_on(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2) as tape:
        coordinator = tape.coordinator()
        tape.symbols = one, two = names(tape)
        tape.start(DAY, NEXT)
        theirs = Theirs(tape)
        wrong = 1 - tape.shard_of(one)
        bad = {
            "neither Avro's single-object encoding": (b"no avro at all", one, -1),
            "no schema of ours has the fingerprint": (
                b"\xc3\x01" + bytes(8) + bar(one, 3)[10:],
                one,
                -1,
            ),
            "the Bar is cut short": (bar(one, 3)[:-20], one, -1),
            "high is below low": (bar(one, 3, high=8.0, low=9.0), one, -1),
            "not a number": (bar(one, 3, volume=float("nan")), one, -1),
            "the volume is negative": (bar(one, 3, volume=-1.0), one, -1),
            "close lies outside": (bar(one, 3, close=12.0), one, -1),
            "'STRANGER' is not one of the run": (bar("STRANGER", 3), one, -1),
            f"belongs in partition {1 - wrong} of 2": (bar(one, 3), one, wrong),
            "outside every session": (bar(one, 400), one, -1),
            "'1 minute' is no interval": (bar(one, 3, interval="1 minute"), one, -1),
            "does not belong on this topic": (tape_request(one), one, -1),
        }
        theirs.send(bar(one, 0), one)
        sent = {}
        for reason, (value, key, partition) in bad.items():
            sent[theirs.send(value, key, partition)] = (reason, value)
        theirs.send(bar(one, 3), one)
        for symbol in (one, two):
            theirs.send(coverage([symbol]), symbol)
        tape.until(lambda: "roll" in {e.split()[0] for e in tape.events(0)}, "the first session")
        # A second start looks at messages again: it must not set them aside again.
        coordinator.kill()
        coordinator.start()
        # Its session is over by now, and it names the run: no correction, no silence.
        sent[theirs.send(bar(one, 1), one)] = ("its session is over", bar(one, 1))
        for symbol in (one, two):
            theirs.send(coverage([symbol], NEXT_OPEN, NEXT_CLOSE), symbol)
        tape.play()
        assert tape.rows() == (row(one, 0), row(one, 3))
        found = {}
        for message in tape.messages(tape.topics.rejected):
            headers = headers_of(message)
            assert headers["topic"] == tape.topics.raw_bars == (message.key() or b"").decode()
            place = (int(headers["partition"]), int(headers["offset"]))
            assert place not in found, "set aside twice"
            found[place] = (headers["reason"], message.value())
        assert found.keys() == sent.keys()
        for place, (reason, value) in sent.items():
            assert reason in found[place][0], f"{found[place][0]!r}, not {reason!r}"
            assert found[place][1] == value, "a message goes on as it came"


def headers_of(message: Message) -> dict[str, str]:
    found: Any = message.headers() or []
    return {name: value.decode() for name, value in found}


def tape_request(symbol: str) -> bytes:
    values = {
        "id": "x",
        "run": "",
        "kind": "history",
        "streams": ["bars"],
        "symbols": [symbol],
        "start_ns": OPEN,
        "end_ns": CLOSE,
        "session": DAY,
        "shard": 0,
    }
    return avro("DataRequest", values)


def test_a_late_row_in_a_paced_replay_comes_out_as_a_correction(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    with Tape(broker.bootstrap_servers, namespace, tmp_path) as tape:
        coordinator = tape.coordinator()
        tape.symbols = ("ALPHA",)
        # So slow that the session is still on when the corrections come: 12 minutes a second.
        tape.start(DAY, DAY, speed=720.0)
        theirs = Theirs(tape)
        for minute in (0, 1, 2, 380):
            theirs.send(bar("ALPHA", minute), "ALPHA")
        theirs.send(coverage(["ALPHA"]), "ALPHA")
        tape.until(lambda: len(tape.rows()) == 3, "the first three rows")

        def correct(close: float, minute: int, **changes: Any) -> Row:
            came = len(tape.rows())
            theirs.send(bar("ALPHA", minute, close, **changes), "ALPHA")
            tape.until(lambda: len(tape.rows()) == came + 1, "the correction")
            return tape.rows()[-1]

        fixed = correct(9.5, 1)
        assert fixed == row("ALPHA", 1, 9.5, fixed.known_ns, revision=1)
        assert fixed.known_ns > OPEN + 3 * MINUTE
        # The owner's successor knows which revision is out.
        coordinator.kill()
        coordinator.start()
        again = correct(9.25, 1, revision=2)
        assert again == row("ALPHA", 1, 9.25, again.known_ns, revision=2)
        filled = correct(10.5, 3)
        assert filled == row("ALPHA", 3, 10.5, filled.known_ns, revision=0)
        assert fixed.known_ns < again.known_ns < filled.known_ns
        # What says the same as is out, or less, is no correction.
        theirs.send(bar("ALPHA", 3), "ALPHA")
        theirs.send(bar("ALPHA", 1, 9.75, revision=1), "ALPHA")
        tape.full_speed()
        tape.play()
        assert tape.rows()[6:] == (row("ALPHA", 380),)
        marks = [frame for frame in tape.frames_of() if frame.event == "rows"]
        assert sum(int(frame.slice_corrections.sum()) for frame in marks) == 3
        assert sum(int(frame.slice_received.sum()) for frame in marks) == 4
