"""Quotes and ticks of LEAN folders: made here line by line, and the real ones by other means."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from schemas import QuoteBlock, TickBlock
from streams.calendar import sessions_between
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.sources import BadRow, held, load_range, open_source
from streams.sources.lean import LeanSource

REAL = Path(__file__).parents[5] / "shared" / "data" / "lean"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the LEAN sample folder is not beside the repo")
NEW_YORK = ZoneInfo("America/New_York")
OPEN_MS = 34_200_000
"""09:30 in New York."""
TICK = f"{OPEN_MS},1000000,100,P,1,0"


def at(clock: str, day: str = "2024-07-05", zone: ZoneInfo = NEW_YORK) -> int:
    moment = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=zone)
    return round(moment.timestamp() * 1000) * 10**6


def zipped(
    root: Path,
    lines: Sequence[str],
    resolution: str = "tick",
    kind: str = "trade",
    *,
    where: str = "equity/usa",
    day: str = "20240705",
) -> Path:
    path = root / where / resolution / "abc" / f"{day}_{kind}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{day}_abc_{resolution}_{kind}.csv", "\n".join(lines))
    return path


def loaded(
    root: Path, stream: str, interval: str = "1m", hours: tuple[str, str] = ("09:30", "16:00")
) -> tuple[list[Any], str, list[BadRow]]:
    blocks, kinds, bad = load_range(
        open_source(f"lean:{root}"), ("ABC",), *map(at, hours), interval=interval, stream=stream
    )
    return blocks, kinds["ABC"], bad


def columns(block: Any, *names: str) -> list[list[float]]:
    return [getattr(block, name).tolist() for name in names]


def times_ms(block: Any) -> list[float]:
    return [(ts - at("09:30")) / 1e6 for ts in block.ts_ns.tolist()]


def test_ticks_of_an_equity(tmp_path: Path) -> None:
    lines = [
        f"{OPEN_MS},1001000,100,P,20002020,0",
        f"{OPEN_MS + 7},1001500,200,D,1,0",
        f"{OPEN_MS + 7},1000500,1,P,20002020,1",
        f"{OPEN_MS + 7},1001500,200,D,1,0",
        f"{OPEN_MS - 1},999000,5,N,,0",
    ]
    lines.sort(key=lambda line: int(line.split(",")[0]))
    zipped(tmp_path, lines)
    [block], kind, bad = loaded(tmp_path, "ticks")
    assert isinstance(block, TickBlock)
    assert (block.symbols, kind, bad) == (("ABC",), "rows", [])
    assert times_ms(block) == [0, 7, 7, 7]
    assert columns(block, "price", "size", "sequence", "symbol", "revision") == [
        [100.1, 100.15, 100.05, 100.15],
        [100, 200, 1, 200],
        [1, 2, 3, 4],
        [0] * 4,
        [0] * 4,
    ]
    said = [block.conditions[n] for n in block.condition]
    assert said == ["P 20002020", "D 1", "P 20002020 suspicious", "D 1"]


def test_crypto_ticks_and_quotes_have_no_venue(tmp_path: Path) -> None:
    zone = ZoneInfo("UTC")
    zipped(tmp_path, ["5,4626.05,0.5", "5,4626.06,0.25"], where="crypto/x")
    zipped(tmp_path, ["5,4626.04,6.5,4626.05,11.25"], kind="quote", where="crypto/x")
    source = open_source(f"lean:{tmp_path}")
    start_ns = at("00:00", zone=zone)
    [ticks], _, bad = load_range(source, ("ABC",), start_ns, start_ns + SECOND_NS, stream="ticks")
    assert (ticks.price.tolist(), ticks.size.tolist()) == ([4626.05, 4626.06], [0.5, 0.25])
    assert (ticks.conditions, ticks.condition.tolist(), bad) == (("",), [0, 0], [])
    [quotes], _, bad = load_range(source, ("ABC",), start_ns, start_ns + SECOND_NS, stream="quotes")
    assert quotes.ts_ns.tolist() == [start_ns + 5_000_000]
    assert columns(quotes, "bid", "bid_size", "ask", "ask_size") == [
        [4626.04],
        [6.5],
        [4626.05],
        [11.25],
    ]
    assert bad == []


def test_the_columns_of_ticks_are_told_by_their_number(tmp_path: Path) -> None:
    """LEAN writes a flag behind crypto ticks by now; equity ticks may have no venue."""
    zone = ZoneInfo("UTC")
    zipped(tmp_path, ["5,4626.05,0.5,0", "6,4626.06,0.25,1"], where="crypto/x")
    zipped(tmp_path, ["5,4626.04,6.5,4626.05,11.25,0"], kind="quote", where="crypto/x")
    source = open_source(f"lean:{tmp_path}")
    start_ns = at("00:00", zone=zone)
    [ticks], _, bad = load_range(source, ("ABC",), start_ns, start_ns + SECOND_NS, stream="ticks")
    assert [ticks.conditions[n] for n in ticks.condition] == ["", "suspicious"]
    assert (ticks.price.tolist(), bad) == ([4626.05, 4626.06], [])
    [quotes], _, bad = load_range(source, ("ABC",), start_ns, start_ns + SECOND_NS, stream="quotes")
    assert (quotes.ask.tolist(), bad) == ([4626.05], [])
    other = tmp_path / "other"
    zipped(other, [f"{OPEN_MS},1001000,100"])
    [ticks], _, bad = loaded(other, "ticks")
    assert (ticks.price.tolist(), ticks.conditions, bad) == ([100.1], ("",), [])


def test_ticks_have_parts_of_a_millisecond(tmp_path: Path) -> None:
    zipped(tmp_path, [f"{OPEN_MS}.1234,1001000,100,P,1,0", f"{OPEN_MS + 86}.9999,1,1,P,1,0"])
    [block], _, bad = loaded(tmp_path, "ticks")
    assert (block.ts_ns - at("09:30")).tolist() == [123_400, 86_999_900]
    assert bad == []


def test_a_quote_bar_may_lack_a_side(tmp_path: Path) -> None:
    lines = [
        f"{OPEN_MS},,,,,0,1002000,1004000,1001500,1003000,300",
        f"{OPEN_MS + 60_000},1000000,1003000,999000,1001000,200,,,,,0",
        f"{OPEN_MS + 120_000},1000000,1003000,999000,1001000,200,,,,,",
    ]
    zipped(tmp_path, lines, "minute", "quote")
    [block], kind, bad = loaded(tmp_path, "quotes")
    assert columns(block, "bid", "bid_size", "ask", "ask_size") == [
        [0, 100.1, 100.1],
        [0, 200, 200],
        [100.3, 0, 0],
        [300, 0, 0],
    ]
    assert (kind, bad) == ("rows", [])


def test_a_senseless_side_is_not_kept_for_the_next(tmp_path: Path) -> None:
    lines = [
        f"{OPEN_MS},1000000,100,1002000,300,N,1,0",
        f"{OPEN_MS + 1},-5,100,0,0,N,1,0",
        f"{OPEN_MS + 2},0,0,1003000,1,N,1,0",
    ]
    zipped(tmp_path, lines, kind="quote")
    [block], _, [bad] = loaded(tmp_path, "quotes")
    assert (bad.line, bad.reason) == (2, "a price is negative")
    assert columns(block, "bid", "ask") == [[100.0, 100.0], [100.2, 100.3]]


def test_a_replay_of_bars_is_of_the_symbols_and_days_that_have_them(tmp_path: Path) -> None:
    zipped(tmp_path, [f"{OPEN_MS},1000000,1010000,990000,1005000,1"], "minute", day="20240708")
    source = open_source(f"lean:{tmp_path}")
    before = (source.symbols(), source.sessions())
    assert before == (("ABC",), ("2024-07-08", "2024-07-08"))
    zipped(tmp_path, [TICK], day="20240701")
    zipped(tmp_path, [f"{OPEN_MS},1,1,1,1,1,1,1,1,1,1"], "minute", "quote", day="20240702")
    zipped(tmp_path, [f"{OPEN_MS},1,1,1,1,1"], "second", day="20240703")
    spy = tmp_path / "equity/usa/tick/spy/20240701_trade.zip"
    spy.parent.mkdir()
    spy.write_bytes((tmp_path / "equity/usa/tick/abc/20240701_trade.zip").read_bytes())
    (tmp_path / "crypto/x/tick/abc").mkdir(parents=True)  # of another market, but no bars
    source = open_source(f"lean:{tmp_path}")
    assert (source.symbols(), source.sessions()) == before
    hours = (at("09:30", "2024-07-01"), at("16:00", "2024-07-01"))
    blocks, kinds, bad = load_range(source, ("ABC", "SPY"), *hours, stream="ticks")
    assert (len(blocks), kinds, bad) == (2, {"ABC": "rows", "SPY": "rows"}, [])


def test_a_large_day_leaves_the_others_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "HELD_ROWS", 5)
    zipped(tmp_path, [f"{OPEN_MS},1000000,1010000,990000,1005000,1"], "minute")
    zipped(tmp_path, [TICK] * 9)
    source = LeanSource.open(str(tmp_path))
    hours = (at("09:30"), at("16:00"))
    load_range(source, ("ABC",), *hours)
    [block], _, _ = load_range(source, ("ABC",), *hours, stream="ticks")
    assert len(block) == 9
    folder = tmp_path / "equity/usa"
    assert source._held.of(folder / "minute/abc/20240705_trade.zip") is not None
    assert source._held.of(folder / "tick/abc/20240705_trade.zip") is None


def test_a_quote_that_names_one_side_keeps_the_other(tmp_path: Path) -> None:
    lines = [
        f"{OPEN_MS},0,0,1002000,300,N,1,0",
        f"{OPEN_MS + 1},1000000,100,0,0,N,1,0",
        f"{OPEN_MS + 2},1001000,50,0,0,Q,1,0",
        f"{OPEN_MS + 2},1000500,10,1001500,20,Q,1,0",
    ]
    zipped(tmp_path, lines, kind="quote")
    [block], kind, bad = loaded(tmp_path, "quotes")
    assert isinstance(block, QuoteBlock)
    assert (kind, bad) == ("rows", [])
    assert times_ms(block) == [0, 1, 2, 2]
    assert columns(block, "bid", "bid_size", "ask", "ask_size", "sequence") == [
        [0.0, 100.0, 100.1, 100.05],
        [0, 100, 50, 10],
        [100.2, 100.2, 100.2, 100.15],
        [300, 300, 300, 20],
        [0, 1, 2, 3],
    ]
    # What came before the range counts for it.
    [block], _, _ = loaded(tmp_path, "quotes", hours=("09:30:00.001", "16:00"))
    assert block.ask.tolist() == [100.2, 100.2, 100.15]


@pytest.mark.parametrize(
    ("resolution", "length_ns"), [("minute", MINUTE_NS), ("second", SECOND_NS)]
)
def test_of_a_quote_bar_its_close_is_known_just_before_it_ends(
    tmp_path: Path, resolution: str, length_ns: int
) -> None:
    line = f"{OPEN_MS},1000000,1003000,999000,1001000,200,1002000,1004000,1001500,1003000,300"
    zipped(tmp_path, [line], resolution, "quote")
    [block], kind, bad = loaded(tmp_path, "quotes")
    assert (block.ts_ns - at("09:30")).tolist() == [length_ns - 1]
    assert columns(block, "bid", "bid_size", "ask", "ask_size") == [[100.1], [200], [100.3], [300]]
    assert (kind, bad) == ("rows", [])


def test_bars_of_seconds(tmp_path: Path) -> None:
    lines = [f"{OPEN_MS + 1000 * n},1000000,1010000,990000,1005000,{n}" for n in range(3)]
    zipped(tmp_path, lines, "second")
    [block], kind, bad = loaded(tmp_path, "bars", "1s")
    assert times_ms(block) == [0, 1000, 2000]
    assert (block.interval_ns == SECOND_NS).all()
    assert (block.volume.tolist(), kind, bad) == ([0, 1, 2], "rows", [])
    assert loaded(tmp_path, "bars", "1m") == ([], "cannot_say", [])


def test_the_finest_quotes_that_a_day_has_are_taken(tmp_path: Path) -> None:
    bar = f"{OPEN_MS},1,1,1,10000,1,1,1,1,20000,1"
    zipped(tmp_path, [bar], "minute", "quote")
    zipped(tmp_path, [bar], "minute", "quote", day="20240708")
    assert len(loaded(tmp_path, "quotes")[0][0]) == 1
    zipped(tmp_path, [f"{OPEN_MS + n},10000,1,20000,1,N,1,0" for n in range(4)], kind="quote")
    assert len(loaded(tmp_path, "quotes")[0][0]) == 4
    blocks, kinds, bad = load_range(
        open_source(f"lean:{tmp_path}"),
        ("ABC",),
        at("09:30", "2024-07-08"),
        at("16:00", "2024-07-09"),
        stream="quotes",
    )
    assert (len(blocks), kinds) == (1, {"ABC": "cannot_say"})
    missing = tmp_path / "equity/usa/minute/abc/20240709_quote.zip"
    assert bad == [BadRow(str(missing), 0, "the file is missing", b"", "ABC")]


@pytest.mark.parametrize(
    ("line", "reason", "kept"),
    [
        (f"{OPEN_MS + 1},x,100,P,1,0", "price is 'x', which is no double", 2),
        (f"{OPEN_MS + 1},1000000,100", "it has 3 fields, not 6", 2),
        (f"{OPEN_MS + 1},nan,100,P,1,0", "a price is no number", 2),
        (f"{OPEN_MS + 1},1000000,inf,P,1,0", "a size is no number", 2),
        (f"{OPEN_MS + 1},-1,100,P,1,0", "a price is negative", 2),
        (f"{OPEN_MS + 1},1000000,-1,P,1,0", "a size is negative", 2),
        ("86400000,1000000,100,P,1,0", "the time is outside the day", 2),
        (
            f"{OPEN_MS - 1},1000000,100,P,1,0",
            "out of order 1 time, first here; the rows were sorted",
            3,
        ),
    ],
)
def test_a_bad_tick_is_named_and_the_rest_goes_on(
    tmp_path: Path, line: str, reason: str, kept: int
) -> None:
    zipped(tmp_path, [TICK, line, TICK])
    [block], kind, [bad] = loaded(tmp_path, "ticks", hours=("09:29", "16:00"))
    assert (len(block), kind) == (kept, "rows")
    assert (bad.line, bad.reason, bad.text) == (2, reason, line.encode())
    assert (np.diff(block.ts_ns) >= 0).all()


def test_an_empty_file_has_none(tmp_path: Path) -> None:
    zipped(tmp_path, [])
    zipped(tmp_path, [], kind="quote")
    assert loaded(tmp_path, "ticks") == ([], "nothing", [])
    assert loaded(tmp_path, "quotes") == ([], "nothing", [])


def lines_of(path: Path) -> list[list[str]]:
    """The lines of a real file, read by nothing of ours."""
    with zipfile.ZipFile(path) as archive:
        return list(csv.reader(io.TextIOWrapper(archive.open(archive.namelist()[0]), newline="")))


@real
@pytest.mark.parametrize(
    "day", ["2013-10-07", "2013-10-08", "2013-10-09", "2013-10-10", "2013-10-11"]
)
def test_real_ticks_come_as_they_stand_in_their_files(day: str) -> None:
    [session] = sessions_between("XNYS", day, day, "extended")
    source = open_source(f"lean:{REAL}")
    midnight_ms = at("00:00", day) // 10**6
    folder = REAL / "equity/usa/tick/ibm"

    def load(stream: str) -> Any:
        [block], kinds, bad = load_range(
            source, ("IBM",), session.open_ns, session.close_ns, stream=stream
        )
        assert (kinds, bad) == ({"IBM": "rows"}, [])
        return block

    ticks, trades = load("ticks"), lines_of(folder / f"{day.replace('-', '')}_trade.zip")
    inside = [
        row
        for row in trades
        if session.open_ns <= (midnight_ms + int(row[0])) * 10**6 < session.close_ns
    ]
    assert len(ticks) == len(inside) > 15_000
    assert (ticks.ts_ns // 10**6 - midnight_ms).tolist() == [int(row[0]) for row in inside]
    assert np.rint(ticks.price * 10_000).astype(int).tolist() == [int(row[1]) for row in inside]
    assert ticks.size.tolist() == [float(row[2]) for row in inside]
    said = [ticks.conditions[n] for n in ticks.condition]
    flags = {"0": "", "1": " suspicious"}
    assert said == [f"{row[3]} {row[4]}{flags[row[5]]}" for row in inside]
    quotes, told = load("quotes"), lines_of(folder / f"{day.replace('-', '')}_quote.zip")
    bid = ask = 0
    sides = []
    for row in told:
        bid, ask = int(row[1]) or bid, int(row[3]) or ask
        if session.open_ns <= (midnight_ms + int(row[0])) * 10**6 < session.close_ns:
            sides.append((bid, ask))
    assert np.rint(quotes.bid * 10_000).astype(int).tolist() == [bid for bid, _ in sides]
    assert np.rint(quotes.ask * 10_000).astype(int).tolist() == [ask for _, ask in sides]


@real
@pytest.mark.parametrize(
    ("symbol", "calendar", "day"),
    [
        ("AAPL", "XNYS", "2014-06-05"),
        ("GOOG", "XNYS", "2015-12-24"),
        ("BTCUSD", "24/7", "2017-09-04"),
    ],
)
def test_real_quotes_of_minutes(symbol: str, calendar: str, day: str) -> None:
    [session] = sessions_between(calendar, day, day)
    source = open_source(f"lean:{REAL}")
    [block], kinds, bad = load_range(
        source, (symbol,), session.open_ns, session.close_ns, stream="quotes"
    )
    assert (kinds, bad) == ({symbol: "rows"}, [])
    is_crypto = calendar == "24/7"
    zone = ZoneInfo("UTC") if is_crypto else NEW_YORK
    where = (
        f"crypto/coinbase/minute/{symbol.lower()}"
        if is_crypto
        else f"equity/usa/minute/{symbol.lower()}"
    )
    midnight = at("00:00", day, zone)
    expected = [
        (start + MINUTE_NS - 1, *(float(row[n]) / (1 if is_crypto else 10_000) for n in (4, 9)))
        for row in lines_of(REAL / where / f"{day.replace('-', '')}_quote.zip")
        if session.open_ns <= (start := midnight + int(row[0]) * 10**6) < session.close_ns
    ]
    found = list(zip(*columns(block, "ts_ns", "bid", "ask"), strict=True))
    assert found == expected
