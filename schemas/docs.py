"""The reference of the messages, from the docs in the schemas.

``python -m schemas.docs`` writes ``docs/reference/schemas.md``, or the file that it is given.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas.codec import FOLDER, RECORDS, schema_of

__all__ = ["PAGE", "render", "write"]

PAGE = FOLDER.parent / "docs" / "reference" / "schemas.md"

_TOP = """\
# The messages

Written by `python -m schemas.docs` from `schemas/*.avsc`; change the docs there.

Every message is one Avro record: in the single-object encoding (`C3 01`, the schema's CRC-64-AVRO
fingerprint as 8 bytes, little-endian, the record), or with a schema registry in Confluent's wire
format (`00`, the schema's id as 4 bytes, big-endian, the record), under `<topic>-<full name>`.

A column is `bytes` of packed little-endian numbers, one a row: `int32-column`, `int64-column`,
`float64-column`. Where `broadcast` stands, a column of one value holds for all rows. A column that
may be empty says what that means. In numpy: `np.frombuffer(column, "<f8")`.

Schemas change only so that old readers survive; see `schemas/compatibility.py`.
"""


def render() -> str:
    """Return the page."""
    return "\n".join([_TOP, *(line for name in RECORDS for line in _record(schema_of(name), "##"))])


def _record(schema: Mapping[str, Any], heading: str) -> Iterator[str]:
    yield f"{heading} {schema['name']}\n"
    yield f"{schema['doc']}\n"
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    nested: list[Mapping[str, Any]] = []
    for field in schema["fields"]:
        default = f"`{json.dumps(field['default'])}`" if "default" in field else ""
        name, kind, doc = field["name"], _kind(field["type"], nested), field["doc"]
        yield f"| `{name}` | {kind} | {default} | {doc} |"
    yield ""
    for part in nested:
        yield from _record(part, f"{heading}#")


def _kind(schema: Any, nested: list[Mapping[str, Any]]) -> str:
    if isinstance(schema, str):
        return schema
    if isinstance(schema, list):
        return " or ".join(_kind(branch, nested) for branch in schema)
    if schema["type"] == "bytes":
        return f"{schema['logicalType']}{', broadcast' if schema.get('broadcast') else ''}"
    if schema["type"] == "enum":
        return f"{', '.join(f'`{symbol}`' for symbol in schema['symbols'])}"
    if schema["type"] == "array":
        return f"list of {_kind(schema['items'], nested)}"
    nested.append(schema)
    return f"{schema['name']}"


def write(page: Path = PAGE) -> None:
    """Write the page to ``page``, with the folders above it."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(), "utf-8")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:2]))
