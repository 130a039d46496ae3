"""A server for the tests of this folder: by default ClickHouse's engine behind HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.clickhouse.servers import Server, dsn_of, of_the_environment

# What tidies up is a container of an image that can't be pulled everywhere: we do it ourselves.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that runs, or runs again."""
    made = of_the_environment(tmp_path_factory.mktemp("server") / "data")
    with closing(made):
        made.start()
        yield made


@pytest.fixture
def dsn(server: Server, namespace: str) -> str:
    """The DSN of a database that there is not yet."""
    return dsn_of(server.port, namespace)
