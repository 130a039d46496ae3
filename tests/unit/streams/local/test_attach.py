"""A stack that runs elsewhere: what is known of its workers is what the brokers say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streams.errors import BrokerError, SessiontapeError
from streams.local import attach
from streams.local.attach import DESERTED_S, LOOK_S, AttachedStack
from streams.settings import load

COORDINATORS = "market.coordinator"


class _Brokers:
    """Says how many members the group has; ``None``: the brokers are away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000.0
        self.members: int | None = 1
        self.asked = 0
        monkeypatch.setattr(attach, "admin", self._admin)
        monkeypatch.setattr(attach, "groups_there", self._there)
        monkeypatch.setattr(attach, "settled_members", self._members)
        monkeypatch.setattr("streams.local.attach.time.monotonic", lambda: self.now_s)

    @contextmanager
    def _admin(self, _: object) -> Iterator[None]:
        yield

    def _there(self, _: object) -> set[str]:
        self.asked += 1
        if self.members is None:
            msg = "away"
            raise BrokerError(msg)
        return {COORDINATORS, "another"}

    def _members(self, _: object, groups: set[str], __: float) -> dict[str, int]:
        assert groups == {COORDINATORS}
        return {COORDINATORS: self.members or 0}


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> _Brokers:
    return _Brokers(monkeypatch)


@pytest.fixture
def stack(tmp_path: Path) -> AttachedStack:
    settings = load().but(namespace="market", bootstrap_servers="there:9092", data_dir=tmp_path)
    return AttachedStack(settings, ["coordinator", "tables"], None, [], lambda _: None)


def test_workers_elsewhere_may_be_away_for_a_while_but_not_for_ever(
    brokers: _Brokers, stack: AttachedStack
) -> None:
    stack.check()
    brokers.members = 0
    brokers.now_s += LOOK_S
    stack.check()
    brokers.now_s += DESERTED_S - 1
    stack.check()
    brokers.now_s += LOOK_S
    with pytest.raises(SessiontapeError, match="market at there:9092 has had no coordinator") as e:
        stack.check()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("between", [1, None])
def test_who_comes_back_is_waited_for_anew_and_brokers_that_are_away_say_nothing(
    brokers: _Brokers, stack: AttachedStack, between: int | None
) -> None:
    for members in (0, between, 0):
        brokers.members = members
        brokers.now_s += DESERTED_S - 1
        stack.check()


def test_it_is_not_asked_at_every_look(brokers: _Brokers, stack: AttachedStack) -> None:
    for _ in range(10):
        stack.check()
    assert brokers.asked == 1
