"""The pages of settings, commands and metrics are those that the code gives."""

from __future__ import annotations

from pathlib import Path

from streams.cli import COMMANDS
from streams.cli import reference as pages
from streams.metrics import DECLARED, PROCESS
from streams.settings import Settings


def test_the_pages_are_up_to_date() -> None:
    for path, render in pages.PAGES.items():
        assert path.read_text("utf-8") == render(), "run python -m streams.cli.reference"


def test_every_setting_and_command_is_there() -> None:
    settings, commands = pages.settings(), pages.commands()
    for name in Settings.model_fields:
        assert f"`SESSIONTAPE_{name.upper()}`" in settings
    for name in COMMANDS:
        assert f"## sessiontape {name}\n" in commands
    for line in commands.splitlines():
        if line.startswith("| `"):
            assert line.split("|")[3].strip(), f"{line} says nothing"


def test_every_metric_is_there() -> None:
    page = pages.metrics()
    for name in (*DECLARED, *PROCESS):
        assert page.count(f"| `{name}` |") == 1


def test_writing(tmp_path: Path) -> None:
    pages.write(tmp_path / "reference")
    names = sorted(path.name for path in (tmp_path / "reference").iterdir())
    assert names == ["cli.md", "metrics.md", "settings.md"]
