"""A trailing session as frames: what stands in which, in what order, and how they are cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Codec, Frame
from schemas.columns import check
from streams.calendar import sessions_between
from streams.days import Day
from streams.history import end_of, frames_of
from streams.intervals import MINUTE_NS
from tests.recorded import bars_table
from tests.unit.streams.test_days import DAY, MARKET, SYMBOLS, blocks, command, covers

HALF_DAY = sessions_between("XNYS", "2023-11-24", "2023-11-24")[0]
"""The day behind Thanksgiving: 09:30 to 13:00."""


def gathered(stored: tuple[str, ...] = (), sent: tuple[str, ...] = ()) -> Day:
    """Return the day with bars of the store, and with an answer that vouches for the rest."""
    day = Day(DAY, SYMBOLS)
    if stored:
        day.store(bars_table(blocks(*stored), DAY.label), is_whole=True)
    for block in blocks(*sent) if sent else []:
        day.take(block)
    day.take(covers(SYMBOLS, blocks=0))
    return day


def frames(day: Day, last: Frame | None = None, **changes: Any) -> list[Frame]:
    size = {key: changes.pop(key) for key in ("message_bytes",) if key in changes}
    found = frames_of(day, command(**changes), last, 0, 2, **size)
    for frame in found:
        check(frame)
    return found


def known(frame: Frame) -> list[tuple[int, str, int, str, float]]:
    """Return the rows of a frame in order: ready time, kind, length, symbol and close."""
    rows: dict[int, tuple[int, str, int, str, float]] = {}
    for kind, group in (("bars", frame.bars), ("derived", frame.derived)):
        if group is None:
            continue
        for n in range(len(group)):
            length = int(group.interval_ns[n])
            name = frame.symbols[group.symbol[n]]
            at = int(group.ts_ns[n]) + length
            rows[int(group.row[n])] = (at, kind, length, name, float(group.close[n]))
    return [rows[n] for n in range(frame.rows)]


def test_the_rows_of_a_session_stand_in_the_order_of_the_tape() -> None:
    (frame,) = frames(gathered(stored=SYMBOLS))
    rows = known(frame)
    assert rows == sorted(rows)
    assert len(rows) == 3 * (390 + 78)
    assert (frame.event, frame.session, frame.run) == ("rows", DAY.label, "run-1")
    assert (frame.open_ns, frame.close_ns) == (DAY.open_ns, DAY.close_ns)
    assert (frame.symbols, frame.expected, frame.shard, frame.shards) == (SYMBOLS, 390, 0, 2)
    assert frame.clock_ns == DAY.close_ns
    assert frame.open_offset == -1
    assert frame.slice_ns.tolist() == [DAY.open_ns + n * MINUTE_NS for n in range(1, 391)]
    assert not any(
        getattr(frame, f"slice_{name}").any()
        for name in ("corrections", "expected", "received", "no_trade", "missing")
    )
    assert not frame.incomplete


def test_the_bars_are_those_of_the_store_and_of_the_source() -> None:
    both = frames(gathered(stored=SYMBOLS[:2], sent=SYMBOLS[2:]))
    assert [frame.sources for frame in both] == [("store",), ("syn",)]
    rows = [row for frame in both for row in known(frame) if row[1] == "bars"]
    expected = [
        (int(b.ts_ns[n]) + MINUTE_NS, "bars", MINUTE_NS, b.symbols[b.symbol[n]], float(b.close[n]))
        for b in blocks(*SYMBOLS)
        for n in range(len(b))
    ]
    assert sorted(rows) == sorted(expected)
    assert {row[3] for row in known(both[0])} == set(SYMBOLS[:2])
    assert {row[3] for row in known(both[1])} == set(SYMBOLS[2:])


def test_a_symbol_that_has_bars_of_both_stands_with_the_sources() -> None:
    day = Day(DAY, SYMBOLS)
    half = [block.take(slice(0, 100)) for block in blocks("SYN0001")]
    day.store(bars_table([*half, *blocks("SYN0002")], DAY.label), is_whole=False)
    (block,) = blocks("SYN0001")
    day.take(block.take(slice(100, None)))
    of_the_store, mixed = frames(day)
    assert (of_the_store.sources, mixed.sources) == (("store",), ("store", "syn"))
    assert {row[3] for row in known(of_the_store)} == {"SYN0002"}
    assert mixed.bars is not None
    assert mixed.bars.source.tolist() == [0] * 100 + [1] * 290
    assert {row[3] for row in known(mixed)} == {"SYN0001"}


@pytest.mark.parametrize(
    ("historical", "lengths"),
    [(("1m",), {1}), (("5m",), {5}), (("1m", "15m", "1h"), {1, 15, 60, 30}), (("1d",), {390})],
)
def test_only_the_lengths_that_are_wanted_are_in_it(
    historical: tuple[str, ...], lengths: set[int]
) -> None:
    (frame,) = frames(gathered(stored=SYMBOLS), historical=historical)
    assert {row[2] // MINUTE_NS for row in known(frame)} == lengths
    assert (frame.bars is None) is ("1m" not in historical)
    assert (frame.derived is None) is (historical == ("1m",))


def test_a_longer_bar_is_that_of_its_minutes_and_tells_how_many_lack() -> None:
    day = Day(DAY, SYMBOLS)
    (block,) = blocks("SYN0001")
    day.take(block.take(np.arange(390) != 7))
    (frame,) = frames(day, historical=("5m",))
    longer = frame.derived
    assert longer is not None
    assert longer.count.tolist() == [5, 4] + [5] * 76
    assert longer.quality.tolist() == [100.0, 80.0] + [100.0] * 76
    minutes = [5, 6, 8, 9]
    assert longer.open[1] == block.open[5]
    assert longer.high[1] == block.high[minutes].max()
    assert longer.low[1] == block.low[minutes].min()
    assert longer.close[1] == block.close[9]
    assert longer.volume[1] == pytest.approx(block.volume[minutes].sum())
    assert np.isnan(longer.before_close).all()


def test_a_half_day_ends_at_its_close() -> None:
    day = Day(HALF_DAY, SYMBOLS)
    starts = HALF_DAY.starts(MINUTE_NS)
    (block,) = blocks("SYN0001")
    day.take(replace(block.take(slice(0, len(starts))), ts_ns=starts))
    (frame,) = frames(day, historical=("1m", "1h"))
    assert frame.expected == 210
    assert frame.derived is not None
    assert frame.derived.interval_ns.tolist() == [60 * MINUTE_NS] * 3 + [30 * MINUTE_NS]
    assert frame.clock_ns == HALF_DAY.close_ns


def test_a_session_of_which_nothing_is_there_says_so_in_a_frame() -> None:
    (frame,) = frames(Day(DAY, SYMBOLS))
    assert (frame.rows, frame.event, frame.session) == (0, "rows", DAY.label)
    assert frame.incomplete
    assert frame.reason == Day(DAY, SYMBOLS).reason
    (vouched,) = frames(gathered())
    assert (vouched.rows, vouched.incomplete, vouched.reason) == (0, False, "")


def test_numbers_go_on_behind_the_last_frame_and_to_the_end() -> None:
    run = command()
    first = frames(gathered(stored=SYMBOLS[:1], sent=SYMBOLS[1:]))
    assert [(frame.frame, frame.first_row) for frame in first] == [(0, 0), (1, 468)]
    second = frames(gathered(stored=SYMBOLS), first[-1])
    assert [(frame.frame, frame.first_row) for frame in second] == [(2, 3 * 468)]
    end = end_of(run, second[-1], 0, 2)
    check(end)
    assert (end.frame, end.first_row, end.rows) == (3, 6 * 468, 0)
    assert (end.event, end.session, end.run, end.command) == ("end", "", "run-1", 1)
    assert end_of(run, None, 0, 2).frame == 0


@settings(deadline=None, max_examples=20)
@given(message_bytes=st.integers(8_400, 120_000), stored=st.integers(0, 3))
def test_however_small_messages_are_frames_fit_and_hold_every_row_once(
    message_bytes: int, stored: int
) -> None:
    day = gathered(stored=SYMBOLS[:stored], sent=SYMBOLS[stored:])
    whole = [row for frame in frames(day) for row in known(frame)]
    parts = frames(day, message_bytes=message_bytes)
    assert [row for part in parts for row in known(part)] == whole
    sizes = [len(Codec().encode(part, "t")) for part in parts]
    assert max(sizes) <= message_bytes
    numbers = [(part.frame, part.first_row) for part in parts]
    rows = np.cumsum([0, *(part.rows for part in parts[:-1])])
    assert numbers == list(zip(range(len(parts)), rows.tolist(), strict=True))


def test_slices_stay_whole_where_they_fit() -> None:
    parts = frames(gathered(stored=SYMBOLS), message_bytes=8_192 + 50 * 128)
    assert len(parts) > 20
    first = [int(part.slice_ns[0]) for part in parts]
    last = [int(part.slice_ns[-1]) for part in parts]
    assert all(begin > end for begin, end in zip(first[1:], last[:-1], strict=True))
    assert [part.clock_ns for part in parts] == last


def test_the_market_of_these_tests_has_every_minute() -> None:
    assert MARKET.startswith("synthetic:")
    assert [len(block) for block in blocks(*SYMBOLS)] == [3 * 390]
