"""A folder of nothing but ticks through the whole tape: its bars are built on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.intervals import MINUTE_NS
from streams.local import LocalBroker
from tests.harness import Tape
from tests.rows import expected_rows

REAL = Path(__file__).parents[3] / "shared" / "data" / "lean"
START, END = "2013-10-07", "2013-10-11"

pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason="the LEAN sample folder is not beside the repository"
)


def test_a_week_of_ticks_plays_as_bars_of_minutes(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    place = tmp_path / "ticks" / "equity" / "usa" / "tick"
    place.mkdir(parents=True)
    (place / "ibm").symlink_to(REAL / "equity" / "usa" / "tick" / "ibm")
    source = f"built:lean:{tmp_path / 'ticks'}"
    with Tape(broker.bootstrap_servers, namespace, tmp_path, partitions=2, source=source) as tape:
        tape.coordinator()
        tape.producer()
        tape.start(START, END, run="week", symbols=("IBM",))
        tape.play("week")
        rows = list(tape.rows("week"))
        assert rows == list(expected_rows(source, "XNYS", START, END))
        assert all(row.known_ns == row.ts_ns + MINUTE_NS for row in rows)
        # One minute of the five sessions, which LEAN's own bars lack too, had no trade.
        assert len(rows) == 5 * 390 - 1
