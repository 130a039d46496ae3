"""``quality`` and ``gaps``: what they print for people and for machines, and while it changes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from streams.calendar import Session
from streams.cli.gaps import gaps
from streams.cli.quality import quality
from streams.coverage import Status
from streams.intervals import MINUTE_NS
from streams.letters import quality_of
from streams.local import told
from streams.local.told import Told
from streams.settings import Settings
from streams.story import Part, gaps_of

OPEN_NS = 1_732_545_000 * 1_000_000_000


class Terminal(io.StringIO):
    """Takes what is written, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def part(symbol: str, first: int, stop: int, status: Status, attempt: int = 0) -> Part:
    start_ns, end_ns = (OPEN_NS + minute * MINUTE_NS for minute in (first, stop))
    return Part(symbol, start_ns, end_ns, status, attempt, f"r{attempt}" if attempt else "", 0)


FOUND = Told(
    namespace="ns",
    run="run-1",
    session="2024-11-25",
    origin="tape",
    clock_ns=OPEN_NS + 8 * MINUTE_NS,
    is_over=False,
    qualities=tuple(
        quality_of(symbol, minutes)
        for symbol, minutes in (("AA", "ttttntttpp"), ("BB", "ttmmtgtrpp"), ("CC", "tftttttmpp"))
    ),
    gaps=tuple(
        gaps_of(
            Session("2024-11-25", OPEN_NS, OPEN_NS + 10 * MINUTE_NS),
            [
                part("AA", 4, 5, Status.NO_TRADE, 1),
                part("BB", 2, 4, Status.MISSING),
                part("BB", 5, 6, Status.MISSING, 1),
                part("BB", 5, 6, Status.GIVEN_UP, 2),
                part("CC", 1, 3, Status.MISSING),
                part("CC", 1, 2, Status.FILLED, 1),
                part("DD", 1, 3, Status.FILLED, 1),
            ],
            {("CC", OPEN_NS + MINUTE_NS): "other"},
        )
    ),
)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the commands ask for; they are given the same each time."""
    found: list[tuple[Any, ...]] = []

    def tell(settings: Settings, *what: Any) -> Told:
        found.append((settings.namespace, *what))
        return FOUND

    def watch(settings: Settings, *what: Any) -> Iterator[Told]:
        yield tell(settings, *what)
        yield replace(FOUND, clock_ns=FOUND.clock_ns + MINUTE_NS)

    monkeypatch.setattr(told, "tell", tell)
    monkeypatch.setattr(told, "watch", watch)
    return found


def lines(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_worst_come_first(capsys: pytest.CaptureFixture[str], asked: Sequence[Any]) -> None:
    assert quality(namespace="ns") == 0
    title, many, head, *rows, legend = lines(capsys)
    assert (
        " ".join(title) == "session 2024-11-25 of ns/run-1, session clock 2024-11-25 14:38:00 UTC"
    )
    assert " ".join(many) == "the 3 worst of 3 symbols"
    counts = "expected traded filled no trade missing given up"
    assert " ".join(head) == f"symbol quality {counts} minutes"
    assert rows == [
        ["BB", "50.00", "%", "8", "4", "0", "0", "2", "1", "ttmmtgtrpp"],
        ["CC", "87.50", "%", "8", "6", "1", "0", "1", "0", "tftttttmpp"],
        ["AA", "100.00", "%", "8", "7", "0", "1", "0", "0", "ttttntttpp"],
    ]
    assert "t traded f filled n no trade r requested m missing g given up" in " ".join(legend)
    assert asked == [("ns", "quality", "", None)]


def test_only_some(capsys: pytest.CaptureFixture[str], asked: Sequence[Any]) -> None:
    assert quality(session="2024-11-25", symbols="AA,BB", worst=1, namespace="other") == 0
    assert [row[0] for row in lines(capsys)[3:-1]] == ["BB"]
    assert asked == [("other", "quality", "2024-11-25", ["AA", "BB"])]


def test_json_has_every_symbol(capsys: pytest.CaptureFixture[str]) -> None:
    assert quality(json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert {name: said[name] for name in ("namespace", "run", "session", "from", "clock_ns")} == {
        "namespace": "ns",
        "run": "run-1",
        "session": "2024-11-25",
        "from": "tape",
        "clock_ns": FOUND.clock_ns,
    }
    assert [one["symbol"] for one in said["symbols"]] == ["BB", "CC", "AA"]
    assert said["symbols"][0]["minutes"] == "ttmmtgtrpp"
    assert said["symbols"][0]["requested"] == 1
    assert quality(json=True, worst=2) == 0
    assert len(json.loads(capsys.readouterr().out)["symbols"]) == 2


def test_on_a_terminal_minutes_are_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr("sys.stdout", terminal)
    assert quality() == 0
    said = terminal.getvalue()
    assert "█" in said
    assert "\x1b[91m█" in said  # missing is red
    assert "ttmm" not in said
    # While it changes it is drawn over.
    assert quality(watch=True) == 0
    assert terminal.getvalue().count("session clock 2024-11-25 14:39:00") >= 1


def test_watched_without_a_terminal_each_change_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert quality(watch=True, worst=1) == 0
    clocks = [line[-2] for line in lines(capsys) if line[:1] == ["session"]]
    assert clocks == ["14:38:00", "14:39:00"]
    assert quality(watch=True, json=True) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert second["clock_ns"] - first["clock_ns"] == MINUTE_NS


def test_each_gap_has_its_story(capsys: pytest.CaptureFixture[str], asked: Sequence[Any]) -> None:
    assert gaps(symbols="AA", namespace="ns") == 0
    title, many, _, *rows = (" ".join(line) for line in lines(capsys))
    assert title == "session 2024-11-25 of ns/run-1"
    assert many == "5 gaps: 1 filled, 1 without trade, 1 given up, 2 open"
    assert rows == [
        "AA 14:34 1 without trade found; requested, attempt 1 [r1]; no trade",
        "BB 14:32 2 open found",
        "BB 14:35 1 given up found; requested, attempt 1 [r1]; attempt 1: no answer; "
        "requested, attempt 2 [r2]; given up",
        "CC 14:31 2 open found; requested, attempt 1 [r1] (1 min); filled from other (1 min)",
        "DD 14:31 2 filled found; requested, attempt 1 [r1]; filled",
    ]
    assert asked == [("ns", "gaps", "", ["AA"])]


def test_gaps_of_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert gaps(status="open") == 0
    assert [row[0] for row in lines(capsys)[3:]] == ["BB", "CC"]
    assert gaps(status="given_up", json=True) == 0
    (gap,) = json.loads(capsys.readouterr().out)["gaps"]
    assert (gap["symbol"], gap["status"], gap["minutes"]) == ("BB", "given_up", 1)
    assert gap["steps"][-1] == {
        "status": "given_up",
        "attempt": 2,
        "request": "r2",
        "minutes": 1,
        "clock_ns": 0,
    }


def test_gaps_are_watched_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gaps(watch=True, json=True) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    monkeypatch.setattr(told, "watch", lambda *_: iter([replace(FOUND, gaps=())]))
    assert gaps(watch=True) == 0
    assert [" ".join(line) for line in lines(capsys)] == [
        "session 2024-11-25 of ns/run-1",
        "0 gaps: none",
    ]
