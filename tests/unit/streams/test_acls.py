"""What each worker may do: as little as it needs, and all of it in its namespace."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from streams.acls import WORKERS, Rule, principals_of, rules_of
from streams.cli.acls import acls
from streams.errors import ConfigError
from streams.topics import Topics

RULES = rules_of("desk", ("alice.backtest",))
DOCS = Path(__file__).parents[3] / "docs" / "operations.md"


def topics_with(operation: str, worker: str) -> set[str]:
    return {
        rule.name
        for rule in RULES[worker]
        if rule.resource == "topic" and operation in rule.operations
    }


def test_everybody_has_rules_and_all_are_of_the_namespace() -> None:
    assert RULES.keys() == WORKERS.keys()
    for rules in RULES.values():
        assert len(set(rules)) == len(rules)
        for rule in rules:
            assert rule.name.startswith("desk.") or rule.name == "alice.backtest"
            # A prefix that ends in the middle of a word would be of others, too.
            assert not rule.is_prefix or rule.name[-1] in ".-"


def test_the_tape_is_written_by_coordinators_alone() -> None:
    topics = Topics("desk")
    writers = {name for name in WORKERS if topics.session in topics_with("WRITE", name)}
    assert writers == {"coordinator"}
    ids = {
        name: {rule.name for rule in rules if rule.resource == "transactional_id"}
        for name, rules in RULES.items()
    }
    assert {name: found for name, found in ids.items() if found} == {
        "coordinator": {"desk.session."},
        "upkeep": {"desk.upkeep.", "desk.history."},
    }


@pytest.mark.parametrize("worker", ["reader", "sink"])
def test_who_reads_writes_nothing(worker: str) -> None:
    assert not topics_with("WRITE", worker) | topics_with("DELETE", worker)
    assert not topics_with("CREATE", worker)
    assert {"desk.session", "desk.bars.", "desk.history"} == topics_with("READ", worker)


def test_only_the_operator_makes_topics_and_gives_commands() -> None:
    assert [name for name in WORKERS if topics_with("CREATE", name)] == ["operator"]
    commanders = [name for name in WORKERS if "desk.control" in topics_with("WRITE", name)]
    assert commanders == ["operator"]


def test_groups_of_other_names_are_read_by_readers_and_seen_by_who_waits_for_them() -> None:
    rule = Rule("group", "alice.backtest", ("READ",))
    assert [name for name, rules in RULES.items() if rule in rules] == ["reader", "operator"]
    rule = Rule("group", "alice.backtest", ("DESCRIBE",))
    assert [name for name, rules in RULES.items() if rule in rules] == ["coordinator"]
    assert all(
        rule.name != "alice.backtest" for rules in rules_of("desk").values() for rule in rules
    )


@pytest.mark.parametrize(
    ("given", "coordinator", "reader"),
    [
        ((), ("User:desk-coordinator",), ("User:desk-reader",)),
        (("User:tape",), ("User:tape",), ("User:tape",)),
        (("tape", "reader=alice"), ("User:tape",), ("User:alice",)),
        (("reader=alice", "reader=bob"), ("User:desk-coordinator",), ("User:alice", "User:bob")),
        (
            ("reader=User:CN=alice,O=desk",),
            ("User:desk-coordinator",),
            ("User:CN=alice,O=desk",),
        ),
        (("User:CN=tape,O=desk",), ("User:CN=tape,O=desk",), ("User:CN=tape,O=desk",)),
    ],
)
def test_principals(
    given: tuple[str, ...], coordinator: tuple[str, ...], reader: tuple[str, ...]
) -> None:
    found = principals_of("desk", given)
    assert found.keys() == WORKERS.keys()
    assert (found["coordinator"], found["reader"]) == (coordinator, reader)


@pytest.mark.parametrize("given", ["", "reader=", "User:", "reader=User:"])
def test_a_principal_without_a_name_is_none(given: str) -> None:
    with pytest.raises(ConfigError, match="names nobody"):
        principals_of("desk", (given,))


def test_the_command_prints_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        acls(principal=["reader=alice"], group=["alice.backtest"], namespace="desk", json=True) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert len(found) == sum(map(len, RULES.values()))
    assert {
        "worker": "reader",
        "principal": "User:alice",
        "resource": "group",
        "name": "desk.reader-",
        "pattern": "prefixed",
        "operations": ["READ"],
    } in found
    assert acls(namespace="desk") == 0
    shown = capsys.readouterr().out
    assert re.search(r"upkeep +User:desk-upkeep +topic +desk\.bars\.\* +READ, WRITE, DELETE", shown)


def test_the_docs_have_the_table() -> None:
    text = DOCS.read_text("utf-8")
    for worker, rules in rules_of("tape").items():
        assert f"| `{worker}` | {WORKERS[worker]} |" in text
        for rule in rules:
            name = f"`{rule.name}{'*' * rule.is_prefix}`"
            line = f"| `{worker}` | {rule.resource} | {name} | {', '.join(rule.operations)} |"
            assert line in text, line
