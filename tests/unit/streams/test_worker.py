"""How Faust is set up: brokers, credentials, and what it may not do by itself."""

from __future__ import annotations

import asyncio
import datetime
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from aiokafka import conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from streams import worker
from streams.endpoint import BEAT_S, Health
from streams.settings import Settings, load
from streams.worker import log_to_stderr, make_app


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load().but(bootstrap_servers="one:9092, two:9093", data_dir=tmp_path)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate signed by itself, and its key under a password."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = (tmp_path / "cert.pem", tmp_path / "key.pem")
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hush"),
        )
    )
    return paths


def test_what_was_fetched_before_a_partition_is_held_still_comes(settings: Settings) -> None:
    place, other = TP("tape.raw.bars", 0), TP("tape.raw.bars", 1)
    record = SimpleNamespace(
        topic=place.topic,
        partition=0,
        timestamp=0,
        timestamp_type=0,
        headers=(),
        key=b"",
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=1,
    )
    records = [SimpleNamespace(**vars(record), offset=offset, value=b"1") for offset in range(5)]

    async def fetched(consumer: Any) -> list[int]:
        async def batch(_: float) -> tuple[dict[TP, list[Any]], set[TP]]:
            return {place: records}, consumer._get_active_partitions()

        consumer._wait_next_records = batch
        consumer.highwater = lambda _: 5
        found = []
        async for at, message in consumer.getmany(0.1):
            found.append(message.offset)
            consumer.hold([at])
        return found

    async def nothing(*_: Any) -> None:
        pass

    async def play() -> None:
        app = make_app(settings, "tape.coordinator")
        consumer = app.transport.create_consumer(
            nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing
        )
        consumer.resume_flow()
        consumer._set_active_tps({place, other})
        assert await fetched(consumer) == [0, 1, 2, 3, 4]
        assert consumer._get_active_partitions() == {other}
        consumer.on_buffer_drop(place)  # its queue has room: it is held all the same
        assert consumer._get_active_partitions() == {other}
        consumer.release([place])
        assert consumer._get_active_partitions() == {place, other}
        consumer.hold([place, other])
        await consumer.on_partitions_revoked({place})
        consumer._set_active_tps({place})
        consumer.on_buffer_full(place)
        consumer.on_buffer_drop(place)
        assert consumer._get_active_partitions() == {place}
        consumer._thread.thread_loop.close()

    asyncio.run(play())


async def test_where_a_partition_ends_and_began(settings: Settings) -> None:
    place = TP("tape.raw.bars", 0)
    ends: list[int | type[Exception] | None] = [7, None, AssertionError, AttributeError]

    async def nothing(*_: Any) -> None:
        pass

    class Read:
        def last_stable_offset(self, asked: TP) -> int | None:
            assert asked == place
            end = ends[0]
            if isinstance(end, type):
                raise end
            return end

    app = make_app(settings, "tape.coordinator")
    consumer = app.transport.create_consumer(
        nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing
    )
    sought: list[dict[TP, int]] = []

    consumer._thread.thread_loop.close()
    consumer._thread = SimpleNamespace(assignment=lambda: {place}, _ensure_consumer=Read)
    assert consumer.end_of(place) == 7
    assert consumer.end_of(TP("tape.raw.bars", 1)) == -1  # another worker's
    consumer.hold([place])
    assert consumer.end_of(place) == -1
    consumer.release([place])
    consumer.on_buffer_full(place)
    assert consumer.end_of(place) == -1
    consumer.on_buffer_drop(place)
    while ends[1:]:
        ends.pop(0)
        assert consumer.end_of(place) == -1
    assert consumer.committed_at(place) == 0
    for committed, offset in ((-1, 0), (None, 0), (5, 5)):
        consumer._committed_offset[place] = committed
        assert consumer.committed_at(place) == offset

    class Thread(worker._ConsumerThread):
        def __init__(self) -> None:
            self.app = app

        def assignment(self) -> set[TP]:
            return {place}

        def _ensure_consumer(self) -> Any:
            return Read()

        async def _seek_wait(self, _: Any, places: Mapping[TP, int]) -> None:
            sought.append(dict(places))

    thread = Thread()
    app.consumer_generation_id = 3
    await thread._refetch(place, 4, 2)  # of a generation that is over
    await thread._refetch(TP("tape.raw.bars", 1), 4, 3)
    assert sought == []
    await thread._refetch(place, 4, 3)
    assert sought == [{place: 4}]


