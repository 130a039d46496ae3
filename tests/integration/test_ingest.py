"""``ingest`` as a process, fed through a pipe, against a real broker."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from schemas import BarBlock, Codec, Coverage
from streams.kafka import create_topics
from streams.local import LocalBroker
from streams.settings import Settings
from streams.sources.times import text_ns
from streams.topics import Topics, shard_of
from tests.integration.commands import PROGRAM, environment, wait_until
from tests.reading import patiently, read_topic

NOON = text_ns("2024-11-29T12:00:00Z")
MINUTE = 60 * 10**9


def test_rows_of_a_pipe_are_on_the_topic_while_it_is_open(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    settings = Settings(
        bootstrap_servers=broker.bootstrap_servers, namespace=namespace, data_dir=tmp_path
    )
    create_topics(settings, 2)
    topics, codec = Topics(namespace), Codec()
    process = subprocess.Popen(
        [*PROGRAM, "ingest", "--stream=bars", "--source=pipe", "--heartbeat", "--json"],
        env=environment(
            tmp_path,
            SESSIONTAPE_BOOTSTRAP_SERVERS=broker.bootstrap_servers,
            SESSIONTAPE_NAMESPACE=namespace,
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None

    def on_topic() -> list[tuple[int, object]]:
        return [
            (int(message.partition() or 0), codec.decode(message.value() or b""))
            for message in read_topic(settings, topics.raw_bars)
        ]

    try:
        process.stdin.write("timestamp,symbol,open,high,low,close,volume\n")
        process.stdin.write(f"{NOON},ALPHA,10,11,9,10.5,100\n")
        process.stdin.flush()
        # Nobody waits for the end of the pipe.
        wait_until(lambda: len(patiently(on_topic)) == 1)
        process.stdin.write(f"{NOON},BETA,10,11,9,10.5,100\nnonsense\n")
        process.stdin.write(f"{NOON + MINUTE},ALPHA,10,11,9,ten,100\n")
        process.stdin.write(f"{NOON + MINUTE},BETA,10,11,9,10.25,200\n")
        out, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert json.loads(out) == {
        "stream": "bars", "source": "pipe", "rows": 3, "rejected": 2, "blocks": 2, "symbols": 2,
        "first_ns": NOON, "last_ns": NOON + 2 * MINUTE, "vouched_ns": NOON + 2 * MINUTE,
    }  # fmt: skip
    assert "stdin:4: it has 1 fields, not 7: nonsense" in errors
    closes: dict[str, list[float]] = {}
    covered: dict[str, tuple[int, int]] = {}
    for shard, record in on_topic():
        assert isinstance(record, BarBlock | Coverage)
        for symbol in record.symbols:
            assert shard_of(symbol, 2) == shard
            if isinstance(record, BarBlock):
                assert symbol not in covered
                closes.setdefault(symbol, []).extend(record.close.tolist())
            else:
                covered[symbol] = (record.start_ns, record.end_ns)
    assert closes == {"ALPHA": [10.5], "BETA": [10.5, 10.25]}
    assert covered == dict.fromkeys(("ALPHA", "BETA"), (NOON, NOON + 2 * MINUTE))
    refused = [
        (message.value(), dict(message.headers() or ()).get("line"))
        for message in read_topic(settings, topics.rejected)
    ]
    assert refused == [
        (b"nonsense", b"4"),
        (f"{NOON + MINUTE},ALPHA,10,11,9,ten,100".encode(), b"5"),
    ]
