"""Fixtures of the container tests: images that are built here, and brokers of the compose file."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from scripts import local_images
from tests.containers.engine import HERE, Compose

# What tidies up is a container of an image that can't be pulled everywhere: we do it ourselves.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"


@pytest.fixture(scope="session")
def images() -> tuple[str, ...]:
    """The images of the tests, as the code is now."""
    return local_images.build()


@pytest.fixture(scope="session")
def one_broker(images: tuple[str, ...]) -> Iterator[Compose]:
    """The broker of docker-compose.yml, shared by the tests that do it no harm."""
    with Compose(HERE / "credentials.yml") as compose:
        compose.up_brokers()
        yield compose
