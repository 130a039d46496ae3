"""Two runs compared: the first minute, symbol and field, from tapes and from saved files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams import SessionStream, compare
from streams.certificate import Certificate, Certifier, Place
from streams.cli import verify
from streams.client import Batch
from streams.digest import KINDS
from streams.errors import ConfigError
from streams.intervals import MINUTE_NS
from streams.settings import Settings
from tests.frames import OPEN_NS, Day, MemoryReader, Row, Tape, full_day, merged, tape_of
from tests.points import Busy, Point, busy, busy_days, point, point_tape

SETTINGS = Settings(namespace="unit")
TICKS = [point(s, "S000", float(s), 1.0, condition="A") for s in (5, 65, 65, 130)]
QUOTES = [point(s, "S001", 1.0, 2.0, float(s), 4.0) for s in (7, 70)]
DAY = busy(full_day(3, 5), [*TICKS, *QUOTES])
DAYS = [DAY, full_day(3, 5, 1)]


class Tapes:
    """The tapes that there are, by namespace."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tape] = {}

    def batches(self, settings: Settings) -> Iterator[Batch]:
        tape = self.by_name[settings.namespace]
        with SessionStream(
            reader=MemoryReader(tape), kinds=KINDS, start="first", until="idle"
        ) as stream:
            yield from stream.frames()


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> Tapes:
    found = Tapes()
    monkeypatch.setattr(compare, "_batches", found.batches)
    return found


def verdict(tapes: Tapes, a: Sequence[Day], b: Sequence[Day], shards: int = 2) -> compare.Verdict:
    tapes.by_name = {"one": point_tape(a), "two": point_tape(b, shards)}
    return compare.compare(SETTINGS, "one", "two")


def but(changed: Point | Row, *new: Point | Row) -> list[Day]:
    """The days with rows in the place of one."""
    day = DAY
    rows = [row for row in day.rows if row is not changed]
    points = [p for p in day.points if p is not changed]
    rows += [row for row in new if isinstance(row, Row)]
    points += [row for row in new if isinstance(row, Point)]
    rows.sort(key=lambda row: row.order)
    return [replace(day, rows=tuple(rows), points=tuple(points)), DAYS[1]]


def test_equal_runs(tapes: Tapes) -> None:
    found = verdict(tapes, DAYS, DAYS)
    assert (found.equal, found.equal_as_known) == (True, True)
    assert (found.first, found.first_as_known) == (None, None)
    assert found.a.rows == {"bars": 30, "quotes": 2, "ticks": 4}
    assert found.a.bars == 30
    assert found.a.run == "run-1"


BAR = DAYS[0].rows[4]
LATE = replace(BAR, known_ns=BAR.known_ns + MINUTE_NS, is_late=True)
CASES: list[tuple[Any, list[Any], tuple[Any, ...]]] = [
    (BAR, [replace(BAR, volume=7.0)], (BAR.ts_ns, "S001", "volume", BAR.volume, 7.0, "bars")),
    (BAR, [], (BAR.ts_ns, "S001", "bar", BAR.close, None, "bars")),
    (
        TICKS[1],
        [replace(TICKS[1], values=(65.0, 9.0))],
        (TICKS[1].ts_ns, "S000", "size", 1.0, 9.0, "ticks"),
    ),
    (
        TICKS[3],
        [replace(TICKS[3], condition="B")],
        (TICKS[3].ts_ns, "S000", "condition", "A", "B", "ticks"),
    ),
    (TICKS[1], [], (TICKS[1].ts_ns, "S000", "ticks", 2, 1, "ticks")),
    (
        QUOTES[1],
        [replace(QUOTES[1], values=(1.0, 2.0, 3.0, 4.0))],
        (QUOTES[1].ts_ns, "S001", "ask", 70.0, 3.0, "quotes"),
    ),
    (QUOTES[0], [], (QUOTES[0].ts_ns, "S001", "quotes", 1, 0, "quotes")),
]


@pytest.mark.parametrize(("changed", "new", "expected"), CASES)
def test_the_first_difference_is_named(
    tapes: Tapes, changed: Any, new: list[Any], expected: tuple[Any, ...]
) -> None:
    found = verdict(tapes, DAYS, but(changed, *new))
    assert not found.equal
    first = found.first
    assert first is not None
    assert first.session == "2024-01-01"
    assert (first.ts_ns, first.symbol, first.field, first.a, first.b, first.kind) == expected
    back = compare.compare(SETTINGS, "two", "one").first
    assert back is not None
    assert (back.ts_ns, back.field, back.a, back.b) == (
        *expected[:1],
        *expected[2:3],
        *(
            expected[4],
            expected[3],
        ),
    )
    assert found.first_as_known is not None
    assert found.first_as_known.symbol == first.symbol


