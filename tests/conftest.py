"""Fixtures of all tests: one real broker a pytest process, and names that no other test uses."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from streams.local import LocalBroker

# A machine that others use is slow at times: how long an example takes says nothing of the code.
settings.register_profile(
    "unhurried", settings.get_profile(settings.get_current_profile_name()), deadline=None
)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A running broker, shared by the tests of this process (each worker of xdist has its own).

    A test that kills or stops a broker makes one of its own.
    """
    with LocalBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def unmeasured() -> Iterator[None]:
    """Start processes without measuring their coverage, as they run with users.

    Their imports take twice the time with it, their work up to three times; one that is killed
    writes nothing of it anyway.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def namespace() -> str:
    """A prefix of topics and groups that is this test's alone."""
    return f"t{uuid.uuid4().hex[:12]}"
