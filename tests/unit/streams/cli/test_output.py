"""What commands print with: tables, progress on a terminal and without one."""

from __future__ import annotations

import io
import json

import pytest

from streams.cli.output import bar, fail, note, print_json, print_line, print_table
from streams.cli.replay import moved
from streams.outcome import Progress


class Terminal(io.StringIO):
    """Takes what is written, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_results_go_to_stdout_and_words_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"b": 1, "a": [2]})
    print_line("a line")
    note("a word")
    assert fail("it went wrong", 7) == 7
    out, error = capsys.readouterr()
    text, _, rest = out.rpartition("}")
    assert list(json.loads(text + "}")) == ["b", "a"]
    assert rest == "\na line\n"
    assert error == "a word\nsessiontape: it went wrong\n"


def test_a_table_is_not_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 120
    print_table("the title", ("name", "count>"), [("a", 1), (long, "10")])
    title, head, first, second = capsys.readouterr().out.splitlines()
    assert title == "the title"
    assert head.split() == ["name", "count"]
    assert second.split() == [long, "10"]
    assert first.rstrip().endswith(" 1")
    assert len(first.rstrip()) == len(second.rstrip())


def test_markup_in_a_title_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("[bold]a[/bold]", ("b",), [])
    assert "[bold]a[/bold]" in capsys.readouterr().out


def test_without_a_terminal_there_are_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bar("title") as shown:
        shown.say("begins")
        shown.move(0.1, "too soon for a line")
        monkeypatch.setattr("streams.cli.output.LINE_EVERY_S", 0.0)
        shown.move(0.25, "a quarter")
    assert capsys.readouterr().err == "begins\n25% a quarter\n"


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.stderr", terminal)
    with bar("title") as shown:
        shown.say("[begins]")
        shown.move(0.42, "[first]")
        shown.move(0.43, "second, too soon to be drawn")
        shown.move(1.0, "the end")
    said = terminal.getvalue()
    assert "[begins]" in said
    assert "title" in said
    assert "100 %" in said
    assert "the end" in said
    assert "too soon" not in said


@pytest.mark.parametrize(("elapsed_s", "rate"), [(2.0, "50"), (0.0, "0")])
def test_a_replay_moves_the_bar(elapsed_s: float, rate: str) -> None:
    seen: list[tuple[float, str]] = []

    class Shown:
        def say(self, text: str) -> None:
            raise AssertionError(text)

        def move(self, share: float, what: str) -> None:
            seen.append((share, what))

    moved(Shown())(Progress("2024-11-25", 1_732_545_000_000_000_000, 0.5, 1, 4, 100, elapsed_s))
    assert seen == [(0.5, f"session 1/4 2024-11-25 14:30:00 {rate} rows/s")]
