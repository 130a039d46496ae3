"""The demo's views: a table that moves on a terminal, lines elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.live import Live

from bench.in_process import batches
from streams.cli import demo
from streams.client import Batch, SessionData
from streams.outcome import Progress

DAY = "2024-11-29"


class Terminal(io.StringIO):
    """Takes what is written, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def tape() -> list[Batch]:
    """A half-day of ten symbols, as a subscriber gets it."""
    return batches(10, DAY, DAY)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Live, io.StringIO]]:
    """What shows on a wide terminal."""
    monkeypatch.setattr(demo, "FRAME_S", 0.0)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, height=40, color_system=None)
    with Live(console=console, auto_refresh=False) as live:
        yield live, out


def at(batch: Batch, closed: int = 0) -> Progress:
    return Progress(batch.session, batch.clock_ns, 0.5, closed, 1, 1234, 1.0)


def test_the_table_shows_the_first_symbols_as_they_stand(
    tape: list[Batch], drawn: tuple[Live, io.StringIO]
) -> None:
    live, out = drawn
    data = SessionData()
    view = demo._Live(live, data)
    view.say("starting the workers")
    assert "starting the workers …" in out.getvalue()
    for batch in tape:
        data.apply(batch)
        view.batch(batch)
        if batch.event == "rows":
            break
    out.truncate(0)
    view.progress(at(batch))
    said = out.getvalue()
    assert "session 1 of 1   1,234 bars   50%" in said
    assert f"{DAY}  2024-11-29 " in said
    assert "New York" in said
    shown = [name for name in data.symbols if name in said]
    assert shown == list(data.symbols[: demo.SHOWN])
    latest = data.get_latest_bar(shown[0])
    assert latest is not None
    assert f"{latest.close:.2f}" in said
    assert "100.0 %" in said


def test_a_symbol_without_a_bar_has_no_line(
    tape: list[Batch], drawn: tuple[Live, io.StringIO]
) -> None:
    live, out = drawn
    data = SessionData()
    view = demo._Live(live, data)
    opens = next(batch for batch in tape if batch.event == "open")
    data.apply(opens)
    view.progress(at(opens))
    said = out.getvalue()
    assert "quality" in said
    assert not [name for name in data.symbols if name in said]


def test_it_is_not_drawn_more_often_than_an_eye_sees(
    tape: list[Batch], drawn: tuple[Live, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, out = drawn
    view = demo._Live(live, SessionData())
    view.progress(at(tape[0]))
    monkeypatch.setattr(demo, "FRAME_S", 3600.0)
    before = out.getvalue()
    view.progress(at(tape[-1]))
    assert out.getvalue() == before


def test_a_terminal_gets_the_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    with demo._view(SessionData()) as view:
        view.say("starting Kafka")
    assert isinstance(view, demo._Live)
    assert "starting Kafka …" in terminal.getvalue()


def test_elsewhere_there_are_lines(tape: list[Batch], capsys: pytest.CaptureFixture[str]) -> None:
    with demo._view(SessionData()) as view:
        view.say("starting Kafka")
        for batch in tape:
            view.batch(batch)
            view.progress(at(batch))
    assert capsys.readouterr().err.splitlines() == [
        "starting Kafka",
        f"open {DAY}, session clock 2024-11-29 09:30:00 New York",
        f"close {DAY}, session clock 2024-11-29 13:00:00 New York",
    ]
