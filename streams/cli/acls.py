"""``acls``: what each worker needs to be allowed at brokers that ask, and allowing it."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from streams.acls import Rule, principals_of, rules_of
from streams.cli.options import Json, Namespace, settings_of
from streams.cli.output import print_json, print_line, print_table
from streams.errors import ConfigError

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
    apply: Annotated[bool, Parameter(negative="")] = False,
    passwords: Path | None = None,
    wait: Annotated[float, Parameter(validator=Number(gte=0))] = 0.0,
    namespace: Namespace = None,
    json: Json = False,
) -> int:
    """Print the operations of each worker on topics, groups and transactional ids.

    Parameters
    ----------
    apply
        Allow them at the brokers, signed in as one who may.
    passwords
        Lines of NAME=PASSWORD: users that are made before, for SCRAM-SHA-512, with --apply.
    wait
        Seconds that the brokers may take to be there, with --apply.
    """
    settings = settings_of(namespace=namespace)
    principals = principals_of(settings.namespace, principal)
    found = [
        (worker, who, rule)
        for worker, rules in rules_of(settings.namespace, group).items()
        for who in principals[worker]
        for rule in rules
    ]
    if apply:
        return _apply(settings.namespace, found, passwords, wait, json=json)
    if passwords is not None:
        msg = "--passwords is for users that are made: say --apply, too"
        raise ConfigError(msg)
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


def _apply(
    namespace: str,
    found: Sequence[tuple[str, str, Rule]],
    passwords: Path | None,
    wait_s: float,
    *,
    json: bool,
) -> int:
    from streams.kafka import await_brokers
    from streams.local.running import connected
    from streams.users import allow, make, passwords_of

    settings = connected(settings_of(namespace=namespace))
    users = {} if passwords is None else passwords_of(passwords)
    await_brokers(settings, wait_s)
    make(settings, users)
    principals = {who: [rule for _, of, rule in found if of == who] for _, who, _ in found}
    for who, rules in principals.items():
        allow(settings, who, rules)
    if json:
        print_json({"namespace": namespace, "principals": list(principals), "users": sorted(users)})
    else:
        print_line(
            f"namespace {namespace}: {len(principals)} principals may do what they need, "
            f"{len(users)} users made"
        )
    return 0


def _plain(rule: Rule) -> dict[str, object]:
    return {"resource": rule.resource, "name": rule.name, "operations": list(rule.operations)}
