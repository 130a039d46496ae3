"""Messages written with another schema than today's, brought to today's bytes.

An older version of ours, or a third party's variant from a registry (without the optional fields,
say), is resolved by fastavro's rules and written again with today's schema. So one strict reader
sees every message.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, cast

import fastavro

from schemas.binary import plan_of

__all__ = ["plain", "translator"]


def plain(schema: Any) -> Any:
    """Return ``schema`` without logical types, so that fastavro gives bytes and numbers as is."""
    if isinstance(schema, list):
        return [plain(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key != "logicalType"}
    for key in ("type", "items", "values"):
        if key in kept:
            kept[key] = plain(kept[key])
    if "fields" in kept:
        kept["fields"] = [dict(field, type=plain(field["type"])) for field in kept["fields"]]
    return kept


def translator(writer: Mapping[str, Any], today: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """Return what turns a body written with ``writer`` into one of ``today``.

    Raises
    ------
    ValueError
        ``writer`` could make a short message cost endless time: it nests in itself, or has a list
        of items that take no bytes. The returned function raises anything on a malformed body.
    """
    _check_bounded(writer, ())
    parsed = fastavro.parse_schema(plain(writer), _write_hint=False)
    reader = fastavro.parse_schema(plain(today), _write_hint=False)
    plan = plan_of(today)

    def translate(body: bytes) -> bytes:
        stream = io.BytesIO(body)
        value = fastavro.schemaless_reader(stream, parsed, reader)
        out: list[Any] = []
        plan.write(out, cast("dict[str, Any]", value))
        return b"".join(out) + body[stream.tell() :]

    return translate


def _check_bounded(schema: Any, inside: tuple[str, ...]) -> None:
    if isinstance(schema, list):
        for branch in schema:
            _check_bounded(branch, inside)
    elif isinstance(schema, str):
        if schema.rsplit(".", 1)[-1] in inside:
            msg = f"the writer's schema nests {schema} in itself"
            raise ValueError(msg)
    else:
        name = str(schema.get("name", "")).rsplit(".", 1)[-1]
        for field in schema.get("fields", ()):
            _check_bounded(field["type"], (*inside, name))
        if "items" in schema and not _takes_bytes(schema["items"]):
            msg = "the writer's schema has a list whose items take no bytes"
            raise ValueError(msg)
        for part in ("items", "values"):
            if part in schema:
                _check_bounded(schema[part], inside)


def _takes_bytes(schema: Any) -> bool:
    """Tell whether a value takes a byte at least; no where a name leaves it open."""
    if isinstance(schema, list):
        return True
    if isinstance(schema, dict):
        if "fields" in schema:
            return any(_takes_bytes(field["type"]) for field in schema["fields"])
        if schema["type"] == "fixed":
            return bool(schema["size"] > 0)
        return schema["type"] in ("array", "map", "enum") or _takes_bytes(schema["type"])
    return schema in ("boolean", "int", "long", "float", "double", "bytes", "string")
