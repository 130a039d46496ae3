"""``python -m sinks``: the sink's process, settings from the environment."""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from sinks.lines import open_lines
from sinks.owner import FolderOwner, chdb_folder
from sinks.serving import HistoryServer
from sinks.store import Store
from sinks.worker import run
from streams.endpoint import Health, served
from streams.errors import SessiontapeError
from streams.logs import FORMAT, log_to_stderr
from streams.settings import Settings, load

log = logging.getLogger("sinks")


def main() -> int:
    """Run until SIGTERM or SIGINT; return 0 then, 1 on an error."""
    parser = argparse.ArgumentParser("python -m sinks", description="Write the tape to ClickHouse.")
    parser.add_argument(
        "--keep-sessions",
        type=int,
        metavar="N",
        help="keep the last N, 0 keeps all; default: SESSIONTAPE_STORE_SESSIONS",
    )
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logging.basicConfig(format=FORMAT, stream=sys.stderr)
    try:
        settings = load()
        log_to_stderr(settings, force=True)
        given = arguments.keep_sessions
        _work(settings, settings.store_sessions if given is None else given, stop)
    except SessiontapeError as exc:
        log.error("%s", exc)  # noqa: TRY400 - one line that says what to do, no traceback
        return 1
    return 0


def _work(settings: Settings, keep_sessions: int, stop: threading.Event) -> None:
    health = Health()
    with ExitStack() as held:
        held.enter_context(served(settings, "sink", health))
        if not settings.clickhouse_dsn:
            owner = held.enter_context(FolderOwner(settings))
            _use_scratch(chdb_folder(settings))
        store = Store.open(settings)
        held.callback(store.close)
        if not settings.clickhouse_dsn:
            held.enter_context(HistoryServer(store, owner))
        lines = held.enter_context(open_lines(settings, store, keep_sessions))
        shards, topics = len(lines[0].reader.starts()), len(lines)
        log.info("up: namespace=%s shards=%d topics=%d", settings.namespace, shards, topics)
        run(lines, stop.is_set, namespace=settings.namespace, health=health)
        log.info("down: all that was read is written and committed")


def _use_scratch(folder: Path) -> None:
    """Put temporary files beside ``folder``; what a killed process left there is removed.

    The client hands every batch to chDB in one.
    """
    scratch = folder.with_name(f"{folder.name}.scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    tempfile.tempdir = str(scratch)


if __name__ == "__main__":
    sys.exit(main())
