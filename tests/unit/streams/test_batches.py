"""Messages cut into batches."""

from __future__ import annotations

from itertools import chain, pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.batches import BATCH_BYTES, BATCH_MESSAGES, Came, batches

SIZES = st.one_of(
    st.lists(st.sampled_from([None, 0, 1, BATCH_BYTES // 2, BATCH_BYTES, 2 * BATCH_BYTES])),
    st.integers(0, 2 * BATCH_MESSAGES + 2).map(lambda count: [1] * count),
)


def size_of(batch: list[Came]) -> int:
    return sum(len(came.value or b"") for came in batch)


@given(SIZES)
def test_all_come_once_in_order_in_no_more_batches_than_needed(sizes: list[int | None]) -> None:
    came = [Came(n, None if size is None else bytes(size)) for n, size in enumerate(sizes)]
    found = batches(came)
    assert list(chain.from_iterable(found)) == came
    for batch in found:
        assert 1 <= len(batch) <= BATCH_MESSAGES
        assert len(batch) == 1 or size_of(batch) <= BATCH_BYTES
    for batch, then in pairwise(found):
        full = len(batch) == BATCH_MESSAGES
        assert full or size_of(batch) + size_of(then[:1]) > BATCH_BYTES
