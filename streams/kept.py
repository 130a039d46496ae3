"""What the tape of a namespace still holds of a run, over all its shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas import Frame
from streams.delivery import Delivered, FrameReader
from streams.errors import ConfigError, HoleError
from streams.kinds import KINDS
from streams.settings import Settings

__all__ = ["KeptRun", "Seen", "kept_run", "read_kept"]

READS = 3
"""So often a tape is read anew that is cut while it is read."""


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run as far as a tape holds it.

    Attributes
    ----------
    run
        Its id.
    begins, ends
        Offsets by shard: of its ``start``, or of the open frame of the first session that all
        shards hold; and of its last frame.
    sessions
        Label, open and close (ns) of each session, ascending.
    symbols, streams
        Symbols, sorted, and kinds of rows, as the frames have them.
    interval_ns
        Length of the bars that were expected.
    """

    run: str
    begins: Mapping[int, int]
    ends: Mapping[int, int]
    sessions: tuple[tuple[str, int, int], ...]
    symbols: tuple[str, ...]
    streams: tuple[str, ...]
    interval_ns: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.begins)


@dataclass
class Seen:
    """What was seen of one run on one shard.

    Attributes
    ----------
    version
        Version of a command of the run: later runs have higher ones.
    start
        Offset of the start frame; -1 where it is not kept.
    opens
        Label, open and close (ns) of each session whose open frame is kept, and its offset.
    last
        Offset of the last frame.
    symbols, streams, interval_ns
        As those of `KeptRun`.
    """

    version: int
    start: int = -1
    opens: dict[tuple[str, int, int], int] = field(default_factory=dict)
    last: int = -1
    symbols: set[str] = field(default_factory=set)
    streams: set[str] = field(default_factory=set)
    interval_ns: int = 0

    def add(self, frame: Frame, offset: int) -> None:
        """Take the next frame of the run."""
        if frame.event == "start":
            self.start = offset
        elif frame.event == "open":
            self.opens[frame.session, frame.open_ns, frame.close_ns] = offset
        self.symbols.update(frame.symbols)
        self.streams.update(kind for kind in KINDS if getattr(frame, kind) is not None)
        self.interval_ns, self.last = frame.interval_ns, offset


def kept_run(seen: Sequence[Mapping[str, Seen]], name: str, run: str = "") -> KeptRun:
    """Return what is kept of a run, of the last one where none is named.

    Parameters
    ----------
    seen
        What was seen on each shard, by the ids of runs.
    name
        The namespace, for people.

    Raises
    ------
    ConfigError
        There is no such run, or no session of it that all shards hold.
    """
    common = set.intersection(*map(set, seen)) if seen else set()
    found = run or max(common, key=lambda one: seen[0][one].version, default="")
    if found not in common:
        what = f"run {run} of namespace" if run else "run in namespace"
        msg = f"there is no {what} {name} on its tape any more"
        raise ConfigError(msg)
    shards = [one[found] for one in seen]
    begins = {number: shard.start for number, shard in enumerate(shards)}
    sessions = {session for shard in shards for session in shard.opens}
    if min(begins.values()) < 0:
        # Shards are cut one by one: what one of them has lost, nobody is told.
        sessions = set.intersection(*(set(shard.opens) for shard in shards))
        first = min(sessions, key=lambda session: session[1], default=None)
        if first is not None:
            begins = {number: shard.opens[first] for number, shard in enumerate(shards)}
            sessions = {one for shard in shards for one in shard.opens if one[1] >= first[1]}
    if not sessions:
        msg = f"run {found} of namespace {name} has no session on its tape that all shards opened"
        raise ConfigError(msg)
    return KeptRun(
        run=found,
        begins=begins,
        ends={number: shard.last for number, shard in enumerate(shards)},
        sessions=tuple(sorted(sessions, key=lambda session: session[1])),
        symbols=tuple(sorted(set().union(*(shard.symbols for shard in shards)))),
        streams=tuple(kind for kind in KINDS if any(kind in shard.streams for shard in shards)),
        interval_ns=max(shard.interval_ns for shard in shards),
    )


def read_kept(settings: Settings, run: str = "") -> KeptRun:
    """Read the tape of a namespace for a run, up to what is there now.

    Raises
    ------
    ConfigError
        As `kept_run`.
    TopicError
        The namespace has no tape.
    SessiontapeError
        The tape can't be read.
    """
    for attempt in range(1, READS + 1):
        try:
            with FrameReader(settings) as reader:
                seen = _seen(reader, reader.last())
        except HoleError:
            if attempt == READS:
                raise
        else:
            break
    return kept_run(seen, settings.namespace, run)


def _seen(reader: FrameReader, last: Mapping[int, Delivered | None]) -> list[dict[str, Seen]]:
    seen: list[dict[str, Seen]] = [{} for _ in last]
    left = {shard: one.offset for shard, one in last.items() if one is not None}
    starts = reader.starts()
    reader.assign({shard: starts[shard] for shard in left})
    while left:
        for one in reader.poll():
            frame, shard = one.frame, one.frame.shard
            if shard in left:
                seen[shard].setdefault(frame.run, Seen(frame.command)).add(frame, one.offset)
                if one.offset >= left[shard]:
                    del left[shard]
    return seen
