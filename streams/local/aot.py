"""Kafka's classes, loaded, linked and profiled once: the JVM's AOT cache, beside the jars.

A cache fits one JVM, one class path and one collector; the JVM checks that itself and goes on
without when it does not. Its name holds all of it too, so that one that no longer fits is not even
tried, and a new one is made.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from confluent_kafka import KafkaException

from streams.errors import BrokerError, SessiontapeError
from streams.local import kafka
from streams.local.jars import Progress
from streams.local.process import end, spawn
from streams.local.state import locked

__all__ = [
    "Train",
    "cache_path",
    "drop_broken",
    "ensure_cache",
    "flags",
    "write_cache",
]

# The first JDK that keeps profiles in the cache: with them a broker is fast from its first second.
_FIRST_JDK = 25
_KEPT = 3
_RETRY_S = 24 * 3600.0
# What the JVM says of a file that is broken for everybody, not only wrong for one of them.
_BROKEN = (
    "has a bad magic number",
    "has been truncated",
    "Unable to read generic CDS file map header",
    "hecksum verification failed",
)

# Makes a cache: a folder for its data, and the file to write.
Train = Callable[[Path, Path], None]

_log = logging.getLogger(__name__)


def cache_path(java: Path, classpath: list[Path]) -> Path | None:
    """Return where the cache of this JVM, class path and set of flags is, or is to be.

    Returns
    -------
    Path | None
        A file in the folder of the jars; None if the JVM is older than 25, or is no JVM we know.
    """
    home = java.parent.parent
    try:
        release = (home / "release").read_text(encoding="utf-8")
        parts = [(home / name).stat().st_size for name in ("lib/modules", "lib/server/libjvm.so")]
        jars = [(str(jar), jar.stat().st_size, jar.stat().st_mtime_ns) for jar in classpath]
    except OSError:
        return None
    named = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    version = named.get("JAVA_VERSION", "").strip('"')
    number = version.partition(".")[0]
    if not number.isdecimal() or int(number) < _FIRST_JDK or not jars:
        return None
    fits = (platform.machine(), release, parts, kafka.JVM_FLAGS, jars)
    digest = hashlib.sha256(repr(fits).encode()).hexdigest()[:12]
    return classpath[0].parent / f"kafka-{kafka.VERSION}-jdk-{version}-{digest}.aot"


def ensure_cache(
    java: Path, classpath: list[Path], train: Train, progress: Progress | None = None
) -> Path | None:
    """Return the cache, made first if it is not there.

    One process at a time makes it; the others do without meanwhile. What fails is told and not
    raised, and not tried again for a day: a broker without a cache is slower and nothing else.

    Parameters
    ----------
    java, classpath
        What the cache is to fit.
    train
        Makes it. The folder it is given may hold what a killed training left; it is removed after.
    progress
        Told in words what is being done.
    """
    path = cache_path(java, classpath)
    if path is None or path.is_file():
        return path
    tell = progress or (lambda _: None)
    failed = path.with_suffix(".failed")
    try:
        with locked(path.parent, "aot", busy="another process trains the AOT cache"):
            if not path.is_file() and not _is_recent(failed):
                tell("training Kafka's AOT cache (once)")
                try:
                    _make(path, train)
                except (SessiontapeError, KafkaException, OSError) as exc:
                    tell(f"Kafka runs without an AOT cache: {exc}")
                    _log.debug("the AOT cache could not be made", exc_info=True)
                    with suppress(OSError):
                        failed.touch()
    except SessiontapeError as exc:
        _log.debug("no AOT cache: %s", exc)
    return path if path.is_file() else None


def flags(cache: Path) -> list[str]:
    """Return what tells a JVM to use a cache; one that does not fit is a warning in its output."""
    # Without the check of its checksums, 0.04 s, a cache with a broken page ends the JVM.
    return [f"-XX:AOTCache={cache}", "-XX:+VerifySharedSpaces"]


def drop_broken(cache: Path, output: Path) -> None:
    """Remove a cache that the output of a JVM calls broken; the next start makes another."""
    with suppress(OSError):
        text = output.read_text(encoding="utf-8", errors="replace")
        if any(sign in text for sign in _BROKEN):
            _log.debug("the AOT cache %s is broken", cache)
            cache.unlink(missing_ok=True)


def write_cache(command: list[str], recording: Path, cache: Path, limit_s: float = 180.0) -> None:
    """Write a cache from the recording that a JVM left.

    Parameters
    ----------
    command
        The command line of that JVM, up to the class to run.
    recording
        What ``-XX:AOTMode=record`` made; the output of the writer goes beside it.
    cache
        File to write.
    limit_s
        Seconds it may take.

    Raises
    ------
    BrokerError
        It could not be written, or not in time.
    """
    options = ["-XX:AOTMode=create", f"-XX:AOTConfiguration={recording}", f"-XX:AOTCache={cache}"]
    output = recording.with_suffix(".out")
    process = spawn([*command, *options], output)
    try:
        code = process.wait(limit_s)
    except psutil.TimeoutExpired:
        raise BrokerError("Java could not write it in time") from None
    finally:
        end(process, 0)
    if code != 0 or not cache.is_file():
        sign, reason = kafka.diagnose(output)
        raise BrokerError(f"Java could not write it: {reason if sign else f'exit code {code}'}")


def _make(path: Path, train: Train) -> None:
    folder, part = path.parent / ".aot-training", path.with_suffix(".part")
    try:
        train(folder, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    path.with_suffix(".failed").unlink(missing_ok=True)
    made = sorted(path.parent.glob("kafka-*.aot"), key=lambda file: file.stat().st_mtime_ns)
    for old in made[:-_KEPT]:
        # A broker that runs on it has it open, and keeps it.
        old.unlink(missing_ok=True)


def _is_recent(failed: Path) -> bool:
    try:
        return time.time() - failed.stat().st_mtime < _RETRY_S
    except OSError:
        return False
