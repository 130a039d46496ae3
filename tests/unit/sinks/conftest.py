"""Settings with a data folder of the test's own; chDB runs in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose data folder is empty."""
    return Settings(data_dir=tmp_path, namespace="unit-1")
