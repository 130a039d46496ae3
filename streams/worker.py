"""How every Faust app of ours is made and run.

Faust never commits by itself here, never creates topics, and reads what is committed only; why
stands in docs/decisions.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import logging.config
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import faust
import uvloop
from aiokafka import conn
from aiokafka.errors import KafkaConnectionError
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams import logs
from streams.batches import Came, batches
from streams.endpoint import BEAT_S, Health, served
from streams.errors import SessiontapeError
from streams.settings import Settings

__all__ = ["UNASSIGNED", "fail", "log_to_stderr", "make_app", "run_app"]

log = logging.getLogger(__name__)

FETCH_BYTES = 8 * 2**20
BATCHES_WAITING = 256
"""Batches in line at an agent, about, behind which no more are fetched: 16 MiB but for blocks."""
TOPICS_MS = 5_000
"""Topics are looked at so often: of a broker that just came back, one may have seen none."""
COMMIT_S = 2.0
RECENT_MS = 2_000
"""A fetch takes at most a quarter of a second; one that is so old was not answered."""
HEARD_MS = 30_000
"""Without a fetch that was answered for so long, the brokers are away."""
UNASSIGNED = "the group has not said yet which shards are its own"
CRASH_S = 5.0
"""How long a worker may take to stop after a fault."""


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """Reads what is committed; Faust asks for that only with an exactly-once of its own."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = 250
        return consumer

    async def refetch(self, place: TP, offset: int, generation: int) -> None:
        """Seek, in the consumer's own thread, where rebalances happen too."""
        await self.call_thread(self._refetch, place, offset, generation)

    async def _refetch(self, place: TP, offset: int, generation: int) -> None:
        if generation == self.app.consumer_generation_id and place in self.assignment():
            await self._seek_wait(self._ensure_consumer(), {place: offset})

    async def _commit(self, offsets: Any) -> bool:
        """Commit, or give up for now: aiokafka may wait for ever for a broker that died.

        Two such waits are all that the thread can hold; then it would not even read any more.
        """
        try:
            async with asyncio.timeout(COMMIT_S):
                return bool(await super()._commit(offsets))
        except TimeoutError:
            log.warning("offsets not committed in %s s: the brokers are away", COMMIT_S)
            return False


class _Consumer(driver.Consumer):
    """Faust's consumer, which can be held up without a loss."""

    _thread: _ConsumerThread

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._held: set[TP] = set()
        self._takes_batches = cast("_App", self.app).takes_batches

    def hold(self, places: Iterable[TP]) -> None:
        """Fetch no more of some partitions; what was fetched already still comes.

        Faust's ``pause_partitions`` drops that without a word, and never reads it again.
        """
        for place in places:
            self._held.add(place)
            self.on_buffer_full(place)

    def release(self, places: Iterable[TP]) -> None:
        """Fetch of them again."""
        for place in places:
            self._held.discard(place)
            self.on_buffer_drop(place)

    def end_of(self, place: TP) -> int:
        """Return up to where a partition could be read at its last fetch; -1 where nobody knows.

        Of one that is held, or whose queue is full, more is there than is to be handed on now.
        """
        if place in self._held | self._buffered_partitions or place not in self.assignment():
            return -1
        try:
            end = self._thread._ensure_consumer().last_stable_offset(place)
        except (AssertionError, AttributeError):  # it was taken from us just now
            return -1
        return -1 if end is None else int(end)

    def is_recent(self, place: TP, within_ms: int = RECENT_MS) -> bool:
        """Tell whether what `end_of` says is of now: while the brokers are away it is not."""
        try:
            polled_ms = self._thread._ensure_consumer().last_poll_timestamp(place)
        except (AssertionError, AttributeError):
            return False
        return polled_ms is not None and time.time() * 1000 - polled_ms < within_ms

    def problem(self) -> str:
        """Return in one sentence what is wrong with the brokers; empty for nothing.

        Who fetches nothing, as it has no shard or all are held, hears nothing from them.
        """
        fetched = self.assignment() - self._held - self._buffered_partitions
        if fetched and not any(self.is_recent(place, HEARD_MS) for place in fetched):
            return f"the brokers have not answered for {HEARD_MS // 1000} s"
        return ""

    async def refetch(self, place: TP, offset: int, generation: int) -> None:
        """Fetch a partition again from an offset, unless the group has changed meanwhile."""
        await self._thread.refetch(place, offset, generation)

    def committed_at(self, place: TP) -> int:
        """Return the offset that the group had committed when the partition became ours, or 0."""
        return max(self._committed_offset[place] or 0, 0)

    def on_buffer_drop(self, tp: TP) -> None:
        """Go on with a partition whose queue has room again, unless it is held."""
        if tp not in self._held:
            super().on_buffer_drop(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what is another worker's now."""
        self._held -= revoked
        self._buffered_partitions -= revoked
        await super().on_partitions_revoked(revoked)

    async def _getmany(self, *args: Any, **options: Any) -> Any:
        """Fetch; where the app takes batches, what came of a partition is cut into some."""
        records = await super()._getmany(*args, **options)
        if not self._takes_batches or not records:
            return records
        return {place: batches(came) for place, came in records.items()}

    def _to_message(self, tp: TP, record: Any) -> Any:
        """Return a message; that of a batch stands at its last offset and has all as its value."""
        if not self._takes_batches:
            return super()._to_message(tp, record)
        message: Any = super()._to_message(tp, record[-1])
        message.value = tuple(Came(one.offset, one.value) for one in record)
        return message

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Forget where offsets are missing: Faust asks that only to commit, which it never does.

        Every transaction leaves a gap, and the tree of them costs more with each.
        """


class _Producer(driver.Producer):
    """Writes each message once: a batch that is sent again for want of an answer is no second."""

    def _settings_extra(self) -> dict[str, Any]:
        return {**super()._settings_extra(), "enable_idempotence": True}


class _Transport(driver.Transport):
    Consumer = _Consumer
    Producer = _Producer


class _App(faust.App):
    takes_batches = False

    def _new_transport(self) -> _Transport:
        return _Transport(self.conf.broker_consumer, self)

    def _crash(self, reason: BaseException) -> None:
        """End soon, whatever Faust still waits for; every fault of it or of ours comes here.

        Its stop may hang when its consumer's thread died with the connection. What is not
        committed is done again by the next owner, so an end at any point is as good as another.
        """
        if not self.crashed:
            last_resort = threading.Timer(CRASH_S, os._exit, (1,))
            last_resort.daemon = True
            last_resort.start()
        super()._crash(reason)


class _Connection(conn.AIOKafkaConnection):
    """aiokafka's connection, at home under uvloop."""

    def send(self, request: Any, expect_response: bool = True) -> Any:
        """Send, or say that the connection is gone."""
        with self._gone():
            return super().send(request, expect_response)

    def _send_sasl_token(self, payload: Any, expect_response: bool = True) -> Any:
        with self._gone():
            return super()._send_sasl_token(payload, expect_response)

    @contextmanager
    def _gone(self) -> Iterator[None]:
        """Make an error of the connection of a write on one that was closed meanwhile.

        uvloop raises a ``RuntimeError`` for it, where asyncio's own loop raises nothing; aiokafka
        expects neither there and would end for it.
        """
        try:
            yield
        except RuntimeError as exc:
            self.close(reason=conn.CloseReason.CONNECTION_BROKEN)
            msg = f"connection to {self.host}:{self.port} is closed"
            raise KafkaConnectionError(msg) from exc


conn.AIOKafkaConnection = _Connection


def make_app(settings: Settings, name: str, *, takes_batches: bool = False, **changes: Any) -> Any:
    """Return a Faust app named ``name``, which is its consumer group too.

    Parameters
    ----------
    settings
        Brokers and namespace.
    name
        Id of the app.
    takes_batches
        Whether each message that an agent gets is a batch, its value a tuple of `Came`.
    changes
        Settings of Faust that differ.
    """
    servers = settings.bootstrap_servers.split(",")
    datadir = settings.data_dir / "faust" / name
    datadir.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "broker": [f"kafka://{server.strip()}" for server in servers],
        "broker_credentials": _credentials(settings),
        "broker_session_timeout": settings.broker_session_timeout_s,
        "broker_heartbeat_interval": settings.broker_session_timeout_s / 3,
        "broker_request_timeout": max(30.0, settings.broker_session_timeout_s * 2),
        "broker_check_crcs": False,
        "consumer_max_fetch_size": FETCH_BYTES,
        "consumer_metadata_max_age_ms": TOPICS_MS,
        "producer_request_timeout": 30.0,
        "datadir": str(datadir),
        "store": "memory://",
        "autodiscover": False,
        "web_enabled": False,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "stream_wait_empty": False,
        "key_serializer": "raw",
        "value_serializer": "raw",
        "loghandlers": [],
    }
    if takes_batches:
        options["stream_buffer_maxsize"] = BATCHES_WAITING
    app = _App(name, **(options | changes))
    app.takes_batches = takes_batches
    return app


