"""What a tape holds of a run: from its start, or from the first session that no shard has lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streams.errors import ConfigError
from streams.kept import KeptRun, Seen, kept_run
from streams.positions import Delivered
from tests.frames import Tape, full_day, tape_of

DAYS = [full_day(5, number=number) for number in range(3)]


def seen(shards: Sequence[Sequence[Delivered]]) -> list[dict[str, Seen]]:
    found: list[dict[str, Seen]] = []
    for frames in shards:
        runs: dict[str, Seen] = {}
        for one in frames:
            frame = one.frame
            runs.setdefault(frame.run, Seen(frame.command)).add(frame, one.offset)
        found.append(runs)
    return found


def kept_of(tape: Tape, *cuts: int, run: str = "") -> KeptRun:
    """Take what is kept of a tape of which each shard lost the frames before a session's open."""
    shards = []
    for frames, cut in zip(tape.frames, cuts, strict=True):
        opens = [number for number, one in enumerate(frames) if one.frame.event == "open"]
        shards.append(frames[opens[cut - 1] if cut else 0 :])
    return kept_run(seen(shards), "name", run)


def offset_of(tape: Tape, shard: int, event: str, number: int = 0) -> int:
    return [one.offset for one in tape.frames[shard] if one.frame.event == event][number]


def labels(kept: KeptRun) -> list[str]:
    return [label for label, _, _ in kept.sessions]


def test_a_run_that_is_whole_begins_with_its_start() -> None:
    tape = tape_of(DAYS, 2)
    kept = kept_of(tape, 0, 0)
    assert (kept.run, kept.shards) == ("run-1", 2)
    assert kept.begins == {0: 0, 1: 0}
    assert kept.ends == {shard: tape.frames[shard][-1].offset for shard in (0, 1)}
    assert kept.sessions == tuple((day.label, day.open_ns, day.close_ns) for day in DAYS)
    assert kept.symbols == DAYS[0].symbols
    assert kept.streams == ("bars",)
    assert kept.interval_ns == 60_000_000_000


@pytest.mark.parametrize("cuts", [(2, 2), (1, 2), (2, 0), (0, 2)])
def test_a_run_that_was_cut_begins_with_the_first_session_of_all_shards(
    cuts: tuple[int, int],
) -> None:
    tape = tape_of(DAYS, 2)
    kept = kept_of(tape, *cuts)
    assert labels(kept) == [DAYS[1].label, DAYS[2].label]
    assert kept.begins == {shard: offset_of(tape, shard, "open", 1) for shard in (0, 1)}


def test_the_last_run_is_the_one_of_the_last_command() -> None:
    older, newer = tape_of(DAYS[:1], run="a"), Tape(run="b", command=2)
    newer.start()
    newer.day(DAYS[1])
    both = seen([[*older.frames[0], *newer.frames[0]]])
    assert kept_run(both, "name").run == "b"
    assert labels(kept_run(both, "name", "a")) == [DAYS[0].label]


def test_a_run_that_goes_on_is_kept_up_to_what_is_there() -> None:
    tape = Tape(shards=2)
    tape.start()
    tape.day(DAYS[0])
    behind = [tape.frames[0], tape.frames[1][:1]]  # one shard has not opened yet
    kept = kept_run(seen(behind), "name")
    assert labels(kept) == [DAYS[0].label]
    assert kept.ends == {0: tape.frames[0][-1].offset, 1: 0}


def test_what_there_is_nothing_of_is_said() -> None:
    tape = Tape(shards=2)
    with pytest.raises(ConfigError, match="no run in namespace name on its tape any more"):
        kept_run(seen(tape.frames), "name")
    tape.start()
    with pytest.raises(ConfigError, match="run run-1 of namespace name has no session"):
        kept_run(seen(tape.frames), "name")
    with pytest.raises(ConfigError, match="no run other of namespace name on its tape"):
        kept_run(seen(tape.frames), "name", "other")
    tape.day(DAYS[0])
    lost = [tape.frames[0][2:], tape.frames[1]]  # the only open frame, on one shard
    with pytest.raises(ConfigError, match="has no session on its tape that all shards opened"):
        kept_run(seen(lost), "name")
