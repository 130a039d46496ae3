"""What ``--source`` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.errors import ConfigError
from streams.sources import Source, absolute, open_source


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


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("lean:data?market=equity/usa", "lean:HERE/data?market=equity/usa"),
        ("csv:a/b.csv", "csv:HERE/a/b.csv"),
        ("parquet:/data", "parquet:/data"),
        ("clickhouse:chdb?table=x", "clickhouse:HERE/chdb?table=x"),
        ("clickhouse:http://a:b@host/db", "clickhouse:http://a:b@host/db"),
        ("synthetic:symbols=3", "synthetic:symbols=3"),
        ("lean:", "lean:"),
        ("mysql:x", "mysql:x"),
    ],
)
def test_a_path_means_the_same_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, wanted: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute(uri) == wanted.replace("HERE", str(tmp_path))


def test_a_variable_holds_the_source_and_no_message_says_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THERE", "clickhouse:http://a:secret@localhost")
    assert isinstance(open_source("env:THERE"), Source)
    assert isinstance(open_source("built:env:THERE"), Source)
    assert absolute("env:THERE") == "env:THERE"
    monkeypatch.setenv("WRONG", "mysql:secret")
    for name in ("WRONG", "UNSET", ""):
        with pytest.raises(ConfigError, match=f"env:{name} is no|variable {name} holds") as caught:
            open_source(f"env:{name}")
        assert "secret" not in str(caught.value)
