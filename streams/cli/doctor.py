"""``doctor``: what is needed, and whether it is here."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from streams.cli.options import Json, Namespace, settings_of
from streams.cli.output import print_json, print_table

if TYPE_CHECKING:
    from streams.settings import Settings

__all__ = ["doctor"]

MEMORY_MB = 2048
DISK_MB = 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is well, what was seen or how to mend it."""

    name: str
    ok: bool
    text: str


def doctor(*, namespace: Namespace = None, json: Json = False) -> int:
    """Check that all that is needed is here; exit code 1 when something is not."""
    settings = settings_of(namespace=namespace)
    found = [finding for check in _checks(settings) for finding in check(settings)]
    if json:
        print_json([asdict(finding) for finding in found])
    else:
        rows = [("ok" if f.ok else "fix", f.name, f.text) for f in found]
        print_table("", ("", "what", "seen"), rows)
    return 0 if all(finding.ok for finding in found) else 1


def _checks(settings: Settings) -> list[Callable[[Settings], Iterator[Finding]]]:
    local = [] if settings.bootstrap_servers else [_java, _ports]
    return [_python, _machine, *local, _chdb, _broker]


def _python(_: Settings) -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding("python", ok, version if ok else f"{version}: use Python 3.11, 3.12 or 3.13")


def _machine(settings: Settings) -> Iterator[Finding]:
    import shutil

    import psutil

    free_mb = psutil.virtual_memory().available // 2**20
    ok = free_mb >= MEMORY_MB
    text = f"{free_mb:,} MB free" + ("" if ok else f": the stack takes up to {MEMORY_MB:,} MB")
    yield Finding("memory", ok, text)
    folder = settings.data_dir.expanduser().absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free_mb = shutil.disk_usage(there).free // 2**20
    ok = free_mb >= DISK_MB
    more = "" if ok else ": free some, or set SESSIONTAPE_DATA_DIR"
    yield Finding("disk", ok, f"{free_mb:,} MB free at {folder}{more}")


def _java(settings: Settings) -> Iterator[Finding]:
    from streams.errors import SessiontapeError
    from streams.local.jars import cache_folder, java
    from streams.local.kafka import VERSION

    try:
        yield Finding("java", True, str(java()))
    except SessiontapeError as exc:
        yield Finding("java", False, str(exc))
    folder = (settings.cache_dir or cache_folder()) / f"kafka-{VERSION}"
    jars = len(list(folder.glob("*.jar"))) if folder.is_dir() else 0
    text = f"{jars} in {folder}" if jars else "none yet: `sessiontape up` fetches them"
    yield Finding("jars", True, text)


def _ports(_: Settings) -> Iterator[Finding]:
    from contextlib import ExitStack

    from streams.local.ports import hold

    with ExitStack() as held:
        port = hold(held, "127.0.0.1")
    ok = port is not None
    yield Finding("ports", ok, "free ones at 127.0.0.1" if ok else "none is free at 127.0.0.1")


def _chdb(settings: Settings) -> Iterator[Finding]:
    from importlib.util import find_spec

    if settings.clickhouse_dsn:
        from sinks.history import open_history
        from sinks.store import NoTapeError
        from streams.errors import SessiontapeError

        try:
            open_history(settings).close()
            yield Finding("clickhouse", True, "answers")
        except NoTapeError as exc:
            yield Finding("clickhouse", True, f"answers; {exc}")
        except SessiontapeError as exc:
            yield Finding("clickhouse", False, str(exc))
        return
    ok = find_spec("chdb") is not None
    text = "installed" if ok else "not installed: pip install 'sessiontape[local]'"
    yield Finding("chdb", ok, text)


def _broker(settings: Settings) -> Iterator[Finding]:
    from streams.errors import BrokerError, SessiontapeError, TopicError
    from streams.kafka import check_topics
    from streams.local.running import connected
    from streams.topics import Topics

    try:
        there = connected(settings)
    except BrokerError:
        yield Finding("broker", True, "none runs now: replay and demo start one of their own")
        return
    topics = Topics(there.namespace)
    try:
        shards = check_topics(there, (*topics.raw, topics.session, topics.control))
    except TopicError:
        yield Finding("broker", True, there.bootstrap_servers)
        text = f"namespace {there.namespace} has none yet: up and replay make them"
        yield Finding("topics", True, text)
    except SessiontapeError as exc:
        yield Finding("broker", False, str(exc))
    else:
        yield Finding("broker", True, there.bootstrap_servers)
        yield Finding("topics", True, f"namespace {there.namespace}, {shards} shard(s)")
