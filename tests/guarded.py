"""A broker that lets nobody in without TLS and a password, and knows what each may do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from streams.acls import Rule
from streams.kafka import admin
from streams.local.kafka import HOST, Guard
from streams.settings import Settings

__all__ = ["MECHANISM", "allow", "guard", "signed_in"]

MECHANISM = "SCRAM-SHA-512"
ADMIN = "admin"
PROTOCOL = "SASL_SSL"


def guard(folder: Path, passwords: Mapping[str, str]) -> Guard:
    """Make certificates in a folder, and what a broker is told so that it knows some users.

    Parameters
    ----------
    folder
        Gets ``ca.pem``, ``broker.pem`` and, of another authority, ``stranger.pem``.
    passwords
        Passwords by user; `ADMIN` is one of them and may do everything.
    """
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "stranger.pem")
    server = authority.issue_cert(HOST)
    key = load_pem_private_key(server.private_key_pem.bytes(), None)
    store = folder / "broker.pem"
    # Java reads keys as PKCS #8 only.
    store.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with store.open("ab") as out:
        for certificate in server.cert_chain_pems:
            out.write(certificate.bytes())
    login = (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="{ADMIN}" password="{passwords[ADMIN]}";'
    )
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "sasl.enabled.mechanisms": MECHANISM,
        "sasl.mechanism.inter.broker.protocol": MECHANISM,
        f"listener.name.{PROTOCOL.lower()}.{MECHANISM.lower()}.sasl.jaas.config": login,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The node speaks to its own controller without a name, at a port that nobody else knows.
        "super.users": f"User:{ADMIN};User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "false",
    }
    users = [
        f"--add-scram={MECHANISM}=[name={name},password={password}]"
        for name, password in passwords.items()
    ]
    client = {
        "security.protocol": PROTOCOL,
        "sasl.mechanism": MECHANISM,
        "sasl.username": ADMIN,
        "sasl.password": passwords[ADMIN],
        "ssl.ca.location": str(folder / "ca.pem"),
    }
    return Guard(PROTOCOL, properties, tuple(users), client)


def signed_in(folder: Path, user: str, password: str) -> dict[str, Any]:
    """Return the settings with which a user comes in."""
    return {
        "security_protocol": PROTOCOL,
        "sasl_mechanism": MECHANISM,
        "sasl_username": user,
        "sasl_password": password,
        "ssl_ca_location": folder / "ca.pem",
    }


def allow(settings: Settings, principal: str, rules: Iterable[Rule]) -> None:
    """Allow a principal what some rules say, and no more; ``settings`` are those of the admin."""
    wanted = [
        AclBinding(
            ResourceType[
                {"transactional_id": "TRANSACTIONAL_ID"}.get(rule.resource, rule.resource.upper())
            ],
            rule.name,
            ResourcePatternType[rule.pattern.upper()],
            principal,
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for rule in rules
        for operation in rule.operations
    ]
    with admin(settings) as client:
        for done in client.create_acls(wanted).values():
            done.result(20)
