"""Brokers that ask: TLS, SCRAM or certificates, and for each the operations of the table alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

import streams.kafka
from bench.replay import SOURCE, expected_digest
from streams import SessionStream, control
from streams.acls import WORKERS, rules_of
from streams.controls import Controls
from streams.digest import Digest
from streams.errors import BrokerError, TopicError
from streams.kafka import METADATA_TIMEOUT_S, check_topics, topics_there
from streams.local import LocalBroker
from streams.local.kafka import HOST, Guard
from streams.local.status import status
from streams.positions import FrameWriter
from streams.settings import Settings
from streams.topics import Topics
from streams.users import allow, make
from tests.guarded import ADMIN, CERTIFICATES, guard, refusal_of, shown, signed_in
from tests.harness import Tape
from tests.integration.commands import PROGRAM
from tests.workers import environment

TOPIC_REFUSED = KafkaError.TOPIC_AUTHORIZATION_FAILED
SYMBOLS = 12
START, END = "2024-11-27", "2024-11-29"
PASSWORDS = {name: f"{name}-hush-4711" for name in (ADMIN, *WORKERS)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificates are."""
    return tmp_path_factory.mktemp("security") / "tls"


@pytest.fixture(scope="module")
def guarding(folder: Path) -> Guard:
    """What is asked."""
    return guard(folder, PASSWORDS)


@pytest.fixture(scope="module")
def asking(folder: Path, guarding: Guard) -> Iterator[LocalBroker]:
    """A broker that lets in whom it knows, over TLS, and allows them what they were given."""
    with LocalBroker(folder.with_name("broker"), guard=guarding) as running:
        yield running


@pytest.fixture(scope="module")
def by_certificate(asking: LocalBroker, guarding: Guard) -> str:
    """The same broker, where it asks for a certificate."""
    return f"{HOST}:{guarding.others[CERTIFICATES]}"


def login(folder: Path, user: str) -> dict[str, Any]:
    return signed_in(folder, user, PASSWORDS[user])


