"""The AOT cache made once, by a training that writes a small file in place of a JVM's."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streams.errors import BrokerError
from streams.local.aot import cache_path, drop_broken, ensure_cache, write_cache
from streams.local.jars import java as real_java


class Training:
    """Writes a cache, and counts; what it is told to raise comes first."""

    def __init__(self, *errors: Exception) -> None:
        self.count = 0
        self.errors = list(errors)

    def __call__(self, folder: Path, cache: Path) -> None:
        self.count += 1
        folder.mkdir()
        (folder / "recording").write_text("")
        cache.write_text("half")
        if self.errors:
            raise self.errors.pop(0)
        cache.write_text("whole")


@pytest.fixture
def java(tmp_path: Path) -> Path:
    """A folder with the files of a JDK that are looked at."""
    for name in ("bin/java", "lib/modules", "lib/server/libjvm.so"):
        path = tmp_path / "jdk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "jdk/release").write_text('JAVA_VERSION="25.0.2"\nMODULES="java.base"\n')
    return tmp_path / "jdk/bin/java"


@pytest.fixture
def classpath(tmp_path: Path) -> list[Path]:
    jars = [tmp_path / "jars" / name for name in ("a.jar", "b.jar")]
    jars[0].parent.mkdir()
    for jar in jars:
        jar.write_text(jar.name)
    return jars


def files(classpath: list[Path]) -> list[str]:
    names = {path.name for path in classpath[0].parent.iterdir()}
    return sorted(names - {"a.jar", "b.jar", "aot.lock"})


def test_it_is_made_once(java: Path, classpath: list[Path]) -> None:
    train, said = Training(), list[str]()
    path = ensure_cache(java, classpath, train, said.append)
    assert path is not None
    assert path.read_text() == "whole"
    assert path.name.startswith("kafka-4.1.1-jdk-25.0.2-")
    assert files(classpath) == [path.name], "nothing of the training is left"
    assert ensure_cache(java, classpath, train, said.append) == path
    assert train.count == 1
    assert said == ["training Kafka's AOT cache (once)"]


def touched_jar(java: Path, classpath: list[Path]) -> None:
    os.utime(classpath[1], ns=(0, 0))


def another_jar(java: Path, classpath: list[Path]) -> None:
    classpath.append(classpath[0])


def another_jvm(java: Path, classpath: list[Path]) -> None:
    (java.parent.parent / "lib/server/libjvm.so").write_text("another")


def another_release(java: Path, classpath: list[Path]) -> None:
    (java.parent.parent / "release").write_text('JAVA_VERSION="26"\n')


@pytest.mark.parametrize("change", [touched_jar, another_jar, another_jvm, another_release])
def test_one_that_no_longer_fits_is_not_used(
    java: Path, classpath: list[Path], change: Callable[[Path, list[Path]], None]
) -> None:
    train = Training()
    before = ensure_cache(java, classpath, train)
    change(java, classpath)
    after = ensure_cache(java, classpath, train)
    assert after is not None
    assert after != before
    assert train.count == 2


def test_other_flags_need_another_cache(
    java: Path, classpath: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache_path(java, classpath)
    monkeypatch.setattr("streams.local.kafka.JVM_FLAGS", ("-XX:+UseG1GC",))
    assert cache_path(java, classpath) != before


def test_old_ones_do_not_pile_up(java: Path, classpath: list[Path]) -> None:
    train = Training()
    for number in range(5):
        os.utime(classpath[0], ns=(number, number))
        last = ensure_cache(java, classpath, train)
    assert train.count == 5
    assert len(files(classpath)) == 3
    assert last is not None
    assert last.is_file()


@pytest.mark.parametrize("release", ['JAVA_VERSION="24.0.1"\n', 'JAVA_VERSION="x"\n', "\n", None])
def test_a_jvm_without_it_goes_without(
    java: Path, classpath: list[Path], release: str | None
) -> None:
    path, train, said = java.parent.parent / "release", Training(), list[str]()
    path.unlink()
    if release is not None:
        path.write_text(release)
    assert ensure_cache(java, classpath, train, said.append) is None
    assert train.count == 0
    assert said == []


@pytest.mark.parametrize("error", [BrokerError("no space"), OSError(28, "no space")])
def test_a_training_that_fails_is_told_and_not_tried_again_for_a_day(
    java: Path, classpath: list[Path], error: Exception
) -> None:
    train, said = Training(error), list[str]()
    assert ensure_cache(java, classpath, train, said.append) is None
    assert said[0] == "training Kafka's AOT cache (once)"
    assert said[1].startswith("Kafka runs without an AOT cache: ")
    assert "no space" in said[1]
    (failed,) = files(classpath)
    assert ensure_cache(java, classpath, train, said.append) is None
    assert train.count == 1
    assert len(said) == 2

    os.utime(classpath[0].parent / failed, (0, 0))
    path = ensure_cache(java, classpath, train, said.append)
    assert path is not None
    assert files(classpath) == [path.name]


def test_ctrl_c_leaves_nothing(java: Path, classpath: list[Path]) -> None:
    def train(folder: Path, cache: Path) -> None:
        Training()(folder, cache)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_cache(java, classpath, train)
    assert files(classpath) == []


def test_two_first_starts_train_once(java: Path, classpath: list[Path]) -> None:
    trains, goes_on, train = threading.Event(), threading.Event(), Training()

    def slowly(folder: Path, cache: Path) -> None:
        trains.set()
        assert goes_on.wait(20)
        train(folder, cache)

    said: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ensure_cache, java, classpath, slowly)
        assert trains.wait(20)
        try:
            assert ensure_cache(java, classpath, train, said.append) is None
        finally:
            goes_on.set()
        path = first.result(20)
    assert path is not None
    assert path.read_text() == "whole"
    assert train.count == 1
    assert said == []


def test_a_folder_that_can_not_be_written_goes_without(java: Path, classpath: list[Path]) -> None:
    (classpath[0].parent / "aot.lock").mkdir()
    train = Training()
    assert ensure_cache(java, classpath, train) is None
    assert train.count == 0


@pytest.mark.parametrize(
    ("said", "stays"),
    [
        ("[0.1s][warning][aot] The AOT cache has been truncated.", False),
        ("[0.1s][warning][aot] The AOT cache has a bad magic number: 0x78787878", False),
        ("[0.1s][warning][aot] Header checksum verification failed.", False),
        ("[0.1s][warning][aot] Checksum verification failed.", False),
        ("[0.1s][warning][aot] Mismatched collector", True),
        ("", True),
    ],
)
def test_what_is_broken_for_everybody_is_removed(tmp_path: Path, said: str, stays: bool) -> None:
    cache, output = tmp_path / "cache", tmp_path / "out"
    cache.write_text("")
    drop_broken(cache, output)
    output.write_text(f"{said}\n")
    drop_broken(cache, output)
    assert cache.is_file() == stays


def test_a_recording_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"Java could not write it: exit code 1$"):
        write_cache([str(real_java())], tmp_path / "recording", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_writer_that_is_too_slow_is_ended(tmp_path: Path) -> None:
    slow = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(BrokerError, match="could not write it in time"):
        write_cache(slow, tmp_path / "recording", tmp_path / "cache", limit_s=0)


def test_a_writer_that_writes_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="could not write it: exit code 0"):
        write_cache(["true"], tmp_path / "recording", tmp_path / "cache")
