"""A broker that lets nobody in without TLS and a name, and knows what each may do."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trustme
from confluent_kafka import KafkaError, Message, Producer
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from streams.kafka import producer_config
from streams.local import ports
from streams.local.kafka import HOST, Guard
from streams.settings import Settings

__all__ = ["ADMIN", "CERTIFICATES", "guard", "refusal_of", "shown", "signed_in"]

MECHANISM = "SCRAM-SHA-512"
ADMIN = "admin"
PROTOCOL = "SASL_SSL"
CERTIFICATES = "SSL"


def guard(folder: Path, passwords: Mapping[str, str]) -> Guard:
    """Make certificates in a folder, and what a broker is told so that it knows some users.

    Parameters
    ----------
    folder
        Gets ``ca.pem``, ``broker.pem``, a certificate with its key for each user and, of another
        authority, ``stranger.pem``.
    passwords
        Passwords by user; `ADMIN` is one of them and may do everything.

    Returns
    -------
    Guard
        It has a listener for passwords, and `CERTIFICATES` among the others for certificates.
    """
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "stranger.pem")
    store = folder / "broker.pem"
    _write(authority.issue_cert(HOST), store)
    for name in passwords:
        # Java takes no certificate whose list of other names is empty.
        _write(authority.issue_cert(HOST, common_name=name), folder / f"{name}.pem")
    with ExitStack() as held:
        port = ports.hold(held, HOST)
    assert port is not None
    login = (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="{ADMIN}" password="{passwords[ADMIN]}";'
    )
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        f"listener.name.{CERTIFICATES.lower()}.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+),.*$/$1/",
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
    return Guard(PROTOCOL, properties, tuple(users), client, {CERTIFICATES: port})


def _write(certificate: trustme.LeafCert, path: Path) -> None:
    """Write a key and its chain, the key as PKCS #8: Java reads no other."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with path.open("ab") as out:
        for part in certificate.cert_chain_pems:
            out.write(part.bytes())


def signed_in(folder: Path, user: str, password: str) -> dict[str, Any]:
    """Return the settings with which a user comes in."""
    return {
        "security_protocol": PROTOCOL,
        "sasl_mechanism": MECHANISM,
        "sasl_username": user,
        "sasl_password": password,
        "ssl_ca_location": folder / "ca.pem",
    }


def shown(folder: Path, user: str) -> dict[str, Any]:
    """Return the settings with which a user comes in by a certificate."""
    return {
        "security_protocol": CERTIFICATES,
        "ssl_ca_location": folder / "ca.pem",
        "ssl_certificate_location": folder / f"{user}.pem",
        "ssl_key_location": folder / f"{user}.pem",
    }


def refusal_of(settings: Settings, topic: str) -> int:
    """Return why a message to a topic was not taken; 0 where it was."""
    found: list[int] = []

    def told(error: KafkaError | None, _: Message) -> None:
        found.append(0 if error is None else error.code())

    producer = Producer(producer_config(settings, enable_idempotence=False))
    producer.produce(topic, b"no", partition=0, on_delivery=told)
    producer.flush(20)
    return found[0]
