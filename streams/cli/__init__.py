"""The command line: one file a group of commands, parsing and printing only."""

# ruff: noqa: PLC0415 - what a command needs is imported when it runs: help must be there at once
from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from cyclopts import App, CycloptsError, Group

from streams.signals import interrupts

__all__ = ["COMMANDS", "Command", "app", "main"]

EPILOGUE = """
To begin with:
    sessiontape demo
    sessiontape replay --source lean:DIR --symbols AIG,BAC --start 2013-10-07 --end 2013-10-11

Settings come from SESSIONTAPE_* variables and sessiontape.toml: docs/reference/settings.md.
"""

_GROUPS = ("The tape", "The stack", "Checks")


class Command(NamedTuple):
    """Where a command lives, and what help says of it."""

    module: str
    group: str
    help: str
    examples: tuple[str, ...]


COMMANDS = {
    "demo": Command(
        "demo",
        "The tape",
        "Replay a synthetic week through a real Kafka and show the tape moving.",
        ("demo", "demo --json"),
    ),
    "replay": Command(
        "replay",
        "The tape",
        "Replay the sessions of a source, or a recorded run as it was known.",
        (
            "replay --source lean:DIR --symbols AIG,BAC,IBM --start 2013-10-07 --end 2013-10-11",
            "replay --source synthetic:symbols=50,missing=0.01 --start 2024-11-25 --end 2024-11-29",
            "replay --source lean:DIR --calendar 24/7 --symbols BTCUSD --speed 600 --json",
            "replay --source lean:DIR --withhold 2%@7 --fallback lean:DIR --interval 5m",
            "replay --as-known tape --namespace again --speed 60",
        ),
    ),
    "live": Command(
        "live",
        "The tape",
        "Take rows of a feed as they come, until Ctrl-C.",
        (
            "live --source alpaca: --symbols AAPL,MSFT --kinds bars,quotes",
            "live --source coinbase: --symbols BTC-USD --calendar 24/7 --kinds bars,ticks",
            "live --source rehearsal:seed=7,drop=0.01:lean:DIR --begin 2013-10-07 --speed 60",
            "live --symbols AIG,BAC  # rows come by `sessiontape ingest`",
        ),
    ),
    "subscribe": Command(
        "subscribe",
        "The tape",
        "Print the tape as it comes.",
        (
            "subscribe --symbols 'SYN000*' --from session",
            "subscribe --from start --until idle --format csv > bars.csv",
            "subscribe --unit slices --json",
            "subscribe --interval 5m,15m",
            "subscribe --kinds quotes,ticks --symbols IBM",
            "subscribe --from start --until idle --view as_final",
        ),
    ),
    "ingest": Command(
        "ingest",
        "The tape",
        "Send rows of a pipe or a file onto the raw topics as they come.",
        (
            "ingest --stream bars bars.csv",
            "ingest --stream ticks --format jsonl ticks.jsonl",
            "ingest --stream quotes --symbol IBM --heartbeat --json quotes.csv",
        ),
    ),
    "quality": Command(
        "quality",
        "The tape",
        "Show how complete a session is, symbol by symbol, worst first.",
        (
            "quality",
            "quality --session 2024-11-29 --worst 5",
            "quality --watch",
        ),
    ),
    "gaps": Command(
        "gaps",
        "The tape",
        "Show each gap of a session with its story: found, requested, what came of it.",
        (
            "gaps",
            "gaps --symbols AIG --status given_up --json",
            "gaps --watch",
        ),
    ),
    "start": Command(
        "controls",
        "The tape",
        "Begin a run on a stack that is up with a source; it goes on by itself.",
        (
            "start --symbols AIG,BAC --start 2013-10-07 --end 2013-10-11 --speed 60",
            "start --paused --json",
        ),
    ),
    "pause": Command(
        "controls",
        "The tape",
        "Stop the session clock of the run that is on.",
        ("pause", "pause --namespace research"),
    ),
    "resume": Command(
        "controls",
        "The tape",
        "Go on where the clock of a paused run stands.",
        ("resume",),
    ),
    "speed": Command(
        "controls",
        "The tape",
        "Change the speed of the run that is on.",
        ("speed 60", "speed max"),
    ),
    "step": Command(
        "controls",
        "The tape",
        "Play the next slices of a paused run, and pause behind them.",
        ("step", "step 5"),
    ),
    "seek": Command(
        "controls",
        "The tape",
        "Begin anew at a session or a time, with the state that is right there.",
        ("seek 2024-11-27", "seek 2024-11-27T10:30"),
    ),
    "stop": Command(
        "controls",
        "The tape",
        "End the run that is on where it stands.",
        ("stop", "stop --json"),
    ),
    "symbols": Command(
        "symbols",
        "The tape",
        "List the symbols of the run that is on, or add and remove some.",
        ("symbols", "symbols add GOOG", "symbols remove AIG,BAC"),
    ),
    "history": Command(
        "history",
        "The tape",
        "Read trailing sessions of a symbol back from ClickHouse.",
        (
            "history SYN0001 --interval 1m --sessions 5",
            "history AIG --format parquet --output aig.parquet",
            "history IBM --kind ticks --format csv",
        ),
    ),
    "up": Command(
        "stack",
        "The stack",
        "Start Kafka, the workers and chDB on this machine, and leave them running.",
        (
            "up",
            "up --namespace research --partitions 4 --workers 2",
            "up --source lean:DIR",
        ),
    ),
    "down": Command(
        "stack",
        "The stack",
        "Stop the workers of every namespace of this data folder, and its broker.",
        ("down",),
    ),
    "status": Command(
        "stack",
        "The stack",
        "Show broker and workers, and where the tape of a namespace stands.",
        ("status", "status --namespace research --json"),
    ),
    "topics": Command(
        "topics",
        "The stack",
        "Make the topics of a namespace, for workers that are started by themselves.",
        ("topics --wait 60", "topics --namespace research --partitions 4 --json"),
    ),
    "doctor": Command(
        "doctor",
        "The stack",
        "Check that all that is needed is here, line by line, and say how to mend the rest.",
        ("doctor",),
    ),
    "acls": Command(
        "acls",
        "The stack",
        "Show what each worker needs to be allowed at brokers that ask, or allow it.",
        (
            "acls --namespace research",
            "acls --principal User:tape --principal reader=User:alice --json",
            "acls --apply --passwords passwords --wait 60",
        ),
    ),
    "scale-plan": Command(
        "scale_plan",
        "Checks",
        "Say what a market takes: partitions, workers, brokers, network, disk.",
        (
            "scale-plan --symbols 11000 --interval 1m --ticks-per-s 2e6",
            "scale-plan --symbols 500 --sessions 250 --json",
        ),
    ),
    "verify": Command(
        "verify",
        "Checks",
        "Compare two runs; name the first minute, symbol and field that differ.",
        (
            "verify tape research",
            "verify tape/RUN tape/RUN",
            "verify tape --save monday.tape",
            "verify monday.tape tape",
        ),
    ),
    "bench": Command(
        "bench",
        "Checks",
        "Measure what the tape costs on this machine.",
        ("bench", "bench end_to_end --json", "bench --compare bench/results/latest.json"),
    ),
}


