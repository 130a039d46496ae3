"""How one replay is read: what it does where the broker is away for a while."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schemas import Command
from streams.client import SessionData
from streams.errors import BrokerError, DeliveryError, SessiontapeError
from streams.run import Run
from streams.settings import Settings
from tests.frames import full_day, merged
from tests.points import point_tape
from tests.unit.streams.shards import command


class Stack:
    """A stack that stays up."""

    settings = Settings(namespace="n")

    def check(self) -> None:
        """Find nothing wrong."""


class Broker:
    """The commands of a broker that is away for the first few calls, and the tape of its run."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.latest_ = command(run="run-1")
        self.sent: list[Command] = []
        self.rounds = 0

    def latest(self, *_: Any) -> Command:
        if self.faults and isinstance(self.faults[0], BrokerError):
            raise self.faults.pop(0)
        return self.latest_

    def send(self, _: Settings, sent: Command) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.sent.append(sent)

    def frames(self, _timeout_s: float) -> Iterator[Any]:
        """Give the end of the run once it was stopped, nothing before."""
        self.rounds += 1
        assert self.rounds < 10, "the run is not stopped"
        if self.sent:
            yield merged(point_tape([full_day(1, 1)]))[-1]


@pytest.mark.parametrize(
    "faults",
    [(), (BrokerError("away"),), (BrokerError("away"), DeliveryError("away", failed=1, sent=1))],
    ids=["there", "away", "away twice"],
)
def test_a_run_is_stopped_as_soon_as_the_broker_is_back(
    faults: tuple[Exception, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, stack = Broker(*faults), Stack()
    monkeypatch.setattr("streams.run.latest_command", broker.latest)
    monkeypatch.setattr("streams.run.send_command", broker.send)
    run = Run(
        stack,  # type: ignore[arg-type]
        (),
        (),
        data=SessionData(),
        on_batch=lambda _: None,
        on_progress=lambda _: None,
    )
    monkeypatch.setattr(run, "_commit", lambda *_: None)
    monkeypatch.setattr(run, "_report", lambda *_: None)
    run.end()
    assert run._read(broker, broker.latest_, 0.0) is None  # type: ignore[arg-type]
    assert [(one.action, one.stopped, one.version) for one in broker.sent] == [
        ("stop", True, broker.latest_.version + 1)
    ]
    assert broker.rounds == 2 + len(faults)


class Behind:
    """A reader of a group that commits one offset more every half a minute, up to a last one."""

    def __init__(self, clock: list[float], last: int) -> None:
        self.clock = clock
        self.last = last

    def committed(self) -> dict[int, int | None]:
        return {0: min(int(self.clock[0] / 30), self.last) or None, 1: 7}


@pytest.mark.parametrize("last", [9, 4])
def test_a_reader_is_waited_for_as_long_as_it_goes_on(
    last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("streams.run.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("streams.run.time.sleep", lambda _: clock.__setitem__(0, clock[0] + 1.0))
    run = Run(
        Stack(),  # type: ignore[arg-type]
        (),
        (),
        data=SessionData(),
        on_batch=lambda _: None,
        on_progress=lambda _: None,
    )
    reader: Any = Behind(clock, last)
    if last == 9:
        run._await("n.tables", reader, {0: 9, 1: 7})
        assert clock == [9 * 30.0]
        return
    with pytest.raises(SessiontapeError, match=r"n\.tables .* stood still for 60 s"):
        run._await("n.tables", reader, {0: 9, 1: 7})
    assert clock[0] == pytest.approx(4 * 30 + 60, abs=2)
