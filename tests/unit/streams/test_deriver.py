"""Session frames in, derived frames out: as known at every slice, once, however it was cut."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock, Coverage, Frame
from streams.calendar import sessions_between
from streams.control import command_of
from streams.derived_frames import pieces
from streams.derived_session import DerivedSession
from streams.deriver import Deriver
from streams.errors import ConfigError, HoleError
from streams.intervals import MINUTE_NS, interval_ns
from streams.settings import load
from streams.shard import Shard
from streams.sources import open_source
from tests.unit.streams.deriving import (
    CODEC,
    TOPIC,
    Cell,
    Day,
    Model,
    Out,
    Owner,
    Values,
    by_polars,
    columns,
    event,
    full,
    lines,
    outs,
    tape,
    values,
)

REAL = Path(__file__).parents[4] / "shared" / "data" / "lean"
INTERVALS = ("2m", "5m", "1d")


@st.composite
def days(draw: st.DrawFn, number: int = 0) -> Day:
    minutes = draw(st.integers(1, 17))
    names = ("AA", "BB", "CC")[: draw(st.integers(1, 3))]
    seed = draw(st.integers(0, 2**16))
    rng = random.Random(seed)
    begin = draw(st.integers(0, minutes)) if draw(st.booleans()) else 0
    pause = range(begin, min(begin + draw(st.integers(0, 6)), minutes - 1)) if begin else range(0)
    missing, changing = draw(st.sampled_from([(0.0, 0.0), (0.3, 0.0), (0.3, 0.2), (0.9, 0.1)]))
    expected = [m for m in range(minutes) if m not in pause]
    cells = [(m, s) for m in expected for s in range(len(names))]
    fresh = {cell: values(seed, *cell) for cell in cells if rng.random() >= missing}
    late: dict[int, dict[Cell, Values]] = {}
    told: dict[int, dict[Cell, bool]] = {}
    for at in expected:
        before = [cell for cell in cells if cell[0] < at]
        changed = [cell for cell in before if rng.random() < changing / 4]
        if changed:
            late[at] = {cell: values(seed, *cell, at) for cell in changed}
        answered = {c: rng.random() < 0.8 for c in before if rng.random() < changing / 4}
        if answered:
            told[at] = answered
    quiet = frozenset(c for c in cells if c not in fresh and rng.random() < 0.5)
    strays = [(at, at * MINUTE_NS + 30_000_000_000, 30_000_000_000) for at in expected[::4]]
    return Day(
        minutes, names, number, fresh, late, quiet, told, pause, tuple(strays if changing else ())
    )


CUTS = st.lists(st.integers(1, 80), max_size=12)
RELEASES = st.lists(st.integers(0, 2), min_size=1, max_size=7)


def known(days: Sequence[Day], interval: str) -> list[Out]:
    size = interval_ns(interval) // MINUTE_NS
    return [out for day in days for out in Model(day, size).run()]


@settings(max_examples=60, deadline=None)
@given(st.tuples(days(), days(1)), st.lists(CUTS, min_size=2, max_size=2), RELEASES)
def test_bars_go_out_as_they_are_known(
    given_: tuple[Day, Day], cuts: list[list[int]], releases: list[int]
) -> None:
    owner = Owner(INTERVALS)
    frames = tape(given_, cuts)
    owner.play(frames, releases)
    for interval in INTERVALS:
        came = owner.frames(interval)
        assert outs(came) == known(given_, interval)
        check_protocol(owner.topics[interval], frames)


def check_protocol(found: Sequence[tuple[int, Frame]], fed: Sequence[tuple[int, Frame]]) -> None:
    """What holds of every topic of derived bars, whatever is in it."""
    row, opened, clock_ns = 0, -1, 0
    offsets = {frame.session: offset for offset, frame in fed if frame.event == "open"}
    for number, (offset, frame) in enumerate(found):
        assert isinstance(CODEC.decode(CODEC.encode(frame, "t")), Frame)
        assert (frame.frame, frame.first_row) == (number, row)
        assert frame.clock_ns >= clock_ns
        opened = -1 if frame.event in ("start", "open") else opened
        assert frame.open_offset == opened
        opened = offset if frame.event == "open" else opened
        row, clock_ns = row + frame.rows, frame.clock_ns
        (place,) = frame.positions
        assert (place.topic, place.partition) == (TOPIC, 0)
        if frame.event in ("open", "rows"):
            assert place.keep == offsets[frame.session]
        else:
            assert place.keep == place.taken
        marks = (frame.slice_expected, frame.slice_received, frame.slice_no_trade)
        assert not any(np.any(mark) for mark in (*marks, frame.slice_missing))
        assert (np.diff(frame.slice_ns) > 0).all()
        assert frame.bars is None
        assert frame.minutes is None
        assert frame.sources == ()
        for out in outs([frame]):
            ready_ns = out.ts_ns + out.interval_ns
            assert ready_ns < out.slice_ns if out.is_late else ready_ns == out.slice_ns
            assert out.slice_ns <= frame.clock_ns
    events = [frame.event for _, frame in found if frame.event != "rows"]
    assert events == [frame.event for _, frame in fed if frame.event != "rows"]
    # Whoever merges topics is held up by none: every clock of the tape is here, too.
    assert clock_ns == fed[-1][1].clock_ns


@settings(max_examples=60, deadline=None)
@given(days(), CUTS)
def test_the_last_word_is_what_polars_makes_of_the_final_bars(day: Day, cuts: list[int]) -> None:
    owner = Owner(INTERVALS)
    owner.play(tape([day], [cuts]), [1])
    for interval in INTERVALS:
        size = interval_ns(interval) // MINUTE_NS
        last = {(out.ts_ns, out.symbol): out for out in outs(owner.frames(interval))}
        wanted = by_polars(day, size)
        assert len(last) == len(wanted)
        for row in wanted.iter_rows(named=True):
            out = last[day.ns(row["bar"] * size), row["symbol"]]
            prices = [row[name] for name in ("open", "high", "low", "close", "volume")]
            assert out.values == pytest.approx(prices, rel=1e-12)
            assert out.bars == row["count"]
            inside = [m for m in day.expected if m // size == row["bar"]]
            symbol = day.symbols.index(row["symbol"])
            quiet = {m for m, s in day.final_quiet if s == symbol}
            good = len((set(row["minutes"]) | quiet) & set(inside))
            assert out.quality == pytest.approx(100 * good / len(inside))
            if row["volume"]:
                assert out.vwap == pytest.approx(row["turnover"] / row["volume"], rel=1e-12)
            else:
                assert out.vwap is None


@settings(max_examples=30, deadline=None)
@given(days(), days(1), CUTS, RELEASES)
def test_a_crash_at_every_release_changes_nothing(
    first: Day, second: Day, cuts: list[int], releases: list[int]
) -> None:
    frames = tape([first, second], [cuts, cuts])
    calm, struck = Owner(INTERVALS), Owner(INTERVALS)
    calm.play(frames, releases)
    struck.play(frames, releases, crashes=True)
    for interval in INTERVALS:
        both = [[CODEC.encode(f, "t") for f in o.frames(interval)] for o in (calm, struck)]
        assert both[0] == both[1]


@given(days(), CUTS, RELEASES)
@settings(max_examples=40, deadline=None)
def test_revisions_count_up_and_say_what_was_before(
    day: Day, cuts: list[int], releases: list[int]
) -> None:
    owner = Owner(INTERVALS)
    owner.play(tape([day], [cuts]), releases)
    for interval in INTERVALS:
        seen: dict[tuple[int, str], Out] = {}
        for out in outs(owner.frames(interval)):
            before = seen.get((out.ts_ns, out.symbol))
            assert out.revision == (before.revision + 1 if before else 0)
            assert out.before == (before.values if before else None)
            seen[out.ts_ns, out.symbol] = out


# One thing at a time.


def plain(**changes: object) -> Day:
    return replace(Day(12, ("AA", "BB"), fresh=full(12, 2)), **changes)  # type: ignore[arg-type]


def fed(frames: Sequence[tuple[int, Frame]], *intervals: str) -> Owner:
    owner = Owner(intervals or ("5m",))
    for offset, frame in frames:
        owner.deriver.take(frame, offset)
    return owner


def drained(owner: Owner) -> Owner:
    while owner.deriver.is_due:
        owner.release()
    return owner


def story(frames: Sequence[Frame]) -> list[str]:
    return [f"{frame.event} {frame.rows}" for frame in frames]


def test_everything_at_once_is_a_release_up_to_the_open_frame_and_one_behind_it() -> None:
    owner = fed(tape([plain(), plain(number=1)]))
    owner.release()
    assert story(owner.frames("5m")) == ["start 0", "open 0"]
    owner.release()
    assert story(owner.frames("5m"))[2:] == ["rows 6", "close 0", "roll 0", "open 0"]
    due = [owner.deriver.is_due]
    owner.release()
    assert story(owner.frames("5m"))[6:] == ["rows 6", "close 0", "end 0"]
    assert [*due, owner.deriver.is_due] == [True, False]
    assert owner.deriver.release() == {}
    rows = owner.frames("5m")[2]
    assert rows.derived is not None
    assert rows.derived.interval_ns.tolist() == [n * MINUTE_NS for n in (5, 5, 5, 5, 2, 2)]
    assert rows.derived.quality.tolist() == [100.0] * 6


def test_the_clock_goes_out_without_bars_too() -> None:
    frames = tape([plain()], [range(100)])
    owner = fed(frames[:2])
    owner.release()
    clocks = []
    for offset, frame in frames[2:-2]:
        owner.deriver.take(frame, offset)
        owner.release()
        clocks.append(owner.frames("5m")[-1].clock_ns)
    assert clocks == [frame.clock_ns for _, frame in frames[2:-2]]
    # Rows of a slice that goes on move no clock: nothing is due then.
    assert [f.event for f in owner.frames("5m")].count("rows") == 12


def test_an_open_frame_must_be_told() -> None:
    owner = fed(tape([plain()]))
    owner.deriver.release()
    with pytest.raises(RuntimeError, match="not told"):
        owner.deriver.release()


def test_what_is_asked_for_is_whole_minutes() -> None:
    with pytest.raises(ConfigError, match="whole minutes"):
        Deriver(0, 1, ["30s"], TOPIC)


def test_a_deriver_that_comes_in_the_middle_begins_with_the_next_open_frame() -> None:
    frames = tape([plain(), plain(number=1)])
    owner = drained(fed(frames[2:]))
    assert story(owner.frames("5m")) == ["open 0", "rows 6", "close 0", "end 0"]


def test_rows_without_their_open_frame_are_a_hole_if_some_are_out() -> None:
    frames = tape([plain()], [[6]])
    owner = fed(frames[:3])
    owner.release()
    owner.release()
    last = dict.fromkeys(["5m"], owner.frames("5m")[-1])
    deriver = Deriver(0, 1, ["5m"], TOPIC)
    deriver.resume(last)
    assert Deriver.first_offset(last) == frames[1][0]
    with pytest.raises(HoleError) as caught:
        deriver.take(frames[3][1], frames[3][0])
    assert (caught.value.expected, caught.value.got) == (frames[1][0], frames[3][0])


def test_a_topic_that_is_new_begins_with_what_is_read_again() -> None:
    frames = tape([plain(), plain(number=1)], [[6], [6]])
    owner = fed(frames[:3], "5m")
    owner.release()
    owner.release()
    more = Owner(("5m", "2m"))
    more.topics["5m"] = owner.topics["5m"]
    more.end = owner.end
    more.crash(frames[:3])
    for offset, frame in frames[3:]:
        more.deriver.take(frame, offset)
    drained(more)
    for interval in ("5m", "2m"):
        assert outs(more.frames(interval)) == known([plain(), plain(number=1)], interval)
    assert [f.event for f in more.frames("2m")][:2] == ["open", "rows"]
    assert Deriver.first_offset({"5m": None}) is None


def test_topics_that_stand_apart_come_together() -> None:
    frames = tape([plain()], [[3], [9]])
    one, two = fed(frames[:3], "5m"), fed(frames[:-1], "2m")
    drained(one)
    drained(two)
    both = Owner(("5m", "2m"))
    both.topics = {"5m": one.topics["5m"], "2m": two.topics["2m"]}
    both.end = max(one.end, two.end)
    both.crash(frames)
    drained(both)
    for interval in ("5m", "2m"):
        assert outs(both.frames(interval)) == known([plain()], interval)
        assert [f.frame for f in both.frames(interval)] == [*range(len(both.frames(interval)))]
        events = [f.event for f in both.frames(interval) if f.event != "rows"]
        assert events == ["start", "open", "close", "end"]


def test_frames_that_come_again_and_those_of_other_sessions_change_nothing() -> None:
    day = plain(quiet=frozenset({(3, 0)}))
    frames = tape([day], [[9]])
    owner = fed(frames[:4])
    owner.deriver.take(frames[3][1], frames[3][0])
    other = event("rows", plain(number=1), day.open_ns, minutes=frames[1][1].minutes)
    owner.deriver.take(replace(other, waiting=True), frames[3][0] + 1)
    assert frames[1][1].minutes is not None
    foreign = replace(frames[1][1].minutes, session="2020-01-01")
    owner.deriver.take(replace(frames[3][1], minutes=foreign, bars=None), frames[3][0] + 1)
    drained(owner)
    assert outs(owner.frames("5m")) == known([day], "5m")


def test_an_answer_that_comes_with_a_complete_frame_counts_in_its_first_slice() -> None:
    fresh = {cell: what for cell, what in full(12, 2).items() if cell != (1, 0)}
    day = plain(fresh=fresh, told={6: {(1, 0): True}})
    owner = drained(fed(tape([day])))
    assert outs(owner.frames("5m")) == known([day], "5m")
    assert [o.quality for o in outs(owner.frames("5m"))][:3] == [80.0, 100.0, 100.0]


def test_corrections_may_be_alone_in_a_frame_before_the_rest_of_their_slice() -> None:
    day = plain(late={7: {(2, 0): values(5), (3, 1): values(6)}})
    behind = sum(line.slice < 7 for line in lines(day)) + 7 + 2
    frames = tape([day], [[behind]])
    assert frames[2][1].slice_rows[-1] == frames[2][1].slice_corrections[-1] == 2
    owner = Owner(["5m"])
    owner.play(frames, [2])
    assert outs(owner.frames("5m")) == known([day], "5m")


def test_an_answer_behind_the_last_slice_goes_out_before_the_close() -> None:
    fresh = {cell: what for cell, what in full(12, 2).items() if cell != (11, 1)}
    day = plain(fresh=fresh)
    frames = tape([day])
    quiet = replace(frames[1][1], minutes=None)
    told = plain(fresh=fresh, quiet=frozenset({(11, 1)}))
    answer = tape([told])[1][1].minutes
    last = replace(frames[2][1], minutes=answer, bars=None, rows=0)
    nothing = last.slice_ns[:0]
    slices = {n: nothing for n in Frame.__dataclass_fields__ if n.startswith("slice_")}
    owner = fed([frames[0], (frames[1][0], quiet), frames[2]])
    owner.deriver.take(replace(last, **slices), frames[2][0] + 1)  # type: ignore[arg-type]
    for offset, frame in frames[3:]:
        owner.deriver.take(frame, offset)
    drained(owner)
    assert story(owner.frames("5m")) == [
        "start 0",
        "open 0",
        "rows 6",
        "rows 1",
        "close 0",
        "end 0",
    ]
    again = outs(owner.frames("5m"))[-1]
    assert (again.symbol, again.quality, again.revision) == ("BB", 100.0, 1)
    assert (again.slice_ns, again.is_late) == (day.ns(12), True)


def test_the_clock_of_a_shard_without_symbols_goes_on() -> None:
    day = Day(12, ())
    frames = [event("start", day, day.open_ns), event("open", day, day.open_ns)]
    frames += [event("rows", day, day.ns(minute)) for minute in (3, 12)]
    frames += [event("close", day, day.ns(12))]
    owner = drained(fed(list(enumerate(frames))))
    assert [f.clock_ns for f in owner.frames("5m")][2:] == [day.ns(12)] * 2


def test_a_session_that_ends_within_a_minute_ends_with_its_close_frame() -> None:
    day = plain()
    close_ns = day.ns(12) + 30_000_000_000
    frames = [(o, replace(f, close_ns=close_ns)) for o, f in tape([day])]
    frames[3] = (frames[3][0], replace(frames[3][1], clock_ns=close_ns))
    owner = drained(fed(frames))
    found = outs(owner.frames("5m"))
    assert [o.ts_ns + o.interval_ns for o in found][-2:] == [close_ns] * 2
    assert story(owner.frames("5m"))[2:] == ["rows 6", "close 0", "end 0"]
    rows = owner.frames("5m")[2]
    assert (rows.clock_ns, rows.symbols) == (close_ns, ("AA", "BB"))


def test_a_symbol_comes_and_another_goes_in_mid_session() -> None:
    """The one that comes is loaded from the open on; the one that goes comes back later."""
    fresh = full(12, 3)
    before = Day(
        12, ("AA", "CC"), fresh={(m, s): fresh[m, s * 2] for m in range(12) for s in (0, 1)}
    )
    after = Day(12, ("AA", "BB"), fresh={c: v for c, v in fresh.items() if c[1] < 2})
    whole = Day(12, fresh=fresh)
    one, three = (tape([day], [range(100)]) for day in (before, whole))

    def part(frames: list[tuple[int, Frame]], start: int, stop: int) -> Iterator[Frame]:
        low, high = whole.ns(start), whole.ns(stop)
        for _, frame in frames:
            if frame.event == "rows" and low < int(frame.slice_ns[0]) <= high:
                yield frame

    rows = list(part(one, 0, 6))
    backfill = {(m, 1): fresh[m, 1] for m in range(6)}
    late = tape([replace(after, late={6: backfill})], [range(100)])
    rows += [*part(late, 6, 9), *part(three, 9, 12)]
    frames = [one[0][1], one[1][1], *rows, one[-2][1], one[-1][1]]
    owner = drained(fed(list(enumerate(frames))))
    found = outs(owner.frames("5m"))
    assert [(o.symbol, (o.ts_ns - whole.open_ns) // MINUTE_NS, o.is_late) for o in found] == [
        *(("AA", 0, False), ("CC", 0, False)),
        ("BB", 0, True),  # not out before: no earlier values
        *(("AA", 5, False), ("BB", 5, False), ("CC", 5, False)),
        *(("AA", 10, False), ("BB", 10, False), ("CC", 10, False)),
    ]
    assert [o.bars for o in found] == [5, 5, 5, 5, 5, 2, 2, 2, 2]
    assert found[2].values == Model(whole, 5).values_of(fresh, 0, 1)
    assert {(o.revision, o.before) for o in found} == {(0, None)}
    names = [f.symbols for f in owner.frames("5m") if f.event == "rows"]
    assert names == [("AA", "CC"), ("AA", "BB"), ("AA", "BB", "CC")]


def test_bars_at_no_expected_minute_and_of_other_lengths_are_left_out() -> None:
    """In the break, within a minute, outside the session; quotes are none of its affair."""
    day = plain(
        fresh={c: v for c, v in full(12, 2).items() if c[0] not in (5, 6)}, pause=range(5, 7)
    )
    rest = [
        *((4, 5 * MINUTE_NS, MINUTE_NS), (7, 6 * MINUTE_NS, MINUTE_NS)),
        *(
            (4, 30_000_000_000, MINUTE_NS),
            (3, -MINUTE_NS, MINUTE_NS),
            (3, 12 * MINUTE_NS, MINUTE_NS),
        ),
        (8, 3 * MINUTE_NS, 5 * MINUTE_NS),
    ]
    owner = drained(fed(tape([replace(day, strays=tuple(rest))])))
    assert outs(owner.frames("5m")) == known([day], "5m")
    holed = replace(day, fresh={c: v for c, v in day.fresh.items() if c != (1, 0)})
    owner = Owner(["5m"])
    owner.play(tape([replace(holed, strays=tuple(rest))], [range(100)]), [2])
    assert outs(owner.frames("5m")) == known([holed], "5m")
    late = {9: {(5, 0): values(1), (2, 1): values(2)}, 11: {(6, 0): values(3)}}
    owner = drained(fed(tape([replace(day, late=late)])))
    wanted = known([replace(day, late={9: {(2, 1): values(2)}})], "5m")
    assert outs(owner.frames("5m")) == wanted


def test_a_bar_inside_a_break_does_not_exist() -> None:
    fresh = {c: v for c, v in full(20, 2).items() if c[0] not in range(3, 16)}
    day = Day(20, ("AA", "BB"), fresh=fresh, pause=range(3, 16))
    owner = drained(fed(tape([day], [range(100)])))
    found = outs(owner.frames("5m"))
    assert [((o.ts_ns - day.open_ns) // MINUTE_NS, o.bars, o.quality) for o in found] == [
        *[(0, 3, 100.0)] * 2,
        *[(15, 4, 100.0)] * 2,
    ]


def test_frames_fit_into_messages_and_a_slice_may_be_cut() -> None:
    names = tuple(f"S{n:03d}" for n in range(50))
    fresh = full(10, 50)
    day = Day(
        10, names, fresh=fresh, late={7: {(m, s): values(m, s) for m in (1, 3) for s in range(30)}}
    )
    owner = drained(fed(tape([day])))
    (rows,) = [frame for frame in owner.frames("5m") if frame.event == "rows"]
    session = DerivedSession(tape([day])[1][1], {"5m": 5})
    parts = [*session.fold(tape([day])[2][1]), *session.due(day.ns(10))]
    found = list(pieces([part for _, part in parts], message_bytes=8_192 + 156 * 20))
    assert [len(piece.derived) for piece in found] == [20] * 6 + [10]
    clocks = [piece.clock_ns for piece in found]
    assert clocks == [None, None, day.ns(5), day.ns(8), None, None, day.ns(10)]
    for name in ("symbol", "open", "before_close", "revision"):
        cut = np.concatenate([getattr(piece.derived, name) for piece in found])
        assert np.array_equal(cut, getattr(rows.derived, name), equal_nan=True)
    for name in ("slice_rows", "slice_corrections"):
        per = {int(ns): 0 for ns in rows.slice_ns}
        for piece in found:
            for ns, count in zip(piece.slices["slice_ns"], piece.slices[name], strict=True):
                per[int(ns)] += int(count)
        assert list(per.values()) == getattr(rows, name).tolist()


def test_a_release_that_is_too_large_is_cut_into_frames() -> None:
    names = tuple(f"S{n:04d}" for n in range(2_000))
    price = (1.0, 2.0, 0.5, 1.5, 10.0)
    day = Day(10, names, fresh={(m, s): price for m in range(10) for s in range(2_000)})
    owner = drained(fed(tape([day]), "1m"))
    rows = [frame for frame in owner.frames("1m") if frame.event == "rows"]
    assert len(rows) > 2
    assert all(len(CODEC.encode(frame, "t")) < 900_000 for frame in rows)
    assert outs(rows) == known([day], "1m")
    for frame, later in pairwise(rows):
        whole = frame.slice_ns[frame.slice_ns <= frame.clock_ns]
        assert frame.clock_ns == (whole[-1] if len(whole) else day.open_ns)
        assert frame.clock_ns <= later.clock_ns
        assert frame.positions == later.positions
    assert rows[-1].clock_ns == day.ns(10)


def test_other_rows_may_stand_between_the_bars() -> None:
    """A place counts over all kinds: the bars here are the second half of each slice."""
    day = plain(late={6: {(2, 0): values(9)}})
    frames = tape([day])
    bars = columns(list(lines(day)))
    rows = frames[2][1]
    slices = np.repeat(np.arange(len(rows.slice_ns)), rows.slice_rows)
    is_late = np.array([line.is_late for line in lines(day)])
    # A late quote in front of the late bar, and a fresh one behind it.
    place = np.arange(len(bars)) + (slices >= 6) + ((slices >= 6) & ~is_late)
    more = rows.slice_rows.copy()
    more[6] += 2
    late = rows.slice_corrections.copy()
    late[6] += 1
    mixed = replace(
        rows,
        rows=rows.rows + 2,
        bars=replace(bars, row=place.astype(np.int32)),
        slice_rows=more,
        slice_corrections=late,
    )
    owner = drained(fed([*frames[:2], (frames[2][0], mixed), *frames[3:]]))
    assert outs(owner.frames("5m")) == known([day], "5m")


# Real data.


def played(symbols: tuple[str, ...], start: str, end: str) -> tuple[list[Frame], pl.DataFrame]:
    """Return the frames of the session topic, and the source's bars."""
    source = open_source(f"lean:{REAL}")
    sessions = sessions_between("XNYS", start, end)
    shard = Shard(0, 1, {"bars": "raw.bars"})
    command = command_of(load().but(calendar="XNYS", speed="max"), symbols, sessions)
    shard.command(replace(command, version=1, run="real", upkeep=False))
    frames: list[Frame] = []
    offset, parts = 0, []
    while (release := shard.advance(0)) is not None:
        for frame in release.frames:
            if frame.event == "open":
                shard.opened(len(frames))
            frames.append(frame)
        for request in release.requests:
            asked = source.load("bars", symbols, request.start_ns, request.end_ns, MINUTE_NS)
            blocks = [part for part in asked if isinstance(part, BarBlock)]
            coverage = Coverage(request.symbols, request.start_ns, request.end_ns)
            for record in (*(replace(block, run="real") for block in blocks), coverage):
                shard.take(offset, record, 0)
                offset += 1
            for block in blocks:
                names = {n: getattr(block, n) for n in ("ts_ns", *VALUES)}
                symbol = [block.symbols[number] for number in block.symbol.tolist()]
                parts.append(pl.DataFrame({**names, "symbol": symbol}))
    return frames, pl.concat(parts)


