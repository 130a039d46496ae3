"""Threads that work beside each other and hand what they make to one that takes it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Lanes", "Step"]

J = TypeVar("J")
O = TypeVar("O")  # noqa: E741 - what comes out

STEPS = 16
"""What waits to be taken, at most: a fast source is held up when the broker is slow."""
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Step(Generic[J, O]):
    """Something that a job has made; without ``out`` the job is over, by ``error`` if it failed."""

    job: J
    out: O | None = None
    error: BaseException | None = None


class Lanes(Generic[J, O]):
    """Jobs in lanes: a lane does its jobs in the order in which they came, another beside it.

    Parameters
    ----------
    work
        Does a job and gives what it makes; runs in a thread of the lane.
    threads
        How many jobs of each lane are done at once.
    """

    def __init__(self, work: Callable[[J], Iterator[O]], threads: Mapping[str, int]) -> None:
        self._work = work
        self._stop = threading.Event()
        self._jobs: dict[str, queue.SimpleQueue[J | None]] = {}
        self._steps: queue.Queue[Step[J, O]] = queue.Queue(STEPS)
        self._open = 0
        self._threads = dict(threads)
        for lane, count in threads.items():
            self._jobs[lane] = queue.SimpleQueue()
            for _ in range(count):
                # Daemons: a source that hangs for good must not keep the process from ending.
                threading.Thread(target=self._run, args=(lane,), name=lane, daemon=True).start()

    @property
    def is_busy(self) -> bool:
        """Whether a job is not over, as far as its steps were taken."""
        return self._open > 0

    def put(self, lane: str, job: J) -> None:
        """Have a job done."""
        self._open += 1
        self._jobs[lane].put(job)

    def take(self, wait_s: float) -> Step[J, O] | None:
        """Return the next step of any job, in the order in which a job made them, or None."""
        try:
            step = self._steps.get(timeout=wait_s) if wait_s else self._steps.get_nowait()
        except queue.Empty:
            return None
        if step.out is None:
            self._open -= 1
        return step

    def stop(self) -> None:
        """Let the threads end; what they are at is left, and one that hangs is not waited for."""
        self._stop.set()
        for lane, count in self._threads.items():
            for _ in range(count):
                self._jobs[lane].put(None)

    def _run(self, lane: str) -> None:
        while not self._stop.is_set():
            job = self._jobs[lane].get()
            if job is None:
                return
            try:
                for out in self._work(job):
                    if not self._hand(Step(job, out)):
                        return
                last: Step[J, O] = Step(job)
            except Exception as exc:  # noqa: BLE001 - raised again by the one who takes it
                last = Step(job, error=exc)
            self._hand(last)

    def _hand(self, step: Step[J, O]) -> bool:
        """Hand a step over; tell whether it was, or the threads have to end."""
        while not self._stop.is_set():
            try:
                self._steps.put(step, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False
