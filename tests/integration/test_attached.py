"""One stack in this process on the shared broker: replays beside it, what commands say of it."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from schemas import Command
from streams.cli import controls, doctor, history, stack, subscribe, topics, verify
from streams.client import Batch
from streams.compare import compare
from streams.control import latest_command, send_command
from streams.controls import Controls
from streams.errors import BrokerError, CommandError, ConfigError, SessiontapeError, TopicError
from streams.kafka import create_topics, producer_config
from streams.local import LocalBroker, supervisor
from streams.local.attach import AttachedStack, a_stack
from streams.local.process import ProcessRecord
from streams.local.running import running_stack, stop_all
from streams.local.stack import Stack
from streams.local.state import StackState, state_path
from streams.local.status import status
from streams.local.workers import WorkerError
from streams.outcome import Progress, ReplayResult
from streams.rejected import rejected_end, rejected_since
from streams.replay import replay
from streams.settings import Settings, load
from streams.topics import Topics
from tests.integration.commands import wait_until

pytestmark = pytest.mark.timeout(300)

NAMESPACE = "attached"
WORKERS = {"coordinator-1", "upkeep", "tables", "sink"}
SOURCE = "synthetic:symbols=4,missing=0.01"
START, END = "2024-11-27", "2024-11-29"
SYMBOLS = ("SYN0001", "SYN0002", "SYN0003", "SYN0004")


@pytest.fixture(scope="module")
def settings(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        bootstrap_servers=broker.bootstrap_servers,
        namespace=NAMESPACE,
        data_dir=tmp_path_factory.mktemp("attached"),
    )


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def ours(settings: Settings, told: list[str]) -> Iterator[Stack]:
    """A stack that stays up while the tests of this module run."""
    with Stack(settings, partitions=2, kind="up", tell=told.append) as stack:
        yield stack
    assert running_stack(settings) is None
    assert stack.processes == {}


@pytest.fixture(scope="module")
def first(ours: Stack, settings: Settings) -> ReplayResult:
    return replay(settings, SOURCE, start=START, end=END)


@pytest.fixture
def unread() -> Iterator[None]:
    """Settings are read once a process: here they are read anew."""
    load.cache_clear()
    yield
    load.cache_clear()


@pytest.fixture
def here(settings: Settings, monkeypatch: pytest.MonkeyPatch, unread: None) -> None:
    """What a command reads: the settings of the stack."""
    monkeypatch.setenv("SESSIONTAPE_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    monkeypatch.setenv("SESSIONTAPE_NAMESPACE", settings.namespace)
    monkeypatch.setenv("SESSIONTAPE_DATA_DIR", str(settings.data_dir))


def test_a_stack_is_up_when_its_workers_work(ours: Stack, told: list[str]) -> None:
    assert ours.partitions == 2
    assert set(ours.processes) == WORKERS
    assert all(process.is_running() for process in ours.processes.values())
    assert ours.broker is None
    assert not ours.has_producer
    assert ours.readers == tuple(f"{NAMESPACE}.{name}" for name in ("sink", "tables", "upkeep"))
    assert told[0] == "starting the workers"
    assert told[1].startswith("waiting for ")
    state = running_stack(ours.settings)
    assert state is not None
    assert state.bootstrap_servers == ours.settings.bootstrap_servers
    ours.check()


def test_no_admin_client_is_left_open(ours: Stack, first: ReplayResult) -> None:
    """One that the collector takes down when its broker is gone never ends."""
    for client in [found for found in gc.get_objects() if isinstance(found, AdminClient)]:
        with pytest.raises(RuntimeError, match="closed"):
            client.list_topics(timeout=5)


def test_a_run_needs_somebody_who_answers(ours: Stack, settings: Settings) -> None:
    with Controls(settings=settings) as tape:
        with pytest.raises(CommandError, match=f"nobody answers requests in namespace {NAMESPACE}"):
            tape.start(SYMBOLS, START, END)
        with pytest.raises(ConfigError, match="a run needs symbols"):
            tape.start((), START, END)


def test_it_can_not_be_started_twice(ours: Stack, settings: Settings) -> None:
    with (
        pytest.raises(SessiontapeError, match=rf"namespace {NAMESPACE} runs already \(pid "),
        Stack(settings),
    ):
        pass
    assert running_stack(settings) is not None
    with pytest.raises(SessiontapeError, match="runs already"):
        supervisor.start_detached(settings)


def test_a_replay_beside_it(first: ReplayResult, ours: Stack, settings: Settings) -> None:
    seen: list[Progress] = []
    events: list[str] = []
    names: list[str] = []

    def on_stack(stack: Stack | AttachedStack) -> None:
        assert isinstance(stack, AttachedStack)
        assert stack.partitions == 2
        names.extend(stack.processes)

    def on_batch(batch: Batch) -> None:
        events.append(batch.event)

    second = replay(
        settings,
        SOURCE,
        start=START,
        end=END,
        on_batch=on_batch,
        on_progress=seen.append,
        on_stack=on_stack,
    )
    assert (second.digest, second.rows, second.quality) == (
        first.digest,
        first.rows,
        first.quality,
    )
    assert second.run != first.run
    assert set(names) == WORKERS | {"producer"}
    assert events[0] == "start"
    assert events[-1] == "end"
    shares = [at.share for at in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert (seen[-1].closed, seen[-1].sessions, seen[-1].rows) == (2, 2, second.bars)
    assert not state_path(settings.data_dir, f"{NAMESPACE}.producer").exists()
    assert set(ours.processes) == WORKERS


def test_two_tapes_are_compared(first: ReplayResult, settings: Settings) -> None:
    other = replay(settings, f"{SOURCE},seed=3", symbols=SYMBOLS[:2], start=START, end=END)
    a, b = f"{NAMESPACE}/{first.run}", f"{NAMESPACE}/{other.run}"
    same = compare(settings, a, a)
    assert same.equal
    assert same.equal_as_known
    assert same.first is None
    assert same.a.digest == first.digest
    assert same.a.bars == first.bars
    verdict = compare(settings, a, NAMESPACE)
    assert not verdict.equal
    assert verdict.b.run == other.run
    assert verdict.first is not None
    assert verdict.first.session == "2024-11-27"
    back = compare(settings, b, a).first
    assert back is not None
    assert (back.a, back.b) == (verdict.first.b, verdict.first.a)
    for name, says in (
        (f"{NAMESPACE}/none", f"no run none of namespace {NAMESPACE} on its tape"),
        ("Not A Name", "is no file that is there, no namespace"),
    ):
        with pytest.raises(ConfigError, match=says):
            compare(settings, a, name)


def test_a_verdict_is_printed(
    first: ReplayResult, here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"{NAMESPACE}/{first.run}"
    assert verify.verify(run, run) == 0
    assert "equal in their final state, and as known" in capsys.readouterr().out


def test_status_says_where_the_tape_stands(first: ReplayResult, settings: Settings) -> None:
    found = status(settings)
    assert found.problem == ""
    address = settings.bootstrap_servers
    assert found.broker == {"address": address, "running": True, "local": False}
    (one,) = found.stacks
    assert (one["namespace"], one["kind"], one["pid"]) == (NAMESPACE, "up", os.getpid())
    assert {worker["name"] for worker in one["workers"]} == WORKERS
    assert all(worker["running"] and worker["rss_mb"] > 0 for worker in one["workers"])
    assert found.run is not None
    assert (found.run["start"], found.run["end"]) == (START, END)
    assert [shard["shard"] for shard in found.shards] == [0, 1]
    for shard in found.shards:
        assert shard["event"] == "end"
        assert set(shard["lag"]) == {"sink", "tables", "upkeep"}


def test_status_of_what_is_not_there(settings: Settings, namespace: str, tmp_path: Path) -> None:
    other = settings.but(namespace=namespace, data_dir=tmp_path)
    assert status(other).problem == f"namespace {namespace} was not made yet"
    create_topics(other, 1)
    fresh = status(other)
    assert (fresh.run, fresh.problem) == (None, "")
    (shard,) = fresh.shards
    assert (shard["state"], shard["rows"], shard["lag"]) == ("idle", 0, {})
    away = status(other.but(bootstrap_servers="127.0.0.1:1"))
    assert away.broker["running"] is False
    assert "127.0.0.1:1" in away.problem
    none = status(other.but(bootstrap_servers=""))
    assert none.problem == "no broker runs: start one with `sessiontape up`"


def test_the_commands_show_it(
    first: ReplayResult, here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack.status() == 0
    out = capsys.readouterr().out
    assert f"{NAMESPACE} (up)" in out
    assert "  coordinator-1" in out
    assert "speed max" in out
    assert stack.status(json=True) == 0
    assert json.loads(capsys.readouterr().out)["up"] is True
    with pytest.raises(SessiontapeError, match="runs already"):
        stack.up()
    doctor.doctor()
    assert f"namespace {NAMESPACE}, 2 shard(s)" in capsys.readouterr().out


def printed(capsys: pytest.CaptureFixture[str], **options: Any) -> list[str]:
    assert subscribe.subscribe(until="idle", **options) == 0
    return capsys.readouterr().out.splitlines()


def test_the_tape_is_printed(
    ours: Stack, settings: Settings, here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    result = replay(settings, SOURCE, start=START, end=END)
    capsys.readouterr()
    rows = [json.loads(line) for line in printed(capsys, json=True)]
    assert {row["session"] for row in rows} == {END}
    assert {row["symbol"] for row in rows} == set(SYMBOLS)
    lines = printed(capsys, symbols="SYN0001,SYN0002", limit=5)
    assert len(lines) == 5
    assert all(" SYN000" in line and "14:" in line for line in lines)
    head, *some = printed(capsys, format_="csv", symbols="SYN0001")
    assert head.split(",") == [name for name in rows[0] if name != "kind"]
    assert {line.split(",")[1] for line in some} == {"SYN0001"}
    assert len(some) == len([row for row in rows if row["symbol"] == "SYN0001"])
    slices = printed(capsys, unit="slices", limit=2)
    assert all("received" in line and " of 4, " in line for line in slices)
    head, *some = printed(capsys, unit="frames", format_="csv", since="start")
    assert head.startswith("run,event,session")
    assert some[-1].startswith(f"{result.run},end,")
    frames = printed(capsys, unit="frames", since="start")
    assert any(" close 2024-11-29" in line for line in frames)


def test_what_was_stored_is_read_back(
    ours: Stack,
    settings: Settings,
    here: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Days of its own: the final state of a minute is that of whichever run delivered it last.
    result = replay(settings, SOURCE, start="2024-12-02", end="2024-12-02")
    every = ",".join(SYMBOLS)
    capsys.readouterr()
    assert history.history(every, sessions=1) == 0
    out, error = capsys.readouterr()
    assert error == f"{result.bars:,} bars\n"
    assert len(out.splitlines()) == result.bars + 1
    for ending in ("csv", "json", "parquet", "txt"):
        path = tmp_path / f"bars.{ending}"
        assert history.history(every, sessions=1, output=path) == 0
        assert capsys.readouterr().err == f"{result.bars:,} bars to {path}\n"
        assert path.stat().st_size > 0
    assert len(json.loads((tmp_path / "bars.json").read_text())) == result.bars
    assert (tmp_path / "bars.txt").read_bytes() == (tmp_path / "bars.csv").read_bytes()
    assert history.history("SYN0001", sessions=1, json=True) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["session"] for row in rows} == {"2024-12-02"}


def test_csv_goes_to_a_pipe_as_bytes(
    first: ReplayResult, here: None, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert history.history("SYN0001", sessions=1, format_="csv") == 0
    head = capfdbinary.readouterr().out.splitlines()[0]
    assert b"symbol" in head


def test_parquet_is_not_for_a_terminal(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with pytest.raises(ConfigError, match="parquet is not for a terminal"):
        history.history("SYN0001", format_="parquet")


def test_what_it_has_can_not_be_asked_for_otherwise(ours: Stack, settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"has 1 worker\(s\), not 3"):
        a_stack(settings, SOURCE, workers=3)
    with pytest.raises(TopicError, match="has 2 partitions, not 5"):
        a_stack(settings, SOURCE, partitions=5)
    assert isinstance(a_stack(settings, SOURCE, workers=1, partitions=2), AttachedStack)


def test_workers_elsewhere_are_seen_by_their_groups(
    ours: Stack, first: ReplayResult, settings: Settings, tmp_path: Path
) -> None:
    """From a folder that knows nothing of the stack, as if that were in containers."""
    elsewhere = settings.but(data_dir=tmp_path)
    again = replay(elsewhere, SOURCE, start=START, end=END, workers=1, partitions=2)
    assert (again.digest, again.digest_as_known) == (first.digest, first.digest_as_known)
    attached = a_stack(elsewhere, SOURCE)
    assert isinstance(attached, AttachedStack)
    assert (attached.readers, attached.has_upkeep) == (ours.readers, True)
    with pytest.raises(ConfigError, match=r"has 1 coordinator\(s\) at .*, not 3"):
        a_stack(elsewhere, SOURCE, workers=3)
    with pytest.raises(TopicError, match="has 2 partitions, not 5"):
        a_stack(elsewhere, SOURCE, partitions=5)
    with attached:
        attached.check()
        assert set(attached.processes) == {"producer"}
        with pytest.raises(SessiontapeError, match="have a producer with a source of its own"):
            a_stack(settings.but(data_dir=tmp_path / "third"), SOURCE)


def test_topics_are_made_once_and_keep_their_number(
    namespace: str, here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert topics.topics(namespace=namespace, partitions=3, json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"namespace": namespace, "partitions": 3}
    assert topics.topics(namespace=namespace, wait=5) == 0
    assert capsys.readouterr().out == f"namespace {namespace} has its topics, 3 shard(s)\n"
    with pytest.raises(TopicError, match="has 3 partitions, not 2"):
        topics.topics(namespace=namespace, partitions=2, wait=5)


@pytest.mark.parametrize(
    ("source", "how", "says"),
    [
        (SOURCE, {"symbols": ["NONE"]}, "has no NONE; it has SYN0001, "),
        (SOURCE, {"symbols": []}, "has no symbol without a name"),
        (SOURCE, {"end": None}, "give --start and --end"),
        ("synthetic:symbols=20", {"symbols": ["NONE"]}, "SYN0008 …"),
    ],
)
def test_what_a_source_has_not_can_not_be_played(
    settings: Settings, source: str, how: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        replay(settings, source, **({"start": START, "end": END} | how))


def test_a_run_that_is_replaced_ends_with_an_error(
    ours: Stack, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.run.COMMAND_CHECK_S", 0.1)
    taken: list[Command] = []

    def take_over(batch: Batch) -> None:
        command = latest_command(settings)
        if batch.event == "open" and command is not None:
            taken.append(replace(command, version=command.version + 1, run="another", stopped=True))
            send_command(settings, taken[0])

    slow = settings.but(speed="60")
    with pytest.raises(CommandError, match="run another took the place of this one"):
        replay(slow, SOURCE, start=START, end=END, on_batch=take_over)
    # It is not ours to stop.
    assert latest_command(settings) == taken[0]


def test_a_replay_goes_along_with_a_seek(
    ours: Stack, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward from the first session, back from the last: the result is that of the last run."""
    monkeypatch.setattr("streams.run.COMMAND_CHECK_S", 0.1)
    places = {START: END, END: START}
    told: list[str] = []

    def seeks(batch: Batch) -> None:
        told.append(f"{batch.event} {batch.session}".strip())
        if batch.event == "open" and batch.session in places:
            with Controls(settings=settings) as controls:
                controls.seek(places.pop(batch.session))
                if not places:
                    controls.speed(0.0)

    found = replay(settings.but(speed="60"), SOURCE, start=START, end=END, on_batch=seeks)
    events = [event for event in told if not event.startswith("rows")]
    begun = [f"open {START}", "start", f"open {END}", "start", f"open {START}"]
    assert [event for event in events if event.startswith(("open", "start"))][1:6] == begun
    assert found.run.endswith(".3")
    again = replay(settings, SOURCE, start=START, end=END)
    assert (found.digest, found.rows, found.sessions) == (again.digest, again.rows, again.sessions)
    assert found.digest_as_known == again.digest_as_known


