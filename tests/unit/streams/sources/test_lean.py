"""LEAN folders: made here file by file, and the real ones counted by other means."""

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

from streams.calendar import sessions_between
from streams.errors import ConfigError, SourceError
from streams.intervals import MINUTE_NS
from streams.sources import Answer, BadRow, held, load_range, open_source
from streams.sources.held import Day, HeldDays, stamp_of

REAL = Path(__file__).parents[5] / "shared" / "data" / "lean"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the LEAN sample folder is not beside the repo")
NEW_YORK = ZoneInfo("America/New_York")

GOOD = """\
34200000,1000000,1010000,990000,1005000,100
34260000,1005000,1005000,1000000,1000000,200
34320000,1000000,1020000,1000000,1020000,300
"""


def zipped(
    root: Path,
    text: str | bytes,
    day: str = "20240705",
    where: str = "equity/usa",
    symbol: str = "abc",
) -> Path:
    path = root / where / "minute" / symbol / f"{day}_trade.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{day}_{symbol}_minute_trade.csv", text)
    return path


def at(text: str, zone: ZoneInfo = NEW_YORK) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * 10**9


def day_of(
    root: Path, day: str = "2024-07-05"
) -> tuple[list[tuple[float, ...]], str, list[BadRow]]:
    blocks, kinds, bad = load_range(
        open_source(f"lean:{root}"), ("ABC",), at(f"{day}T09:30"), at(f"{day}T16:00")
    )
    rows = [
        tuple(float(v) for v in row)
        for b in blocks
        for row in zip(b.ts_ns, b.open, b.high, b.low, b.close, b.volume, strict=True)
    ]
    return rows, kinds["ABC"], bad


def minutes(rows: Sequence[tuple[float, ...]], day: str = "2024-07-05") -> list[float]:
    return [(row[0] - at(f"{day}T09:30")) / MINUTE_NS for row in rows]


def test_prices_are_in_deci_cents_and_times_those_of_new_york(tmp_path: Path) -> None:
    zipped(tmp_path, GOOD)
    rows, kind, bad = day_of(tmp_path)
    assert rows == [
        (1720186200e9, 100.0, 101.0, 99.0, 100.5, 100.0),  # 2024-07-05T13:30Z
        (1720186260e9, 100.5, 100.5, 100.0, 100.0, 200.0),
        (1720186320e9, 100.0, 102.0, 100.0, 102.0, 300.0),
    ]
    assert (kind, bad) == ("rows", [])


def test_crypto_is_plain_and_in_utc(tmp_path: Path) -> None:
    zipped(
        tmp_path, "60000,4626.05,4626.1,4626,4626.07,0.1629512\n", "20240706", "crypto/x", "btcusd"
    )
    start_ns = at("2024-07-06T00:00", ZoneInfo("UTC"))
    [block], kinds, _ = load_range(
        open_source(f"lean:{tmp_path}"), ("BTCUSD",), start_ns, start_ns + 86400 * 10**9
    )
    assert block.symbols == ("BTCUSD",)
    assert list(block.ts_ns) == [start_ns + MINUTE_NS]
    assert (list(block.close), list(block.volume)) == ([4626.07], [0.1629512])
    assert kinds == {"BTCUSD": "rows"}


@pytest.mark.parametrize(
    ("day", "utc"),
    [
        ("2024-03-08", "14:30"),  # the clocks go on in the night to the 10th
        ("2024-03-11", "13:30"),
        ("2024-11-01", "13:30"),  # and back in the night to the 3rd of November
        ("2024-11-04", "14:30"),
    ],
)
def test_summer_time_begins_and_ends(tmp_path: Path, day: str, utc: str) -> None:
    zipped(tmp_path, GOOD, day.replace("-", ""))
    rows, kind, _ = day_of(tmp_path, day)
    assert rows[0][0] == at(f"{day}T{utc}", ZoneInfo("UTC"))
    assert kind == "rows"


def test_the_range_is_from_its_start_to_before_its_end(tmp_path: Path) -> None:
    zipped(tmp_path, "14400000,1,1,1,1,1\n" + GOOD + "57600000,1,1,1,1,1\n")
    assert minutes(day_of(tmp_path)[0]) == [0, 1, 2]


