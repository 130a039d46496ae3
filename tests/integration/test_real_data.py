"""The LEAN files through the whole tape, against a count of our own: zipfile and csv, no more."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from streams.intervals import MINUTE_NS
from streams.local import LocalBroker
from tests.harness import Tape
from tests.integration.commands import run

REAL = Path(__file__).parents[3] / "shared" / "data" / "lean"
SOURCE = f"lean:{REAL}"
NEW_YORK = ZoneInfo("America/New_York")

pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason="the LEAN sample folder is not beside the repository"
)

Counted = tuple[int, str, float, float, float, float, float]


def lines(folder: str, day: str, symbol: str) -> Iterator[list[str]]:
    path = REAL / folder / symbol.lower() / f"{day.replace('-', '')}_trade.zip"
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        yield from csv.reader(io.TextIOWrapper(file, "ascii"))


def equity(symbol: str, day: str, close_hour: int) -> Iterator[Counted]:
    """Give the bars of 09:30 to the close in New York."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=NEW_YORK)
    for ms, *prices, volume in lines("equity/usa/minute", day, symbol):
        if 34_200_000 <= int(ms) < close_hour * 3_600_000:
            # No change of summer time falls between midnight and the close.
            at = midnight.astimezone(UTC) + timedelta(milliseconds=int(ms))
            bar = [int(price) / 10_000 for price in prices]
            yield (int(at.timestamp()) * 10**9, symbol, *bar, float(volume))  # type: ignore[misc]


def crypto(symbol: str, day: str) -> Iterator[Counted]:
    """Give the bars of the UTC day."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=UTC)
    for ms, *values in lines("crypto/coinbase/minute", day, symbol):
        ts_ns = int(midnight.timestamp()) * 10**9 + int(ms) * 1_000_000
        yield (ts_ns, symbol, *map(float, values))  # type: ignore[misc]


@pytest.fixture
def tape(broker: LocalBroker, namespace: str, tmp_path: Path) -> Iterator[Tape]:
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2, source=SOURCE) as made:
        made.coordinator()
        made.producer()
        yield made


def came(tape: Tape, name: str) -> list[Counted]:
    """Return the rows of a run; each is out when it is ready, not before and not later."""
    rows = tape.rows(name)
    assert all(row.known_ns == row.ts_ns + MINUTE_NS for row in rows)
    assert all(row.interval_ns == MINUTE_NS for row in rows)
    return [(r.ts_ns, r.symbol, r.open, r.high, r.low, r.close, r.volume) for r in rows]


def test_real_files_come_out_whole_and_in_order(tape: Tape) -> None:
    week = [f"2013-10-{day:02}" for day in range(7, 12)]
    names = ("AIG", "BAC", "IBM")
    tape.start(week[0], week[-1], run="week", symbols=names)
    tape.play("week")
    expected = sorted(bar for name in names for day in week for bar in equity(name, day, 16))
    assert came(tape, "week") == expected
    assert len(expected) == 5_848

    days = {"2015-12-23": 16, "2015-12-24": 13, "2015-12-28": 16}
    tape.start("2015-12-23", "2015-12-28", run="half", symbols=("GOOG",))
    tape.play("half")
    by_day = {day: list(equity("GOOG", day, hour)) for day, hour in days.items()}
    assert came(tape, "half") == [bar for bars in by_day.values() for bar in bars]
    assert len(by_day["2015-12-24"]) == 210
    assert [event for event in tape.events(run="half") if event.startswith(("open", "roll"))] == [
        "open 2015-12-23",
        "roll 2015-12-24",
        "open 2015-12-24",
        "roll 2015-12-28",
        "open 2015-12-28",
    ]

    tape.start("2016-10-07", "2016-10-09", run="coin", symbols=("BTCUSD",), calendar="24/7")
    tape.play("coin")
    days_of_coin = ("2016-10-07", "2016-10-08", "2016-10-09")
    assert came(tape, "coin") == [bar for day in days_of_coin for bar in crypto("BTCUSD", day)]
    opened = [frame for frame in tape.frames_of("coin", 0) if frame.event == "open"]
    assert [frame.expected for frame in opened] == [1_440] * 3
    assert all(not frame.incomplete for frame in opened)


def test_the_command_says_what_the_files_hold(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        *("replay", "--source", SOURCE, "--calendar", "XNYS", "--symbols", "AIG,BAC,IBM"),
        *("--start", "2013-10-07", "--end", "2013-10-11", "--speed", "max", "--json"),
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["sessions"], said["bars"], said["rejected"]) == (5, 5_848, 0)
    # AIG and IBM have one minute without a trade each, BAC none.
    assert said["gaps_found"] == 2
    assert said["quality"] == {"AIG": 99.9487, "BAC": 100.0, "IBM": 99.9487}
    assert said["incomplete"] == []
