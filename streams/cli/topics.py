"""``topics``: the topics of a namespace, made on brokers of your own."""

from __future__ import annotations

from streams.cli.options import Json, Namespace, settings_of
from streams.cli.output import print_json, print_line

__all__ = ["topics"]


def topics(
    *,
    partitions: int | None = None,
    replication: int | None = None,
    namespace: Namespace = None,
    json: Json = False,
) -> int:
    """Make the topics of a namespace where there are none; what is there stays as it is.

    Parameters
    ----------
    partitions
        Shards of the namespace.
    replication
        Replicas of each.
    """
    from streams.kafka import create_topics  # noqa: PLC0415 - help must be there at once

    settings = settings_of(namespace=namespace, partitions=partitions, replication=replication)
    shards = create_topics(settings, settings.partitions)
    if json:
        print_json({"namespace": settings.namespace, "partitions": shards})
    else:
        print_line(f"namespace {settings.namespace} has its topics, {shards} partitions each")
    return 0
