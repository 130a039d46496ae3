"""Commands as a person runs them, without a process of their own."""

from __future__ import annotations

import io
import signal
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from streams.cli import main
from streams.settings import load

__all__ = ["Ran", "run"]


@dataclass(frozen=True)
class Ran:
    """What a command said."""

    returncode: int
    stdout: str
    stderr: str


def run(tmp_path: Path, *arguments: str, **variables: str) -> Ran:
    """Run a command in this process: what it imports would take one of its own seconds.

    Its data folder is ``data`` in ``tmp_path``, where it runs.
    """
    out, error = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setenv("SESSIONTAPE_DATA_DIR", str(tmp_path / "data"))
            for name, value in variables.items():
                patch.setenv(name, value)
            load.cache_clear()
            with redirect_stdout(out), redirect_stderr(error), pytest.raises(SystemExit) as ended:
                main(arguments)
    finally:
        load.cache_clear()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    code = ended.value.code
    assert isinstance(code, int)
    return Ran(code, out.getvalue(), error.getvalue())
