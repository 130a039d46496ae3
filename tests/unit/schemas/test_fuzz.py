"""Any bytes give a record that fits together or a DecodeError with its place; nothing else.

A flipped bit inside a price is a valid message: that is Kafka's CRC to catch, not ours.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Codec
from streams.errors import DecodeError
from tests.unit.schemas.samples import NAMES, check_consistent, image, records

CODEC = Codec()
HUGE = [
    b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # 2**63 - 1
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # -2**63
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x20",  # 2**60
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x1f",  # -2**60
    b"\x80\x80\x80\x80\x10",  # 2**31
    b"\xff" * 12,
    b"\x01",
    b"\xff\xfe",
]


def check(data: bytes) -> bool:
    """Tell whether ``data`` is a record; fail if it is neither that nor refused as it should be."""
    error: DecodeError | None = None
    try:
        record = CODEC.decode(data, topic="raw.bars", partition=5, offset=99)
    except DecodeError as exc:
        error = exc
    if error is not None:
        assert (error.topic, error.partition, error.offset) == ("raw.bars", 5, 99)
        assert error.reason
        assert str(error).startswith("raw.bars[5]@99: ")
        return False
    check_consistent(record)
    # What it says can be said again: no value was made that the schema does not allow.
    assert image(CODEC.decode(CODEC.encode(record))) == image(record)
    return True


def damaged(message: bytes, rng: random.Random, times: int) -> Iterator[bytes]:
    for _ in range(times):
        at = rng.randrange(10, len(message))
        kind = rng.randrange(5)
        if kind == 0:
            yield message[:at] + bytes([message[at] ^ 1 << rng.randrange(8)]) + message[at + 1 :]
        elif kind == 1:
            huge = rng.choice(HUGE)
            yield message[:at] + huge + message[at + rng.choice([0, 1, len(huge)]) :]
        elif kind == 2:
            yield message[:at] + rng.randbytes(rng.randrange(1, 9)) + message[at:]
        elif kind == 3:
            yield message[:at] + message[at + rng.randrange(1, 9) :]
        else:
            other = rng.randrange(10, len(message))
            yield message[:at] + message[other : other + 16] + message[at + 16 :]


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    assert not check(data)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_bytes_in_an_envelope(name: str, data: st.DataObject) -> None:
    header = CODEC.encode(data.draw(records(name)))[:10]
    check(header + data.draw(st.binary(max_size=300)))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_truncation(name: str, data: st.DataObject) -> None:
    message = CODEC.encode(data.draw(records(name)))
    for end in range(len(message)):
        assert not check(message[:end])
    assert not check(message + b"\x00")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_damage(name: str, data: st.DataObject, seed: int) -> None:
    message = CODEC.encode(data.draw(records(name)))
    for bad in damaged(message, random.Random(seed), 30):
        check(bad)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_forged_numbers_cost_neither_memory_nor_time(name: str, data: st.DataObject) -> None:
    message = CODEC.encode(data.draw(records(name)))
    begun = time.monotonic()
    tracemalloc.start()
    try:
        for at in range(10, len(message), 3):
            for huge in HUGE:
                check(message[:at] + huge + message[at + 1 :])
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begun < 60
