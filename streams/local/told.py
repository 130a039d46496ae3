"""Quality and gaps of a session: told by the tape where one runs, else by the store."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self, TypeAlias

from schemas import Command
from streams.calendar import Session, sessions_between
from streams.chronicle import Chronicle
from streams.client.joining import joined
from streams.control import latest_command
from streams.coverage import Status
from streams.errors import BrokerError, CalendarError, HistoryError, HoleError, TopicError
from streams.letters import SymbolQuality, quality_of
from streams.local.running import connected
from streams.positions import FrameReader
from streams.settings import Settings
from streams.story import Gap, Part, gaps_of

__all__ = ["REFRESH_S", "Told", "tell", "watch"]

REFRESH_S = 0.5
POLL_S = 0.2
HOLES = 3
"""So often the tape may be cut while we read it."""

What: TypeAlias = Literal["quality", "gaps"]

_STATUS = {status.label: status for status in Status}


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a session.

    Attributes
    ----------
    namespace, run, session
        Whose it is.
    origin
        ``tape`` or ``store``.
    clock_ns
        Session clock; 0 where it is not known.
    is_over
        Whether its run is over.
    qualities
        Of every symbol, by name.
    gaps
        By symbol and time; one of the two is empty, see `tell`.
    """

    namespace: str
    run: str
    session: str
    origin: str
    clock_ns: int
    is_over: bool
    qualities: tuple[SymbolQuality, ...]
    gaps: tuple[Gap, ...]


def tell(
    settings: Settings, what: What, session: str = "", symbols: Sequence[str] | None = None
) -> Told:
    """Return what is known of a session.

    Parameters
    ----------
    settings
        Brokers, namespace and store.
    what
        ``quality`` or ``gaps``: the other is left empty.
    session
        Its label; empty for the one that runs, or ran last.
    symbols
        The symbols wanted; None for all.

    Raises
    ------
    HistoryError
        Neither the tape nor the store has it.
    """
    try:
        with _Tape(settings, session) as tape:
            tape.catch_up()
            if tape.has_session:
                return tape.told(what, symbols)
    except (BrokerError, TopicError):
        pass  # no broker, or the namespace has no tape: the store may have it
    return _from_store(settings, what, session, symbols)


def watch(
    settings: Settings, what: What, session: str = "", symbols: Sequence[str] | None = None
) -> Iterator[Told]:
    """Give what is known of a session, and again whenever it changed, until its run is over.

    Parameters are those of `tell`. Without a tape it is told once, from the store.
    """
    try:
        tape = _Tape(settings, session)
    except (BrokerError, TopicError):
        yield _from_store(settings, what, session, symbols)
        return
    with tape:
        tape.catch_up()
        if not tape.has_session and tape.is_over:
            yield _from_store(settings, what, session, symbols)
            return
        last: Told | None = None
        while True:
            told = tape.told(what, symbols)
            if tape.has_session and told != last:
                last = told
                yield told
            if told.is_over:
                return
            tape.read_for(REFRESH_S)