def test_the_controls_by_hand(
    first: ReplayResult,
    settings: Settings,
    here: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that nobody sends rows for: all that can be seen is what the shards say."""
    latest = latest_command(settings)
    assert latest is not None
    version = latest.version + 1
    send_command(
        settings,
        replace(latest, version=version, run="hand", action="start", paused=True, stopped=False),
    )
    with Controls(settings=settings) as asked:
        wait_until(lambda: asked.state().clock_ns > 0)

    def said() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    assert controls.speed("600", json=True) == 0
    found = said()
    assert (found["run"], found["state"], found["speed"]) == ("hand", "paused", 600.0)
    assert controls.resume() == 0
    assert capsys.readouterr().out == (
        "running: run hand, session 2024-11-27, clock 2024-11-27 14:30:00 UTC, speed 600\n"
    )
    assert controls.pause() == 0
    assert controls.speed("max") == 0
    assert "speed max" in capsys.readouterr().out
    assert controls.seek(END, json=True) == 0
    assert said()["run"] == "hand.2"
    monkeypatch.setattr("streams.controls.ANSWER_S", 0.3)
    assert controls.step(3) == 1
    assert "shard 0, 1 does not follow yet" in capsys.readouterr().err
    monkeypatch.undo()
    assert controls.stop(json=True) == 0
    assert said()["state"] == "stopped"
    for refused in (controls.pause, controls.resume, controls.stop, controls.step):
        with pytest.raises(CommandError, match="no run is on in namespace attached"):
            refused()
    with pytest.raises(ConfigError, match="max or a number above 0"):
        controls.speed("fast")


def test_a_run_whose_reader_fails_is_stopped(ours: Stack, settings: Settings) -> None:
    def fails(batch: Batch) -> None:
        if batch.event == "open":
            raise ZeroDivisionError

    slow = settings.but(speed="60")
    with pytest.raises(ZeroDivisionError):
        replay(slow, SOURCE, start=START, end=END, on_batch=fails)
    command = latest_command(settings)
    assert command is not None
    assert command.stopped


def test_a_producer_that_can_not_work_is_one_error(
    ours: Stack, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.local.workers.READY_S", 0.0)
    with (
        pytest.raises(WorkerError, match="worker producer did not take up its work in 0 s"),
        a_stack(settings, SOURCE),
    ):
        pass
    monkeypatch.setattr("streams.local.workers.READY_S", 60.0)
    with (
        pytest.raises(WorkerError, match="worker producer was called wrongly"),
        a_stack(settings, "no-such:source"),
    ):
        pass
    assert not state_path(settings.data_dir, f"{NAMESPACE}.producer").exists()


def written(settings: Settings, **changes: object) -> StackState:
    """Write the state of a stack that is this process."""
    state = StackState(
        settings.namespace,
        "up",
        ProcessRecord.of(psutil.Process()),
        bootstrap_servers=settings.bootstrap_servers,
    ).but(**changes)
    state.write(state_path(settings.data_dir, settings.namespace))
    return state


def test_a_stack_that_starts_or_went_away_or_failed(
    settings: Settings, namespace: str, tmp_path: Path
) -> None:
    other = settings.but(namespace=namespace, data_dir=tmp_path)
    written(other)
    with pytest.raises(SessiontapeError, match="is still starting"):
        a_stack(other, SOURCE)
    written(other, is_ready=True)
    attached = a_stack(other, SOURCE)
    assert isinstance(attached, AttachedStack)
    attached.check()
    assert attached.readers == ()
    written(other, is_ready=True, failure="the broker is gone for good")
    with pytest.raises(SessiontapeError, match=r"^the broker is gone for good$"):
        attached.check()
    state_path(tmp_path, namespace).unlink()
    with pytest.raises(SessiontapeError, match=r"went away: .* says why"):
        attached.check()
    assert attached.processes == {}


def test_refused_messages_are_counted_to_the_end_or_not_at_all(
    ours: Stack, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rejected_end(settings)
    result = replay(settings, f"{SOURCE},bad=0.01", start=START, end=START)
    assert result.rejected > 0
    assert rejected_since(settings, before) == result.rejected
    assert rejected_since(settings, rejected_end(settings)) == 0
    # Those of trailing days are not the tape's.
    topics, end = Topics(settings.namespace), rejected_end(settings)
    producer = Producer(producer_config(settings))
    for raw in (topics.raw_history, topics.raw_bars):
        producer.produce(topics.rejected, b"bad", raw.encode())
    assert producer.flush(30) == 0
    assert rejected_since(settings, end) == 1
    monkeypatch.setattr("streams.rejected.READ_S", 0.0)
    with pytest.raises(BrokerError, match=r"rejected could not be read to its end in 0 s"):
        rejected_since(settings, before)


def test_a_stack_that_is_not_up_in_time_leaves_nothing(
    settings: Settings, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = settings.but(namespace=namespace, data_dir=tmp_path)
    monkeypatch.setattr("streams.local.workers.READY_S", 0.0)
    stack = Stack(other, tables=False, sink=False, source=SOURCE)
    with pytest.raises(WorkerError, match="did not take up its work in 0 s"), stack:
        pass
    assert stack.processes == {}
    assert running_stack(other) is None


def test_a_supervisor_keeps_its_stack_up_until_it_is_asked_to_stop(
    settings: Settings,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unread: None,
) -> None:
    other = settings.but(namespace=namespace, data_dir=tmp_path)
    for name in ("bootstrap_servers", "namespace", "data_dir"):
        monkeypatch.setenv(f"SESSIONTAPE_{name.upper()}", str(getattr(other, name)))
    was_up: list[StackState] = []

    def ask() -> None:
        def is_ready() -> bool:
            state = running_stack(other)
            return state is not None and state.is_ready

        try:
            wait_until(is_ready)
            state = running_stack(other)
            if state is not None:
                was_up.append(state)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    asker = threading.Thread(target=ask)
    asker.start()
    try:
        assert supervisor.main(["--no-sink", "--no-tables", "--no-upkeep"]) == 0
    finally:
        asker.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert [set(state.workers) for state in was_up] == [{"coordinator-1"}]
    assert running_stack(other) is None
    written(other)
    try:
        assert supervisor.main([]) == 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_detached_stack_is_followed_until_it_is_up_and_ended(
    settings: Settings, namespace: str, tmp_path: Path
) -> None:
    other = settings.but(namespace=namespace, data_dir=tmp_path)
    said: list[str] = []
    state = supervisor.start_detached(
        other, upkeep=False, tables=False, sink=False, tell=said.append
    )
    try:
        assert state.is_ready
        assert set(state.workers) == {"coordinator-1"}
        assert any(line.startswith("waiting for coordinator-1") for line in said)
    finally:
        assert stop_all(other) == 1
    assert running_stack(other) is None
