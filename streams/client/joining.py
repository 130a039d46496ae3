"""Where on the tape a reader joins that comes late: the running session and those before it.

Every frame says where its session was opened, so the open frames are found from the last frame
back, without reading what lies between. The tape is cut at open frames only; what is cut while we
look is no longer kept, and is left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from schemas import Frame
from streams.client.reader import DeliveredFrame, Reader
from streams.errors import BrokerError, HoleError

__all__ = ["Join", "joined"]

DEADLINE_S = 15.0
POLL_S = 0.2
BACK = 8
"""Offsets looked at before an open frame: ends of transactions take offsets of their own."""


@dataclass(frozen=True, slots=True)
class Join:
    """The session that runs on the merged tape, and those of its run that are kept before it.

    Attributes
    ----------
    run, session
        Of the running session: the one in which the slowest shard stands.
    opens
        Offsets of the open frames by shard, a mapping a session, oldest first; the last is that of
        the running session.
    from_start
        Whether the oldest of them is the first of the run.
    """

    run: str
    session: str
    opens: tuple[Mapping[int, int], ...]
    from_start: bool = False

    @property
    def first(self) -> Mapping[int, int]:
        """Offsets to read from."""
        return self.opens[0]

    @property
    def running(self) -> Mapping[int, int]:
        """Offsets of the running session's open frames."""
        return self.opens[-1]

    def kept(self, starts: Mapping[int, int]) -> Join | None:
        """Return what is still there of a tape that was cut; None where that is nothing."""
        opens = tuple(o for o in self.opens if all(o[shard] >= starts[shard] for shard in o))
        whole = self.from_start and len(opens) == len(self.opens)
        return Join(self.run, self.session, opens, whole) if self.running in opens else None


class _Opened(NamedTuple):
    offset: int
    session: str


@dataclass
class _Chain:
    """Open frames of one shard, newest first; ``at`` is where the next is said to be, -1: none.

    ``has_first`` says whether the last of them is the first of the run.
    """

    at: int
    found: list[_Opened] = field(default_factory=list)
    has_first: bool = False

    def extend(self, opened: Frame, before: Frame | None, run: str) -> None:
        """Take the frame that stands at ``at``, and the one before it."""
        at = self.at
        self.at = -1
        if opened.event != "open" or opened.run != run:
            return
        self.found.append(_Opened(at, opened.session))
        if before is None:
            return
        # The start of a run may still name the last session of the run before.
        self.has_first = before.run != run or before.event == "start" or before.open_offset < 0
        if not self.has_first:
            self.at = before.open_offset

    def lacks(self, running: str, sessions: int) -> bool:
        """Tell whether to look on: for the running session and for ``sessions`` before it."""
        here = sum(opened.session <= running for opened in self.found)
        return self.at >= 0 and here <= sessions


def joined(reader: Reader, last: Mapping[int, DeliveredFrame | None], sessions: int) -> Join | None:
    """Return where the running session and up to ``sessions`` before it were opened.

    Where a shard has not opened a session of the run yet, the merged tape stands before its first:
    that is the running one then. Sessions of earlier runs, or kept in part only, or not by every
    shard, are not among them; None where not even the running one is. The reader has to be
    assigned anew behind it.

    Raises
    ------
    BrokerError
        Frames that are there don't come.
    HoleError
        Frames are lost, not only cut off.
    """
    there = [one.frame for one in last.values() if one is not None]
    if not there:
        return None
    run = max(there, key=lambda frame: frame.command).run
    starts = reader.starts()
    begins, chains = _stands(run, last, starts)
    while True:
        firsts = [chain.found[0].session for chain in chains.values() if chain.found]
        running = "" if begins else min(firsts, default="")
        for shard, chain in chains.items():
            chain.at = chain.at if chain.at >= starts[shard] else -1
        rest = {s: c.at for s, c in chains.items() if c.lacks(running, sessions)}
        if not rest:
            break
        try:
            looked = _look(reader, rest, starts)
        except HoleError:
            before, starts = starts, reader.starts()
            if starts == before:
                raise
            continue
        for shard, (opened, previous) in looked.items():
            chains[shard].extend(opened, previous, run)
    if begins:
        return _begun(run, begins, chains)
    return _common(run, running, chains)