class _Tape:
    """Reads the tape of a namespace into a chronicle."""

    def __init__(self, settings: Settings, session: str) -> None:
        self._settings = connected(settings)
        self._only = session
        self._reader = FrameReader(self._settings)
        self._holes = 0
        try:
            self._begin()
        except BaseException:
            self._reader.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def _begin(self) -> None:
        last = self._reader.last()
        there = [one.frame for one in last.values() if one is not None]
        newest = max(there, key=lambda frame: frame.command, default=None)
        run = "" if newest is None else newest.run
        self._version = -1 if newest is None else newest.command
        self._chronicle = Chronicle(run, _sessions(latest_command(self._settings), run), self._only)
        starts = self._reader.starts()
        # What became of gaps before a session opened stands behind the open of the one before.
        join = None if self._only else joined(self._reader, last, 1)
        self._until = {shard: one.offset for shard, one in last.items() if one is not None}
        first = join.first if join is not None and len(join.opens) > 1 else starts
        self._reader.assign(first)

    def catch_up(self) -> None:
        """Read all that is there."""
        while self._until:
            self._poll(POLL_S)

    def read_for(self, seconds: float) -> None:
        """Read what comes in some time."""
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0 and not self.is_over:
            self._poll(left_s)

    def _poll(self, timeout_s: float) -> None:
        try:
            delivered = self._reader.poll(timeout_s)
        except HoleError:
            self._holes += 1
            if self._holes > HOLES:
                raise
            self._begin()  # it was cut while we read: what is left begins later
            return
        for one in delivered:
            if one.frame.event == "start" and one.frame.command > self._version:
                self._begin()  # another run has taken the place of ours: somebody sought, say
                return
            self._chronicle.fold(one.frame)
            if one.offset >= self._until.get(one.frame.shard, one.offset + 1):
                del self._until[one.frame.shard]

    @property
    def has_session(self) -> bool:
        """Whether the tape knows anything of the session."""
        return bool(self._chronicle.session)

    @property
    def is_over(self) -> bool:
        """Whether its run is over, or there is none."""
        return not self._chronicle.run or self._chronicle.is_over(len(self._reader.shards))

    def told(self, what: What, symbols: Sequence[str] | None) -> Told:
        """Return what is known by now."""
        chronicle = self._chronicle
        return Told(
            namespace=self._settings.namespace,
            run=chronicle.run,
            session=chronicle.session,
            origin="tape",
            clock_ns=chronicle.clock_ns,
            is_over=self.is_over,
            qualities=_chosen(chronicle.qualities() if what == "quality" else (), symbols),
            gaps=_chosen(chronicle.gaps() if what == "gaps" else (), symbols),
        )


def _sessions(command: Command | None, run: str) -> dict[str, Session]:
    if command is None or command.run != run:
        return {}
    try:
        found = sessions_between(command.calendar, command.start, command.end, command.hours)
    except CalendarError:  # the tape can't play it either
        return {}
    return {session.label: session for session in found}


def _chosen(found: Sequence[Any], symbols: Sequence[str] | None) -> tuple[Any, ...]:
    return tuple(one for one in found if symbols is None or one.symbol in symbols)


def _from_store(
    settings: Settings, what: What, session: str, symbols: Sequence[str] | None
) -> Told:
    # What it needs is heavy, and most who ask have a tape.
    from sinks.history import open_history  # noqa: PLC0415

    before_ns, count = (_behind(session), 5) if session else (None, 1)
    history = open_history(settings)
    try:
        quality = history.quality(symbols, count, before_ns).to_pylist()
        steps = history.gaps(symbols, count, before_ns).to_pylist() if what == "gaps" else []
    finally:
        history.close()
    label = session or max((row["session"] for row in quality), default="")
    rows = [row for row in quality if row["session"] == label]
    if not rows:
        which = f"session {session}" if session else "a session"
        of = f" with {', '.join(symbols)}" if symbols else ""
        msg = (
            f"neither the tape nor the store of namespace {settings.namespace} has {which}{of}: "
            "replay something, or name another --namespace or --session"
        )
        raise HistoryError(msg)
    parts = [
        Part(
            row["symbol"],
            row["start_ns"],
            row["end_ns"],
            _STATUS[row["status"]],
            row["attempt"],
            row["request"],
            row["clock_ns"],
        )
        for row in steps
        if row["session"] == label
    ]
    return Told(
        namespace=settings.namespace,
        run=rows[0]["run"],
        session=label,
        origin="store",
        clock_ns=0,
        is_over=True,
        qualities=tuple(
            quality_of(row["symbol"], row["statuses"]) for row in rows if what == "quality"
        ),
        gaps=tuple(gaps_of(Session(label, 0, 0), parts)),
    )


def _behind(session: str) -> int:
    """Return a time by which a session is over, and few others have opened.

    Raises
    ------
    CalendarError
        It is no label of a session.
    """
    try:
        day = datetime.strptime(session, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as exc:
        msg = f"{session!r} is no session: write its day, YYYY-MM-DD"
        raise CalendarError(msg) from exc
    return int((day + timedelta(days=2)).timestamp()) * 1_000_000_000
