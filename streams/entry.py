"""How a worker that is no Faust app begins and ends: its arguments, its log, its exit code."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from typing import NoReturn

from streams import logs
from streams.errors import ConfigError, SessiontapeError
from streams.settings import Settings

__all__ = ["Parser", "exit_code", "log_to_stderr"]


class Parser(argparse.ArgumentParser):
    """Tells the right command line in one sentence.

    Parameters
    ----------
    prog
        How the worker is called.
    sentence
        What is said to who calls it otherwise.
    """

    def __init__(self, prog: str, sentence: str) -> None:
        super().__init__(prog=prog, allow_abbrev=False)
        self._sentence = sentence

    def error(self, message: str) -> NoReturn:
        """Raise the sentence."""
        raise ConfigError(self._sentence)


def log_to_stderr(settings: Settings) -> None:
    """Log one line a record to stderr."""
    logs.log_to_stderr(settings, "%(asctime)s %(levelname)s %(name)s %(message)s")


def exit_code(log: logging.Logger, work: Callable[[], None]) -> int:
    """Do the work; return 0, or 2 for bad usage and 1 for a failure, with one sentence."""
    try:
        work()
    except ConfigError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    except SessiontapeError as exc:
        log.error("%s: %s", type(exc).__name__, exc)  # noqa: TRY400 - for people, no trace
        return 1
    return 0
