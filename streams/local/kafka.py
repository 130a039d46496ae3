"""What Apache Kafka is told on one machine, and what its log says when it can't start."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "HEAP_MB",
    "HOST",
    "JVM_FLAGS",
    "PORT_TAKEN",
    "VERSION",
    "Guard",
    "command",
    "diagnose",
    "properties",
]

HOST = "127.0.0.1"
VERSION = "4.1.1"
# Measured with 1 MB messages at full speed: less keeps the collector busy, more buys nothing.
HEAP_MB = 384
JVM_FLAGS = (
    # On two cores G1's threads take their time from the workers: measured, see `HEAP_MB`.
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    # JDK 25 warns of a dozen adapters that its AOT cache holds under other names, and buys nothing.
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-AOTAdapterCaching",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)

# What a broker of one machine, one node and one user needs; listeners and folder come on top.
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    # A topic that nobody created is a mistake, not a topic with one partition.
    "auto.create.topics.enable": "false",
    # A replay of 2013 must not expire by the time of its bars; and what expires is ours to say.
    "log.message.timestamp.type": "LogAppendTime",
    "log.retention.ms": "-1",
    "log.retention.bytes": "-1",
    "message.max.bytes": str(2 * 1024 * 1024),
    # Small segments, looked at often: deleted records give their disk back while a replay runs.
    "log.segment.bytes": str(64 * 1024 * 1024),
    "log.retention.check.interval.ms": "10000",
    "log.segment.delete.delay.ms": "1000",
    "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.segment.bytes": str(16 * 1024 * 1024),
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.segment.bytes": str(16 * 1024 * 1024),
    # A transaction whose owner is dead and gone is ended soon after its time is up.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # After a crash the node waits until its former self is given up: 9 s if left alone.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
}

PORT_TAKEN = "Address already in use"
_REASONS = {
    PORT_TAKEN: "a port that was free was taken meanwhile: try again",
    "No space left on device": "the disk is full: free some space, or choose another folder",
    "Read-only file system": "its folder is read-only: choose another folder",
    "Failed to acquire lock": "another broker is using its folder: stop it, or choose another",
    "OutOfMemoryError": "its heap is too small: give it more megabytes",
    "Could not reserve enough space": "too little memory is free on this machine for its heap",
}
_LOG_TAIL = 200_000
PLAIN = "PLAINTEXT"


@dataclass(frozen=True, slots=True)
class Guard:
    """What a broker asks of its clients; by default nothing.

    Attributes
    ----------
    protocol
        Security protocol of the clients' listener, which the broker speaks to itself too.
    properties
        Settings of the broker on top of ours: its certificate, its authorizer.
    format
        Arguments of the storage tool when the folder is made, such as ``--add-scram=…``.
    client
        Properties of confluent-kafka with which a client is let in.
    others
        Ports at `HOST` of further listeners for clients, by their protocols.
    """

    protocol: str = PLAIN
    properties: Mapping[str, str] = field(default_factory=dict)
    format: tuple[str, ...] = ()
    client: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)


OPEN = Guard()
"""Who is on this machine is let in."""


def properties(data_dir: Path, ports: dict[str, int], guard: Guard = OPEN) -> str:
    """Return the text of server.properties.

    Parameters
    ----------
    data_dir
        Folder of the broker; its messages go into ``data`` there.
    ports
        Ports at `HOST`: ``client`` and ``controller``.
    guard
        What is asked of clients.
    """
    client, controller = (f"{HOST}:{ports[name]}" for name in ("client", "controller"))
    listeners = {guard.protocol: client}
    listeners |= {protocol: f"{HOST}:{port}" for protocol, port in guard.others.items()}
    offered = ",".join(f"{protocol}://{place}" for protocol, place in listeners.items())
    protocols = "".join(f",{protocol}:{protocol}" for protocol in listeners)
    settings = _SETTINGS | {
        "listeners": f"{offered},CONTROLLER://{controller}",
        "advertised.listeners": offered,
        "listener.security.protocol.map": f"CONTROLLER:{PLAIN}{protocols}",
        "security.inter.broker.protocol": guard.protocol,
        "controller.quorum.voters": f"1@{controller}",
        # A backslash escapes in a Java properties file.
        "log.dirs": str(data_dir / "data").replace("\\", "\\\\"),
        **guard.properties,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def command(java: Path, classpath: list[Path], heap_mb: int, data_dir: Path) -> list[str]:
    """Return the command line up to the class to run."""
    return [
        str(java),
        f"-Xmx{heap_mb}m",
        *JVM_FLAGS,
        f"-XX:ErrorFile={data_dir / 'jvm-crash.log'}",
        # Network threads cache buffers outside the heap; without this, of any size.
        "-Djdk.nio.maxCachedBufferSize=262144",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}",
        f"-Dsessiontape.log={data_dir / 'broker.log'}",
        "-cp",
        ":".join(map(str, classpath)),
    ]


def diagnose(*logs: Path) -> tuple[str, str]:
    """Look into logs for why Kafka ended.

    Returns
    -------
    tuple[str, str]
        The words found in a log (such as `PORT_TAKEN`, or ``""``), and what they mean to a person.
    """
    text = ""
    for log in logs:
        with suppress(OSError):
            text += log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
    for sign, reason in _REASONS.items():
        if sign in text:
            return sign, reason
    return "", "the end of its log says why"