def _app() -> App:
    made = App(
        name="sessiontape",
        help="Market data as one tape: ordered, cut into sessions, the same for backtest and live.",
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        version=_version,
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    groups = {title: Group(title, sort_key=number) for number, title in enumerate(_GROUPS)}
    for name, command in COMMANDS.items():
        # By name: a command's module is imported when it runs.
        made.command(
            f"streams.cli.{command.module}:{name.replace('-', '_')}",
            name=name,
            group=groups[command.group],
            help=command.help,
            help_epilogue="\n".join(
                ["\nExamples:", *(f"    sessiontape {line}" for line in command.examples)]
            ),
        )
    made.register_install_completion_command(add_to_startup=True)
    return made


def _version() -> str:
    from importlib.metadata import version

    return version("sessiontape")


app = _app()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 failed, 2 called wrongly, 130 Ctrl-C, 143 SIGTERM."""
    from streams.cli.output import fail

    signal.signal(signal.SIGTERM, _terminated)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with interrupts():
            code = _run(given)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = fail("interrupted", 130)
    except BrokenPipeError:
        # Whoever read us has seen enough; without this Python says so once more at exit.
        sys.stdout = None
        code = 1
    sys.exit(code)


def _run(given: list[str]) -> int:
    from streams.cli.output import fail
    from streams.errors import CalendarError, ConfigError, SessiontapeError

    try:
        return int(app(given) or 0)
    except CycloptsError as exc:
        return fail(f"{_sentence(exc)} (sessiontape --help)", 2)
    except (ConfigError, CalendarError) as exc:
        return fail(str(exc), 2)
    except SessiontapeError as exc:
        return fail(str(exc), 1)


def _sentence(exc: CycloptsError) -> str:
    return " ".join(str(exc).split())


def _terminated(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)
