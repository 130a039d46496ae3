"""The first process of a container: runs a command, hands signals on, ends with its exit code.

The kernel lets the first process alone with every signal that it has no handler for, and a worker
has its own only when it has imported what it needs: told to stop before, it would be killed later.
"""

from __future__ import annotations

import signal
import subprocess
import sys

_told: list[int] = []
_child: list[subprocess.Popen[bytes]] = []


def _hand_on(number: int, _: object) -> None:
    if _child:
        _child[0].send_signal(number)
    else:
        _told.append(number)


def _leave(number: int, _: object) -> None:
    """Take a signal that the child has got, too; to ignore it would be inherited."""


def main(command: list[str]) -> int:
    """Run a command; return its exit code, 128 and the signal where one ended it."""
    signal.signal(signal.SIGTERM, _hand_on)
    # A terminal sends Ctrl-C to both of us.
    signal.signal(signal.SIGINT, _leave if sys.stdin.isatty() else _hand_on)
    try:
        child = subprocess.Popen(command)
    except OSError as exc:
        sys.stderr.write(f"{command[0]}: {exc.strerror}\n")
        return 127
    _child.append(child)
    for number in _told:
        child.send_signal(number)
    code = child.wait()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
