"""``acls``: what each worker needs to be allowed at brokers that ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from streams.acls import Rule, principals_of, rules_of
from streams.cli.options import Json, Namespace, settings_of
from streams.cli.output import print_json, print_table

__all__ = ["acls"]


def acls(
    *,
    principal: Annotated[
        Sequence[str],
        Parameter(negative="", help="WORKER=NAME for one worker, NAME for all others; repeat it."),
    ] = (),
    group: Annotated[
        Sequence[str],
        Parameter(negative="", help="A reader's group that is not NAMESPACE.reader-…; repeat it."),
    ] = (),
    namespace: Namespace = None,
    json: Json = False,
) -> int:
    """Print the operations of each worker on topics, groups and transactional ids."""
    name = settings_of(namespace=namespace).namespace
    principals = principals_of(name, principal)
    found = [
        (worker, principals[worker], rule)
        for worker, rules in rules_of(name, group).items()
        for rule in rules
    ]
    if json:
        print_json(
            [
                {"worker": worker, "principal": who, "pattern": rule.pattern, **_plain(rule)}
                for worker, who, rule in found
            ]
        )
    else:
        rows = [
            (
                worker,
                who,
                rule.resource,
                rule.name + "*" * rule.is_prefix,
                ", ".join(rule.operations),
            )
            for worker, who, rule in found
        ]
        print_table("", ("worker", "principal", "resource", "name", "operations"), rows)
    return 0


def _plain(rule: Rule) -> dict[str, object]:
    return {"resource": rule.resource, "name": rule.name, "operations": list(rule.operations)}
