"""State files, locks and supervised workers, with real processes and no broker."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from streams.errors import BrokerError, ConfigError, SessiontapeError
from streams.local.groups import readers_of
from streams.local.ports import hold
from streams.local.process import ProcessRecord, alive, spawn
from streams.local.running import connected, running_stack, stop_all
from streams.local.stack import Stack, producer_spec
from streams.local.start import start_run
from streams.local.state import StackState, locked, stack_states, state_path
from streams.local.workers import (
    READY_S,
    Supervisor,
    WorkerError,
    WorkerSpec,
    environment,
    log_path,
    tail,
)
from streams.settings import Settings


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", namespace="unit")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a worker's module; return its name."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    # Coverage starts in each of our processes; these modules are not what is measured.
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def write(text: str) -> str:
        name = f"worker_{len(list(folder.iterdir()))}"
        (folder / f"{name}.py").write_text(text)
        return name

    return write


@contextmanager
def supervised(
    settings: Settings, *specs: WorkerSpec, said: list[str] | None = None
) -> Iterator[Supervisor]:
    supervisor = Supervisor(settings, (said if said is not None else []).append)
    supervisor.start(specs)
    try:
        yield supervisor
    finally:
        supervisor.stop()


SLEEPS = "import time\nprint('ready', flush=True)\ntime.sleep(60)\n"


def test_a_killed_worker_is_started_again(settings: Settings, module: Callable[[str], str]) -> None:
    said: list[str] = []
    spec = WorkerSpec("w", (module(SLEEPS),))
    with supervised(settings, spec, said=said) as supervisor:
        log = log_path(settings, "w")
        wait_until(lambda: log.read_text() == "ready\n")
        first = supervisor.processes["w"]
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: supervisor.processes["w"].pid != first.pid)
        wait_until(lambda: log.read_text() == "ready\n")
        supervisor.check()
        last = supervisor.processes["w"]
        assert log.with_name("unit.w.log.1").read_text() == "ready\n"
    assert not alive(last)
    assert said[0] == "worker w was killed (signal 9)"
    assert said[1] == f"worker w started again (pid {last.pid})"


def test_a_worker_that_can_not_start_is_given_up_with_the_end_of_its_log(
    settings: Settings, module: Callable[[str], str]
) -> None:
    spec = WorkerSpec("w", (module("import sys\nsys.exit('the reason')\n"),))
    with supervised(settings, spec) as supervisor:

        def failed() -> bool:
            try:
                supervisor.check()
            except WorkerError:
                return True
            return False

        wait_until(failed)
        with pytest.raises(WorkerError, match=r"(?s)w ended with code 1 4 times.*the reason"):
            supervisor.check()


def test_how_long_it_took_does_not_count_before_all_work(
    settings: Settings, module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.local.workers.SHORT_LIFE_S", 0.0)
    monkeypatch.setattr("streams.local.workers.FIRST_BACKOFF_S", 0.001)
    said: list[str] = []
    spec = WorkerSpec("w", (module("import sys\nsys.exit('the reason')\n"),))
    given_up = pytest.raises(WorkerError, match=r"(?s)w ended with code 1 4 times.*the reason")
    with supervised(settings, spec, said=said) as supervisor, given_up:
        supervisor.await_ready(lambda: ["w"])
    assert said.count("worker w ended with code 1") == 4

    said.clear()
    with supervised(settings, spec, said=said) as supervisor:
        supervisor.await_ready(lambda: [])
        wait_until(lambda: said.count("worker w ended with code 1") > 4)
        supervisor.check()


def test_each_worker_has_its_time_from_its_latest_start(
    settings: Settings, module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with supervised(settings, WorkerSpec("w", (module(SLEEPS),))) as supervisor:
        supervisor._workers["w"].since_s -= READY_S
        with pytest.raises(WorkerError, match="worker w did not take up its work in 60 s"):
            supervisor.await_ready(lambda: ["w"])
        first = supervisor.processes["w"]
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: supervisor.processes["w"].pid != first.pid)
        asked = iter([["w"], ["w"], []])
        supervisor.await_ready(lambda: next(asked))
        assert next(asked, None) is None


def test_a_worker_called_wrongly_is_not_started_again(
    settings: Settings, module: Callable[[str], str]
) -> None:
    said: list[str] = []
    spec = WorkerSpec("w", (module("import sys\nprint('no such URI')\nsys.exit(2)\n"),))
    with supervised(settings, spec, said=said) as supervisor:
        wait_until(lambda: bool(said))
        wait_until(lambda: supervisor._failure is not None)
        with pytest.raises(WorkerError, match=r"was called wrongly; the end of .*:\n  no such URI"):
            supervisor.check()
    assert said == ["worker w ended with code 2"]


def test_a_worker_that_ignores_sigterm_is_killed(
    settings: Settings, module: Callable[[str], str]
) -> None:
    text = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPS
    said: list[str] = []
    with supervised(settings, WorkerSpec("w", (module(text),), 0.2), said=said) as supervisor:
        wait_until(lambda: log_path(settings, "w").read_text() == "ready\n")
        process = supervisor.processes["w"]
    assert not alive(process)
    assert said == ["worker w did not stop in time: killed"]


def test_workers_get_the_settings_as_their_environment(
    settings: Settings, module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSIONTAPE_NAMESPACE", "elsewhere")
    monkeypatch.setenv("SESSIONTAPE_OTHER", "kept")
    given = settings.but(sasl_password="secret", session_timeout_s=2.5, cache_dir=Path("cache"))
    text = "from streams.settings import load\nprint(load() == load().but(), load().namespace)\n"
    found = environment(given)
    assert found["SESSIONTAPE_NAMESPACE"] == "unit"
    assert found["SESSIONTAPE_SASL_PASSWORD"] == "secret"
    assert found["SESSIONTAPE_SESSION_TIMEOUT_S"] == "2.5"
    assert found["SESSIONTAPE_CACHE_DIR"] == str(Path("cache").absolute())
    assert "SESSIONTAPE_SSL_CA_LOCATION" not in found
    assert found["SESSIONTAPE_OTHER"] == "kept"
    with supervised(given, WorkerSpec("w", (module(text + SLEEPS),))):
        wait_until(lambda: log_path(given, "w").read_text() == "True unit\nready\n")


def test_a_log_folder_that_can_not_be_made_is_one_sentence(settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "logs").write_text("")
    with pytest.raises(SessiontapeError, match="worker w can't be started: "):
        Supervisor(settings).start([WorkerSpec("w", ("this",))])


def test_the_tail_of_a_log_falls_back_to_its_last_life(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == ["(nothing)"]
    (tmp_path / "log.1").write_text("a\nb\n")
    log.write_text("\n")
    assert tail(log, 1) == ["b"]


def a_state(process: psutil.Process, **changes: object) -> StackState:
    return StackState("unit", "up", ProcessRecord.of(process)).but(**changes)


def test_a_state_is_read_as_it_was_written(settings: Settings) -> None:
    path = state_path(settings.data_dir, "unit")
    me = psutil.Process()
    state = a_state(me, workers={"w": ProcessRecord.of(me)}, doing="x", is_ready=True)
    state.write(path)
    assert StackState.read(path) == state
    assert running_stack(settings) == state
    assert stack_states(settings.data_dir) == [state]
    assert [entry.name for entry in path.parent.iterdir()] == ["unit.json"]


def test_the_sources_of_a_stack_are_kept_for_its_owner_alone(settings: Settings) -> None:
    path = state_path(settings.data_dir, "unit")
    state = a_state(psutil.Process(), source="lean:a", fallbacks=("csv:b", "csv:c"))
    state.write(path)
    assert StackState.read(path) == state
    assert path.stat().st_mode & 0o077 == 0


def test_a_run_is_begun_where_a_stack_with_a_source_is_up(settings: Settings) -> None:
    path = state_path(settings.data_dir, "unit")

    def begun(*, symbols: list[str] | None = None, **stack: object) -> None:
        a_state(psutil.Process(), **stack).write(path)
        start_run(settings, symbols, "2024-11-27", None)

    with pytest.raises(SessiontapeError, match="no stack of namespace unit is up here"):
        start_run(settings, None, None, None)
    source = "synthetic:symbols=2"
    with pytest.raises(SessiontapeError, match="the stack of namespace unit is still starting"):
        begun(source=source)
    with pytest.raises(SessiontapeError, match="no stack of namespace unit is up here"):
        begun(source=source, is_ready=True, kind="replay")
    with pytest.raises(SessiontapeError, match="the stack of namespace unit has no source"):
        begun(is_ready=True)
    with pytest.raises(ConfigError, match="synthetic:symbols=2 has no X; it has SYN0001, SYN0002"):
        begun(source=source, is_ready=True, symbols=["X"])
    with pytest.raises(ConfigError, match="does not say which days it has"):
        begun(source=source, is_ready=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"owner": 1}'])
def test_half_a_state_is_none(settings: Settings, text: str) -> None:
    path = state_path(settings.data_dir, "unit")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert StackState.read(path) is None
    assert running_stack(settings) is None
    assert stack_states(settings.data_dir) == []


def test_a_dead_owner_is_no_running_stack_and_its_workers_are_ended(
    settings: Settings, tmp_path: Path
) -> None:
    owner = spawn(["true"], tmp_path / "out")
    record = ProcessRecord.of(owner)
    owner.wait(10)
    worker = spawn(["sleep", "60"], tmp_path / "out")
    workers = {"sink": ProcessRecord.of(worker), "gone": record}
    state = StackState("unit", "up", record, workers)
    path = state_path(settings.data_dir, "unit")
    state.write(path)
    assert running_stack(settings) is None
    said: list[str] = []
    assert stop_all(settings, said.append) == 1
    assert not alive(worker)
    assert not path.exists()
    assert said == []
    assert stop_all(settings) == 0


def test_down_ends_an_owner_and_what_it_leaves(settings: Settings, tmp_path: Path) -> None:
    owner = spawn(["sleep", "60"], tmp_path / "out")
    a_state(owner).write(state_path(settings.data_dir, "unit"))
    said: list[str] = []
    assert stop_all(settings, said.append) == 1
    assert not alive(owner)
    assert said == [f"stopping namespace unit (pid {owner.pid})"]


def test_a_lock_is_held_by_one_and_let_go(tmp_path: Path) -> None:
    with locked(tmp_path, "x", "taken"):
        with pytest.raises(SessiontapeError, match=r"^taken$"), locked(tmp_path, "x", "taken"):
            pass
        with locked(tmp_path, "y", "taken"):
            pass
    with locked(tmp_path, "x", "taken"):
        pass


def test_a_folder_that_can_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SessiontapeError, match=r"choose another SESSIONTAPE_DATA_DIR"),
        locked(tmp_path / "file" / "data"),
    ):
        pass


def test_no_broker_is_one_sentence(settings: Settings) -> None:
    with pytest.raises(BrokerError, match=r"no broker runs on .*: start one with `sessiontape up`"):
        connected(settings)
    given = settings.but(bootstrap_servers="localhost:1")
    assert connected(given) is given


def test_a_state_file_is_plain_json(settings: Settings) -> None:
    path = state_path(settings.data_dir, "unit")
    a_state(psutil.Process()).write(path)
    assert json.loads(path.read_text())["owner"]["pid"] == os.getpid()


def test_a_stack_has_the_workers_that_are_wanted(settings: Settings) -> None:
    stack = Stack(settings, coordinators=2, source="a:b", fallbacks=("c:d", "e:f"), withhold="2%@7")
    names = [spec.name for spec in stack._specs]
    assert names == ["producer", "coordinator-1", "coordinator-2", "upkeep", "tables", "sink"]
    assert stack._specs[0].argv == (
        *("streams.producer", "--source", "a:b"),
        *("--fallback", "c:d", "--fallback", "e:f", "--withhold", "2%@7"),
    )
    assert stack.readers == ("unit.sink", "unit.tables", "unit.upkeep")
    assert (stack.has_producer, stack.has_upkeep) == (True, True)
    small = Stack(settings, upkeep=False, tables=False, sink=False)
    assert [spec.name for spec in small._specs] == ["coordinator-1"]
    assert small.readers == ()
    assert (small.has_producer, small.has_upkeep) == (False, False)


def test_a_producer_has_no_more_arguments_than_it_needs() -> None:
    assert producer_spec("a:b").argv == ("streams.producer", "--source", "a:b")


def test_readers_are_the_workers_that_read_the_tape(settings: Settings) -> None:
    workers = ["coordinator-1", "producer", "upkeep"]
    assert readers_of(settings, workers) == ("unit.upkeep",)


def test_each_worker_has_a_port_of_its_own_and_keeps_it(
    settings: Settings, module: Callable[[str], str]
) -> None:
    text = "import os\nprint(os.environ['SESSIONTAPE_METRICS_PORT'], flush=True)\n" + SLEEPS
    specs = [WorkerSpec(name, (module(text),)) for name in ("a", "b")]
    with ExitStack() as held:
        taken = hold(held, "127.0.0.1")
        assert taken is not None
        with supervised(settings.but(metrics_port=taken), *specs) as supervisor:
            ports = {name: found["metrics"] for name, found in supervisor.ports.items()}
            assert list(ports) == ["a", "b"]
            assert taken < ports["a"] < ports["b"]

            def said(name: str) -> bool:
                return log_path(settings, name).read_text() == f"{ports[name]}\nready\n"

            wait_until(lambda: said("a") and said("b"))
            first = supervisor.processes["b"]
            os.kill(first.pid, signal.SIGKILL)
            wait_until(lambda: supervisor.processes["b"].pid != first.pid and said("b"))
    with supervised(settings, specs[0]) as supervisor:
        assert supervisor.ports == {"a": {}}


def test_where_no_port_is_left_is_one_sentence(settings: Settings) -> None:
    with ExitStack() as held:
        hold(held, "127.0.0.1", 65535)  # whoever has it
        with pytest.raises(SessiontapeError, match=r"no port is free from 65535 on at 127\."):
            Supervisor(settings.but(metrics_port=65535)).start([WorkerSpec("w", ("this",))])
