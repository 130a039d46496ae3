"""A stack for one piece of work: the one that runs, senders beside it, or one of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

import psutil
from confluent_kafka.admin import AdminClient

from streams.errors import BrokerError, ConfigError, SessiontapeError
from streams.groups import groups_there, members_of, settled_members
from streams.kafka import admin, check_topics
from streams.local.groups import readers_of, workers_elsewhere
from streams.local.process import ProcessRecord
from streams.local.running import running_stack
from streams.local.stack import Stack, feeder_spec, producer_spec
from streams.local.state import StackState, state_path
from streams.local.workers import Supervisor, WorkerSpec, log_path
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["AttachedStack", "a_stack"]

Tell = Callable[[str], None]

LOOK_S = 5.0
"""How often is looked whether workers that run elsewhere are there, while nothing comes."""
DESERTED_S = 120.0
"""How long a namespace elsewhere may be without a coordinator; one that is started again is there
in a tenth of it."""


class AttachedStack:
    """A stack that runs already, here or elsewhere, with senders of ours beside it.

    Parameters
    ----------
    settings
        Those of the running stack, its brokers too.
    workers
        Names or kinds of its workers.
    owner
        The process that keeps it; None where that is not on this machine: containers, say.
    senders
        The producer, see `producer_spec`, and the feeder, see `feeder_spec`; either may be missing.
    tell
        Told of deaths and restarts.
    """

    def __init__(
        self,
        settings: Settings,
        workers: Sequence[str],
        owner: ProcessRecord | None,
        senders: Sequence[WorkerSpec],
        tell: Tell,
    ) -> None:
        self.settings = settings
        self.readers = readers_of(settings, workers)
        self.has_upkeep = "upkeep" in workers
        self.partitions = 0
        self._owner = owner
        self._looked_s, self._deserted_s = 0.0, float("inf")
        self._senders = tuple(senders)
        self._path = state_path(settings.data_dir, f"{settings.namespace}.producer")
        self._state = StackState(
            settings.namespace,
            "producer",
            ProcessRecord.of(psutil.Process()),
            bootstrap_servers=settings.bootstrap_servers,
            is_ready=True,
        )
        self._supervisor = Supervisor(settings, tell, self._processes)

    def __enter__(self) -> Self:
        """Start the senders and wait until requests are given to the producer."""
        self.partitions = check_topics(self.settings, (Topics(self.settings.namespace).session,))
        left = StackState.read(self._path)
        if left is not None and not left.is_live:
            left.end_workers()
        try:
            self._supervisor.start(self._senders)
            with admin(self.settings) as client:
                self._supervisor.await_ready(partial(self._unready, client))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the senders."""
        self._supervisor.stop()
        self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise what can't be mended.

        Raises
        ------
        WorkerError
            A sender does not stay up.
        SessiontapeError
            The stack went away; its coordinators, where it runs elsewhere.
        """
        self._supervisor.check()
        if self._owner is None:
            self._look_elsewhere()
            return
        state = running_stack(self.settings)
        if state is None or state.owner != self._owner:
            log = log_path(self.settings, "supervisor")
            msg = f"the stack of namespace {self.settings.namespace} went away: {log} says why"
            raise SessiontapeError(msg)
        if state.failure:
            raise SessiontapeError(state.failure)

    def _look_elsewhere(self) -> None:
        """Raise when no coordinator has been there for long: who keeps it may start it again."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        group = Topics(self.settings.namespace).coordinator
        try:
            with admin(self.settings) as client:
                members = settled_members(client, groups_there(client) & {group}, 0.0).get(group, 0)
        except BrokerError:  # away, or about to change: of the workers that says nothing
            members = 1
        self._deserted_s = min(self._deserted_s, now_s) if not members else float("inf")
        if now_s - self._deserted_s >= DESERTED_S:
            msg = (
                f"namespace {self.settings.namespace} at {self.settings.bootstrap_servers} has had "
                f"no coordinator for {DESERTED_S:.0f} s: start one where it runs, or end the run "
                "with `sessiontape stop`"
            )
            raise SessiontapeError(msg)

    def _unready(self, client: AdminClient) -> list[str]:
        """Return who has not taken up its work: a producer to which no request would go yet."""
        if all(spec.name != "producer" for spec in self._senders):
            return []
        group = Topics(self.settings.namespace).producer
        members = members_of(client, {group}).get(group, (0, 0))
        return [] if members == (1, self.partitions) else ["producer"]

    @property
    def processes(self) -> dict[str, psutil.Process]:
        """Its processes by name, those of the running stack too."""
        state = running_stack(self.settings)
        found = {} if state is None else state.workers
        running = {name: record.process() for name, record in found.items()}
        alive = {name: process for name, process in running.items() if process is not None}
        return alive | self._supervisor.processes

    def _processes(self, processes: Mapping[str, psutil.Process]) -> None:
        ports = self._supervisor.ports
        alive = {name: process for name, process in processes.items() if process.is_running()}
        records = {name: ProcessRecord.of(p, ports.get(name)) for name, p in alive.items()}
        self._state = self._state.but(workers=records)
        self._state.write(self._path)


