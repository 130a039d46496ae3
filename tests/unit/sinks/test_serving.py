from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener

import pyarrow as pa
import pytest

from sinks import owner as ownership
from sinks import serving
from sinks.clickhouse import ClickHouseSink
from sinks.history import open_history
from sinks.owner import FolderInUseError, FolderOwner, chdb_folder, owner_of
from sinks.queries import Query
from sinks.serving import HistoryServer, ask
from sinks.store import Store
from streams.errors import HistoryError
from streams.intervals import MINUTE_NS
from streams.settings import Settings
from tests.unit.sinks.frames import Tape

QUERY = Query("bars", ("AAA",), MINUTE_NS, 5, None)


@pytest.fixture
def sink(settings: Settings) -> Iterator[ClickHouseSink]:
    """A sink of this process that owns the folder and answers."""
    with FolderOwner(settings) as owner:
        store = Store.open(settings)
        sink = ClickHouseSink(store)
        with HistoryServer(store, owner):
            yield sink
        sink.close()


def test_questions_are_answered_while_rows_come_in(
    settings: Settings, sink: ClickHouseSink
) -> None:
    history = open_history(settings)
    sink.resume({0: None}, {0: 0})
    tape = Tape()
    for day in range(5):
        sink.write(tape.session(day))
        sink.flush()
        assert len(history.bars(["AAA"])) == 10 * (day + 1)
    assert len(history.sessions()) == 5


def test_many_ask_at_once(settings: Settings, sink: ClickHouseSink) -> None:
    sink.resume({0: None}, {0: 0})
    sink.write(Tape().session(0))
    sink.flush()
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(open_history(settings).bars(["AAA"]))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [10] * 8


@pytest.mark.usefixtures("sink")
def test_without_the_key_nothing_is_answered(settings: Settings) -> None:
    owner = owner_of(settings)
    assert owner is not None
    with pytest.raises(AuthenticationError):
        Client(("127.0.0.1", owner.port), authkey=b"a guess")
    # One that connects and says nothing holds nobody up.
    with socket.create_connection(("127.0.0.1", owner.port)):
        answered = ask(settings, QUERY)
    assert answered is not None
    assert pa.ipc.open_stream(answered).read_all().num_rows == 0


@pytest.mark.usefixtures("sink")
def test_what_it_can_not_answer_is_told(settings: Settings) -> None:
    wrong = Query("bars", ("AAA",), MINUTE_NS, "many", None)  # type: ignore[arg-type]
    with pytest.raises(HistoryError, match="can't be read"):
        ask(settings, wrong)
    owner = owner_of(settings)
    assert owner is not None
    with Client(("127.0.0.1", owner.port), authkey=owner.key) as connection:
        connection.send_bytes(b"no json")
        assert connection.recv_bytes().startswith(b"E")


def test_an_owner_that_is_silent_or_leaves_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang_up = threading.Event()

    def listen(listener: Listener) -> None:
        with listener.accept() as connection:
            connection.recv_bytes()
            hang_up.wait(30)

    with FolderOwner(settings) as owner, Listener(("127.0.0.1", 0), authkey=b"k") as listener:
        owner.announce(int(listener.address[1]), b"k")
        thread = threading.Thread(target=listen, args=(listener,))
        thread.start()
        monkeypatch.setattr(serving, "ANSWER_TIMEOUT_S", 0.1)
        with pytest.raises(HistoryError, match="did not answer in"):
            ask(settings, QUERY)
        hang_up.set()
        thread.join()
        monkeypatch.setattr(serving, "ANSWER_TIMEOUT_S", 30)
        thread = threading.Thread(target=listen, args=(listener,))
        thread.start()
        with pytest.raises(HistoryError, match="went away while it answered"):
            ask(settings, QUERY)
        thread.join()


def test_an_owner_that_never_answers_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    chdb_folder(settings).mkdir(parents=True)
    monkeypatch.setattr("sinks.history.OWNER_WAIT_S", 0.1)
    with FolderOwner(settings) as owner:
        with pytest.raises(FolderInUseError, match="in use by process"):
            open_history(settings).bars(["AAA"])
        owner.announce(1, b"k")  # nothing listens there
        with pytest.raises(FolderInUseError, match="in use by process"):
            open_history(settings).bars(["AAA"])


def test_a_reader_waits_for_another_reader(settings: Settings) -> None:
    with FolderOwner(settings):
        Store.open(settings).close()
    held = FolderOwner(settings)
    timer = threading.Timer(0.3, held.close)
    timer.start()
    assert len(open_history(settings).bars(["AAA"])) == 0
    timer.join()
    assert ownership.owner_of(settings) is None