def _credentials(settings: Settings) -> Any:
    if settings.security_protocol == "PLAINTEXT":
        return None
    context = None
    if settings.security_protocol.endswith("SSL"):
        ca = settings.ssl_ca_location
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        if settings.ssl_certificate_location is not None:
            context.load_cert_chain(
                settings.ssl_certificate_location,
                settings.ssl_key_location,
                settings.ssl_key_password.get_secret_value() or None,
            )
    if settings.security_protocol == "SSL":
        return SSLCredentials(context=context)
    return SASLCredentials(
        username=settings.sasl_username,
        password=settings.sasl_password.get_secret_value(),
        mechanism=settings.sasl_mechanism,
        ssl_context=context,
    )


def log_to_stderr(settings: Settings) -> None:
    """Log one line a record to stderr."""
    logs.log_to_stderr(settings, force=True)
    for noisy in ("faust", "mode", "aiokafka", "kafka"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


async def fail(app: Any, exc: BaseException) -> None:
    """Log a fault and end the process for it with exit code 1."""
    if isinstance(exc, SessiontapeError):
        log.error("%s", exc)  # the sentence says it; a trace says no more
    else:
        log.error("a fault of ours", exc_info=exc)
    await app.crash(exc)


def run_app(app: Any, settings: Settings, kind: str, problem: Callable[[], str]) -> None:
    """Run an app until SIGTERM or a fault; a fault ends the process with exit code 1.

    Parameters
    ----------
    app, settings
        What `make_app` gave, and its settings.
    kind
        What the worker is called in its metrics.
    problem
        Returns in one sentence why the worker can't work; empty where it can.
    """
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    log_to_stderr(settings)
    health = Health()

    async def beat() -> None:
        health.beat(problem() or app.consumer.problem())

    app.timer(BEAT_S)(beat)
    is_json = settings.log_format == "json"
    worker = faust.Worker(
        app,
        loglevel=settings.log_level.upper(),
        redirect_stdouts=False,
        override_logging=False,
        quiet=is_json,
        workdir=Path.cwd(),
    )
    if is_json:  # what turns while it starts is none
        worker.spinner = None
    # What was loaded stays: a collection that looks through it all holds a slice up for 80 ms.
    gc.collect()
    gc.freeze()
    with served(settings, kind, health):
        worker.execute_from_commandline()