def run(module: str, *argv: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a worker by its module, or the command line by its name."""
    program = PROGRAM if module == "sessiontape" else (sys.executable, "-P", "-m", module)
    return subprocess.run(
        [*program, *argv],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_workers_that_may_do_what_the_table_says_play_a_run_and_a_reader_only_reads(
    asking: LocalBroker, folder: Path, namespace: str, tmp_path: Path
) -> None:
    servers = asking.bootstrap_servers
    given = tmp_path / "passwords"
    given.write_text("# of the one who reads\nalice=alice-hush-4711\n")
    principals = [f"--principal={name}={name}" for name in WORKERS if name != "reader"]
    allowed = run(
        *("sessiontape", "acls", "--apply", f"--passwords={given}", f"--group={namespace}.test"),
        *(*principals, "--principal=reader=alice", "--json"),
        bootstrap_servers=servers,
        namespace=namespace,
        **login(folder, ADMIN),
    )
    assert allowed.returncode == 0, allowed.stderr
    assert json.loads(allowed.stdout)["users"] == ["alice"]
    source = SOURCE.format(symbols=SYMBOLS)
    operator = login(folder, "operator")
    with Tape(servers, namespace, tmp_path, partitions=2, source=source, **operator) as tape:
        for name in ("coordinator", "tables", "upkeep"):
            tape.worker(name, f"streams.{name}", **login(folder, name))
        tape.worker("producer", "streams.producer", "--source", source, **login(folder, "producer"))
        tape.worker("sink", "sinks", **login(folder, "sink"))
        readers = (tape.topics.upkeep, tape.topics.sink, tape.group)
        tape.start(START, END, upkeep=True, derived=("5m",), readers=readers)
        tape.play()
        assert tape.digest().final() == expected_digest(SYMBOLS, START, END)
        tape.await_tables()
        tape.await_sink()

        alice = signed_in(folder, "alice", "alice-hush-4711")
        reader = Settings(bootstrap_servers=servers, namespace=namespace, **alice)
        digest = Digest()
        with SessionStream(start="first", until="idle", settings=reader) as stream:
            for batch in stream.frames(timeout_s=30):
                digest.add(batch)
        assert digest.final() == tape.digest().final()
        for topic in (*tape.topics.raw, tape.topics.session, tape.topics.control):
            assert refusal_of(reader, topic) == TOPIC_REFUSED
        with pytest.raises(BrokerError, match=r"(?i)transactional"):
            FrameWriter(reader, 0).open()
        began_s = time.monotonic()
        hidden = pytest.raises(BrokerError, match=r"\.control is not for this user to read")
        with Controls(settings=reader) as controls, hidden:
            controls.stop()
        assert time.monotonic() - began_s < control.TIMEOUT_S, "told before time is up"

        shown = json.dumps(asdict(status(tape.settings)))
        assert [shard["event"] for shard in json.loads(shown)["shards"]] == ["end", "end"]
        said = "".join([shown, *(worker.log for worker in tape.workers)])
        assert "hush" not in said
        assert "DENIED" not in said.upper()
        assert "authorization" not in said.lower()


def test_certificates_do_in_place_of_passwords(
    by_certificate: str,
    folder: Path,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chief = Settings(bootstrap_servers=by_certificate, namespace=namespace, **shown(folder, ADMIN))
    names = ("coordinator", "producer", "operator")
    rules = rules_of(namespace, (f"{namespace}.test",))
    for name in names:
        allow(chief, f"User:{name}", rules[name])
    source = SOURCE.format(symbols=SYMBOLS)
    operator = shown(folder, "operator")
    with Tape(by_certificate, namespace, tmp_path, partitions=2, source=source, **operator) as tape:
        tape.worker("coordinator", "streams.coordinator", **shown(folder, "coordinator"))
        tape.worker("producer", "streams.producer", "--source", source, **shown(folder, "producer"))
        tape.start(END, END, readers=(tape.group,))
        tape.play()
        assert tape.digest().final() == expected_digest(SYMBOLS, END, END)
        assert refusal_of(tape.settings, tape.topics.session) == TOPIC_REFUSED
    # Who shows none is not let in, and who is nobody to the broker sees no topic.
    monkeypatch.setattr(streams.kafka, "METADATA_TIMEOUT_S", 1.0)
    with pytest.raises(BrokerError, match=r"want a certificate, set SESSIONTAPE_SSL_CERT"):
        topics_there(chief.but(ssl_certificate_location=None, ssl_key_location=None))
    nobody = Settings(bootstrap_servers=by_certificate, **shown(folder, "sender"))
    assert namespace not in {name.partition(".")[0] for name in topics_there(nobody)}


def test_who_may_not_change_the_cluster_is_told_so(asking: LocalBroker, folder: Path) -> None:
    reader = Settings(bootstrap_servers=asking.bootstrap_servers, **login(folder, "reader"))
    with pytest.raises(BrokerError, match=r"User:eve is not allowed .* sign in as"):
        allow(reader, "User:eve", [rule for rules in rules_of("tape").values() for rule in rules])
    with pytest.raises(BrokerError, match=r"user 'eve' is not made .* sign in as"):
        make(reader, {"eve": "hush"})


@pytest.mark.parametrize(
    "argv",
    [("streams.coordinator",), ("sessiontape", "symbols")],
    ids=lambda argv: argv[-1],
)
def test_with_a_wrong_password_one_sentence_says_so(
    argv: tuple[str, ...], asking: LocalBroker, folder: Path, tmp_path: Path
) -> None:
    settings = signed_in(folder, "coordinator", "wrong-hush")
    done = run(*argv, bootstrap_servers=asking.bootstrap_servers, data_dir=tmp_path, **settings)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "do not let user 'coordinator' in: set SESSIONTAPE_SASL_USERNAME" in done.stderr
    assert "hush" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"sasl_password": "wrong-hush"}, "do not let user 'tables' in"),
        ({"ssl_ca_location": "stranger.pem"}, r"no TLS with the brokers .* SESSIONTAPE_SSL_CA_LOC"),
    ],
    ids=["password", "authority"],
)
def test_who_is_not_let_in_or_trusts_nobody_is_told_before_time_is_up(
    wrong: dict[str, str], says: str, asking: LocalBroker, folder: Path
) -> None:
    given = login(folder, "tables") | wrong
    given["ssl_ca_location"] = folder / given["ssl_ca_location"]
    settings = Settings(bootstrap_servers=asking.bootstrap_servers, **given)
    began_s = time.monotonic()
    with pytest.raises(BrokerError, match=says):
        topics_there(settings)
    assert time.monotonic() - began_s < METADATA_TIMEOUT_S


def test_who_may_not_see_the_topics_is_told_who_he_is(asking: LocalBroker, folder: Path) -> None:
    servers, given = asking.bootstrap_servers, login(folder, "tables")
    settings = Settings(bootstrap_servers=servers, namespace="nobodys", **given)
    with pytest.raises(
        TopicError, match=r"missing or hidden from user 'tables' \(`sessiontape acl"
    ):
        check_topics(settings, (Topics("nobodys").session,))