@pytest.mark.parametrize(
    ("changed", "late", "known"),
    [
        (BAR, LATE, LATE.known_ns),
        (
            TICKS[0],
            replace(TICKS[0], known_ns=TICKS[0].known_ns + 3, is_late=True),
            TICKS[0].known_ns + 3,
        ),
    ],
    ids=["bar", "tick"],
)
def test_what_was_only_known_later_is_named(
    tapes: Tapes, changed: Any, late: Any, known: int
) -> None:
    found = verdict(tapes, DAYS, but(changed, late))
    assert found.equal
    assert not found.equal_as_known
    assert found.first is None
    first = found.first_as_known
    assert first is not None
    assert (first.ts_ns, first.field) == (changed.ts_ns, "known_ns")
    assert (first.a, first.b) == (changed.known_ns, known)


def test_a_revision_and_a_row_more_are_named(tapes: Tapes) -> None:
    first = verdict(tapes, DAYS, but(BAR, BAR, replace(LATE, revision=1))).first_as_known
    assert first is not None
    assert (first.field, first.a, first.b) == ("bar", None, BAR.close)
    one = but(BAR, BAR, LATE)
    first = verdict(tapes, one, but(BAR, BAR, replace(LATE, revision=1))).first_as_known
    assert first is not None
    assert (first.field, first.a, first.b) == ("revision", 0, 1)


def test_the_order_of_ticks_of_one_time_was_known(tapes: Tapes) -> None:
    a, b = (replace(TICKS[1], values=(price, 1.0), sequence=n) for n, price in ((0, 1.0), (1, 2.0)))
    swapped = (replace(a, sequence=1), replace(b, sequence=0))
    found = verdict(tapes, but(TICKS[1], a, b), but(TICKS[1], *swapped))
    assert found.equal
    assert found.first_as_known is not None
    assert found.first_as_known.field == "price"


def test_only_sessions_that_both_have_are_compared(tapes: Tapes) -> None:
    found = verdict(tapes, DAYS, DAYS[1:])
    assert not found.equal
    assert found.first is None
    verify._print(found)


def saved(folder: Path, tapes: Tapes, name: str) -> str:
    path = folder / f"{name}.tape"
    with path.open("wb") as file:
        assert compare.save(SETTINGS, name, file).bars == 30
    return str(path)


def test_a_saved_run_names_minute_and_symbol(tapes: Tapes, tmp_path: Path) -> None:
    tapes.by_name = {
        "one": point_tape(DAYS),
        "two": point_tape(but(TICKS[1], replace(TICKS[1], values=(1.0, 1.0)))),
        "three": point_tape(but(TICKS[0], replace(TICKS[0], known_ns=TICKS[0].ts_ns + 5))),
    }
    one = saved(tmp_path, tapes, "one")
    two = saved(tmp_path, tapes, "two")
    same = compare.compare(SETTINGS, one, "one")
    assert same.equal
    assert same.equal_as_known
    assert same.a.run == "run-1"
    assert same.a.rows == same.b.rows
    for a, b in ((one, "two"), (one, two), ("one", two)):
        first = compare.compare(SETTINGS, a, b).first
        assert first is not None
        place = (first.session, first.ts_ns, first.symbol, first.kind)
        assert place == ("2024-01-01", OPEN_NS + MINUTE_NS, "S000", "ticks")
        assert (first.field, first.a, first.b) == ("", None, None)
    known = compare.compare(SETTINGS, one, "three")
    assert known.equal
    assert known.first_as_known is not None
    assert known.first_as_known.ts_ns == OPEN_NS
    with (tmp_path / "again").open("wb") as file:
        assert compare.save(SETTINGS, one, file).digest == same.a.digest
    assert compare.compare(SETTINGS, str(tmp_path / "again"), "two").first is not None


def test_the_json_of_a_replay_has_digests_alone(tapes: Tapes, tmp_path: Path) -> None:
    tapes.by_name = {"one": point_tape(DAYS)}
    digest = compare.compare(SETTINGS, "one", "one").a
    path = tmp_path / "one.json"
    said = {"run": "r", "digest": digest.digest, "digest_as_known": "other", "bars": 30}
    path.write_text(json.dumps({**said, "rows": digest.rows}))
    found = compare.compare(SETTINGS, str(path), "one")
    assert (found.equal, found.equal_as_known) == (True, False)
    assert found.first_as_known is None
    with pytest.raises(ConfigError, match="holds digests alone"), (tmp_path / "x").open("wb") as to:
        compare.save(SETTINGS, str(path), to)


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_a_file_that_is_neither_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "none"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not what `sessiontape verify --save`"):
        compare.compare(SETTINGS, str(path), "one")


def test_a_saved_file_of_another_kind_says_so(tmp_path: Path) -> None:
    path = tmp_path / "none"
    for arrays, says in (
        ({"other": np.zeros(1)}, "is not what `sessiontape verify --save` wrote"),
        ({"said": np.frombuffer(b'{"format": 99}', np.uint8)}, "format 99"),
    ):
        with path.open("wb") as file:
            np.savez(file, **arrays)
        with pytest.raises(ConfigError, match=says):
            compare.compare(SETTINGS, str(path), "one")


