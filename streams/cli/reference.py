"""``python -m streams.cli.reference`` writes the pages of settings, commands and metrics."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from streams.cli import COMMANDS
from streams.metrics import DECLARED, PROCESS
from streams.settings import PREFIX, Settings

__all__ = ["PAGES", "commands", "metrics", "settings", "write"]

FOLDER = Path(__file__).parents[2] / "docs" / "reference"

_SETTINGS = """\
# Settings

Written by `python -m streams.cli.reference` from `streams/settings.py`; change it there.

Every setting can be given as an environment variable, or by its name in `sessiontape.toml` in the
folder a command is started in. A variable wins over the file, the file over the default; an option
of a command wins over both. A value that can't be used is an error that names the variable, the
value and what is allowed.

| variable | in `sessiontape.toml` | default | allowed | meaning |
|---|---|---|---|---|
"""

_COMMANDS = """\
# Commands

Written by `python -m streams.cli.reference` from `streams/cli/`; change the texts there.

Results go to stdout, progress and warnings to stderr; `--json` prints JSON on stdout and nothing
else. Exit codes: 0 done, 1 failed (`status`: not up; `verify`: different), 2 called wrongly,
130 Ctrl-C. `sessiontape --install-completion` installs completion for the shell in use.
"""

_METRICS = """\
# Metrics

Written by `python -m streams.cli.reference` from `streams/metrics.py`; change them there.

Each worker serves them at `/metrics` when `SESSIONTAPE_METRICS_PORT` is set;
[operations.md](../operations.md) says how, and what the alerts mean. Times are in seconds,
counters end in `_total`; a histogram has `_bucket`, `_sum` and `_count`. Counters begin at 0 with
each life of a worker; of a shard that it gives away it tells nothing but them. `topic` is the whole
name of one.

| metric | kind | labels | told by | meaning |
|---|---|---|---|---|
"""


def settings() -> str:
    """Return the page of the settings."""
    return _SETTINGS + "\n".join(_setting_rows()) + "\n"


def commands() -> str:
    """Return the page of the commands."""
    return _COMMANDS + "".join(_command(name) for name in COMMANDS)


def metrics() -> str:
    """Return the page of the metrics."""
    rows = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | "
        f"{one.workers} | {one.text} |"
        for one in DECLARED.values()
    ]
    rows += [
        f"| `{name}` | {'counter' if name.endswith('_total') else 'gauge'} | | all | {text} |"
        for name, text in PROCESS.items()
    ]
    return _METRICS + "\n".join(rows) + "\n"


def _setting_rows() -> Iterator[str]:
    schema = Settings.model_json_schema()["properties"]
    for name, field in Settings.model_fields.items():
        value = field.default
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        default = "" if value in (None, "", PydanticUndefined) else f"`{value}`"
        allowed = _allowed(schema[name])
        text = (field.description or "").replace("|", "\\|")
        yield f"| `{PREFIX}{name.upper()}` | `{name}` | {default} | {allowed} | {text} |"


def _allowed(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return _allowed(schema["anyOf"][0])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"))
        if key in schema
    ]
    kind = {"integer": "whole number", "number": "number", "string": "text"}[schema["type"]]
    if schema.get("format") == "path":
        kind = "path"
    return " ".join([kind, ", ".join(bounds)]).strip()


def _command(name: str) -> str:
    command = COMMANDS[name]
    function = getattr(import_module(f"streams.cli.{command.module}"), name.replace("-", "_"))
    lines = [f"\n## sessiontape {name}\n", f"{command.help}\n", "```sh"]
    lines += [f"sessiontape {example}" for example in command.examples]
    lines += ["```\n"]
    described = _parameters(function)
    rows = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        shown, text = _option(parameter)
        default = _default(parameter)
        meaning = described.get(parameter.name, text)
        rows.append(f"| `{shown}` | {default} | {meaning} |")
    if rows:
        lines += ["| option | default | meaning |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _option(parameter: inspect.Parameter) -> tuple[str, str]:
    """Return how an option is written, and the help that stands at its type."""
    extras = getattr(parameter.annotation, "__metadata__", ())
    named = [one for one in extras if getattr(one, "name", ())]
    text = next((one.help for one in extras if getattr(one, "help", None)), "")
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        return parameter.name.upper(), text
    if named:
        return named[0].name[0], text
    option = f"--{parameter.name.replace('_', '-')}"
    if parameter.annotation is bool:
        return f"{option} / --no-{parameter.name.replace('_', '-')}", text
    return option, text


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else "required"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value in (None, ()) else f"`{value}`"


def _parameters(function: Any) -> dict[str, str]:
    """Return what a docstring says of each parameter."""
    found: dict[str, str] = {}
    _, _, section = (inspect.getdoc(function) or "").partition("Parameters\n----------\n")
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            name = line.strip()
        elif name and line.strip():
            found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found


PAGES = {
    FOLDER / "settings.md": settings,
    FOLDER / "cli.md": commands,
    FOLDER / "metrics.md": metrics,
}


def write(folder: Path = FOLDER) -> None:
    """Write the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, render in PAGES.items():
        (folder / path.name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    write()
