"""What runs on a data folder and where its tape stands, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil

from streams.control import latest_command
from streams.errors import SessiontapeError, TopicError
from streams.local.broker import LocalBroker
from streams.local.groups import readers_of
from streams.local.process import ProcessRecord
from streams.local.running import broker_folder
from streams.local.state import StackState, stack_states
from streams.positions import FrameReader
from streams.settings import Settings

__all__ = ["Status", "status"]


@dataclass(frozen=True, slots=True)
class Status:
    """What was found.

    Attributes
    ----------
    broker
        ``address``, ``running``, ``local``, and of a local one ``pid`` and ``rss_mb``.
    stacks
        Of each stack: ``namespace``, ``kind``, ``pid``, ``running``, ``ready``, ``doing`` and
        ``workers`` (``name``, ``pid``, ``running``, ``rss_mb``, ``metrics_port``; 0: none).
    namespace
        The one that the rest is about.
    run
        ``run``, ``action``, ``calendar``, ``start``, ``end``, ``symbols``, ``speed``, ``stopped``
        of the command that counts; None before the first.
    shards
        Of each shard: ``shard``, ``run``, ``session``, ``event``, ``state``, ``clock_ns``,
        ``incomplete``, ``rows`` and ``lag`` (offsets that each reader is behind; None: no commit).
    problem
        Why the tape can't be read; empty when it can.
    """

    broker: dict[str, Any]
    stacks: list[dict[str, Any]]
    namespace: str
    run: dict[str, Any] | None
    shards: list[dict[str, Any]]
    problem: str = ""


def status(settings: Settings) -> Status:
    """Look at broker, workers and tape."""
    states = stack_states(settings.data_dir)
    broker, address = _broker(settings)
    found = [_stack(state) for state in states]
    if not broker["running"]:
        why = "no broker runs: start one with `sessiontape up`"
        return Status(broker, found, settings.namespace, None, [], why)
    there = settings.but(bootstrap_servers=address)
    try:
        shards = _shards(there, _readers(there, states))
        return Status(broker, found, settings.namespace, _run(there), shards)
    except TopicError:
        why = f"namespace {settings.namespace} was not made yet"
    except SessiontapeError as exc:
        broker["running"] = False
        why = str(exc)
    return Status(broker, found, settings.namespace, None, [], why)


def _broker(settings: Settings) -> tuple[dict[str, Any], str]:
    if settings.bootstrap_servers:
        address = settings.bootstrap_servers
        return {"address": address, "running": True, "local": False}, address
    broker = LocalBroker.find(broker_folder(settings))
    if broker is None or broker.pid is None:
        return {"address": "", "running": False, "local": True, "pid": None}, ""
    process = psutil.Process(broker.pid)
    address = broker.bootstrap_servers
    found = {"address": address, "running": True, "local": True, "pid": broker.pid}
    return found | {"rss_mb": process.memory_info().rss // 2**20}, address


def _stack(state: StackState) -> dict[str, Any]:
    return {
        "namespace": state.namespace,
        "kind": state.kind,
        **_process(state.owner),
        "ready": state.is_ready,
        "doing": state.doing,
        "workers": [
            {"name": name, **_process(record), "metrics_port": record.ports.get("metrics", 0)}
            for name, record in state.workers.items()
        ],
    }


def _process(record: ProcessRecord) -> dict[str, Any]:
    process = record.process()
    rss = None
    if process is not None:
        try:
            rss = process.memory_info().rss // 2**20
        except psutil.Error:
            process = None
    return {"pid": record.pid, "running": process is not None, "rss_mb": rss}


def _readers(settings: Settings, states: list[StackState]) -> tuple[str, ...]:
    workers = {n for s in states if s.namespace == settings.namespace for n in s.workers}
    return readers_of(settings, sorted(workers))


def _run(settings: Settings) -> dict[str, Any] | None:
    command = latest_command(settings)
    if command is None:
        return None
    return {
        "run": command.run,
        "action": command.action,
        "calendar": command.calendar,
        "start": command.start,
        "end": command.end,
        "symbols": len(command.symbols),
        "speed": command.speed,
        "stopped": command.stopped,
    }


def _shards(settings: Settings, readers: tuple[str, ...]) -> list[dict[str, Any]]:
    with FrameReader(settings) as reader:
        last, ends = reader.last(), reader.ends()
    found = []
    for shard, one in last.items():
        frame = one.frame if one is not None else None
        found.append(
            {
                "shard": shard,
                "run": frame.run if frame else "",
                "session": frame.session if frame else "",
                "event": frame.event if frame else "",
                "state": frame.state if frame else "idle",
                "clock_ns": frame.clock_ns if frame else 0,
                "incomplete": frame.incomplete if frame else False,
                "rows": frame.first_row + frame.rows if frame else 0,
                "lag": _lag(settings, readers, shard, ends[shard]),
            }
        )
    return found


def _lag(
    settings: Settings, readers: tuple[str, ...], shard: int, end: int
) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for group in readers:
        with FrameReader(settings, group, shards=(shard,)) as reader:
            at = reader.committed()[shard]
        found[group.removeprefix(f"{settings.namespace}.")] = (
            None if at is None else max(end - at, 0)
        )
    return found
