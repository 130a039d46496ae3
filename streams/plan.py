"""What a run is to play: its sessions, the symbols of a shard, and when the clock stands where.

Pure: the wall time is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from schemas.records import Command, DataRequest, Longs
from streams.calendar import Session, sessions_between
from streams.coverage import expected_ends
from streams.intervals import SECOND_NS, interval_ns
from streams.kinds import KINDS
from streams.topics import room_of, shards_of

__all__ = ["FAR_NS", "Plan", "plan_of"]

BEAT_S = 0.1
"""Wall time after which a shard says where its clock is though nothing is ready."""
FAR_NS = 2**62
"""A clock that no session reaches."""


@dataclass(frozen=True)
class Plan:
    """One run as one shard plays it.

    Attributes
    ----------
    command
        Desired state of the namespace.
    sessions
        Sessions of the run, ascending.
    symbols
        Symbols of the shard, sorted.
    everywhere
        Symbols of all shards.
    shard, shards
        Number of the shard, and how many there are.
    """

    command: Command
    sessions: tuple[Session, ...]
    symbols: tuple[str, ...]
    everywhere: frozenset[str]
    shard: int
    shards: int

    @cached_property
    def interval_ns(self) -> int:
        """Length of the bars that are expected."""
        return interval_ns(self.command.interval)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each symbol of the shard."""
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    @cached_property
    def opens(self) -> Longs:
        """Opens of the sessions, ns, shape (sessions,)."""
        return np.array([session.open_ns for session in self.sessions], np.int64)

    @cached_property
    def closes(self) -> Longs:
        """Closes of the sessions, ns, shape (sessions,)."""
        return np.array([session.close_ns for session in self.sessions], np.int64)

    @cached_property
    def _before(self) -> tuple[int, ...]:
        """Tape time in ns that has passed when each session opens; what lies between is skipped."""
        lengths = (session.close_ns - session.open_ns for session in self.sessions)
        return (0, *accumulate(lengths))

    def index(self, label: str) -> int:
        """Return the number of the session with that label."""
        return next(n for n, session in enumerate(self.sessions) if session.label == label)

    def number_at(self, ts_ns: int) -> int:
        """Return the number of the last session that opened by a time; -1 before the first."""
        return int(np.searchsorted(self.opens, ts_ns, "right")) - 1

    @cached_property
    def streams(self) -> tuple[str, ...]:
        """Kinds of rows that are played, in their order inside a slice."""
        return tuple(stream for stream in KINDS if stream in self.command.streams)

    @property
    def has_bars(self) -> bool:
        """Whether bars are played: of them alone it is known what to expect."""
        return "bars" in self.streams

    @property
    def has_upkeep(self) -> bool:
        """Whether gaps are looked after, which are minutes without a bar."""
        return self.command.upkeep and self.has_bars

    def out_ns(self, number: int, clock_ns: int) -> int:
        """Return up to where quotes and ticks are out, session ``number`` being the next to begin.

        What is ready at its open belongs to it: at a clock that stands there it is still to come.
        """
        if number >= len(self.sessions):
            return clock_ns
        return min(clock_ns, self.sessions[number].open_ns - 1)

    def beat_ns(self, clock_ns: int) -> int:
        """Return where a clock is to be told though nothing is ready; far away: it need not be.

        Bars come at the same times to every shard. Quotes and ticks don't: a shard that has none
        for a while would hold up the others.
        """
        speed = self.command.speed
        if speed == 0 or self.command.lockstep or self.streams == ("bars",):
            return FAR_NS
        return clock_ns + max(int(BEAT_S * SECOND_NS * speed), 1)

    def expected_ends(self, number: int) -> Longs:
        """Return the ready times of the bars expected in a session, ascending.

        Where bars are not played none is expected then, but the clock still comes by there: no
        shard holds up the others for long.
        """
        return self._ends[number]

    def ends_behind(self, number: int, clock_ns: int) -> Longs:
        """Return those of `expected_ends` that a clock has not reached."""
        ends = self._ends[number]
        return ends[np.searchsorted(ends, clock_ns, "right") :]

    @cached_property
    def _ends(self) -> tuple[Longs, ...]:
        return tuple(expected_ends(session, self.interval_ns) for session in self.sessions)

    def label(self, number: int) -> str:
        """Return the label of a session; empty for a number below 0."""
        return self.sessions[number].label if number >= 0 else ""

    @property
    def symbols_bytes(self) -> int:
        """Room that the symbols take in a frame."""
        return room_of(self.symbols)

    def request(self, number: int, is_now: bool, until_ns: int = 0) -> DataRequest:
        """Return the question for the rows of a session, all symbols of the shard.

        Of a live run it ends where the run began, or at ``until_ns``: what comes later, comes.
        """
        session, command = self.sessions[number], self.command
        end_ns = session.close_ns
        if self.is_live:
            end_ns = min(until_ns or self.catchup_end_ns or end_ns, end_ns)
        return DataRequest(
            id=f"{command.run}/{session.label}/{self.shard}/1",
            run=command.run,
            kind="session" if is_now else "prefetch",
            streams=self.command.streams,
            symbols=self.symbols,
            start_ns=session.open_ns,
            end_ns=end_ns,
            interval=command.interval,
            session=session.label,
            shard=self.shard,
        )

    def last_asked(self, number: int) -> int:
        """Return the number of the last session to be asked for before one opens.

        A live run asks for that one alone, and only if it began in it: -1 else.
        """
        if self.is_live:
            return number if self.catchup_end_ns > self.opens[number] else -1
        return min(number + self.command.prefetch_sessions, len(self.sessions) - 1)

    @property
    def is_live(self) -> bool:
        """Whether data comes as it happens."""
        return self.command.mode == "live"

    @property
    def is_wall(self) -> bool:
        """Whether the time of the tape is that of the wall, nights and weekends included.

        Other live runs are rehearsals: time runs at their speed, and between sessions it jumps.
        """
        command = self.command
        return self.is_live and command.anchor_clock_ns == command.anchor_wall_ns

    @property
    def catchup_end_ns(self) -> int:
        """Ready time up to which a live run asks a source first: whole minutes; 0 for nothing.

        It began in mid-session then.
        """
        anchor_ns = self.command.anchor_clock_ns
        number = self.number_at(anchor_ns)
        if not self.is_live or number < 0 or anchor_ns >= self.closes[number]:
            return 0
        return self._whole(number, anchor_ns)

    def whole_ns(self, number: int, wall_ns: int) -> int:
        """Return the end of the last bar that is over in a session by a wall time."""
        return self._whole(number, self.now_in(number, wall_ns))

    def _whole(self, number: int, ts_ns: int) -> int:
        """Return the end of the last bar of a session that is over by a time; at least its open."""
        open_ns = self.sessions[number].open_ns
        passed_ns = max(ts_ns - open_ns, 0)
        return open_ns + passed_ns - passed_ns % self.interval_ns

    def now_ns(self, wall_ns: int) -> int:
        """Return the time of the tape; of a rehearsal it jumps from a close to the next open."""
        tape_ns = self._tape_ns(wall_ns)
        number = int(np.searchsorted(self._before, tape_ns, "right")) - 1
        return self.now_in(min(max(number, 0), len(self.sessions) - 1), wall_ns)

    def now_in(self, number: int, wall_ns: int) -> int:
        """Return the time of the tape as a session sees it: of a rehearsal without a jump."""
        if self.is_wall:
            return wall_ns
        return self.sessions[number].open_ns + self._tape_ns(wall_ns) - self._before[number]

    def wall_at(self, ts_ns: int) -> int:
        """Return the wall time at which the tape is at a time; between sessions, at the next."""
        number = max(self.number_at(ts_ns), 0)
        if ts_ns > self.closes[number] and number + 1 < len(self.sessions) and not self.is_wall:
            return self.wall_in(number + 1, int(self.opens[number + 1]))
        return self.wall_in(number, ts_ns)

    def wall_in(self, number: int, ts_ns: int) -> int:
        """Return the first wall time at which a session sees a time; see `now_in`."""
        if self.is_wall:
            return ts_ns
        tape = self._before[number] + ts_ns - self.sessions[number].open_ns
        above, below = self._speed
        return self.command.anchor_wall_ns - (self._anchor_tape_ns - tape) * below // above

    def clock_ns(self, number: int, wall_ns: int) -> int | None:
        """Return where the clock of session ``number`` is to stand; None before it is to open.

        While paused, a session is to open only for something behind its open.
        """
        session = self.sessions[number]
        if self.command.speed == 0 and not self.command.paused:
            return session.close_ns
        inside = self._tape_ns(wall_ns) - self._before[number]
        if inside < 0 or (inside == 0 and self.command.paused):
            return None
        return min(session.open_ns + inside, session.close_ns)

    def wall_ns(self, number: int, clock_ns: int) -> int | None:
        """Return the first wall time at which the clock of a session is there; None while paused.

        A run that goes as fast as it can is there at any time: 0.
        """
        command = self.command
        if command.paused:
            return None
        if command.speed == 0:
            return 0
        return self.wall_in(number, clock_ns)

    @cached_property
    def _anchor_tape_ns(self) -> int:
        clock = self.command.anchor_clock_ns
        if clock == 0:
            return 0
        number = max(int(np.searchsorted(self.opens, clock, "right")) - 1, 0)
        session = self.sessions[number]
        return self._before[number] + min(clock, session.close_ns) - session.open_ns

    def _tape_ns(self, wall_ns: int) -> int:
        command = self.command
        passed = wall_ns - command.anchor_wall_ns
        if command.paused and not self.is_live:
            passed = 0
        above, below = self._speed
        return self._anchor_tape_ns + passed * above // below

    @cached_property
    def _speed(self) -> tuple[int, int]:
        """The speed as a fraction: whole numbers lose no nanosecond, however long the tape is."""
        return self.command.speed.as_integer_ratio()


def plan_of(command: Command, shard: int, shards: int) -> Plan:
    """Return the plan of a shard under a command.

    Raises
    ------
    CalendarError
        The command names a calendar, days or hours that don't exist.
    """
    sessions = sessions_between(command.calendar, command.start, command.end, command.hours)
    symbols = shards_of(command.symbols, shards)[shard]
    return Plan(command, sessions, symbols, frozenset(command.symbols), shard, shards)
