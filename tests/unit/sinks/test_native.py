from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from sinks.native import Letters, Texts, native_block, taken
from sinks.owner import FolderOwner
from sinks.store import Store
from streams.errors import HistoryError
from streams.settings import Settings


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with FolderOwner(settings):
        opened = Store.open(settings)
        opened.run(
            "CREATE TABLE t (i Int64, j Int32, u UInt64, f Float64, s LowCardinality(String)) "
            "ENGINE = MergeTree ORDER BY i"
        )
        yield opened
        opened.close()


@pytest.mark.parametrize("texts", [1, 255, 256, 65_535, 65_536])
def test_chdb_reads_back_what_a_block_holds(store: Store, texts: int) -> None:
    values = [f"é{n}" for n in range(texts)]
    rows = max(texts, 3)
    numbers = np.arange(rows)
    index = (numbers % texts).astype(np.int32)
    store.insert_block(
        "t",
        {
            "i": numbers - 1,
            "j": numbers.astype(np.int32)[::-1],
            "u": numbers.astype(np.uint64) + np.uint64(1 << 63),
            "f": numbers.astype(">f8") / 7,
            "s": Texts(values, index),
        },
    )
    found = store.rows("SELECT i, j, u, f, s FROM t ORDER BY i")
    assert [tuple(row) for row in found] == [
        (n - 1, rows - 1 - n, n + (1 << 63), n / 7, values[n % texts]) for n in range(rows)
    ]


@pytest.mark.parametrize("size", [0, 3, 127, 128, 20_000])
def test_letters_and_truths_are_read_back(store: Store, size: int) -> None:
    store.run("CREATE TABLE l (t String, b Bool) ENGINE = MergeTree ORDER BY t")
    letters = np.frombuffer(b"abc" * (size + 2), np.uint8)
    rows = Letters(np.stack([letters[n : n + size] for n in range(3)]))
    store.insert_block("l", {"t": rows, "b": np.array([True, False, True])})
    texts = [row.tobytes().decode() for row in rows.letters]
    found = store.rows("SELECT t, b FROM l")
    assert sorted(map(tuple, found)) == sorted(zip(texts, [True, False, True], strict=True))
    picked = taken(rows, np.array([2, 0]))
    assert isinstance(picked, Letters)
    assert [row.tobytes().decode() for row in picked.letters] == [texts[2], texts[0]]


def test_a_block_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="without rows"):
        native_block({"a": np.arange(0)})


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"different lengths: \[2, 3\]"):
        native_block({"a": np.arange(2), "b": np.arange(3)})


def test_a_block_that_does_not_fit_the_table_is_an_error_of_ours(store: Store) -> None:
    with pytest.raises(HistoryError, match="t did not take a batch"):
        store.insert_block("t", {"no_such_column": np.arange(2)})
