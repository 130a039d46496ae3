"""Lines of a pipe to rows: CSV and JSON, good and bad."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import SourceError
from streams.intervals import MINUTE_NS
from streams.sources.columns import SHAPES, mapping_of
from streams.sources.files import Form
from streams.sources.gathered import Row
from streams.sources.protocol import BadRow
from streams.sources.row_lines import Found, Mark, RowLines
from streams.sources.times import ns_text, text_ns

NOON = text_ns("2024-11-29T12:00:00Z")


def form(stream: str = "bars", **changes: Any) -> Form:
    values = {"mapping": "", "zone": "", "symbol": "", "scale": 0.0, **changes}
    mapping = mapping_of(str(values.pop("mapping")), SHAPES[stream])
    return Form(shape=SHAPES[stream], mapping=mapping, interval_ns=MINUTE_NS, **values)


def read(text: str, stream: str = "bars", *, is_json: bool = False, **changes: Any) -> list[Found]:
    lines = list(enumerate(text.encode().split(b"\n"), 1))
    return list(RowLines("stdin", form(stream, **changes), is_json=is_json).read(lines))


BARS = "timestamp,symbol,open,high,low,close,volume\n"


def test_a_csv_of_bars() -> None:
    (row,) = read(BARS + "2024-11-29T12:00:00Z,IBM,10,11,9,10.5,100\n")
    assert row == Row("IBM", NOON, (10, 11, 9, 10.5), (100,))


@pytest.mark.parametrize(
    "time",
    ["2024-11-29T12:00:00Z", "2024-11-29T07:00:00-05:00", "2024-11-29 12:00", "1732881600",
     "1732881600.0", "1732881600000", "1732881600000000000", " 2024-11-29 12:00:00 "],
)  # fmt: skip
def test_times_of_every_form(time: str) -> None:
    (row,) = read(BARS + f"{time},IBM,10,11,9,10.5,100")
    assert isinstance(row, Row)
    assert row.ts_ns == NOON
    fields = {"t": time.strip(), "S": "IBM", "bp": 1, "bs": 2, "ap": 3, "as": 4}
    (quote,) = read(json.dumps(fields), "quotes", is_json=True)
    assert quote == Row("IBM", NOON, (1, 3), (2, 4))


def test_a_time_without_a_zone_is_of_the_zone_that_was_named() -> None:
    (row,) = read(BARS + "2024-11-29 07:00,IBM,10,11,9,10.5,100", zone="America/New_York")
    assert isinstance(row, Row)
    assert row.ts_ns == NOON


def test_json_lines_by_other_names() -> None:
    text = "\n".join(
        json.dumps(one)
        for one in (
            {"t": NOON, "S": "IBM", "p": 10.5, "s": 3, "c": ["@", " ", "I"]},
            {"symbol": "BAC", "price": "10.25", "size": 1, "timestamp": NOON // 10**9},
            {"s": 2, "p": 1, "t": NOON, "S": "AIG", "c": None},
        )
    )
    assert read(text, "ticks", is_json=True) == [
        Row("IBM", NOON, (10.5,), (3,), condition="@,I"),
        Row("BAC", NOON, (10.25,), (1,)),
        Row("AIG", NOON, (1,), (2,)),
    ]


def test_what_is_named_is_taken() -> None:
    (row,) = read("when,px,qty\n1732881600,105000,7", "ticks", symbol="IBM", scale=10_000.0,
                  mapping="timestamp:when,price:px,size:qty")  # fmt: skip
    assert row == Row("IBM", NOON, (10.5,), (7,))
    (row,) = read(f"ts_event,symbol,price,size\n{NOON},IBM,10500000000,7", "ticks")
    assert row == Row("IBM", NOON, (10.5,), (7,))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2024-11-29T12:00:00Z,IBM,10,11,9,10.5", "it has 6 fields, not 7"),
        ("noon,IBM,10,11,9,10.5,100", "the time is 'noon', which is none"),
        (",IBM,10,11,9,10.5,100", "the time is '', which is none"),
        ("2024-11-29,,10,11,9,10.5,100", "the symbol '' has to have 1 to 32 bytes"),
        (f"2024-11-29,{'X' * 33},10,11,9,10.5,100", f"the symbol '{'X' * 33}' has to have 1 to 32"),
        ("2024-11-29,IBM,ten,11,9,10.5,100", "open is 'ten', which is no number"),
        ("2024-11-29,IBM,nan,11,9,10.5,100", "open is nan: a finite number from 0 is meant"),
        ("2024-11-29,IBM,10,11,9,10.5,-1", "volume is -1: a finite number from 0 is meant"),
        ("2024-11-29,IBM,10,9,11,10,100", "the high is below the low"),
        ('2024-11-29,"IBM,10,11,9,10.5,100', "it can't be parsed: "),
        ("1e300,IBM,10,11,9,10.5,100", "the time is "),
        ("nan,IBM,10,11,9,10.5,100", "the time is 'nan', which is none"),
        ("# heard noon", "the time is 'noon', which is none"),
    ],
)
def test_a_line_that_is_none_is_told_and_the_rest_goes_on(line: str, reason: str) -> None:
    good = "2024-11-29T12:00:00Z,IBM,10,11,9,10.5,100"
    bad, row = read(f"{BARS}{line}\n\n{good}\r\n")
    assert isinstance(bad, BadRow)
    assert (bad.path, bad.line, bad.text) == ("stdin", 2, line.encode())
    assert bad.reason.startswith(reason)
    assert isinstance(row, Row)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "it is no JSON: "),
        ("[1]", "it is no JSON object"),
        ('{"t": 1}', "no column for price, size among t: name it by --map=price:NAME"),
        ('{"t": 1, "p": 1, "s": 1}', "no column for symbol among t, p, s: give --symbol or --map"),
        ('{"t": true, "S": "A", "p": 1, "s": 1}', "the time is True, which is none"),
        ('{"t": null, "S": "A", "p": 1, "s": 1}', "the time is None, which is none"),
        ('{"t": 1, "S": "A", "p": null, "s": 1}', "price is None, which is no number"),
        ('{"t": 1, "S": "A", "p": true, "s": 1}', "price is True, which is no number"),
        ('{"t": 1, "S": "A", "p": Infinity, "s": 1}', "price is inf: a finite number"),
        ('{"heard": "noon"}', "the time is 'noon', which is none"),
    ],
)
def test_an_object_that_is_none_is_told(line: str, reason: str) -> None:
    bad, row = read(f'{line}\n{{"t": 1, "S": "A", "p": 1, "s": 1}}', "ticks", is_json=True)
    assert isinstance(bad, BadRow)
    assert bad.reason.startswith(reason)
    assert row == Row("A", 10**9, (1,), (1,))


def test_bytes_that_are_no_text_are_told() -> None:
    lines = [(1, BARS.strip().encode()), (2, b"\xff\xfe,IBM")]
    (bad,) = RowLines("stdin", form(), is_json=False).read(lines)
    assert isinstance(bad, BadRow)
    assert bad.reason == "it is no text"


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("timestamp,open", "stdin:1: no column for high, low, close, volume among"),
        ("timestamp,open,high,low,close,volume", "no column for symbol among"),
    ],
)
def test_a_header_that_lacks_a_column_ends_it(header: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(header)
    assert says in str(caught.value)
    assert "?map" not in str(caught.value)


def test_a_mark_between_the_rows() -> None:
    row = "2024-11-29T12:00:00Z,IBM,10,11,9,10.5,100\n"
    found = read(f"\ufeff{BARS}{row}# heard 2024-11-29T12:01:00Z\n{row}")
    assert [type(one) for one in found] == [Row, Mark, Row]
    assert found[1] == Mark(NOON + MINUTE_NS)
    assert read('{"heard": 1732881600}', is_json=True) == [Mark(NOON)]


def test_names_that_differ_from_line_to_line_are_not_kept_for_ever() -> None:
    reader = RowLines("stdin", form("ticks"), is_json=True)
    lines = [
        (n, json.dumps({"t": n, "S": "A", "p": 1, "s": 1, f"x{n}": 0}).encode())
        for n in range(1, 2500)
    ]
    assert len(list(reader.read(lines))) == 2499
    assert len(reader._columns) <= 1001


PRICE = st.floats(0, 1e9).map(lambda value: round(value, 4))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["AIG", "BRK.B", 'A"B']), st.integers(0, 2 * 10**18), PRICE, PRICE
        )
    )
)
def test_csv_and_json_say_the_same(rows: list[tuple[str, int, float, float]]) -> None:
    wanted = [Row(symbol, ts_ns, (price,), (size,)) for symbol, ts_ns, price, size in rows]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["time", "sym", "price", "qty"])
    writer.writerows([ns_text(row.ts_ns), row.symbol, *row.prices, *row.sizes] for row in wanted)
    objects = "\n".join(
        json.dumps(
            {"time": ns_text(r.ts_ns), "sym": r.symbol, "price": r.prices[0], "qty": r.sizes[0]}
        )
        for r in wanted
    )
    assert read(out.getvalue(), "ticks") == wanted
    assert read(objects, "ticks", is_json=True) == wanted
