"""Settings: read once, whole, and loud about what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.errors import ConfigError
from streams.settings import PREFIX, Settings, load


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and none of the variables of whoever runs the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)
    load.cache_clear()
    yield
    load.cache_clear()


def test_without_anything_the_defaults_count() -> None:
    settings = load()
    assert settings.namespace == "tape"
    assert settings.speed_factor == 0.0
    assert load() is settings


def test_a_variable_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sessiontape.toml").write_text('namespace = "file"\nspeed = "60"\n')
    monkeypatch.setenv("SESSIONTAPE_NAMESPACE", "variable")
    settings = load()
    assert settings.namespace == "variable"
    assert settings.speed_factor == 60.0


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("NAMESPACE", "a.b", "letters, digits, - and _"),
        ("NAMESPACE", "", "letters, digits, - and _"),
        ("SPEED", "0", "max or a number above 0"),
        ("SPEED", "-1", "max or a number above 0"),
        ("SPEED", "inf", "max or a number above 0"),
        ("SPEED", "nan", "max or a number above 0"),
        ("SPEED", "fast", "max or a number above 0"),
        ("PARTITIONS", "0", "greater than or equal to 1"),
        ("ON_TIMEOUT", "panic", "'go_on' or 'stop'"),
        ("SESSION_TIMEOUT_S", "soon", "valid number"),
    ],
)
def test_a_wrong_value_names_variable_value_and_what_is_allowed(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SESSIONTAPE_{name}", value)
    with pytest.raises(ConfigError) as raised:
        load()
    message = str(raised.value)
    assert message.startswith(f"SESSIONTAPE_{name} (or {name.lower()} in sessiontape.toml)")
    assert repr(value) in message
    assert reason in message
    assert (Settings.model_fields[name.lower()].description or "?") in message


def test_a_name_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "sessiontape.toml").write_text("partition = 3\n")
    with pytest.raises(ConfigError, match=r"SESSIONTAPE_PARTITION .* is 3: Extra inputs"):
        load()


@pytest.mark.parametrize("content", [b"speed =", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "sessiontape.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"sessiontape\.toml can't be read"):
        load()


@pytest.mark.parametrize("name", ["sasl_password", "alpaca_key_id", "alpaca_secret_key"])
def test_a_secret_stands_in_no_message(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=f"SESSIONTAPE_{name.upper()}") as raised:
        load().but(**{name: ["hidden"]})
    assert "hidden" not in str(raised.value)
    monkeypatch.setenv(f"SESSIONTAPE_{name.upper()}", "hidden")
    load.cache_clear()
    assert "hidden" not in repr(load())


def test_a_copy_is_checked_too() -> None:
    settings = load().but(speed="2.5", partitions=4)
    assert (settings.speed_factor, settings.partitions) == (2.5, 4)
    with pytest.raises(ConfigError, match="SESSIONTAPE_PARTITIONS"):
        load().but(partitions=0)
