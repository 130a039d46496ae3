"""Resolve Kafka's jars anew and write their lock: `make lock-jars`."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from jgo.maven import MavenContext

from streams.local.jars import LOCK

KAFKA = "org.apache.kafka:kafka_2.13:4.1.1"
# Kafka logs by slf4j 1.7; this hands it to log4j 2, in the version that Kafka depends on.
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"


def main() -> None:
    """Write the coordinate and checksum of every jar that the broker needs at run time."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=60)
        root = [context.create_dependency(KAFKA)]
        inputs, transitive = context.resolver.resolve(root)
        lines = []
        for dependency in [*inputs, *transitive, context.create_dependency(LOGGING)]:
            coordinate = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
            sha256 = hashlib.sha256(dependency.artifact.resolve().read_bytes()).hexdigest()
            lines.append(f"{sha256}  {coordinate}\n")
    LOCK.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
