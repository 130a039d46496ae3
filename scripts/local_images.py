"""``python -m scripts.local_images`` builds the images of the container tests from packages alone.

For machines that can pull no image: the base comes from apt's own mirror by debootstrap, Kafka from
the jars and the Java runtime of the local broker, the worker image from wheels, Prometheus from
Debian's package. What stands for ClickHouse is its engine, chDB of this environment, without its
server. Each image carries a hash of what it was built of as a label; what has not changed is not
built again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from streams.errors import SessiontapeError
from streams.local import jars, kafka

__all__ = ["IMAGES", "build", "main"]

ROOT = Path(__file__).resolve().parents[1]
IMAGES_DIR = ROOT / "deploy" / "images"
WHEELS = IMAGES_DIR / "wheels"
LOCK = IMAGES_DIR / "requirements.lock"
LABEL = "sessiontape.built-of"
BASE, KAFKA, WORKERS, CLICKHOUSE, PROMETHEUS = IMAGES = (
    "sessiontape-local/python:bookworm",
    f"sessiontape-local/kafka:{kafka.VERSION}",
    "sessiontape-local/sessiontape:test",
    "sessiontape-local/clickhouse:test",
    "sessiontape-local/prometheus:bookworm",
)
ENGINE = "chdb-core"
SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = "python3,ca-certificates,tzdata"
# What the wheel of the project is built with; pip itself, as the base has none.
TOOLS = ("pip", "hatchling")
UNWANTED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "etc/apt")


def build() -> tuple[str, ...]:
    """Build what is not there as it should be; return ``IMAGES``.

    Raises
    ------
    SessiontapeError
        Something can't be had or built; the output of what failed stands in it.
    """
    base = _hash([PACKAGES, SUITE, "1"])
    # Two at a time: the first wait for a mirror and an index, the others for the engine.
    _together(partial(_ensure_base, base), _ensure_wheels)
    images = (_ensure_kafka, _ensure_workers, _ensure_clickhouse, _ensure_prometheus)
    _together(*(partial(ensure, base) for ensure in images))
    return IMAGES


def _together(*tasks: Callable[[], None]) -> None:
    with ThreadPoolExecutor(2) as pool:
        for task in [pool.submit(task) for task in tasks]:
            task.result()


def _ensure_base(wanted: str) -> None:
    if _built_of(BASE) == wanted:
        return
    _say(f"making {BASE} by debootstrap (a minute)")
    with tempfile.TemporaryDirectory(prefix="sessiontape-base-") as folder:
        tree = Path(folder) / "root"
        options = ["--variant=minbase", f"--include={PACKAGES}", SUITE, str(tree), _mirror()]
        _run([*_as_root(), "debootstrap", *options])
        for name in UNWANTED:
            _run([*_as_root(), "rm", "-rf", str(tree / name)])
        archive = Path(folder) / "root.tar"
        _run([*_as_root(), "tar", "-C", str(tree), "-cf", str(archive), "."])
        _run(["docker", "import", "--change", f"LABEL {LABEL}={wanted}", str(archive), BASE])
        _run([*_as_root(), "rm", "-rf", str(tree)])


def _mirror() -> str:
    """Return where apt takes the suite from on this machine."""
    shown = "$(RELEASE) $(COMPONENT) $(REPO_URI)"
    said = _run(["apt-get", "indextargets", "--format", shown, "Created-By: Packages"])
    for line in said.splitlines():
        release, component, address = line.split(maxsplit=2)
        if (release, component) == (SUITE, "main"):
            return address
    raise SessiontapeError(f"apt has no source of {SUITE} main here: add one, for debootstrap")


def _ensure_wheels() -> None:
    wanted = _hash([LOCK, PYTHON, *TOOLS])
    mark = WHEELS / "built-of"
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return
    _say("fetching wheels (a minute)")
    mark.unlink(missing_ok=True)
    for old in WHEELS.glob("*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pip += ["--only-binary=:all:", "--python-version", PYTHON, "--dest", str(WHEELS)]
    _run([*pip, "--no-deps", "--require-hashes", "--requirement", str(LOCK)])
    _run([*pip, *TOOLS])
    mark.write_text(wanted, encoding="utf-8")


def _ensure_kafka(base: str) -> None:
    recipe = IMAGES_DIR / "local" / "kafka"
    java_home = jars.java().parent.parent
    wanted = _hash([base, jars.LOCK, java_home / "release", *_recipe(recipe)])
    if _built_of(KAFKA) == wanted:
        return
    _say(f"making {KAFKA}")
    classpath = jars.classpath(jars.cache_folder() / f"kafka-{kafka.VERSION}")
    with tempfile.TemporaryDirectory(prefix="sessiontape-kafka-") as folder:
        context = Path(folder)
        shutil.copytree(java_home, context / "java", symlinks=True)
        (context / "jars").mkdir()
        for jar in classpath:
            shutil.copy(jar, context / "jars")
        inside = ":".join(f"/opt/kafka/libs/{jar.name}" for jar in classpath)
        (context / "classpath").write_text(inside, encoding="utf-8")
        _build_local(context, recipe, KAFKA, wanted)


def _ensure_workers(base: str) -> None:
    packages = [path for name in ("streams", "schemas", "sinks", "bench") for path in _files(name)]
    recipe = [IMAGES_DIR / name for name in ("Dockerfile", "install.sh", "first.py", "health.py")]
    wanted = _hash([base, LOCK, ROOT / "pyproject.toml", *recipe, *packages])
    if _built_of(WORKERS) == wanted:
        return
    _say(f"making {WORKERS}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    _docker_build(
        ROOT,
        WORKERS,
        wanted,
        IMAGES_DIR / "Dockerfile",
        PYTHON_IMAGE=BASE,
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS="/build/wheels",
        VERSION=project["version"],
    )


def _ensure_clickhouse(base: str) -> None:
    recipe = IMAGES_DIR / "local" / "clickhouse"
    try:
        engine = distribution(ENGINE)
    except PackageNotFoundError as exc:
        msg = "chDB is not installed, and its engine stands for ClickHouse: make env"
        raise SessiontapeError(msg) from exc
    wanted = _hash([base, engine.version, *_recipe(recipe)])
    if _built_of(CLICKHOUSE) == wanted:
        return
    _say(f"making {CLICKHOUSE}")
    with tempfile.TemporaryDirectory(prefix="sessiontape-clickhouse-") as folder:
        context = Path(folder)
        for path in engine.files or ():
            if path.parts[0].startswith("chdb") and path.suffix != ".pyc":
                (context / "engine" / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path.locate(), context / "engine" / path)
        _unpack(context, "busybox-static", "bin/busybox")
        _build_local(context, recipe, CLICKHOUSE, wanted)


def _ensure_prometheus(base: str) -> None:
    recipe = IMAGES_DIR / "local" / "prometheus"
    wanted = _hash([base, SUITE, *_recipe(recipe)])
    if _built_of(PROMETHEUS) == wanted:
        return
    _say(f"making {PROMETHEUS}")
    with tempfile.TemporaryDirectory(prefix="sessiontape-prometheus-") as folder:
        _unpack(Path(folder), "prometheus", "usr/bin/prometheus")
        _build_local(Path(folder), recipe, PROMETHEUS, wanted)


def _unpack(context: Path, package: str, name: str) -> None:
    """Take one file out of a package of the suite."""
    with tempfile.TemporaryDirectory(prefix="sessiontape-package-") as folder:
        _run(["apt-get", "download", "--quiet", f"{package}/{SUITE}"], cwd=folder)
        (archive,) = Path(folder).glob("*.deb")
        _run(["dpkg-deb", "--extract", str(archive), str(Path(folder) / "root")])
        shutil.copy(Path(folder) / "root" / name, context)


def _recipe(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _build_local(context: Path, recipe: Path, image: str, wanted: str) -> None:
    for path in _recipe(recipe):
        shutil.copy(path, context)
    _docker_build(context, image, wanted, BASE_IMAGE=BASE)


def _files(package: str) -> list[Path]:
    found = (ROOT / package).rglob("*")
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def _docker_build(
    context: Path, image: str, wanted: str, file: Path | None = None, **arguments: str
) -> None:
    command = ["docker", "build", "--quiet", "--tag", image, "--label", f"{LABEL}={wanted}"]
    command += ["--file", str(file)] if file else []
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    # The builder that every engine has; BuildKit is a plugin, and would ask a registry.
    _run([*command, str(context)], DOCKER_BUILDKIT="0")


def _built_of(image: str) -> str:
    """Return the label of an image; empty where there is none."""
    shown = f'{{{{index .Config.Labels "{LABEL}"}}}}'
    command = ["docker", "image", "inspect", "--format", shown, image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _hash(parts: Iterable[str | Path]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            digest.update(f"{part.name}\0".encode() + part.read_bytes())
        else:
            digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo"]


def _run(command: Sequence[str], cwd: str | None = None, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        end = "\n".join(done.stdout.splitlines()[-20:])
        msg = f"{' '.join(command[:4])} … ended with code {done.returncode}:\n{end}"
        raise SessiontapeError(msg)
    return done.stdout


def _say(what: str) -> None:
    sys.stderr.write(f"images: {what}\n")


def main() -> int:
    """Build them; return the exit code."""
    try:
        for image in build():
            _say(f"{image} is there")
    except SessiontapeError as exc:
        _say(str(exc))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