def a_stack(
    settings: Settings,
    source: str,
    *,
    fallbacks: Sequence[str] = (),
    withhold: str = "",
    feed: str = "",
    workers: int | None = None,
    partitions: int | None = None,
    upkeep: bool = True,
    tables: bool = True,
    sink: bool = True,
    tell: Tell = lambda _: None,
) -> Stack | AttachedStack:
    """Return the stack that runs, with senders of the source beside it, or one of our own.

    One that runs on other machines or in containers is seen by the groups of its workers. Enter
    it: one of our own is started then, and stopped at the end. Without a source there is no
    producer, without a feed no feeder.

    Raises
    ------
    ConfigError
        One runs, with another number of workers or partitions than asked for.
    """
    senders = [feeder_spec(feed)] if feed else []
    senders += [producer_spec(source, fallbacks, withhold)] if source else []
    state = running_stack(settings)
    elsewhere = {} if state is not None or _was_killed(settings) else workers_elsewhere(settings)
    if elsewhere.get("coordinator"):
        _check_elsewhere(settings, elsewhere, workers)
        if partitions is not None:
            check_topics(settings, {Topics(settings.namespace).session: partitions})
        attached = settings.but(data_dir=settings.data_dir.expanduser().absolute())
        return AttachedStack(attached, list(elsewhere), None, senders, tell)
    if state is None:
        return Stack(
            settings,
            coordinators=workers or 1,
            upkeep=upkeep,
            tables=tables,
            sink=sink,
            source=source,
            fallbacks=fallbacks,
            withhold=withhold,
            feed=feed,
            partitions=partitions,
            tell=tell,
        )
    if not state.is_ready:
        msg = f"the stack of namespace {state.namespace} is still starting: try again soon"
        raise SessiontapeError(msg)
    if state.source:
        msg = (
            f"the stack of namespace {state.namespace} has a source of its own: `sessiontape "
            "start` plays it; for another, take another --namespace"
        )
        raise SessiontapeError(msg)
    has = sum(name.startswith("coordinator") for name in state.workers)
    if workers is not None and workers != has:
        msg = (
            f"the running stack has {has} worker(s), not {workers}: leave --workers out, end it "
            "with `sessiontape down`, or take another --namespace"
        )
        raise ConfigError(msg)
    folder = settings.data_dir.expanduser().absolute()
    attached = settings.but(bootstrap_servers=state.bootstrap_servers, data_dir=folder)
    if partitions is not None:
        check_topics(attached, {Topics(attached.namespace).session: partitions})
    return AttachedStack(attached, list(state.workers), state.owner, senders, tell)


def _was_killed(settings: Settings) -> bool:
    """Tell whether a stack was killed here: the groups hold its workers for a while yet."""
    return StackState.read(state_path(settings.data_dir, settings.namespace)) is not None


def _check_elsewhere(settings: Settings, found: Mapping[str, int], workers: int | None) -> None:
    """Check that what runs elsewhere is what was asked for; ``found`` counts workers by kind."""
    if "producer" in found:
        msg = (
            f"the workers of namespace {settings.namespace} at {settings.bootstrap_servers} have a "
            "producer with a source of its own: end that one, or take another --namespace"
        )
        raise SessiontapeError(msg)
    if workers is not None and workers != found["coordinator"]:
        msg = (
            f"namespace {settings.namespace} has {found['coordinator']} coordinator(s) at "
            f"{settings.bootstrap_servers}, not {workers}: leave --workers out, or take another "
            "--namespace"
        )
        raise ConfigError(msg)
