"""``up``, ``down`` and ``status``: the stack on this machine."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from streams.cli.options import Json, Namespace, settings_of
from streams.cli.output import bar, clock, note, print_json, print_line, print_table

if TYPE_CHECKING:
    from streams.local.status import Status

__all__ = ["down", "status", "up"]


def up(
    *,
    namespace: Namespace = None,
    partitions: Annotated[int | None, Parameter(validator=Number(gte=1, lte=1024))] = None,
    workers: Annotated[int, Parameter(validator=Number(gte=1, lte=64))] = 1,
    sink: bool = True,
    tables: bool = True,
    upkeep: bool = True,
    source: str | None = None,
    fallback: Annotated[list[str] | None, Parameter(negative="")] = None,
    withhold: str | None = None,
    json: Json = False,
) -> int:
    """Start Kafka, the workers and chDB on this machine, and leave them running.

    With SESSIONTAPE_BOOTSTRAP_SERVERS set, the brokers are those, and only workers are started.

    Parameters
    ----------
    source
        Where the rows of `sessiontape start` come from: lean:DIR, csv:PATH, parquet:PATH,
        synthetic:[key=value,...] or clickhouse:DSN; without one only `replay` brings rows.
    fallback
        Source that is asked for what the first one lacks; give it again for more, in order.
    withhold
        What the source is made to lack, to see it filled: 2%@7, hour@7, ends, symbol:AIG.
    partitions
        Shards of the namespace, where it is made now.
    workers
        Number of coordinators.
    sink
        Whether the tape is written to ClickHouse.
    tables
        Whether the session_data tables are kept.
    upkeep
        Whether gaps are filled and longer bars derived.
    """
    from streams.local.supervisor import start_detached

    settings = settings_of(namespace=namespace, partitions=partitions)
    with bar("up") as shown:
        state = start_detached(
            settings,
            coordinators=workers,
            upkeep=upkeep,
            sink=sink,
            tables=tables,
            source=source or "",
            fallbacks=fallback or (),
            withhold=withhold or "",
            tell=shown.say,
        )
    if json:
        print_json(
            {
                "namespace": state.namespace,
                "bootstrap_servers": state.bootstrap_servers,
                "pid": state.owner.pid,
                "workers": {name: record.pid for name, record in state.workers.items()},
            }
        )
    else:
        print_line(f"up: namespace {state.namespace} on {state.bootstrap_servers}")
        then = "start" if source else "replay"
        print_line(f"next: sessiontape {then} …, sessiontape status, sessiontape down")
    return 0


def down(*, json: Json = False) -> int:
    """Stop the workers of every namespace on this machine's data folder, and its broker.

    Examples
    --------
        sessiontape down
    """
    from streams.local.running import stop_all

    with bar("down") as shown:
        ended = stop_all(settings_of(), shown.say)
    if json:
        print_json({"ended": ended})
    else:
        print_line("down" if ended else "nothing was running")
    return 0


def status(*, namespace: Namespace = None, json: Json = False) -> int:
    """Show broker, workers, and where the tape of a namespace stands.

    Exit code 1 when no stack of the namespace runs.

    Examples
    --------
        sessiontape status
        sessiontape status --namespace research --json
    """
    from dataclasses import asdict

    from streams.local.status import status as look

    settings = settings_of(namespace=namespace)
    found = look(settings)
    mine = [stack for stack in found.stacks if stack["namespace"] == settings.namespace]
    is_up = any(stack["running"] and stack["ready"] for stack in mine)
    if json:
        print_json(asdict(found) | {"up": is_up})
        return 0 if is_up else 1
    _show(found)
    if not is_up:
        note(f"no stack of namespace {settings.namespace} runs: sessiontape up")
    return 0 if is_up else 1


def _show(found: Status) -> None:
    where = found.broker
    if where["running"]:
        rows = [("broker", where["address"], where.get("pid") or "-", where.get("rss_mb") or "-")]
    else:
        rows = [("broker", "not running", "-", "-")]
    for stack in found.stacks:
        what = "ready" if stack["ready"] else stack["doing"] or "not ready"
        what = what if stack["running"] else "gone (sessiontape down tidies up)"
        name = f"{stack['namespace']} ({stack['kind']})"
        rows.append((name, what, stack["pid"], stack["rss_mb"] or "-"))
        for worker in stack["workers"]:
            state = "running" if worker["running"] else "gone"
            rows.append((f"  {worker['name']}", state, worker["pid"], worker["rss_mb"] or "-"))
    print_table("", ("process", "state", "pid>", "MB>"), rows)
    if found.problem:
        print_line(found.problem)
        return
    if found.run is None:
        print_line(f"namespace {found.namespace}: no run yet")
        return
    run = found.run
    speed = "max" if run["speed"] == 0 else f"{run['speed']:g}"
    print_line(
        f"\nnamespace {found.namespace}: run {run['run']}, {run['calendar']} {run['start']} to "
        f"{run['end']}, {run['symbols']} symbols, speed {speed}"
    )
    print_table(
        "",
        ("shard>", "session", "session clock (UTC)", "state", "event", "rows>", "lag"),
        [
            (
                shard["shard"],
                shard["session"] or "-",
                clock(shard["clock_ns"]),
                shard["state"] + (" incomplete" if shard["incomplete"] else ""),
                shard["event"] or "-",
                f"{shard['rows']:,}",
                " ".join(f"{n}={'-' if at is None else at}" for n, at in shard["lag"].items()),
            )
            for shard in found.shards
        ],
    )
