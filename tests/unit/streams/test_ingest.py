"""What ingest sends of lines: blocks by shard, coverage behind them, what is no row to rejected."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import BarBlock, Codec, Coverage, TickBlock
from streams.cli import main
from streams.errors import DeliveryError
from streams.ingest import LONGEST_BYTES, Ingest, lines_of
from streams.intervals import MINUTE_NS
from streams.outbox import Answered
from streams.settings import Settings
from streams.sources.columns import SHAPES
from streams.sources.files import Form
from streams.sources.gathered import Gathered, Row
from streams.sources.times import text_ns
from streams.topics import MESSAGE_BYTES, shard_of
from tests.unit.streams.shards import Stage, command, coverage, points

NOON = text_ns("2024-11-29T12:00:00Z")
SHARDS = 2
BARS = "t,S,o,h,l,c,v"


class Kept:
    """An outbox that keeps what is sent, and whose brokers acknowledge all or nothing."""

    def __init__(self, settings: Settings, stop: threading.Event, changes: dict[str, Any]) -> None:
        self.sent: list[tuple[str, bytes, str, dict[str, Any]]] = []
        self.pending: list[Answered] = []
        self.is_silent = False

    def __len__(self) -> int:
        return len(self.pending)

    def begin(self, position: TopicPartition) -> Answered:
        self.pending.append(Answered(position))
        return self.pending[-1]

    def send(self, answered: Answered, topic: str, value: bytes, key: str, **where: Any) -> None:
        assert not answered.complete
        self.sent.append((topic, value, key, where))

    def settle(self, wait_s: float = 0.0) -> list[TopicPartition]:
        assert all(answered.complete for answered in self.pending)
        if not self.is_silent:
            self.pending.clear()
        return []


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Ingest, Kept]]:
    monkeypatch.setattr("streams.ingest.Outbox", Kept)
    monkeypatch.setattr("streams.ingest.check_topics", lambda *_: SHARDS)

    def make(stream: str = "bars", **options: Any) -> tuple[Ingest, Kept]:
        form = Form(SHAPES[stream], {}, "", "", MINUTE_NS, 0.0)
        settings = Settings(namespace="n")
        taking = Ingest(settings, stream, form, "mine", path="stdin", is_json=False, **options)
        kept: Any = taking._outbox
        return taking, kept

    return make


def lines(*texts: str, first: int = 1) -> list[tuple[int, bytes]]:
    return [(number, text.encode()) for number, text in enumerate(texts, first)]


def bar(symbol: str, minute: int, close: float = 10) -> str:
    return f"{NOON + minute * MINUTE_NS},{symbol},10,11,9,{close},100"


def records(kept: Kept) -> list[tuple[int, Any]]:
    """Return the partition and the record of all that is no rejected line."""
    codec = Codec()
    return [
        (where["partition"], codec.decode(value))
        for topic, value, _, where in kept.sent
        if topic != "n.rejected"
    ]


def test_rows_go_to_their_shards_in_blocks_of_what_is_at_hand(made: Any) -> None:
    taking, kept = made()
    names = ("ALPHA", "BETA", "GAMMA", "DELTA")
    taking.take(lines(BARS, *(bar(name, minute) for minute in range(3) for name in names)))
    found = records(kept)
    assert sorted(shard for shard, _ in found) == [0, 1]
    for shard, block in found:
        assert isinstance(block, BarBlock)
        assert (block.source, block.run, block.request) == ("mine", "", "")
        assert {shard_of(symbol, SHARDS) for symbol in block.symbols} == {shard}
        assert len(block) == 3 * len(block.symbols)
    assert {topic for topic, _, _, _ in kept.sent} == {"n.raw.bars"}
    sent = taking.finish()
    assert (sent.rows, sent.blocks, sent.symbols, sent.rejected) == (12, 2, 4, 0)
    assert (sent.first_ns, sent.last_ns, sent.vouched_ns) == (NOON, NOON + 3 * MINUTE_NS, 0)


def test_a_bar_that_comes_twice_stands_in_two_blocks_in_order(made: Any) -> None:
    taking, kept = made()
    taking.take(lines(BARS, bar("A", 0, 10), bar("A", 1), bar("A", 0, 10.5), bar("A", 0, 11)))
    closes = [block.close.tolist() for _, block in records(kept)]
    assert closes == [[10, 10], [10.5], [11]]


def test_ticks_of_one_time_stay_in_one_block(made: Any) -> None:
    taking, kept = made("ticks")
    taking.take(lines("t,S,p,s,c", f"{NOON},A,1,1,@", f"{NOON},A,2,1,I", f"{NOON},A,1,1,@"))
    ((_, block),) = records(kept)
    assert isinstance(block, TickBlock)
    assert block.price.tolist() == [1, 2, 1]
    assert [block.conditions[n] for n in block.condition] == ["@", "I", "@"]


def test_ticks_of_one_time_without_numbers_are_all_on_the_tape(made: Any) -> None:
    stage = Stage(command(streams=("ticks",), symbols=("AA",), end="2024-11-27"))
    at_ns = stage.plan.sessions[0].open_ns
    taking, kept = made("ticks")
    taking.take(lines("t,S,p,s", *(f"{at_ns},AA,{price},1" for price in (1, 2, 1))))
    stage.run()
    stage.send(*(record for _, record in records(kept)))
    stage.send(coverage(stage.plan, 0), stream="ticks")
    stage.run()
    found = [(point.values[0], point.sequence) for point in points(stage.tape)]
    assert found == [(1.0, -1), (2.0, -1), (1.0, -1)]


def test_quotes_of_one_time_without_numbers_are_all_on_the_tape(made: Any) -> None:
    stage = Stage(command(streams=("quotes",), symbols=("AA",), end="2024-11-27"))
    at_ns = stage.plan.sessions[0].open_ns
    taking, kept = made("quotes")
    quotes = [f"{at_ns},AA,{bid},1,3,1" for bid in (1, 2)]
    taking.take(lines("timestamp,symbol,bid,bid_size,ask,ask_size", *quotes))
    stage.run()
    stage.send(*(record for _, record in records(kept)))
    stage.send(coverage(stage.plan, 0), stream="quotes")
    stage.run()
    assert [(point.values[0], point.sequence) for point in points(stage.tape)] == [(1, -1), (2, -1)]


def test_what_has_a_number_keeps_it() -> None:
    rows = [Row("A", NOON, (1.0,), (1.0,), number) for number in (7, 0, 8)]
    block = Gathered("ticks", rows=rows).block()
    assert isinstance(block, TickBlock)
    assert block.sequence.tolist() == [7, -1, 8]


def test_an_interrupt_leaves_nothing_to_wait_for_but_what_was_handed_over(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taking, kept = made()
    send = kept.send

    def interrupted(*given: Any, **where: Any) -> None:
        if kept.sent:
            raise KeyboardInterrupt
        send(*given, **where)

    monkeypatch.setattr(kept, "send", interrupted)
    rows = (bar(name, 0) for name in ("ALPHA", "BETA", "GAMMA", "DELTA"))
    with pytest.raises(KeyboardInterrupt):
        taking.take(lines(BARS, *rows))
    assert len(kept) == 1
    taking.finish()
    assert len(kept) == 0


def test_ctrl_c_in_the_midst_of_lines_ends_as_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Kept):
        def send(self, *_: Any, **where: Any) -> None:
            del where
            raise KeyboardInterrupt

    monkeypatch.setattr("streams.ingest.Outbox", Interrupted)
    monkeypatch.setattr("streams.ingest.check_topics", lambda *_: SHARDS)
    monkeypatch.setattr("streams.local.running.connected", lambda settings: settings)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    path = tmp_path / "rows.csv"
    path.write_text(f"{BARS}\n{bar('A', 0)}\n")
    with pytest.raises(SystemExit) as ended:
        main(["ingest", str(path), "--stream", "bars", "--namespace", "n"])
    assert ended.value.code == 130
    assert "interrupted" in capsys.readouterr().err


def test_what_is_no_row_is_rejected_with_reason_and_line_and_told(made: Any) -> None:
    told: list[Any] = []
    taking, kept = made(tell=told.append)
    taking.take(lines(BARS, bar("A", 0)))
    taking.take(lines("nonsense", bar("A", 1), "x" * (MESSAGE_BYTES + 5), first=3))
    bad = [one for one in kept.sent if one[0] == "n.rejected"]
    assert [value[:8] for _, value, _, _ in bad] == [b"nonsense", b"xxxxxxxx"]
    assert len(bad[1][1]) == MESSAGE_BYTES
    _, _, key, where = bad[0]
    assert key == "n.raw.bars"
    assert dict(where["headers"]) == {
        "reason": b"it has 1 fields, not 7", "path": b"stdin", "line": b"3", "symbol": b"",
    }  # fmt: skip
    assert [row.line for row in told] == [3, 5]
    assert (taking.sent.rows, taking.sent.rejected) == (2, 2)


def test_a_mark_vouches_behind_its_rows_and_the_end_for_the_rest(made: Any) -> None:
    taking, kept = made()
    one = next(name for name in "ABCDEFGH" if shard_of(name, SHARDS) == 0)
    other = next(name for name in "ABCDEFGH" if shard_of(name, SHARDS) == 1)
    taking.take(lines(BARS, bar(one, 0), "# heard 2024-11-29T12:05:00Z", bar(other, 6)))
    sent = taking.finish(heartbeat=True)
    kinds = [type(record) for _, record in records(kept)]
    assert kinds == [BarBlock, Coverage, BarBlock, Coverage, Coverage]
    covered = [
        (shard, record.symbols, (record.start_ns - NOON) // MINUTE_NS,
         (record.end_ns - NOON) // MINUTE_NS, record.answer, record.source)
        for shard, record in records(kept)
        if isinstance(record, Coverage)
    ]  # fmt: skip
    assert covered == [
        (0, (one,), 0, 5, "rows", "mine"),
        (0, (one,), 5, 7, "rows", "mine"),
        (1, (other,), 6, 7, "rows", "mine"),
    ]
    assert sent.vouched_ns == NOON + 7 * MINUTE_NS


def test_a_mark_that_goes_back_says_nothing(made: Any) -> None:
    taking, kept = made()
    mark = "# heard 2024-11-29T12:05:00Z"
    taking.take(lines(BARS, "# heard 2024-11-29T11:00:00Z", bar("A", 0), mark, mark, bar("A", 1)))
    assert sum(isinstance(record, Coverage) for _, record in records(kept)) == 1
    assert taking.sent.vouched_ns == NOON + 5 * MINUTE_NS


def test_the_last_tick_lies_inside_of_what_is_vouched_for(made: Any) -> None:
    taking, kept = made("ticks")
    taking.take(lines("t,S,p,s", f"{NOON},A,1,1"))
    taking.finish(heartbeat=True)
    coverage = records(kept)[-1][1]
    assert (coverage.start_ns, coverage.end_ns) == (NOON, NOON + 1)
    assert taking.sent.vouched_ns == NOON


@pytest.mark.parametrize(("stream", "more"), [("bars", 0), ("ticks", 1)])
def test_what_is_heard_of_is_vouched_for_to_its_very_time(
    made: Any, stream: str, more: int
) -> None:
    taking, kept = made(stream)
    row = bar("A", 0) if stream == "bars" else f"{NOON},A,1,1"
    head = BARS if stream == "bars" else "t,S,p,s"
    taking.take(lines(head, row, "# heard 2024-11-29T12:05:00Z", "# heard 2024-11-29T12:06:00Z"))
    covered = [record for _, record in records(kept) if isinstance(record, Coverage)]
    assert [(one.start_ns - NOON, one.end_ns - NOON) for one in covered] == [
        (0, 5 * MINUTE_NS + more),
        (5 * MINUTE_NS + more, 6 * MINUTE_NS + more),
    ]


def test_without_rows_nothing_is_vouched_for(made: Any) -> None:
    taking, kept = made()
    sent = taking.finish(heartbeat=True)
    assert kept.sent == []
    assert (sent.rows, sent.vouched_ns) == (0, 0)


def test_what_is_not_acknowledged_is_an_error(made: Any) -> None:
    taking, kept = made()
    kept.is_silent = True
    taking.take(lines(BARS, bar("A", 0)))
    with pytest.raises(DeliveryError, match="1 of 1 messages were not acknowledged: the brokers"):
        taking.finish()


def chunks(parts: list[bytes]) -> Callable[[int], bytes]:
    left: Iterator[bytes] = iter([*(part for part in parts if part), b""])
    return lambda size: next(left)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20)))
def test_lines_are_the_same_however_they_are_cut(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    found = [line for batch in lines_of(chunks(parts)) for line in batch]
    texts = whole.split(b"\n")
    texts = texts if texts[-1] else texts[:-1]
    assert found == [(n, text.rstrip(b"\r")) for n, text in enumerate(texts, 1)]


def test_what_is_at_hand_is_given_at_once() -> None:
    parts = [b"a\nb", b"b\nc\n", b"d"]
    assert list(lines_of(chunks(parts))) == [[(1, b"a")], [(2, b"bb"), (3, b"c")], [(4, b"d")]]


def test_a_line_without_an_end_is_cut() -> None:
    piece = b"x" * (LONGEST_BYTES // 2 + 1)
    found = [len(line) for batch in lines_of(chunks([piece] * 5)) for _, line in batch]
    assert found == [2 * len(piece), 2 * len(piece), len(piece)]
