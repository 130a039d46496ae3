"""Errors: one base, what went wrong as attributes, what to do in the message."""

from __future__ import annotations

import pytest

from streams import errors
from streams.errors import DecodeError, DeliveryError, FencedError, HoleError, SourceError


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_the_one_base(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.SessiontapeError)
    assert name.endswith("Error")


def test_a_decode_error_says_where() -> None:
    error = DecodeError("cut short", topic="t.raw.bars", partition=1, offset=7)
    assert str(error) == "t.raw.bars[1]@7: cut short"
    assert (error.reason, error.partition, error.offset) == ("cut short", 1, 7)
    assert str(DecodeError("cut short")) == "cut short"


def test_a_source_error_says_where() -> None:
    assert str(SourceError("no number", path="a.csv", line=3)) == "a.csv:3: no number"
    assert str(SourceError("broken zip", path="a.zip")) == "a.zip: broken zip"
    assert str(SourceError("gone")) == "gone"


def test_the_others_say_what_counts() -> None:
    delivery = DeliveryError("timed out", failed=2, sent=9)
    assert str(delivery) == "2 of 9 messages were not acknowledged: timed out"
    assert (delivery.failed, delivery.sent) == (2, 9)
    assert FencedError(4).shard == 4
    hole = HoleError("frame", topic="t.session", partition=0, expected=5, got=7)
    assert str(hole).startswith("t.session[0]: frame 5 had to come, 7 came")
    assert (hole.topic, hole.partition, hole.expected, hole.got) == ("t.session", 0, 5, 7)
