"""What a worker answers at its port, and what it says of its health."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from streams import endpoint
from streams.endpoint import SILENT_S, Health, served
from streams.errors import SessiontapeError
from streams.metrics import REGISTRY
from streams.settings import Settings


@pytest.fixture
def taken() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    return Settings(namespace="endpoint", data_dir=tmp_path, metrics_port=port)


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as exc:
        return exc.code, exc.read().decode()


def test_metrics_and_health_are_served_until_the_end(settings: Settings) -> None:
    health = Health()
    with served(settings, "tables", health) as port:
        assert port == settings.metrics_port
        assert ask(port, "/health") == (503, "it has not begun\n")
        health.beat()
        assert ask(port, "/health") == (200, "ok\n")
        health.beat("it has lost its shards")
        assert ask(port, "/health") == (503, "it has lost its shards\n")
        code, text = ask(port, "/metrics")
        assert code == 200
        labels = f'{{namespace="endpoint",version="{version("sessiontape")}",worker="tables"}}'
        assert f"sessiontape_worker_info{labels} 1.0\n" in text
        assert "_created" not in text
        assert ask(port, "/") == (404, "there are /metrics and /health\n")
    with pytest.raises(OSError, match="refused"):
        ask(port, "/health")
    with served(settings, "tables", health) as again:  # it was let go
        assert again == port


def test_without_a_port_nothing_is_served(settings: Settings) -> None:
    with served(settings.but(namespace="silent", metrics_port=0), "tables", Health()) as port:
        assert port == 0
    labels = {"namespace": "silent", "worker": "tables", "version": version("sessiontape")}
    assert REGISTRY.get_sample_value("sessiontape_worker_info", labels) is None


def test_a_port_that_stays_taken_is_one_sentence(
    settings: Settings, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "PATIENCE_S", 0.1)
    found = f"metrics can't be served at 127.0.0.1:{taken} .*another SESSIONTAPE_METRICS_PORT"
    with (
        pytest.raises(SessiontapeError, match=found),
        served(settings.but(metrics_port=taken), "tables", Health()),
    ):
        pass


def test_a_host_that_is_none_of_ours_is_one_sentence(settings: Settings) -> None:
    with (
        pytest.raises(
            SessiontapeError, match=r"metrics can't be served at no\.such\.host\.invalid"
        ),
        served(settings.but(metrics_host="no.such.host.invalid"), "tables", Health()),
    ):
        pass


def test_a_loop_that_is_silent_is_not_well() -> None:
    now = [100.0]
    health = Health(lambda: now[0])
    health.beat()
    now[0] += SILENT_S - 1
    assert health.problem() == ""
    now[0] += 1
    assert health.problem() == "its loop has said nothing for 60 s"
    health.beat()
    assert health.problem() == ""
