"""What the sinks' own tests ask of chDB, asked of a server by its DSN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sinks.store import Store, database_of
from streams.settings import Settings
from tests.clickhouse.servers import Server, dsn_of
from tests.unit.sinks.test_clickhouse import (  # noqa: F401 - they are collected here, too
    store,
    test_a_batch_written_again_after_a_crash_changes_nothing,
    test_a_store_of_the_first_version_is_brought_up_to_date,
    test_every_column_of_every_bar_arrives_in_both_tables,
    test_expiry_reaches_every_table,
    test_many_symbols_need_wider_keys_and_still_arrive,
    test_sessions_tell_what_was_expected_and_what_came,
)
from tests.unit.sinks.test_ticks import TestHistory  # noqa: F401


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> Iterator[Settings]:
    """The settings of those tests, with a DSN; the database is gone behind each."""
    made = Settings(namespace="unit-1", data_dir=tmp_path, clickhouse_dsn=dsn_of(server.port, ""))
    yield made
    with closing(Store(made)) as there:
        there.run(f"DROP DATABASE IF EXISTS `{database_of(made)}`")
