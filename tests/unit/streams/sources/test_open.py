"""What ``--source`` takes."""

from __future__ import annotations

import pytest

from streams.errors import ConfigError
from streams.sources import Source, open_source


@pytest.mark.parametrize(
    "uri", ["", "lean", "lean:", "csv:", "synthetic", "mysql:x", "/some/folder", "LEAN:x", ":x"]
)
def test_a_wrong_uri_says_what_is_allowed(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_source(uri)
    message = str(caught.value)
    assert message.startswith(f"{uri!r} is no source: write lean:DIR, csv:PATH, parquet:PATH, ")
    assert "\n" not in message


def test_every_source_is_a_source() -> None:
    assert isinstance(open_source("synthetic:symbols=3"), Source)
    assert isinstance(open_source("clickhouse:http://localhost"), Source)
