"""Signals that come at a bad moment."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from streams.signals import interrupts, uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_what_must_not_be_interrupted(number: signal.Signals) -> None:
    came: list[int] = []
    done: list[str] = []

    def interrupted(found: int, _: object) -> None:
        came.append(found)
        raise KeyboardInterrupt

    def work() -> None:
        with uninterrupted():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            done.append("all of it")
            assert came == []

    before = signal.signal(number, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
        assert (came, done) == ([number], ["all of it"])
        assert signal.getsignal(number) is interrupted
        with uninterrupted():
            pass
        assert came == [number]
    finally:
        signal.signal(number, before)


def test_in_another_thread_nothing_is_put_off() -> None:
    handlers: list[object] = []

    def look() -> None:
        with uninterrupted():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(143)])
def test_what_a_handler_raises_in_a_library_comes_out_as_it_is(raised: BaseException) -> None:
    with pytest.raises(type(raised)) as found, interrupts():
        raise SystemError from raised
    assert found.value is raised


def test_another_fault_of_a_library_stays_one() -> None:
    with pytest.raises(SystemError), interrupts():
        raise SystemError from ValueError()
