from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sinks.history import open_history
from sinks.owner import FolderInUseError, FolderOwner, owner_of
from sinks.store import NoTapeError, Store, database_of
from streams.errors import ConfigError, HistoryError
from streams.settings import Settings


@pytest.mark.parametrize(
    "dsn",
    ["localhost", "mysql://u:secret@h/d", "clickhouse://", "clickhouse://u:secret@h:port/x"],
)
def test_what_is_no_dsn_is_told_without_its_password(settings: Settings, dsn: str) -> None:
    with pytest.raises(ConfigError, match="SESSIONTAPE_CLICKHOUSE_DSN is no DSN") as caught:
        open_history(settings.but(clickhouse_dsn=dsn))
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_one_sentence(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        port = taken.getsockname()[1]
        dsn = f"clickhouse://someone:secret@127.0.0.1:{port}/tape"
        with pytest.raises(
            HistoryError, match=f"no ClickHouse server .*127.0.0.1:{port}"
        ) as caught:
            Store.open(settings.but(clickhouse_dsn=dsn))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "(Connection refused)" in str(caught.value)
    assert "correct SESSIONTAPE_CLICKHOUSE_DSN" in str(caught.value)


def test_the_database_is_the_dsns_or_the_namespaces(settings: Settings) -> None:
    assert database_of(settings) == "sessiontape_unit-1"
    assert database_of(settings.but(clickhouse_dsn="clickhouse://h")) == "sessiontape_unit-1"
    assert database_of(settings.but(clickhouse_dsn="clickhouse://h:1/my%20db")) == "my db"


def test_one_owner_at_a_time(settings: Settings) -> None:
    with FolderOwner(settings):
        with pytest.raises(FolderInUseError, match=r"in use by process [0-9]+, .*stop that one"):
            FolderOwner(settings, wait_s=0.0)
        owner = owner_of(settings)
        assert owner is not None
        assert owner.port == 0
    assert owner_of(settings) is None
    FolderOwner(settings, wait_s=0.0).close()


def test_only_the_user_can_read_the_key(settings: Settings) -> None:
    with FolderOwner(settings) as owner:
        owner.announce(7, b"key")
        assert owner.path.stat().st_mode & 0o777 == 0o600
        said = owner_of(settings)
        assert said is not None
        assert (said.port, said.key) == (7, b"key")


def test_an_owner_file_that_makes_no_sense_is_nobody(settings: Settings) -> None:
    with FolderOwner(settings) as owner:
        for text in ("", "{", "[]", '{"pid": "x"}'):
            owner.path.write_text(text)
            assert owner_of(settings) is None


def test_a_data_folder_that_is_a_file_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "chdb").write_text("")
    with pytest.raises(HistoryError, match="chDB can't open"):
        Store.open(settings)


def test_a_reader_makes_nothing(settings: Settings) -> None:
    with FolderOwner(settings):
        for _ in range(2):
            with pytest.raises(NoTapeError, match="database sessiontape_unit-1 has no tape: start"):
                Store.open(settings, is_reader=True)
        made = Store.open(settings)
        Store.open(settings, is_reader=True).close()
        made.run("DELETE FROM schema_version WHERE version = 3")
        with pytest.raises(HistoryError, match=r"version 2, this sessiontape reads 3: start its s"):
            Store.open(settings, is_reader=True)
        made.close()


def test_what_the_engine_says_is_told_without_what_stands_around_it(settings: Settings) -> None:
    with FolderOwner(settings):
        store = Store.open(settings)
        with pytest.raises(HistoryError) as caught:
            store.run("SELECT 1 FROM\nno_such_table")
        store.close()
    assert str(caught.value).startswith("the store refused a statement: Unknown table expression")
    assert str(caught.value).endswith("(UNKNOWN_TABLE)")