def _stands(
    run: str, last: Mapping[int, DeliveredFrame | None], starts: Mapping[int, int]
) -> tuple[dict[int, int], dict[int, _Chain]]:
    """Return where shards that are still to open their first session go on; where others stand."""
    begins: dict[int, int] = {}
    chains: dict[int, _Chain] = {}
    for shard, one in last.items():
        if one is None:
            begins[shard] = starts[shard]
        elif one.frame.run != run or one.frame.event == "start" or _is_before_first(one.frame):
            begins[shard] = one.offset
        else:
            is_open = one.frame.event == "open"
            chains[shard] = _Chain(one.offset if is_open else one.frame.open_offset)
    return begins, chains


def _is_before_first(frame: Frame) -> bool:
    """Tell whether a frame comes before its run's first open: it speaks of a session to come."""
    return frame.waiting and frame.open_offset < 0


def _begun(run: str, begins: Mapping[int, int], chains: Mapping[int, _Chain]) -> Join | None:
    """Return where a run is to be read from that not all shards have opened a session of."""
    if not all(chain.found for chain in chains.values()):
        return None
    oldest = {shard: chain.found[-1] for shard, chain in chains.items()}
    session = max((one.session for one in oldest.values()), default="")
    offsets = {shard: one.offset for shard, one in oldest.items()}
    whole = all(chain.has_first for chain in chains.values())
    return Join(run, session, ({**begins, **offsets},), whole)


def _common(run: str, running: str, chains: Mapping[int, _Chain]) -> Join | None:
    """Return the running session and those before it that all shards have, without a break."""
    rows = [[one for one in c.found if one.session <= running] for c in chains.values()]
    each = takewhile(lambda ones: len({one.session for one in ones}) == 1, zip(*rows, strict=False))
    opens = [dict(zip(chains, (one.offset for one in ones), strict=True)) for ones in each]
    if not opens:
        return None
    oldest = opens[-1]
    whole = all(c.has_first and c.found[-1].offset == oldest[s] for s, c in chains.items())
    return Join(run, running, tuple(reversed(opens)), whole)


def _look(
    reader: Reader, places: Mapping[int, int], starts: Mapping[int, int]
) -> dict[int, tuple[Frame, Frame | None]]:
    """Return, for each shard, the frame at an offset and the one before it that is still kept."""
    found: dict[int, tuple[Frame, Frame | None]] = {}
    back = BACK
    while rest := {shard: at for shard, at in places.items() if shard not in found}:
        first = {shard: max(at - back, starts[shard]) for shard, at in rest.items()}
        reader.assign(first)
        found |= {
            shard: both
            for shard, both in _read(reader, rest).items()
            if both[1] is not None or first[shard] == starts[shard]
        }
        back *= 16
    return found


def _read(reader: Reader, places: Mapping[int, int]) -> dict[int, tuple[Frame, Frame | None]]:
    """Return the frame at an offset of each shard, and the one that came before it."""
    found: dict[int, tuple[Frame, Frame | None]] = {}
    before: dict[int, Frame] = {}
    deadline = time.monotonic() + DEADLINE_S
    while len(found) < len(places):
        for one in reader.poll(POLL_S):
            shard = one.frame.shard
            if one.offset < places[shard]:
                before[shard] = one.frame
            elif shard not in found:
                found[shard] = (one.frame, before.get(shard))
        if time.monotonic() > deadline:
            msg = f"the open frames at {dict(places)} did not come in {DEADLINE_S:.0f} s"
            raise BrokerError(msg)
    return found
