"""Which stacks run on a data folder: one state file a namespace, found again by anybody."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from streams.errors import SessiontapeError
from streams.local.process import ProcessRecord, end

__all__ = ["StackState", "locked", "stack_states"]

ORPHAN_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class StackState:
    """One stack as its owner writes it down.

    Attributes
    ----------
    namespace
        Prefix of its topics and groups.
    kind
        ``up``, or ``replay`` for one that lives as long as a replay.
    owner
        The process that owns the workers.
    workers
        Their processes, by name.
    bootstrap_servers
        Its brokers; empty until they are known.
    owns_broker
        Whether the local broker goes when the last stack goes.
    doing
        What it is at, for people; empty when nothing.
    is_ready
        Whether all workers have taken up their work.
    failure
        What went wrong for good; empty when nothing.
    source, fallbacks
        URIs of what its producer answers requests from; empty where it has none.
    """

    namespace: str
    kind: str
    owner: ProcessRecord
    workers: dict[str, ProcessRecord] = field(default_factory=dict)
    bootstrap_servers: str = ""
    owns_broker: bool = False
    doing: str = ""
    is_ready: bool = False
    failure: str = ""
    source: str = ""
    fallbacks: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> StackState | None:
        """Read a state file; None when there is none, or what is there is none."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            raw["owner"] = ProcessRecord(**raw["owner"])
            raw["workers"] = {n: ProcessRecord(**record) for n, record in raw["workers"].items()}
            raw["fallbacks"] = tuple(raw.get("fallbacks", ()))
            return cls(**raw)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write(self, path: Path) -> None:
        """Write it in one step, so that no reader sees half of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.touch(0o600)  # a source's URI may hold a password
        part.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        part.replace(path)

    def but(self, **changes: object) -> StackState:
        """Return it with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def is_live(self) -> bool:
        """Whether its owner still runs."""
        return self.owner.process() is not None

    def end_workers(self) -> list[str]:
        """End the workers that a dead owner left behind; return their names."""
        left = {name: record.process() for name, record in self.workers.items()}
        found = {name: process for name, process in left.items() if process is not None}
        for process in found.values():
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in found.values():
            end(process, ORPHAN_GRACE_S)
        return list(found)


def state_path(data_dir: Path, namespace: str) -> Path:
    """Return the state file of a namespace."""
    return data_dir.expanduser().absolute() / "stacks" / f"{namespace}.json"


def stack_states(data_dir: Path) -> list[StackState]:
    """Return all stacks of a data folder, those of dead owners too."""
    folder = data_dir.expanduser().absolute() / "stacks"
    found = (StackState.read(path) for path in sorted(folder.glob("*.json")))
    return [state for state in found if state is not None]


@contextmanager
def locked(data_dir: Path, name: str = "stacks", busy: str = "") -> Iterator[None]:
    """Hold a lock of the data folder; it is the kernel's, so a killed process leaves none.

    Parameters
    ----------
    data_dir, name
        The folder and the lock's name in it.
    busy
        If somebody else has it, raise with this sentence; empty: wait.

    Raises
    ------
    SessiontapeError
        Somebody else has it, or the folder can't be written.
    """
    folder = data_dir.expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        msg = f"{folder} can't be written ({exc.strerror}): choose another SESSIONTAPE_DATA_DIR"
        raise SessiontapeError(msg) from exc
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as exc:
            raise SessiontapeError(busy) from exc
        yield
    finally:
        os.close(file)
