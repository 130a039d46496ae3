"""What a shard knows of the minutes of its sessions."""

from __future__ import annotations

import numpy as np

from streams.ledgers import Ledgers


def test_of_a_session_without_a_ledger_nothing_is_known() -> None:
    due = np.array([60_000_000_000])
    assert Ledgers().no_trade(0, due, int(due[-1]), ("A",)) is None
