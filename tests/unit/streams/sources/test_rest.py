"""How a source asks over HTTP: patience, limits, refusals."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from streams.errors import SourceError
from streams.sources.rest import Rest, Site
from tests.vendors import Answers


class Clock:
    """Seconds that pass by being slept."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def site(self, url: str, **changes: Any) -> Site:
        return Site(url, sleep=self.sleep, now=lambda: self.now_s, share=lambda: 1.0, **changes)


class Scripted:
    """Gives answers in their order, the last again and again."""

    def __init__(self, *answers: tuple[int, Mapping[str, str], Any]) -> None:
        self.left = list(answers)

    def __call__(
        self, path: str, parameters: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], Any]:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


FINE: tuple[int, Mapping[str, str], Any] = (200, {}, {"fine": True})


def test_parameters_and_headers_are_sent() -> None:
    with Answers(Scripted(FINE)) as server:
        site = Clock().site(server.url, headers={"X-KEY": "secret"})
        assert "secret" not in repr(site)
        with Rest(site) as rest:
            reply = rest.get("/v1/rows", {"a": "b c"})
    assert reply is not None
    assert reply.body == {"fine": True}
    assert server.asked == [("/v1/rows", {"a": "b c"})]
    assert server.headers[0]["X-KEY"] == "secret"


@pytest.mark.parametrize(
    ("bad", "slept"),
    [
        ((429, {"Retry-After": "7"}, {}), [7.0]),
        ((429, {"Retry-After": "900"}, {}), [60.0]),
        ((429, {"Retry-After": "Wed, 21 Oct"}, {}), [0.5]),
        ((429, {}, {}), [0.5]),
        ((503, {}, "down"), [0.5]),
        ((200, {}, "{no json"), [0.5]),
    ],
)
def test_what_may_pass_is_asked_again(bad: Any, slept: list[float]) -> None:
    clock = Clock()
    with Answers(Scripted(bad, FINE)) as server, Rest(clock.site(server.url)) as rest:
        reply = rest.get("/rows")
    assert reply is not None
    assert clock.slept == slept
    assert len(server.asked) == 2


def test_a_reset_at_a_time_is_waited_for() -> None:
    clock = Clock()
    reset = {"X-RateLimit-Reset": str(time.time() + 30)}
    with Answers(Scripted((429, reset, {}), FINE)) as server, Rest(clock.site(server.url)) as rest:
        rest.get("/rows")
    assert clock.slept[0] == pytest.approx(30, abs=5)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((500, {}, {"message": "oh\n no"}), "it answers 500: oh no"),
        ((200, {}, "<html>"), "it answers with what is no JSON"),
        ((429, {}, []), "it answers 429: "),
    ],
)
def test_it_gives_up_after_some_attempts(answer: Any, says: str) -> None:
    clock = Clock()
    with Answers(Scripted(answer)) as server, Rest(clock.site(server.url)) as rest:
        with pytest.raises(SourceError) as caught:
            rest.get("/rows")
        assert str(caught.value).startswith(f"{server.url}/rows: {says}")
    assert clock.slept == [0.5, 1.0, 2.0, 4.0]
    assert len(server.asked) == 5


@pytest.mark.parametrize("status", [400, 401, 403, 422, 301])
def test_a_refusal_is_not_asked_again(status: int) -> None:
    with Answers(Scripted((status, {}, {"message": "not for you"}))) as server:
        with (
            Rest(Clock().site(server.url)) as rest,
            pytest.raises(SourceError, match=f"{status}: not for you"),
        ):
            rest.get("/rows")
        assert len(server.asked) == 1


def test_what_is_not_there_is_none() -> None:
    with Answers(Scripted((404, {}, {}))) as server, Rest(Clock().site(server.url)) as rest:
        assert rest.get("/rows") is None


def test_nobody_there() -> None:
    with Answers(Scripted(FINE)) as server:
        url = server.url
    with Rest(Clock().site(url)) as rest, pytest.raises(SourceError, match="it can't be reached"):
        rest.get("/rows")


def test_questions_keep_their_distance() -> None:
    clock = Clock()
    with Answers(Scripted(FINE)) as server, Rest(clock.site(server.url, spacing_s=0.25)) as rest:
        for _ in range(3):
            rest.get("/rows")
        clock.now_s += 10
        rest.get("/rows")
    assert clock.slept == [0.25, 0.25]


def test_it_is_used_in_a_with_block() -> None:
    rest = Rest(Clock().site("http://127.0.0.1:1"))
    with pytest.raises(RuntimeError, match="with block"):
        rest.get("/rows")
