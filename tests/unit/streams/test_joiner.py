"""Symbols that join a session: when all they have is there."""

from __future__ import annotations

from dataclasses import replace

from schemas import Coverage
from streams.joiner import Joiner
from tests.unit.streams.shards import command, plan_for

PLAN = plan_for(command(streams=("ticks",)), 0, 1)


def test_an_answer_in_pieces_is_one_when_they_cover_all_that_was_asked_for() -> None:
    joiner = Joiner(PLAN, 0, ("AA",), "x")
    asked = joiner.request
    middle_ns = (asked.start_ns + asked.end_ns) // 2
    first = Coverage(("BB", "CC"), asked.start_ns, middle_ns, request=asked.id)
    last = replace(first, start_ns=middle_ns, end_ns=asked.end_ns, answer="cannot_say")
    joiner.cover(replace(last, request="another"), "ticks", is_new=True)
    joiner.cover(last, "ticks", is_new=True)
    joiner.cover(replace(first, symbols=("BB",)), "ticks", is_new=True)
    assert not joiner.is_ready
    joiner.cover(replace(first, symbols=("AA", "CC")), "ticks", is_new=True)
    assert joiner.is_ready
