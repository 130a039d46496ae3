from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from sinks.clickhouse import ClickHouseSink
from sinks.derived import DerivedSink
from sinks.history import open_history
from sinks.owner import FolderOwner
from sinks.store import Store
from streams.errors import HoleError
from streams.intervals import MINUTE_NS
from streams.positions import Delivered
from streams.settings import Settings
from tests.unit.sinks.derived import Longer, as_known, put
from tests.unit.sinks.frames import DAY_NS, FIRST_OPEN_NS, Tape, label

TOPIC = "unit-1.bars.5m"
FIVE_NS = 5 * MINUTE_NS
FINAL = """
SELECT symbol, interval_ns, length_ns, ts_ns, open, high, low, close, volume, vwap, count, quality,
    revision, session
FROM derived FINAL ORDER BY ALL
"""
AS_KNOWN = """
SELECT run, shard, row_number, known_ns, symbol, length_ns, ts_ns, open, high, low, close, volume,
    vwap, count, quality, revision, before_open, before_high, before_low, before_close,
    before_volume, session
FROM derived_as_known FINAL WHERE interval_ns = 300000000000 ORDER BY run, shard, row_number
"""


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with FolderOwner(settings):
        opened = Store.open(settings)
        yield opened
        opened.close()


def written(
    store: Store, frames: Sequence[Delivered], committed: int | None = None, topic: str = TOPIC
) -> DerivedSink:
    sink = DerivedSink(store, topic, FIVE_NS)
    sink.resume({0: committed}, {0: 0})
    sink.write(frames)
    sink.flush()
    return sink


def texts(rows: Sequence[Sequence[object]]) -> list[list[str]]:
    """Return rows as texts: NaN is no equal of itself."""
    return [[str(value) for value in row] for row in rows]


def played() -> Tape:
    """Two sessions of 5m bars; the last bar of each is cut, and one is revised."""
    tape = Tape()
    tape.start()
    for day in range(2):
        put(tape, day, [Longer(s, day, 0, 10 + day) for s in ("AAA", "BBB")])
        put(tape, day, [Longer("CCC", day, 5, 20, length=3, volume=0.0, count=2, quality=50.0)])
    revised = Longer("BBB", 1, 0, 33, count=4, quality=80.0, revision=1, before=11.0)
    put(tape, 1, [revised], known=FIRST_OPEN_NS + DAY_NS + 8 * MINUTE_NS)
    return tape


def test_every_column_arrives_in_both_tables(store: Store) -> None:
    tape = played()
    sink = DerivedSink(store, TOPIC, FIVE_NS)
    assert sink.resume({0: None}, {0: 7}) == {0: 7}
    sink.write(tape.frames)
    assert sink.flush() == {0: tape.offset}
    assert sink.flush() == {}
    assert texts(store.rows(AS_KNOWN)) == texts(as_known(tape.frames))
    last = {(row[4], row[6]): row for row in as_known(tape.frames)}
    wanted = sorted((str(r[4]), FIVE_NS, *r[5:16], r[21]) for r in last.values())
    assert len(wanted) == 6
    assert texts(store.rows(FINAL)) == texts(wanted)


def test_a_batch_written_again_after_a_crash_changes_nothing(store: Store) -> None:
    tape = played()
    written(store, tape.frames)
    before = texts(store.rows(FINAL)), texts(store.rows(AS_KNOWN))
    again = DerivedSink(store, TOPIC, FIVE_NS)
    assert again.resume({0: 1}, {0: 0}) == {0: 1}
    again.write(tape.frames[1:])
    again.flush()
    assert (texts(store.rows(FINAL)), texts(store.rows(AS_KNOWN))) == before


def test_each_topic_has_its_own_position(store: Store) -> None:
    tape = played()
    written(store, tape.frames[:3])
    assert DerivedSink(store, TOPIC, FIVE_NS).resume({0: 400}, {0: 0}) == {0: 3}
    other = DerivedSink(store, "unit-1.bars.15m", 3 * FIVE_NS)
    assert other.resume({0: None}, {0: 2}) == {0: 2}
    # The session topic has not been read at all: its position is not there.
    assert ClickHouseSink(store).resume({0: None}, {0: 0}) == {0: 0}
    assert store.rows("SELECT count() FROM frames")[0][0] == 0


