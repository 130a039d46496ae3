"""What the clients of Kafka are given of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.errors import BrokerError, ConfigError, TopicError
from streams.kafka import (
    check_topics,
    client_config,
    consumer_config,
    ensure_topics,
    producer_config,
)
from streams.settings import Settings, load

PLAIN = load().but(bootstrap_servers="one:9092,two:9092")


def secured(**changes: object) -> Settings:
    return PLAIN.but(
        security_protocol="SASL_SSL",
        sasl_username="reader",
        sasl_password="open sesame",
        ssl_ca_location=Path("ca.pem"),
        ssl_certificate_location=Path("cert.pem"),
        ssl_key_location=Path("key.pem"),
        ssl_key_password="hush",
        **changes,
    )


def test_without_brokers_the_sentence_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="sessiontape up"):
        client_config(load().but(bootstrap_servers=""))


def test_plain_brokers_need_no_more() -> None:
    config = client_config(PLAIN)
    assert config["bootstrap.servers"] == "one:9092,two:9092"
    assert config["security.protocol"] == "PLAINTEXT"
    assert not [name for name in config if name.startswith(("sasl", "ssl"))]


def test_sasl_and_tls_are_passed_on() -> None:
    config = client_config(secured())
    assert {name: value for name, value in config.items() if name.startswith(("sasl", "ssl"))} == {
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "reader",
        "sasl.password": "open sesame",
        "ssl.ca.location": "ca.pem",
        "ssl.certificate.location": "cert.pem",
        "ssl.key.location": "key.pem",
        "ssl.key.password": "hush",
    }
    assert config["security.protocol"] == "SASL_SSL"


def test_consumers_read_what_is_committed_and_commit_nothing_by_themselves() -> None:
    config = consumer_config(PLAIN, "group", fetch_wait_max_ms=7)
    assert config["isolation.level"] == "read_committed"
    assert config["enable.auto.commit"] is False
    assert (config["group.id"], config["fetch.wait.max.ms"]) == ("group", 7)


def test_producers_place_symbols_as_java_does_and_send_once() -> None:
    config = producer_config(PLAIN, transactional_id="tape.session.0")
    assert config["partitioner"] == "murmur2_random"
    assert config["enable.idempotence"] is True
    assert config["transactional.id"] == "tape.session.0"


def test_brokers_that_do_not_answer_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.kafka.METADATA_TIMEOUT_S", 0.2)
    with pytest.raises(BrokerError, match=r"no broker answers at 127\.0\.0\.1:1"):
        check_topics(PLAIN.but(bootstrap_servers="127.0.0.1:1"), ("tape.session",))


def test_brokers_may_take_their_time_before_topics_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[int | Exception] = [BrokerError("away"), BrokerError("away"), 4]

    def create(settings: Settings, shards: int) -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def none_there(settings: Settings, wanted: object) -> int:
        raise TopicError("none is there")

    monkeypatch.setattr("streams.kafka.AWAY_POLL_S", 0.0)
    monkeypatch.setattr("streams.kafka.create_topics", create)
    monkeypatch.setattr("streams.kafka.check_topics", none_there)
    settings = Settings(partitions=4)
    assert ensure_topics(settings, wait_s=60) == 4
    answers += [BrokerError("away for good")]
    with pytest.raises(BrokerError, match="away for good"):
        ensure_topics(settings, 2)
    assert not answers
