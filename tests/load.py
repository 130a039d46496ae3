"""A replay that goes on while something is done to workers or brokers, and what it must give."""

from __future__ import annotations

from tests.harness import Tape
from tests.rows import expected_digests, expected_rows
from tests.tabled import check_tables
from tests.workers import Worker

__all__ = ["SOURCE", "begin", "finish", "rows_come", "start_all"]

SOURCE = "synthetic:symbols=8,seed=3,missing=0.01"
START, END, HOURS = "2024-11-18", "2024-11-29", "09:30-12:30"
TAPE_S = 9 * 180 * 60
LASTS_S = 600
"""A paced replay outlasts what is done to it, at any load; behind that it goes on at full speed."""


def begin(tape: Tape, *readers: str) -> None:
    tape.start(
        START,
        END,
        hours=HOURS,
        speed=TAPE_S / LASTS_S,
        prefetch_sessions=1,
        trailing_sessions=2,
        upkeep=True,
        readers=(tape.topics.tables, tape.topics.upkeep, tape.group, *readers),
    )


def start_all(tape: Tape, *, is_supervised: bool = False) -> dict[str, Worker]:
    found = {
        "coordinator": tape.coordinator(is_supervised=is_supervised),
        "upkeep": tape.upkeep(is_supervised=is_supervised),
        "tables": tape.tables(is_supervised=is_supervised),
        "producer": tape.producer(is_supervised=is_supervised),
    }
    tape.await_members(tape.topics.coordinator, tape.partitions)
    return found


def finish(tape: Tape) -> None:
    """Let the rest go at full speed, and hold all of it against the source.

    The rows must be those of the source, each once, in the digests of a run that nothing was done
    to, and the tables what these rows fold to.
    """
    assert not tape.ended(), "the replay was too short for what was done to it"
    tape.full_speed()
    tape.play(timeout_s=180)
    wanted = (SOURCE, "XNYS", START, END, HOURS)
    assert tape.rows() == expected_rows(*wanted)
    digest = tape.digest()
    assert (digest.final(), digest.as_known()) == expected_digests(*wanted)
    check_tables(tape, tape.await_tables(), END, hours=HOURS, has_upkeep=True)


def rows_come(tape: Tape) -> None:
    ends = tape.ends()
    tape.until(lambda: tape.rows_since(ends) > 0, "rows after it")
