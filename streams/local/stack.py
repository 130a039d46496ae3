"""The whole stack on one machine: broker, topics and workers, started, watched and stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil

from sinks.owner import owner_of
from streams.errors import SessiontapeError
from streams.groups import members_of
from streams.kafka import admin, ensure_topics
from streams.local.broker import LocalBroker
from streams.local.groups import group_of, readers_of, workers_elsewhere
from streams.local.process import ProcessRecord
from streams.local.running import broker_folder
from streams.local.state import StackState, locked, stack_states, state_path
from streams.local.workers import Supervisor, WorkerSpec, log_path
from streams.settings import Settings
from streams.topics import Topics

__all__ = ["Stack", "feeder_spec", "producer_spec"]

BROKER_POLL_S = 0.1

Tell = Callable[[str], None]


class Stack:
    """Broker, topics and workers of one namespace; ``with`` starts and stops them.

    Parameters
    ----------
    settings
        What to start; with ``bootstrap_servers`` the brokers are somebody else's.
    coordinators
        Number of coordinator processes.
    upkeep, tables, sink
        Whether there are the upkeep, the session_data tables and the sink.
    source, fallbacks, withhold
        What a producer answers requests from, see `producer_spec`; no source, no producer.
    feed
        URI of the feed that a feeder sends rows of in a live run; empty for no feeder.
    partitions
        Shards of the namespace, or what says how many once the brokers are there, given the
        settings with their address; None takes those it has, or those of the settings.
    kind
        ``up`` or ``replay``, for whoever finds it.
    tell
        Told in words what is done and what goes wrong.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        coordinators: int = 1,
        upkeep: bool = True,
        tables: bool = True,
        sink: bool = True,
        source: str = "",
        fallbacks: Sequence[str] = (),
        withhold: str = "",
        feed: str = "",
        partitions: int | Callable[[Settings], int] | None = None,
        kind: str = "replay",
        tell: Tell = lambda _: None,
    ) -> None:
        self.settings = settings.but(data_dir=settings.data_dir.expanduser().absolute())
        self._wanted = partitions
        self.partitions = 0 if partitions is None or callable(partitions) else partitions
        senders = [feeder_spec(feed)] if feed else []
        senders += [producer_spec(source, fallbacks, withhold)] if source else []
        self._specs = _specs(senders, coordinators, upkeep=upkeep, tables=tables, sink=sink)
        self._tell = tell
        self._broker: LocalBroker | None = None
        self._path = state_path(self.settings.data_dir, settings.namespace)
        self._state = StackState(
            settings.namespace,
            kind,
            ProcessRecord.of(psutil.Process()),
            bootstrap_servers=settings.bootstrap_servers,
            source=source,
            fallbacks=tuple(fallbacks),
        )
        self._writing = threading.Lock()
        self._supervisor: Supervisor | None = None
        self._stopped = threading.Event()
        self._watch = threading.Thread(target=self._watch_broker, name="broker", daemon=True)
        self._failure: SessiontapeError | None = None
        self._is_ours = False

    def __enter__(self) -> Self:
        """Start it; when that fails nothing of it is left."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Start what is not there and wait until all of it works.

        Raises
        ------
        SessiontapeError
            A stack of this namespace runs already.
        BrokerError, TopicError, WorkerError
            Broker, topics or workers can't be had.
        """
        folder = self.settings.data_dir
        with locked(folder):
            self._claim()
            if not self.settings.bootstrap_servers:
                self._start_broker()
        self.partitions = self._topics()
        self._doing("starting the workers")
        self._supervisor = Supervisor(self.settings, self._tell, self._processes)
        self._supervisor.start(self._specs)
        if self._broker is not None and self._state.owns_broker:
            self._watch.start()
        self._await_ready(self._supervisor)
        self._write(is_ready=True, doing="")

    def stop(self) -> None:
        """Stop the workers, and the broker with the last stack that uses it."""
        self._stopped.set()
        if self._watch.is_alive():
            self._watch.join()
        if self._supervisor is not None:
            killed = self._supervisor.stop()
            self._supervisor = None
            if killed and self._broker is None:
                self._await_gone()
        if not self._is_ours:
            return
        with locked(self.settings.data_dir):
            others = [s for s in stack_states(self.settings.data_dir) if s.is_live]
            others = [s for s in others if s.namespace != self.settings.namespace]
            if self._broker is not None and self._state.owns_broker and not others:
                self._broker.stop()
            self._path.unlink(missing_ok=True)
            self._is_ours = False

    def check(self) -> None:
        """Raise what can't be mended: a worker or the broker that does not stay up."""
        if self._supervisor is not None:
            self._supervisor.check()
        if self._failure is not None:
            raise self._failure

    @property
    def processes(self) -> dict[str, psutil.Process]:
        """Its processes by name, the broker too if it is ours."""
        found = {} if self._supervisor is None else self._supervisor.processes
        if self._broker is not None and self._broker.pid is not None:
            with suppress(psutil.NoSuchProcess):
                found["broker"] = psutil.Process(self._broker.pid)
        return found

    @property
    def broker(self) -> LocalBroker | None:
        """The local broker, None when the brokers are somebody else's."""
        return self._broker

    @property
    def readers(self) -> tuple[str, ...]:
        """Groups of the workers that read the session topic."""
        return readers_of(self.settings, [spec.name for spec in self._specs])

    @property
    def has_producer(self) -> bool:
        """Whether a producer of its own answers requests."""
        return any(spec.name == "producer" for spec in self._specs)

    @property
    def has_upkeep(self) -> bool:
        """Whether an upkeep fills gaps."""
        return any(spec.name == "upkeep" for spec in self._specs)

    # Start.

    def _claim(self) -> None:
        found = StackState.read(self._path)
        if found is not None and found.is_live:
            msg = (
                f"a stack of namespace {found.namespace} runs already (pid {found.owner.pid}): "
                "use it, end it with `sessiontape down`, or take another --namespace"
            )
            raise SessiontapeError(msg)
        if found is not None and (left := found.end_workers()):
            self._tell(f"ended what a killed stack had left: {', '.join(left)}")
        self._is_ours = True
        self._write(doing="starting")

    def _start_broker(self) -> None:
        folder = self.settings.data_dir
        owns = any(s.owns_broker for s in stack_states(folder) if s.is_live)
        broker = LocalBroker.find(broker_folder(self.settings))
        if broker is None:
            broker = LocalBroker(broker_folder(self.settings), cache_dir=self.settings.cache_dir)
            # Written first: whoever finds us dead knows that the broker was ours.
            self._write(owns_broker=True)
            self._broker = broker
            broker.start(progress=self._doing)
        else:
            self._write(owns_broker=owns)
        self._broker = broker
        self.settings = self.settings.but(bootstrap_servers=broker.bootstrap_servers)
        self._write(bootstrap_servers=broker.bootstrap_servers)

    def _topics(self) -> int:
        shards = self._wanted(self.settings) if callable(self._wanted) else self.partitions
        return ensure_topics(self.settings, shards)

    def _await_ready(self, supervisor: Supervisor) -> None:
        waiting = list(self._specs)

        def still() -> list[str]:
            groups = {name for spec in waiting if (name := _group(self.settings, spec))}
            found = members_of(client, groups)
            waiting[:] = [spec for spec in waiting if not self._is_up(spec, found)]
            names = [spec.name for spec in waiting]
            if names:
                self._doing(f"waiting for {', '.join(names)}")
            return names

        with admin(self.settings) as client:
            supervisor.await_ready(still)

    def _is_up(self, spec: WorkerSpec, found: Mapping[str, tuple[int, int]]) -> bool:
        """Tell whether a worker has taken up its work, by what can be seen from outside."""
        group = _group(self.settings, spec)
        if spec.name == "feeder":  # it has nothing to do before a live run begins
            return True
        if group:
            members, shards = found.get(group, (0, 0))
            wanted = sum(_group(self.settings, other) == group for other in self._specs)
            return members == wanted and shards >= self.partitions
        if self.settings.clickhouse_dsn:
            log = log_path(self.settings, spec.name)
            return "up: " in log.read_text(encoding="utf-8", errors="replace")
        owner = owner_of(self.settings)
        process = self.processes.get(spec.name)
        return owner is not None and bool(owner.port) and process == _process(owner.pid)

    # Watch.

    def _watch_broker(self) -> None:
        broker = self._broker
        if broker is None:
            return
        while not self._stopped.wait(BROKER_POLL_S):
            if broker.running:
                continue
            self._tell("the broker died: starting it again")
            try:
                with locked(self.settings.data_dir):
                    if LocalBroker.find(broker.data_dir) is None:
                        broker.start()
            except SessiontapeError as exc:
                self._failure = exc
                self._write(failure=str(exc))
                return

    def _processes(self, processes: Mapping[str, psutil.Process]) -> None:
        ports = {} if self._supervisor is None else self._supervisor.ports
        records = {}
        for name, process in processes.items():
            with suppress(psutil.NoSuchProcess):
                records[name] = ProcessRecord.of(process, ports.get(name))
        if self._is_ours:
            self._write(workers=records)

    def _await_gone(self) -> None:
        """Wait until the brokers know that killed workers are: else they look like others'."""
        deadline_s = time.monotonic() + 2 * self.settings.broker_session_timeout_s
        with suppress(SessiontapeError):
            while workers_elsewhere(self.settings).keys() - {"sink"}:
                if time.monotonic() > deadline_s:
                    return
                time.sleep(BROKER_POLL_S)

    def _doing(self, what: str) -> None:
        if what != self._state.doing:
            self._tell(what)
            self._write(doing=what)

    def _write(self, **changes: object) -> None:
        with self._writing:
            self._state = self._state.but(**changes)
            self._state.write(self._path)