VALUES = ("open", "high", "low", "close", "volume")


@pytest.mark.skipif(not REAL.is_dir(), reason="the LEAN sample folder is not beside the repository")
@pytest.mark.parametrize(
    ("symbols", "start", "end", "minutes"),
    [
        (("AIG", "BAC", "IBM"), "2013-10-07", "2013-10-11", [390] * 5),
        (("GOOG",), "2015-12-23", "2015-12-28", [390, 210, 390]),
    ],
)
def test_real_bars_are_those_of_polars(
    symbols: tuple[str, ...], start: str, end: str, minutes: list[int]
) -> None:
    frames, base = played(symbols, start, end)
    intervals = ("5m", "15m", "1h", "1d")
    owner = Owner(intervals)
    owner.play(list(enumerate(frames)), [1, 0, 0])
    sessions = sessions_between("XNYS", start, end)
    assert [(s.close_ns - s.open_ns) // MINUTE_NS for s in sessions] == minutes
    for interval in intervals:
        size = interval_ns(interval)
        wanted = []
        for session in sessions:
            mine = base.filter(pl.col("ts_ns").is_between(session.open_ns, session.close_ns - 1))
            bar = session.open_ns + (pl.col("ts_ns") - session.open_ns) // size * size
            typical = (pl.col("high") + pl.col("low") + pl.col("close")) / 3
            made = (
                mine.sort("ts_ns")
                .group_by("symbol", bar.alias("bar"))
                .agg(
                    pl.col("open").first(),
                    pl.col("high").max(),
                    pl.col("low").min(),
                    pl.col("close").last(),
                    pl.col("volume").sum(),
                    (typical * pl.col("volume")).sum().alias("turnover"),
                    pl.len().alias("count"),
                )
            )
            end_ns = pl.min_horizontal(pl.col("bar") + size, pl.lit(session.close_ns))
            wanted.append(made.with_columns((end_ns - pl.col("bar")).alias("length")))
        rows = pl.concat(wanted).sort("bar", "symbol").rows(named=True)
        found = outs(owner.frames(interval))
        assert [(o.ts_ns, o.symbol) for o in found] == [(r["bar"], r["symbol"]) for r in rows]
        for out, row in zip(found, rows, strict=True):
            assert out.values == pytest.approx([row[name] for name in VALUES], rel=1e-12)
            assert out.vwap == pytest.approx(row["turnover"] / row["volume"], rel=1e-12)
            assert out.bars == row["count"]
            assert out.interval_ns == row["length"]
            assert out.quality == pytest.approx(100 * row["count"] * MINUTE_NS / row["length"])
            assert (out.slice_ns, out.revision) == (row["bar"] + row["length"], 0)
