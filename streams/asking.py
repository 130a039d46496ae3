"""Asks a source with a limit of time, whatever it does meanwhile: fails, hangs, never ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from streams.errors import SourceError
from streams.sources.protocol import Part, Source

__all__ = ["Asker", "Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """The arguments of `Source.load`."""

    stream: str
    symbols: Sequence[str]
    start_ns: int
    end_ns: int
    interval_ns: int


@dataclass(slots=True)
class _Call:
    """One load in a thread of its own: what came, why not all did, and whether it is over."""

    parts: list[Part] = field(default_factory=list)
    reason: str = "it ended without a word"
    over: threading.Event = field(default_factory=threading.Event)
    is_left: bool = False


class Asker:
    """One source, asked by any number of threads; one that hangs is not asked again until it ends.

    Parameters
    ----------
    source
        The source.
    timeout_s
        How long it may take for an answer.
    """

    def __init__(self, source: Source, timeout_s: float) -> None:
        self.source = source
        self._timeout_s = timeout_s
        self._left: list[_Call] = []
        self._lock = threading.Lock()

    def ask(self, question: Question) -> tuple[list[Part], str]:
        """Return what the source gave, and why that is not all; empty if it is all."""
        with self._lock:
            self._left = [call for call in self._left if not call.over.is_set()]
            if self._left:
                return [], "it still hangs over an earlier question"
        call = _Call()
        name = f"ask-{self.source.name}"
        # A daemon: a source that hangs for good must not keep the process from ending.
        threading.Thread(target=self._load, args=(call, question), name=name, daemon=True).start()
        if call.over.wait(self._timeout_s):
            return call.parts, call.reason
        call.is_left = True
        with self._lock:
            self._left.append(call)
        return list(call.parts), f"no answer within {self._timeout_s:g} s"

    def _load(self, call: _Call, question: Question) -> None:
        try:
            for part in self.source.load(
                question.stream,
                question.symbols,
                question.start_ns,
                question.end_ns,
                question.interval_ns,
            ):
                if call.is_left:
                    return
                call.parts.append(part)
            call.reason = ""
        except SourceError as exc:
            call.reason = str(exc)
        except Exception as exc:  # noqa: BLE001 - whatever a source does, the others are asked
            call.reason = f"{type(exc).__name__}: {exc}"
        finally:
            call.over.set()