def producer_spec(source: str, fallbacks: Sequence[str] = (), withhold: str = "") -> WorkerSpec:
    """Return the producer of some sources.

    Parameters
    ----------
    source
        URI of the primary source.
    fallbacks
        URIs of those that are asked for a gap after it, in order.
    withhold
        What the primary source is made to lack, such as ``2%@7``; empty for nothing.
    """
    argv = ["streams.producer", "--source", source]
    for fallback in fallbacks:
        argv += ["--fallback", fallback]
    argv += ["--withhold", withhold] if withhold else []
    return WorkerSpec("producer", tuple(argv))


def feeder_spec(feed: str) -> WorkerSpec:
    """Return the feeder of a feed, see ``streams.feeds``."""
    return WorkerSpec("feeder", ("streams.feeder", "--source", feed))


def _specs(
    senders: Sequence[WorkerSpec], coordinators: int, *, upkeep: bool, tables: bool, sink: bool
) -> list[WorkerSpec]:
    """Return the workers in the order in which they are stopped: from the source down."""
    found = [*senders]
    found += [
        WorkerSpec(f"coordinator-{number}", ("streams.coordinator",), 5.0)
        for number in range(1, coordinators + 1)
    ]
    if upkeep:
        found.append(WorkerSpec("upkeep", ("streams.upkeep",)))
    if tables:
        found.append(WorkerSpec("tables", ("streams.tables",)))
    if sink:
        found.append(WorkerSpec("sink", ("sinks",), 20.0))
    return found


def _group(settings: Settings, spec: WorkerSpec) -> str:
    """Return the consumer group whose members show that a worker is up; empty where none does."""
    kind = spec.name.partition("-")[0]
    is_seen = kind in ("coordinator", "upkeep", "tables", "producer")
    return group_of(Topics(settings.namespace), kind) if is_seen else ""


def _process(pid: int) -> psutil.Process | None:
    with suppress(psutil.Error):
        return psutil.Process(pid)
    return None
