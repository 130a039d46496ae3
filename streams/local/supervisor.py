"""``python -m streams.local.supervisor``: a stack that stays up, settings from the environment.

`sessiontape up` starts it in a session of its own, and reads what it is at in its state file.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

import psutil

from streams.errors import ConfigError, SessiontapeError
from streams.local.process import end
from streams.local.running import STOP_S, running_stack
from streams.local.stack import Stack
from streams.local.state import StackState, state_path
from streams.local.workers import WorkerError, WorkerSpec, log_path, spawn_worker
from streams.logs import log_to_stderr
from streams.selection import is_feed, opened_sources
from streams.settings import Settings, load
from streams.signals import interrupts, uninterrupted
from streams.sources import absolute

__all__ = ["main", "start_detached"]

log = logging.getLogger("sessiontape.supervisor")

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
CHECK_S = 0.2
FOLLOW_S = 0.05


def start_detached(
    settings: Settings,
    *,
    coordinators: int = 1,
    upkeep: bool = True,
    tables: bool = True,
    sink: bool = True,
    source: str = "",
    fallbacks: Sequence[str] = (),
    withhold: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> StackState:
    """Start a stack that outlives us; return its state when all of it works.

    Raises
    ------
    SessiontapeError
        One of this namespace runs already.
    ConfigError, SourceError
        A source that is none.
    WorkerError
        It did not come up; the message ends with the end of its log.
    """
    found = running_stack(settings)
    if found is not None:
        msg = (
            f"a stack of namespace {found.namespace} runs already (pid {found.owner.pid}): "
            "use it, or end it with `sessiontape down`"
        )
        raise SessiontapeError(msg)
    if source:  # the producer opens them again, from elsewhere; here they are held to be right
        source, fallbacks = absolute(source), [absolute(uri) for uri in fallbacks]
        opened_sources(settings, source, fallbacks, withhold)
    elif fallbacks or withhold:
        msg = "--fallback and --withhold belong to a --source: give one"
        raise ConfigError(msg)
    argv = ["streams.local.supervisor", f"--coordinators={coordinators}"]
    argv += [f"--source={source}"] if source else []
    argv += [f"--fallback={fallback}" for fallback in fallbacks]
    argv += [f"--withhold={withhold}"] if withhold else []
    argv += [] if upkeep else ["--no-upkeep"]
    argv += [] if tables else ["--no-tables"]
    argv += [] if sink else ["--no-sink"]
    spec = WorkerSpec("supervisor", tuple(argv))
    process: psutil.Process | None = None
    try:
        with uninterrupted():
            process = spawn_worker(spec, log_path(settings, spec.name), settings)
        return _follow(settings, process, tell)
    except BaseException:
        if process is not None:
            end(process, STOP_S)
        raise


def _follow(settings: Settings, process: psutil.Process, tell: Callable[[str], None]) -> StackState:
    path, said = state_path(settings.data_dir, settings.namespace), ""
    while True:
        state = StackState.read(path)
        if state is not None and state.owner.pid == process.pid:
            if state.is_ready:
                return state
            if state.doing and state.doing != said:
                said = state.doing
                tell(said)
        try:
            code = process.wait(FOLLOW_S)
        except psutil.TimeoutExpired:
            continue
        name = "supervisor"
        reason = f"ended with code {code} before all was up"
        raise WorkerError(reason, worker=name, log=log_path(settings, name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep a stack up until SIGTERM or SIGINT; return 0 then, 1 when it can't be kept up."""
    parser = argparse.ArgumentParser("python -m streams.local.supervisor")
    parser.add_argument("--coordinators", type=int, default=1)
    parser.add_argument("--no-upkeep", dest="upkeep", action="store_false")
    parser.add_argument("--no-tables", dest="tables", action="store_false")
    parser.add_argument("--no-sink", dest="sink", action="store_false")
    parser.add_argument("--source", default="")
    parser.add_argument("--fallback", action="append", default=[])
    parser.add_argument("--withhold", default="")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    stop = threading.Event()

    def asked(*_: object) -> None:
        if not stop.is_set():
            stop.set()
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    try:
        settings = load()
        log_to_stderr(settings.but(log_level="info"), LOG_FORMAT, force=True)
        stack = Stack(
            settings,
            coordinators=given.coordinators,
            upkeep=given.upkeep,
            tables=given.tables,
            sink=given.sink,
            source=given.source,
            fallbacks=given.fallback,
            withhold=given.withhold,
            feed=given.source if is_feed(given.source) else "",
            kind="up",
            tell=log.info,
        )
        with interrupts(), stack:
            log.info("up: namespace=%s", stack.settings.namespace)
            _keep(stack)
    except KeyboardInterrupt:
        log.info("down")
    except SessiontapeError as exc:
        log.error("%s", exc)  # noqa: TRY400 - one sentence that says what to do
        return 1
    return 0


def _keep(stack: Stack) -> None:
    while True:
        stack.check()
        time.sleep(CHECK_S)


if __name__ == "__main__":
    sys.exit(main())