def test_a_topic_made_anew_wins_and_a_hole_is_seen(store: Store) -> None:
    tape = played()
    written(store, tape.frames[:2])
    sink = DerivedSink(store, TOPIC, FIVE_NS)
    sink.resume({0: None}, {0: 0})
    with pytest.raises(HoleError) as caught:
        sink.write(tape.frames[4:])
    assert (caught.value.expected, caught.value.got) == (2, 4)
    anew = Tape(run="run-2")
    put(anew, 0, [Longer("AAA", 0, 0, 77)])
    written(store, anew.frames)
    found = store.rows("SELECT open FROM derived FINAL WHERE symbol = 'AAA'")
    assert [row[0] for row in found] == [77.0]
    # The generation goes on from where the topic stands, also in the next process.
    assert DerivedSink(store, TOPIC, FIVE_NS).resume({0: 1}, {0: 0}) == {0: 1}
    put(anew, 0, [Longer("AAA", 0, 0, 88)])
    written(store, anew.frames[1:], committed=1)
    found = store.rows("SELECT open FROM derived FINAL WHERE symbol = 'AAA'")
    assert [row[0] for row in found] == [88.0]


def test_a_correction_of_an_earlier_session_belongs_to_that_session(store: Store) -> None:
    session, tape = Tape(), Tape()
    session.session(0)
    main = ClickHouseSink(store)
    main.resume({0: None}, {0: 0})
    main.write(session.frames)
    main.flush()
    put(tape, 1, [Longer("AAA", 0, 0, 10, revision=1)], known=FIRST_OPEN_NS + DAY_NS)
    written(store, tape.frames)
    assert store.rows("SELECT session FROM derived")[0][0] == label(0)


class TestHistory:
    @pytest.fixture(autouse=True)
    def stored(self, settings: Settings) -> None:
        with FolderOwner(settings):
            store = Store.open(settings)
            tape = Tape()
            for day in range(2):
                tape.session(day)
            sink = ClickHouseSink(store)
            sink.resume({0: None}, {0: 0})
            sink.write(tape.frames)
            sink.flush()
            written(store, played().frames)
            store.close()

    def test_bars_of_a_derived_interval(self, settings: Settings) -> None:
        history = open_history(settings)
        found = history.bars(None, "5m", sessions=1).to_pylist()
        assert [(row["symbol"], row["interval"], row["open"], row["session"]) for row in found] == [
            ("AAA", "5m", 11.0, label(1)),
            ("BBB", "5m", 33.0, label(1)),
            ("CCC", "5m", 20.0, label(1)),
        ]
        values = [(row["vwap"], row["count"], row["quality"], row["revision"]) for row in found]
        assert values == [(11.125, 5, 100.0, 0), (33.125, 4, 80.0, 1), (None, 2, 50.0, 0)]
        assert history.bars("AAA", "1m", sessions=1)["vwap"].null_count == 10
        assert len(history.bars(None, "15m")) == 0

    def test_nothing_that_was_not_over_by_then(self, settings: Settings) -> None:
        history = open_history(settings)
        # The cut bar of the session is over at its close, not five minutes after its start.
        cut = FIRST_OPEN_NS + DAY_NS + 8 * MINUTE_NS
        assert len(history.bars("CCC", "5m", before_ns=cut)) == 2
        assert len(history.bars("CCC", "5m", before_ns=cut - 1)) == 1

    def test_bars_that_a_source_sent_come_before_derived_ones(self, settings: Settings) -> None:
        with FolderOwner(settings):
            store = Store.open(settings)
            store.run(
                "INSERT INTO bars SELECT symbol, interval_ns, ts_ns, 1.5, high, low, close, volume,"
                " 0, 'made', session, 1 FROM derived WHERE symbol = 'AAA'"
            )
            store.close()
        found = open_history(settings).bars(["AAA", "CCC"], "5m", sessions=1).to_pylist()
        assert [(row["open"], row["count"]) for row in found] == [(1.5, None), (20.0, 2)]
