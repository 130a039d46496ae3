"""Rows of a pipe onto the raw topics, as they come.

Delivery: each row that was read is sent, in blocks of what is at hand; at the end all of them are
acknowledged, or it is an error. Rows are for whatever run there is: they carry none. What is no row
goes to ``rejected`` with its reason, and the rest goes on. It keeps no position: what is piped
again comes again, and of bars the tape keeps one.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import TopicPartition

from schemas import Coverage
from schemas.registry import codec_for
from streams.errors import DeliveryError
from streams.kafka import check_topics
from streams.outbox import Answered, Outbox
from streams.settings import Settings
from streams.sources.files import Form
from streams.sources.gathered import Gathered, Row
from streams.sources.packing import Packer, symbol_lists
from streams.sources.protocol import BadRow
from streams.sources.row_lines import Line, Mark, RowLines
from streams.topics import MESSAGE_BYTES, Topics, shard_of

__all__ = ["Ingest", "Sent", "lines_of"]

READ_BYTES = 2**18
"""What is taken at once: some thousand lines."""
LONGEST_BYTES = 2**20
"""A line that is longer is cut, and no row: what is read has to have a bound."""
FLUSH_S = 60.0


@dataclass(slots=True)
class Sent:
    """What became of the lines.

    Attributes
    ----------
    stream, source
        Whose rows they are.
    rows, rejected
        Rows sent, and lines that are none.
    blocks
        Messages that hold the rows.
    symbols
        Number of symbols.
    first_ns, last_ns
        Earliest time of a row, latest ready time; 0 without rows.
    vouched_ns
        Ready time up to which a coverage says that all is out; 0 for none.
    """

    stream: str
    source: str
    rows: int = 0
    rejected: int = 0
    blocks: int = 0
    symbols: int = 0
    first_ns: int = 0
    last_ns: int = 0
    vouched_ns: int = 0


@dataclass(slots=True)
class _Spans:
    """Where the time of each symbol begins that is still to be vouched for."""

    starts: dict[str, int] = field(default_factory=dict)
    until_ns: int = 0


class Ingest:
    """Sends the rows of one input.

    Parameters
    ----------
    settings
        Brokers and namespace.
    stream
        bars, quotes or ticks.
    form
        How the lines are to be read.
    source
        What the rows carry as their source.
    path, is_json
        Name of the input, and whether its lines are JSON; else they are CSV.
    tell
        Told of each line that is no row.

    Raises
    ------
    TopicError
        The namespace is not there.
    BrokerError
        The brokers can't be reached.
    """

    def __init__(
        self,
        settings: Settings,
        stream: str,
        form: Form,
        source: str,
        *,
        path: str,
        is_json: bool,
        tell: Callable[[BadRow], None] = lambda _: None,
    ) -> None:
        topics = Topics(settings.namespace)
        self.sent = Sent(stream, source)
        self._topic: str = getattr(topics, f"raw_{stream}")
        self._rejected = topics.rejected
        self._shards = check_topics(settings, (*topics.raw, topics.session, topics.rejected))
        self._codec = codec_for(settings.schema_registry_url)
        self._outbox = Outbox(settings, threading.Event(), {"linger_ms": 0})
        self._lines = RowLines(path, form, is_json=is_json)
        self._length_ns = form.interval_ns if stream == "bars" else 0
        self._tell = tell
        self._spans = _Spans()
        self._batches = 0

    def take(self, lines: list[Line]) -> None:
        """Send the rows of some lines, and what is no row to ``rejected``.

        Raises
        ------
        SourceError
            The header lacks a column.
        DeliveryError
            A message was not acknowledged.
        """
        answered = self._begin()
        rows: list[Row] = []
        try:
            for found in self._lines.read(lines):
                if isinstance(found, Row):
                    rows.append(found)
                elif isinstance(found, BadRow):
                    self._reject(answered, found)
                else:
                    self._send(answered, rows)
                    rows = []
                    self._vouch(answered, found)
            self._send(answered, rows)
        finally:
            # Also where it is interrupted: what was handed over is all there is to wait for.
            answered.complete = True
        self._outbox.settle()

    def finish(self, *, heartbeat: bool = False) -> Sent:
        """Wait until all is acknowledged; vouch for all that came, if asked; return the counts.

        Raises
        ------
        DeliveryError
            A message was not acknowledged.
        """
        if heartbeat and self.sent.rows:
            answered = self._begin()
            self._vouch(answered, Mark(self.sent.last_ns))
            answered.complete = True
        self._outbox.settle(FLUSH_S)
        if len(self._outbox):
            reason = f"the brokers are silent for {FLUSH_S:.0f} s"
            raise DeliveryError(reason, failed=len(self._outbox), sent=self._batches)
        return self.sent

    def _begin(self) -> Answered:
        self._batches += 1
        return self._outbox.begin(TopicPartition(self._topic, 0, self._batches))

    def _send(self, answered: Answered, rows: list[Row]) -> None:
        """Send rows by shard; a bar that comes twice stands in two blocks, the later one behind."""
        sent = self.sent
        blocks: dict[tuple[int, int], Gathered] = {}
        times: dict[tuple[str, int], int] = defaultdict(int)
        for row in rows:
            shard = shard_of(row.symbol, self._shards)
            turn = 0
            if self._length_ns:
                turn = times[row.symbol, row.ts_ns]
                times[row.symbol, row.ts_ns] += 1
            key = (turn, shard)
            if key not in blocks:
                blocks[key] = Gathered(sent.stream, self._length_ns or 1)
            blocks[key].rows.append(row)
            self._spans.starts.setdefault(row.symbol, max(row.ts_ns, self._spans.until_ns))
            ready_ns = row.ts_ns + self._length_ns
            sent.first_ns = min(sent.first_ns or row.ts_ns, row.ts_ns)
            sent.last_ns = max(sent.last_ns, ready_ns)
        for (_, shard), gathered in sorted(blocks.items(), key=lambda item: item[0]):
            packer: Packer[Any] = Packer(source=sent.source)
            for block in (*packer.add(gathered.block()), *packer.end()):
                self._put(answered, block, block.symbols[0], shard)
                sent.blocks += 1
        sent.rows += len(rows)
        sent.symbols = len(self._spans.starts)

    def _vouch(self, answered: Answered, mark: Mark) -> None:
        """Say of all symbols that came that all is out up to a time, inclusive."""
        spans = self._spans
        # A bar that ends at the end of a coverage is inside; a quote or tick of that time is not.
        end_ns = mark.until_ns + (self.sent.stream != "bars")
        groups: dict[tuple[int, int], list[str]] = defaultdict(list)
        for symbol, start_ns in spans.starts.items():
            if start_ns < end_ns:
                groups[shard_of(symbol, self._shards), start_ns].append(symbol)
                spans.starts[symbol] = end_ns
        for (shard, start_ns), names in sorted(groups.items()):
            for symbols in symbol_lists(sorted(names)):
                coverage = Coverage(symbols, start_ns, end_ns, source=self.sent.source)
                self._put(answered, coverage, symbols[0], shard)
        spans.until_ns = max(spans.until_ns, end_ns)
        self.sent.vouched_ns = max(self.sent.vouched_ns, mark.until_ns)

    def _put(self, answered: Answered, record: Any, key: str, shard: int) -> None:
        value = self._codec.encode(record, self._topic)
        self._outbox.send(answered, self._topic, value, key, partition=shard)

    def _reject(self, answered: Answered, row: BadRow) -> None:
        self.sent.rejected += 1
        self._tell(row)
        headers = {"reason": row.reason, "path": row.path, "line": str(row.line), "symbol": ""}
        packed = [(name, text.encode()) for name, text in headers.items()]
        value = row.text[:MESSAGE_BYTES]
        self._outbox.send(answered, self._rejected, value, self._topic, headers=packed)


def lines_of(read: Callable[[int], bytes]) -> Iterator[list[Line]]:
    """Give the lines that are at hand, again and again, until the input ends.

    Parameters
    ----------
    read
        Returns what is there, at most so many bytes, waiting for the first one; b"" at the end.
    """
    rest, number = b"", 0
    while data := read(READ_BYTES):
        *whole, rest = (rest + data).split(b"\n")
        if len(rest) > LONGEST_BYTES:
            whole, rest = [*whole, rest], b""
        if whole:
            yield [(number + n, line.rstrip(b"\r")) for n, line in enumerate(whole, 1)]
            number += len(whole)
    if rest:
        yield [(number + 1, rest.rstrip(b"\r"))]
