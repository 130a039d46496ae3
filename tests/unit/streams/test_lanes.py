"""Lanes: jobs beside each other, their steps in order, one hand that takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from streams.lanes import STEPS, Lanes, Step

WAIT_S = 30.0


def taken(lanes: Lanes[str, int]) -> Step[str, int]:
    step = lanes.take(WAIT_S)
    assert step is not None
    return step


def test_a_lane_does_its_jobs_in_order_and_another_beside_it() -> None:
    go_on = threading.Event()

    def work(job: str) -> Iterator[int]:
        yield 1
        if job == "slow":
            assert go_on.wait(WAIT_S)
        yield 2

    lanes = Lanes(work, {"one": 1, "two": 1})
    assert lanes.take(0) is None
    assert [lanes.is_busy] == [False]
    lanes.put("one", "slow")
    lanes.put("one", "next")
    assert taken(lanes) == Step("slow", 1)
    lanes.put("two", "beside")
    assert [taken(lanes) for _ in range(3)] == [
        Step("beside", 1),
        Step("beside", 2),
        Step("beside"),
    ]
    assert [lanes.is_busy] == [True]
    go_on.set()
    steps = [taken(lanes) for _ in range(5)]
    assert [step.job for step in steps] == ["slow", "slow", "next", "next", "next"]
    assert [lanes.is_busy] == [False]
    lanes.stop()


def test_what_a_job_raises_is_handed_over_and_the_lane_goes_on() -> None:
    def work(job: str) -> Iterator[int]:
        if job == "bad":
            raise ZeroDivisionError(job)
        yield 1

    lanes = Lanes(work, {"one": 1})
    lanes.put("one", "bad")
    lanes.put("one", "good")
    step = taken(lanes)
    assert isinstance(step.error, ZeroDivisionError)
    assert [taken(lanes), taken(lanes)] == [Step("good", 1), Step("good")]
    lanes.stop()


@pytest.mark.parametrize("count", [1, 3])
def test_told_to_stop_the_threads_end_though_nobody_takes_what_they_make(count: int) -> None:
    ended = threading.Semaphore(0)

    def work(job: str) -> Iterator[int]:
        try:
            yield from range(10 * STEPS)
        finally:
            ended.release()

    lanes: Lanes[str, int] = Lanes(work, {f"stop-{count}": count})
    for _ in range(count):
        lanes.put(f"stop-{count}", "long")
    taken(lanes)
    lanes.stop()
    for thread in threading.enumerate():
        if thread.name == f"stop-{count}":
            thread.join(WAIT_S)
            assert not thread.is_alive()
    for _ in range(count):
        assert ended.acquire(timeout=WAIT_S)
