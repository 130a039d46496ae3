"""Names of topics, and which shard a symbol lives in."""

from __future__ import annotations

import pytest

from streams.topics import Topics, shard_of, shards_of


def test_every_name_carries_the_namespace() -> None:
    topics = Topics("desk")
    assert topics.raw == ("desk.raw.bars", "desk.raw.quotes", "desk.raw.ticks")
    assert topics.session == "desk.session"
    assert topics.requests == "desk.requests"
    assert topics.control == "desk.control"
    assert topics.rejected == "desk.rejected"
    assert topics.coordinator == "desk.coordinator"
    assert topics.tables == "desk.tables"
    assert topics.sink == "desk.sink"
    assert topics.producer == "desk.producer"
    assert topics.changelog("symbols") == "desk.tables-symbols-changelog"


@pytest.mark.parametrize(
    ("symbol", "murmur2"),
    # From Kafka's own UtilsTest.testMurmur2 (Java).
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    ],
)
def test_symbols_go_where_javas_producers_put_them(symbol: str, murmur2: int) -> None:
    for shards in (1, 2, 7, 64):
        assert shard_of(symbol, shards) == (murmur2 & 0x7FFFFFFF) % shards


def test_every_symbol_lives_in_exactly_one_shard() -> None:
    symbols = [f"S{number:03d}" for number in range(200)] + ["S000"]
    found = shards_of(symbols, 4)
    assert sorted(found) == [0, 1, 2, 3]
    assert sorted(name for names in found.values() for name in names) == sorted(set(symbols))
    for shard, names in found.items():
        assert list(names) == sorted(names)
        assert all(shard_of(name, 4) == shard for name in names)


def test_a_shard_may_be_without_symbols() -> None:
    assert sorted(map(len, shards_of(["AA"], 3).values())) == [0, 0, 1]