def test_a_run_that_is_not_there_says_so(tapes: Tapes) -> None:
    tapes.by_name = {"one": point_tape(DAYS)}
    with pytest.raises(ConfigError, match="no run other of namespace one"):
        compare.compare(SETTINGS, "one/other", "one")
    with pytest.raises(ConfigError, match="no namespace and no namespace/run"):
        compare.compare(SETTINGS, "Not A Name", "one")
    assert compare.compare(SETTINGS, "one/run-1", "one").equal


def test_it_is_printed(
    tapes: Tapes,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("streams.local.running.connected", lambda one: one)
    monkeypatch.setattr(verify, "settings_of", lambda: SETTINGS)
    late = replace(TICKS[0], known_ns=TICKS[0].known_ns + 3_000_000, is_late=True)
    tapes.by_name = {
        "one": point_tape(DAYS),
        "two": point_tape(but(BAR, replace(BAR, volume=7.0))),
        "three": point_tape(but(TICKS[0], late)),
    }
    assert verify.verify("one", "one") == 0
    assert "equal in their final state, and as known" in capsys.readouterr().out
    assert verify.verify("one", "two") == 1
    said = capsys.readouterr().out
    assert "they differ, first at 2023-11-14 22:14:00 UTC (session 2024-01-01), S001, vol" in said
    assert verify.verify("one", "three") == 0
    said = capsys.readouterr().out
    assert "were known differently, first at 2023-11-14 22:13:05 UTC" in said
    assert "known_ns" in said
    path = tmp_path / "one.tape"
    assert verify.verify("one", save=path) == 0
    assert " 30 " in capsys.readouterr().out
    assert verify.verify("one", save=path, json=True) == 0
    assert json.loads(capsys.readouterr().out)["bars"] == 30
    assert verify.verify(str(path), "two", json=True) == 1
    assert json.loads(capsys.readouterr().out)["first"]["symbol"] == "S001"
    assert verify.verify(str(path), "two") == 1
    assert "S001, bars of that minute" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="two runs to compare, or one and --save"):
        verify.verify("one")


def certificate(days: Sequence[Day], shards: int = 1, cuts: Sequence[int] = ()) -> Certificate:
    certifier = Certifier()
    for batch in merged(point_tape(days, shards, dict.fromkeys(range(shards), cuts))):
        certifier.add(batch)
    return certifier.certificate()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    days=busy_days(),
    shards=st.integers(1, 3),
    cuts=st.lists(st.integers(1, 12), max_size=5),
    data=st.data(),
)
def test_certificates_tell_what_digests_tell(
    days: list[Day], shards: int, cuts: list[int], data: st.DataObject
) -> None:
    one, two = certificate(days), certificate(days, shards, cuts)
    for as_known in (False, True):
        assert one.first(two, as_known=as_known) is None
    number = data.draw(st.integers(0, len(days) - 1))
    day = days[number]
    rows: list[Any] = [*day.rows, *(day.points if isinstance(day, Busy) else ())]
    row = rows[data.draw(st.integers(0, len(rows) - 1))]
    is_bar = isinstance(row, Row)
    new = replace(row, close=-1.0) if is_bar else replace(row, values=(-1.0, *row.values[1:]))
    changed = replace(day, rows=tuple(new if one is row else one for one in day.rows))
    if isinstance(changed, Busy):
        points = tuple(new if one is row else one for one in changed.points)
        changed = replace(changed, points=points)
    other = certificate([*days[:number], changed, *days[number + 1 :]], shards, cuts)
    kind = "bars" if is_bar else row.kind
    minute_ns = row.ts_ns // MINUTE_NS * MINUTE_NS
    assert one.first(other, as_known=True) == Place(day.label, minute_ns, row.symbol, kind)


def test_a_certificate_of_a_running_session_is_that_up_to_now() -> None:
    batches = merged(tape_of([full_day(2, 4)], cuts={0: [2]}))
    certifier = Certifier()
    assert certifier.certificate().sessions == ()
    for batch in batches[:3]:
        certifier.add(batch)
    part = certifier.certificate()
    for batch in batches[3:]:
        certifier.add(batch)
    whole = certifier.certificate()
    place = part.first(whole, as_known=False)
    assert place == Place("2024-01-01", OPEN_NS + 2 * MINUTE_NS, "S000", "bars")
    assert whole.first(whole, as_known=False) is None


def test_the_digests_roll() -> None:
    cells = certificate(DAYS).cells["2024-01-01", "bars"]
    assert cells.symbols == ("S000", "S001", "S002")
    assert cells.symbol.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert len(np.unique(cells.final)) == len(np.unique(cells.known)) == 15
    changed = but(BAR, replace(BAR, volume=7.0))
    other = certificate(changed).cells["2024-01-01", "bars"]
    # From its minute on the digest of the symbol is another.
    differs = cells.final != other.final
    assert differs.tolist() == [False] * 6 + [True] * 4 + [False] * 5
