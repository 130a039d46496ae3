"""What an operator does: upgrades a tape without a stop, and builds its views anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sinks.owner import chdb_folder
from streams.kafka import admin, create_topics, topics_there
from streams.local import LocalBroker
from tests.harness import Tape
from tests.load import SOURCE, begin, finish, rows_come
from tests.upkept import derived_rows

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("unmeasured")]

START, END, HOURS = "2024-11-27", "2024-11-29", "09:30-12:30"


def test_workers_are_started_again_one_by_one_while_a_run_goes_on(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    servers = broker.bootstrap_servers
    with Tape(servers, namespace, tmp_path, partitions=2, source=SOURCE) as tape:
        # Readers first: who writes may say more than those of before could read.
        workers = [tape.tables(), tape.sink()]
        workers += [tape.upkeep(f"upkeep-{number}") for number in (1, 2)]
        workers += [tape.coordinator(f"coordinator-{number}") for number in (1, 2)]
        workers += [tape.producer()]
        tape.await_members(tape.topics.coordinator, 1, 1)
        tape.await_members(tape.topics.upkeep, 1, 1)
        begin(tape, tape.topics.sink)
        rows_come(tape)
        for worker in workers:
            assert worker.stop() == 0, worker.log
            worker.start()
            rows_come(tape)
            tape.await_members(tape.topics.coordinator, 1, 1)
            tape.await_members(tape.topics.upkeep, 1, 1)
        finish(tape)
        tape.await_sink()
        assert {worker.starts for worker in workers} == {2}


def test_every_view_is_built_anew_from_the_tape(
    broker: LocalBroker, namespace: str, tmp_path: Path
) -> None:
    servers = broker.bootstrap_servers
    with Tape(servers, namespace, tmp_path, partitions=2, source=SOURCE) as tape:
        views = [tape.tables(), tape.upkeep(), tape.sink()]
        tape.coordinator()
        tape.producer()
        topics = tape.topics
        readers = (topics.tables, topics.upkeep, topics.sink, tape.group)
        tape.start(START, END, hours=HOURS, upkeep=True, derived=("5m",), readers=readers)
        tape.play()
        found = []
        for _ in range(2):
            table, derived = tape.await_tables(), derived_rows(tape, "5m")
            tape.await_sink()
            for worker in views:
                assert worker.stop() == 0, worker.log
            found.append((table, derived, tape.store()))
            shutil.rmtree(chdb_folder(tape.settings))
            with admin(tape.settings) as client:
                gone = [topics.changelog("symbols"), topics.changelog("shards")]
                gone += [topics.derived("5m")]
                for done in client.delete_topics(gone).values():
                    done.result(30)
                for done in client.delete_consumer_groups([topics.tables, topics.upkeep]).values():
                    done.result(30)
            tape.until(
                lambda gone=gone: not set(gone) & set(topics_there(tape.settings)),  # type: ignore[misc]
                "the end of the topics",
            )
            create_topics(tape.settings, 2)
            for worker in views:
                worker.start()
        before, after = found
        assert before[0]
        assert len(before[1]) > 2 * 8 * 30
        assert after == before
