"""What may change in a schema: what old readers survive, and what lets new ones read old messages.

``python -m schemas.compatibility`` holds today's schemas against ``schemas/history/``;
``python -m schemas.compatibility record`` writes those that changed there as their next version,
``<Name>.v<N>.avsc``, unless a reader or a message out there would break. A version, once in a
release, is never edited.

A field may come with a default, and go if it had one. Names, types, the meaning of columns
(``logicalType``, ``broadcast``) and enum symbols stay: an old reader can't skip what it does not
know.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from schemas.codec import FOLDER, RECORDS, schema_of

__all__ = ["broken", "main", "problems", "record", "unrecorded", "versions"]

HISTORY = FOLDER / "history"


def versions(name: str, history: Path = HISTORY) -> list[dict[str, Any]]:
    """Return the recorded versions of a record, the first one first."""
    found = sorted(history.glob(f"{name}.v*.avsc"), key=_number)
    return [cast("dict[str, Any]", json.loads(path.read_text("utf-8"))) for path in found]


def problems(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Yield what keeps a reader of ``old`` from messages of ``new``, or the other way round.

    Parameters
    ----------
    old, new
        Two versions of one raw schema.
    where
        Path of the field, for the sentences.
    """
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for before, after in zip(old, new, strict=True):
            yield from problems(before, after, where)
        return
    kinds = [schema.get("type") if isinstance(schema, dict) else schema for schema in (old, new)]
    if kinds[0] != kinds[1] or not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            yield f"{where}: the type was {_short(old)} and is {_short(new)}"
        return
    for key in ("name", "namespace", "logicalType", "broadcast"):
        if old.get(key) != new.get(key):
            yield f"{where}: {key} was {old.get(key)} and is {new.get(key)}"
    if kinds[0] == "record":
        yield from _field_problems(old, new, where)
    elif kinds[0] == "array":
        yield from problems(old["items"], new["items"], where)
    elif kinds[0] == "enum":
        yield from _symbol_problems(old, new, where)


def _field_problems(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> Iterator[str]:
    before = {field["name"]: field for field in old["fields"]}
    after = {field["name"]: field for field in new["fields"]}
    for name, field in before.items():
        place = f"{where}.{name}" if where else name
        if name in after:
            yield from problems(field["type"], after[name]["type"], place)
            if "default" in field and "default" not in after[name]:
                yield f"{place}: its default is gone, messages of older versions may lack it"
        elif "default" not in field:
            yield f"{place}: removed, and it had no default for old readers"
    for name, field in after.items():
        if name not in before and "default" not in field:
            place = f"{where}.{name}" if where else name
            yield f"{place}: added without a default for old messages"


def _symbol_problems(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> Iterator[str]:
    for symbols, others, reader in (
        (old["symbols"], new["symbols"], new),
        (new["symbols"], old["symbols"], old),
    ):
        unknown = [symbol for symbol in symbols if symbol not in others]
        if unknown and "default" not in reader:
            yield f"{where}: {', '.join(unknown)} means nothing to the other version"


def broken(history: Path = HISTORY) -> list[str]:
    """Return what keeps today's schemas and the recorded versions from reading each other."""
    return [
        f"{name} against v{number}: {problem}"
        for name in RECORDS
        for number, old in enumerate(versions(name, history), 1)
        for problem in problems(old, schema_of(name))
    ]


def unrecorded(history: Path = HISTORY) -> list[str]:
    """Return the records whose last version is not today's schema, docs aside."""
    return [
        name
        for name in RECORDS
        if [_meaning(old) for old in versions(name, history)[-1:]] != [_meaning(schema_of(name))]
    ]


def record(history: Path = HISTORY) -> list[Path]:
    """Write each of today's schemas that is not the last recorded version as the next one.

    Raises
    ------
    ValueError
        One breaks readers or messages of a recorded version; nothing is written.
    """
    if found := broken(history):
        raise ValueError("\n".join(found))
    written = []
    for name in unrecorded(history):
        path = history / f"{name}.v{len(versions(name, history)) + 1}.avsc"
        path.write_text((FOLDER / f"{name}.avsc").read_text("utf-8"), "utf-8")
        written.append(path)
    return written


def main(arguments: Sequence[str], history: Path = HISTORY) -> int:
    """Check, or with ``record`` record; return the exit code."""
    if list(arguments) not in ([], ["record"]):
        sys.stderr.write("usage: python -m schemas.compatibility [record]\n")
        return 2
    if found := broken(history):
        sys.stderr.write("\n".join(found) + "\n")
        return 1
    if arguments:
        for path in record(history):
            sys.stdout.write(f"recorded {path.name}\n")
    if names := unrecorded(history):
        sys.stderr.write(
            f"changed since the last version: {', '.join(names)}; "
            "run python -m schemas.compatibility record\n"
        )
        return 1
    return 0


def _number(path: Path) -> int:
    return int(path.name.split(".")[1].removeprefix("v"))


def _meaning(schema: Any) -> Any:
    """Return ``schema`` without docs."""
    if isinstance(schema, list):
        return [_meaning(part) for part in schema]
    if isinstance(schema, dict):
        return {key: _meaning(part) for key, part in schema.items() if key != "doc"}
    return schema


def _short(schema: Any) -> str:
    if isinstance(schema, dict):
        return str(schema.get("logicalType", schema["type"]))
    return " or ".join(map(_short, schema)) if isinstance(schema, list) else str(schema)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
