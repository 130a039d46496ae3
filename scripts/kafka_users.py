"""``python -m scripts.kafka_users`` writes the users of Strimzi's example from `streams.acls`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from streams.acls import Rule, rules_of

__all__ = ["FILE", "render"]

FILE = Path(__file__).parents[1] / "deploy" / "helm" / "examples" / "kafka-users.yaml"
CLUSTER, NAMESPACE = "market", "tape"
HEAD = """\
# Written by `python -m scripts.kafka_users` from streams/acls.py; change it there.
# One user a worker, for namespace "tape": Strimzi keeps the password in a secret of that name.
"""
_TYPES = {"topic": "topic", "group": "group", "transactional_id": "transactionalId"}


def render() -> str:
    """Return the file."""
    users = [_user(worker, rules) for worker, rules in rules_of(NAMESPACE).items()]
    return HEAD + yaml.safe_dump_all(users, sort_keys=False, explicit_start=True)


def _user(worker: str, rules: tuple[Rule, ...]) -> dict[str, Any]:
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaUser",
        "metadata": {
            "name": f"{NAMESPACE}-{worker}",
            "labels": {"strimzi.io/cluster": CLUSTER},
        },
        "spec": {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": [_acl(rule) for rule in rules]},
        },
    }


def _acl(rule: Rule) -> dict[str, Any]:
    resource = {
        "type": _TYPES[rule.resource],
        "name": rule.name,
        "patternType": "prefix" if rule.is_prefix else "literal",
    }
    return {"resource": resource, "operations": [name.title() for name in rule.operations]}


if __name__ == "__main__":
    FILE.write_text(render(), "utf-8")
