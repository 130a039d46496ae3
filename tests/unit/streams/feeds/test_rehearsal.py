"""A rehearsed feed: the same faults at any speed, and nothing that can't be had again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import BarBlock, QuoteBlock
from streams.calendar import sessions_between
from streams.feeds import Event, Heard, Lost, Regained, open_feed
from streams.feeds.playback import Playback
from streams.feeds.protocol import EARLIER_NS
from streams.feeds.rehearsal import rehearsed
from streams.feeds.script import ready_ns
from streams.intervals import MINUTE_NS, SECOND_NS
from streams.sources import load_range, open_source
from streams.sources.rehearsal import parse
from streams.sources.rows import quote_block
from tests.unit.streams.feeds.playing import Given, List, StepClock, given_by, play
from tests.unit.streams.feeds.test_playback import DAYS, MARKET, SYMBOLS, URI, clean

NINE_THIRTY_NS = DAYS[0].open_ns
ALL = "drop=0.05,duplicate=0.05,disorder=0.1,delay=0.1@3s,late=0.05@90s,revise=0.1@100s"


def feed(options: str) -> Playback:
    found = open_feed(f"rehearsal:{options}:{URI}")
    assert isinstance(found, Playback)
    return found


def steady() -> StepClock:
    return StepClock(DAYS, DAYS[0].open_ns)


def events_of(options: str, clock: StepClock | None = None) -> list[tuple[int, Event]]:
    return play(feed(options), SYMBOLS, clock or steady())


def rows_of(events: Sequence[tuple[int, Event]]) -> list[Given]:
    return [row for _, e in events if isinstance(e, BarBlock) for row in given_by(e)]


Key = tuple[str, int]


def by_key(rows: Sequence[Given]) -> dict[Key, Given]:
    return {(row.symbol, row.ts_ns): row for row in rows}


CLEAN = by_key(clean())
HOURS = sessions_between("XNYS", "2024-11-29", "2024-12-02", "09:30-10:30")
CLEAN_HOURS = by_key(clean(HOURS))


def final_state(events: Sequence[tuple[int, Event]], wanted: dict[Key, Given]) -> dict[Key, Given]:
    """What is known in the end: the highest revision, then the later.

    The time away and the minutes before it are asked for.
    """
    state: dict[Key, Given] = {}

    def take(row: Given) -> None:
        old = state.get((row.symbol, row.ts_ns))
        if old is None or row.revision >= old.revision:
            state[row.symbol, row.ts_ns] = row

    for _, event in events:
        if isinstance(event, BarBlock):
            for row in given_by(event):
                take(row)
        elif isinstance(event, Regained) and event.since_ns:
            for row in wanted.values():
                if event.since_ns - EARLIER_NS < row.ts_ns + MINUTE_NS <= event.at_ns:
                    take(row)
    for key, row in wanted.items():  # what is missing is a gap, and asked for
        state.setdefault(key, row)
    return state


shares = st.sampled_from([0.0, 0.02, 0.3, 1.0])
times = st.sampled_from(["90s", "3s", "5m", "700ms", "600m"])


@st.composite
def specs(draw: st.DrawFn) -> str:
    parts = [f"seed={draw(st.integers(0, 1000))}"]
    parts += [f"{key}={draw(shares)}" for key in ("drop", "duplicate", "disorder")]
    parts += [f"{key}={draw(shares)}@{draw(times)}" for key in ("delay", "late", "revise")]
    parts.append(f"disconnect={draw(st.sampled_from([0, 2, 6]))}@{draw(times)}")
    dead = ["SYN0002@09:40-10:05", "*@10:12-10:20", "SYN0001@23:00-09:40"]
    parts.append("dead=" + "+".join(dead[: draw(st.integers(0, 3))]))
    return ",".join(draw(st.permutations(parts)))


def jumpy(seed: int, most_ns: int) -> StepClock:
    dice = random.Random(seed)
    return StepClock(HOURS, HOURS[0].open_ns, lambda: dice.randint(0, most_ns))


@settings(max_examples=40, deadline=None)
@given(specs(), st.integers(0, 2**32), st.sampled_from([0, SECOND_NS, 30 * MINUTE_NS]))
# What is set right while there is no connection, or at the close.
@example("seed=3,revise=1@90s,disconnect=4@90s", 1, 0)
@example("seed=3,revise=1@90s,delay=0.5@5m,late=1@5m,duplicate=1", 1, SECOND_NS)
def test_what_is_known_in_the_end_is_the_clean_session(spec: str, seed: int, most: int) -> None:
    events = events_of(spec, jumpy(seed, most))
    state = final_state(events, CLEAN_HOURS)
    assert {key: row.values for key, row in state.items()} == {
        key: row.values for key, row in CLEAN_HOURS.items()
    }


@settings(max_examples=15, deadline=None)
@given(specs(), st.integers(0, 2**32), st.sampled_from([SECOND_NS, 30 * MINUTE_NS]))
def test_the_same_seed_gives_the_same_at_any_speed(spec: str, seed: int, most: int) -> None:
    def what(clock: StepClock) -> list[Any]:
        found: list[Any] = []
        for _, event in events_of(spec, clock):
            if isinstance(event, BarBlock):
                found += given_by(event)
            elif not isinstance(event, Heard):
                found.append(event)
        return found

    assert what(jumpy(0, 0)) == what(jumpy(seed, most))


@settings(max_examples=15, deadline=None)
@given(specs(), st.integers(0, 2**32), st.sampled_from([0, 3 * MINUTE_NS]))
def test_no_row_comes_before_it_is_ready(spec: str, seed: int, most: int) -> None:
    for now_ns, event in events_of(spec, jumpy(seed, most)):
        if isinstance(event, BarBlock):
            assert int(ready_ns(event).max()) <= now_ns
        elif isinstance(event, Heard):
            assert event.until_ns <= now_ns


def test_without_faults_it_is_the_clean_session() -> None:
    plain = play(open_feed(f"playback:{URI}"), SYMBOLS, steady())
    events = events_of("seed=7")
    assert rows_of(events) == rows_of(plain)
    assert [e for _, e in events if isinstance(e, Heard | Regained)] == [
        e for _, e in plain if isinstance(e, Heard | Regained)
    ]


def test_another_seed_gives_other_faults() -> None:
    assert rows_of(events_of(f"seed=1,{ALL}")) == rows_of(events_of(f"seed=1,{ALL}"))
    assert rows_of(events_of(f"seed=1,{ALL}")) != rows_of(events_of(f"seed=2,{ALL}"))


def share_of(found: int) -> float:
    return found / len(CLEAN)


def test_dropped_rows_never_come() -> None:
    found = rows_of(events_of("drop=0.1"))
    assert 0.05 < 1 - share_of(len(found)) < 0.15
    assert set(found) < set(CLEAN.values())


def test_duplicates_come_twice() -> None:
    counts = Counter(rows_of(events_of("duplicate=0.1")))
    assert set(counts) == set(CLEAN.values())
    assert 0.05 < share_of(sum(n == 2 for n in counts.values())) < 0.15
    assert max(counts.values()) == 2


def came_at(events: Sequence[tuple[int, Event]]) -> dict[Key, list[int]]:
    found: dict[Key, list[int]] = {}
    for now_ns, event in events:
        if isinstance(event, BarBlock):
            for row in given_by(event):
                found.setdefault((row.symbol, row.ts_ns), []).append(now_ns)
    return found


@pytest.mark.parametrize("fault", ["delay", "late"])
def test_rows_come_later_by_that_much_and_by_the_close_at_last(fault: str) -> None:
    found = came_at(events_of(f"{fault}=0.1@90s"))
    assert set(found) == set(CLEAN)
    later = 0
    for (symbol, ts_ns), (at_ns,) in found.items():
        close_ns = next(day.close_ns for day in DAYS if ts_ns < day.close_ns)
        ready = ts_ns + MINUTE_NS
        assert at_ns in (ready, min(ready + 90 * SECOND_NS, close_ns)), symbol
        later += at_ns != ready
    assert 0.05 < share_of(later) < 0.15


def breaches(events: Sequence[tuple[int, Event]]) -> int:
    """Return how many rows came after the feed had vouched that none would."""
    vouched, found = dict.fromkeys(SYMBOLS, 0), 0
    for _, event in events:
        if isinstance(event, BarBlock):
            rows = given_by(event)
            found += sum(row.ts_ns + MINUTE_NS <= vouched[row.symbol] for row in rows)
        elif isinstance(event, Heard):
            vouched |= dict.fromkeys(event.symbols, event.until_ns)
    return found


def test_of_delayed_rows_it_vouches_for_nothing_and_of_late_ones_it_does() -> None:
    assert breaches(events_of("seed=1")) == 0
    assert breaches(events_of("delay=0.1@90s,disorder=0.2")) == 0
    assert breaches(events_of("late=0.1@90s")) > 50


def test_revised_rows_are_wrong_at_first_and_right_in_the_end() -> None:
    events = events_of("revise=0.1@20s")
    found: dict[Key, list[tuple[int, Given]]] = {}
    for now_ns, event in events:
        if isinstance(event, BarBlock):
            for row in given_by(event):
                found.setdefault((row.symbol, row.ts_ns), []).append((now_ns, row))
    revised = 0
    for key, came in found.items():
        assert [row.revision for _, row in came] == list(range(len(came)))
        assert came[-1][1].values == CLEAN[key].values
        if len(came) == 2:
            (first_ns, first), (final_ns, _) = came
            assert first.values != CLEAN[key].values
            assert 0 <= final_ns - first_ns <= 20 * SECOND_NS
            revised += 1
    assert 0.05 < share_of(revised) < 0.15


def test_disordered_rows_come_behind_the_next_one() -> None:
    clean_rows, found = list(rows_of(events_of("seed=1"))), rows_of(events_of("disorder=0.2"))
    assert sorted(found) == sorted(clean_rows)
    moved = sum(a != b for a, b in zip(found, clean_rows, strict=True))
    assert 0.1 < share_of(moved) < 0.5
    # Rows of one minute only: the next minute is more than a second away.
    assert [row.ts_ns for row in found] == [row.ts_ns for row in clean_rows]


def test_without_a_connection_nothing_is_heard_and_then_the_time_is_told() -> None:
    events = events_of("seed=4,disconnect=3@2m")
    lost = [(ns, e) for ns, e in events if isinstance(e, Lost)]
    back = [(ns, e) for ns, e in events[1:] if isinstance(e, Regained)]
    assert 4 <= len(lost) <= 6
    assert [e.at_ns for _, e in lost] == [e.since_ns for _, e in back]
    windows = [(e.since_ns, e.at_ns) for _, e in back]
    assert all(end - start == 2 * MINUTE_NS for start, end in windows)
    assert [ns for ns, _ in back] == [end for _, end in windows]
    came = came_at(events)
    missed = set(CLEAN) - set(came)
    assert missed == {
        (symbol, ts)
        for symbol, ts in CLEAN
        if any(start < ts + MINUTE_NS < end for start, end in windows)
    }
    for start, end in windows:
        assert not any(start < ns < end for times in came.values() for ns in times)
        assert not any(start < ns < end for ns, e in events if isinstance(e, Heard))


def wrong_in_the_end(options: str) -> set[Key]:
    """Return the bars of the first session that nothing set right."""
    known = by_key(rows_of(events_of(options, StepClock(DAYS[:1], NINE_THIRTY_NS))))
    return {key for key, row in known.items() if row.values != CLEAN[key].values}


def test_what_sets_a_bar_right_while_the_connection_is_lost_never_comes() -> None:
    windows = parse("seed=4,disconnect=3@2m").away(DAYS[0])
    wrong = wrong_in_the_end("seed=4,disconnect=3@2m,revise=1@90s")
    assert wrong
    assert wrong == {
        key
        for key in CLEAN
        if any(
            key[1] + MINUTE_NS <= start < key[1] + MINUTE_NS + 90 * SECOND_NS < end
            for start, end in windows
        )
    }


@pytest.mark.parametrize("source", ["error=0.1", "drop=0.5"])
def test_what_the_source_may_not_give_at_first_is_set_right_in_the_end(source: str) -> None:
    options = f"seed=4,disconnect=3@2m,revise=1@90s,{source}"
    wrong = wrong_in_the_end(options)
    if "error" in source:
        assert wrong == set()
        return
    at_first = open_source(f"rehearsal:{options}:{URI}")
    blocks = load_range(at_first, SYMBOLS, DAYS[0].open_ns, DAYS[0].close_ns)[0]
    assert 0 < len(wrong) < len(wrong_in_the_end(options.removesuffix(f",{source}")))
    assert wrong <= {(row.symbol, row.ts_ns) for block in blocks for row in given_by(block)}


def test_who_comes_after_a_loss_hears_of_the_others_only() -> None:
    windows = parse("seed=4,disconnect=3@2m").away(DAYS[0])
    events = events_of("seed=4,disconnect=3@2m", StepClock(DAYS[:1], windows[0].end_ns + 1))
    back = [(e.since_ns, e.at_ns) for _, e in events[1:] if isinstance(e, Regained)]
    assert back == list(windows[1:])


def test_who_comes_while_the_connection_is_lost_is_told_when_it_is_back() -> None:
    start, end = parse("seed=4,disconnect=3@2m").away(DAYS[0])[0]
    at_ns = (start + end) // 2
    events = events_of("seed=4,disconnect=3@2m", StepClock(DAYS, at_ns))
    assert [e for _, e in events[:3]] == [
        Regained(0, at_ns),
        Lost("the rehearsal cuts the connection", at_ns - 1, 0.0),
        Regained(at_ns - 1, end),
    ]


def test_of_the_dead_nothing_is_heard() -> None:
    ten_ns = NINE_THIRTY_NS + 30 * MINUTE_NS
    events = events_of("dead=SYN0002@10:00-10:20")
    missed = set(CLEAN) - set(came_at(events))
    assert missed == {
        (symbol, ts)
        for symbol, ts in CLEAN
        for day in DAYS
        if symbol == "SYN0002" and 30 <= (ts - day.open_ns) // MINUTE_NS < 50
    }
    for _, event in events:
        if isinstance(event, Heard):
            is_dead = any(
                0 < event.until_ns - day.open_ns - 30 * MINUTE_NS < 20 * MINUTE_NS for day in DAYS
            )
            assert ("SYN0002" in event.symbols) is not is_dead
            assert set(event.symbols) >= set(SYMBOLS) - {"SYN0002"}
    silent = [ns for ns, e in events_of("dead=*@10:00-10:20") if isinstance(e, Heard)]
    assert not any(ten_ns < ns < ten_ns + 20 * MINUTE_NS for ns in silent)


def test_quotes_have_faults_of_their_own_and_are_never_revised() -> None:
    count = 200
    ts = DAYS[0].open_ns + np.sort(np.arange(count) * 37 % 101) * SECOND_NS // 10
    price = np.arange(1.0, count + 1)
    block = quote_block(
        ("AA",),
        np.zeros(count, np.int32),
        ts,
        prices=[price] * 2,
        sizes=[price] * 2,
        sequence=np.arange(count),
    )
    made = partial(rehearsed, parse("disorder=0.3,revise=1@1s,delay=0.1@50ms,drop=0.1"))
    clock = StepClock(DAYS[:1], DAYS[0].open_ns)
    events = play(Playback(List({"quotes": [block]}), made), ("AA",), clock, ("quotes",))
    rows = [row for _, e in events if isinstance(e, QuoteBlock) for row in given_by(e)]
    assert len(rows) == len(set(rows))
    assert set(rows) < set(given_by(block))
    assert 0.8 * count < len(rows) < count
    assert sum(b.ts_ns < a.ts_ns for a, b in pairwise(rows)) > 10
    vouched = 0
    for _, event in events:
        if isinstance(event, QuoteBlock):
            assert int(event.ts_ns.min()) > vouched
        elif isinstance(event, Heard):
            vouched = event.until_ns


def test_a_feed_that_drops_all_still_says_how_far_it_is() -> None:
    events = events_of("drop=1,disorder=1")
    assert not rows_of(events)
    assert max(e.until_ns for _, e in events if isinstance(e, Heard)) == DAYS[-1].close_ns


def test_a_row_that_follows_no_other_keeps_its_place() -> None:
    one = Playback(MARKET, partial(rehearsed, parse("disorder=1")))
    plain = play(Playback(MARKET), SYMBOLS[:1], steady())
    assert rows_of(play(one, SYMBOLS[:1], steady())) == rows_of(plain)


def test_a_session_shorter_than_the_time_away_keeps_its_connection() -> None:
    short = sessions_between("XNYS", "2024-11-29", "2024-11-29", "09:30-09:32")[0]
    assert parse("disconnect=3@2m").away(short) == ()
