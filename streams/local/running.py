"""What runs on a data folder: found, connected to, stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil

from streams.errors import BrokerError
from streams.local.broker import LocalBroker
from streams.local.state import StackState, stack_states, state_path
from streams.settings import Settings

__all__ = ["STOP_S", "broker_folder", "connected", "running_stack", "stop_all"]

STOP_S = 45.0
Tell = Callable[[str], None]


def broker_folder(settings: Settings) -> Path:
    """Return the folder of the local broker."""
    return settings.data_dir.expanduser().absolute() / "broker"


def running_stack(settings: Settings) -> StackState | None:
    """Return the stack of the namespace that runs on the data folder, None if none does."""
    state = StackState.read(state_path(settings.data_dir, settings.namespace))
    return state if state is not None and state.is_live else None


def stop_all(settings: Settings, tell: Tell = lambda _: None) -> int:
    """End every stack of the data folder and its broker; return how many things were ended.

    Raises
    ------
    SessiontapeError
        A stack did not stop in time.
    """
    folder, ended = settings.data_dir.expanduser().absolute(), 0
    for state in stack_states(folder) if folder.is_dir() else []:
        owner = state.owner.process()
        if owner is not None:
            tell(f"stopping namespace {state.namespace} (pid {owner.pid})")
            owner.terminate()
            try:
                owner.wait(STOP_S)
            except psutil.TimeoutExpired:
                tell(f"pid {owner.pid} did not stop in {STOP_S:.0f} s: killed")
                owner.kill()
                owner.wait(STOP_S)
            ended += 1
        ended += len(state.end_workers())
        state_path(folder, state.namespace).unlink(missing_ok=True)
    broker = LocalBroker.find(broker_folder(settings))
    if broker is not None:
        tell(f"stopping the broker (pid {broker.pid})")
        broker.stop()
        ended += 1
    return ended


def connected(settings: Settings) -> Settings:
    """Return the settings with the address of the local broker, where no other is set.

    Raises
    ------
    BrokerError
        No broker is set, and none runs on the data folder.
    """
    if settings.bootstrap_servers:
        return settings
    broker = LocalBroker.find(broker_folder(settings))
    if broker is None:
        msg = (
            f"no broker runs on {settings.data_dir}: start one with `sessiontape up`, or set "
            "SESSIONTAPE_BOOTSTRAP_SERVERS"
        )
        raise BrokerError(msg)
    return settings.but(bootstrap_servers=broker.bootstrap_servers)
