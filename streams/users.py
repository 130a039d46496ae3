"""Users of brokers that ask: made with their passwords, and allowed what they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from streams.acls import Rule
from streams.errors import BrokerError, ConfigError
from streams.kafka import admin
from streams.settings import Settings

__all__ = ["allow", "make", "passwords_of"]

ANSWERED_S = 20.0
ITERATIONS = 8192
"""Rounds of SCRAM's hash; Kafka wants 4,096 at least."""


def passwords_of(path: Path) -> dict[str, str]:
    """Return the passwords of a file by user: lines of ``name=password``, ``#`` before remarks.

    Raises
    ------
    ConfigError
        It can't be read, or a line is none of these. The message has no password.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"the passwords can't be read: {exc}"
        raise ConfigError(msg) from exc
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, password = line.strip().partition("=")
        if not name or not password:
            msg = f"{path}, line {number}: name=password had to come"
            raise ConfigError(msg)
        found[name] = password
    return found


def make(settings: Settings, passwords: Mapping[str, str]) -> None:
    """Make users for SCRAM-SHA-512, or give those that are there another password.

    Raises
    ------
    BrokerError
        The brokers refuse it.
    """
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    wanted: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(name, info, password.encode())
        for name, password in passwords.items()
    ]
    if wanted:
        with admin(settings) as client:
            for name, done in client.alter_user_scram_credentials(wanted).items():
                _await(done, f"user {name!r} is not made")


def allow(settings: Settings, principal: str, rules: Iterable[Rule]) -> None:
    """Allow a principal what some rules say; what it may already do stays.

    Raises
    ------
    BrokerError
        The brokers refuse it.
    """
    # Each once: two workers' rules overlap, and one user may be both.
    wanted = {
        AclBinding(
            ResourceType[rule.resource.upper()],
            rule.name,
            ResourcePatternType[rule.pattern.upper()],
            principal,
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for rule in rules
        for operation in rule.operations
    }
    with admin(settings) as client:
        for done in client.create_acls(list(wanted)).values():
            _await(done, f"{principal} is not allowed what it needs")


def _await(done: Future[Any], what: str) -> None:
    try:
        done.result(ANSWERED_S)
    except TimeoutError as exc:
        msg = f"{what}: no answer in {ANSWERED_S:.0f} s"
        raise BrokerError(msg) from exc
    except KafkaException as exc:
        # What brokers say beside the code is the whole request, as they hold it.
        reason = KafkaError(exc.args[0].code()).str()
        msg = f"{what} ({reason}): sign in as a user who may change the cluster"
        raise BrokerError(msg) from exc