def test_faust_does_nothing_by_itself(settings: Settings) -> None:
    app = make_app(settings, "tape.coordinator", broker_commit_interval=9.0)
    assert [str(url) for url in app.conf.broker] == ["kafka://one:9092", "kafka://two:9093"]
    assert (app.conf.id, app.conf.broker_commit_interval) == ("tape.coordinator", 9.0)
    assert not app.conf.topic_allow_declare
    assert not app.conf.web_enabled
    assert not app.conf.stream_wait_empty
    assert app.conf.broker_credentials is None
    # A batch may be of 64 KiB: fewer of them may be in line than of messages.
    assert app.conf.stream_buffer_maxsize > worker.BATCHES_WAITING
    batched = make_app(settings, "tape.upkeep", takes_batches=True)
    assert batched.conf.stream_buffer_maxsize == worker.BATCHES_WAITING
    assert (settings.data_dir / "faust" / "tape.coordinator").is_dir()


def test_sasl_without_tls(settings: Settings) -> None:
    password = "open sesame"
    changed = settings.but(
        security_protocol="SASL_PLAINTEXT", sasl_username="reader", sasl_password=password
    )
    credentials = make_app(changed, "a").conf.broker_credentials
    assert isinstance(credentials, SASLCredentials)
    assert (credentials.username, credentials.password) == ("reader", password)
    assert credentials.mechanism.value == "SCRAM-SHA-512"
    assert credentials.ssl_context is None


