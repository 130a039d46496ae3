"""Ports held and refused, with real sockets."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

from streams.local.ports import hold

HOST = "127.0.0.1"


def test_two_choices_are_two_ports_and_are_let_go() -> None:
    with ExitStack() as held:
        one, two = hold(held, HOST), hold(held, HOST)
        assert one is not None
        assert two not in {one, None}
        with ExitStack() as other:
            assert hold(other, HOST, one) is None
    with ExitStack() as held:
        assert hold(held, HOST, one) == one


def test_a_taken_port_is_waited_for_as_long_as_asked() -> None:
    with socket.create_server((HOST, 0)) as taken, ExitStack() as held:
        begin_s = time.monotonic()
        assert hold(held, HOST, taken.getsockname()[1], patience_s=0.1) is None
        assert time.monotonic() - begin_s >= 0.1
