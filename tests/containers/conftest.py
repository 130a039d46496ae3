"""Fixtures of the container tests: images that are built here, and brokers of the compose file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from scripts import local_images
from streams.local import LocalBroker
from tests.containers.engine import REPLAY, Compose
from tests.integration.commands import run

# What tidies up is a container of an image that can't be pulled everywhere: we do it ourselves.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"


@pytest.fixture(scope="session")
def images() -> tuple[str, ...]:
    """The images of the tests, as the code is now."""
    return local_images.build()


@pytest.fixture(scope="session")
def one_broker(images: tuple[str, ...]) -> Iterator[Compose]:
    """The broker of docker-compose.yml, shared by the tests that do it no harm."""
    with Compose() as compose:
        compose.up_brokers()
        yield compose


@pytest.fixture(scope="session")
def played_here(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `REPLAY` says on a local stack."""
    done = run(
        tmp_path_factory.mktemp("own"),
        *REPLAY,
        *("--no-sink", "--namespace", "composed"),
        SESSIONTAPE_BOOTSTRAP_SERVERS=broker.bootstrap_servers,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
