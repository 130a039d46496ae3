"""What a run with an upkeep left behind, read off the topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from schemas import DataRequest, Frame
from schemas.registry import codec_for
from streams.calendar import sessions_between
from streams.coverage import Grid, Status
from streams.intervals import MINUTE_NS
from streams.positions import FrameReader
from streams.topics import shards_of
from tests.harness import Tape

__all__ = ["DerivedRow", "derived_frames", "derived_rows", "gap_requests", "requests", "statuses"]


class DerivedRow(NamedTuple):
    """A derived bar as it came."""

    symbol: str
    ts_ns: int
    interval_ns: int
    revision: int
    known_ns: int
    values: tuple[float, ...]


def statuses(
    tape: Tape, label: str, run: str = "run-1", hours: str = "regular"
) -> Mapping[str, tuple[Status, ...]]:
    """Return what the tape says of each minute of a session, by symbol."""
    found: dict[str, tuple[Status, ...]] = {}
    (session,) = sessions_between("XNYS", label, label, hours)
    for shard, names in shards_of(tape.symbols, tape.partitions).items():
        grid = Grid(session, MINUTE_NS, names)
        is_open = False
        for frame in tape.frames_of(run, shard):
            is_open |= frame.event == "open" and frame.session == label
            if not is_open or frame.session != label:
                continue
            if frame.bars is not None:
                grid.trade(frame.bars.symbol, frame.bars.ts_ns)
            if frame.minutes is not None and frame.minutes.session == label:
                grid.apply(frame.minutes)
        for name, row in zip(names, grid.status.tolist(), strict=True):
            found[name] = tuple(Status(value) for value in row)
    return found


def requests(tape: Tape, run: str = "run-1") -> list[DataRequest]:
    """Return everything that was asked for in a run."""
    codec = codec_for("")
    found = [codec.decode(message.value()) for message in tape.messages(tape.topics.requests)]
    return [r for r in found if isinstance(r, DataRequest) and r.run == run]


def gap_requests(tape: Tape, run: str = "run-1") -> list[DataRequest]:
    """Return the requests for gaps of a run."""
    return [request for request in requests(tape, run) if request.kind == "gap"]


def derived_frames(tape: Tape, interval: str, run: str = "run-1") -> list[Frame]:
    """Return the frames of a topic of derived bars, those of each shard in order, to its end."""
    found: list[Frame] = []
    with FrameReader(tape.settings, topic=tape.topics.derived(interval)) as reader:
        reader.assign(reader.starts())
        ended: set[int] = set()

        def read() -> bool:
            for one in reader.poll():
                if one.frame.run == run:
                    found.append(one.frame)
                    if one.frame.event == "end":
                        ended.add(one.frame.shard)
            return len(ended) == tape.partitions

        tape.until(read, f"the end of {run} on {interval}")
    return sorted(found, key=lambda frame: frame.shard)


def derived_rows(tape: Tape, interval: str, run: str = "run-1") -> list[DerivedRow]:
    """Return the derived bars of a run, in the order of each shard."""
    names = ("open", "high", "low", "close", "volume", "vwap", "count", "quality")
    found = []
    for frame in derived_frames(tape, interval, run):
        bars = frame.derived
        if bars is None:
            continue
        known = [
            ns
            for ns, rows in zip(frame.slice_ns.tolist(), frame.slice_rows.tolist(), strict=True)
            for _ in range(rows)
        ]
        columns = [getattr(bars, name).tolist() for name in names]
        for at, symbol in enumerate(bars.symbol.tolist()):
            found.append(
                DerivedRow(
                    frame.symbols[symbol],
                    int(bars.ts_ns[at]),
                    int(bars.interval_ns[at]),
                    int(bars.revision[at]),
                    known[at],
                    tuple(float(column[at]) for column in columns),
                )
            )
    return found
