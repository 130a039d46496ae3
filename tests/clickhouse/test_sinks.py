"""What the sinks' own tests ask of chDB, asked of a server by its DSN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sinks.store import Store, database_of
from streams.settings import Settings
from tests.clickhouse.servers import Server, dsn_of
from tests.unit.sinks.test_clickhouse import *  # noqa: F403 - they are the tests
from tests.unit.sinks.test_clickhouse import store as store  # noqa: PLC0414 - and their fixture

del test_an_empty_folder_is_told_in_one_sentence  # noqa: F821 - a server has none


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> Iterator[Settings]:
    """The settings of those tests, with a DSN; the database is gone behind each."""
    made = Settings(namespace="unit-1", data_dir=tmp_path, clickhouse_dsn=dsn_of(server.port, ""))
    yield made
    with closing(Store(made)) as there:
        there.run(f"DROP DATABASE IF EXISTS `{database_of(made)}`")
