"""The store on a ClickHouse server: one that dies, who is let in, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sinks import open_history
from sinks.clickhouse import ClickHouseSink
from sinks.store import NoTapeError, Store
from streams.errors import HistoryError
from streams.kafka import create_topics
from streams.local import LocalBroker
from streams.settings import Settings
from tests.clickhouse.servers import Cut, Server, dsn_of
from tests.shards import SHARDS, Shards, stopped, until
from tests.shards import sink as running
from tests.unit.sinks.frames import Tape

ROWS = b"INSERT INTO bars "
LAST = b"INSERT INTO `frames` "
"""What a batch begins with, and what it ends with: behind that its rows count."""


@pytest.fixture
def settings(namespace: str, tmp_path: Path, dsn: str) -> Settings:
    return Settings(namespace=namespace, data_dir=tmp_path, clickhouse_dsn=dsn)


@pytest.fixture
def cut(server: Server) -> Iterator[Cut]:
    with Cut(server) as made:
        yield made


@pytest.mark.faults
def test_a_server_that_dies_in_an_insert_loses_and_doubles_nothing(
    broker: LocalBroker, settings: Settings, server: Server, cut: Cut
) -> None:
    here = settings.but(
        bootstrap_servers=broker.bootstrap_servers,
        clickhouse_dsn=dsn_of(cut.port, settings.namespace),
    )
    create_topics(here, SHARDS)
    shards = Shards(here)
    # Rows half sent; rows in and no position; all in, and the sink does not know.
    for day, (words, has_answered) in enumerate(((ROWS, False), (ROWS, True), (LAST, True))):
        shards.play(day)
        with running(here) as process:
            cut.at(words, has_answered=has_answered)
            _, log = process.communicate(timeout=60)
            assert cut.is_cut.is_set(), log
            assert process.returncode == 1
        assert "did not take a batch: " in log.strip().splitlines()[-1]
        server.start()
        assert not shards.caught_up()
    with running(here) as process:
        until(shards.caught_up, "all committed")
        stopped(process)
    shards.check()


def test_a_reader_makes_nothing_and_says_what_is_missing(settings: Settings) -> None:
    for _ in range(2):
        with pytest.raises(NoTapeError) as caught:
            open_history(settings)
        assert str(caught.value) == (
            f"database {settings.namespace} has no tape: start a sink, which makes it, or correct "
            "SESSIONTAPE_CLICKHOUSE_DSN"
        )
    Store.open(settings).close()
    open_history(settings).close()


def test_as_many_symbols_as_a_market_has_are_asked_for_at_once(settings: Settings) -> None:
    tape = Tape(symbols=("AAA", "O'B"))
    store = Store.open(settings)
    sink = ClickHouseSink(store)
    sink.resume({0: None}, {0: 0})
    sink.write(tape.session(0))
    sink.flush()
    history = open_history(settings)
    found = history.bars([*(f"S{number:05}" for number in range(11_000)), "O'B"])
    assert set(found["symbol"].to_pylist()) == {"O'B"}
    assert len(found) == tape.minutes
    history.close()
    sink.close()


def test_a_wrong_password_is_one_sentence_without_it(settings: Settings, server: Server) -> None:
    wrong = settings.but(clickhouse_dsn=dsn_of(server.port, settings.namespace, "guessed"))
    for open_ in (Store.open, open_history):
        with pytest.raises(HistoryError) as caught:
            open_(wrong)
        assert str(caught.value) == (
            f"the ClickHouse server at 127.0.0.1:{server.port} does not let sessiontape in: "
            "correct user and password in SESSIONTAPE_CLICKHOUSE_DSN"
        )


def test_what_the_engine_refuses_is_told_in_its_own_words_alone(settings: Settings) -> None:
    store = Store.open(settings)
    try:
        with pytest.raises(HistoryError) as caught:
            store.rows("SELECT 1\nFROM no_such_table")
    finally:
        store.close()
    said = str(caught.value)
    assert said.startswith("the store can't be read: Unknown table expression identifier")
    assert said.endswith("(UNKNOWN_TABLE)")
    assert "\n" not in said
