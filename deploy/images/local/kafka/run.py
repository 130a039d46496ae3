"""Start Kafka as the official image does: KAFKA_… variables become server.properties.

``KAFKA_LOG_DIRS`` is ``log.dirs``; ``__`` stands for ``_`` and ``___`` for ``-``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HOME = Path("/opt/kafka")
CONFIG = Path("/tmp/server.properties")  # noqa: S108 - the root file system may be read-only
NO_PROPERTY = {"KAFKA_HEAP_OPTS", "KAFKA_OPTS", "KAFKA_VERSION", "KAFKA_JVM_PERFORMANCE_OPTS"}
CLUSTER = "5L6g3nShT-eMCtK--X86sw"
# Those of the official image, for who sets nothing but addresses.
DEFAULTS = {"log.dirs": "/var/lib/kafka/data", "controller.listener.names": "CONTROLLER"}
JVM_FLAGS = (
    # A test's broker lives for a minute: what the second compiler would win comes too late.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Djdk.nio.maxCachedBufferSize=262144",
    "-Djava.awt.headless=true",
    f"-Dlog4j2.configurationFile={HOME / 'log4j2.properties'}",
)


def properties(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the broker's properties that an environment asks for."""
    found = dict(DEFAULTS)
    for name, value in environment.items():
        if name.startswith("KAFKA_") and name not in NO_PROPERTY:
            plain = name.removeprefix("KAFKA_").lower().replace("___", "-").replace("__", "\0")
            found[plain.replace("_", ".").replace("\0", "_")] = value
    return found


def main() -> None:
    """Format the folder if it is new, then become the broker."""
    lines = (f"{name}={value}\n" for name, value in properties(os.environ).items())
    CONFIG.write_text("".join(lines), encoding="utf-8")
    heap = os.environ.get("KAFKA_HEAP_OPTS", "-Xmx384m").split()
    extra = os.environ.get("KAFKA_OPTS", "").split()
    classpath = (HOME / "classpath").read_text(encoding="utf-8").strip()
    java = ["/opt/java/bin/java", *heap, *JVM_FLAGS, *extra, "-cp", classpath]
    cluster = os.environ.get("CLUSTER_ID", CLUSTER)
    formatting = ["kafka.tools.StorageTool", "format", "--ignore-formatted"]
    arguments = [f"--config={CONFIG}", f"--cluster-id={cluster}"]
    done = subprocess.run([*java, *formatting, *arguments], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    os.execv(java[0], [*java, "kafka.Kafka", str(CONFIG)])  # noqa: S606


if __name__ == "__main__":
    main()
