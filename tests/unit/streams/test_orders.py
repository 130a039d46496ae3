"""The stable order by small numbers, by their digits or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.orders import order_by


@given(numbers=st.lists(st.integers(0, 9)), base=st.sampled_from([0, 65_526, 65_530]))
def test_equal_numbers_stay_as_they_stand(numbers: list[int], base: int) -> None:
    column = np.array(numbers, np.int32) + base
    found = order_by(column, base + 10).tolist()
    assert found == sorted(range(len(numbers)), key=lambda at: numbers[at])


@pytest.mark.parametrize("bound", [65_536, 65_537])
def test_numbers_up_to_the_bound_keep_their_value(bound: int) -> None:
    assert order_by(np.array([bound - 1, 0, bound - 2]), bound).tolist() == [1, 2, 0]
