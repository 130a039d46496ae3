"""Who may open a namespace's chDB folder: one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from streams.errors import HistoryError
from streams.settings import Settings

__all__ = ["FolderInUseError", "FolderOwner", "Owner", "chdb_folder", "is_recorded", "owner_of"]

OWNER_WAIT_S = 5.0
LOCK_POLL_S = 0.02


class FolderInUseError(HistoryError):
    """Another process owns the folder."""


def chdb_folder(settings: Settings) -> Path:
    """Return the folder of the namespace's chDB; each has its own, so they run side by side."""
    return settings.data_dir.absolute() / "chdb" / settings.namespace


def is_recorded(settings: Settings) -> bool:
    """Tell whether there is a chDB folder of this namespace."""
    return chdb_folder(settings).is_dir()


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a folder, and where it answers.

    Attributes
    ----------
    pid
        Its process.
    port
        Loopback port on which it answers history; 0: it doesn't.
    key
        Secret of that port.
    """

    pid: int
    port: int = 0
    key: bytes = b""


class FolderOwner:
    """The right to open a namespace's chDB folder, which one process has at a time.

    A lock of the kernel, so ``kill -9`` leaves none behind. Its file says who holds it, and, for
    the owner's user alone, where it can be asked.
    """

    def __init__(self, settings: Settings, wait_s: float = OWNER_WAIT_S) -> None:
        self.path = _owner_file(settings)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + wait_s
        while not self._has_lock():
            if time.monotonic() >= deadline:
                os.close(self._file)
                owner = owner_of(settings)
                by = f"process {owner.pid}" if owner else "another process"
                msg = (
                    f"{chdb_folder(settings)} is in use by {by}, and one process owns it at a "
                    "time: stop that one, or read through it with `sessiontape history`"
                )
                raise FolderInUseError(msg)
            time.sleep(LOCK_POLL_S)
        self.announce()

    def __enter__(self) -> Self:
        """Return the ownership."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give it up."""
        self.close()

    def announce(self, port: int = 0, key: bytes = b"") -> None:
        """Say who owns the folder and where it answers."""
        text = json.dumps({"pid": os.getpid(), "port": port, "key": key.hex()}).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)

    def close(self) -> None:
        """Give the folder up."""
        os.ftruncate(self._file, 0)
        os.close(self._file)

    def _has_lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def owner_of(settings: Settings) -> Owner | None:
    """Return what the owner of the folder says of itself, None where it says nothing yet.

    After ``kill -9`` that is the dead one, until the folder has a new owner.
    """
    try:
        said = json.loads(_owner_file(settings).read_bytes())
        return Owner(int(said["pid"]), int(said["port"]), bytes.fromhex(said["key"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _owner_file(settings: Settings) -> Path:
    folder = chdb_folder(settings)
    return folder.with_name(f"{folder.name}.owner")
