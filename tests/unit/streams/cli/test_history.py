"""What ``history`` shows of bars, derived bars, quotes and ticks, from a real store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyarrow import csv, parquet

from sinks.clickhouse import ClickHouseSink
from sinks.derived import DerivedSink
from sinks.owner import FolderOwner
from sinks.store import Store
from streams.intervals import MINUTE_NS
from streams.settings import Settings
from tests.unit.sinks.derived import Longer, put
from tests.unit.sinks.frames import Tape
from tests.unit.sinks.ticking import Slice, Told
from tests.unit.sinks.ticking import put as put_ticks
from tests.unit.streams.cli.running import Ran, run

DERIVED = ("VWAP", "bars", "quality")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a session of bars, two derived ones of it, two ticks and a quote."""
    folder = tmp_path_factory.mktemp("stored")
    settings = Settings(data_dir=folder, namespace="unit-1")
    with FolderOwner(settings):
        store = Store.open(settings)
        tape, five = Tape(), Tape()
        tape.session(0)
        at_ns = 61_000_000_005
        ticks = (Told("ticks", 0, at_ns, 12.5, condition=1), Told("ticks", 0, at_ns, 13.5))
        put_ticks(tape, [Slice(at_ns, (), (*ticks, Told("quotes", 1, at_ns, 7.5)))])
        put(five, 0, [Longer("AAA", 0, 0, 10, quality=80.0, count=4)])
        put(five, 0, [Longer("AAA", 0, 5, 20, volume=0.0)])
        for sink, frames in (
            (ClickHouseSink(store), tape.frames),
            (DerivedSink(store, "unit-1.bars.5m", 5 * MINUTE_NS), five.frames),
        ):
            sink.resume({0: None}, {0: 0})
            sink.write(frames)
            sink.flush()
        store.close()
    return folder


def history(folder: Path, *arguments: str) -> Ran:
    where = {"SESSIONTAPE_DATA_DIR": str(folder)}
    found = run(folder, "history", *arguments, "--namespace", "unit-1", **where)
    assert found.returncode == 0, found.stderr
    return found


def test_derived_bars_show_what_they_are_made_of(folder: Path) -> None:
    head, first, second, *_ = history(folder, "AAA", "--interval", "5m").stdout.splitlines()
    assert all(word in head for word in DERIVED)
    assert first.split()[-3:] == ["10.12", "4", "80.0"]
    assert second.split()[-3:] == ["-", "5", "100.0"]


def test_bars_that_a_source_sent_have_no_such_columns(folder: Path) -> None:
    found = history(folder, "AAA")
    assert not any(word in found.stdout.splitlines()[0] for word in DERIVED)
    assert "10 bars" in found.stderr


def test_json_and_files_have_them(folder: Path, tmp_path: Path) -> None:
    wanted = [(10.125, 4, 80.0), (None, 5, 100.0)]
    names = ("vwap", "count", "quality")
    rows = json.loads(history(folder, "AAA", "--interval", "5m", "--json").stdout)
    assert [tuple(row[name] for name in names) for row in rows] == wanted
    for ending, read in (("parquet", parquet.read_table), ("csv", csv.read_csv)):
        file = tmp_path / f"bars.{ending}"
        history(folder, "AAA", "--interval", "5m", "--output", str(file))
        rows = read(file).to_pylist()
        assert [tuple(row[name] for name in names) for row in rows] == wanted
    (base, *_) = json.loads(history(folder, "AAA", "--json").stdout)
    assert [base[name] for name in names] == [None, None, None]


def test_ticks_and_quotes_show_their_values(folder: Path, tmp_path: Path) -> None:
    found = history(folder, "AAA", "--kind", "ticks")
    _, first, second, *_ = found.stdout.splitlines()
    assert first.split() == [
        "AAA",
        "2013-10-07",
        "13:31:01.000000005",
        "12.5000",
        "112.5",
        "@",
        "I",
    ]
    assert second.split()[-2:] == ["13.5000", "113.5"]
    assert "2 ticks" in found.stderr
    found = history(folder, "AAA,BBB", "--kind", "quotes")
    _, only, *_ = found.stdout.splitlines()
    assert only.split()[3:] == ["7.5000", "107.5", "7.7500", "207.5"]
    rows = json.loads(history(folder, "AAA", "--kind", "ticks", "--json").stdout)
    assert [(row["price"], row["place"], row["condition"]) for row in rows] == [
        *((12.5, 0, "@ I"), (13.5, 1, ""))
    ]
    file = tmp_path / "quotes.parquet"
    assert "1 quotes to" in history(folder, "BBB", "--kind", "quotes", "--output", str(file)).stderr
    assert parquet.read_table(file)["ask"].to_pylist() == [7.75]
