"""``topics``: those of a namespace, made before its workers are started."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from streams.cli.options import Json, Namespace, settings_of
from streams.cli.output import print_json, print_line

__all__ = ["topics"]


def topics(
    *,
    namespace: Namespace = None,
    partitions: Annotated[int | None, Parameter(validator=Number(gte=1, lte=1024))] = None,
    wait: Annotated[float, Parameter(validator=Number(gte=0))] = 0.0,
    json: Json = False,
) -> int:
    """Make the topics of a namespace where they are missing.

    `sessiontape up` makes them by itself; workers that are started by others, in containers, need
    them to be there.

    Parameters
    ----------
    partitions
        Shards of the namespace; those that it has, or those of the settings when not given.
    wait
        Seconds that the brokers may take to be there.
    """
    from streams.kafka import ensure_topics
    from streams.local.running import connected

    settings = connected(settings_of(namespace=namespace))
    shards = ensure_topics(settings, partitions or 0, wait)
    if json:
        print_json({"namespace": settings.namespace, "partitions": shards})
    else:
        print_line(f"namespace {settings.namespace} has its topics, {shards} shard(s)")
    return 0
