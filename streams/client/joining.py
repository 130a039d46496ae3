"""Where on the tape a reader joins that comes late: the running session and those before it.

Every frame says where its session was opened, so the open frames are found from the last frame
back, without reading what lies between. The tape is cut at open frames only; what is cut while we
look is no longer kept, and is left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """

    run: str
    session: str
    opens: tuple[Mapping[int, int], ...]

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
        return Join(self.run, self.session, opens) if self.running in opens else None


class _Opened(NamedTuple):
    offset: int
    session: str


@dataclass
class _Chain:
    """Open frames of one shard, newest first; ``at`` is where the next is said to be, -1: none."""

    at: int
    found: list[_Opened] = field(default_factory=list)

    def extend(self, opened: Frame, before: Frame | None, run: str) -> None:
        """Take the frame that stands at ``at``, and the one before it."""
        is_ours = opened.event == "open" and opened.run == run
        if is_ours:
            self.found.append(_Opened(self.at, opened.session))
        # The start of a run still names the last session of the run before.
        goes_on = is_ours and before is not None and before.run == run and before.event != "start"
        self.at = before.open_offset if goes_on and before is not None else -1

    def lacks(self, running: str, sessions: int) -> bool:
        """Tell whether more is to be looked for: ``sessions`` before the running one."""
        before = sum(opened.session < running for opened in self.found)
        return self.at >= 0 and (not self.found or before < sessions)


def joined(reader: Reader, last: Mapping[int, DeliveredFrame | None], sessions: int) -> Join | None:
    """Return where the running session and up to ``sessions`` before it were opened.

    None where the shards don't stand in one run, or not all of them have the running session from
    its open frame on. Sessions of earlier runs, or kept in part only, or not by every shard, are
    not among them. The reader has to be assigned anew behind it.

    Raises
    ------
    BrokerError
        Frames that are there don't come.
    HoleError
        Frames are lost, not only cut off.
    """
    frames = {shard: one.frame for shard, one in last.items() if one is not None}
    runs = {frame.run for frame in frames.values()}
    if len(frames) < len(last) or len(runs) != 1:
        return None
    run = runs.pop()
    chains = {
        shard: _Chain(one.offset if one.frame.event == "open" else one.frame.open_offset)
        for shard, one in last.items()
        if one is not None
    }
    starts = reader.starts()
    while True:
        firsts = [chain.found[0].session for chain in chains.values() if chain.found]
        running = min(firsts, default="")
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
    return _common(run, running, sessions, chains)


def _common(run: str, running: str, sessions: int, chains: Mapping[int, _Chain]) -> Join | None:
    """Return the running session and those before it that all shards have, without a break."""
    rows = [[one for one in c.found if one.session <= running] for c in chains.values()]
    opens: list[Mapping[int, int]] = []
    for one_each in zip(*rows, strict=False):
        if len({one.session for one in one_each}) > 1 or len(opens) > sessions:
            break
        opens.insert(0, dict(zip(chains, (one.offset for one in one_each), strict=True)))
    return Join(run, running, tuple(opens)) if opens else None


def _look(
    reader: Reader, places: Mapping[int, int], starts: Mapping[int, int]
) -> dict[int, tuple[Frame, Frame | None]]:
    """Return, for each shard, the frame at an offset and the one before it that is still kept."""
    found: dict[int, tuple[Frame, Frame | None]] = {}
    back = BACK
    while rest := {shard: at for shard, at in places.items() if shard not in found}:
        first = {shard: max(at - back, starts[shard]) for shard, at in rest.items()}
        reader.assign(first)
        for shard, (opened, before) in _read(reader, rest).items():
            if before is not None or first[shard] == starts[shard]:
                found[shard] = (opened, before)
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
