"""Runs of bars and ticks that are begun on a stack and left to themselves: a replay, a live one."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams import SessionStream
from streams.calendar import sessions_between
from streams.client.rows import BarRow, TickRow
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.local.running import connected
from streams.settings import Settings
from tests.integration.commands import run

pytestmark = pytest.mark.timeout(300)

DAY, HOURS = "2024-11-27", "09:30-09:33"
(SESSION,) = sessions_between("XNYS", DAY, DAY, HOURS)
DAYS = ("--start", DAY, "--end", DAY, "--hours", HOURS)
LATENESS_S = "300"
"""Five seconds of the wall at the speed of the live run: what comes by then is not too late."""
TICKS = [
    # Two of one time, at the open and the end of a minute among them; the last minute has none.
    (SESSION.open_ns + int(second * SECOND_NS), symbol, price, 10.0 + n)
    for n, (second, symbol, price) in enumerate(
        [
            *((0, "AA", 10.0), (0, "BB", 20.0), (1.5, "AA", 10.5), (59.999, "BB", 20.5)),
            *((60, "AA", 11.0), (60, "BB", 21.0), (61.25, "AA", 11.5), (150, "BB", 22.0)),
        ]
    )
]


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """The data folder of a stack that is up, and whose source plays a file of ticks as a feed."""
    file, folder = tmp_path / "ticks.csv", tmp_path / "data"
    lines = [f"{ts},{symbol},{price},{size}" for ts, symbol, price, size in TICKS]
    file.write_text("\n".join(["timestamp,symbol,price,size", *lines]))
    source = f"built:playback:csv:{file}?stream=ticks"
    made = ("--source", source, "--partitions", "2", "--no-sink", "--no-tables")
    try:
        assert (found := run(folder, "up", *made)).returncode == 0, found.stderr
        yield folder
    finally:
        assert run(folder, "down").returncode == 0


def played(data_dir: Path, kinds: tuple[str, ...], *how: str) -> list[Any]:
    """Begin a run and read what it puts on the tape, to its end."""
    options = (*DAYS, "--kinds", ",".join(kinds), *how, "--json")
    begun = run(data_dir, "start", *options, SESSIONTAPE_LATENESS_S=LATENESS_S)
    assert begun.returncode == 0, begun.stderr
    settings = connected(Settings(data_dir=data_dir))
    run_id = json.loads(begun.stdout)["run"]
    with SessionStream(settings=settings, start="first", run=run_id, kinds=kinds) as stream:
        return list(stream.rows(30))


def test_ticks_and_bars_of_them_are_played_and_taken_as_they_come(data_dir: Path) -> None:
    in_order = sorted((ts, symbol, price, size) for ts, symbol, price, size in TICKS)
    ticks = played(data_dir, ("ticks",))
    assert [(row.ts_ns, row.symbol, row.price, row.size) for row in ticks] == in_order
    assert [row.known_ns for row in ticks] == [row.ts_ns for row in ticks]

    volumes: defaultdict[tuple[int, str], float] = defaultdict(float)
    for ts, symbol, _, size in TICKS:
        start_ns = ts - (ts - SESSION.open_ns) % MINUTE_NS
        volumes[start_ns, symbol] += size
    rows = played(data_dir, ("bars", "ticks"), "--live", "--speed", "60")
    assert [row.known_ns for row in rows] == sorted(row.known_ns for row in rows)
    live = [row for row in rows if isinstance(row, TickRow)]
    assert sorted((row.ts_ns, row.symbol, row.price, row.size) for row in live) == in_order
    bars = [row for row in rows if isinstance(row, BarRow)]
    assert len(bars) == len(volumes)
    assert {(row.ts_ns, row.symbol): row.volume for row in bars} == volumes
