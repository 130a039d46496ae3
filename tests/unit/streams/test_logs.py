"""Lines of logs: text as it ever was, JSON with what a line names, and no secrets in either."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.logs import fields_of, log_to_stderr
from streams.settings import Settings

TEXT = "%(levelname)s %(name)s: %(message)s"
Begin = Callable[..., io.StringIO]


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Log to a text in memory, with some settings; the root logger is put back behind it."""
    root = logging.getLogger()
    before = list(root.handlers), root.level

    def begun(**changes: Any) -> io.StringIO:
        err = io.StringIO()
        monkeypatch.setattr("sys.stderr", err)
        root.handlers[:] = []
        log_to_stderr(Settings(namespace="logs", **changes), TEXT)
        return err

    yield begun
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def lines(err: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in err.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("message", "values", "found"),
    [
        ("shard %d is ours", (3,), {"shard": 3}),
        ("shard %d: run %s: %s", (0, "r", "open"), {"shard": 0, "run": "r"}),
        ("%s[%d]@%d: %s", ("t.raw", 1, 7, "x"), {"topic": "t.raw", "shard": 1, "offset": 7}),
        ("%s[%d]: %d rows", ("t.raw", 1, 7), {"topic": "t.raw", "shard": 1}),
        ("rows=%d ms=%.0f", (5, 2.5), {"rows": 5, "ms": 2.5}),
        ("%s has not taken offset %d in %s s", ("g", 9, 1.5), {"offset": 9}),
        ("session=%s %s: %d rows", ("2024-11-27", "bars", 2), {"session": "2024-11-27"}),
        ("100%% of shard %d", (2,), {"shard": 2}),
        ("overrun %s, a run, session, %s", ("a", "b"), {}),
        ("run=%s", (), {"run": None}),
        ("nothing", (), {}),
    ],
)
def test_what_a_format_names(message: str, values: tuple[Any, ...], found: dict[str, Any]) -> None:
    assert fields_of(message, values) == found


NAMES = st.sampled_from(["run", "shard", "session", "offset", "rows", "id"])


@given(st.lists(st.tuples(NAMES, st.integers() | st.text()), max_size=6), st.booleans())
def test_each_value_is_found_under_its_name(given_: list[tuple[str, Any]], end: bool) -> None:
    message = " ".join(f"{name}={'%d' if isinstance(v, int) else '%s'}" for name, v in given_)
    values = tuple(value for _, value in given_)
    assert fields_of(message + " 5%%" * end, values) == dict(given_)


def test_text_is_as_it_ever_was(begin: Begin) -> None:
    err = begin()
    logging.getLogger("unit").info("shard %d is ours", 3)
    logging.getLogger("unit").debug("too little")
    assert err.getvalue() == "INFO unit: shard 3 is ours\n"


def test_a_json_line_has_what_the_line_names(begin: Begin) -> None:
    err = begin(log_format="json")
    logging.getLogger("unit").warning("%s[%d]@%d: %s", "logs.raw.bars", 1, 7, "no bar")
    logging.getLogger("other").info("run=%s level=%s took=%s", "r\n1", "high", ["a", 2])
    logging.getLogger("third.party").error("as %(is)s", {"is": "it is"})
    first, second, third = lines(err)
    assert datetime.fromisoformat(first.pop("time")).utcoffset() is not None
    assert first == {
        "level": "warning",
        "logger": "unit",
        "event": "logs.raw.bars[1]@7: no bar",
        "namespace": "logs",
        "topic": "logs.raw.bars",
        "shard": 1,
        "offset": 7,
    }
    assert (second["run"], second["level"], second["took"]) == ("r\n1", "info", "['a', 2]")
    assert third["event"] == "as it is"


def test_a_trace_is_in_its_line(begin: Begin) -> None:
    err = begin(log_format="json")
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        logging.getLogger("unit").exception("a fault of ours")
    (line,) = lines(err)
    assert line["event"] == "a fault of ours"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ZeroDivisionError: integer division or modulo by zero")


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_stand_in_no_line(begin: Begin, form: str) -> None:
    err = begin(
        log_format=form,
        sasl_password="hush",
        ssl_key_password="hush hush",
        alpaca_secret_key='with "quotes"',
        clickhouse_dsn="clickhouse://user:p%40ss@host/db",
    )
    log = logging.getLogger("unit")
    log.info("key=%s and hush", "hush hush")
    log.info('with "quotes", p%40ss')
    log.info("source=%s", "clickhouse://me:other@host:9000/db?x=1")
    log.info("p@ss at http://host:80/a@b")
    try:
        float("hush")
    except ValueError:
        log.exception("it was p@ss")
    said = err.getvalue()
    for secret in ("hush", "quotes", "p@ss", "p%40ss", "me:other"):
        assert secret not in said
    assert "//***@host:9000/db?x=1" in said
    assert "http://host:80/a@b" in said
    if form == "json":
        assert [line.get("key") for line in lines(err)] == ["***", None, None, None, None]
