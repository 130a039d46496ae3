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

from streams.calendar import sessions_between
from streams.coverage import Status
from streams.intervals import MINUTE_NS
from streams.local import LocalBroker
from streams.sources.withheld import withheld_minutes
from tests.harness import Tape
from tests.integration.commands import run
from tests.upkept import statuses

REAL = Path(__file__).parents[3] / "shared" / "data" / "lean"
SOURCE = f"lean:{REAL}"
NEW_YORK = ZoneInfo("America/New_York")

pytestmark = [
    pytest.mark.usefixtures("unmeasured"),
    pytest.mark.skipif(
        not REAL.is_dir(), reason="the LEAN sample folder is not beside the repository"
    ),
]

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
    # AIG and IBM have one minute without a trade each, BAC none; the source vouches for that.
    assert (said["gaps_found"], said["no_trade_minutes"], said["fill_rate"]) == (2, 2, None)
    assert said["quality"] == {"AIG": 100.0, "BAC": 100.0, "IBM": 100.0}
    assert said["incomplete"] == []


SPECS = ("2%@7", "10%@3", "hour@5", "ends", "symbol:AIG")
NAMES = ("AIG", "BAC", "IBM")
DAYS = ("2013-10-07", "2013-10-08")


def withheld_of(spec: str) -> dict[tuple[str, str], set[int]]:
    """Numbers of the minutes that are withheld, by day and symbol, where there is a bar."""
    found = {}
    for day in DAYS:
        (session,) = sessions_between("XNYS", day, day)
        for name in NAMES:
            there = {ts_ns for ts_ns, *_ in equity(name, day, 16)}
            taken = there & set(withheld_minutes(spec, name, session).tolist())
            found[day, name] = {(ts_ns - session.open_ns) // MINUTE_NS for ts_ns in taken}
    return found


def played(tape: Tape, run_: str, *how: str) -> dict[tuple[str, str], tuple[Status, ...]]:
    """Play two days with an upkeep; return the statuses of all minutes."""
    tape.symbols = NAMES
    worker = tape.producer(*how)
    tape.start(DAYS[0], DAYS[-1], run=run_, symbols=NAMES, upkeep=True)
    tape.play(run_)
    assert worker.stop() == 0
    tape.workers.remove(worker)
    return {(day, name): row for day in DAYS for name, row in statuses(tape, day, run_).items()}


@pytest.mark.timeout(400)
def test_what_is_withheld_of_real_files_is_filled_or_missing_to_the_minute(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2, source=SOURCE) as tape:
        tape.coordinator()
        tape.upkeep()
        whole = played(tape, "whole")
        digest = tape.digest("whole").final()
        quiet = {key: row.index(Status.NO_TRADE) for key, row in whole.items() if len(set(row)) > 1}
        assert set(quiet) == {(DAYS[0], "AIG")}
        assert [row.count(Status.NO_TRADE) for row in whole.values()].count(1) == 1
        for number, spec in enumerate(SPECS):
            lacking = withheld_of(spec)
            assert any(lacking.values())
            found = played(tape, f"filled-{number}", "--withhold", spec, "--fallback", SOURCE)
            assert tape.digest(f"filled-{number}").final() == digest
            for key, row in found.items():
                filled = {minute for minute, one in enumerate(row) if one == Status.FILLED}
                assert filled == lacking[key], (spec, key)
                assert set(row) <= {Status.TRADED, Status.FILLED, Status.NO_TRADE}
                assert row.count(Status.NO_TRADE) == (key in quiet)
        # Nobody else to ask: lower by exactly what is withheld.
        lacking = withheld_of("10%@3+ends")
        found = played(tape, "alone", "--withhold", "10%@3+ends")
        for key, row in found.items():
            gone = {minute for minute, one in enumerate(row) if one == Status.GIVEN_UP}
            assert gone - {quiet.get(key)} == lacking[key]
            assert row.count(Status.TRADED) == 390 - len(lacking[key]) - (key in quiet)


def test_minutes_without_trade_are_vouched_for(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    with Tape(broker.bootstrap_servers, namespace, tmp_path, source=SOURCE) as tape:
        tape.coordinator()
        tape.upkeep()
        tape.producer()
        tape.symbols = ("GOOG",)
        tape.start("2015-12-24", "2015-12-28", run="quiet", symbols=("GOOG",), upkeep=True)
        tape.play("quiet")
        half = statuses(tape, "2015-12-24", "quiet")["GOOG"]
        full = statuses(tape, "2015-12-28", "quiet")["GOOG"]
        assert (len(half), len(full)) == (210, 390)
        assert set(half) == {Status.TRADED}
        assert (full.count(Status.NO_TRADE), full.count(Status.TRADED)) == (8, 382)
