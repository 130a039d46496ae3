"""The page of the messages is the one that the schemas give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from schemas import docs, schema_of
from tests.unit.schemas.samples import NAMES


def test_the_page_is_up_to_date() -> None:
    page = docs.PAGE.read_text("utf-8")
    assert page == docs.render(), "run python -m schemas.docs"


def test_every_field_is_on_it() -> None:
    page = docs.render()
    for name in NAMES:
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for field in schema_of(name)["fields"]:
            assert f"| `{field['name']}` |" in section
            assert field["doc"] in section


def test_writing(tmp_path: Path) -> None:
    page = tmp_path / "reference" / "schemas.md"
    docs.write(page)
    assert page.read_text("utf-8") == docs.render()
    page.unlink()
    subprocess.run([sys.executable, "-m", "schemas.docs", str(page)], check=True)
    assert page.read_text("utf-8") == docs.render()