def test_tls_with_a_certificate_of_our_own(
    settings: Settings, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    changed = settings.but(
        security_protocol="SSL",
        ssl_ca_location=cert,
        ssl_certificate_location=cert,
        ssl_key_location=key,
        ssl_key_password="hush",
    )
    credentials = make_app(changed, "a").conf.broker_credentials
    assert isinstance(credentials, SSLCredentials)
    assert credentials.context.get_ca_certs()[0]["subject"] == ((("commonName", "localhost"),),)


def test_sasl_over_tls_has_both(settings: Settings, certificate: tuple[Path, Path]) -> None:
    changed = settings.but(security_protocol="SASL_SSL", ssl_ca_location=certificate[0])
    credentials = make_app(changed, "a").conf.broker_credentials
    assert isinstance(credentials, SASLCredentials)
    assert credentials.ssl_context is not None


def test_a_fault_ends_the_process_even_where_faust_hangs() -> None:
    hanging = """
import asyncio, streams.worker as worker
from streams.settings import load
worker.CRASH_S = 0.2
async def work():
    app = worker.make_app(load(), "tape.coordinator")
    asyncio.get_running_loop().create_task(app.crash(ValueError("a fault of Faust")))
    await asyncio.Event().wait()
asyncio.run(work())
"""
    done = subprocess.run([sys.executable, "-c", hanging], timeout=60, check=False)
    assert done.returncode == 1


async def test_what_a_worker_writes_is_written_once(settings: Settings) -> None:
    producer = make_app(settings, "tape.tables").producer
    assert producer._settings_extra()["enable_idempotence"]
    assert producer.acks == -1


@pytest.mark.parametrize(
    "send",
    [lambda made: made.send(ApiVersionRequest()), lambda made: made._send_sasl_token(b"token")],
    ids=["request", "sasl"],
)
def test_a_write_on_a_closed_connection_is_an_error_of_the_connection(
    send: Callable[[Any], Any],
) -> None:
    closed: list[object] = []

    async def play(port: int) -> None:
        made = conn.AIOKafkaConnection(
            "127.0.0.1", port, on_close=lambda _, why: closed.append(why)
        )
        # Not by ``connect``: it asks for the broker's versions, and waits for an answer.
        made._reader, made._writer = await asyncio.open_connection("127.0.0.1", port)
        made._writer.transport.abort()
        assert await made._reader.read() == b""
        made._read_task = made._create_reader_task()  # which has not noticed yet
        gone = f"connection to 127.0.0.1:{port} is closed"
        with pytest.raises(KafkaConnectionError, match=gone):
            send(made)

    with socket.create_server(("127.0.0.1", 0)) as server:
        uvloop.run(play(server.getsockname()[1]))
    assert closed == [conn.CloseReason.CONNECTION_BROKEN]


async def test_a_commit_gives_up_for_now_while_the_brokers_are_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def commit(_: object, offsets: dict[str, int]) -> bool:
        if not offsets:
            await asyncio.Event().wait()
        return True

    monkeypatch.setattr(AIOKafkaConsumerThread, "_commit", commit)
    monkeypatch.setattr(worker, "COMMIT_S", 0.05)
    thread = worker._ConsumerThread.__new__(worker._ConsumerThread)
    assert await thread._commit({"place": 3})
    assert not await thread._commit({})
    assert "offsets not committed in 0.05 s" in caplog.text


def test_faust_and_its_libraries_log_warnings_only(settings: Settings) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    try:
        log_to_stderr(settings.but(log_level="debug"))
        assert root.level == logging.DEBUG
        assert logging.getLogger("aiokafka").level == logging.WARNING
        assert len(root.handlers) == 1
    finally:
        root.handlers[:], _ = before
        root.setLevel(before[1])


async def test_whose_fetches_are_not_answered_says_that_the_brokers_are_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, other = TP("tape.raw.bars", 0), TP("tape.raw.ticks", 0)
    polled: dict[TP, float | None] = {place: None, other: None}
    ours: set[TP] = set()

    async def nothing(*_: Any) -> None:
        pass

    app = make_app(settings, "tape.coordinator")
    consumer = app.transport.create_consumer(
        nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing
    )
    consumer._thread.thread_loop.close()
    read = SimpleNamespace(last_poll_timestamp=polled.__getitem__)
    consumer._thread = SimpleNamespace(assignment=lambda: ours, _ensure_consumer=lambda: read)
    monkeypatch.setattr("streams.worker.time.time", lambda: 1_000.0)
    assert consumer.problem() == ""  # it has no shard
    ours |= {place, other}
    assert consumer.problem() == "the brokers have not answered for 30 s"
    polled[other] = 970_001
    assert consumer.problem() == ""
    polled[other] = 970_000
    assert consumer.problem() != ""
    consumer.hold([place, other])
    assert consumer.problem() == ""  # nothing is fetched


def test_a_worker_is_served_under_its_kind_and_tells_what_it_lacks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    lacks = ["no shard yet", "", ""]
    away = ["the brokers are away"]

    @contextmanager
    def served(_: Settings, kind: str, health: Health) -> Iterator[int]:
        seen.update(kind=kind, health=health)
        yield 0

    class Worker:
        def __init__(self, app: Any, **options: Any) -> None:
            seen.update(quiet=options["quiet"])

        def execute_from_commandline(self) -> None:
            async def beat() -> None:
                for _ in range(2):
                    await seen["beat"]()
                    seen.setdefault("said", []).append(seen["health"].problem())
                away.clear()
                await seen["beat"]()
                seen["said"].append(seen["health"].problem())

            asyncio.run(beat())

    def timer(every_s: float) -> Callable[[Any], None]:
        assert every_s == BEAT_S
        return lambda beat: seen.update(beat=beat)

    app = SimpleNamespace(
        timer=timer, consumer=SimpleNamespace(problem=lambda: away[0] if away else "")
    )
    monkeypatch.setattr(worker, "served", served)
    monkeypatch.setattr("faust.Worker", Worker)
    monkeypatch.setattr(worker, "log_to_stderr", lambda _: None)
    monkeypatch.setattr("asyncio.set_event_loop_policy", lambda _: None)
    worker.run_app(app, settings.but(log_format="json"), "tables", lambda: lacks.pop(0))
    assert seen["kind"] == "tables"
    assert seen["quiet"] is True
    assert seen["said"] == ["no shard yet", "the brokers are away", ""]