def test_a_file_vouches_for_its_day_and_no_other_does(tmp_path: Path) -> None:
    path = zipped(tmp_path, "14400000,1,1,1,1,1\n")
    source = open_source(f"lean:{tmp_path}")
    assert source.symbols() == ("ABC",)
    assert source.sessions() == ("2024-07-05", "2024-07-05")
    assert day_of(tmp_path)[:2] == ([], "nothing")
    missing = path.with_name("20240708_trade.zip")
    assert day_of(tmp_path, "2024-07-08") == (
        [],
        "cannot_say",
        [BadRow(str(missing), 0, "the file is missing", b"", "ABC")],
    )
    # Friday to Monday: the weekend has no files to miss, Monday has.
    _, kinds, bad = load_range(source, ("ABC",), at("2024-07-05T09:30"), at("2024-07-08T16:00"))
    assert (kinds, len(bad)) == ({"ABC": "cannot_say"}, 1)
    _, kinds, bad = load_range(source, ("ABC",), at("2024-07-05T09:30"), at("2024-07-07T16:00"))
    assert (kinds, bad) == ({"ABC": "nothing"}, [])


def said_of(root: Path, start: str = "09:30", end: str = "16:00") -> Answer:
    """What a source says of ABC on a day."""
    first, last = (at(f"2024-07-05T{clock}") for clock in (start, end))
    *_, answer = open_source(f"lean:{root}").load("bars", ("ABC",), first, last, MINUTE_NS)
    assert isinstance(answer, Answer)
    return answer


def test_a_file_vouches_for_minutes_without_a_row_unless_a_line_of_it_was_lost(
    tmp_path: Path,
) -> None:
    zipped(tmp_path, GOOD)
    assert said_of(tmp_path) == Answer(("ABC",), "rows", vouched=True)
    twice = GOOD + GOOD.splitlines()[0]  # no minute is lost by that
    zipped(tmp_path, twice)
    assert said_of(tmp_path) == Answer(("ABC",), "rows", vouched=True)
    for lost in ("34380000,1,1,1", "34380000,1,0,1,1,1", "90000000,1,1,1,1,1"):
        zipped(tmp_path, GOOD + lost)
        assert said_of(tmp_path) == Answer(("ABC",), "rows", vouched=False)
        assert said_of(tmp_path, "12:00") == Answer(("ABC",), "cannot_say", vouched=False)


def test_a_file_is_read_again_when_it_has_changed_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path, GOOD + "x")
    source = open_source(f"lean:{tmp_path}")
    opened: list[object] = []

    class Counted(zipfile.ZipFile):
        def __init__(self, file: Any, *rest: Any, **how: Any) -> None:
            opened.append(file)
            super().__init__(file, *rest, **how)

    monkeypatch.setattr(zipfile, "ZipFile", Counted)

    def ask() -> tuple[int, dict[str, str], int]:
        blocks, kinds, bad = load_range(
            source, ("ABC",), at("2024-07-05T09:31"), at("2024-07-05T16:00")
        )
        return sum(map(len, blocks)), kinds, len(bad)

    assert ask() == ask() == (2, {"ABC": "rows"}, 1)
    assert opened == [path]
    zipped(tmp_path, LINES[0])
    assert ask() == (0, {"ABC": "nothing"}, 0)
    path.unlink()
    assert ask() == ask() == (0, {"ABC": "cannot_say"}, 1)


def test_what_is_held_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "HELD_ROWS", 8)
    days = HeldDays()
    for symbol in ("a", "b", "c"):
        zipped(tmp_path, GOOD, symbol=symbol)
    blocks, _, _ = load_range(
        open_source(f"lean:{tmp_path}"),
        ("A", "B", "C"),
        at("2024-07-05T09:30"),
        at("2024-07-05T16:00"),
    )
    paths = [tmp_path / "equity/usa/minute" / s / "20240705_trade.zip" for s in ("a", "b", "c")]
    for path, block in zip(paths, blocks, strict=True):
        days.keep(path, Day((), block, 0, stamp_of(path)))
        assert days.of(path) is not None
    days.keep(paths[2], Day((), blocks[2], 0, stamp_of(paths[2])))
    assert [days.of(path) is not None for path in paths] == [False, True, True]


def test_an_empty_range_touches_no_file(tmp_path: Path) -> None:
    zipped(tmp_path, GOOD)
    source = open_source(f"lean:{tmp_path}")
    assert load_range(source, ("ABC",), 5, 5) == ([], {"ABC": "nothing"}, [])


