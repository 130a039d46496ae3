"""Passwords are read whole or not at all, and no message shows one."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.cli.acls import acls
from streams.errors import ConfigError
from streams.users import passwords_of


def test_passwords_are_lines_of_a_name_and_what_is_behind_the_first_sign(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("# ours\n\ntape-reader=a=b#c\n  tape-sink=d \n", "utf-8")
    assert passwords_of(path) == {"tape-reader": "a=b#c", "tape-sink": "d"}


@pytest.mark.parametrize("line", ["hush", "=hush", "tape-sink="])
def test_a_line_that_is_none_is_named_and_not_shown(line: str, tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"tape-reader=hush\n{line}\n", "utf-8")
    with pytest.raises(ConfigError, match=r"passwords, line 2: name=password") as told:
        passwords_of(path)
    assert "hush" not in str(told.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_told(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="the passwords can't be read"):
        passwords_of(path)


def test_passwords_are_for_users_that_are_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say --apply, too"):
        acls(passwords=tmp_path / "passwords")