@pytest.mark.parametrize(
    ("stream", "symbol", "interval"),
    [("quotes", "ABC", "1m"), ("bars", "ABC", "5m"), ("bars", "X", "1m")],
)
def test_what_it_does_not_have_it_cannot_say(
    tmp_path: Path, stream: str, symbol: str, interval: str
) -> None:
    zipped(tmp_path, GOOD)
    _, kinds, bad = load_range(
        open_source(f"lean:{tmp_path}"), (symbol,), 0, 10**18, interval=interval, stream=stream
    )
    assert (kinds, bad) == ({symbol: "cannot_say"}, [])


LINES = GOOD.splitlines()


@pytest.mark.parametrize(
    ("lines", "kept", "faults"),
    [
        ([LINES[0], "34260000,1,1,1", LINES[2]], [0, 2], [(2, "it has 4 fields, not 6")]),
        (
            [LINES[0], "34260000,1,x,1,1,1", LINES[2]],
            [0, 2],
            [(2, "high is 'x', which is no double")],
        ),
        (
            [LINES[0], "", "34260000,1,,1,1,1", LINES[2]],
            [0, 2],
            [(3, "high is '', which is no double")],
        ),
        (["x,1,1,1,1,1", *LINES], [0, 1, 2], [(1, "time_ms is 'x', which is no int64")]),
        ([*LINES, "34380000,nan,1,1,1,1"], [0, 1, 2], [(4, "a price is no number")]),
        ([*LINES, "34380000,1,1,1,inf,1"], [0, 1, 2], [(4, "a price is no number")]),
        ([*LINES, "34380000,1,1,1,1,nan"], [0, 1, 2], [(4, "the volume is no number")]),
        ([*LINES, "34380000,1,1,-1,1,1"], [0, 1, 2], [(4, "a price is negative")]),
        ([*LINES, "34380000,1,1,1,1,-1"], [0, 1, 2], [(4, "the volume is negative")]),
        ([*LINES, "34380000,2,1,2,2,1"], [0, 1, 2], [(4, "the high is below the low")]),
        ([*LINES, "86400000,1,1,1,1,1"], [0, 1, 2], [(4, "the time is outside the day")]),
        ([*LINES, "-60000,1,1,1,1,1"], [0, 1, 2], [(4, "the time is outside the day")]),
        (
            [*LINES, "34260000,9,9,9,9,9"],
            [0, 1, 2],
            [
                (4, "out of order 1 time, first here; the rows were sorted"),
                (4, "a second row of this time"),
            ],
        ),
        ([LINES[0], LINES[1], LINES[1], LINES[2]], [0, 1, 2], [(3, "a second row of this time")]),
        (
            [LINES[2], LINES[0], LINES[1]],
            [0, 1, 2],
            [(2, "out of order 1 time, first here; the rows were sorted")],
        ),
        ([LINES[0], '34260000,"1,1,1,1,1', LINES[2]], [0, 2], [(2, "it has 2 fields, not 6")]),
        ([LINES[0], "34260000,\udcff,1,1,1,1", LINES[2]], [0, 2], [(2, "it is no text")]),
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_on(
    tmp_path: Path, lines: list[str], kept: list[int], faults: list[tuple[int, str]]
) -> None:
    path = zipped(tmp_path, "\n".join(lines).encode("utf-8", "surrogateescape"))
    rows, kind, bad = day_of(tmp_path)
    assert minutes(rows) == kept
    assert [row[4] for row in rows] == [[100.5, 100.0, 102.0][n] for n in kept]
    assert kind == "rows"
    assert [(row.line, row.reason) for row in bad] == faults
    for row in bad:
        assert row.path == f"{path}#20240705_abc_minute_trade.csv"
        assert row.text == lines[row.line - 1].encode("utf-8", "surrogateescape")
        assert row.symbol == "ABC"


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_either_line_end_will_do_and_the_last_may_be_missing(tmp_path: Path, line_end: str) -> None:
    zipped(tmp_path, line_end.join(LINES))
    assert minutes(day_of(tmp_path)[0]) == [0, 1, 2]


def test_an_empty_file_vouches_for_nothing_there(tmp_path: Path) -> None:
    zipped(tmp_path, "")
    assert day_of(tmp_path) == ([], "nothing", [])


@pytest.mark.parametrize("broken", [b"no zip", b""])
def test_a_broken_zip_is_named_and_the_day_can_t_be_said(tmp_path: Path, broken: bytes) -> None:
    path = zipped(tmp_path, GOOD)
    path.write_bytes(broken)
    rows, kind, [bad] = day_of(tmp_path)
    assert (rows, kind) == ([], "cannot_say")
    assert (bad.path, bad.line, bad.symbol) == (str(path), 0, "ABC")
    assert bad.reason.startswith("no readable zip: ")


def test_a_zip_with_damaged_bytes_and_one_with_two_files_are_broken(tmp_path: Path) -> None:
    path = zipped(tmp_path, GOOD * 50)
    data = bytearray(path.read_bytes())
    data[60:70] = b"\xff" * 10
    path.write_bytes(bytes(data))
    assert day_of(tmp_path)[1] == "cannot_say"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", GOOD)
        archive.writestr("b.csv", GOOD)
    assert "it holds 2 files, not one" in day_of(tmp_path)[2][0].reason


def test_a_symbol_in_two_markets_has_to_be_chosen(tmp_path: Path) -> None:
    for market in ("coinbase", "bitfinex"):
        zipped(tmp_path, GOOD, where=f"crypto/{market}", symbol="btcusd")
    with pytest.raises(SourceError, match=r"BTCUSD is in crypto/bitfinex and in crypto/coinbase"):
        open_source(f"lean:{tmp_path}")
    assert open_source(f"lean:{tmp_path}?market=crypto/coinbase").symbols() == ("BTCUSD",)
    with pytest.raises(SourceError, match="no LEAN data folder"):
        open_source(f"lean:{tmp_path}?market=crypto/kraken")
    with pytest.raises(ConfigError, match="'venue=x' is no option"):
        open_source(f"lean:{tmp_path}?venue=x")


def test_a_folder_that_is_none_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such folder"):
        open_source(f"lean:{tmp_path}/nowhere")
    with pytest.raises(SourceError, match="no LEAN data folder"):
        open_source(f"lean:{tmp_path}")
    (tmp_path / "equity" / "usa" / "minute" / "abc").mkdir(parents=True)
    assert open_source(f"lean:{tmp_path}").sessions() is None


def counted(where: str, day: str, first_ms: int, end_ms: int) -> list[list[str]]:
    """The rows of a real file in [first_ms, end_ms), read by nothing of ours."""
    with zipfile.ZipFile(REAL / where / f"{day.replace('-', '')}_trade.zip") as archive:
        text = io.TextIOWrapper(archive.open(archive.namelist()[0]), newline="")
        return [row for row in csv.reader(text) if first_ms <= int(row[0]) < end_ms]


@real
@pytest.mark.parametrize(
    ("symbol", "first", "last"),
    [
        *((symbol, "2013-10-07", "2013-10-11") for symbol in ("AIG", "BAC", "IBM")),
        ("AAPL", "2014-06-05", "2014-06-09"),
        ("GOOG", "2015-12-23", "2015-12-28"),
    ],
)
def test_real_equity_files_give_exactly_their_regular_hours(
    symbol: str, first: str, last: str
) -> None:
    source = open_source(f"lean:{REAL}")
    for session in sessions_between("XNYS", first, last):
        ends = 13 if session.label == "2015-12-24" else 16
        where = f"equity/usa/minute/{symbol.lower()}"
        expected = counted(where, session.label, 34_200_000, ends * 3_600_000)
        [block], kinds, bad = load_range(source, (symbol,), session.open_ns, session.close_ns)
        midnight = at(f"{session.label}T00:00")
        found = [
            [
                str((ts - midnight) // 1_000_000),
                *(str(round(p * 10_000)) for p in prices),
                str(int(v)),
            ]
            for ts, *prices, v in zip(
                block.ts_ns.tolist(),
                block.open,
                block.high,
                block.low,
                block.close,
                block.volume,
                strict=True,
            )
        ]
        assert found == expected
        assert (kinds, bad) == ({symbol: "rows"}, [])
        assert len(expected) <= (210 if ends == 13 else 390)


@real
@pytest.mark.parametrize("day", ["2017-09-03", "2017-09-04", "2018-04-04"])
def test_a_real_crypto_file_gives_its_whole_day(day: str) -> None:
    [session] = sessions_between("24/7", day, day)
    expected = counted("crypto/coinbase/minute/btcusd", day, 0, 86_400_000)
    [block], _, bad = load_range(
        open_source(f"lean:{REAL}"), ("BTCUSD",), session.open_ns, session.close_ns
    )
    assert list(block.close) == [float(row[4]) for row in expected]
    assert list(block.volume) == [float(row[5]) for row in expected]
    assert (np.diff(block.ts_ns) > 0).all()
    assert not bad
